"""List the ids of ccxt that are offered, with their profiles.

A test compares each profile with ccxt's own tables, and lets it read the answers that the venue documents.
"""

from __future__ import annotations

from collections.abc import Mapping

from kill_switch.venues.ccxt.ids.binance import BINANCE_IDS
from kill_switch.venues.ccxt.ids.bybit import BYBIT_IDS
from kill_switch.venues.ccxt.ids.deribit import DERIBIT
from kill_switch.venues.ccxt.ids.kraken import KRAKEN, KRAKENFUTURES
from kill_switch.venues.ccxt.ids.many_products import ALPACA, BACKPACK, BITFINEX, CRYPTOCOM, GEMINI, HITBTC_IDS
from kill_switch.venues.ccxt.ids.spot_venues import (
    BITSO,
    BITSTAMP,
    BITVAVO,
    COINBASEEXCHANGE,
    GATE,
    POLONIEX,
)
from kill_switch.venues.ccxt.profile import IdProfile

OFFERED: Mapping[str, IdProfile] = {
    profile.id: profile
    for profile in (
        ALPACA,
        BACKPACK,
        *BINANCE_IDS,
        BITFINEX,
        BITSO,
        BITSTAMP,
        BITVAVO,
        *BYBIT_IDS,
        COINBASEEXCHANGE,
        CRYPTOCOM,
        DERIBIT,
        GATE,
        GEMINI,
        *HITBTC_IDS,
        KRAKEN,
        KRAKENFUTURES,
        POLONIEX,
    )
}
