"""Follow Kraken's `executions` channel: sparse updates, their sequence, and a new subscription after a gap (§ 5.1).

The adapter owns one `ExecutionStream` and passes it the messages of the channel. It never judges an error.
"""

from __future__ import annotations

from collections.abc import Callable

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.readback import ReadBackRunner
from kill_switch.venues.kit.sequences import SequenceTracker
from kill_switch.venues.kit.sessions import Message
from kill_switch.venues.kit.timers import TimerTable
from kill_switch.venues.kraken.replies import read_execution
from kill_switch.venues.messages import CloseConnection, Outputs, Send, UnexplainedMessage

RESUBSCRIBED_WITHIN_S = 5.0


class ExecutionStream:
    """The order pushes of all connections."""

    def __init__(
        self,
        book: OrderBook,
        read_backs: ReadBackRunner,
        timers: Callable[[], TimerTable],
        frames: Callable[[], tuple[bytes, bytes]],
    ) -> None:
        """Make a stream; `frames` returns the frames that end the subscription and begin it again."""
        self._book = book
        self._read_backs = read_backs
        self._timers = timers
        self._frames = frames
        self._sequences = SequenceTracker()
        # connections whose subscription begins again after a gap → the number of the gap
        self._resubscribing: dict[int, int] = {}
        self._gaps = 0

    def on_message(self, conn: int, message: Message) -> Outputs:
        """Apply pushed orders; a snapshot is not applied, because the lists are read when pushes begin."""
        is_snapshot, items = message.get("type") == "snapshot", message.get("data")
        is_gap = self._sequences.is_gap(conn, message.get("sequence"), restarts=is_snapshot)
        if is_snapshot:
            return ()
        if not isinstance(items, list):
            return (UnexplainedMessage("an order push without a list"),)
        outputs = self._resubscribe(conn) if is_gap else ()
        for item in items:
            order = read_execution(item, self._book.orders)
            unread = UnexplainedMessage("an order push that cannot be read")
            outputs += (unread,) if order is None else self._book.apply_push(order)
        return outputs

    def _resubscribe(self, conn: int) -> Outputs:
        """Subscribe again, because an order may have been missed."""
        if conn in self._resubscribing:
            return ()
        self._gaps += 1
        self._resubscribing[conn] = gap = self._gaps
        self._book.end_pushes(conn)
        end, begin = self._frames()
        timer = self._timers().start(RESUBSCRIBED_WITHIN_S, lambda now: self._on_due(conn, gap))
        return (Send(conn, end), Send(conn, begin), timer)

    def on_subscribed(self, conn: int, now: Instant) -> Outputs:
        """Count the pushes of a connection again, whose new subscription is granted."""
        if conn not in self._resubscribing:
            return ()
        self.forget(conn)
        return self._read_backs.begin_pushes(conn, now)

    def forget(self, conn: int) -> None:
        """Forget a connection that is gone."""
        self._resubscribing.pop(conn, None)
        self._sequences.forget(conn)

    def _on_due(self, conn: int, gap: int) -> Outputs:
        why = "no answer to the subscription after a gap in the pushes"
        return (CloseConnection(conn, why),) if self._resubscribing.get(conn) == gap else ()
