"""Remember the orders that a list has shown before any push; `OrderBook` owns them. It sends nothing."""

from __future__ import annotations

from collections.abc import Iterable

from kill_switch.core.latest import keep_latest
from kill_switch.venues.kit.kill_trace import PAST_IDS


class AwaitedPushes:
    """The orders whose live push is still to come, each with the time since when it is, monotonic."""

    def __init__(self) -> None:
        self._since_ns: dict[str, int] = {}

    def add(self, ids: Iterable[str], now_ns: int) -> None:
        """Await the live pushes of these orders."""
        self._since_ns.update(dict.fromkeys(ids, now_ns))
        keep_latest(self._since_ns, PAST_IDS)

    def take(self, order_id: str) -> int | None:
        """Await the push of an order no longer; return since when it was awaited, None if it was not."""
        return self._since_ns.pop(order_id, None)

    def clear(self) -> None:
        """Await no push any more: the connections that push have ended, or were given up."""
        self._since_ns.clear()

    def missing_since_ns(self, pushed_ns: int) -> int | None:
        """Return since when a push is missing; None if one came since (`pushed_ns`), or if none is awaited."""
        since_ns = min(self._since_ns.values(), default=None)
        return None if since_ns is None or since_ns <= pushed_ns else since_ns
