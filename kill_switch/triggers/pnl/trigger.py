"""Fire when the equity of some accounts, together, has fallen too far: from a baseline, from a peak, or to a floor.

Figures come from the accounts (`measured`, `moved`) or from outside (`reported`); `samples` brings those of one moment
together, `ledger` judges them. A trigger that gets no whole sample for `stale_after` is blind, and says why.

The day outlives the process: baseline and peak are put on record when a day begins, and the peak when it has risen by a
hundredth of `max_drawdown`, so that a crash hides no more than that. The last figure is on record too, every ten
minutes. With other accounts, another currency, other rates or another source, figures mean something else: the
baseline is taken anew. That, and whatever else ends a day early, is a warning with the amount that counts no more.

Figures that come slower than `stale_after` confirm a limit all the same. The trigger is blind between them, and from
the second such gap on until they come in time.

Re-arming after it has fired begins anew as well: the next samples are the baseline, and as much may be lost again. Who
does not want that leaves it tripped until the reset, or asks for two people. A re-arm for another trigger's reason
changes nothing: it is refused while the last figure reaches a limit of the day that goes on. Only a floor cannot begin
anew: a re-arm is refused while equity is not above it. Nor does a re-arm of some of its accounts begin anew while
others stay tripped: it is refused while a limit is reached, and then the day goes on. Where the figure of now is
missing, each of these is refused as well, because nobody can see; there `force` helps.

A kill leaves an account's venue no time for other questions. Its figures are missing meanwhile, and so is every sample:
the trigger is blind, which is shown and said as ever. But a kill of one account is no reason to kill the others: with
`on_blind = "fire"`, an account owes a figure only from the end of its kill on. The others owe theirs all the same.

A deposit or a withdrawal of which the venue says nothing looks like a profit or a loss. docs/guides/triggers/pnl.md has
every case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import anyio

from kill_switch.core.domain import Instant, Phase, Reason, Severity
from kill_switch.core.engine import Announce
from kill_switch.triggers.base import Figures, Report, TriggerState, Unseen
from kill_switch.triggers.pnl.baseline import ResetTime
from kill_switch.triggers.pnl.day import KNOWN_NS, DayTracker, PnlLimits
from kill_switch.triggers.pnl.describe import INTAKE, describe_standing, figures_of, format_money, format_utc
from kill_switch.triggers.pnl.equity_course import Transfer
from kill_switch.triggers.pnl.restored_day import (
    OTHER_FIGURES,
    UNREADABLE_DAY,
    describe_lost,
    describe_uncounted,
    last_equity,
    restore_day,
)
from kill_switch.triggers.pnl.samples import FUTURE_S, Amounts, Sample, SampleCollector, parse_equity
from kill_switch.triggers.stall_clock import StallClock, StallMark

LOOK_EVERY_S = 0.1
RECORD_EVERY_NS = 600_000_000_000  # nanoseconds; a crash hides no more of when and where equity was last seen
Record = Callable[[Mapping[str, object]], None]


class PnlTerms(NamedTuple):
    """What the configuration says."""

    currency: str
    rates: Mapping[str, Decimal]  # of other currencies
    limits: PnlLimits
    confirm: int
    stale_after_s: float
    warn_at: tuple[int, ...]
    reset: ResetTime
    from_accounts: bool
    window_s: float  # figures of one sample are no further apart


class PnlTrigger:
    """Watch the equity of its accounts."""

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
        """`past` is the last record of an earlier run; `phase` says where an account stands."""
        self.name = name
        self.accounts = accounts
        self.terms = terms
        self._clock = clock
        self._stall_clock = attention
        self._record_it = record
        self._announce = announce
        self._phase = phase
        sources = accounts if terms.from_accounts else (INTAKE,)
        self._samples = SampleCollector(sources, {**terms.rates, terms.currency: Decimal(1)}, terms.window_s)
        self._at_s = 0.0  # of the last figure from outside, by its sender's clock
        self._last: Sample | None = None
        now = clock()
        self._seen = attention.mark(now.mono_ns)  # the last sample
        self._owes = dict.fromkeys(accounts, self._seen)  # account → since when it owes a figure
        self._every_s = 0.0  # between the last two samples
        self._slow = 0  # how many samples in a row came later than `stale_after` behind the one before
        self._fired = ""  # what it said
        self._recorded: tuple[int, Sample | None] = (now.mono_ns, None)  # when, and which sample, was last on record
        left, why = restore_day(past, self._meaning(), now)
        self._known = last_equity(past, self._meaning())
        self._day_tracker = DayTracker(terms.limits, terms.confirm, terms.reset, terms.warn_at, left)
        self._lost = ""  # what an earlier run has counted that counts no more
        if past is not None and past.get("fired"):
            if Phase.ARMED not in self._phases():
                self._fired = str(past["fired"])
            elif self._all_armed():  # and nobody was there to see it
                why = why or "re-arm"
        if why:
            self._day_tracker.begin_anew(why)
        if why in (OTHER_FIGURES, UNREADABLE_DAY):
            self._lost = describe_lost(past)

    # ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────

    def on_equity(self, account: str, amounts: Amounts, asked_ns: int) -> None:
        """Take what a venue says that an account is worth."""
        if self.terms.from_accounts and account in self._samples.last:
            now_ns = self._clock().mono_ns
            if self._samples.add(account, amounts, asked_ns, now_ns) and account not in self._samples.unrated:
                self._owes[account] = StallMark(asked_ns, self._stall_clock.stalled_ns(now_ns))

    def on_transfer(self, account: str, currency: str, amount: Decimal) -> None:
        """Take a venue's word of a deposit (more than nothing) or a withdrawal (less)."""
        if not self.terms.from_accounts or account not in self._samples.last:
            return
        rate = Decimal(1) if currency == self.terms.currency else self.terms.rates.get(currency)
        worth = None if rate is None else self._samples.is_plausible({currency: amount}) and amount * rate
        if not worth:  # without a rate, the account's figures tell of it
            return
        self._day_tracker.on_transfer(account, worth, self._clock().mono_ns)
        self._record("transfer", {"account": account, "currency": currency, "amount": str(amount)})

    def on_external_equity(self, equity: object, at: object) -> bool:
        """Take a figure from outside with its time (seconds since 1970); False if it is ignored."""
        samples, now = self._samples, self._clock()
        if self.terms.from_accounts:
            return False
        amount = parse_equity(equity)
        if amount is None:
            return samples.count_ignored('"equity" is no plain decimal number')
        if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
            return samples.count_ignored('"at" is no time')
        now_s = now.wall_ns / 1e9
        if self._at_s > now_s + FUTURE_S:  # our own clock was set back
            self._at_s = 0.0
        if at > now_s + FUTURE_S:
            return samples.count_ignored("from the future")
        if at <= self._at_s:
            return samples.count_ignored("not newer than the one before")
        age_s = max(0.0, now_s - at)
        if age_s > self.terms.stale_after_s:
            return samples.count_ignored("too old")
        self._at_s = float(at)
        asked_ns = now.mono_ns - int(age_s * 1e9)
        last = samples.last[INTAKE]
        if last is not None:  # the two clocks do not run quite alike
            asked_ns = max(asked_ns, last.asked_ns + 1)
        return samples.add(INTAKE, {self.terms.currency: amount}, min(asked_ns, now.mono_ns), now.mono_ns)

    # ── the watch ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, report: Report) -> None:
        try:
            while True:
                self._look(report)
                await anyio.sleep(LOOK_EVERY_S)
        finally:
            self.save()

    def save(self) -> None:
        """Put on record what is not there yet, the last figure included: somebody else goes on from it."""
        if self._last is not None and self._last is not self._recorded[1]:
            self._record("stop")

    def _look(self, report: Report) -> None:
        now = self._clock()
        for name in self._struck():
            self._owes[name] = self._stall_clock.mark(now.mono_ns)
        sample = self._samples.next_sample(self._last, now, self.terms.stale_after_s)
        if sample is None:
            return
        late = self._last is not None and self._overdue(self._seen, sample.asked_ns)
        self._slow = self._slow + 1 if late else 0
        self._every_s = 0.0 if self._last is None else (sample.asked_ns - self._last.asked_ns) / 1e9
        self._last = sample
        self._seen = StallMark(sample.asked_ns, self._stall_clock.stalled_ns(now.mono_ns))
        verdict = self._day_tracker.judge(sample)
        if verdict.began:
            self._announce_day()
        elif self._day_tracker.has_unrecorded_peak:
            self._record("peak")
        elif now.mono_ns - self._recorded[0] >= RECORD_EVERY_NS:
            self._record("figure")
        for twice in verdict.twice:
            self._announce_duplicate(twice)
        if verdict.reached and not self._fired:
            self._fire(verdict.reached, now, report)
        elif verdict.warn and not self._fired:
            for limit, part in verdict.warn:
                self._announce(
                    Announce(Severity.WARN, f"trigger {self.name}: {part}% of {limit} is gone: {self._standing()}")
                )
            self._record("warn")

    def _fire(self, reached: tuple[str, ...], now: Instant, report: Report) -> None:
        self._fired = f"{' and '.join(reached)} reached: {self._standing()}"
        day = self._day_tracker.day
        evidence: dict[str, object] = {
            "reached": reached,
            "currency": self.terms.currency,
            "rates": {currency: str(rate) for currency, rate in self.terms.rates.items()},
            "limits": {name: str(limit) for name, limit in self.terms.limits._asdict().items() if limit is not None},
            "baseline": None if day is None else str(day.baseline),
            "peak": None if day is None else str(day.peak),
            "since": None if day is None else format_utc(day.since_ns),
            "confirm": self.terms.confirm,
            "samples": [sample.evidence() for sample in self._day_tracker.basis_samples],
            "ignored": self._samples.ignored,
        }
        report(Reason(self.name, self._fired, self.accounts, now, evidence))
        self._record("fired")

    # ── what others see ───────────────────────────────────────────────────────────────────────────────────────────

    def state(self) -> tuple[TriggerState, str]:
        blind = self.blindness()
        if self._fired:
            return TriggerState.TRIPPED, f"{self._fired}; now {blind or self._standing()}"
        if blind:
            return TriggerState.BLIND, blind
        if self._last is None:
            missing = [name for name, figure in self._samples.last.items() if figure is None]
            return TriggerState.WAITING, f"waits for {figures_of(missing)}{self._unrated()}{self._ignored()}"
        state = TriggerState.WAITING if self._day_tracker.waits_for_baseline else TriggerState.OK
        return state, f"{self._standing()}{self._unrated()}{self._ignored()}"

    def measurements(self) -> Figures:
        if self._last is None:
            return {}
        worth, limits = self._day_tracker.worth(self._last), self.terms.limits
        floor = math.nan if limits.floor is None else float(limits.floor)
        values = {"equity": (float(self._last.worth), floor), "age_s": (self._age_s(), self.terms.stale_after_s)}
        names = {"max_loss": "loss", "max_drawdown": "drawdown"}
        for limit, (fallen, most) in self._day_tracker.fallen(worth).items():
            if limit in names:
                values[names[limit]] = (float(fallen), float(most))
        return values

    def rearm_blocker(self) -> str | None:
        day_goes_on = not self._fired and self._day_tracker.day is not None  # else the re-arm begins another one
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
        """Say why it would fire again at once if these were re-armed and others of its accounts were not.

        An `Unseen` if nobody can tell.
        """
        left = [name for name in self.accounts if name not in accounts and self._phase(name).is_tripped]
        if not (self._fired and left):
            return None
        words = f"the day begins anew only if {', '.join(left)} is re-armed with it"
        if (last := self._fresh()) is None:
            return Unseen("whether a limit is still reached", f"{self._out_of_sight()}; {words}")
        if not any(self._day_tracker.reaches(limit, last) for limit in PnlLimits._fields):
            return None
        return f"{self._standing()}; {words}"

    def on_rearmed(self) -> None:
        if not self._fired:
            return  # the day goes on: a re-arm for another reason is not a profit
        self._fired = ""
        if self._all_armed():
            self._day_tracker.begin_anew("re-arm")
        else:
            self._day_tracker.continue_after_rearm(self._clock().mono_ns)
        self._record("re-arm")

    def is_excused_by_kill(self) -> bool:
        """Say whether it is blind for a kill alone: only accounts that are, or just were, being struck owe a figure.

        A kill leaves their venues no time for other questions. So their silence is no reason to kill the others.
        """
        if not self.terms.from_accounts:
            return False
        now_ns = self._clock().mono_ns
        told_ns = {name: 0 if figure is None else figure.asked_ns for name, figure in self._samples.last.items()}
        owing = any(since.at_ns > told_ns[name] for name, since in self._owes.items())
        return owing and not any(self._overdue(since, now_ns) for since in self._owes.values())

    def _fresh(self) -> Sample | None:
        """Return the last sample, if it is no older than `stale_after`, and transfers hide no limit for long."""
        return None if self._overdue(self._seen, self._clock().mono_ns) or self._day_tracker.hidden else self._last

    def _out_of_sight(self) -> str:
        """Say why there is no figure of now, and what the last one was."""
        missing = [name for name, figure in self._samples.last.items() if figure is None]
        why = self.blindness() or f"no {figures_of(missing or list(self._samples.last))} yet"
        worth = self._known if self._last is None else self._last.worth
        return why if worth is None else f"{why}; equity was last seen at {format_money(worth)} {self.terms.currency}"

    def _struck(self) -> list[str]:
        """Name the accounts of which the figures come in whose kills are under way."""
        if not self.terms.from_accounts:
            return []
        return [name for name in self.accounts if self._phase(name).is_unfinished]

    def _phases(self) -> list[Phase]:
        return [self._phase(name) for name in self.accounts]

    def _all_armed(self) -> bool:
        return set(self._phases()) == {Phase.ARMED}

    def _overdue(self, since: StallMark, now_ns: int) -> bool:
        """Tell whether that is too long ago; time in which we could not listen does not count."""
        return since.heard_ns(self._stall_clock.mark(now_ns)) > self.terms.stale_after_s * 1e9

    def blindness(self) -> str:
        """Say why there has been no sample for too long, if so."""
        now_ns = self._clock().mono_ns
        if not self._overdue(self._seen, now_ns):
            slow = self._slow > 1
            return (
                f"figures come every {self._every_s:.0f} s, and are stale after {self._stale}"
                if slow
                else self._hidden()
            )
        allowed_ns = self.terms.stale_after_s * 1e9
        old = [n for n, f in self._samples.last.items() if f is None or now_ns - f.asked_ns > allowed_ns]
        if self._samples.unrated:
            return self._unrated().removeprefix("; ")
        if old:
            kill = ", and a kill is under way" if self._struck() else ""
            return f"no {figures_of(old)} for {self._stale}{kill}{self._ignored()}"
        return f"the {figures_of(list(self._samples.last))} are never from the same {self.terms.window_s:g} s"

    def _hidden(self) -> str:
        """Say which limits transfers may have hidden for too long, if so."""
        limits = " or ".join(self._day_tracker.hidden)
        words = f"nobody can tell whether {limits} is reached, for more than {KNOWN_NS // 1_000_000_000} s"
        return words + self._in_doubt() if limits else ""

    def _standing(self) -> str:
        if self._last is None:
            return "nothing is known"
        return describe_standing(self._last, self.terms.currency, self._age_s(), self._day_tracker) + self._in_doubt()

    def _unrated(self) -> str:
        return "".join(f"; {name} holds {held}, and rates has none" for name, held in self._samples.unrated.items())

    def _ignored(self) -> str:
        count = self._samples.ignored
        return f"; {count} figure(s) ignored, the last: {self._samples.why_ignored}" if count else ""

    def _in_doubt(self) -> str:
        moved = self._day_tracker.in_doubt
        total = sum((abs(transfer.worth) for transfer in moved), Decimal())
        return f"; {format_money(total)} {self.terms.currency} moved, not found in the figures yet" if moved else ""

    @property
    def _stale(self) -> str:
        return f"{self.terms.stale_after_s:g} s"

    def _age_s(self) -> float:
        return 0.0 if self._last is None else (self._clock().mono_ns - self._last.asked_ns) / 1e9

    # ── the record ────────────────────────────────────────────────────────────────────────────────────────────────

    def _meaning(self) -> dict[str, object]:
        """Return what makes figures comparable."""
        return {
            "accounts": list(self.accounts) if self.terms.from_accounts else [INTAKE],
            "currency": self.terms.currency,
            "rates": {currency: str(rate) for currency, rate in self.terms.rates.items()},
        }

    def _record(self, why: str, moved: Mapping[str, object] | None = None) -> None:
        now, ledger = self._clock(), self._day_tracker
        self._recorded = (now.mono_ns, self._last)
        data: dict[str, object] = {"trigger": self.name, "why": why, "of": self._meaning(), "fired": self._fired}
        if self._last is not None:
            data["equity"] = str(self._last.worth)
            data["seen_ns"] = self._last.at.wall_ns
        elif self._known is not None:
            data["equity"] = str(self._known)
        if moved is not None:
            data["moved"] = moved
        if ledger.transfers:
            ahead_ns = now.wall_ns - now.mono_ns
            data["transfers"] = [
                [transfer.account, str(transfer.worth), transfer.reported_ns + ahead_ns]
                for transfer in ledger.transfers
            ]
        if ledger.day is not None:
            ledger.recorded_peak = ledger.day.peak
            data["day"] = ledger.day.to_json()
            data["ended"] = [day.to_json() for day in ledger.ended]
        self._record_it(data)

    def _announce_day(self) -> None:
        ledger, currency = self._day_tracker, self.terms.currency
        day = ledger.day
        if day is None:
            return
        self._record(day.why)
        expected = day.why in ("first", "reset", "re-arm") and not ledger.end_reason
        words = f"trigger {self.name}: baseline {format_money(day.baseline)} {currency} ({day.why})"
        words += f": {ledger.end_reason}" if ledger.end_reason else ""
        if ledger.previous_day:
            words += "; the day before counts beside it for a day"
        elif self._lost:
            words += f"; {self._lost}"
        elif ledger.uncounted_loss is not None and ledger.uncounted_loss > 0 and (not expected or day.why == "re-arm"):
            words += f"; {describe_uncounted(ledger.uncounted_loss, currency)}"
        self._lost = ""
        self._announce(Announce(Severity.INFO if expected else Severity.WARN, words))

    def _announce_duplicate(self, transfer: Transfer) -> None:
        amount = f"{format_money(abs(transfer.worth))} {self.terms.currency}"
        kind = "deposit" if transfer.worth > 0 else "withdrawal"
        words = f"trigger {self.name}: a {kind} of {amount} of {transfer.account} was told twice and shows once"
        self._announce(Announce(Severity.WARN, f"{words}: it counts once"))
        self._record("told twice")
