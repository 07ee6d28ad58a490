"""What is written before a kill's first commands: it outlives the process, and becomes a latch if nothing else has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from kill_switch.core.commands import AppendRecord
from kill_switch.core.domain import Reason, SweepTiming
from kill_switch.core.engine import step
from kill_switch.core.events import ReasonReported
from kill_switch.core.state import AccountState, State
from kill_switch.journal.journal import Journal
from kill_switch.journal.latch_file import LATCH_NAME as LATCH
from kill_switch.journal.latch_lines import parse_latch
from kill_switch.journal.write_ahead import NAME, WriteAheadNote, unrecorded
from tests.harness.core_playbook import at
from tests.harness.immediate_jobs import Prompt

pytestmark = pytest.mark.usefixtures("at_once")

BOTH = ("a", "b")


def reason(*accounts: str, text: str = "touched", ms: float = 0) -> Reason:
    return Reason("panic", text, accounts or BOTH, at(ms))


def made(said: Reason) -> AppendRecord:
    """Make a reason's record, as the engine does."""
    armed = State({name: AccountState(SweepTiming()) for name in BOTH})
    first = step(armed, ReasonReported(said, said.observed_at))[1][0]
    assert isinstance(first, AppendRecord)
    return first


def record(journal: Journal, said: Reason) -> bool:
    return journal.append_latch("reason", made(said).data, said.observed_at)


@pytest.fixture
def intent(dirs: tuple[Path, Path]) -> Iterator[WriteAheadNote]:
    write_ahead_note = WriteAheadNote(dirs[1] / NAME)
    yield write_ahead_note
    write_ahead_note.close()


def left(dirs: tuple[Path, Path]) -> bytes:
    return (dirs[1] / NAME).read_bytes()


def killed(journal: Journal) -> None:
    """Let go of a journal as the kernel does for a process that is gone."""
    os.close(journal._writer._fd)
    os.close(journal._lock)
    journal._write_ahead.close()


def found(dirs: tuple[Path, Path], known: tuple[str, ...] = BOTH) -> tuple[str, tuple[str, ...]] | None:
    """Say what latch the next process finds, and whom it trips."""
    opened = Prompt(*dirs)
    said = opened.foreign_latch()
    assert left(dirs) == b""  # whatever it said is in the latch file now
    killed(opened)
    return None if said is None else (parse_latch(said, known).text, parse_latch(said, known).accounts)


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_reason_is_in_the_file_when_it_is_noted_and_out_of_it_when_it_is_fulfilled(
    intent: WriteAheadNote, dirs: tuple[Path, Path]
) -> None:
    assert left(dirs) == b""
    assert intent.write(reason("a")) and intent.write(reason("b", ms=1))
    assert [orjson.loads(line)["accounts"] for line in left(dirs).splitlines()] == [["a"], ["b"]]
    intent.mark_recorded(made(reason("a")).data, 1)
    intent.truncate_if_recorded(1)
    assert left(dirs) != b""  # the other one is in no record
    intent.mark_recorded(made(reason("b", ms=1)).data, 2)
    intent.truncate_if_recorded(1)
    assert left(dirs) != b""  # its record is not in the journal yet
    intent.truncate_if_recorded(2)
    assert left(dirs) == b""
    assert intent.write(reason("b", ms=2))
    assert len(left(dirs).splitlines()) == 1


def test_the_note_is_private_to_its_user(intent: WriteAheadNote, dirs: tuple[Path, Path]) -> None:
    assert stat.S_IMODE((dirs[1] / NAME).stat().st_mode) == 0o600


def test_a_text_that_json_cannot_tell_is_noted_all_the_same(intent: WriteAheadNote, dirs: tuple[Path, Path]) -> None:
    assert intent.write(reason("a", text="half a character: \ud800"))
    assert orjson.loads(left(dirs))["accounts"] == ["a"]


def test_a_note_without_room_is_not_written_and_keeps_the_earlier_lines(
    intent: WriteAheadNote, dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert intent.write(reason("a"))
    before, real = left(dirs), os.write
    monkeypatch.setattr("kill_switch.journal.write_ahead.os.write", lambda fd, data: real(fd, data[:10]))
    assert not intent.write(reason("b"))
    assert left(dirs) == before

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kill_switch.journal.write_ahead.os.write", full)
    assert not intent.write(reason("b"))
    assert intent.trouble.endswith("No space left on device")
    monkeypatch.undo()
    intent.mark_recorded(made(reason("a")).data, 1)
    intent.truncate_if_recorded(1)
    assert intent.trouble == ""
    monkeypatch.setattr("kill_switch.journal.write_ahead.os.write", full)
    assert not intent.write(reason("b")) and intent.trouble
    intent.reopen_if_removed()
    assert intent.trouble == ""  # nobody is to be told of it for ever


def test_a_second_process_in_the_same_directory_takes_nothing_from_the_first(
    intent: WriteAheadNote, dirs: tuple[Path, Path], tmp_path: Path
) -> None:
    assert intent.write(reason("a"))
    (tmp_path / "other").mkdir()
    other = Prompt(tmp_path / "other", dirs[1])
    assert "another process holds it" in other.write_ahead_trouble and not other.trouble
    assert not other.note_ahead(reason("b")) and other.foreign_latch() is None
    other.close()
    assert orjson.loads(left(dirs))["accounts"] == ["a"]


def test_a_link_in_its_place_is_not_followed(dirs: tuple[Path, Path]) -> None:
    (dirs[0] / "precious").write_text("keep me")
    (dirs[1] / NAME).symlink_to(dirs[0] / "precious")
    intent = WriteAheadNote(dirs[1] / NAME)
    assert not intent.write(reason()) and "symbolic links" in intent.trouble
    assert (dirs[0] / "precious").read_text() == "keep me"


def test_a_file_that_was_removed_is_made_again(intent: WriteAheadNote, dirs: tuple[Path, Path]) -> None:
    intent.reopen_if_removed()
    (dirs[1] / NAME).unlink()
    intent.reopen_if_removed()
    assert intent.write(reason("a"))
    assert orjson.loads(left(dirs))["accounts"] == ["a"]


def test_a_directory_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    intent = WriteAheadNote(tmp_path / "run" / NAME)
    assert not intent.write(reason()) and "No such file" in intent.trouble
    intent.reopen_if_removed()
    (tmp_path / "run").mkdir()
    intent.reopen_if_removed()
    assert intent.write(reason()) and intent.trouble == ""
    intent.close()


def test_a_file_that_cannot_be_emptied_is_known_for_old_by_the_record(
    dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    opened = Prompt(*dirs)
    assert opened.note_ahead(reason("a")) and record(opened, reason("a"))
    monkeypatch.setattr("kill_switch.journal.write_ahead.os.ftruncate", fails)
    opened.flush()
    assert "Input/output error" in opened.write_ahead_trouble
    monkeypatch.undo()
    killed(opened)
    assert found(dirs) is None


# ── with the journal ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_intent_that_never_got_on_record_is_the_next_processs_latch(dirs: tuple[Path, Path]) -> None:
    opened = Prompt(*dirs)
    assert opened.note_ahead(reason("a"))
    killed(opened)
    assert found(dirs) == ("panic: touched", ("a",))
    assert found(dirs) == ("panic: touched", ("a",))  # until somebody takes it over


def test_an_intent_that_is_on_record_is_no_latch_though_it_was_not_emptied(dirs: tuple[Path, Path]) -> None:
    opened = Prompt(*dirs)
    assert opened.note_ahead(reason("a")) and record(opened, reason("a"))
    assert left(dirs) != b""  # a strike is waiting: not now
    killed(opened)
    assert found(dirs) is None


def test_of_two_intents_the_one_that_is_not_on_record_is_the_latch(dirs: tuple[Path, Path]) -> None:
    opened = Prompt(*dirs)
    assert opened.note_ahead(reason("a")) and record(opened, reason("a"))
    assert opened.note_ahead(reason("b", text="once more", ms=1))
    killed(opened)
    assert found(dirs) == ("panic: once more", ("b",))


def test_an_intent_without_a_record_is_kept_though_others_are_on_record(dirs: tuple[Path, Path]) -> None:
    opened = Prompt(*dirs)
    assert opened.note_ahead(reason("a"))  # and then the engine fails
    assert opened.note_ahead(reason("b", ms=1)) and record(opened, reason("b", ms=1))
    opened.flush()
    killed(opened)
    assert found(dirs) == ("panic: touched", ("a",))


def test_an_intent_that_never_became_a_record_is_this_processs_latch_soon(
    dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Prompt(*dirs)
    assert opened.note_ahead(reason("a"))  # and then the engine fails
    for directory in dirs:
        (directory / LATCH).mkdir()
    opened.retry_pending()
    opened.flush()
    assert left(dirs) != b""  # no latch can be left, and it is not forgotten
    for directory in dirs:
        (directory / LATCH).rmdir()
    opened.retry_pending()
    said = opened.foreign_latch()
    assert said is not None and said.count("\n") == 0 and parse_latch(said, BOTH).accounts == ("a",)
    opened.adopt_latch(said)
    opened.retry_pending()
    assert left(dirs) == b"" and opened.foreign_latch() is None
    opened.close()


def test_an_intent_that_meets_a_fault_while_the_one_before_is_being_left_is_left_too(dirs: tuple[Path, Path]) -> None:
    opened = Prompt(*dirs)
    assert opened.note_ahead(reason("a"))  # and then the engine fails
    opened.state.stuck = True
    opened.retry_pending()
    assert opened.note_ahead(reason("b", ms=1))  # once more
    opened.retry_pending()
    opened.state.stuck = False
    opened.state.go_on()
    opened.retry_pending()
    said = opened.foreign_latch()
    assert said is not None and parse_latch(said, BOTH).accounts == ("a", "b")
    assert left(dirs) == b""
    opened.close()


def test_a_file_that_cannot_be_opened_and_says_something_trips_everything_once(
    dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refused(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).name == NAME and Path(path).exists() and Path(path).stat().st_size:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode)

    (dirs[1] / NAME).write_bytes(b'{"text":"somebody else\'s"}\n')
    monkeypatch.setattr("kill_switch.journal.write_ahead.os.open", refused)
    assert found(dirs) == ("a latch was left in a file", BOTH)
    (dirs[0] / LATCH).unlink()
    assert found(dirs) is None  # it was removed, and made anew


def test_a_note_that_is_no_regular_file_or_was_removed_is_not_written(
    intent: WriteAheadNote, dirs: tuple[Path, Path]
) -> None:
    (dirs[1] / NAME).unlink()
    assert not intent.write(reason("a"))
    os.mkfifo(dirs[1] / NAME)
    intent.reopen_if_removed()
    assert not intent.write(reason("a")) and "not a file" in intent.trouble


def test_the_next_flush_removes_the_intents_that_are_on_record(dirs: tuple[Path, Path]) -> None:
    opened = Prompt(*dirs)
    assert opened.note_ahead(reason("a")) and record(opened, reason("a"))
    opened.flush()
    assert left(dirs) == b""
    opened.close()


def test_the_intent_is_kept_while_the_disk_takes_no_record(
    dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> int:
        if fd == opened._writer._fd:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    opened, real = Prompt(*dirs), os.write
    monkeypatch.setattr("kill_switch.journal.writer.os.write", full)
    assert opened.note_ahead(reason("a")) and not record(opened, reason("a"))
    opened.retry_pending()
    assert left(dirs) != b""
    monkeypatch.undo()
    opened.retry_pending()
    assert left(dirs) == b""
    opened.close()


def test_a_line_that_was_cut_trips_everything(dirs: tuple[Path, Path]) -> None:
    opened = Prompt(*dirs)
    record(opened, reason("a"))
    killed(opened)
    (dirs[1] / NAME).write_bytes(b'{"text":"panic: touched","acc')
    assert found(dirs) == ("a latch was left in a file", BOTH)


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"[]",
            b"1",
            b'"x"',
            b"null",
            b"nonsense",
            b"\xff",
            b"{}",
            b'{"mono_ns":1}',
            b'{"mono_ns":[],"accounts":[{}]}',
        ),
        b'{"mono_ns":1,"wall_ns":2,"accounts":["b"]}',  # of the same moment, and another one
    ],
)
def test_a_line_that_is_none_of_ours_is_not_on_record(line: bytes) -> None:
    entries = [{"kind": "reason", "data": {"observed_mono_ns": 1, "observed_wall_ns": 2, "accounts": ["a"]}}]
    assert unrecorded([line, b'{"mono_ns":1,"wall_ns":2,"accounts":["a"]}'], entries) == [line]


def test_an_intent_that_the_disk_takes_no_latch_of_becomes_one_in_memory(dirs: tuple[Path, Path]) -> None:
    opened = Prompt(*dirs)
    opened.note_ahead(reason("a"))
    killed(opened)
    (dirs[0] / LATCH).mkdir()  # nothing can be written there
    opened = Prompt(*dirs)
    assert parse_latch((dirs[1] / LATCH).read_text(), BOTH).accounts == ("a",)
    opened.close()


def test_an_intent_that_no_latch_can_be_made_of_keeps_the_daemon_from_starting(dirs: tuple[Path, Path]) -> None:
    opened = Prompt(*dirs)
    opened.note_ahead(reason("a"))
    killed(opened)
    for directory in dirs:
        (directory / LATCH).mkdir()
    with pytest.raises(Exception, match="panic: touched, and no latch can be left beside it"):
        Prompt(*dirs)
    assert left(dirs) != b""  # it is not forgotten
    for directory in dirs:
        (directory / LATCH).rmdir()
    assert found(dirs) == ("panic: touched", ("a",))
