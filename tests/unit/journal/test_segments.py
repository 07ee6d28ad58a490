"""A journal of many files: when one is begun, what is read of them, what is lost and found, what is displaced."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from kill_switch.core import recovery
from kill_switch.core.domain import SweepTiming
from kill_switch.errors import JournalBroken
from kill_switch.journal import journal, segments
from kill_switch.journal.checkpoint import KIND, JournalSnapshot
from kill_switch.journal.journal import GENESIS, Journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.latch_lines import latched_accounts
from kill_switch.journal.records import Entry
from kill_switch.journal.segments import NEXT, JournalReader
from tests.harness.core_playbook import at
from tests.harness.immediate_jobs import Prompt
from tests.harness.recovered import tripped_accounts
from tests.unit.journal.test_journal import REASON, ByHand

pytestmark = pytest.mark.usefixtures("at_once", "small")

Dirs = tuple[Path, Path]
FULL = 3_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files that are full soon, also in the middle of a kill."""
    monkeypatch.setattr("kill_switch.journal.writer.FULL_BYTES", FULL)
    monkeypatch.setattr("kill_switch.journal.writer._CALM_NS", 0)
    monkeypatch.setattr("kill_switch.journal.journal.FsyncThread", ByHand)


def killed(opened: Journal) -> None:
    """Let go of a journal as the kernel does for a process that is gone."""
    opened._writer.close_file()
    opened._write_ahead.close()
    os.close(opened._lock)


def fill(opened: Journal, files: int = 1, kind: str = "note") -> None:
    """Append until so many files more are full."""
    wanted = len(segments.full_segments(opened.path.parent)) + files
    for n in range(10_000):
        opened.append(kind, {"n": n}, at(n))
        opened.flush()
        if not n % 5:
            opened.retry_pending()
            if len(segments.full_segments(opened.path.parent)) >= wanted:
                return
    raise AssertionError("no file was ever full")


def whole(dirs: Dirs) -> list[Entry]:
    return list(JournalReader(dirs[0] / journal.NAME).entries())


def trips(dirs: Dirs) -> set[str]:
    """Start once more and say which of the accounts a and b would be tripped, by the journal or by a latch."""
    opened = Journal(*dirs)
    said = opened.foreign_latch()
    tripped = set(recovery.rebuild(opened.contents.entries, {"a": SweepTiming(), "b": SweepTiming()}).tripped)
    killed(opened)
    return tripped | set(() if said is None else latched_accounts(said, ("a", "b")))


@pytest.fixture
def opened(dirs: Dirs) -> Iterator[Prompt]:
    prompt = Prompt(*dirs)
    yield prompt
    prompt.close()


# ── the next file ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_file_gets_a_number_and_the_next_one_begins_with_a_checkpoint_and_the_chain_goes_on(
    opened: Prompt, dirs: Dirs
) -> None:
    opened.append_latch("reason", REASON, at(0))
    fill(opened, 3)
    names = [path.name for path in segments.full_segments(dirs[0])]
    assert names == ["journal-000001.jsonl", "journal-000002.jsonl", "journal-000003.jsonl"]
    firsts = [segments.read_journal(path).entries[0]["kind"] for path in segments.full_segments(dirs[0])]
    assert firsts == ["reason", KIND, KIND]
    entries = whole(dirs)
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert all(path.stat().st_size < 3 * FULL for path in dirs[0].iterdir())
    assert not (dirs[0] / NEXT).exists()


def test_a_start_reads_only_the_last_file_and_has_the_state_of_all_files(dirs: Dirs) -> None:
    first = Prompt(*dirs)
    first.append_latch("reason", REASON, at(0))
    first.append("pnl", {"trigger": "loss", "day": "today"}, at(1))
    fill(first, 2)
    first.close()
    entries = whole(dirs)
    for path in segments.full_segments(dirs[0]):
        path.unlink()  # a start needs none of them
    second = Prompt(*dirs)
    second.append("start", {"triggers": {}}, at(9))
    second.close()
    assert second.foreign_latch() is None
    paces = {"a": SweepTiming(), "b": SweepTiming()}
    assert recovery.rebuild(second.contents.entries, paces) == recovery.rebuild(entries, paces)
    assert ReportBuilder(1, second.contents.entries).render() == ReportBuilder(1, entries).render()
    assert [entry["data"] for entry in second.contents.entries if entry["kind"] == "pnl"] == [
        {"trigger": "loss", "day": "today"}
    ]
    assert segments.read_journal(second.path).entries[-1]["seq"] == len(entries) + 1


def test_no_file_is_begun_in_the_middle_of_a_kill(dirs: Dirs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.journal.writer._CALM_NS", 10**15)
    prompt = Prompt(*dirs)
    for n in range(20):
        prompt.append("note", {"n": n}, at(n))
    prompt.append_latch("reason", REASON, at(0))
    prompt.retry_pending()
    assert segments.full_segments(dirs[0]) == []
    for n in range(60):  # one that never ends keeps no file for ever
        prompt.append("note", {"n": n}, at(n))
    prompt.retry_pending()
    assert len(segments.full_segments(dirs[0])) == 1
    prompt.close()


def test_a_journal_without_a_checkpoint_that_is_longer_than_a_file_is_cut_at_the_first_look(dirs: Dirs) -> None:
    written(dirs, 10_000)
    chunks: list[None] = []
    prompt = Prompt(*dirs, lambda: chunks.append(None))
    assert len(chunks) == prompt.path.stat().st_size // segments.CHUNK > 1  # systemd is to wait for that
    prompt.retry_pending()
    assert len(segments.full_segments(dirs[0])) == 1
    assert prompt.path.stat().st_size < FULL
    prompt.close()
    assert len(whole(dirs)) == 10_001


@pytest.mark.parametrize("way", ["open", "write", "fsync", "link", "rename"])
def test_a_failure_to_begin_a_file_is_reported_and_the_old_file_goes_on(
    way: str, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = Prompt(*dirs)
    real = getattr(os, way)

    def fails(*arguments: Any, **more: Any) -> Any:
        about = [
            os.readlink(f"/proc/self/fd/{argument}") if isinstance(argument, int) else str(argument)
            for argument in arguments[:1]
        ]
        if any(name.endswith(NEXT) for name in about) or way == "link":
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return real(*arguments, **more)

    for n in range(60):
        prompt.append("note", {"n": n}, at(n))
    with monkeypatch.context() as patch:
        patch.setattr(f"kill_switch.journal.writer.os.{way}", fails)
        prompt.retry_pending()
        assert "the next file cannot be begun: Disk quota exceeded" in prompt.trouble
        prompt.append_latch("reason", REASON, at(1))
        assert prompt.is_on_record
        patch.setattr("kill_switch.journal.writer._AGAIN_NS", 0)
        prompt.retry_pending()
    monkeypatch.setattr(prompt._writer, "_rotate_ns", 0)
    prompt.retry_pending()
    assert prompt.trouble == ""
    assert [path.name for path in segments.full_segments(dirs[0])] == ["journal-000001.jsonl"]
    prompt.close()
    assert trips(dirs) == {"a"}
    assert [entry["seq"] for entry in whole(dirs)] == list(range(1, 63))


class Died(BaseException):
    """The process is gone, in the middle of what it did."""


def test_a_process_killed_at_any_step_of_a_rotation_loses_no_record_and_trips_no_account(
    dirs: Dirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = ("open", "write", "fsync", "link", "rename", "close")
    for latched in (False, True):
        for step in range(100):
            shutil.rmtree(dirs[0])
            dirs[0].mkdir()
            prompt, left = Prompt(*dirs), step
            if latched:
                prompt.append_latch("reason", REASON, at(0))
            for n in range(60):
                prompt.append("note", {"n": n}, at(n))
            prompt.flush()

            def dying(real: Callable[..., Any]) -> Callable[..., Any]:
                def call(*arguments: Any, **more: Any) -> Any:
                    nonlocal left
                    left -= 1
                    if left < 0:
                        raise Died
                    return real(*arguments, **more)

                return call

            with monkeypatch.context() as patch:
                for way in ways:
                    patch.setattr(f"kill_switch.journal.writer.os.{way}", dying(getattr(os, way)))
                try:
                    prompt.retry_pending()
                    died = False
                except Died:
                    died = True
            killed(prompt)
            assert trips(dirs) == ({"a"} if latched else set()), step
            again = Prompt(*dirs)
            assert not (dirs[0] / NEXT).exists()
            again.append("start", {}, at(70))
            again.close()
            assert whole(dirs)[-1]["kind"] == "start", step
            if not died:
                break
        else:
            raise AssertionError("it never came to its end")


def test_a_broken_journal_is_set_aside_with_the_files_that_were_full(dirs: Dirs) -> None:
    first = Prompt(*dirs)
    fill(first, 2)
    first.append("note", {"n": 1}, at(0))
    first.close()
    first.path.write_bytes(first.path.read_bytes().replace(b'"n":1', b'"n":2'))
    assert trips(dirs) == {"a", "b"}
    assert segments.full_segments(dirs[0]) == []
    assert len(list(dirs[0].glob("journal-00000?.jsonl.broken-*"))) == 2


def test_a_journal_that_is_gone_while_full_files_are_there_trips(dirs: Dirs) -> None:
    first = Prompt(*dirs)
    fill(first)
    first.close()
    first.path.unlink()
    (dirs[0] / "lock").unlink()  # nor does anything else say that there was one
    assert trips(dirs) == {"a", "b"}


def test_a_daemon_starts_although_the_next_files_name_is_taken(dirs: Dirs) -> None:
    (dirs[0] / NEXT).mkdir()
    prompt = Prompt(*dirs)
    for n in range(60):
        prompt.append("note", {"n": n}, at(n))
    prompt.retry_pending()
    assert "the next file cannot be begun: Is a directory" in prompt.trouble
    assert prompt.is_on_record
    prompt.close()


def test_a_checkpoint_that_was_changed_trips(dirs: Dirs) -> None:
    first = Prompt(*dirs)
    first.append_latch("reason", REASON, at(0))
    fill(first)
    first.close()
    first.path.write_bytes(first.path.read_bytes().replace(b'"a":["k1', b'"z":["k1', 1))
    assert trips(dirs) == {"a", "b"}


# ── reading all of them ───────────────────────────────────────────────────────────────────────────────────────────


def damaged(dirs: Dirs, damage: Callable[[list[Path]], object]) -> JournalBroken:
    prompt = Prompt(*dirs)
    fill(prompt, 3)
    prompt.append("note", {}, at(0))
    prompt.close()
    damage(segments.full_segments(dirs[0]))
    with pytest.raises(JournalBroken) as raised:
        whole(dirs)
    return raised.value


def test_a_file_that_is_missing_in_the_middle_is_found(dirs: Dirs) -> None:
    broken = damaged(dirs, lambda files: files[1].unlink())
    assert (broken.file, broken.line) == ("journal-000003.jsonl", 1)
    assert broken.why.endswith("are missing: a file before it is not here")
    assert trips(dirs) == set()  # the start needs it for nothing


def test_a_file_that_was_changed_in_the_middle_is_found_at_its_line(dirs: Dirs) -> None:
    def change(files: list[Path]) -> None:
        lines = files[1].read_bytes().splitlines(keepends=True)
        files[1].write_bytes(b"".join([*lines[:4], lines[4].replace(b"note", b"nota"), *lines[5:]]))

    broken = damaged(dirs, change)
    assert str(broken) == "journal-000002.jsonl line 5: its hash does not fit its content"


def test_a_file_that_was_cut_in_the_middle_is_found(dirs: Dirs) -> None:
    broken = damaged(dirs, lambda files: os.truncate(files[0], files[0].stat().st_size - 5))
    assert (broken.file, broken.why) == ("journal-000001.jsonl", "is cut off")


def test_files_that_were_archived_from_the_first_on_leave_a_chain_that_holds(opened: Prompt, dirs: Dirs) -> None:
    opened.append_latch("reason", REASON, at(0))
    fill(opened, 3)
    for path in segments.full_segments(dirs[0])[:2]:
        path.unlink()
    reading = JournalReader(opened.path)
    count = sum(1 for _ in reading.entries())
    assert reading.chain.first > 1
    assert reading.chain.seq == reading.chain.first + count - 1
    assert segments.read_reports(opened.path, 1)[0].kill_ids() == ("k1-1700000000",)


def test_following_goes_over_from_file_to_file(opened: Prompt, dirs: Dirs) -> None:
    opened.append("note", {}, at(0))
    opened.flush()
    writes: Iterator[Callable[[], object]] = iter(
        [lambda: fill(opened), lambda: fill(opened, 3), lambda: opened.append_latch("reason", REASON, at(0))]
    )
    followed = JournalReader(opened.path).entries(lambda: next(writes)())
    seen = []
    for entry in followed:
        seen.append(entry["seq"])
        if entry["kind"] == "reason":
            break
    assert seen == list(range(1, len(seen) + 1))
    assert len(segments.full_segments(dirs[0])) == 4


def test_a_file_that_becomes_full_while_it_is_read_is_read_once(opened: Prompt, dirs: Dirs) -> None:
    fill(opened)
    reading = JournalReader(opened.path).entries()
    seen = [next(reading)["seq"]]
    fill(opened)
    seen += [entry["seq"] for entry in reading]
    assert seen == list(range(1, seen[-1] + 1))
    assert seen[-1] == segments.read_journal(segments.full_segments(dirs[0])[1]).entries[-1]["seq"]


def test_reports_are_read_from_all_files(opened: Prompt, dirs: Dirs) -> None:
    for number in range(3):
        opened.append_latch("reason", {**REASON, "kill": f"k{number}-1"}, at(0))
        fill(opened)
    assert segments.read_reports(opened.path, 1)[0].kill_ids() == ("k0-1", "k1-1", "k2-1")


# ── how much a start reads ────────────────────────────────────────────────────────────────────────────────────────


def written(dirs: Dirs, records: int, bytes_a_file: int = 0) -> None:
    """Write a journal fast: one latch, and notes; in files of that size, each with its checkpoint, or in one."""
    path, snapshot, prev, seq, size = dirs[0] / journal.NAME, JournalSnapshot(), GENESIS, 0, 0
    checkpoint, number, lines = b"", 1, list[bytes]()

    def line(kind: bytes, data: bytes) -> None:
        nonlocal prev, seq, size
        seq += 1
        stamps = b'"at":"2026-01-01T00:00:00.000000Z","mono_ns":1,"boot":"b"'
        body = b'{"seq":%d,%b,"kind":"%b","data":%b,"prev":"%b"' % (seq, stamps, kind, data, prev.encode())
        prev = hashlib.sha256(body + b"}").hexdigest()
        lines.append(b'%b,"hash":"%b"}\n' % (body, prev.encode()))
        size += len(lines[-1])

    line(b"reason", orjson.dumps(REASON))
    snapshot.apply(orjson.loads(lines[0]))
    checkpoint = orjson.dumps(snapshot.to_json())
    for _ in range(records - 1):
        line(b"note", b'{"account":"a","kill":"k1-1700000000","evidence":"as it is written, again and again"}')
        if bytes_a_file and size > bytes_a_file:
            (dirs[0] / segments.segment_name(number)).write_bytes(b"".join(lines))
            lines.clear()
            number, size = number + 1, 0
            line(KIND.encode(), checkpoint)
    path.write_bytes(b"".join(lines))
    (dirs[0] / "lock").write_text("a journal stands beside this\n")


def bytes_read(work: Callable[[], object]) -> int:
    def rchar() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = rchar()
    work()
    return rchar() - before


@pytest.mark.timeout(60)  # most of it is the writing
def test_a_start_reads_no_more_than_a_mebibyte_of_a_million_records(dirs: Dirs) -> None:
    def start() -> None:
        prompt = Prompt(*dirs)
        assert tripped_accounts(prompt.contents.entries) == (frozenset("a") if full else frozenset())
        prompt.retry_pending()
        killed(prompt)

    full = False
    empty = bytes_read(start)
    written(dirs, 1_000_000, 1 << 19)
    full = True
    assert bytes_read(start) - empty < 1 << 20
