"""Define the events that an adapter receives, and the commands and facts that it returns.

Adapters, lanes, the dispatcher, tests and simulations import these tuples. This module has no behaviour.

| direction | messages | meaning |
|---|---|---|
| in | Opened, Received, Closed | a lane's connection came up, delivered a frame, closed |
| in | Replied, CallLost | a call was answered; a call will not be answered any more |
| in | VenueTimerFired | a timer that the adapter started has run out |
| out | Send, Call, WakeAfter, CloseConnection | write a frame; make a request; start a timer; replace a connection |
| out | ReplaceConnection | open the connection's successor now, and close the connection once that is ready |
| out | ConnectNow | open the WebSocket connection without a further wait |
| out | PrepareFrame | build this frame now, because a strike is likely to begin with it |
| out | Ready, NotReady | a lane is authenticated and could carry its part of a kill, or not |
| out | CancelAnswered | the answer to a strike; never the end of the work |
| out | OrdersRead, OrderSeen | orders of the account, by a read-back or by a push |
| out | OrderPlaced, OrdersFound | an order was placed now; orders were placed since a moment |
| out | Equity, Transferred | the account's equity; a deposit or a withdrawal |
| out | RoundTrip, ServerTime | a measured round trip; the venue's clock beside ours |
| out | Drilled | the result of a drill on a lane |
| out | UnexplainedMessage | a message that no document explains |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from kill_switch.core.domain import CancelOutcome, Order, Route
from kill_switch.venues.request import Request

NOT_PROCESSED = frozenset(
    (408, 421, 425)
)  # statuses by which a server has not processed a request: RFC 9110, 15.5.9 and 15.5.20, RFC 8470, 5.2
ANSWER_WITHIN_S = 3.0  # of a call that is not urgent: a lane that answers later is not ready
DRILL_WITHIN_S = 4.0  # a lane that has not answered a drill by then would not have carried a kill


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Opened(NamedTuple):
    """A lane came up. `conn` is the WebSocket connection's number; an HTTP lane counts as a single connection."""

    route: Route
    conn: int


class Closed(NamedTuple):
    route: Route
    conn: int
    why: str


class Received(NamedTuple):
    conn: int
    text: str | bytes


class Replied(NamedTuple):
    """A call was answered; `headers` are in lower case, `rtt_us` is from the last byte out to the last byte in."""

    tag: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    rtt_us: int = 0


class CallLost(NamedTuple):
    """A call will not be answered. `sent` is False only if provably no byte of the call left.

    `spare`: another connection of the warm HTTP lane is idle, and could carry the request at once.
    """

    tag: str
    sent: bool
    why: str
    spare: bool = False


class VenueTimerFired(NamedTuple):
    tag: str


Event = Opened | Closed | Received | Replied | CallLost | VenueTimerFired


# ── outputs ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Send(NamedTuple):
    """Write a text frame; `command`: a kill's frame, which changes the account and never leaves for an armed one."""

    conn: int
    text: bytes
    command: bool = False


class PrepareFrame(NamedTuple):
    """Build the frame of this text in advance: the next strike is likely to begin with a `Send` of the same object."""

    conn: int
    text: bytes


class Call(NamedTuple):
    """Make a request. `urgent`: it overtakes other calls and may use every connection. `cancel`: a strike's own cancel.

    `command`: a kill's call. It changes the account, or its answer names the orders to cancel. A command never leaves
    for an armed account, whatever its priority and its method. The call is lost after `answer_within_s` seconds.
    """

    tag: str
    request: Request
    route: Route
    urgent: bool = False
    cancel: bool = False
    command: bool = False
    answer_within_s: float = ANSWER_WITHIN_S


class WakeAfter(NamedTuple):
    tag: str
    seconds: float


class CloseConnection(NamedTuple):
    """Close the connection and make a new one."""

    conn: int
    why: str


class ReplaceConnection(NamedTuple):
    """Open a successor of the connection now; the connection closes once the successor is ready.

    The venue will close it. Where it allows one connection only, the connection closes first.
    """

    conn: int


class ConnectNow(NamedTuple):
    """Open the WebSocket connection now if none is open: what it waited for, for example a token, has come.

    The lane ends the wait between two attempts. A wait that the venue has asked for goes on.
    """


class Ready(NamedTuple):
    route: Route
    conn: int


class NotReady(NamedTuple):
    """A lane cannot carry a kill. `fatal`: another attempt cannot help (a wrong key), and an operator has to act."""

    route: Route
    conn: int
    why: str
    fatal: bool = False


class CancelAnswered(NamedTuple):
    answer: CancelOutcome
    evidence: str
    cancelled: int | None = None


class OrdersRead(NamedTuple):
    """A read-back that was requested at `asked_ns`: every order that its lists and look-ups have shown.

    A read-back with live orders whose list is late is returned twice: incomplete at once, and at its end. If it is not
    `complete`, there may be more orders, and `why` names the reason: a list that failed, an order that no list covers.
    `cancelled` counts the cancels that were pushed since the read before, if the venue's answer to a strike has no
    count.
    """

    orders: Sequence[Order]
    complete: bool
    asked_ns: int
    why: str = ""
    cancelled: int | None = None


class OrderSeen(NamedTuple):
    """A push showed a live order that no earlier message had shown."""

    order: Order


class OrderPlaced(NamedTuple):
    """A live push showed an order for the first time, while the book was current: the order was placed now.

    If a list showed the order a short while before its push, the same order was in `OrdersFound` too.
    """

    order: Order


class OrdersFound(NamedTuple):
    """A list, or a push after a gap, showed new orders: each was placed at `since_ns` (monotonic) or later."""

    ids: tuple[str, ...]
    since_ns: int


class RoundTrip(NamedTuple):
    route: Route
    rtt_us: int


class Equity(NamedTuple):
    """The account's equity by currency: cash, and open profit or loss, at one moment of the venue.

    `asked_ns` is when the adapter requested the figures, or when the push came. Nothing in them is older, but for the
    venue's own delay.
    """

    amounts: Mapping[str, Decimal]
    asked_ns: int


class Transferred(NamedTuple):
    """A deposit (positive) or a withdrawal (negative), if the venue distinguishes it from a profit or a loss."""

    currency: str
    amount: Decimal


class ServerTime(NamedTuple):
    """A venue's clock, as one of its messages showed it; all times are wall time.

    The venue's clock showed between `earliest_ns` and `latest_ns`, the message's resolution included. Meanwhile ours
    went from `sent_ns` to `received_ns`. For a push, `sent_ns` is a moment before which it cannot have been made.
    Otherwise a delayed push would look like a slow clock.
    """

    earliest_ns: int
    latest_ns: int
    sent_ns: int
    received_ns: int


class Drilled(NamedTuple):
    """The result of a drill on one lane; `ok`: the order path would carry a kill.

    Not `tried`: the adapter did not send the drill, because it would have used requests that are kept for a kill;
    `evidence` names the reason.
    """

    route: Route
    ok: bool
    rtt_us: int
    evidence: str
    tried: bool = True


class UnexplainedMessage(NamedTuple):
    why: str


LaneEvent = Ready | NotReady | RoundTrip | ServerTime | Drilled
AccountFact = OrdersRead | OrderSeen | OrderPlaced | OrdersFound | Equity | Transferred | UnexplainedMessage
LaneCommand = Send | PrepareFrame | Call | WakeAfter | CloseConnection | ReplaceConnection | ConnectNow
Output = LaneCommand | CancelAnswered | LaneEvent | AccountFact
Outputs = tuple[Output, ...]
