"""Bring a venue's answer into one form, so that every part behind it treats all venues alike.

An adapter's `read_reply` makes a `Reply` of an HTTP answer, its `frame_reply` of a frame. No other place judges a
venue's error codes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.messages import Outputs, Replied


class ReplyOutcome(StrEnum):
    """The proof that an answer gives about its request."""

    ACCEPTED = "accepted"  # the venue has processed the request; `data` holds its result
    REFUSED = "refused"  # the venue has refused it, and has executed nothing
    UNKNOWN = "unknown"  # the venue has answered, and it may have executed the request or not (a rate limit, overload)
    NO_ANSWER = "no-answer"  # 5xx, no JSON: a proxy may have made it, and the call takes its second route at once
    WRONG_TIME = "wrong-time"  # refused because of the time or the nonce of the signature: it is signed anew


class Reply(NamedTuple):
    """An answer of a venue; `evidence` is for people and holds no secret."""

    outcome: ReplyOutcome
    evidence: str
    data: Any = None  # the result, even beside an error: a list of orders may be a part
    key_refused: bool = False  # the key is wrong or lacks a right: only an operator can help
    not_found: bool = False  # the venue has looked for the order, and has none of this id
    session_ended: bool = False  # the token or login of the connection is not valid any more
    pause_s: float = 0.0  # for so many seconds only the commands of kills may leave

    @property
    def ok(self) -> bool:
        """Whether the venue has processed the request."""
        return self.outcome is ReplyOutcome.ACCEPTED


class FrameReply(NamedTuple):
    """The answer to the frame with this number."""

    number: int
    reply: Reply


class CallPart(Protocol):
    """The object that waits for the answer of one call: the `part` of the `PendingCall`."""

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Turn the reply into facts; the outcome is neither `NO_ANSWER` nor, at first, `WRONG_TIME`."""
        ...

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Turn the loss of the call into facts."""
        ...
