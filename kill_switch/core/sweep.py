"""Decide, for one account, when to strike, when to read back, and when it is proven clear.

A sweep is strikes and read-backs until clear; afterwards it stays on as the guard, because a live bot keeps quoting.
Pure: `step(sweep, event) -> (sweep, actions)`. The clock is in the events, the pace is the venue's.

    STRIKING ──answered, or no answer in time──▶ CONFIRMING ──enough clean reads──▶ CLEAR ◀─┐
       ▲  ▲                                          │                                │    │ guard reads, clean
       │  └────────── something is left ─────────────┘                                └────┘
       └───────────── an order is seen, or a guard read finds one ─────────────────────┘
    A guard that cannot read for longer than two of its rounds take: CLEAR no more, and struck again.
    Not clear `residue_after_s` after the sweep began: RESIDUE. The work goes on, at a gap that grows up to the cap.

A read counts only if it was *asked for* after the last strike was sent and after the last order was seen: an older
one shows a past that says nothing. Only `clean_reads` of them in a row end the work. An order whose cancel is pending
is neither clean nor worth another strike, until it has been pending for as long as an answer may take.

    a read is late        the venue has answered since the last strike   asked for once more; what comes late counts
                          nothing at all has come back                   struck again, once the gap allows it
    answers are slow      the bounds follow: two of the longest round trips that were seen lately, up to 30 s
    something is left     RESIDUE                                        reads keep a quarter of the strikes' gap
    no room in the limit  the read is one that `may_wait`                it leaves later, and no other one beside it
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple, assert_never

from kill_switch.core.domain import Answer, Life, Order, Pace, Phase

ANSWER_NS = 250_000  # what an account's answer may take us, on a busy machine
ROUND_TRIPS = 2  # a read may take so many of the longest round trips that were seen lately
BOUND_MOST_NS = 30_000_000_000  # a lane gives an answer up by then
AT_ONCE_NS = 2_000_000_000  # from a sweep's begin on, in which it either gets somewhere or its reads may wait
_SAYS_SO = (Answer.ACCEPTED, Answer.REFUSED)  # answers that are the venue's own: the others may be a loss


class Act(StrEnum):
    """What the sweep wants done now."""

    STRIKE = "strike"
    READ = "read"
    CLEAR = "clear"  # say that the account is proven clear
    RESIDUE = "residue"  # say that it is not, and that the deadline has passed


class Answered(NamedTuple):
    at_ns: int
    answer: Answer


class OrdersRead(NamedTuple):
    at_ns: int
    asked_ns: int
    live: int
    pending: int
    complete: bool


class SentLate(NamedTuple):
    """The strike's bytes, or a hedge's, left only now: a read that was asked for before this cannot show its work."""

    at_ns: int


class OrderSeen(NamedTuple):
    """A push said that an order rests on the account."""

    at_ns: int


class Due(NamedTuple):
    at_ns: int


class Again(NamedTuple):
    """Another reason was reported: strike at once, whatever the gap."""

    at_ns: int


Event = Answered | OrdersRead | SentLate | OrderSeen | Due | Again


class Sweep(NamedTuple):
    """One account's sweep; times are monotonic nanoseconds, `due_ns` is when `Due` wants to be told."""

    pace: Pace
    phase: Phase
    began_ns: int
    struck_ns: int
    due_ns: int
    strikes: int = 1
    owed: bool = False  # another strike is wanted, as soon as the gap allows
    clean: int = 0  # clean reads in a row
    clean_ns: int = 0  # when the last of them was asked for
    left: int | None = None  # orders seen by the last read that counts
    stale_ns: int = 0  # a read asked for before this instant shows a past that says nothing
    reading_ns: int = 0  # when the read that is under way was asked for; 0: none is
    pending_ns: int = 0  # since when only pending cancels are left; 0: they are not
    proved_ns: int = 0  # when the last read that showed the account clean was asked for
    crowd_ns: int = 0  # by how much longer the first read waits, for the accounts that were struck with it
    heard_ns: int = 0  # when the venue last said anything: an answer to a strike, or a whole list
    rtt_ns: int = 0  # the longest round trip of a read that was seen lately


def begin(pace: Pace, at_ns: int, strikes: int = 1, *, together: int = 1) -> Sweep:
    """Start a sweep; the caller carries out the first strike without waiting for anything.

    `together` accounts are struck in one pass: nobody's first read is to keep another one's answer waiting.
    """
    due_ns = at_ns + _ns(pace.answer_within_s)
    return Sweep(
        pace, Phase.STRIKING, at_ns, at_ns, due_ns, strikes, stale_ns=at_ns, crowd_ns=(together - 1) * ANSWER_NS
    )


def guard(pace: Pace, at_ns: int, strikes: int = 0) -> Sweep:
    """Resume the guard of an account that was clear when the process ended: its first read is due at once.

    It has as long for that as after a clean read, but nothing is proved: nobody is re-armed on it.
    """
    return Sweep(pace, Phase.CLEAR, at_ns, at_ns - _ns(pace.strike_gap_s), at_ns, strikes, left=0)


def count(orders: Iterable[Order], complete: bool, asked_ns: int, at_ns: int) -> OrdersRead:
    """Turn a read-back into what counts for a sweep."""
    live = pending = 0
    for order in orders:
        live += order.life is Life.LIVE
        pending += order.life is Life.PENDING
    return OrdersRead(at_ns, asked_ns, live, pending, complete)


def may_wait(sweep: Sweep, at_ns: int) -> bool:
    """Say whether a read that is wanted may wait until the venue's limit has room: the sweep gets nowhere.

    What proves an account clear never waits: neither the first reads, nor the one behind a clean read, nor the guard's.
    """
    return sweep.phase is not Phase.CLEAR and not sweep.clean and at_ns - sweep.began_ns > AT_ONCE_NS


def step(sweep: Sweep, event: Event) -> tuple[Sweep, tuple[Act, ...]]:
    """Take one event; return the sweep after it and what is to be done now, in this order."""
    match event:
        case Answered():
            at_ns = event.at_ns
            heard = sweep._replace(heard_ns=at_ns) if event.answer in _SAYS_SO else sweep
            return _late(*_answered(heard, at_ns), at_ns)
        case Again(at_ns):
            return _strike(_reopened(sweep, at_ns), at_ns)
        case OrderSeen(at_ns):
            return _orders_seen(sweep, at_ns, 1)
        case SentLate(at_ns):
            return sweep._replace(stale_ns=max(sweep.stale_ns, at_ns), clean=0), ()
        case OrdersRead():
            return _late(*_read(sweep, event), event.at_ns)
        case Due(at_ns):
            return _late(*_due(sweep, at_ns), at_ns)
        case _:
            assert_never(event)


def _orders_seen(sweep: Sweep, at_ns: int, number: int) -> tuple[Sweep, tuple[Act, ...]]:
    seen = _reopened(sweep, at_ns)._replace(clean=0, stale_ns=at_ns, left=max(number, sweep.left or 0))
    return _strike_when_allowed(seen, at_ns)


def _answered(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[Act, ...]]:
    phase = Phase.CONFIRMING if sweep.phase is Phase.STRIKING else sweep.phase
    if phase is Phase.CLEAR or sweep.reading_ns >= sweep.stale_ns:
        return sweep._replace(phase=phase), ()
    if not sweep.pace.read_after_s:
        return _ask(sweep._replace(phase=phase), at_ns)
    due_ns = at_ns + _ns(sweep.pace.read_after_s) + sweep.crowd_ns
    return sweep._replace(phase=phase, due_ns=min(due_ns, sweep.due_ns) if sweep.owed else due_ns), ()


def _read(sweep: Sweep, read: OrdersRead) -> tuple[Sweep, tuple[Act, ...]]:
    at_ns = read.at_ns
    if read.complete:
        rtt_ns = max(at_ns - read.asked_ns, sweep.rtt_ns * 3 // 4)
        sweep = sweep._replace(heard_ns=at_ns, rtt_ns=rtt_ns)
    if read.asked_ns >= sweep.reading_ns:  # it is the one under way: whoever asked has read the clock after us
        sweep = sweep._replace(reading_ns=0)
    if read.asked_ns < sweep.stale_ns:
        if sweep.reading_ns or sweep.phase not in (Phase.CONFIRMING, Phase.RESIDUE):
            return sweep, ()  # another is under way, or the timer that is set asks soon
        return sweep._replace(due_ns=min(sweep.due_ns, _again_soon(sweep, at_ns).due_ns)), ()
    if not read.complete:
        if read.live:  # what is missing may be more, never less
            return _orders_seen(sweep, at_ns, read.live + read.pending)
        if sweep.phase is Phase.CLEAR and not _blind(sweep, at_ns):
            return _wait(sweep, at_ns, sweep.pace.guard_every_s), ()
        return _strike_when_allowed(_reopened(sweep, at_ns)._replace(clean=0), at_ns)
    sweep = sweep._replace(left=read.live + read.pending)
    if sweep.left:  # orders seen: a read that was asked for before this one says less, and is not waited for
        sweep = sweep._replace(stale_ns=at_ns, reading_ns=0)
    if read.live or _pending_too_long(sweep, at_ns, read.pending):
        return _strike_when_allowed(_reopened(sweep, at_ns)._replace(clean=0), at_ns)
    sweep = sweep._replace(owed=False)
    if read.pending:
        pending_ns = sweep.pending_ns or at_ns
        if sweep.phase is not Phase.RESIDUE:
            sweep = _reopened(sweep, at_ns)._replace(phase=Phase.CONFIRMING)
        return _again_soon(sweep._replace(clean=0, pending_ns=pending_ns), at_ns), ()
    sweep = sweep._replace(proved_ns=read.asked_ns)
    if sweep.phase is Phase.CLEAR:
        return _wait(sweep, at_ns, sweep.pace.guard_every_s), ()
    apart_ns = sweep.clean_ns + _ns(sweep.pace.read_gap_s)
    if sweep.clean and read.asked_ns < apart_ns:
        return sweep._replace(due_ns=apart_ns), ()  # too soon after the last one to prove more
    sweep = sweep._replace(clean=sweep.clean + 1, clean_ns=read.asked_ns, pending_ns=0)
    if sweep.clean < sweep.pace.clean_reads:
        return _wait(sweep, at_ns, sweep.pace.read_gap_s), ()
    return _wait(sweep._replace(phase=Phase.CLEAR), at_ns, sweep.pace.guard_every_s), (Act.CLEAR,)


def _due(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[Act, ...]]:
    if at_ns < sweep.due_ns:
        return sweep, ()
    if sweep.owed:
        return _strike(sweep, at_ns) if at_ns >= _allowed_ns(sweep) else _ask(sweep, at_ns)
    if sweep.phase is Phase.STRIKING:  # no answer came in time
        return _ask(sweep._replace(phase=Phase.CONFIRMING), at_ns)
    if sweep.phase is Phase.CLEAR:  # one read that is late may be late; being blind is not
        lost = sweep.reading_ns and _blind(sweep, at_ns)
        return _strike_unanswered(sweep, at_ns) if lost else _ask(sweep, at_ns)
    if not sweep.reading_ns or at_ns < sweep.reading_ns + _ns(sweep.pace.read_within_s):
        return _ask(sweep, at_ns)
    if _silent(sweep, at_ns):
        return _strike_unanswered(sweep, at_ns)
    late_ns = sweep.reading_ns + _bound_ns(sweep)
    if sweep.clean and at_ns < late_ns:  # the read under way may be the last that the proof needs
        return sweep._replace(due_ns=late_ns), ()
    return _ask(sweep, at_ns)


def _strike_unanswered(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[Act, ...]]:
    """Strike again because nothing comes back."""
    return _strike_when_allowed(_reopened(sweep, at_ns)._replace(reading_ns=0, clean=0), at_ns)


def _silent(sweep: Sweep, at_ns: int) -> bool:
    """Say whether the venue may be gone: it has said nothing to the last strike, or nothing for twice the bound."""
    if sweep.heard_ns <= sweep.struck_ns:
        return at_ns - sweep.struck_ns >= _bound_ns(sweep)
    return at_ns - sweep.heard_ns >= 2 * _bound_ns(sweep)


def _bound_ns(sweep: Sweep) -> int:
    """Return how long a read may take: the pace's time, or longer where round trips are longer than it allows for."""
    return max(_ns(sweep.pace.read_within_s), min(ROUND_TRIPS * sweep.rtt_ns, BOUND_MOST_NS))


def _blind(sweep: Sweep, at_ns: int) -> bool:
    """Nothing has shown the account clean for longer than two guard reads take: CLEAR would be a claim, not a proof."""
    shown_ns = max(sweep.proved_ns, sweep.began_ns)
    return at_ns - shown_ns > _ns(2 * sweep.pace.guard_every_s) + _bound_ns(sweep)


def _late(sweep: Sweep, acts: tuple[Act, ...], at_ns: int) -> tuple[Sweep, tuple[Act, ...]]:
    """Say RESIDUE once, when the deadline has passed and the account is not clear."""
    if sweep.phase in (Phase.CLEAR, Phase.RESIDUE) or at_ns - sweep.began_ns < _ns(sweep.pace.residue_after_s):
        return sweep, acts
    return sweep._replace(phase=Phase.RESIDUE), (*acts, Act.RESIDUE)


def _reopened(sweep: Sweep, at_ns: int) -> Sweep:
    """Begin anew, deadline and all, if the account was clear; leave a sweep under way as it is."""
    if sweep.phase is not Phase.CLEAR:
        return sweep
    return sweep._replace(phase=Phase.STRIKING, began_ns=at_ns, clean=0)


def _strike_when_allowed(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[Act, ...]]:
    """Strike, or owe it until the gap is over; the venue may need a moment, so look again before that."""
    allowed_ns = _allowed_ns(sweep)
    if at_ns >= allowed_ns:
        return _strike(sweep, at_ns)
    looking = _again_soon(sweep._replace(owed=True), at_ns)
    return looking._replace(due_ns=min(allowed_ns, looking.due_ns)), ()


def _strike(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[Act, ...]]:
    struck = sweep._replace(
        phase=Phase.RESIDUE if sweep.phase is Phase.RESIDUE else Phase.STRIKING,
        struck_ns=at_ns,
        stale_ns=at_ns,
        due_ns=at_ns + _ns(sweep.pace.answer_within_s),
        crowd_ns=0,
        strikes=sweep.strikes + 1,
        owed=False,
        clean=0,
        pending_ns=0,
    )
    return struck, (Act.STRIKE,)


def _ask(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[Act, ...]]:
    due_ns = at_ns + _bound_ns(sweep)
    if sweep.owed:
        due_ns = min(due_ns, _allowed_ns(sweep))
    return sweep._replace(reading_ns=at_ns, due_ns=due_ns), (Act.READ,)


def _wait(sweep: Sweep, at_ns: int, seconds: float) -> Sweep:
    return sweep._replace(due_ns=at_ns + _ns(seconds))


def _again_soon(sweep: Sweep, at_ns: int) -> Sweep:
    """Read again after the venue's gap; in RESIDUE the gap grows as that of the strikes does, to a quarter of it."""
    gap_ns = _ns(sweep.pace.read_gap_s)
    if sweep.phase is Phase.RESIDUE:
        gap_ns = max(gap_ns, (_allowed_ns(sweep) - sweep.struck_ns) // 4)
    return sweep._replace(due_ns=at_ns + gap_ns)


def _pending_too_long(sweep: Sweep, at_ns: int, pending: int) -> bool:
    return pending > 0 and sweep.pending_ns > 0 and at_ns - sweep.pending_ns >= _ns(sweep.pace.answer_within_s)


def _allowed_ns(sweep: Sweep) -> int:
    """When the next strike may go: after the venue's gap; in RESIDUE it grows with the delay, up to the cap."""
    gap_s = sweep.pace.strike_gap_s
    if sweep.phase is Phase.RESIDUE:
        gap_s = min(sweep.pace.gap_cap_s, max(gap_s, (sweep.struck_ns - sweep.began_ns) / 4e9))
    return sweep.struck_ns + _ns(gap_s)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
