"""List the venues' adapters by name. A new adapter is registered in `VENUES` and nowhere else.

`EVERY_VENUE` has the venues that are served through ccxt too; what these are is in `ccxt.offered`.
"""

from __future__ import annotations

from collections.abc import Mapping

from kill_switch.venues.adapter import Adapter
from kill_switch.venues.binance.futures import BinanceCoinm, BinanceUsdm
from kill_switch.venues.binance.spot import BinanceSpot
from kill_switch.venues.ccxt.adapter import CcxtVenues
from kill_switch.venues.crosstrade.adapter import CrossTrade
from kill_switch.venues.deribit.adapter import Deribit
from kill_switch.venues.kraken.adapter import Kraken
from kill_switch.venues.kraken_futures.adapter import KrakenFutures
from kill_switch.venues.kuna.adapter import Kuna
from kill_switch.venues.oxfun.adapter import OxFun
from kill_switch.venues.roxom.adapter import Roxom

VENUES: Mapping[str, type[Adapter]] = {
    adapter.NAME: adapter
    for adapter in (
        BinanceCoinm,
        BinanceSpot,
        BinanceUsdm,
        CrossTrade,
        Deribit,
        Kraken,
        KrakenFutures,
        Kuna,
        OxFun,
        Roxom,
    )
}

EVERY_VENUE: Mapping[str, type[Adapter]] = CcxtVenues(VENUES)
