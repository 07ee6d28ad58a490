"""Silences: reasons are held back for planned work, the watch goes on, and nothing makes a silence longer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, LaneState, Reason, Severity
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.records import SilenceApprovedRecord
from kill_switch.outbound.digest import Announcement, Digest
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.schedule import ScheduleTrigger
from kill_switch.triggers.silences import (
    APPROVE_WITHIN_NS,
    PastRecord,
    PendingSilence,
    Person,
    Silence,
    Silences,
    describe_span,
    past_records,
)
from kill_switch.venues.messages import Transferred
from tests.harness.supervised_triggers import LINK, PNL, RATE, Watched, living, place, watching
from tests.harness.trigger_run import watch
from tests.harness.virtual_time import START, running

pytestmark = pytest.mark.anyio

MINUTE = 60 * 10**9
ANN, BOB = Person(7, "ann"), Person(8, "bob")
BEAT = '[triggers.beat]\nkind = "heartbeat"\ntimeout = "3s"\naccounts = ["a"]\n'


class Desk:
    """Silences with clocks that a test sets, and what they write."""

    def __init__(
        self,
        past: list[PastRecord] | None = None,
        boot: str = "one",
        now: Instant | None = None,
    ) -> None:
        self.now = now or Instant(1000 * MINUTE, 10**18)
        self.records: list[tuple[str, Mapping[str, Any]]] = []
        self.said: list[Announce] = []
        self.silences = Silences(
            lambda kind, data: self.records.append((kind, data)), self.said.append, lambda: self.now, boot, past or ()
        )

    def after(self, mono_min: float, wall_min: float | None = None) -> Desk:
        wall_min = mono_min if wall_min is None else wall_min
        self.now = Instant(self.now.mono_ns + round(mono_min * MINUTE), self.now.wall_ns + round(wall_min * MINUTE))
        return self

    def ask(self, minutes: int = 30, person: Person = ANN, needed: int = 1) -> Silence | PendingSilence:
        return self.silences.ask("beat", minutes * MINUTE, "deploy", person, needed)

    def holds(self, trigger: str = "beat") -> bool:
        return self.silences.hold(Reason(trigger, "no heartbeat for 3 s", ("a",), self.now, {}))

    @property
    def past(self) -> list[PastRecord]:
        entries = [{"seq": seq, "kind": kind, "data": data} for seq, (kind, data) in enumerate(self.records)]
        return past_records(entries)


@pytest.mark.parametrize(
    ("mono_min", "wall_min", "held"),
    [
        (29.9, 29.9, True),
        (30, 29.9, False),  # the wall clock was set back
        (29.9, 30, False),  # the host was suspended, or the wall clock was set forward
        (0, -600, True),
        (30, -600, False),
    ],
)
def test_a_silence_ends_when_either_clock_reaches_its_end(mono_min: float, wall_min: float, held: bool) -> None:
    desk = Desk()
    desk.ask()
    assert desk.after(mono_min, wall_min).holds() is held


@pytest.mark.parametrize(
    ("boot", "mono_ns", "wall_min", "held"),
    [
        ("one", 1010 * MINUTE, 10, True),
        ("one", 1030 * MINUTE, 10, False),  # both clocks count in the same boot
        ("one", 1010 * MINUTE, 30, False),
        ("two", 1 * MINUTE, 10, True),
        ("two", 1 * MINUTE, 30, False),
        ("two", 30 * MINUTE, -600, False),  # the wall clock was set back: from the boot on, no longer than in all
        ("two", 29 * MINUTE, -600, True),
    ],
)
def test_a_restart_continues_a_silence_and_makes_it_no_longer(
    boot: str, mono_ns: int, wall_min: int, held: bool
) -> None:
    before = Desk()
    before.ask()
    after = Desk(before.past, boot, Instant(mono_ns, before.now.wall_ns + wall_min * MINUTE))
    assert after.holds() is held


def test_a_silence_that_ended_is_not_continued_by_a_restart() -> None:
    before = Desk()
    before.ask()
    assert before.after(5).silences.end("beat", "by bob")
    assert not Desk(before.past, "one", before.now).holds()


def test_a_second_person_must_ask_for_the_same_time_soon() -> None:
    desk = Desk()
    assert isinstance(desk.ask(30, ANN, 2), PendingSilence)
    assert isinstance(desk.ask(30, ANN, 2), PendingSilence)  # the same person twice is one
    assert isinstance(desk.ask(240, BOB, 2), PendingSilence)  # for another time: an approval of something else
    assert not desk.holds()
    granted = desk.ask(240, ANN, 2)
    assert isinstance(granted, Silence)
    assert granted.people == ("bob", "ann")
    late = Desk()
    late.ask(30, ANN, 2)
    late.after(APPROVE_WITHIN_NS / MINUTE)
    assert isinstance(late.ask(30, BOB, 2), PendingSilence)
    assert late.silences.all_pending()["beat"].people == {8: "bob"}


@pytest.mark.parametrize(
    ("boot", "mono_min", "wall_min", "counts"),
    [
        ("one", 9.9, 9.9, True),
        ("one", 10, 10, False),
        ("two", -990, 9.9, True),  # the monotonic clock began anew
        ("two", -990, 10, False),
        ("two", -990, -0.1, False),  # the wall clock was set back: nobody knows how old the approval is
    ],
)
def test_the_first_approval_counts_for_ten_minutes_also_over_a_restart(
    boot: str, mono_min: float, wall_min: float, counts: bool
) -> None:
    before = Desk()
    before.ask(30, ANN, 2)
    after = Desk(before.past, boot, before.now).after(mono_min, wall_min)
    after = Desk(before.past, boot, after.now)
    assert list(after.silences.all_pending()) == (["beat"] if counts else [])
    assert isinstance(after.ask(30, BOB, 2), Silence if counts else PendingSilence)


def test_all_approvals_of_the_same_time_survive_a_restart_and_the_same_person_counts_once() -> None:
    before = Desk()
    before.ask(240, BOB, 3)
    before.ask(30, ANN, 3)
    before.ask(30, ANN, 3)
    before.ask(30, BOB, 3)
    after = Desk(before.past, "one", before.now)
    assert after.silences.all_pending() == before.silences.all_pending()


@pytest.mark.parametrize("needed", [2, 3])
def test_an_approval_that_had_lapsed_when_the_next_one_came_does_not_count_after_a_restart(needed: int) -> None:
    before = Desk()
    before.ask(30, ANN, needed)
    before.after(11).ask(30, BOB, needed)
    after = Desk(before.past, "one", before.now)
    assert after.silences.all_pending() == before.silences.all_pending()
    assert isinstance(after.ask(30, BOB, needed), PendingSilence)


def test_an_approval_that_was_ended_or_used_is_not_there_after_a_restart() -> None:
    ended, used = Desk(), Desk()
    ended.ask(30, ANN, 2)
    assert ended.silences.end("beat", "by bob")
    used.ask(30, ANN, 2)
    used.ask(30, BOB, 2)
    for before in (ended, used):
        assert Desk(before.past, "one", before.now).silences.all_pending() == {}


def test_an_approval_that_was_ended_does_not_come_back_from_a_checkpoint() -> None:
    before = Desk()
    before.ask(30, ANN, 2)
    before.ask(30, BOB, 3)
    assert before.silences.end("beat", "by bob")
    before.ask(30, BOB, 2)
    snapshot = JournalSnapshot()
    for seq, (kind, data) in enumerate(before.records, 1):
        snapshot.apply({"seq": seq, "at": "", "mono_ns": 0, "boot": "one", "kind": kind, "data": data, "hash": ""})
    after = Desk(past_records(snapshot.entries()), "one", before.now)
    assert after.silences.all_pending()["beat"].people == {8: "bob"}


def test_an_approval_of_an_earlier_version_which_has_no_time_is_not_continued() -> None:
    record = SilenceApprovedRecord(
        trigger="beat", uid=7, user="ann", text="deploy", for_ns=30 * MINUTE, approvals=1, needed=2
    )
    assert Desk([record]).silences.all_pending() == {}


def test_a_held_reason_is_recorded_and_announced_once_and_shown_until_the_end() -> None:
    desk = Desk()
    desk.ask()
    assert [desk.holds() for _ in range(100)] == [True] * 100
    assert [kind for kind, _ in desk.records] == ["silence", "held"]
    assert [announced.text for announced in desk.said] == [
        "trigger beat is silenced for 30 min by ann: deploy; it watches, and fires nothing until then",
        "trigger beat would have fired: no heartbeat for 3 s; it is silenced for another 30 min, by ann: deploy",
    ]
    desk.after(30).silences.look()
    assert desk.said[-1].text == (
        "trigger beat fires again: its silence ended (its time is over); it would have fired: no heartbeat for 3 s"
    )
    assert not desk.silences.all_active()


def test_only_the_named_trigger_is_held_back() -> None:
    desk = Desk()
    desk.ask()
    assert not desk.holds("operator")
    assert not desk.holds("latch")


def test_a_new_silence_replaces_the_old_one_also_by_a_shorter_one() -> None:
    desk = Desk()
    desk.ask(240)
    desk.ask(1, BOB)
    assert desk.after(0.9).holds()
    assert not desk.after(0.1).holds()


def test_a_reload_that_removes_the_trigger_or_makes_it_a_flag_ends_the_silence_and_a_new_name_keeps_it() -> None:
    desk = Desk()
    desk.ask()
    desk.silences.retain({"beat": "heartbeat"})
    desk.silences.rename({"beats": "beat"})
    assert desk.holds("beats")
    assert not desk.holds("beat")
    assert [data["trigger"] for kind, data in desk.records if kind == "silence" and not data.get("ended")] == [
        "beat",
        "beats",
    ]
    desk.silences.retain({"beats": "flag"})
    assert not desk.holds("beats")


def test_two_triggers_that_exchange_names_exchange_their_silences() -> None:
    desk = Desk()
    desk.ask(30)
    desk.silences.rename({"beat": "other", "other": "beat"})
    assert desk.holds("other")
    assert not desk.holds("beat")
    assert Desk(desk.past, "one", desk.now).holds("other")
    assert not Desk(desk.past, "one", desk.now).holds("beat")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (90, "90 s"), (1800, "30 min"), (12000, "3 h 20 min"), (14400, "4 h")]
)
def test_a_span_has_the_unit_that_fits(seconds: float, words: str) -> None:
    assert describe_span(seconds) == words


# ── the triggers ──────────────────────────────────────────────────────────────────────────────────────────────────


def silence(watched: Watched, trigger: str, seconds: float) -> None:
    watched.watch.silences.ask(trigger, int(seconds * 1e9), "deploy", ANN, 1)


async def test_a_heartbeat_that_stops_in_a_silence_fires_when_it_ends(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        life.ready("a")
        await life.until(1)
        life.hear()
        silence(life, "beat", 60)
        await life.until(60.9)
        assert life.tripped() == ()
        state, detail = life.watch.states()["beat"]
        assert state is TriggerState.SILENCED
        assert detail.startswith("for another 1 s, by ann: deploy; it would have fired: no heartbeat for 3.000 s")
        await life.until(61.2)
        assert life.tripped() == ("a",)


async def test_a_heartbeat_that_is_back_before_the_silence_ends_fires_nothing_and_is_watched(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        life.ready("a")
        await life.until(1)
        life.hear()
        silence(life, "beat", 60)
        await life.until(60)
        life.hear()
        await life.until(62.9)
        assert life.tripped() == ()
        await life.until(63.2)
        assert life.tripped() == ("a",)


async def test_a_heartbeat_that_stopped_before_a_restart_fires_when_the_silence_ends(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        life.ready("a")
        await life.until(1)
        life.hear()
        silence(life, "beat", 60)
        await life.until(10)
        left = life.entries
    async with living(tmp_path, BEAT, left) as life:
        life.ready("a")
        await life.until(50.5)
        assert life.tripped() == ()
        await life.until(52)
        assert life.tripped() == ("a",)


async def test_a_limit_that_is_crossed_in_a_silence_fires_when_it_ends_though_no_new_figure_comes(
    tmp_path: Path,
) -> None:
    async with watching(tmp_path, PNL.format(on_blind="alarm")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        silence(watched, "daily-loss", 21)
        await watched.samples((450, 450), (450, 450), (450, 450), (450, 450))
        assert watched.tripped() == ()
        await anyio.sleep(0.5)
        assert watched.tripped() == ("a", "b")


async def test_a_limit_that_is_crossed_and_left_in_a_silence_fires_nothing(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="alarm")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        silence(watched, "daily-loss", 30)
        await watched.samples((450, 450), (450, 450), (500, 500), (500, 500), (500, 500), (500, 500), (500, 500))
        assert watched.tripped() == ()


async def test_an_account_that_is_down_when_a_silence_ends_fires_then(tmp_path: Path) -> None:
    async with watching(tmp_path, LINK.format('"a"')) as watched:
        await anyio.sleep(1)
        silence(watched, "reach", 60)
        watched.floor.lanes["a"].state = LaneState.DOWN
        await anyio.sleep(59.5)
        assert watched.tripped() == ()
        await anyio.sleep(1)
        assert watched.tripped() == ("a",)


async def test_orders_that_are_too_many_fire_when_a_silence_ends_without_another_order(tmp_path: Path) -> None:
    async with watching(tmp_path, RATE) as watched:
        await anyio.sleep(0.2)
        silence(watched, "runaway", 5)
        place(watched, "a", *"12345")
        await anyio.sleep(4.5)
        assert watched.tripped() == ()
        await anyio.sleep(1)
        assert watched.tripped() == ("a",)


async def test_orders_that_were_too_many_and_are_out_of_the_window_fire_nothing(tmp_path: Path) -> None:
    async with watching(tmp_path, RATE) as watched:
        await anyio.sleep(0.2)
        silence(watched, "runaway", 60)
        place(watched, "a", *"12345")
        await anyio.sleep(70)
        assert watched.tripped() == ()


async def test_a_blind_trigger_that_fires_for_it_is_held_back_and_fires_when_the_silence_ends(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="fire")) as watched:
        silence(watched, "daily-loss", 120)
        await watched.wait(119)
        assert watched.tripped() == ()
        assert "blind" in " ".join(watched.said)
        await watched.wait(3)
        assert watched.tripped() == ("a", "b")


# virtual time begins at 22:13:20 UTC
SCHEDULE = '[triggers.close]\nkind = "schedule"\ncron = "{0}"\ntimezone = "UTC"\naccounts = ["a"]\n'


async def test_a_scheduled_time_within_a_silence_is_left_out_for_good(tmp_path: Path) -> None:
    async with living(tmp_path, SCHEDULE.format("15 22 * * *")) as life:
        silence(life, "close", 300)
        await life.until(120)
        left = life.entries
    async with living(tmp_path, SCHEDULE.format("15 22 * * *"), left) as life:
        await life.until(600)
        assert life.tripped() == ()
        assert life.watch.states()["close"][0] is TriggerState.OK


@pytest.mark.parametrize(("silenced_min", "fires"), [(10, 0), (0.5, 1)])
async def test_a_scheduled_time_of_a_silence_that_ended_while_the_daemon_was_down_is_left_out(
    silenced_min: float, fires: int
) -> None:
    begin = datetime.fromtimestamp(START.wall_ns / 1e9, UTC)
    desk = Desk(now=Instant(START.mono_ns - 20 * MINUTE, START.wall_ns - 15 * MINUTE))  # 21:58:20, the time is 22:00
    desk.ask(10)
    desk.after(silenced_min).silences.end("beat", "by ann")
    trigger = ScheduleTrigger(
        "beat",
        ("a",),
        "0 22 * * *",
        "UTC",
        "fire",
        clock=running().now,
        seen=begin - timedelta(minutes=14),
        is_silenced=partial(Desk(desk.past, "one", running().now()).silences.covers, "beat"),
    )
    assert len(await watch(trigger, 1.0)) == fires


async def test_a_scheduled_time_after_the_silence_fires(tmp_path: Path) -> None:
    async with living(tmp_path, SCHEDULE.format("20 22 * * *")) as life:
        silence(life, "close", 300)
        await life.until(500)
        assert life.tripped() == ("a",)


async def test_a_silenced_trigger_counts_in_the_gate_of_a_rearm(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.replace('max_loss = "100"', 'floor = "950"').format(on_blind="alarm")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        silence(watched, "daily-loss", 600)
        await watched.samples((450, 450), (450, 450))
        (why,) = watched.watch.rearm_blockers({"a", "b"}, force=True)
        assert "it would fire again as long as equity is not above the floor" in why


async def test_a_flag_that_has_the_name_of_a_silenced_trigger_fires_when_the_daemon_starts(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        silence(life, "beat", 600)
        left = life.entries
    flag = tmp_path / "STOP"
    flag.touch()
    async with watching(
        tmp_path, f'[triggers.beat]\nkind = "flag"\npath = "{flag}"\naccounts = ["a"]\n', left
    ) as watched:
        # before the first look of the supervisor, which ends the silence of a trigger that is a flag now
        assert watched.watch._fire(Reason("beat", "touched", ("a",), watched.loop.now())) is False
        assert watched.tripped() == ("a",)


async def test_a_loss_that_a_transfer_has_explained_since_fires_nothing_when_the_silence_ends(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="alarm")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        silence(watched, "daily-loss", 21)
        await watched.samples((350, 500), (350, 500), (350, 500), (350, 500))
        watched.watch.on_fact("a", Transferred("OX", Decimal(-150)))
        await anyio.sleep(0.5)
        assert watched.tripped() == ()
        await watched.samples((350, 500), (350, 500))
        assert watched.tripped() == ()


async def test_an_end_of_an_approval_that_waits_is_announced_and_the_same_approval_again_too() -> None:
    desk, digest = Desk(), Digest("h")
    desk.ask(person=ANN, needed=2)
    desk.ask(person=ANN, needed=2)  # typed twice: people know
    assert desk.silences.end("beat", "by bob") and desk.silences.all_pending() == {}
    desk.ask(person=ANN, needed=2)
    asked, void, again = desk.said
    assert (void.level, void.text) == (
        Severity.OVER,
        "trigger beat is not silenced: the approval of ann is void (by bob); it fires as before",
    )
    assert asked.text == again.text
    for said in desk.said:  # people get all three
        assert digest.add(Announcement(said.level, said.text, None, "", (), desk.now, said.do, said.by, said.about))
