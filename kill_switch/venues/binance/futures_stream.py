"""Speak the user stream of Binance's futures, whose address holds a listen key (docs/venues/binance.md § 5.2).

The venue does not report that a key is dead: the stream then does not open, or is silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from kill_switch.core.domain import Instant
from kill_switch.venues.binance.futures_profile import Product
from kill_switch.venues.binance.futures_replies import read_algo_update, read_trade_update
from kill_switch.venues.binance.futures_transfers import FuturesTransfers
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.messages import Outputs, UnexplainedMessage

OPENS_MOST = 2  # attempts in a row to open a stream, after which its listen key may be dead
SILENT_NS = 10_000_000_000  # a stream that has not pushed an order so long after a list has shown it is dead (§ 10)
QUIET = frozenset({"MARGIN_CALL", "ACCOUNT_CONFIG_UPDATE", "TRADE_LITE", "STRATEGY_UPDATE", "GRID_UPDATE"})


class UserStream:
    """The connections of one account's user stream."""

    def __init__(self, product: Product, book: OrderBook) -> None:
        self._product = product
        self._book = book
        self.transfers = FuturesTransfers()
        self._key = ""  # that the last attempt to connect used
        self._keys: dict[int, str] = {}  # connection → the listen key that it was opened with
        self._attempts = 0  # to open a stream, since one has come up
        self._kept = ("", 0)  # the listen key that the venue has handed out last, and when, in its own milliseconds

    def dial(self, key: str) -> str:
        """Return the end of the address for this listen key, and count an attempt to connect."""
        self._attempts += 1
        self._key = key
        return self._product.stream.format(quote(key, safe=""))

    def note_key(self, key: str, venue_ms: int) -> None:
        """Note that the venue has handed out this listen key; the key before may be dead since it came last."""
        kept, kept_ms = self._kept
        if kept and kept != key:
            self.transfers.missed.note_closed(kept_ms)
        self._kept = key, venue_ms

    def open(self, conn: int) -> None:
        """Note that a connection has come up."""
        self._keys[conn] = self._key
        self._attempts = 0

    @property
    def is_open(self) -> bool:
        """Whether a connection is open."""
        return bool(self._keys)

    def close(self, conn: int, venue_ms: int) -> None:
        """Forget a connection that is gone; `venue_ms` is the venue's time."""
        if self._keys.pop(conn, None) is not None and not self._keys:
            self.transfers.missed.note_closed(venue_ms)

    def opened_with_other(self, key: str) -> list[int]:
        """Return the connections that were opened with another key than this: they hear nothing any more."""
        return [conn for conn, used in self._keys.items() if used and used != key]

    def does_not_open(self) -> bool:
        """Return whether several attempts to connect have failed, and forget them."""
        fails = self._attempts >= OPENS_MOST
        self._attempts = 0 if fails else self._attempts
        return fails

    def is_silent(self, now: Instant) -> bool:
        """Return whether lists show a new order for long that no push has shown, and forget it."""
        shown_ns = self._book.awaited.missing_since_ns(self._book.pushed_ns)
        if shown_ns is None or now.mono_ns - shown_ns < SILENT_NS:
            return False
        self._book.awaited.clear()
        return True

    def on_push(self, message: Mapping[str, Any]) -> Outputs:
        """Process an event of the account."""
        if as_text(message.get("st")) == self._product.other:
            return ()  # an account of its own
        match message.get("e"):
            case "ORDER_TRADE_UPDATE":
                order, opened = read_trade_update(message)
                if order is not None:
                    return self._book.apply_push(order, opened=opened)
                return (UnexplainedMessage("an ORDER_TRADE_UPDATE that cannot be read"),)
            case "ALGO_UPDATE":
                order, becomes = read_algo_update(message)
                if order is not None:
                    claimed = () if becomes is None else self._book.claim(becomes)
                    return (*self._book.apply_push(order), *claimed)
                return (UnexplainedMessage("an ALGO_UPDATE that cannot be read"),)
            case "ACCOUNT_UPDATE":
                return self.transfers.on_update(message)
            case str() as event if event in QUIET:
                return ()
            case _:
                return (UnexplainedMessage("a message that no document explains"),)
