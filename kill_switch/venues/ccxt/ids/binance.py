"""Binance: spot, both futures, and the US sister. All but the US have adapters of their own."""

from __future__ import annotations

from collections.abc import Mapping

from kill_switch.venues.ccxt.ids.common import KEY_AND_SECRET, REQUESTS, private
from kill_switch.venues.ccxt.profile import Cancel, Endpoint, IdProfile, Listing, Part, Proof, Sources
from kill_switch.venues.kit.pools import Pool

LAG_S = 20.0
SPOT_POOL = Pool(REQUESTS, 6000, window_s=60.0, shared_by="address", product="binance spot", is_stated=True)
FUTURES_POOL = Pool(REQUESTS, 2400, window_s=60.0, shared_by="address", product="binance futures", is_stated=True)
US_POOL = Pool(REQUESTS, 1200, window_s=60.0, shared_by="address", is_stated=True)
USED = "x-mbx-used-weight-1m"
NO_ORDER = 2**63 - 1  # well-formed, and no order has it
DOCUMENTS = Sources(
    limit="developers.binance.com: 6,000 units a minute at spot; 2,400 at both futures together",
    clock="developers.binance.com: refused if it is 1 s ahead, or older than recvWindow, 5 s",
)
OF_CCXT = Sources(limit="ccxt 4.5.90: 1,200 units a minute")


def _spot(host: str, pool: Pool) -> Part:
    return Part(
        host,
        "/api/v3/",
        (Cancel(private("DELETE", "openOrders", symbol="{symbol}"), Proof((), list, none_is_error=True)),),
        (Listing("open", private("GET", "openOrders", 80.0), (), id=("orderId",), is_id_of_symbol=True),),
        is_by_symbol=True,
        ping=Endpoint(("public",), "GET", "ping"),
        harmless=private("DELETE", "order", symbol="BTCUSDT", orderId=NO_ORDER),
        pool=pool,
        usage_header=USED,
        list_lag_s=LAG_S,
    )


def _futures(name: str, symbol: str) -> Part:
    section = (f"{name}Private",)
    done = Proof(("code",), (int, str), good=(200, "200"), none_is_error=True)
    orders = Endpoint(section, "GET", "openOrders", {}, 40.0)
    algos = Endpoint(section, "GET", "openAlgoOrders", {}, 40.0)
    return Part(
        f"{name}.binance.com",
        f"/{name}/v1/",
        tuple(
            Cancel(Endpoint(section, "DELETE", path, {"symbol": "{symbol}"}), done)
            for path in ("allOpenOrders", "algoOpenOrders")
        ),
        (
            Listing("open", orders, (), id=("orderId",), is_id_of_symbol=True),
            Listing("algo", algos, (), id=("algoId",), status=("algoStatus",), prefix="algo:"),
        ),
        is_by_symbol=True,
        ping=Endpoint((f"{name}Public",), "GET", "ping"),
        harmless=Endpoint(section, "DELETE", "order", {"symbol": symbol, "orderId": NO_ORDER}),
        pool=FUTURES_POOL,
        usage_header=USED,
        list_lag_s=LAG_S,
    )


def _profile(
    id: str, venue: str, products: Mapping[str, Part], own_adapter: str, sources: Sources = DOCUMENTS
) -> IdProfile:
    return IdProfile(
        id=id,
        venue=venue,
        secrets=KEY_AND_SECRET,
        products=products,
        pool=US_POOL,  # each part has its own
        clock_window_s=1.0,
        unknown_order="Unknown order sent.",
        covered="orders of every symbol, order lists and conditional orders too",
        not_covered=("margin and options orders", "portfolio margin"),
        own_adapter=own_adapter,
        sources=sources,
    )


SPOT, LINEAR, INVERSE = (
    _spot("api.binance.com", SPOT_POOL),
    _futures("fapi", "BTCUSDT"),
    _futures("dapi", "BTCUSD_PERP"),
)
BINANCE_IDS = (
    _profile(
        "binance",
        "Binance",
        {"spot": SPOT, "linear": LINEAR, "inverse": INVERSE},
        "binance-spot, binance-usdm, binance-coinm",
    ),
    _profile("binanceus", "Binance US", {"spot": _spot("api.binance.us", US_POOL)}, "", OF_CCXT),
    _profile("binanceusdm", "Binance USD-M futures", {"linear": LINEAR}, "binance-usdm"),
    _profile("binancecoinm", "Binance COIN-M futures", {"inverse": INVERSE}, "binance-coinm"),
)
