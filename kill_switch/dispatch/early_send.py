"""Send an account's prebuilt command before its strike is made; for an armed account, before the engine decides.

The dispatcher calls `send` for every armed account of a reason, after the write-ahead note; without a note, when the
account's first strike begins. That strike yields the same object and claims it, so that it is not sent twice.
"""

from __future__ import annotations

from collections.abc import Callable

from kill_switch.core.domain import Instant, Route
from kill_switch.dispatch.ports import HttpPort, WsPort
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import Send
from kill_switch.venues.request import Request


class EarlySend:
    """Sends an account's prebuilt command, at most one at a time.

    Call `send` first. The strike that follows calls `claim` for each of its messages, and `abandon` at its end. If no
    strike follows, the dispatcher calls `abandon`.
    """

    __slots__ = (
        "_clock",
        "_error",
        "_http",
        "_left_at",
        "_message",
        "_note_sent",
        "_on_error",
        "_venue",
        "_ws",
        "pending",
    )

    def __init__(
        self,
        venue: Adapter,
        ws: WsPort,
        http: HttpPort,
        clock: Callable[[], Instant],
        note_sent: Callable[[Route, Instant | None], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """`note_sent` is called with route and time of an abandoned command, `on_error` with an exception."""
        self._venue = venue
        self._ws = ws
        self._http = http
        self._clock = clock
        self._note_sent = note_sent
        self._on_error = on_error
        self.pending = False  # `send` was called, and `abandon` was not called since
        self._message: Request | Send | None = None  # has left, and no strike has claimed it
        self._left_at: Instant | None = None
        self._error: Exception | None = None

    def send(self, now: Instant) -> None:
        """Send the account's prebuilt command, if its venue has one. Never raises: `abandon` reports a failure."""
        self.pending = True
        try:
            message = self._venue.prebuilt_command(now)
            if isinstance(message, Send):
                has_left = self._ws.send(message.conn, message.text)
            else:
                has_left = message is not None and self._http.begin(message)
            if has_left:
                self._message, self._left_at = message, self._clock()
        except Exception as error:  # because other accounts are waiting
            self._error = error

    def claim(self, message: Request | Send) -> Instant | None:
        """Return when this message left, if `send` has sent this object; None: the caller has to send it."""
        if message is not self._message:
            return None
        self._message = None
        return self._left_at

    def abandon(self) -> None:
        """Finish an early send. A command that no strike has claimed is recorded as sent, and its reply is discarded.

        Never raises: a failure goes to `on_error`.
        """
        self.pending = False
        if self._message is None and self._error is None:
            return
        message, self._message = self._message, None
        error, self._error = self._error, None
        if message is not None:
            try:
                try:
                    self._note_sent(Route.WS if isinstance(message, Send) else Route.HTTP, self._left_at)
                finally:
                    self._http.abandon_begun()
            except Exception as failure:  # because other accounts are waiting
                error = error or failure
        if error is not None:
            self._on_error(error)
