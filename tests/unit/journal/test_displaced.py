"""A journal that is taken away, replaced or cut under the daemon, and a state directory that does not answer."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kill_switch.core import recovery
from kill_switch.core.commands import AppendRecord
from kill_switch.core.domain import Instant, Reason, SweepTiming
from kill_switch.core.engine import step
from kill_switch.core.events import ReasonReported, Reconfigured
from kill_switch.core.state import AccountState, State
from kill_switch.journal import journal
from kill_switch.journal.journal import Journal
from kill_switch.journal.latch_file import LATCH_NAME as LATCH
from kill_switch.journal.latch_lines import latched_accounts
from kill_switch.journal.write_ahead import NAME as INTENT
from tests.harness.core_playbook import at
from tests.harness.immediate_jobs import Prompt
from tests.unit.journal.test_journal import REASON, ByHand

Dirs = tuple[Path, Path]
ACCOUNTS = ("a", "b")


def remove_file(dirs: Dirs) -> None:
    (dirs[0] / journal.NAME).unlink()


def empty_directory(dirs: Dirs) -> None:
    for path in dirs[0].iterdir():
        path.unlink()


def remove_directory(dirs: Dirs) -> None:
    shutil.rmtree(dirs[0])


def rename_directory(dirs: Dirs) -> None:
    dirs[0].rename(dirs[0].with_name("elsewhere"))


def replace_directory(dirs: Dirs) -> None:
    rename_directory(dirs)
    dirs[0].mkdir()


def put_a_file_in_the_place_of_the_directory(dirs: Dirs) -> None:
    remove_directory(dirs)
    dirs[0].touch()


def copy_and_truncate(dirs: Dirs) -> None:
    shutil.copy(dirs[0] / journal.NAME, dirs[0] / "journal.jsonl.1")
    os.truncate(dirs[0] / journal.NAME, 0)


def cut(dirs: Dirs) -> None:
    os.truncate(dirs[0] / journal.NAME, 50)


def rename_another_over_it(dirs: Dirs) -> None:
    shutil.copy(dirs[0] / journal.NAME, dirs[0] / "copy")
    (dirs[0] / "copy").rename(dirs[0] / journal.NAME)


def write_into_it(dirs: Dirs) -> None:
    with (dirs[0] / journal.NAME).open("a") as file:
        file.write("\n")


WAYS = (
    remove_file,
    empty_directory,
    remove_directory,
    rename_directory,
    replace_directory,
    put_a_file_in_the_place_of_the_directory,
    copy_and_truncate,
    cut,
    rename_another_over_it,
    write_into_it,
)


@pytest.fixture
def opened(dirs: Dirs, at_once: None, monkeypatch: pytest.MonkeyPatch) -> Prompt:
    monkeypatch.setattr("kill_switch.journal.journal.FsyncThread", ByHand)
    prompt = Prompt(*dirs)
    prompt.append("start", {"triggers": {}}, at(0))
    prompt.flush()
    return prompt


def killed(opened: Journal) -> None:
    """Let go of a journal as the kernel does for a process that is gone."""
    opened._writer.close_file()
    opened._write_ahead.close()
    os.close(opened._lock)


def trips(dirs: Dirs) -> set[str]:
    """Start once more, as the daemon does; return the accounts that are tripped."""
    if dirs[0].is_file():
        dirs[0].unlink()
    dirs[0].mkdir(exist_ok=True)
    opened = Journal(*dirs)
    said = opened.foreign_latch()
    tripped = set(recovery.rebuild(opened.contents.entries, dict.fromkeys(ACCOUNTS, SweepTiming())).tripped)
    killed(opened)
    return tripped | set(() if said is None else latched_accounts(said, ACCOUNTS))


def touched(ms: float = 1) -> Reason:
    return Reason("panic", "touched", ("a",), at(ms))


def reported(opened: Journal, ms: float = 1) -> bool:
    """Do what the dispatcher does with a reason."""
    reason = touched(ms)
    opened.note_ahead(reason)
    observed = {"observed_mono_ns": reason.observed_at.mono_ns, "observed_wall_ns": reason.observed_at.wall_ns}
    return opened.append_latch("reason", {**REASON, **observed}, reason.observed_at)


@pytest.mark.parametrize("way", WAYS)
def test_a_reason_that_comes_when_the_journal_is_displaced_is_not_on_record_and_trips_the_next_start(
    way: Callable[[Dirs], None], opened: Prompt, dirs: Dirs
) -> None:
    way(dirs)
    assert not reported(opened)
    assert not opened.is_on_record
    assert "under the running daemon: nothing is on record" in opened.trouble
    assert (dirs[1] / LATCH).exists()
    assert (dirs[0] / LATCH).exists() == dirs[0].is_dir()
    assert (dirs[1] / INTENT).stat().st_size  # it stands, too
    assert opened.foreign_latch() is None  # our own
    killed(opened)
    assert "a" in trips(dirs)


@pytest.mark.parametrize("way", WAYS)
def test_a_latch_that_was_on_record_outlives_the_journal_that_had_it(
    way: Callable[[Dirs], None], opened: Prompt, dirs: Dirs
) -> None:
    reported(opened)
    opened.retry_pending()
    way(dirs)
    opened.retry_pending()
    opened.retry_pending()
    assert opened.displaced()
    assert sum("under the running daemon" in line for line in opened.announcements) == 1
    killed(opened)
    assert "a" in trips(dirs)


@pytest.mark.parametrize("way", WAYS)
def test_a_journal_that_is_displaced_between_the_look_and_the_write_is_noticed_by_the_same_write(
    way: Callable[[Dirs], None], opened: Prompt, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, times = os.write, 0

    def write(fd: int, data: bytes) -> int:
        nonlocal times
        times += 1
        if times == 1:
            way(dirs)
        return real(fd, data)

    opened.append("note", {}, at(1))
    monkeypatch.setattr("kill_switch.journal.writer.os.write", write)
    opened.flush()
    monkeypatch.undo()
    assert opened.displaced() and not opened.is_on_record
    killed(opened)
    assert trips(dirs) == set(ACCOUNTS)


def test_a_directory_that_is_made_again_gets_the_latch_too(opened: Prompt, dirs: Dirs) -> None:
    remove_directory(dirs)
    reported(opened)
    dirs[0].mkdir()
    opened.retry_pending()
    assert (dirs[0] / LATCH).exists()
    (dirs[1] / LATCH).unlink()  # the machine is started anew, and its memory is gone
    (dirs[1] / INTENT).unlink()
    killed(opened)
    assert trips(dirs) == set(ACCOUNTS)


def test_a_journal_that_is_put_back_goes_on_with_all_that_came_meanwhile(opened: Prompt, dirs: Dirs) -> None:
    rename_directory(dirs)
    reported(opened)
    opened.append("note", {}, at(2))
    opened.retry_pending()
    assert not opened.is_on_record
    dirs[0].with_name("elsewhere").rename(dirs[0])
    opened.retry_pending()
    assert opened.is_on_record and opened.trouble == ""
    assert [entry["kind"] for entry in journal.read_journal(opened.path).entries] == ["start", "reason", "note"]
    assert isinstance(opened._writer.syncing, ByHand)
    opened._writer.syncing.once()
    opened.retry_pending()
    assert not (dirs[1] / LATCH).exists()
    assert (dirs[1] / INTENT).stat().st_size == 0
    assert "there again" in opened.announcements[-1]
    killed(opened)
    assert trips(dirs) == {"a"}


def test_a_re_arm_is_not_on_record_while_the_journal_is_displaced(opened: Prompt, dirs: Dirs) -> None:
    reported(opened)
    remove_file(dirs)
    assert opened.append_latch("rearm", {"accounts": ("a",)}, at(2)) is False
    assert not opened.is_on_record
    killed(opened)
    assert "a" in trips(dirs)


# ── a directory that does not answer ──────────────────────────────────────────────────────────────────────────────


def test_a_reason_waits_for_nothing_while_the_state_directory_hangs(opened: Prompt, dirs: Dirs) -> None:
    opened.state.stuck = True
    opened.retry_pending()
    assert opened.trouble == f"the state directory {dirs[0]} does not answer"
    assert reported(opened) is False  # what stands is the intent, and a power cut would take it
    assert (dirs[1] / INTENT).stat().st_size
    opened.retry_pending()
    opened.retry_pending()
    assert sum("does not answer" in line for line in opened.announcements) == 1
    opened.state.stuck = False
    opened.state.go_on()
    opened.retry_pending()
    assert opened.trouble == "" and opened.is_on_record
    assert (dirs[1] / INTENT).stat().st_size == 0
    opened.close()
    assert trips(dirs) == {"a"}


def test_a_process_that_is_killed_while_its_directory_hangs_has_left_the_intent(opened: Prompt, dirs: Dirs) -> None:
    opened.state.stuck = True
    reported(opened)
    killed(opened)
    assert trips(dirs) == {"a"}


def test_a_reason_whose_intent_cannot_be_noted_is_left_in_the_runtime_directory_while_the_other_one_hangs(
    opened: Prompt, dirs: Dirs
) -> None:
    (dirs[1] / INTENT).unlink()
    opened.retry_pending()
    assert isinstance(opened._writer.syncing, ByHand)
    opened._writer.syncing.once()  # the disk has what was before
    (dirs[1] / INTENT).unlink()
    opened.state.stuck = True
    assert reported(opened) is False
    assert latched_accounts((dirs[1] / LATCH).read_text(), ACCOUNTS) == ("a",)
    opened.state.stuck = False
    opened.state.go_on()
    opened.retry_pending()
    assert opened.is_on_record
    assert (dirs[1] / LATCH).exists()  # until the disk itself has the record
    killed(opened)
    assert trips(dirs) == {"a"}


def test_another_login_that_a_directory_which_hangs_does_not_take_is_left_for_its_account_alone(
    opened: Prompt, dirs: Dirs
) -> None:
    state = State({name: AccountState(SweepTiming()) for name in ACCOUNTS})
    state, _ = step(state, ReasonReported(Reason("flag", "it is there", ("a",), at(0)), at(0)))
    change = Reconfigured(dict.fromkeys(ACCOUNTS, SweepTiming()), frozenset({"a"}), 1, at(1), {}, {"a": ()})
    _, (record, *_) = step(state, change)
    assert isinstance(record, AppendRecord) and record.latch
    opened.state.stuck = True
    opened.retry_pending()
    assert opened.append_latch(record.kind, record.data, at(1)) is False
    said = (dirs[1] / LATCH).read_text()
    assert latched_accounts(said, ACCOUNTS) == ("a",)
    assert "tripped accounts have other logins or names now" in said


def test_the_memory_that_a_directory_which_hangs_may_take_is_bounded_and_no_reason_is_left_out(
    opened: Prompt, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_switch.journal.record_queue.MAX_HELD", 10)
    opened.state.stuck = True
    for n in range(100):
        opened.append("read", {"n": n}, at(n))
        opened.flush()
        opened.retry_pending()
    reported(opened, 101)
    assert len(opened._writer.inbox) == 11
    assert len(opened.state.waiting) < 5
    opened.state.stuck = False
    opened.state.go_on()
    opened.close()
    assert journal.read_journal(opened.path).entries[-1]["kind"] == "reason"


class Hanging:
    """Stand in for a call into a file system that does not answer until it is let go."""

    def __init__(self, real: Callable[..., object], where: Path) -> None:
        self.hangs, self.let_go = threading.Event(), threading.Event()
        self._real, self._where = real, where

    def __call__(self, target: object, *arguments: object, **more: object) -> object:
        about = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
        if about.startswith(str(self._where)):
            assert threading.current_thread() is not threading.main_thread(), "the event loop waits"
            self.hangs.set()
            assert self.let_go.wait(10)
        return self._real(target, *arguments, **more)


@pytest.fixture
def threaded(dirs: Dirs) -> Iterator[Journal]:
    made = Journal(*dirs)
    made.append("start", {"triggers": {}}, at(0))
    made.sync()
    until(lambda: made.is_on_record)
    yield made
    made.close()


def until(true: Callable[[], bool]) -> None:
    for _ in range(5000):
        if true():
            return
        time.sleep(0.001)
    raise AssertionError("it did not come to that")


@pytest.mark.parametrize(
    "call", ["stat", "fstat", "write", "open", "fdatasync", "fsync", "pwrite", "ftruncate", "unlink"]
)
def test_whatever_call_hangs_in_the_state_directory_no_reason_and_no_look_waits_for_it(
    call: str, threaded: Journal, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging(getattr(os, call), dirs[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, call, hanging)
        for ms in range(3):
            reported(threaded, ms)
            threaded.sync()
            threaded.flush()
            threaded.retry_pending()
            assert threaded.foreign_latch() is None
            assert isinstance(threaded.trouble + threaded.sync_trouble, str)
            assert threaded.figures(Instant(0, 0).mono_ns).unwritten >= 0
            threaded.displaced()
        hanging.let_go.set()
    threaded.sync()
    until(lambda: threaded.is_on_record)
    entries = journal.read_journal(threaded.path).entries
    assert [entry["kind"] for entry in entries] == ["start", "reason", "reason", "reason"]


def test_a_record_that_must_survive_the_process_goes_to_the_thread_at_once(threaded: Journal) -> None:
    threaded.append_latch("pnl", {"trigger": "loss"}, at(5))
    until(lambda: journal.read_journal(threaded.path).entries[-1]["kind"] == "pnl")


def test_a_reason_whose_intent_cannot_be_noted_waits_for_its_record_within_a_bound(
    threaded: Journal, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (dirs[1] / INTENT).unlink()
    assert reported(threaded)  # the disk is well: it is in the file when this returns
    assert journal.read_journal(threaded.path).entries[-1]["kind"] == "reason"
    hanging = Hanging(os.write, dirs[0])
    monkeypatch.setattr(os, "write", hanging)
    threaded.append("note", {}, at(5))
    threaded.sync()
    assert hanging.hangs.wait(10)
    began_s = time.monotonic()
    assert not reported(threaded, 7)
    assert time.monotonic() - began_s < 2.0
    assert (dirs[1] / LATCH).exists()
    hanging.let_go.set()
