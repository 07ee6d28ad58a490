"""Hold the state of an account's sweep, and answer when its strikes and reads may leave and when they are late.

`sweep` changes it; nothing here does.
"""

from __future__ import annotations

from typing import NamedTuple

from kill_switch.core.domain import Phase, SweepTiming

READ_ROUND_TRIPS = 2  # a read may take this many of the longest recent round trips
MAX_READ_BOUND_NS = 30_000_000_000  # because a lane gives an answer up by then
SEEN_NS = 30_000_000_000  # no strike waits for a read so soon after an order was seen
LONGEST_WAIT_S = 20.0  # of a kill's read for its share of the venue's limit; strikes leave it then too little for it
LATEST_S = 120.0  # of a kill's read for room of any kind: an order that it would show must not stay unseen for longer
AT_ONCE_NS = 2_000_000_000  # from the sweep's begin; without a clean read by then, its reads may wait
UNREAD_NS = 10_000_000_000  # the same, while no read has counted
LOOK_OUT_NS = 2_500_000_000  # between two reads while lists may lag
FIRST_GAP_NS, FIRST_GAPS_NS = 1_000_000_000, 3_000_000_000  # the same at first, and how long that is


class Sweep(NamedTuple):
    """State of an account's sweep. Times are monotonic nanoseconds; `due_ns` is when its next step is due."""

    timing: SweepTiming
    phase: Phase
    began_ns: int
    struck_ns: int
    due_ns: int
    strikes: int = 1
    strike_owed: bool = False  # another strike is due as soon as the gap allows
    is_unsent: bool = False  # no byte of the last strike has left
    clean_reads_in_a_row: int = 0
    clean_read_asked_ns: int = 0  # when the last of them was asked for
    clean_since_ns: int = 0  # when the first of them was asked for
    orders_left: int | None = None  # orders seen by the last read that counts
    seen_ns: int = 0  # when a read or a push last showed an order
    reads_before_are_stale_ns: int = 0  # a read that was asked for before this instant does not count
    read_asked_ns: int = 0  # when the read that is under way was asked for, or when it leaves; 0: none is
    read_has_waited: bool = False  # it has waited for room in the venue's limit, or does
    pending_since_ns: int = 0  # since when only pending cancels are left; 0: they are not
    last_proof_ns: int = 0  # when the last read that showed the account clean was asked for
    stagger_ns: int = 0  # additional wait of the first read, for the other accounts of the pass
    last_news_ns: int = 0  # when the venue last answered: to a strike, or with a whole list
    answered_ns: int = 0  # when a strike last ended: with the venue's answers to all its commands, or without some
    longest_rtt_ns: int = 0  # the longest recent round trip of a read or a strike

    @property
    def wake_ns(self) -> int:
        """When `SweepTimerFired` is due: for the next step, or for the deadline of RESIDUE if that comes before."""
        if self.phase in (Phase.CLEAR, Phase.RESIDUE):
            return self.due_ns
        return min(self.due_ns, self.began_ns + to_ns(self.timing.residue_after_s))


def read_may_wait_s(sweep: Sweep, at_ns: int, since_ns: int = 0) -> float:
    """Return for how long a read may wait until the venue's limit has room, in seconds; 0: it leaves at once.

    A read of a kill that may prove the account clear never waits: the first reads, a read after a clean read. The other
    reads of a kill wait `LONGEST_WAIT_S`, from `since_ns` on if it is not 0. A guard's read waits one more interval: it
    then comes in time. Where lists lag, a read after a clean read proves nothing before the span is over. While no read
    has counted there, because commands left late, a read still is a first one.
    """
    if sweep.phase is Phase.CLEAR:
        return sweep.timing.guard_every_s
    if sweep.clean_reads_in_a_row:
        return max(0.0, sweep.timing.list_lag_s - (at_ns - sweep.clean_since_ns) / 1e9)
    is_unread = sweep.orders_left is None and sweep.timing.list_lag_s  # elsewhere such reads would use up the limit
    if at_ns - sweep.began_ns <= (UNREAD_NS if is_unread else AT_ONCE_NS):
        return 0.0
    return max(0.0, LONGEST_WAIT_S - (at_ns - (since_ns or at_ns)) / 1e9)


def read_is_late_in_s(at_ns: int, since_ns: int) -> float:
    """Return in how many seconds a read of a kill has waited for `LATEST_S`; `since_ns` is as in `read_may_wait_s`."""
    return LATEST_S - (at_ns - (since_ns or at_ns)) / 1e9


def clean_gap_ns(sweep: Sweep) -> int:
    """Return how far apart two clean reads have to be, to prove more than one of them.

    A shorter gap than the venue's suffices only where the span of the lag is at least as long as that gap.
    """
    gap_ns = to_ns(sweep.timing.read_gap_s)
    return min(gap_ns, FIRST_GAP_NS) if to_ns(sweep.timing.list_lag_s) >= gap_ns else gap_ns


def look_out_gap_ns(sweep: Sweep, at_ns: int) -> int:
    """Return how far apart reads are that look for orders while lists may lag; they may be closer than others.

    An order that nobody knew may show at any moment of the span, and the sooner the likelier.
    """
    is_first = at_ns - sweep.began_ns <= FIRST_GAPS_NS
    return min(to_ns(sweep.timing.read_gap_s), FIRST_GAP_NS if is_first else LOOK_OUT_NS)


def next_clean_read_ns(sweep: Sweep, at_ns: int) -> int:
    """Return when to read after a clean read that came at `at_ns`; the end of the span that proves is not passed by."""
    lag_ns, gap_ns = to_ns(sweep.timing.list_lag_s), to_ns(sweep.timing.read_gap_s)
    if lag_ns < gap_ns:  # the next clean read ends the span
        return at_ns + gap_ns
    due_ns, ends_ns = at_ns + look_out_gap_ns(sweep, at_ns), sweep.clean_since_ns + lag_ns
    return ends_ns if at_ns < ends_ns < due_ns else due_ns


def looks_out(sweep: Sweep, at_ns: int) -> bool:
    """Return whether lists may still lag so far that they do not show an order of the time before the strike."""
    lag_ns = to_ns(sweep.timing.list_lag_s)
    return sweep.phase is not Phase.CLEAR and 0 < lag_ns and at_ns - sweep.began_ns <= lag_ns + AT_ONCE_NS


def next_strike_ns(sweep: Sweep) -> int:
    """Return when the next strike may leave: after the venue's gap, which grows in RESIDUE up to the cap.

    It does not grow if the last strike sent nothing, and an order was seen since: the next may have a command for it.
    """
    gap_s = sweep.timing.strike_gap_s
    if sweep.phase is Phase.RESIDUE and not (sweep.is_unsent and sweep.seen_ns > sweep.struck_ns):
        gap_s = min(sweep.timing.gap_cap_s, max(gap_s, (sweep.struck_ns - sweep.began_ns) / 4e9))
    return sweep.struck_ns + to_ns(gap_s)


def strikes_wait(sweep: Sweep) -> bool:
    """Return whether strikes wait for a read: the venue has answered the last one, and shown no order for long."""
    return min(sweep.last_news_ns, sweep.answered_ns) > sweep.struck_ns and sweep.struck_ns - sweep.seen_ns > SEEN_NS


def is_venue_silent(sweep: Sweep, at_ns: int) -> bool:
    """Return whether the venue is silent: no answer to the last strike within the bound, or none for two bounds.

    For a read that strikes have waited for, the two bounds begin when it has left.
    """
    bound_ns = read_bound_ns(sweep)
    if sweep.last_news_ns <= sweep.struck_ns:
        return at_ns - sweep.struck_ns >= bound_ns
    waited_ns = sweep.read_asked_ns if sweep.read_has_waited and strikes_wait(sweep) else 0
    return at_ns - max(sweep.last_news_ns, waited_ns) >= 2 * bound_ns


def read_bound_ns(sweep: Sweep) -> int:
    """Return how long a read may take: `read_within_s`, or longer if recent round trips were longer."""
    return max(to_ns(sweep.timing.read_within_s), min(READ_ROUND_TRIPS * sweep.longest_rtt_ns, MAX_READ_BOUND_NS))


def unproven_too_long(sweep: Sweep, at_ns: int) -> bool:
    """Return whether the last proof is older than two guard reads take, so that the account is CLEAR no longer."""
    shown_ns = max(sweep.last_proof_ns, sweep.began_ns)
    return at_ns - shown_ns > to_ns(2 * sweep.timing.guard_every_s) + read_bound_ns(sweep)


def pending_too_long(sweep: Sweep, at_ns: int, pending: int) -> bool:
    """Return whether cancels are pending for as long as an answer may take."""
    return (
        pending > 0
        and sweep.pending_since_ns > 0
        and at_ns - sweep.pending_since_ns >= to_ns(sweep.timing.answer_within_s)
    )


def to_ns(seconds: float) -> int:
    """Return seconds in nanoseconds."""
    return int(seconds * 1e9)
