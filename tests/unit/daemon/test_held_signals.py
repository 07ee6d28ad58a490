"""A signal's handler ends a start beside the main thread, and waits for nothing that the main thread holds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from kill_switch.daemon.held_signals import SignalHolder
from kill_switch.journal import latch_file
from tests.unit.daemon.test_reload import Play, anyio_backend, play  # noqa: F401 - fixtures


class Blocked(SignalHolder):
    """Its latches cannot be left before the main thread goes on, as behind an import that it is in."""

    def __init__(self, imports: threading.Lock) -> None:
        super().__init__()
        self._imports = imports

    def _write_latch(self, text: str, accounts: Sequence[str] | None) -> None:
        with self._imports:
            self.lines.append(text)


def test_a_term_behind_a_kill_signal_ends_the_process_only_when_the_latch_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imports, ended = threading.Lock(), threading.Event()
    left: list[str] = []
    held = Blocked(imports)

    def end(code: int) -> None:
        left.extend(held.lines)
        ended.set()

    monkeypatch.setattr(os, "_exit", end)
    with imports:
        held._on_signal(signal.SIGUSR1, None)
        held._on_signal(signal.SIGTERM, None)  # returns: an exception here would meet whatever is being imported
    assert ended.wait(5.0)
    assert left == ["operator: SIGUSR1"]


@pytest.mark.anyio
@pytest.mark.parametrize("is_visible", [False, True])  # before the disk answers
async def test_a_latch_that_the_disk_takes_after_the_start_has_handled_its_signal_trips_no_later_start(
    play: Play,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    is_visible: bool,
) -> None:
    disk_answers, is_written, append = threading.Event(), threading.Event(), latch_file.append_to_first

    def append_late(paths: Sequence[Path], line: bytes, *, sync: bool = False) -> list[str]:
        taken = append(paths, line, sync=sync) if is_visible else []
        disk_answers.wait()
        taken = taken or append(paths, line, sync=sync)
        is_written.set()
        return taken

    monkeypatch.setattr(latch_file, "append_to_first", append_late)
    monkeypatch.setattr("kill_switch.daemon.daemon._SETTLE_S", 0.0)
    signals = SignalHolder()
    signals.set_directories(play.state_dir, play.runtime_dir)
    signals.record(signal.SIGUSR1)
    async with play.running("a", signals=signals) as daemon:
        assert play.tripped() == ("a",)
        daemon.journal.latch_watch.request_look(1)
        await play.until(lambda: not daemon.journal.latch_watch.is_looking)
        daemon._adopt_latch()
        disk_answers.set()
        await play.until(is_written.is_set)
        await play.until(lambda: not (play.state_dir / latch_file.LATCH_NAME).exists())
        assert [reason["text"] for reason in play.entries("reason")] == ["SIGUSR1"]


@pytest.mark.anyio
async def test_a_signal_that_comes_when_no_kill_can_be_carried_out_any_more_trips_the_next_start(
    play: Play,  # noqa: F811
) -> None:
    async with play.running("a") as daemon:
        daemon._end()
        daemon._signal(signal.SIGUSR1)
        daemon._signals.settle()
        await play.until(lambda: daemon.journal.latch_watch.has_foreign_latch)
        daemon._adopt_latch()
        assert play.tripped() == ()
    async with play.running("a"):
        assert play.tripped() == ("a",)
