"""Bybit, the unified account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kill_switch.venues.ccxt.ids.common import KEY_AND_SECRET, REQUESTS, private
from kill_switch.venues.ccxt.profile import Cancel, Endpoint, IdProfile, Listing, Part, Proof, Sources
from kill_switch.venues.kit.pools import Pool
from kill_switch.venues.profile import Guess

_SPOT_FILTERS = ("Order", "tpslOrder", "StopOrder", "OcoOrder", "BidirectionalTpslOrder")
_BYBIT_DONE = Proof(
    ("retCode",),
    int,
    good=(0,),
    bad=(("result", "success"), ("0", 0)),  # the inverse contracts of older accounts do not have it
    ids_at=("result", "list"),
    id=("orderId",),
)


_NO_SOURCES = Sources()
_DOCUMENTS = Sources(
    limit="bybit-exchange.github.io: cancel-all 10 a second of linear contracts, 20 of spot, 1 of options; lists 50",
    page="bybit-exchange.github.io: 50 at most, with a cursor",
    clock="bybit-exchange.github.io: refused if it is 1 s ahead, or older than recv_window, 5 s",
)


def _bybit_product(host: str, requests: tuple[Mapping[str, Any], ...], lists: Mapping[str, Mapping[str, Any]]) -> Part:
    return Part(
        host,
        "/",
        tuple(Cancel(private("POST", "v5/order/cancel-all", **params), _BYBIT_DONE) for params in requests),
        tuple(
            Listing(
                name,
                private("GET", "v5/order/realtime", limit=50, **params),
                ("result", "list"),
                id=("orderId",),
                status=("orderStatus",),
                full=50,
                cursor=("result", "nextPageCursor"),
                cursor_param="cursor",
            )
            for name, params in lists.items()
        ),
        ping=Endpoint(("public",), "GET", "v5/market/time"),
    )


def _bybit(id: str, venue: str, host: str, products: tuple[str, ...], sources: Sources = _NO_SOURCES) -> IdProfile:
    coins = ("USDT", "USDC")
    spot = {"category": "spot"}
    linear = {f"linear {coin}": {"category": "linear", "settleCoin": coin} for coin in coins}
    option = {"category": "option"}
    known = {
        "spot": _bybit_product(host, tuple({**spot, "orderFilter": each} for each in _SPOT_FILTERS), {"spot": spot}),
        "linear": _bybit_product(host, tuple(linear.values()), linear),
        "option": _bybit_product(host, (option,), {"option": option}),
    }
    return IdProfile(
        id=id,
        venue=venue,
        secrets=KEY_AND_SECRET,
        products={name: known[name] for name in products},
        pool=Pool(REQUESTS, 60, window_s=10.0),
        clock_window_s=1.0,
        covered="orders of a unified account, conditional ones too",
        not_covered=("inverse contracts", "classic accounts, copy trading, spread trading", "sub-accounts"),
        sources=sources,
        guesses=(
            Guess(
                "an account whose products lack one here answers with an error: leave it out of products",
                "the list of such a product is not read as empty: the account is not clear",
            ),
        ),
    )


BYBIT_IDS = (
    _bybit("bybit", "Bybit", "api.bybit.com", ("linear", "spot", "option"), _DOCUMENTS),
    _bybit("bybiteu", "Bybit EU", "api.bybit.eu", ("spot",)),
)
