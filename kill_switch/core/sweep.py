"""Decide for one account when to strike, when to read back, and when it is proven clear.

The engine steps a sweep for each tripped account; a clear account's sweep stays on as its guard, because bots go on.
The sweep is pure: `step(sweep, event) -> (sweep, actions)`, with the time in the events and the venue's `SweepTiming`.

    STRIKING ──answered, or no answer in time──▶ CONFIRMING ──enough clean reads──▶ CLEAR ◀─┐
       ▲  ▲                                          │                                │    │ guard reads, clean
       │  └────────── something is left ─────────────┘                                └────┘
       └───────────── an order is seen, or a guard read finds one ─────────────────────┘
"""

# If guard reads fail for longer than two guard intervals, the account is no longer CLEAR and is struck again.
# An account that is not clear `residue_after_s` after the sweep began is RESIDUE. Strikes go on, at a gap that grows up
# to the cap.
#
# A read counts only if the sweep asked for it after the last strike left and after the last order was seen, because an
# earlier read may not include the strike's effect. Only `clean_reads` such reads in a row prove the account clear. An
# order whose cancel is pending is not clean. It needs no other strike, until it is pending for as long as an answer may
# take.
#
#     a read is late         the venue has answered since the strike     the sweep asks again; the late read counts
#                            no message has come since the strike        the sweep strikes again after the gap
#     answers are slow       –                                           time-outs are two of the longest round trips
#     an order is left       the account is RESIDUE                      reads keep a quarter of the strikes' gap
#     lists may lag          `list_lag_s` is stated                       clean reads span it, and no order is pushed;
#                                                                         they begin with short gaps
#     commands leave late    a read from before shows orders               another read follows soon, and does not wait
#     a strike sent nothing  a read shows orders                         the sweep strikes after the venue's gap
#     the limit has no room  `read_may_wait_s` holds                     the read leaves later, no other beside it; its
#                            the venue has answered the strike           time-out begins then, and no strike precedes it

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple, assert_never

from kill_switch.core.domain import CancelOutcome, Order, OrderState, Phase, SweepTiming
from kill_switch.core.sweep_state import (
    Sweep,
    clean_gap_ns,
    is_venue_silent,
    next_clean_read_ns,
    next_strike_ns,
    pending_too_long,
    read_bound_ns,
    strikes_wait,
    to_ns,
    unproven_too_long,
)

ANSWER_COST_NS = 250_000  # processing of an account's answer on a busy machine takes up to this
HELD_NS = 30_000_000_000  # a strike waits this long at most for a read that waits for room
_VENUE_ANSWERS = (
    CancelOutcome.ACCEPTED,
    CancelOutcome.REFUSED,
)  # outcomes that the venue itself stated: the others may be a loss


class SweepAction(StrEnum):
    """Action that the engine carries out for the sweep."""

    STRIKE = "strike"
    READ = "read"
    CLEAR = "clear"  # record and announce that the account is proven clear
    RESIDUE = "residue"  # record and announce that the deadline has passed


class StrikeAnswered(NamedTuple):
    at_ns: int
    answer: CancelOutcome


class ReadCounted(NamedTuple):
    at_ns: int
    asked_ns: int
    live: int
    pending: int
    complete: bool
    pushed_ns: int = 0  # when the last push of an order came, whatever it says


class StrikeSentLate(NamedTuple):
    """A strike's bytes, or its second route's, left only now: a read from before cannot show their effect."""

    at_ns: int


class OrderAppeared(NamedTuple):
    """A push showed that an order rests at the account."""

    at_ns: int


class SweepTimerFired(NamedTuple):
    at_ns: int


class Restruck(NamedTuple):
    """Another reason was reported: strike at once, whatever the gap."""

    at_ns: int


class ReadPostponed(NamedTuple):
    """The venue's limit has room for the requested read at `leaves_ns`; the moment of the event: it leaves now."""

    at_ns: int
    leaves_ns: int


class Paced(NamedTuple):
    """The venue's limits leave less or more than before: this timing counts from now on."""

    at_ns: int
    timing: SweepTiming


Event = (
    StrikeAnswered | ReadCounted | ReadPostponed | StrikeSentLate | OrderAppeared | SweepTimerFired | Restruck | Paced
)


def start_sweep(timing: SweepTiming, at_ns: int, strikes: int = 1, *, together: int = 1) -> Sweep:
    """Start a sweep whose first strike the caller carries out at once.

    `together` is the number of accounts in the pass: the first read waits longer, so that it delays no other answer.
    """
    due_ns = at_ns + to_ns(timing.answer_within_s)
    return Sweep(
        timing,
        Phase.STRIKING,
        at_ns,
        at_ns,
        due_ns,
        strikes,
        reads_before_are_stale_ns=at_ns,
        stagger_ns=(together - 1) * ANSWER_COST_NS,
    )


def resume_guard(timing: SweepTiming, at_ns: int, strikes: int = 0) -> Sweep:
    """Resume the guard of an account that was clear when the process ended: its first read is due at once.

    That read has as much time as after a clean read. There is no proof before it, so the account cannot be re-armed.
    """
    return Sweep(timing, Phase.CLEAR, at_ns, at_ns - to_ns(timing.strike_gap_s), at_ns, strikes, orders_left=0)


def count_read(orders: Iterable[Order], complete: bool, asked_ns: int, at_ns: int, pushed_ns: int = 0) -> ReadCounted:
    """Count the orders of a read-back for the sweep; times are monotonic."""
    live = pending = 0
    for order in orders:
        live += order.state is OrderState.LIVE
        pending += order.state is OrderState.PENDING
    return ReadCounted(at_ns, asked_ns, live, pending, complete, pushed_ns)


def step(sweep: Sweep, event: Event) -> tuple[Sweep, tuple[SweepAction, ...]]:
    """Return the sweep after an event, and the actions to carry out now in their order."""
    match event:
        case StrikeAnswered():
            return _with_residue_check(*_on_answer(sweep, event), event.at_ns)
        case ReadPostponed(at_ns, leaves_ns):
            return _on_postponed(sweep, at_ns, leaves_ns), ()
        case Paced(_, timing):
            return sweep._replace(timing=timing), ()
        case Restruck(at_ns):
            return _strike(_restarted_if_clear(sweep, at_ns), at_ns)
        case OrderAppeared(at_ns):
            return _on_orders_seen(sweep, at_ns, 1)
        case StrikeSentLate(at_ns):
            return sweep._replace(
                reads_before_are_stale_ns=max(sweep.reads_before_are_stale_ns, at_ns), clean_reads_in_a_row=0
            ), ()
        case ReadCounted():
            return _with_residue_check(*_on_read(sweep, event), event.at_ns)
        case SweepTimerFired(at_ns):
            return _with_residue_check(*_on_timer(sweep, at_ns), at_ns)
        case _:
            assert_never(event)


def _on_orders_seen(sweep: Sweep, at_ns: int, number: int) -> tuple[Sweep, tuple[SweepAction, ...]]:
    seen = _restarted_if_clear(sweep, at_ns)._replace(
        clean_reads_in_a_row=0,
        reads_before_are_stale_ns=at_ns,
        orders_left=max(number, sweep.orders_left or 0),
        seen_ns=at_ns,
    )
    return _strike_or_owe(seen, at_ns)


def _on_answer(sweep: Sweep, event: StrikeAnswered) -> tuple[Sweep, tuple[SweepAction, ...]]:
    at_ns, phase, news_ns = event.at_ns, sweep.phase, sweep.last_news_ns
    sweep = sweep._replace(is_unsent=event.answer is CancelOutcome.UNSENT)
    if phase is not Phase.CLEAR and sweep.answered_ns <= sweep.struck_ns:
        sweep = sweep._replace(answered_ns=at_ns)
    if event.answer in _VENUE_ANSWERS:
        left_ns = max(sweep.struck_ns, sweep.reads_before_are_stale_ns)  # it may have left late
        if news_ns <= left_ns and phase is not Phase.CLEAR:  # the first answer: a later one may be an older strike's
            sweep = sweep._replace(longest_rtt_ns=max(at_ns - left_ns, sweep.longest_rtt_ns))
        news_ns = at_ns
    if phase is Phase.STRIKING:
        phase = Phase.CONFIRMING
    if phase is Phase.CLEAR or sweep.read_asked_ns >= sweep.reads_before_are_stale_ns:
        return sweep._replace(phase=phase, last_news_ns=news_ns), ()
    if not sweep.timing.read_after_s:
        return _request_read(sweep._replace(phase=phase, last_news_ns=news_ns), at_ns)
    due_ns = at_ns + to_ns(sweep.timing.read_after_s) + sweep.stagger_ns
    if sweep.strike_owed:
        due_ns = min(due_ns, sweep.due_ns)
    return sweep._replace(phase=phase, due_ns=due_ns, last_news_ns=news_ns), ()


def _on_read(sweep: Sweep, read: ReadCounted) -> tuple[Sweep, tuple[SweepAction, ...]]:
    at_ns = read.at_ns
    if read.complete:
        rtt_ns = max(at_ns - read.asked_ns, sweep.longest_rtt_ns * 3 // 4)
        sweep = sweep._replace(last_news_ns=at_ns, longest_rtt_ns=rtt_ns)
    if read.asked_ns >= sweep.read_asked_ns:  # it is the read under way: the adapter reads the clock after the sweep
        sweep = sweep._replace(read_asked_ns=0)
    if read.asked_ns < sweep.reads_before_are_stale_ns:
        if read.live and sweep.is_unsent:  # nothing has left since that could have cancelled them
            return _on_orders_seen(sweep, at_ns, read.live + read.pending)
        return _on_stale_read(sweep, at_ns, read.live), ()
    if not read.complete:
        return _on_incomplete_read(sweep, read)
    sweep = sweep._replace(orders_left=read.live + read.pending)
    if sweep.orders_left:  # because it shows orders, a read that was asked for earlier proves less: it is not awaited
        sweep = sweep._replace(reads_before_are_stale_ns=at_ns, read_asked_ns=0, seen_ns=at_ns)
    if read.live or pending_too_long(sweep, at_ns, read.pending):
        return _strike_or_owe(_restarted_if_clear(sweep, at_ns)._replace(clean_reads_in_a_row=0), at_ns)
    sweep = sweep._replace(strike_owed=False)
    if read.pending:
        pending_ns = sweep.pending_since_ns or at_ns
        if sweep.phase is not Phase.RESIDUE:
            sweep = _restarted_if_clear(sweep, at_ns)._replace(phase=Phase.CONFIRMING)
        return _read_again_soon(sweep._replace(clean_reads_in_a_row=0, pending_since_ns=pending_ns), at_ns), ()
    return _on_clean_read(sweep, read)


def _on_stale_read(sweep: Sweep, at_ns: int, live: int) -> Sweep:
    """Return the sweep after a read that was asked for before the last strike left or the last order was seen.

    `live`: how many orders it shows. Commands that left late may have cancelled them: the next read, soon, tells.
    """
    if sweep.read_asked_ns or sweep.phase not in (Phase.CONFIRMING, Phase.RESIDUE):
        return sweep  # another read is under way, or the timer that is set asks for one soon
    due_ns = min(sweep.due_ns, _read_again_soon(sweep, at_ns).due_ns)
    if sweep.phase is Phase.CONFIRMING:  # orders may be left, for which a long gap between clean reads is no reason
        due_ns = min(due_ns, at_ns + to_ns(sweep.timing.strike_gap_s) // (4 if live else 1))
    return sweep._replace(due_ns=due_ns)


def _on_incomplete_read(sweep: Sweep, read: ReadCounted) -> tuple[Sweep, tuple[SweepAction, ...]]:
    """Strike if the read shows orders or the proof is too old; such a read proves nothing else."""
    at_ns = read.at_ns
    if read.live:  # a list that is missing can only add orders
        return _on_orders_seen(sweep, at_ns, read.live + read.pending)
    if sweep.phase is Phase.CLEAR and not unproven_too_long(sweep, at_ns):
        return _sleep(sweep, at_ns, sweep.timing.guard_every_s), ()
    return _strike_or_owe(_restarted_if_clear(sweep, at_ns)._replace(clean_reads_in_a_row=0), at_ns)


def _on_postponed(sweep: Sweep, at_ns: int, leaves_ns: int) -> Sweep:
    """Start the read's time-out when the read leaves: before that, its silence says nothing of the venue.

    Strikes that went on meanwhile would take the requests that it waits for. They do go on where an order may be left.
    """
    is_left = leaves_ns <= at_ns
    if sweep.phase is Phase.CLEAR or not (is_left or sweep.clean_reads_in_a_row or strikes_wait(sweep)):
        return sweep
    due_ns = leaves_ns + 2 * read_bound_ns(sweep)  # it is requested once, and may need look-ups
    if sweep.strike_owed:
        due_ns = min(due_ns, next_strike_ns(sweep))
    elif not is_left and not sweep.clean_reads_in_a_row:
        due_ns = min(due_ns, max(sweep.struck_ns + HELD_NS, at_ns))
    return sweep._replace(read_asked_ns=leaves_ns, read_has_waited=True, due_ns=due_ns)


def _on_clean_read(sweep: Sweep, read: ReadCounted) -> tuple[Sweep, tuple[SweepAction, ...]]:
    """Count a whole read that shows no order; enough of them in a row prove the account clear."""
    at_ns = read.at_ns
    sweep = sweep._replace(last_proof_ns=read.asked_ns)
    if sweep.phase is Phase.CLEAR:
        return _sleep(sweep, at_ns, sweep.timing.guard_every_s), ()
    lag_ns = to_ns(sweep.timing.list_lag_s)
    if lag_ns and read.pushed_ns > sweep.clean_since_ns:  # the lists may show the account before that push
        sweep = sweep._replace(clean_reads_in_a_row=0)
        if read.pushed_ns > read.asked_ns:
            return _read_again_soon(sweep, at_ns), ()
    apart_ns = sweep.clean_read_asked_ns + clean_gap_ns(sweep)
    if sweep.clean_reads_in_a_row and read.asked_ns < apart_ns:
        return sweep._replace(due_ns=apart_ns), ()  # asked for too soon after the last clean read to prove more
    since_ns = sweep.clean_since_ns if sweep.clean_reads_in_a_row else read.asked_ns
    sweep = sweep._replace(
        clean_reads_in_a_row=sweep.clean_reads_in_a_row + 1,
        clean_read_asked_ns=read.asked_ns,
        clean_since_ns=since_ns,
        pending_since_ns=0,
    )
    if sweep.clean_reads_in_a_row < sweep.timing.clean_reads or read.asked_ns - since_ns < lag_ns:
        return sweep._replace(due_ns=next_clean_read_ns(sweep, at_ns)), ()
    return _sleep(sweep._replace(phase=Phase.CLEAR), at_ns, sweep.timing.guard_every_s), (SweepAction.CLEAR,)


def _on_timer(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[SweepAction, ...]]:
    if at_ns < sweep.due_ns:
        return sweep, ()
    if sweep.strike_owed:
        return _strike(sweep, at_ns) if at_ns >= next_strike_ns(sweep) else _request_read(sweep, at_ns)
    if sweep.phase is Phase.STRIKING:  # without an answer in time
        return _request_read(sweep._replace(phase=Phase.CONFIRMING), at_ns)
    if sweep.phase is Phase.CLEAR:  # a late read may be late; without a proof for too long, strike
        lost = sweep.read_asked_ns and unproven_too_long(sweep, at_ns)
        return _strike_unanswered(sweep, at_ns) if lost else _request_read(sweep, at_ns)
    if at_ns < sweep.read_asked_ns and not sweep.clean_reads_in_a_row and at_ns >= sweep.struck_ns + HELD_NS:
        return _strike_unanswered(sweep, at_ns)
    if not sweep.read_asked_ns or at_ns < sweep.read_asked_ns + to_ns(sweep.timing.read_within_s):
        return _request_read(sweep, at_ns)
    if is_venue_silent(sweep, at_ns):
        return _strike_unanswered(sweep, at_ns)
    late_ns = sweep.read_asked_ns + read_bound_ns(sweep)
    if sweep.clean_reads_in_a_row and at_ns < late_ns:  # because the read under way may complete the proof
        return sweep._replace(due_ns=late_ns), ()
    return _request_read(sweep, at_ns)


def _strike_unanswered(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[SweepAction, ...]]:
    """Strike again because the venue answers nothing."""
    return _strike_or_owe(_restarted_if_clear(sweep, at_ns)._replace(read_asked_ns=0, clean_reads_in_a_row=0), at_ns)


def _with_residue_check(
    sweep: Sweep, acts: tuple[SweepAction, ...], at_ns: int
) -> tuple[Sweep, tuple[SweepAction, ...]]:
    """Enter RESIDUE once, if the deadline has passed and the account is not clear."""
    if sweep.phase in (Phase.CLEAR, Phase.RESIDUE) or at_ns - sweep.began_ns < to_ns(sweep.timing.residue_after_s):
        return sweep, acts
    return sweep._replace(phase=Phase.RESIDUE), (*acts, SweepAction.RESIDUE)


def _restarted_if_clear(sweep: Sweep, at_ns: int) -> Sweep:
    """Return the sweep restarted with a new deadline if the account was clear; else the sweep itself."""
    if sweep.phase is not Phase.CLEAR:
        return sweep
    return sweep._replace(phase=Phase.STRIKING, began_ns=at_ns, clean_reads_in_a_row=0)


def _strike_or_owe(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[SweepAction, ...]]:
    """Strike if the gap is over; else owe the strike, and read again before it."""
    allowed_ns = next_strike_ns(sweep)
    if at_ns >= allowed_ns:
        return _strike(sweep, at_ns)
    owing = _read_again_soon(sweep._replace(strike_owed=True), at_ns)
    return owing._replace(due_ns=min(allowed_ns, owing.due_ns)), ()


def _strike(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[SweepAction, ...]]:
    struck = sweep._replace(
        phase=Phase.RESIDUE if sweep.phase is Phase.RESIDUE else Phase.STRIKING,
        struck_ns=at_ns,
        reads_before_are_stale_ns=at_ns,
        due_ns=at_ns + to_ns(sweep.timing.answer_within_s),
        stagger_ns=0,
        strikes=sweep.strikes + 1,
        strike_owed=False,
        is_unsent=False,
        clean_reads_in_a_row=0,
        pending_since_ns=0,
    )
    return struck, (SweepAction.STRIKE,)


def _request_read(sweep: Sweep, at_ns: int) -> tuple[Sweep, tuple[SweepAction, ...]]:
    due_ns = at_ns + read_bound_ns(sweep)
    if sweep.strike_owed:
        due_ns = min(due_ns, next_strike_ns(sweep))
    return sweep._replace(read_asked_ns=at_ns, read_has_waited=False, due_ns=due_ns), (SweepAction.READ,)


def _sleep(sweep: Sweep, at_ns: int, seconds: float) -> Sweep:
    return sweep._replace(due_ns=at_ns + to_ns(seconds))


def _read_again_soon(sweep: Sweep, at_ns: int) -> Sweep:
    """Set the timer to the next read, after the venue's gap; in RESIDUE, after a quarter of the strikes' gap."""
    gap_ns = to_ns(sweep.timing.read_gap_s)
    if sweep.phase is Phase.RESIDUE:
        gap_ns = max(gap_ns, (next_strike_ns(sweep) - sweep.struck_ns) // 4)
    return sweep._replace(due_ns=at_ns + gap_ns)
