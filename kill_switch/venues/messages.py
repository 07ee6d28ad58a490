"""Define the messages between an adapter and whoever drives it: a lane, the dispatcher, a test, a simulation.

in   Opened, Received, Closed      a lane connection came up, delivered a text, went away
     Replied, Lost                 a call was answered; a call will not be answered any more
     Woke                          a timer that it asked for ran out
out  Send, Call, WakeAfter, Drop   write this frame; make this request; tell me later; give that connection up
     Prepare                       a strike is likely to begin with this frame: have it ready
     Ready, NotReady               a lane is authenticated and could carry its part of a kill now, or could not
     CancelAnswered                what came back for a strike; never the end of the work
     OrdersRead, OrderSeen         what rests on the account, by a read-back or by a push
     OrderPlaced, OrdersFound      somebody has placed an order now, or orders since a moment
     Equity, Transferred           what the account is worth; a deposit or a withdrawal
     RoundTrip, ServerTime         a measured round trip; the venue's clock beside ours
     Drilled                       what a drill's harmless command came to on a lane
     Noise                         something that no document explains
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from kill_switch.core.domain import CancelOutcome, Order, Route
from kill_switch.venues.request import Request

NOT_PROCESSED = frozenset((408, 421, 425))  # RFC 9110, 15.5.9 and 15.5.20, RFC 8470, 5.2: ask on another connection
ANSWER_WITHIN_S = 3.0  # of what is not urgent: a lane whose housekeeping takes longer is not ready
DRILL_WITHIN_S = 4.0  # a command that has no answer by then would not have carried a kill


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Opened(NamedTuple):
    """A lane came up. `conn` is the WebSocket connection's number; an HTTP lane is one, however many sockets it has."""

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
    """A call will not be answered. `sent` is False only if provably no byte of it left.

    `spare`: a connection of the warm HTTP lane is idle now, and could carry the request at once.
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
    """Write a text frame; `command` marks a kill's: it changes the account, and never leaves for an armed one."""

    conn: int
    text: bytes
    command: bool = False


class PrepareFrame(NamedTuple):
    """Have the frame of this text ready: a `Send` with the same object is likely to be a strike's first."""

    conn: int
    text: bytes


class Call(NamedTuple):
    """Make a request. `urgent` goes before everything else and may use every connection; `cancel` is a strike's own.

    `command` marks a kill's: it changes the account, or is asked for so that its answer can be acted on. It never
    leaves for an armed account, whatever its priority and its method. An answer is taken until `answer_within_s`.
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


class Ready(NamedTuple):
    route: Route
    conn: int


class NotReady(NamedTuple):
    """`fatal`: trying again soon cannot help (a wrong key); a person has to look."""

    route: Route
    conn: int
    why: str
    fatal: bool = False


class CancelAnswered(NamedTuple):
    answer: CancelOutcome
    evidence: str
    cancelled: int | None = None


class OrdersRead(NamedTuple):
    """A read-back that was asked for at `asked_ns`: every order that any list or look-up of it has shown.

    One whose list is late and that has shown live orders is told twice: at once as it is, and at its end.
    Not `complete` says that there may be more, and `why`: a list that failed, an order that no list covers.
    `cancelled` counts the orders that pushes have shown as cancelled since the read before, where a venue has those and
    its answer to a strike does not say it.
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
    """A live push showed an order for the first time, while the book was current: somebody has placed it now.

    If a list has shown the order a short while before its push, it has been told in `OrdersFound` too. It is one order.
    """

    order: Order


class OrdersFound(NamedTuple):
    """A list, or a push behind a gap, showed new orders: each was placed at `since_ns` (monotonic) or later."""

    ids: tuple[str, ...]
    since_ns: int


class RoundTrip(NamedTuple):
    route: Route
    rtt_us: int


class Equity(NamedTuple):
    """What the account is worth, cash and open profit or loss, by currency; all figures from one moment of the venue's.

    `asked_ns` is when it was asked for, or when the push came: nothing in it is older than the venue's own delay.
    """

    amounts: Mapping[str, Decimal]
    asked_ns: int


class Transferred(NamedTuple):
    """A deposit (more than nothing) or a withdrawal (less), where the venue tells it apart from a profit or a loss."""

    currency: str
    amount: Decimal


class ServerTime(NamedTuple):
    """A venue's clock, as a message of its showed it.

    When it was read, the venue's clock stood between `earliest_ns` and `latest_ns` (wall time, the message's resolution
    included) while ours went from `sent_ns` to `received_ns` (wall time). For a push, `sent_ns` is a moment before
    which it cannot have been made: one that lay about for a second must not look like a clock that is late.
    """

    earliest_ns: int
    latest_ns: int
    sent_ns: int
    received_ns: int


class Drilled(NamedTuple):
    """A drill's harmless command came back on a lane, or did not: `ok` says that the order path would carry a kill.

    Not `tried`: it was not sent, for `evidence`, because that would have cost what is kept for a kill.
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
Output = Send | PrepareFrame | Call | WakeAfter | CloseConnection | CancelAnswered | LaneEvent | AccountFact
Outputs = tuple[Output, ...]
