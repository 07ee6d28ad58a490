"""State the facts of Binance's futures products: paths, weights, options, what a kill reaches (docs/venues/binance.md).

COIN-M has the same API as USD-M under other paths. The adapters state these facts; nothing here sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from pydantic import Field, field_validator

from kill_switch.venues.binance.account import SYMBOLS_WHILE_REFUSED
from kill_switch.venues.kit.pools import Cost, Demand, Pool
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.profile import Guess

WEIGHT = "weight"
POOL = Pool(WEIGHT, 2400, window_s=60.0, shared_by="address", product="binance futures", is_stated=True)  # § 7
LISTS = {"open": "openOrders", "conditional": "openAlgoOrders"}
LIST_WEIGHTS = (("symbol=", 1.0), ("", 40.0))  # of a list, by the beginning of its query
CANCELS = {"cancel-all": "allOpenOrders", "cancel-algo": "algoOpenOrders"}  # of a symbol, always together (§ 3.4)
# symbols of a strike that follows another: the pool has to last for as long as orders outlive strikes
SYMBOLS_AGAIN = 40  # at most, as far as what other programs leave has room
FEWEST_AGAIN = 5  # at least
WALLET = "https://api.binance.com"
TEST_HOST = "https://testnet.binancefuture.com"  # of both products; it has no wallet API


class Product(NamedTuple):
    """The paths and names by which the two futures products differ."""

    prefix: str  # of its paths
    account: str  # the path of its figures
    symbol: str  # that is always traded
    stream: str  # what follows the path of `ws_url`, around the listen key
    other: str  # `st` of the other product's pushes
    income: float  # weight of the history of its income


EVENTS = "ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/ALGO_UPDATE/listenKeyExpired"
USDM = Product("/fapi/v1", "/fapi/v3/account", "BTCUSDT", f"?listenKey={{}}&events={EVENTS}", "2", 30.0)
COINM = Product("/dapi/v1", "/dapi/v1/account", "BTCUSD_PERP", "/{}", "1", 20.0)


def costs(product: Product) -> tuple[Cost, ...]:
    """Return the weights of § 4 and § 9."""
    lists = [(f"{product.prefix}/{path}?{query}", weight) for path in LISTS.values() for query, weight in LIST_WEIGHTS]
    reads = [*lists, (product.account, 5.0), (f"{product.prefix}/income", product.income)]
    return (
        Cost("", "/sapi/", (), is_apart=True),  # each call has a pool of its own
        *(Cost("GET", path, ((WEIGHT, weight),)) for path, weight in reads),
        Cost("", "", ((WEIGHT, 1.0),)),
    )


def symbols_again(room: float, *, is_refused: bool) -> int:
    """Return how many symbols a strike that follows takes, if the pool has `room` units for it."""
    if is_refused:
        return SYMBOLS_WHILE_REFUSED
    return max(FEWEST_AGAIN, min(SYMBOLS_AGAIN, int(room / len(CANCELS))))


def commands(product: Product) -> tuple[str, ...]:
    """Return the lines of `COMMANDS`."""
    prefix = product.prefix
    return (
        f"DELETE {prefix}/allOpenOrders: the orders of a symbol, for each symbol",
        f"DELETE {prefix}/algoOpenOrders: its conditional orders, always beside it",
        f"GET {prefix}/openOrders and {prefix}/openAlgoOrders: a symbol that only they show is cancelled as they come",
    )


def demand(product: Product) -> Demand:
    lists = tuple(f"GET {product.prefix}/{path}?" for path in LISTS.values())
    pair = tuple(f"DELETE {product.prefix}/{path}" for path in CANCELS.values())
    return Demand(
        read=lists,
        probe=(f"GET {product.prefix}/openOrders?symbol=",),
        equity=(f"GET {product.account}",),
        drill=(f"DELETE {product.prefix}/order",),
        strike=pair * (FEWEST_AGAIN + 1),  # the symbol with the most orders is cancelled beside the others
        token=(f"POST {product.prefix}/listenKey",),
        keep_open=(f"GET {product.prefix}/ping",),
    )


class BinanceFuturesOptions(VenueOptions):
    """The configuration keys of an account at Binance's futures."""

    wallet_url: str = Field(
        default=WALLET,
        description="scheme, host and port of the wallet API, which shows the key's rights and running TWAPs;"
        " with another rest_url than the default, that address is used instead of this default",
    )

    @field_validator("wallet_url")
    @classmethod
    def _wallet_https(cls, url: str) -> str:
        return cls._https(url)

    @property
    def wallet_origin(self) -> str:
        """Where the wallet API is, if not at `rest_url`: a simulator and a proxy have both."""
        is_elsewhere = self.rest_url != type(self).model_fields["rest_url"].default
        return (
            "" if self.wallet_url == self.rest_url or (is_elsewhere and self.wallet_url == WALLET) else self.wallet_url
        )


class BinanceUsdmOptions(BinanceFuturesOptions):
    """The configuration keys of an account at USD-M futures."""

    TESTNET: ClassVar[Mapping[str, str]] = {
        "ws_url": "wss://fstream.binancefuture.com/private/ws",
        "rest_url": TEST_HOST,
    }
    ws_url: str = "wss://fstream.binance.com/private/ws"
    rest_url: str = "https://fapi.binance.com"


class BinanceCoinmOptions(BinanceFuturesOptions):
    """The configuration keys of an account at COIN-M futures."""

    TESTNET: ClassVar[Mapping[str, str]] = {
        "ws_url": "wss://dstream.binancefuture.com/ws",
        "rest_url": TEST_HOST,
    }
    ws_url: str = "wss://dstream.binance.com/ws"
    rest_url: str = "https://dapi.binance.com"


COVERED = ("orders of every symbol, conditional ones before they trigger too, of every program and of the web page",)
NOT_COVERED = (
    "spot orders: an account of its own, binance-spot; margin and options orders: no venue here cancels them",
    "a portfolio-margin account: the venue refuses its futures orders here, and the lanes do not become ready",
    "server-side TWAP and VP algos, grid and copy trading: they place orders again",
    "orders of the venue itself, which liquidate positions: they count as left while the lists show them",
    "positions and transfers",
)
GUESSES = (
    Guess(
        "a key with enablePortfolioMarginTrading belongs to a portfolio-margin account (§ 3.5)",
        "nothing: a key that has it at another account is never ready, and says why; take the right from the key",
    ),
    Guess(
        "algoOpenOrders covers every conditional order of a symbol (§ 3.4)",
        "the list of conditional orders is read, and what it shows is struck again",
    ),
    Guess(
        "a symbol without orders answers code 200, or -2011 with its documented text (§ 3.3)",
        "neither is proof: the lists decide",
    ),
    Guess(
        "lists lag by 20 s at most (§ 10)",
        "clean reads span that without a push, and the guard reads on",
    ),
    Guess(
        "an order that order and algoOrder do not know 20 s after its last message has ended (§ 10)",
        "nothing: it is asked only for orders that no list shows",
    ),
    Guess(
        "a stream has the events of its address; COIN-M's, which names none, has all (§ 5)",
        "the lists are read too, and an order that only they show is struck",
    ),
    Guess(
        "a number is an order's id in the whole account, not in its symbol alone (§ 4)",
        "each list is counted as it is, and a strike covers each symbol that it shows",
    ),
)
