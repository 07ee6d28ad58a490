"""Watch whether a pnl trigger gets its samples in time, and say why not; the trigger uses it.

Time in which this process was stopped or starved does not count. A kill leaves a venue no time for equity requests, so
an account owes its next figure only from the end of its kill on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.describe import describe_ignored, describe_unrated, name_figures
from kill_switch.triggers.pnl.samples import Sample, SampleCollector
from kill_switch.triggers.stall_clock import StallClock, StallMark


class SampleSight:
    """Hold the last sample and its age, and since when each account owes a figure."""

    def __init__(
        self,
        samples: SampleCollector,
        accounts: Iterable[str],
        stale_after_s: float,
        stall_clock: StallClock,
        mono_ns: int,
    ) -> None:
        """Start without a sample: from now on each account owes a figure."""
        self.last: Sample | None = None
        self._samples = samples
        self._stale_after_s = stale_after_s
        self._stall_clock = stall_clock
        self._seen = stall_clock.mark(mono_ns)  # the last sample
        self._owes = dict.fromkeys(accounts, self._seen)  # account → since when it owes a figure
        self._interval_s = 0.0  # between the last two samples
        self._slow = 0  # samples in a row that came later than `stale_after` after the one before

    def on_figure(self, account: str, asked_ns: int, now_ns: int) -> None:
        """Note that an account has paid its figure, which was asked for at `asked_ns`; it owes the next one."""
        self._owes[account] = StallMark(asked_ns, self._stall_clock.stalled_ns(now_ns))

    def on_kill(self, accounts: Iterable[str], now_ns: int) -> None:
        """Note that these accounts are being killed: they owe a figure from now on only."""
        for name in accounts:
            self._owes[name] = self._stall_clock.mark(now_ns)

    def next_sample(self, now: Instant) -> Sample | None:
        """Return the sample that has become complete since the last call, if there is one."""
        sample = self._samples.next_sample(self.last, now, self._stale_after_s)
        if sample is None:
            return None
        late = self.last is not None and self._is_overdue(self._seen, sample.asked_ns)
        self._slow = self._slow + 1 if late else 0
        self._interval_s = 0.0 if self.last is None else (sample.asked_ns - self.last.asked_ns) / 1e9
        self.last = sample
        self._seen = StallMark(sample.asked_ns, self._stall_clock.stalled_ns(now.mono_ns))
        return sample

    def is_stale(self, now_ns: int) -> bool:
        """Return whether there has been no sample for longer than `stale_after`."""
        return self._is_overdue(self._seen, now_ns)

    def age_s(self, now_ns: int) -> float:
        """Return the age of the last sample in seconds; 0 if there is none."""
        return 0.0 if self.last is None else (now_ns - self.last.asked_ns) / 1e9

    def missing(self) -> list[str]:
        """Return the accounts of which there has never been a figure."""
        return [name for name, figure in self._samples.last.items() if figure is None]

    def is_excused_by_kill(self, now_ns: int) -> bool:
        """Return whether only accounts that are, or just were, being killed owe a figure."""
        asked_ns = {name: 0 if figure is None else figure.asked_ns for name, figure in self._samples.last.items()}
        owing = any(since.at_ns > asked_ns[name] for name, since in self._owes.items())
        return owing and not any(self._is_overdue(since, now_ns) for since in self._owes.values())

    def describe_slowness(self) -> str:
        """Return that samples come more slowly than `stale_after`, if the last two did."""
        if self._slow <= 1:
            return ""
        return f"figures come every {self._interval_s:.0f} s, and are stale after {self._stale_after_s:g} s"

    def describe_staleness(self, now_ns: int, killed: Collection[str]) -> str:
        """Return why there has been no sample for too long; `killed` are the accounts that are being killed."""
        allowed_ns = self._stale_after_s * 1e9
        old = [n for n, f in self._samples.last.items() if f is None or now_ns - f.asked_ns > allowed_ns]
        if self._samples.unrated:
            return describe_unrated(self._samples)
        if old:
            kill = ", and a kill is under way" if killed else ""
            ignored = describe_ignored(self._samples)
            return f"no {name_figures(old)} for {self._stale_after_s:g} s{kill}{ignored and f'; {ignored}'}"
        figures = name_figures(list(self._samples.last))
        return f"the {figures} are never from the same {self._samples.window_s:g} s"

    def _is_overdue(self, since: StallMark, now_ns: int) -> bool:
        return since.listened_ns(self._stall_clock.mark(now_ns)) > self._stale_after_s * 1e9
