"""Judge equity against a day's baseline and peak. Pure: time is in the samples.

A day begins at a wall time in a zone. Its date is what tells it from the day before, so that neither the hour that a
zone's clocks show twice nor a clock that is set back begins it a second time. A day that begins more than 12 hours from
now is not today's: the clock was ahead then, or is behind now. Once the clock is right, the day that is today's by it
goes on. A reset that nobody was there for is done with the next samples. Until the new baseline stands, the old one
counts, unless nobody was there at the reset.

No wrong figure decides anything by itself, nor do `confirm - 1` of them in a row:

    a limit is reached   when each of the last `confirm` samples reaches it
    the peak rises       to the least of the last `confirm` samples
    a baseline           is the median of `2 confirm - 1` samples

A deposit or a withdrawal moves baseline and peak by as much. The venue's word of it and the figures that contain it may
come in either order. So a rise of the peak in the minute before a deposit is forgotten, none is believed in the minute
after a transfer, no baseline is taken in that minute, and one that is as young is taken anew. Only figures that show a
withdrawal before its word has come, or no deposit after its word, look like a loss; `confirm` of them in a row are one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import date as Date
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from kill_switch.domain import Now
from kill_switch.triggers.samples import ABSURD, Round
from kill_switch.triggers.wall import AHEAD_S

SETTLE_NS = 60_000_000_000  # figures and word of a transfer are no further apart than that
UNREADABLE = (KeyError, TypeError, ValueError, OSError, ArithmeticError)  # what reading a day back raises
SET_RIGHT = "the clock was set right"  # why a day goes on that had ended
PEAK_STEPS = 100  # a rise is recorded when it is that part of max_drawdown: no crash loses more


class Limits(NamedTuple):
    """How far equity may fall, in the trigger's currency; None: not watched."""

    max_loss: Decimal | None
    max_drawdown: Decimal | None
    floor: Decimal | None


class Reset(NamedTuple):
    """When a day begins."""

    hour: int
    minute: int
    zone: str

    def date(self, wall_ns: int) -> Date:
        """Return the date of the last reset before that instant, where the reset lives."""
        there = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).astimezone(ZoneInfo(self.zone))
        began = (there.hour, there.minute) >= (self.hour, self.minute)
        return there.date() if began else there.date() - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Day:
    """What equity is measured against until the next reset."""

    date: Date
    why: str  # it began: "first", "reset", "re-arm", …
    since_ns: int  # wall time
    baseline: Decimal
    peak: Decimal
    warned: Mapping[str, int] = field(default_factory=dict)  # limit → the per cents that people know of
    taken_ns: int = 0  # monotonic; 0: in an earlier run

    def told(self) -> dict[str, object]:
        """Return it for the record."""
        return {
            "date": self.date.isoformat(),
            "why": self.why,
            "since_ns": self.since_ns,
            "baseline": str(self.baseline),
            "peak": str(self.peak),
            "warned": dict(self.warned),
        }

    @staticmethod
    def of(told: Mapping[str, Any]) -> Day:
        """Read it back; raises one of `UNREADABLE` for what is none."""
        baseline, peak = Decimal(told["baseline"]), Decimal(told["peak"])
        if not (-ABSURD < baseline <= peak < ABSURD):
            raise ValueError("no baseline and peak")
        since_ns = int(told["since_ns"])
        datetime.fromtimestamp(since_ns // 1_000_000_000, UTC)  # or it raises: no time that can be told
        warned = {str(limit): int(part) for limit, part in dict(told["warned"]).items()}
        return Day(Date.fromisoformat(told["date"]), str(told["why"]), since_ns, baseline, peak, warned)


class Verdict(NamedTuple):
    """What a sample has led to."""

    began: bool = False  # a day
    reached: tuple[str, ...] = ()  # limits
    warn: tuple[tuple[str, int], ...] = ()  # limit and per cents that it has come to, for the first time this day


class Ledger:
    """Keep the day, and judge each sample."""

    def __init__(self, limits: Limits, confirm: int, reset: Reset, warn_at: tuple[int, ...], day: Day | None) -> None:
        self.limits = limits
        self.day = day
        self.recorded_peak = day.peak if day else Decimal()
        self._reset = reset
        self._warn_at = sorted(warn_at)
        self._confirm = confirm
        self._before: Day | None = None  # the day that ended when this one began, or was not today's by our clock
        self._rounds: deque[Round] = deque(maxlen=confirm)
        self._gathered: list[Round] = []
        self._wanted = 2 * confirm - 1
        self._anew = "" if day else "first"  # why a new baseline is wanted, besides the time of the day
        self._rises: deque[tuple[int, Decimal]] = deque()  # when the peak rose, and what it was before
        self._missed = True  # samples are missing before the next one
        self._settled_ns = 0  # until then figures may not contain what was transferred

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The samples that the next verdict builds on, the latest last."""
        return tuple(self._rounds)

    @property
    def wanted(self) -> int:
        """How many samples are missing before there is a first baseline."""
        return self._wanted - len(self._gathered) if self.day is None else 0

    @property
    def unrecorded(self) -> bool:
        """The peak has risen by so much that it must be put on record."""
        step = self.limits.max_drawdown
        return bool(self.day and step and (self.day.peak - self.recorded_peak) * PEAK_STEPS >= step)

    def take(self, sample: Round) -> Verdict:
        """Judge one sample of all accounts."""
        self._rounds.append(sample)
        began = self._begin(sample)
        self._missed = False
        if len(self._rounds) < self._confirm:
            return Verdict(began)
        self._raise_peak(sample.at)
        worths = [one.worth for one in self._rounds]
        reached = tuple(name for name in Limits._fields if all(self.reaches(name, worth) for worth in worths))
        return Verdict(began, reached, () if reached else self._warn(max(worths)))

    def interrupt(self) -> None:
        """Say that samples are missing: what came before does not confirm what comes."""
        self._missed = True
        self._rounds.clear()
        self._gathered.clear()

    def begin_anew(self, why: str) -> None:
        """Forget the day: the next samples are its baseline."""
        self.day = self._before = None
        self._anew = why
        self._rises.clear()
        self.interrupt()

    def transfer(self, worth: Decimal, now: Now) -> None:
        """Take out of profit and loss what was brought in (more than nothing) or taken away (less)."""
        self._rounds.clear()  # figures of before confirm nothing that is measured from now on
        self._gathered.clear()
        self._settled_ns = now.mono_ns + SETTLE_NS
        if (before := self._before) is not None:
            self._before = replace(before, baseline=before.baseline + worth, peak=before.peak + worth)
        if self.day is None:
            return
        if self.day.taken_ns and now.mono_ns - self.day.taken_ns < SETTLE_NS:
            self.begin_anew("transfer")
            return
        recent = [(at_ns, before + worth) for at_ns, before in self._rises if now.mono_ns - at_ns < SETTLE_NS]
        peak = self.day.peak + worth
        if worth > 0 and recent:
            peak = recent[0][1]
            recent = []
        self._rises = deque(recent)  # a deposit may still be to come: they are its, too
        self.day = replace(self.day, baseline=self.day.baseline + worth, peak=peak)

    def reaches(self, name: str, worth: Decimal) -> bool:
        """Tell whether equity of so much reaches a limit."""
        match name, self.day:
            case "floor", _:
                return self.limits.floor is not None and worth <= self.limits.floor
            case "max_loss", Day(baseline=baseline):
                return self.limits.max_loss is not None and baseline - worth >= self.limits.max_loss
            case "max_drawdown", Day(peak=peak):
                return self.limits.max_drawdown is not None and peak - worth >= self.limits.max_drawdown
            case _:
                return False

    def fallen(self, worth: Decimal) -> dict[str, tuple[Decimal, Decimal]]:
        """Return, by limit, how far equity of so much has fallen and how far it may; nothing before the first day.

        A floor's way down begins at the baseline.
        """
        day, limits, found = self.day, self.limits, {}
        if day is not None and limits.max_loss is not None:
            found["max_loss"] = (day.baseline - worth, limits.max_loss)
        if day is not None and limits.max_drawdown is not None:
            found["max_drawdown"] = (day.peak - worth, limits.max_drawdown)
        if day is not None and limits.floor is not None and day.baseline > limits.floor:
            found["floor"] = (day.baseline - worth, day.baseline - limits.floor)
        return found

    def _begin(self, sample: Round) -> bool:
        """Begin the day that is due, once there are samples enough for its baseline."""
        if self.day is not None and self._goes_on(self.day, sample.at.wall_ns):
            self._gathered.clear()
            return False
        if self._before is not None and self._goes_on(self._before, sample.at.wall_ns):
            self.day, self._before = replace(self._before, why=SET_RIGHT), None
            self._gathered.clear()
            self._rises.clear()
            return True
        if self.day is not None and self._missed:  # nobody was there at the reset: what came since is not this day's
            self._before = self.day if self.day.since_ns > sample.at.wall_ns else None
            self.day = None
        if sample.at.mono_ns < self._settled_ns:
            return False
        self._gathered.append(sample)
        if len(self._gathered) < self._wanted:
            return False
        baseline = sorted(one.worth for one in self._gathered)[len(self._gathered) // 2]
        today = self._reset.date(sample.at.wall_ns)
        self._before = self.day or self._before
        self.day = Day(today, self._anew or "reset", sample.at.wall_ns, baseline, baseline, {}, sample.at.mono_ns)
        self._anew = ""
        self._gathered.clear()
        self._rises.clear()
        return True

    def _goes_on(self, day: Day, wall_ns: int) -> bool:
        """Tell whether a day is today's: one date ahead, the clock was set back over the reset, or shows it twice."""
        ahead = day.date - self._reset.date(wall_ns)
        return timedelta() <= ahead <= timedelta(days=1) and day.since_ns - wall_ns <= AHEAD_S * 1e9

    def _raise_peak(self, now: Now) -> None:
        least = min(one.worth for one in self._rounds)
        if self.day is None or least <= self.day.peak or now.mono_ns < self._settled_ns:
            return
        while self._rises and now.mono_ns - self._rises[0][0] >= SETTLE_NS:
            self._rises.popleft()
        self._rises.append((now.mono_ns, self.day.peak))
        self.day = replace(self.day, peak=least)

    def _warn(self, worth: Decimal) -> tuple[tuple[str, int], ...]:
        """Find the per cents that have been passed for the first time this day; of several, the most."""
        if self.day is None:
            return ()
        found = []
        for name, (fallen, limit) in self.fallen(worth).items():
            passed = [part for part in self._warn_at if fallen * 100 >= limit * part]
            if passed and passed[-1] > self.day.warned.get(name, 0):
                found.append((name, passed[-1]))
        if found:
            self.day = replace(self.day, warned={**self.day.warned, **dict(found)})
        return tuple(found)
