"""The flag in real time, on a real directory."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from asyncinotify import Inotify

from kill_switch import clock
from kill_switch.system import offload
from kill_switch.triggers.base import TriggerState, Unseen
from kill_switch.triggers.flag import directory, trigger
from kill_switch.triggers.flag.directory import Directory
from tests.harness.trigger_fixtures import (
    FlagFixture,
    Spot,
    pressing,
    real_time,
)


@pytest.fixture
def kill_file(tmp_path: Path) -> Spot:
    directory = tmp_path / "run"
    directory.mkdir()
    return Spot(directory / "KILL")


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to inotify alone."""
    monkeypatch.setattr(trigger, "POLL_S", 3600.0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a text for the reason's own for as long as a busy machine may need to read it."""
    monkeypatch.setattr(trigger, "TEXT_WITHIN_S", 5.0)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every text that comes after its file for a late one."""
    monkeypatch.setattr(trigger, "TEXT_WITHIN_S", 0.0)


@pytest.fixture
def quick_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "POLL_S", 0.02)


@real_time
@pytest.mark.usefixtures("no_poll")
class TestFlag:
    pytestmark = pytest.mark.anyio

    async def test_it_fires_on_touch(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            assert button.trigger.state() == (TriggerState.OK, f"{kill_file} is not there")
            before = clock.now()
            kill_file.touch()
            reason = await button.next(1)
            assert (reason.trigger, reason.accounts) == ("panic", ("a", "b"))
            assert reason.text == f"{kill_file} is there"
            assert reason.evidence == {"path": str(kill_file)}
            assert before.mono_ns <= reason.observed_at.mono_ns <= clock.now().mono_ns
            assert button.trigger.state() == (TriggerState.TRIPPED, f"{kill_file} is there")

    async def test_it_fires_on_a_file_that_is_there_at_the_start(self, kill_file: Spot) -> None:
        kill_file.write("left over\n")
        async with pressing(kill_file.path) as button:
            assert (await button.next(1)).text == "left over"

    async def test_a_file_that_came_just_before_the_watch_is_found_when_the_watch_begins(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked, real_watch, real_look = threading.Event(), directory.watch, trigger.look

        def look(path: Path) -> trigger.FlagState:
            flag_state = real_look(path)
            looked.set()
            return flag_state

        def watch(directory: Path) -> tuple[Inotify, Directory | None]:
            looked.wait(5)
            kill_file.touch()
            return real_watch(directory)

        monkeypatch.setattr(trigger, "look", look)
        monkeypatch.setattr(trigger, "watch", watch)
        async with pressing(kill_file.path) as button:
            await button.next(1)

    async def test_a_rename_into_place_is_one_reason_to_which_its_text_is_added(
        self, kill_file: Spot, patient: None
    ) -> None:
        kill_file.beside("other").write("by rename")
        async with pressing(kill_file.path) as button:
            kill_file.beside("other").move_to(kill_file)
            await button.next(1)
            await button.text("by rename")
            assert button.trigger.state()[1] == f"{kill_file} is there: by rename"

    async def test_a_file_that_is_made_and_written_is_one_reason_to_which_its_text_is_added(
        self, kill_file: Spot, patient: None
    ) -> None:
        async with pressing(kill_file.path) as button:
            with kill_file.path.open("w") as file:
                await button.next(1)
                file.write("the quoter ")
                file.flush()
                await anyio.sleep(0.02)
                file.write("has gone mad")
            await button.text("the quoter has gone mad")

    async def test_a_kill_does_not_wait_for_a_text_that_cannot_be_had(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch, patient: None
    ) -> None:
        over, real = threading.Event(), trigger.look
        kill_file.beside("other").write("by rename")
        async with pressing(kill_file.path) as button:
            monkeypatch.setattr(trigger, "look", lambda path: over.wait(10) and real(path))
            kill_file.beside("other").move_to(kill_file)
            assert (await button.next(1)).text == f"{kill_file} is there"
            assert button.texts == []
            over.set()
            await button.text("by rename")

    async def test_a_rename_that_is_undone_at_once_fires_all_the_same(self, kill_file: Spot) -> None:
        kill_file.beside("other").touch()
        async with pressing(kill_file.path) as button:
            kill_file.beside("other").move_to(kill_file)
            kill_file.remove()
            assert (await button.next(1)).text == f"{kill_file} came and went"

    async def test_a_file_found_before_reasons_are_accepted_is_a_reason_afterwards(self, kill_file: Spot) -> None:
        button = FlagFixture(kill_file.path)
        kill_file.touch()
        await button.trigger.look()
        assert "is still there" in str(button.trigger.rearm_blocker())
        async with anyio.create_task_group() as group:
            group.start_soon(button.trigger.run, button.report)
            assert (await button.next(1)).text == f"{kill_file} is there"
            group.cancel_scope.cancel()

    async def test_other_files_are_nobodys_business(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.beside("KILL2").touch()
            kill_file.beside("KIL").touch()
            kill_file.touch()
            await button.next(1)

    async def test_a_file_removed_before_the_look_counts_as_touched(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            kill_file.remove()
            assert (await button.next(1)).text == f"{kill_file} came and went"
            assert button.trigger.rearm_blocker() is None
            kill_file.touch()
            await button.next(2)

    async def test_a_touch_that_the_poll_has_reported_is_not_news_when_its_events_come(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            button.trigger._on_state(trigger.FlagState(True))  # the poll, a moment before inotify
            kill_file.remove()
            await button.until(TriggerState.OK, f"{kill_file} is not there")
            await anyio.sleep(0.05)
            assert [reason.text for reason in button.reasons] == [f"{kill_file} is there"]

    async def test_other_files_events_touch_no_file_system_that_may_hang(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with pressing(kill_file.path):
            looked: list[object] = []
            monkeypatch.setattr(trigger, "look", looked.append)
            (kill_file.path.parent / "other").touch()
            await anyio.sleep(0.05)
            assert looked == []

    async def test_a_look_that_an_event_has_overtaken_undoes_nothing(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looking, go_on, real = threading.Event(), threading.Event(), trigger.look

        def look(path: Path) -> trigger.FlagState:
            flag_state = real(path)
            looking.set()
            go_on.wait(5)
            return flag_state

        async with pressing(kill_file.path) as button:
            monkeypatch.setattr(trigger, "look", look)
            button.trigger._wake()
            while not looking.is_set():  # noqa: ASYNC110 - a thread
                await anyio.sleep(0.001)
            kill_file.touch()
            await button.next(1)
            go_on.set()
            await anyio.sleep(0.05)
            assert button.trigger.state()[0] is TriggerState.TRIPPED
            assert len(button.reasons) == 1

    async def test_a_text_that_is_written_later_is_a_second_reason(self, kill_file: Spot, late: None) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            await button.next(1)
            kill_file.write("the quoter has gone mad")
            assert (await button.next(2)).text == "the quoter has gone mad"

    async def test_the_same_text_again_is_no_news(self, kill_file: Spot, late: None) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.write("once")
            await button.until(TriggerState.TRIPPED, "once")
            told = len(button.reasons)
            kill_file.write("once")
            kill_file.write("twice")
            await button.next(told + 1)

    async def test_a_file_that_goes_and_comes_back_fires_again(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            await button.next(1)
            kill_file.remove()
            await button.until(TriggerState.OK)
            kill_file.touch()
            await button.next(2)

    async def test_only_the_printable_head_of_a_text_is_used(self, kill_file: Spot, patient: None) -> None:
        kill_file.beside("other").write(b"\x1b[31mred\nsecond line\xff" + b"x" * 5000)
        async with pressing(kill_file.path) as button:
            kill_file.beside("other").move_to(kill_file)
            await button.until(TriggerState.TRIPPED, "red")
            ((_, text),) = button.texts
            assert text.startswith("\N{REPLACEMENT CHARACTER}[31mred second line\N{REPLACEMENT CHARACTER}xxx")
            assert len(text) == trigger.TEXT_BYTES

    async def test_a_link_fires_without_being_followed(self, kill_file: Spot, tmp_path: Path) -> None:
        Spot(tmp_path / "secret").write("not to be told")
        async with pressing(kill_file.path) as button:
            kill_file.link_to(str(tmp_path / "secret"))
            assert (await button.next(1)).text == f"{kill_file} is there"
            kill_file.remove()
            await button.until(TriggerState.OK)
            kill_file.link_to("dangling")
            await button.next(2)

    async def test_a_pipe_fires_and_does_not_block(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            os.mkfifo(str(kill_file))
            assert (await button.next(1)).text == f"{kill_file} is there"

    async def test_a_directory_fires(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.make_directory()
            assert (await button.next(1)).text == f"{kill_file} is there"

    async def test_a_socket_fires(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
                listener.bind(str(kill_file))
                assert (await button.next(1)).text == f"{kill_file} is there"

    async def test_a_file_that_cannot_be_read_fires_all_the_same(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch, patient: None
    ) -> None:
        def fails(fd: int, size: int) -> bytes:
            raise OSError(5, "Input/output error")

        kill_file.beside("other").write("cannot be read")
        async with pressing(kill_file.path) as button:
            with monkeypatch.context() as patch:
                patch.setattr("kill_switch.triggers.flag.trigger.os.read", fails)
                assert trigger.look(kill_file.beside("other").path) == trigger.FlagState(True)
            kill_file.beside("other").move_to(kill_file)
            await button.text("cannot be read")

    async def test_a_re_arm_is_blocked_while_it_is_there(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            assert button.trigger.rearm_blocker() is None
            kill_file.touch()
            await button.next(1)
            assert button.trigger.rearm_blocker() == f"{kill_file} is still there: remove it"
            kill_file.remove()
            await button.trigger.look()
            assert button.trigger.rearm_blocker() is None

    async def test_a_touch_right_before_a_re_arm_is_asked_for_is_not_swallowed(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            await button.trigger.look()
            assert button.trigger.rearm_blocker() is not None
            await button.next(1)

    async def test_a_touch_right_after_a_re_arm_fires_though_the_removal_went_unseen(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            await button.next(1)
            kill_file.remove()
            await button.trigger.look()
            assert button.trigger.rearm_blocker() is None
            button.trigger.on_rearmed()
            kill_file.touch()
            await button.next(2)


@real_time
@pytest.mark.usefixtures("quick_poll")
class TestFlagAndItsDirectory:
    pytestmark = pytest.mark.anyio

    async def test_a_directory_that_is_not_there_is_blindness_until_it_comes(self, tmp_path: Path) -> None:
        spot = Spot(tmp_path / "none" / "KILL")
        async with pressing(spot.path) as button:
            assert await button.until(TriggerState.BLIND) == f"{spot}: no directory {spot.directory}"
            assert button.trigger.rearm_blocker() is None
            spot.directory.make_directory()
            await button.until(TriggerState.OK)
            spot.touch()
            await button.next(1)

    async def test_a_directory_that_goes_and_comes_back_is_watched_again(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.directory.remove_directory()
            await button.until(TriggerState.BLIND)
            kill_file.directory.make_directory()
            assert await button.until(TriggerState.OK) == f"{kill_file} is not there"
            kill_file.touch()
            await button.next(1)

    async def test_a_directory_that_comes_back_with_the_file_in_it_fires(self, kill_file: Spot, tmp_path: Path) -> None:
        async with pressing(kill_file.path) as button:
            away = Spot(tmp_path / "away" / "KILL")
            kill_file.directory.move_to(away.directory)
            await button.until(TriggerState.BLIND)
            away.write("meanwhile")
            away.directory.move_to(kill_file.directory)
            assert (await button.next(1)).text == "meanwhile"

    async def test_without_inotify_it_is_polled_and_says_so(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none_left() -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(directory, "Inotify", none_left)
        async with pressing(kill_file.path) as button:
            detail = await button.until(TriggerState.OK, "polled only")
            assert detail == f"{kill_file} is not there (polled only: Too many open files)"
            kill_file.touch()
            await button.next(1)

    async def test_a_file_system_that_hangs_is_blindness_stops_nothing_and_inotify_still_tells(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        over, real = threading.Event(), trigger.look

        def look(path: Path) -> trigger.FlagState:
            over.wait(10)
            return real(path)

        monkeypatch.setattr(offload, "HANGS_AFTER_S", 0.1)
        monkeypatch.setattr(trigger, "LOOK_WITHIN_S", 0.1)
        async with pressing(kill_file.path) as button:
            monkeypatch.setattr(trigger, "look", look)
            detail = await button.until(TriggerState.BLIND)
            assert detail == f"{kill_file}: its file system does not answer"
            await button.trigger.look()
            assert button.trigger.rearm_blocker() is None
            kill_file.touch()
            await button.next(1)
            assert "cannot see that it is gone" in str(button.trigger.rearm_blocker())
            kill_file.remove()
            over.set()
            await button.until(TriggerState.OK)

    async def test_a_path_that_cannot_be_looked_at_is_blindness_and_blocks_until_it_is_seen_or_forced(
        self, kill_file: Spot
    ) -> None:
        kill_file.touch()
        async with pressing(kill_file.path) as button:
            await button.next(1)
            kill_file.directory.move_to(kill_file.directory.beside("away"))
            kill_file.directory.link_to("run")  # a link to itself: ELOOP
            await button.trigger.look()
            assert str(button.trigger.rearm_blocker()).startswith(f"{kill_file} was there, and ")
            assert not isinstance(button.trigger.rearm_blocker(), Unseen)  # no force helps against what was seen
            button.trigger.on_rearmed()
            why = button.trigger.rearm_blocker()
            assert isinstance(why, Unseen)
            assert why.startswith(f"cannot see whether {kill_file} is there: Too many levels of symbolic links")
            assert await button.until(TriggerState.BLIND) == f"{kill_file}: Too many levels of symbolic links"
