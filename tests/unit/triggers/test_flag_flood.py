"""What others do in the flag's directory delays no kill, loses none and makes none."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.flag import trigger
from kill_switch.triggers.flag.directory import LOST, identity, sift
from tests.harness.trigger_fixtures import Spot, pressing, real_time

pytestmark = [pytest.mark.anyio, real_time]

QUEUE = 16384  # events that inotify holds at most: fs.inotify.max_queued_events
WRITER = """
import os, sys, time
end = time.monotonic() + float(sys.argv[2])
one, other = (f"{sys.argv[1]}/{os.getpid()}{end}" for end in "ab")
open(one, "w").close()
while time.monotonic() < end:
    for _ in range(100):
        os.rename(one, other)
        os.rename(other, one)
"""


def noise(kill_file: Spot, events: int) -> None:
    """Make so many events in the flag's directory, before the event loop has a turn."""
    one, other = str(kill_file.beside("one")), str(kill_file.beside("other"))
    os.close(os.open(one, os.O_CREAT))
    for _ in range(events // 4):
        os.rename(one, other)
        os.rename(other, one)


@pytest.fixture
def kill_file(tmp_path: Path) -> Spot:
    (tmp_path / "run" / "flag").mkdir(parents=True)
    return Spot(tmp_path / "run" / "flag" / "KILL")


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "POLL_S", 3600.0)


@pytest.mark.usefixtures("no_poll")
async def test_a_turn_of_the_loop_takes_a_bounded_number_of_events_and_others_have_theirs_between(
    kill_file: Spot, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []  # events of each; 0: somebody else's turn

    def count(events: bytes, name: bytes) -> tuple[list[int], int]:
        turns.append(len(events) // 32)  # names of up to 15 bytes
        return sift(events, name)

    async with pressing(kill_file.path) as button:
        monkeypatch.setattr(trigger, "sift", count)
        noise(kill_file, 4000)
        kill_file.touch()
        with anyio.fail_after(5):
            while not button.reasons:
                await anyio.lowlevel.checkpoint()
                turns.append(0)
    heard = [events for events in turns if events]
    assert max(heard) <= 256
    assert not any(one and other for one, other in itertools.pairwise(turns))


async def test_a_file_whose_event_inotify_has_lost_fires_and_its_next_event_is_heard(
    kill_file: Spot, no_poll: None
) -> None:
    async with pressing(kill_file.path) as button:
        noise(kill_file, QUEUE + 100)
        kill_file.touch()
        await button.next(1)
        kill_file.remove()
        await button.until(TriggerState.OK, "is not there")
        kill_file.touch()
        await button.next(2)


async def test_lost_events_cost_one_look_and_not_the_watch(
    kill_file: Spot, no_poll: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []

    def look(path: Path) -> trigger.FlagState:
        looks.append(path)
        return trigger.FlagState(False)

    async with pressing(kill_file.path) as button:
        monkeypatch.setattr(trigger, "look", look)
        overflow = struct.pack("iIII", -1, LOST, 0, 0)
        assert button.trigger._on_events(overflow) and button.trigger._on_events(overflow)
        await anyio.sleep(0.1)
        assert looks == [kill_file.path]


async def test_a_file_behind_many_events_is_found_before_these_have_been_read(
    kill_file: Spot, no_poll: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pressing(kill_file.path) as button:
        monkeypatch.setattr(trigger, "sift", lambda events, name: ([], 0))  # as if its event were far behind
        noise(kill_file, 400)
        kill_file.touch()
        assert (await button.next(1)).text == f"{kill_file} is there"


async def test_events_that_a_look_was_faster_than_are_no_second_touch(kill_file: Spot, no_poll: None) -> None:
    async with pressing(kill_file.path) as button:
        noise(kill_file, 2000)
        kill_file.touch()
        button.trigger._on_state(trigger.FlagState(True))
        kill_file.remove()
        button.trigger._on_state(trigger.FlagState(False))  # and a person re-arms
        await button.trigger.look()
        assert button.trigger.rearm_blocker() is None
        button.trigger.on_rearmed()
        await anyio.sleep(0.05)
        assert len(button.reasons) == 1
        kill_file.touch()
        await button.next(2)


async def test_a_re_arm_has_the_events_taken_that_came_before_it(kill_file: Spot, no_poll: None) -> None:
    async with pressing(kill_file.path) as button:
        noise(kill_file, QUEUE - 1000)
        kill_file.touch()
        kill_file.remove()
        await button.trigger.look()
        assert [reason.text for reason in button.reasons] == [f"{kill_file} came and went"]


async def test_a_file_that_comes_and_goes_for_ever_is_a_bounded_number_of_reasons_and_none_is_lost(
    kill_file: Spot, no_poll: None
) -> None:
    async with pressing(kill_file.path) as button:
        for _ in range(2 * trigger.REASONS):
            kill_file.touch()
            kill_file.remove()
            await anyio.sleep(0.001)
        assert len(button.reasons) == trigger.REASONS
        assert "came and went; it is not reported yet" in str(button.trigger.rearm_blocker())
        await button.trigger.look()
        assert len(button.reasons) == trigger.REASONS + 1
        assert button.trigger.rearm_blocker() is None
        button.trigger.on_rearmed()
        kill_file.touch()
        await button.next(trigger.REASONS + 2)


async def test_a_directory_whose_parent_was_replaced_is_watched_anew(
    kill_file: Spot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger, "POLL_S", 0.02)
    async with pressing(kill_file.path) as button:
        kill_file.directory.directory.move_to(kill_file.directory.directory.beside("old"))  # no event tells of that
        kill_file.directory.path.mkdir(parents=True)
        with anyio.fail_after(5):
            while button.trigger._inotify is None or button.trigger._directory != identity(kill_file.directory.path):  # noqa: ASYNC110 - a thread
                await anyio.sleep(0.01)
        monkeypatch.setattr(trigger, "POLL_S", 3600.0)
        await anyio.sleep(0.1)
        kill_file.touch()
        await button.next(1)


async def test_a_directory_that_is_replaced_while_its_events_are_lost_is_watched_anew(
    kill_file: Spot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger, "POLL_S", 0.02)
    async with pressing(kill_file.path) as button:
        noise(kill_file, QUEUE + 100)
        kill_file.directory.move_to(kill_file.directory.beside("old"))
        kill_file.directory.make_directory()
        kill_file.touch()
        await button.next(1)
        with anyio.fail_after(5):
            while button.trigger._directory != identity(kill_file.directory.path):  # noqa: ASYNC110 - a thread
                await anyio.sleep(0.01)


async def test_a_hard_link_fires_and_a_name_that_is_only_like_it_does_not(kill_file: Spot, no_poll: None) -> None:
    async with pressing(kill_file.path) as button:
        for name in ("kill", "Kill", "KILL ", "KILL.swp", ".KILL", "KIL", "x" * 200 + "KILL"):
            kill_file.beside(name).touch()
        await anyio.sleep(0.05)
        assert button.reasons == []
        os.link(kill_file.beside("kill").path, kill_file.path)
        await button.next(1)


async def test_two_writers_who_fill_the_directory_delay_no_kill(kill_file: Spot) -> None:
    async with pressing(kill_file.path) as button:
        command = [sys.executable, "-c", WRITER, str(kill_file.directory), "3"]
        writers = [subprocess.Popen(command) for _ in range(2)]  # noqa: ASYNC220 - they run beside
        try:
            await anyio.sleep(0.5)
            for number in range(1, 6):
                touched_ns = time.monotonic_ns()
                kill_file.touch()
                delay_s = ((await button.next(number)).observed_at.mono_ns - touched_ns) / 1e9
                assert delay_s < 1.0
                kill_file.remove()
                await button.until(TriggerState.OK, "is not there")
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()


async def test_names_are_compared_as_bytes() -> None:
    def event(mask: int, name: bytes) -> bytes:
        room = (len(name) // 16 + 1) * 16 if name else 0
        return struct.pack("iIII", 1, mask, 0, room) + name.ljust(room, b"\0")

    names = (b"KIL", b"KILL", b"KILLL", b"\xff\xfe", b"a" * 255, b"KILL")
    events = b"".join(event(1 << n, name) for n, name in enumerate(names))
    assert sift(events + event(LOST, b""), b"KILL") == ([2, 32], LOST)
    assert sift(event(8, b"a" * 255), b"a" * 255) == ([8], 0)
