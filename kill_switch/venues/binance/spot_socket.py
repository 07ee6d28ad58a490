"""Speak the WebSocket API of Binance spot: login, commands, and the account's events on one socket (§ 2, § 3.1, § 5).

An Ed25519 key logs the session on, and its requests then need no signature. Any other key signs each request.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.binance.replies import Judgement
from kill_switch.venues.binance.signing import SignedRequests, TextAt, Value
from kill_switch.venues.kit.replies import FrameReply, Reply
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message

LOGON, SUBSCRIBE = "logon", "subscribe"  # ids of the login's requests; those of commands are numbers


class SpotSocket:
    """The requests of one account's connections, and how their answers are read."""

    def __init__(
        self,
        requests: SignedRequests,
        judgement: Judgement,
        moment: Callable[[], Instant],
        venue_ms: Callable[[], int],
        on_pause: Callable[[Reply], None],
    ) -> None:
        """Make it; `moment` returns the moment of the event that is being processed, `venue_ms` the venue's time.

        `on_pause` is called with an answer to the login by which the venue wants no requests.
        """
        self._requests = requests
        self._judgement = judgement
        self._moment = moment
        self._venue_ms = venue_ms
        self._on_pause = on_pause
        subscribe = "userDataStream.subscribe"
        if requests.signer.logs_on:
            self.login: tuple[LoginStep, ...] = (
                LoginStep(lambda conn, now: self._signed(LOGON, "session.logon"), _accepts(LOGON)),
                LoginStep(lambda conn, now: _frame(SUBSCRIBE, subscribe, {}), _accepts(SUBSCRIBE)),
            )
        else:
            step = LoginStep(lambda conn, now: self._signed(SUBSCRIBE, f"{subscribe}.signature"), _accepts(SUBSCRIBE))
            self.login = (step,)

    def frame(self, number: int, method: str, **values: Value) -> bytes:
        """Return the frame of a command that leaves now, on a connection whose login is complete."""
        if not self._requests.signer.logs_on:
            return self._signed(number, method, **values)
        return _frame(number, method, self._requests.timed_params(self._moment(), **values))

    def _signed(self, number: int | str, method: str, **values: Value) -> bytes:
        return _frame(number, method, self._requests.ws_params(self._moment(), **values))

    def text_at(self, **values: Value) -> TextAt:
        """Return the text that a signed frame with these values signs."""
        return self._requests.payload_at(**values)

    def frame_reply(self, message: Message) -> FrameReply | None:
        """Judge the answer to a command's frame; return None for any other message."""
        number = message.get("id")
        if not isinstance(number, int) or isinstance(number, bool):
            return None
        return FrameReply(number, self._judgement.of_frame(message, self._venue_ms()))

    def login_refusal(self, message: Message) -> LoginRefused | None:
        """Return what an answer to the login refuses, or that the venue has ended the session or its events.

        The venue states without an id, behind the next request, that a key was revoked (§ 2).
        """
        event = event_of(message)
        if event is not None and event.get("e") == "eventStreamTerminated":
            return LoginRefused("the venue has ended the account's events")
        number = message.get("id", "")
        if number not in (LOGON, SUBSCRIBE, None) or message.get("status") == 200:
            return None
        reply = self._judgement.of_frame(message, self._venue_ms())
        if reply.pause_s:
            self._on_pause(reply)
        name = {LOGON: "session.logon", SUBSCRIBE: "subscription"}.get(number, "session")
        optional = number is None and not reply.session_ended
        return LoginRefused(f"{name} refused: {reply.evidence}", fatal=reply.key_refused, optional=optional)


def event_of(message: Message) -> Message | None:
    """Return the event of a message; None if it is none."""
    event = message.get("event")
    return event if isinstance(event, dict) else None


def _accepts(number: str) -> Callable[[Message], bool]:
    return lambda message: message.get("id") == number and message.get("status") == 200


def _frame(number: int | str, method: str, params: dict[str, Value]) -> bytes:
    return orjson.dumps({"id": number, "method": method, "params": params})
