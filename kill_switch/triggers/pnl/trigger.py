"""Fire when the equity of some accounts, together, has fallen too far: from a baseline, from a peak, or to a floor.

Figures come from the venues or from the intake. `samples` joins those of one moment, and `day` judges them. The rules,
case by case, are in docs/guides/triggers/pnl.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any

import anyio

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Phase, Reason, Severity
from kill_switch.triggers.base import Figures, Report, Trigger, TriggerState, Unseen
from kill_switch.triggers.pnl import day_record
from kill_switch.triggers.pnl.day import DayTracker
from kill_switch.triggers.pnl.describe import (
    announce_day,
    announce_duplicate,
    describe_ignored,
    describe_in_doubt,
    describe_standing,
    describe_unrated,
    format_money,
    name_figures,
)
from kill_switch.triggers.pnl.external_feed import ExternalFeed
from kill_switch.triggers.pnl.limits import PnlLimits
from kill_switch.triggers.pnl.restored_day import (
    OTHER_FIGURES,
    UNREADABLE_DAY,
    describe_lost,
    last_equity,
    restore_day,
)
from kill_switch.triggers.pnl.sample_history import KNOWN_NS
from kill_switch.triggers.pnl.samples import INTAKE, Amounts, Sample, SampleCollector
from kill_switch.triggers.pnl.sight import SampleSight
from kill_switch.triggers.pnl.terms import PnlTerms
from kill_switch.triggers.stall_clock import StallClock

LOOK_EVERY_S = 0.1  # seconds; between two looks for a complete sample
RECORD_EVERY_NS = 600_000_000_000  # nanoseconds; a crash loses no more than this of when equity was last seen
Record = Callable[[Mapping[str, object]], None]


class PnlTrigger(Trigger):
    """Watch the equity of its accounts, and keep the day over restarts by records."""

    kind = "pnl"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        terms: PnlTerms,
        *,
        clock: Callable[[], Instant],
        attention: StallClock,
        record: Record,
        announce: Callable[[Announce], None],
        past: Mapping[str, Any] | None = None,
        phase: Callable[[str], Phase] = lambda account: Phase.ARMED,
    ) -> None:
        """Continue the day of `past`, the last record of an earlier run, if its figures mean the same.

        `phase` returns the phase of an account.
        """
        self.name = name
        self.accounts = accounts
        self.terms = terms
        self._clock = clock
        self._record_it = record
        self._announce = announce
        self._phase = phase
        sources = accounts if terms.from_accounts else (INTAKE,)
        self._samples = SampleCollector(sources, {**terms.rates, terms.currency: Decimal(1)}, terms.window_s)
        self._external = ExternalFeed(self._samples, terms.currency, terms.stale_after_s)
        now = clock()
        self._sight = SampleSight(self._samples, accounts, terms.stale_after_s, attention, now.mono_ns)
        self._fired = ""  # the text of its reason, until a re-arm
        self._held: tuple[str, ...] = ()  # limits that the last sample reaches, while a silence holds the reason back
        self._recorded: tuple[int, Sample | None] = (now.mono_ns, None)  # the last record's time and sample
        meaning = day_record.describe_meaning(accounts, terms)
        left, why = restore_day(past, meaning, now)
        self._known = last_equity(past, meaning)  # the equity that an earlier run saw last
        self._day_tracker = DayTracker(terms.limits, terms.confirm, terms.reset, terms.warn_at, left)
        self._lost = ""  # the loss that an earlier run counted and this one does not
        if past is not None and past.get("fired"):
            if Phase.ARMED not in self._phases():
                self._fired = str(past["fired"])
            elif self._all_armed():  # a person re-armed after the earlier run's last record
                why = why or "re-arm"
        if why:
            self._day_tracker.begin_anew(why)
        if why in (OTHER_FIGURES, UNREADABLE_DAY):
            self._lost = describe_lost(past)

    # ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────

    def on_equity(self, account: str, amounts: Amounts, asked_ns: int) -> None:
        """Add a venue's figure of an account, which was asked for at `asked_ns` (monotonic)."""
        if self.terms.from_accounts and account in self._samples.last:
            now_ns = self._clock().mono_ns
            if self._samples.add(account, amounts, asked_ns, now_ns) and account not in self._samples.unrated:
                self._sight.on_figure(account, asked_ns, now_ns)

    def on_transfer(self, account: str, currency: str, amount: Decimal) -> None:
        """Remove a deposit (`amount` above zero) or a withdrawal (below) that a venue reports from profit and loss."""
        if not self.terms.from_accounts or account not in self._samples.last:
            return
        rate = Decimal(1) if currency == self.terms.currency else self.terms.rates.get(currency)
        worth = None if rate is None else self._samples.is_plausible({currency: amount}) and amount * rate
        if not worth:  # without a rate, the account's figures make the trigger blind
            return
        self._day_tracker.on_transfer(account, worth, self._clock().mono_ns)
        self._record("transfer", {"account": account, "currency": currency, "amount": str(amount)})

    def on_external_equity(self, equity: object, at: object) -> bool:
        """Add a figure from the intake with its time (seconds since 1970); return False if it is ignored."""
        return not self.terms.from_accounts and self._external.on_figure(equity, at, self._clock())

    # ── the watch ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, report: Report) -> None:
        """Look for complete samples forever, and judge them."""
        try:
            while True:
                self._look(report)
                await anyio.sleep(LOOK_EVERY_S)
        finally:
            self.save()

    def save(self) -> None:
        """Record the last sample unless it is on record: the next run, or a successor, continues from it."""
        if self._sight.last is not None and self._sight.last is not self._recorded[1]:
            self._record("stop")

    def _look(self, report: Report) -> None:
        now = self._clock()
        self._sight.on_kill(self._killed(), now.mono_ns)
        sample = self._sight.next_sample(now)
        if sample is None:
            if not self._fired and (reached := self._still_reached(now)):
                self._fire(reached, now, report)
            return
        outcome, self._held = self._day_tracker.judge(sample), ()
        if outcome.began:
            self._on_day_begun()
        elif self._day_tracker.has_unrecorded_peak:
            self._record("peak")
        elif now.mono_ns - self._recorded[0] >= RECORD_EVERY_NS:
            self._record("figure")
        for transfer in outcome.twice:
            self._announce(announce_duplicate(self.name, self.terms.currency, transfer))
            self._record("told twice")
        if outcome.reached and not self._fired:
            self._fire(outcome.reached, now, report)
        elif outcome.warn and not self._fired:
            for limit, percent in outcome.warn:
                text = f"trigger {self.name}: {percent}% of {limit} is used up: {self._standing()}"
                self._announce(Announce(Severity.WARN, text))
            self._record("warn")

    def _still_reached(self, now: Instant) -> tuple[str, ...]:
        """Return the limits, held back by a silence, that the last sample still reaches: a transfer may explain it."""
        last = self._sight.last
        if not self._held or last is None or self._sight.is_stale(now.mono_ns):
            return ()
        return tuple(name for name in self._held if self._day_tracker.reaches(name, last))

    def _on_day_begun(self) -> None:
        if self._day_tracker.day is not None:
            self._record(self._day_tracker.day.why)
        if news := announce_day(self.name, self.terms.currency, self._day_tracker, self._lost):
            self._announce(news)
        self._lost = ""

    def _fire(self, reached: tuple[str, ...], now: Instant, report: Report) -> None:
        self._fired = f"{' and '.join(reached)} reached: {self._standing()}"
        evidence = day_record.make_evidence(reached, self.terms, self._day_tracker)
        evidence = {**evidence, "ignored": self._samples.ignored}
        if report(Reason(self.name, self._fired, self.accounts, now, evidence)):
            self._fired, self._held = "", reached
            return
        self._held = ()
        self._record("fired")

    def _record(self, why: str, moved: Mapping[str, object] | None = None) -> None:
        """Record the day, because of `why`; `moved` is the transfer that has just been reported."""
        now = self._clock()
        self._recorded = (now.mono_ns, self._sight.last)
        meaning = day_record.describe_meaning(self.accounts, self.terms)
        data: dict[str, object] = {"trigger": self.name, "why": why, "of": meaning, "fired": self._fired}
        data |= day_record.equity_of(self._sight.last, self._known)
        if moved is not None:
            data["moved"] = moved
        data |= day_record.day_of(self._day_tracker, now)
        if self._day_tracker.day is not None:
            self._day_tracker.recorded_peak = self._day_tracker.day.peak
        self._record_it(data)

    # ── state and re-arm ──────────────────────────────────────────────────────────────────────────────────────────

    def state(self) -> tuple[TriggerState, str]:
        """Return the state, with equity and limits as detail."""
        blind = self.blindness()
        if self._fired:
            return TriggerState.TRIPPED, f"{self._fired}; now {blind or self._standing()}"
        if blind:
            return TriggerState.BLIND, blind
        notes = [f"; {note}" for note in (describe_unrated(self._samples), describe_ignored(self._samples)) if note]
        if self._sight.last is None:
            return TriggerState.WAITING, f"waits for {name_figures(self._sight.missing())}{''.join(notes)}"
        state = TriggerState.WAITING if self._day_tracker.waits_for_baseline else TriggerState.OK
        return state, f"{self._standing()}{''.join(notes)}"

    def measurements(self) -> Figures:
        """Return equity, its age, and loss and drawdown with their limits."""
        last = self._sight.last
        if last is None:
            return {}
        floor = self.terms.limits.floor
        age_s = self._sight.age_s(self._clock().mono_ns)
        values = {
            "equity": (float(last.worth), math.nan if floor is None else float(floor)),
            "age_s": (age_s, self.terms.stale_after_s),
        }
        names = {"max_loss": "loss", "max_drawdown": "drawdown"}
        for limit, (fallen, most) in self._day_tracker.falls(self._day_tracker.worth(last)).items():
            if limit in names:
                values[names[limit]] = (float(fallen), float(most))
        return values

    def blindness(self) -> str:
        """Return why there is no usable sample of now ("": there is one)."""
        now_ns = self._clock().mono_ns
        if self._sight.is_stale(now_ns):
            return self._sight.describe_staleness(now_ns, self._killed())
        if slow := self._sight.describe_slowness():
            return slow
        limits = " or ".join(self._day_tracker.hidden)
        words = f"whether {limits} is reached has been unknown for more than {KNOWN_NS // 1_000_000_000} s"
        return words + self._in_doubt() if limits else ""

    def is_excused_by_kill(self) -> bool:
        """Return whether the trigger is blind only because accounts are, or just were, being killed.

        A kill leaves their venues no time for other requests. Blindness from it is no reason to kill other accounts.
        """
        return self.terms.from_accounts and self._sight.is_excused_by_kill(self._clock().mono_ns)

    def rearm_blocker(self) -> str | None:
        """Return which limit is reached still; a re-arm does not change the floor, or the day of another reason."""
        day_goes_on = not self._fired and self._day_tracker.day is not None  # else the re-arm begins another day
        kept = [name for name, limit in self.terms.limits._asdict().items() if limit is not None]
        kept = [name for name in kept if day_goes_on or name == "floor"]
        if not kept:
            return None
        if (last := self._fresh()) is None:
            floor = self.terms.limits.floor
            above = f"whether equity is above the floor {format_money(floor)}" if floor is not None else ""
            return Unseen(above or f"whether {' or '.join(kept)} is reached", self._out_of_sight())
        reached = [name for name in kept if self._day_tracker.reaches(name, last)]
        if not reached:
            return None
        until = "equity is not above the floor" if reached == ["floor"] else f"{' and '.join(reached)} is reached"
        return f"{self._standing()}; it would fire again as long as {until}"

    def partial_rearm_blocker(self, accounts: Collection[str]) -> str | None:
        """Return why it would fire again at once if these accounts were re-armed and others of it stay tripped.

        A new day begins only if all its accounts are re-armed. The result is an `Unseen` if there is no sample.
        """
        left = [name for name in self.accounts if name not in accounts and self._phase(name).is_tripped]
        if not (self._fired and left):
            return None
        words = f"a new day begins only if {', '.join(left)} is re-armed with it"
        if (last := self._fresh()) is None:
            return Unseen("whether a limit is still reached", f"{self._out_of_sight()}; {words}")
        if not any(self._day_tracker.reaches(limit, last) for limit in PnlLimits._fields):
            return None
        return f"{self._standing()}; {words}"

    def on_rearmed(self) -> None:
        """Begin a new day if the trigger has fired and all its accounts are armed; else the day goes on."""
        if not self._fired:
            return
        self._fired = ""
        if self._all_armed():
            self._day_tracker.begin_anew("re-arm")
        else:
            self._day_tracker.continue_after_rearm(self._clock().mono_ns)
        self._record("re-arm")

    def _fresh(self) -> Sample | None:
        """Return the last sample, unless it is older than `stale_after` or transfers have hidden a limit for long."""
        return None if self._sight.is_stale(self._clock().mono_ns) or self._day_tracker.hidden else self._sight.last

    def _out_of_sight(self) -> str:
        """Return why there is no figure of now, and the last known equity."""
        missing = self._sight.missing() or list(self._samples.last)
        why = self.blindness() or f"no {name_figures(missing)} yet"
        worth = self._known if self._sight.last is None else self._sight.last.worth
        return why if worth is None else f"{why}; equity was last seen at {format_money(worth)} {self.terms.currency}"

    def _killed(self) -> list[str]:
        """Return the accounts whose figures are awaited and whose kill is under way."""
        if not self.terms.from_accounts:
            return []
        return [name for name in self.accounts if self._phase(name).is_unfinished]

    def _phases(self) -> list[Phase]:
        return [self._phase(name) for name in self.accounts]

    def _all_armed(self) -> bool:
        return set(self._phases()) == {Phase.ARMED}

    def _standing(self) -> str:
        last = self._sight.last
        if last is None:
            return "no equity is known yet"
        age_s = self._sight.age_s(self._clock().mono_ns)
        return describe_standing(last, self.terms.currency, age_s, self._day_tracker) + self._in_doubt()

    def _in_doubt(self) -> str:
        words = describe_in_doubt(self._day_tracker.transfers_in_doubt, self.terms.currency)
        return f"; {words}" if words else ""
