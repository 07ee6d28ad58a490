"""What repeats for hours is one record a minute and account; what a restart or a person must know is there at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from kill_switch.core import recovery, sweep
from kill_switch.core.domain import CancelOutcome, Instant, Phase, Reason, SweepTiming
from kill_switch.core.events import Progress, ReasonReported
from kill_switch.core.order_tracker import OrderTracker
from kill_switch.core.state import AccountState, State
from kill_switch.journal.condenser import MAX_VERBATIM, Condenser
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.venues.kit.book import OrderBook
from tests.harness.core_playbook import START, Run

MINUTES = 120
PACES = {"a": SweepTiming(), "b": SweepTiming()}


class Day:
    """A tripped account and its venue, for hours; what is recorded goes through the condenser."""

    def __init__(self) -> None:
        self.ns = START.mono_ns
        self.run = Run(State({name: AccountState(pace) for name, pace in PACES.items()}))
        self.condenser = Condenser((), self.run.boot)
        self.made: list[dict[str, Any]] = []
        self.book, self.count, self.orders = OrderBook(), OrderTracker("k1", self.ns), 0
        self._taken = 0

    def now(self, s: float = 0.0) -> Instant:
        self.ns += int(s * 1e9)
        return Instant(self.ns, START.wall_ns + self.ns - START.mono_ns)

    def happens(self, *events: Any) -> None:
        self.run(*events)
        for entry in self.run.entries[self._taken :]:
            self.take(entry["kind"], entry["data"])
        self._taken = len(self.run.entries)

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        at = self.now()
        for condensed_record in (*self.condenser.due_repeats(at.mono_ns), *self.condenser.condense(kind, data, at)):
            data, stamps = (
                orjson.loads(orjson.dumps(condensed_record.data)),
                {"at": "2023-11-14T22:13:20Z", "boot": self.run.boot},
            )
            self.made.append({"seq": len(self.made) + 1, "kind": condensed_record.kind, "data": data, **stamps})

    def fire(self, *names: str) -> None:
        at = self.now()
        self.happens(ReasonReported(Reason("panic", "touched", names, at), at))

    def answer(self, name: str = "a") -> None:
        at = self.now(0.02)
        self.happens(Progress(name, sweep.StrikeAnswered(at.mono_ns, CancelOutcome.ACCEPTED), at, "ok", 1))

    def read(self, live: int, after_s: float = 0.3, name: str = "a") -> None:
        at = self.now(after_s)
        shown = sweep.ReadCounted(at.mono_ns, at.mono_ns - 1000, live, 0, True)
        ids = frozenset(f"o{self.orders + n}" for n in range(live))
        self.count.on_read(self.book, ids, shown.asked_ns, at.mono_ns, whole=True)
        orders = self.count.take_changes()
        self.happens(Progress(name, shown, at, f"{live} live", None, orders))

    def requoting_bot(self) -> None:
        """Rest an order as soon as the account is clear; the guard finds it with its next read."""
        self.orders += 1
        self.read(1, 2.0)
        self.answer()
        self.read(0)
        self.read(0)

    def stubborn_venue(self) -> None:
        """Take each command, and cancel nothing."""
        for _ in range(16):
            self.read(3, 0.25)
        self.happens(Progress("a", sweep.SweepTimerFired(self.now(1.5).mono_ns), self.now()))
        self.answer()


@pytest.mark.parametrize("cycle", [Day.requoting_bot, Day.stubborn_venue])
def test_two_hours_of_guarding_write_at_most_two_records_a_minute(cycle: Callable[[Day], None]) -> None:
    day = Day()
    day.fire("a")
    day.answer()
    while day.ns < START.mono_ns + MINUTES * 60_000_000_000:
        cycle(day)
    assert len(day.run.entries) > 60 * MINUTES
    assert len(day.made) < MAX_VERBATIM + 10 + 2 * MINUTES  # 2,900 a day
    day.take("stop", {})
    whole, condensed = ReportBuilder(1, day.run.entries), ReportBuilder(1, day.made)
    assert condensed.render() == whole.render()
    assert (
        max(len(orjson.dumps(entry)) for entry in day.made[-MAX_VERBATIM:]) < 5_000
    )  # names are not written over again
    assert recovery.rebuild(day.made, PACES) == recovery.rebuild(day.run.entries, PACES)


def test_the_first_records_of_a_kill_are_all_written() -> None:
    day = Day()
    for n in range(3):
        before = len(day.made), len(day.run.entries)
        day.fire("a", "b")
        for name in ("a", "b"):
            day.answer(name)
            day.read(2, name=name)
            day.read(0, 1.0, name)
            day.read(0, name=name)
        assert len(day.made) - before[0] == len(day.run.entries) - before[1], n
    assert [entry["kind"] for entry in day.made] == [entry["kind"] for entry in day.run.entries]


def test_the_end_of_a_recorded_clear_is_written_at_once_whatever_is_counted() -> None:
    day = Day()
    day.fire("a")
    for _ in range(80):
        day.requoting_bot()
        true = recovery.rebuild(day.run.entries, PACES).accounts["a"].phase
        known = recovery.rebuild(day.made, PACES).accounts["a"].phase
        assert not (known is Phase.CLEAR and true is not Phase.CLEAR)
        day.read(1, 2.0)
        assert recovery.rebuild(day.made, PACES).accounts["a"].phase is not Phase.CLEAR
        day.answer()
        day.read(0)
        day.read(0)


def test_a_repeats_record_has_the_counts_by_kind_and_the_accounts_state() -> None:
    day = Day()
    day.fire("a")
    while not any(entry["kind"] == "repeats" for entry in day.made):
        day.stubborn_venue()
    data = day.made[-1]["data"] if day.made[-1]["kind"] == "repeats" else day.made[-2]["data"]
    assert (data["account"], data["kill"], data["clear"], data["most"]) == ("a", "k1-1700000000", False, 3)
    assert data["records"] == data["reads"] + data["answers"] + (data["strike"] - data["first_strike"] + 1)
    assert data["stands"]["state"] == "RESIDUE"
    assert data["stands"]["left"] == 3


REASON = {"kill": "k2-1", "trigger": "t", "text": "x", "evidence": {}, "observed_mono_ns": 1, "observed_wall_ns": 1}


@pytest.mark.parametrize(("kind", "data"), [("reason", {**REASON, "accounts": ["b"]}), ("rearm", {"accounts": ["a"]})])
def test_repeats_are_written_before_a_new_reason_and_before_a_re_arm(kind: str, data: dict[str, Any]) -> None:
    day = Day()
    day.fire("a")
    for _ in range(60):
        day.requoting_bot()
    day.take(kind, data)
    assert [entry["kind"] for entry in day.made[-2:]] == ["repeats", kind]
    assert day.made[-2]["data"]["clear"] is True


def test_a_record_of_a_kind_that_is_not_counted_is_always_written() -> None:
    day = Day()
    day.fire("a")
    for _ in range(60):
        day.requoting_bot()
        before = len(day.made)
        day.take("pnl", {"trigger": "loss"})
        assert day.made[before:][-1]["kind"] == "pnl"


def test_counted_records_of_accounts_that_have_exchanged_their_names_state_each_ones_own_clear() -> None:
    day = Day()
    day.fire("a", "b")
    for _ in range(80):
        day.requoting_bot()  # "a" ends clear, and "b" is not
    day.take("resume", {"accounts": ["a", "b"], "striking": ["a"], "identities": {}, "moved": {"a": "b", "b": "a"}})
    for name in ("a", "b"):
        day.take("read", {"kill": "k1-1700000000", "account": name, "live": 0, "pending": 0, "complete": True})
    day.take("stop", {})
    phases = {name: account.phase for name, account in recovery.rebuild(day.made, PACES).accounts.items()}
    assert phases["b"] is Phase.CLEAR and phases["a"] is not Phase.CLEAR
