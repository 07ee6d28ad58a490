"""Venues whose one command cancels the orders of several products, and HitBTC with its sisters."""

from __future__ import annotations

from kill_switch.venues.ccxt.ids.common import KEY_AND_SECRET, REQUESTS, TRIGGERS_LISTED, WHOLE_LIST, private
from kill_switch.venues.ccxt.ids.secret_forms import ACCOUNT_KEY, ED25519_SEED
from kill_switch.venues.ccxt.profile import Cancel, Endpoint, IdProfile, Listing, Part, Proof, Sources
from kill_switch.venues.kit.pools import Pool
from kill_switch.venues.profile import Guess

_NO_SOURCES = Sources()
_OF_HITBTC = Sources(
    limit="ccxt 4.5.90, from api.hitbtc.com: 300 a second for orders and cancels, 20 for all others",
    clock="ccxt 4.5.90: it sends a window of 10 s",
)


def _hitbtc(id: str, venue: str, host: str, sources: Sources = _NO_SOURCES) -> IdProfile:
    return IdProfile(
        id=id,
        venue=venue,
        secrets=KEY_AND_SECRET,
        products={
            name: Part(
                host,
                "/api/3/",
                (Cancel(private("DELETE", f"{name}/order"), Proof((), list, ids_at=(), id=("id",))),),
                (Listing(name, private("GET", f"{name}/order"), ()),),
            )
            for name in ("spot", "margin", "futures")
        },
        pool=Pool(REQUESTS, 100, window_s=10.0),
        clock_window_s=10.0,
        covered="orders of every symbol, stops too",
        not_covered=("sub-accounts: each has its own keys",),
        guesses=(TRIGGERS_LISTED, WHOLE_LIST),
        sources=sources,
    )


HITBTC_IDS = (
    _hitbtc("hitbtc", "HitBTC", "api.hitbtc.com", _OF_HITBTC),
    _hitbtc("fmfwio", "FMFW.io", "api.fmfw.io"),
    _hitbtc("bequant", "Bequant", "api.bequant.io"),
)


ALPACA = IdProfile(
    id="alpaca",
    venue="Alpaca",
    secrets=KEY_AND_SECRET,
    products={
        "all": Part(
            "api.alpaca.markets",
            "/",
            (
                Cancel(
                    Endpoint(("trader", "private"), "DELETE", "v2/orders"),
                    Proof((), list, ids_at=(), id=("id",), each=(("status",), (200,))),
                ),
            ),
            (
                Listing(
                    "open",
                    Endpoint(("trader", "private"), "GET", "v2/orders", {"status": "open", "limit": 500}),
                    (),
                    full=500,
                ),
            ),
        )
    },
    pool=Pool(REQUESTS, 180, window_s=60.0),
    covered="orders of stocks, options and crypto, the legs of brackets too",
    not_covered=("other accounts of a broker",),
    sources=Sources(
        limit="docs.alpaca.markets: 200 a minute of an account",
        page="docs.alpaca.markets: 500 at most",
    ),
    guesses=(Guess("a leg that is held is cancelled with its bracket", "the list shows it, and it is struck again"),),
)


BACKPACK = IdProfile(
    id="backpack",
    venue="Backpack",
    secrets=KEY_AND_SECRET,
    secret_forms={"api_secret": ED25519_SEED},
    products={
        "all": Part(
            "api.backpack.exchange",
            "/",
            (
                Cancel(
                    private("DELETE", "api/v1/orders", symbol="{symbol}"),
                    Proof((), list, ids_at=(), id=("id",)),
                ),
            ),
            (Listing("open", private("GET", "api/v1/orders"), ()),),
            is_by_symbol=True,
            ping=Endpoint(("public",), "GET", "api/v1/ping"),
        )
    },
    pool=Pool(REQUESTS, 100, window_s=10.0),
    clock_window_s=5.0,
    sources=Sources(
        limit="support.backpack.exchange: 2,000 a minute of a subaccount",
        clock="docs.backpack.exchange: X-Window, 5 s by default",
    ),
    covered="orders of every symbol, spot and perpetuals",
    not_covered=("RFQs and quotes", "strategies", "subaccounts: each has its own keys"),
    guesses=(TRIGGERS_LISTED, WHOLE_LIST),
)


BITFINEX = IdProfile(
    id="bitfinex",
    venue="Bitfinex",
    secrets=KEY_AND_SECRET,
    products={
        "all": Part(
            "api.bitfinex.com",
            "/v2/",
            (
                Cancel(
                    private("POST", "auth/w/order/cancel/multi", all=1),
                    Proof((6,), str, good=("SUCCESS",), ids_at=(4,), id=(0,)),
                ),
            ),
            (Listing("open", private("POST", "auth/r/orders"), (), id=(0,), symbol=(3,), status=(13,)),),
        )
    },
    pool=Pool(REQUESTS, 45, window_s=60.0),
    is_rising=True,
    covered="orders of every pair, on margin, of derivatives and stops too",
    sources=Sources(limit="docs.bitfinex.com: 90 a minute for each of the two requests"),
    not_covered=("funding offers", "sub-accounts: each has its own keys"),
    guesses=(TRIGGERS_LISTED, WHOLE_LIST),
)


CRYPTOCOM = IdProfile(
    id="cryptocom",
    venue="Crypto.com Exchange",
    secrets=KEY_AND_SECRET,
    products={
        "all": Part(
            "api.crypto.com",
            "/exchange/v1/",
            (
                Cancel(
                    Endpoint(("v1", "private"), "POST", "private/cancel-all-orders", {"type": "ALL"}),
                    Proof(("code",), int, good=(0,)),
                ),
            ),
            (
                Listing(
                    "open",
                    Endpoint(("v1", "private"), "POST", "private/get-open-orders"),
                    ("result", "data"),
                    id=("order_id",),
                    symbol=("instrument_name",),
                ),
            ),
        )
    },
    pool=Pool(REQUESTS, 100, window_s=10.0),
    clock_window_s=30.0,
    sources=Sources(
        limit="exchange-docs.crypto.com: 15 in 0.1 s of cancel-all-orders, 3 in 0.1 s of get-open-orders",
        clock="exchange-docs.crypto.com: 40102 for more than 60 s",
    ),
    is_rising=True,
    covered="orders of every instrument, spot and derivatives, triggers too",
    not_covered=("OTO, OTOCO and OCO orders of the advanced order API", "sub-accounts: each has its own keys"),
    guesses=(
        Guess("type ALL cancels limit and trigger orders", "the list decides: what it shows is struck again"),
        WHOLE_LIST,
    ),
)


GEMINI = IdProfile(
    id="gemini",
    venue="Gemini",
    secrets=KEY_AND_SECRET,
    secret_forms={"api_key": ACCOUNT_KEY},
    products={
        "all": Part(
            "api.gemini.com",
            "/",
            (
                Cancel(
                    private("POST", "v1/order/cancel/all"),
                    Proof(
                        ("result",),
                        str,
                        good=("ok",),
                        ids_at=("details", "cancelledOrders"),
                        rejects_at=("details", "cancelRejects"),
                    ),
                ),
            ),
            (Listing("open", private("POST", "v1/orders"), (), id=("order_id",), status=("type",)),),
        )
    },
    pool=Pool(REQUESTS, 60, window_s=60.0),
    sources=Sources(limit="developer.gemini.com/rate-limit: 600 a minute, and better not over 5 a second"),
    is_rising=True,
    covered="orders of every symbol, of every session of the account",
    not_covered=("other accounts of the group: each has its own keys", "prediction markets"),
    guesses=(TRIGGERS_LISTED, WHOLE_LIST),
)
