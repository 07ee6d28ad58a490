"""The record: chained, verified, torn, tampered with, on a full disk, left beside, followed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from kill_switch import clock
from kill_switch.core.domain import SweepTiming
from kill_switch.core.records import LatchRecord
from kill_switch.core.recovery import rebuild
from kill_switch.errors import AlreadyRunning, CannotCreate, JournalBroken
from kill_switch.journal import journal
from kill_switch.journal.fsync import FsyncThread
from kill_switch.journal.journal import GENESIS, Journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.latch_file import LATCH_NAME as LATCH
from kill_switch.journal.latch_file import leave_latch, sync_latch
from kill_switch.journal.latch_lines import latch_text, latched_accounts, latched_unknown_accounts, parse_latch
from kill_switch.journal.segments import JournalReader
from tests.harness.core_playbook import at, reason
from tests.harness.immediate_jobs import Prompt
from tests.harness.recovered import tripped_accounts as latched_by

pytestmark = pytest.mark.usefixtures("at_once")

REASON: dict[str, object] = {
    "kill": "k1-1700000000",
    "trigger": "panic",
    "text": "touched",
    "accounts": ("a",),
    "evidence": {"path": "/run/KILL"},
    "observed_mono_ns": at(0).mono_ns,
    "observed_wall_ns": at(0).wall_ns,
}


class Disk:
    """Stand in for the kernel's `write`: full while `room` is 0, and short where it is less than is asked for."""

    def __init__(self, write: Callable[[int, bytes], int]) -> None:
        self.room: int | None = None
        self.where: Path | None = None  # only there
        self._write = write

    def __call__(self, fd: int, data: bytes) -> int:
        elsewhere = self.where is not None and Path(os.readlink(f"/proc/self/fd/{fd}")).parent != self.where
        if self.room is None or elsewhere:
            return self._write(fd, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(fd, data[: self.room])


def no_sync(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(os.write)
    monkeypatch.setattr("kill_switch.journal.writer.os.write", made)
    return made


def latched(opened: Journal) -> tuple[str, tuple[str, ...]]:
    """Say what latch stands beside a journal, and which of three accounts it trips."""
    said = opened.foreign_latch()
    assert said is not None
    return latch_text(said), latched_accounts(said, ("a", "b", "c"))


@pytest.fixture
def opened(dirs: tuple[Path, Path]) -> Iterator[Prompt]:
    prompt = Prompt(*dirs)
    yield prompt
    prompt.close()


class ByHand(FsyncThread):
    """Sync when the test says so."""

    def __init__(self, fd: int, size: int, beside: Callable[[], None]) -> None:
        super().__init__(fd, size, beside, begin=lambda thread: None)

    def request(self, size: int) -> None:
        super().request(size)
        self._wakeup_sent = False

    def once(self) -> None:
        self._sync_once()

    def close(self, size: int, within_s: float) -> None: ...


class SyncedByHand(Prompt):
    def __init__(self, state_dir: Path, runtime_dir: Path) -> None:
        super().__init__(state_dir, runtime_dir, syncer=ByHand)

    @property
    def syncing(self) -> ByHand:
        assert isinstance(self._writer.syncing, ByHand)
        return self._writer.syncing

    def synced(self) -> None:
        """Have the disk do what it was asked for, if it was."""
        self.syncing.once()

    def put_on_disk(self) -> None:
        """Let everything that goes on beside come to its end."""
        self.retry_pending()
        self.synced()
        self.retry_pending()


@pytest.fixture
def by_hand(dirs: tuple[Path, Path]) -> Iterator[SyncedByHand]:
    synced_by_hand = SyncedByHand(*dirs)
    yield synced_by_hand
    synced_by_hand.close()


def write(dirs: tuple[Path, Path], *kinds: str) -> Path:
    """Leave a journal with these records, and nobody who holds it."""
    with_lock = Prompt(*dirs)
    for n, kind in enumerate(kinds):
        with_lock.append(kind, REASON if kind == "reason" else {"n": n}, at(n))
    with_lock.close()
    return with_lock.path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def kinds(path: Path) -> list[str]:
    replay = journal.read_journal(path)
    assert replay.broken is None
    return [entry["kind"] for entry in replay.entries]


def rewritten(line: bytes, **changes: object) -> bytes:
    """Change a record and make its hash fit again, as somebody would who knows how."""
    entry: dict[str, Any] = {**orjson.loads(line), **changes}
    del entry["hash"]
    body = orjson.dumps(entry)
    return b'%b,"hash":"%b"}' % (body[:-1], hashlib.sha256(body).hexdigest().encode())


# ── what is written ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert journal.read_journal(tmp_path / "none") == journal.JournalContents([], 0, b"", None)


def test_records_are_numbered_chained_and_stamped_with_both_clocks_and_the_boot(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "reason")
    first, second = (orjson.loads(line) for line in lines(path))
    assert list(first) == ["seq", "at", "mono_ns", "boot", "kind", "data", "prev", "hash"]
    assert (first["seq"], first["kind"], first["data"], first["prev"]) == (1, "start", {"n": 0}, GENESIS)
    assert (first["at"], first["mono_ns"]) == ("2023-11-14T22:13:20.000000Z", at(0).mono_ns)
    assert first["boot"] == clock.boot_id()
    assert (second["seq"], second["prev"]) == (2, first["hash"])
    body, _, end = lines(path)[0].rpartition(b',"hash":')
    assert orjson.loads(end[:-1]) == hashlib.sha256(body + b"}").hexdigest()


def test_a_journal_that_was_closed_reads_back_whole(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "reason", "stop")
    replay = journal.read_journal(path)
    assert [entry["kind"] for entry in replay.entries] == ["start", "reason", "stop"]
    assert (replay.size, replay.torn, replay.broken) == (path.stat().st_size, b"", None)


def test_the_chain_goes_on_over_restarts(dirs: tuple[Path, Path]) -> None:
    write(dirs, "start", "stop")
    path = write(dirs, "start", "stop")
    replay = journal.read_journal(path)
    assert replay.broken is None
    assert [entry["seq"] for entry in replay.entries] == [1, 2, 3, 4]


def test_a_latch_is_in_the_file_when_the_call_returns(opened: Prompt) -> None:
    opened.append("start", {}, at(0))
    assert opened.append_latch("reason", REASON, at(1)) is True
    assert kinds(opened.path) == ["start", "reason"]


def test_other_records_wait_for_the_flush(opened: Prompt) -> None:
    opened.append("answer", {}, at(0))
    assert kinds(opened.path) == []
    assert opened.flush() is True
    assert kinds(opened.path) == ["answer"]
    assert opened.flush() is True


def test_a_listener_gets_every_record_as_it_is_read_back_later(opened: Prompt) -> None:
    entries: list[journal.Entry] = []
    opened.deliver_to(entries.append)
    opened.append_latch("reason", {"n": 1}, at(0))
    assert entries == []  # a strike is waiting
    opened.flush()
    (entry,) = journal.read_journal(opened.path).entries
    assert entries == [{key: entry[key] for key in ("at", "mono_ns", "boot", "kind", "data")}]


def test_a_value_that_json_cannot_represent_is_written_as_text_and_the_other_fields_are_whole(opened: Prompt) -> None:
    evidence = {"big": 1 << 80, 7: "a key that is a number", "half a character": "\ud800"}
    assert opened.append_latch("reason", {**REASON, "evidence": evidence}, at(0)) is True
    (entry,) = journal.read_journal(opened.path).entries
    assert entry["data"]["accounts"] == ["a"]
    assert entry["data"]["evidence"] == ascii(evidence)


def test_values_that_are_not_jsons_own_become_their_text(opened: Prompt) -> None:
    opened.append_latch("start", {"path": Path("/run/KILL")}, at(0))
    assert journal.read_journal(opened.path).entries[0]["data"] == {"path": "/run/KILL"}


def test_a_reason_with_evidence_that_json_cannot_tell_trips_reports_and_survives_the_restart(
    opened: Prompt,
) -> None:
    reports = ReportBuilder(250_000)
    opened.deliver_to(reports.take)
    opened.append_latch("reason", {**REASON, "text": "half a character: \ud800", "evidence": {1: 1 << 80}}, at(0))
    opened.flush()
    assert reports.last == "k1-1700000000"
    assert rebuild(journal.read_journal(opened.path).entries, {"a": SweepTiming()}).tripped == ("a",)


# ── tampering ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _edited(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], all_lines[2].replace(b'"n":2', b'"n":9'), *all_lines[3:]]


def _rehashed(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], rewritten(all_lines[2], data={"n": 9}), *all_lines[3:]]


def _renumbered_and_rehashed(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], rewritten(all_lines[3], seq=3), *all_lines[4:]]


def _removed(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], *all_lines[3:]]


def _doubled(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:3], *all_lines[2:]]


def _swapped(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], all_lines[3], all_lines[2], *all_lines[4:]]


def _foreign(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], b"not JSON at all", *all_lines[3:]]


def _other_json(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], b"[1, 2]", *all_lines[3:]]


def _key_missing(all_lines: list[bytes]) -> list[bytes]:
    entry = orjson.loads(all_lines[2])
    del entry["boot"]
    return [*all_lines[:2], orjson.dumps(entry), *all_lines[3:]]


def _key_added(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], rewritten(all_lines[2], note="x"), *all_lines[3:]]


def _data_of_another_kind(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], rewritten(all_lines[2], data=[1]), *all_lines[3:]]


def _blank(all_lines: list[bytes]) -> list[bytes]:
    return [*all_lines[:2], b"", *all_lines[3:]]


def _hash_moved_to_the_front(all_lines: list[bytes]) -> list[bytes]:
    entry = orjson.loads(all_lines[2])
    return [*all_lines[:2], orjson.dumps({"hash": entry.pop("hash"), **entry}), *all_lines[3:]]


@pytest.mark.parametrize(
    ("tamper", "line", "why"),
    [
        (_edited, 3, "its hash does not fit its content"),
        (_rehashed, 4, "does not follow from the line before"),
        (_renumbered_and_rehashed, 3, "does not follow from the line before"),
        (_removed, 3, "is numbered 4: a record is missing or doubled"),
        (_doubled, 4, "is numbered 3: a record is missing or doubled"),
        (_swapped, 3, "is numbered 4: a record is missing or doubled"),
        (_foreign, 3, "not JSON"),
        (_other_json, 3, "not a journal record"),
        (_key_missing, 3, "not a journal record"),
        (_key_added, 3, "not a journal record"),
        (_data_of_another_kind, 3, "not a journal record"),
        (_blank, 3, "not JSON"),
        (_hash_moved_to_the_front, 3, "its hash does not fit its content"),
    ],
)
def test_tampering_is_found_at_its_line(
    dirs: tuple[Path, Path], tamper: Callable[[list[bytes]], list[bytes]], line: int, why: str
) -> None:
    path = write(dirs, "start", "reason", "answer", "read", "clear")
    path.write_bytes(b"".join(one + b"\n" for one in tamper(lines(path))))
    replay = journal.read_journal(path)
    assert replay.broken is not None
    assert (replay.broken.line, replay.broken.why) == (line, why)
    assert str(replay.broken) == f"journal line {line}: {why}"
    assert len(replay.entries) == line - 1
    assert replay.torn == b""


def test_an_empty_line_is_no_empty_journal(dirs: tuple[Path, Path]) -> None:
    path = dirs[0] / journal.NAME
    path.write_bytes(b"\n")
    assert str(journal.read_journal(path).broken) == "journal line 1: not JSON"


def test_any_byte_that_changes_is_found(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "reason")
    whole = path.read_bytes()
    for offset in range(0, len(whole) - 1, 7):
        changed = bytes([whole[offset] ^ 1])
        path.write_bytes(whole[:offset] + changed + whole[offset + 1 :])
        assert journal.read_journal(path).broken is not None, offset


# ── a torn tail ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_torn_tail_is_tolerated_noted_and_removed(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "answer")
    whole = path.read_bytes()
    torn = lines(path)[1][:40]
    path.write_bytes(whole + torn)
    replay = journal.read_journal(path)
    assert (replay.torn, replay.size, replay.broken, replay.latch_torn) == (torn, len(whole), None, False)
    path = write(dirs, "start")
    assert kinds(path) == ["start", "answer", "start"]


def test_a_torn_tail_is_reported_by_the_journal_that_opened_it(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start")
    with path.open("ab") as file:
        file.write(b'{"seq":2')
    again = Prompt(*dirs)
    again.close()
    assert again.contents.torn == b'{"seq":2'
    assert again.set_aside is None


def test_a_reason_that_is_torn_is_known_for_one(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "reason")
    first, second = lines(path)
    for cut in (200, len(second)):  # even whole: without its newline nobody knows that it is
        path.write_bytes(first + b"\n" + second[:cut])
        replay = journal.read_journal(path)
        assert replay.latch_torn
        assert len(replay.entries) == 1


def test_a_file_that_is_one_torn_line_is_an_empty_journal(dirs: tuple[Path, Path]) -> None:
    (dirs[0] / journal.NAME).write_bytes(b'{"seq":1,"at":')
    assert kinds(write(dirs, "start")) == ["start"]


# ── a journal that cannot be believed ─────────────────────────────────────────────────────────────────────────────


def test_a_broken_journal_is_set_aside_as_it_is_and_a_new_one_begun(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "reason")
    evidence = path.read_bytes().replace(b"touched", b"TOUCHED")
    path.write_bytes(evidence)
    opened = Prompt(*dirs)
    opened.append("start", {}, at(0))
    opened.close()
    assert opened.contents.broken is not None
    assert opened.contents.broken.line == 2
    assert opened.set_aside is not None
    assert opened.set_aside.name.startswith("journal.jsonl.broken-")
    assert opened.set_aside.read_bytes() == evidence
    (entry,) = journal.read_journal(path).entries
    assert (entry["seq"], entry["prev"]) == (1, GENESIS)
    assert latched(opened) == (
        "the journal is damaged: journal line 2: its hash does not fit its content",
        ("a", "b", "c"),
    )


def test_a_journal_of_an_unknown_version_counts_as_broken(dirs: tuple[Path, Path]) -> None:
    first = Prompt(*dirs)
    first.append("start", {}, at(0))
    first.append("reason", {"kill": "k1", "whom": ["a"]}, at(1))
    first.close()
    assert journal.read_journal(first.path).broken is None
    opened = Prompt(*dirs)
    opened.close()
    assert opened.set_aside is not None
    assert latched_by(opened.contents.entries) == frozenset()
    why = "journal line 2: a record that this version does not understand"
    assert latched(opened) == (f"the journal is damaged: {why}", ("a", "b", "c"))


def test_a_broken_journal_trips_the_start_after_the_next_as_well_if_the_next_does_not_get_that_far(
    dirs: tuple[Path, Path],
) -> None:
    path = write(dirs, "start", "reason")
    path.write_bytes(path.read_bytes().replace(b"touched", b"TOUCHED"))
    Prompt(*dirs).close()  # dies before it has recorded anything
    again = Prompt(*dirs)
    again.close()
    assert again.contents.broken is None
    assert latched(again)[1] == ("a", "b", "c")


def test_a_broken_journal_beside_which_no_latch_can_be_left_is_not_touched(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "reason")
    path.write_bytes(path.read_bytes().replace(b"touched", b"TOUCHED"))
    (dirs[0] / LATCH).mkdir()
    with pytest.raises(CannotCreate, match=r"the journal is damaged: .*, and no latch can be left beside it"):
        Prompt(*dirs)
    assert journal.read_journal(path).broken is not None


def test_a_reason_that_is_torn_leaves_a_latch(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "reason")
    path.write_bytes(path.read_bytes()[:-20])
    opened = Prompt(*dirs)
    opened.close()
    assert opened.set_aside is None
    assert latched(opened) == ("the journal ends within a reason's record", ("a", "b", "c"))


def test_a_journal_that_has_gone_leaves_a_latch(dirs: tuple[Path, Path]) -> None:
    write(dirs, "start", "reason").unlink()
    opened = Prompt(*dirs)
    opened.close()
    assert latched(opened) == ("the journal that was here is gone", ("a", "b", "c"))


def test_a_directory_in_which_no_record_was_ever_written_is_a_first_start(dirs: tuple[Path, Path]) -> None:
    Prompt(*dirs).close()
    opened = Prompt(*dirs)
    opened.close()
    assert opened.foreign_latch() is None


def test_a_mark_that_the_disk_does_not_take_keeps_no_record_from_being_written(
    opened: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("kill_switch.journal.writer.os.pwrite", full)
        assert opened.append_latch("reason", REASON, at(0)) is True
    assert kinds(opened.path) == ["reason"]
    assert opened.trouble.endswith("lock: No space left on device")
    opened.retry_pending()
    assert opened.trouble == ""


def test_a_journal_that_is_taken_away_under_the_daemon_is_noticed(opened: Prompt) -> None:
    assert opened.displaced() is False
    opened.path.rename(opened.path.with_name("elsewhere"))
    assert opened.displaced() is True
    opened.path.touch()
    assert opened.displaced() is True


def test_a_journal_that_cannot_be_read_is_as_good_as_broken(dirs: tuple[Path, Path]) -> None:
    (dirs[0] / journal.NAME).mkdir()
    opened = Prompt(*dirs)
    opened.close()
    assert str(opened.contents.broken) == "journal line 1: cannot be read: Is a directory"
    assert opened.set_aside is not None
    assert opened.set_aside.is_dir()
    assert opened.path.is_file()


def test_a_state_directory_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match=r"state directory .*/none: No such file or directory"):
        Journal(tmp_path / "none", tmp_path)


def test_a_journal_that_cannot_be_opened_says_so_and_lets_go_of_the_lock(dirs: tuple[Path, Path]) -> None:
    path = dirs[0] / journal.NAME
    path.symlink_to(dirs[0] / "none" / "journal.jsonl")
    with pytest.raises(CannotCreate, match=r"journal .*journal\.jsonl: No such file or directory"):
        Prompt(*dirs)
    path.unlink()
    Prompt(*dirs).close()


def test_a_second_daemon_on_the_same_directory_is_refused_until_the_first_has_gone(dirs: tuple[Path, Path]) -> None:
    first = Prompt(*dirs)
    with pytest.raises(AlreadyRunning, match=f"another daemon holds the state directory {dirs[0]}"):
        Prompt(*dirs)
    first.close()
    Prompt(*dirs).close()


# ── a disk that takes nothing ─────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_is_reported_and_the_records_are_written_later_in_order(opened: Prompt, disk: Disk) -> None:
    disk.room = 0
    opened.append("answer", {}, at(0))
    assert opened.flush() is False
    assert opened.trouble == f"journal {opened.path}: No space left on device"
    assert opened.append_latch("reason", REASON, at(1)) is False
    opened.append("read", {}, at(2))
    assert opened.flush() is False
    assert kinds(opened.path) == []
    disk.room = None
    assert opened.flush() is True
    assert opened.trouble == ""
    assert kinds(opened.path) == ["answer", "reason", "read"]


def test_a_failed_write_is_tried_again_without_a_further_record(opened: Prompt, disk: Disk) -> None:
    disk.room = 0
    assert opened.append_latch("rearm", {"accounts": ("a",)}, at(0)) is False
    opened.retry_pending()
    assert opened.trouble == f"journal {opened.path}: No space left on device"
    disk.room = None
    opened.retry_pending()
    assert opened.trouble == ""
    assert kinds(opened.path) == ["rearm"]


def test_half_a_record_is_taken_back(opened: Prompt, disk: Disk) -> None:
    opened.append("start", {}, at(0))
    opened.flush()
    disk.room = 30
    opened.append("answer", {}, at(0))
    assert opened.flush() is False
    assert "no space left for a whole record" in opened.trouble
    assert kinds(opened.path) == ["start"]
    disk.room = None
    opened.append("read", {}, at(0))
    assert opened.flush() is True
    assert kinds(opened.path) == ["start", "answer", "read"]


def test_a_latch_that_the_disk_does_not_take_is_left_in_a_file_until_it_does(
    by_hand: SyncedByHand, disk: Disk, dirs: tuple[Path, Path]
) -> None:
    disk.room = 0
    assert by_hand.append_latch("reason", REASON, at(0)) is False
    assert (dirs[0] / LATCH).read_bytes() == b""  # nor does it take the file's line: an empty file trips
    assert by_hand.foreign_latch() is None  # our own
    by_hand.put_on_disk()
    assert (dirs[0] / LATCH).exists()
    disk.room = None
    by_hand.flush()
    assert (dirs[0] / LATCH).exists()  # nobody knows yet whether the disk itself has the record
    by_hand.put_on_disk()
    assert not (dirs[0] / LATCH).exists()
    assert kinds(by_hand.path) == ["reason"]


def test_a_latch_goes_to_the_runtime_directory_when_the_state_directory_takes_no_file(
    opened: Prompt, disk: Disk, dirs: tuple[Path, Path]
) -> None:
    (dirs[0] / LATCH).mkdir()
    disk.room = 0
    opened.append_latch("reason", REASON, at(0))
    assert (dirs[1] / LATCH).is_file()
    assert "latch file" not in opened.trouble


def test_a_latch_of_which_the_disk_takes_no_word_is_left_in_the_runtime_directory_as_well(
    by_hand: SyncedByHand, disk: Disk, dirs: tuple[Path, Path]
) -> None:
    disk.room, disk.where = 5, dirs[0]
    by_hand.append_latch("reason", REASON, at(0))
    assert (dirs[0] / LATCH).read_bytes() == b'{"tex'  # this survives a reboot
    assert latched_accounts((dirs[1] / LATCH).read_text(), ("a", "b")) == ("a",)
    assert by_hand.foreign_latch() is None
    disk.room = None
    by_hand.put_on_disk()
    assert not (dirs[0] / LATCH).exists()
    assert not (dirs[1] / LATCH).exists()


@pytest.mark.parametrize("ours_first", [True, False])
def test_an_empty_latch_of_another_process_is_seen_beside_our_own_empty_latch(
    opened: Prompt, disk: Disk, dirs: tuple[Path, Path], ours_first: bool
) -> None:
    disk.room, disk.where = 0, dirs[0]
    if ours_first:
        opened.append_latch("reason", REASON, at(0))
    leave_latch(*dirs, reason("b"))
    if not ours_first:
        opened.append_latch("reason", REASON, at(0))
    said = opened.foreign_latch()
    assert said is not None
    assert latched_accounts(said, ("a", "b")) == ("b",)


def test_our_own_latches_stay_our_own_where_the_disk_takes_half_of_each(opened: Prompt, disk: Disk) -> None:
    disk.room = 5
    for _ in range(3):
        opened.append_latch("reason", REASON, at(0))
        assert opened.foreign_latch() is None  # else each would trip everybody, and leave one more


def test_a_latch_that_no_directory_takes_is_reported_and_one_of_another_process_is_still_seen(
    opened: Prompt, disk: Disk, dirs: tuple[Path, Path]
) -> None:
    for directory in dirs:
        (directory / LATCH).mkdir()
    disk.room = 0
    assert opened.append_latch("reason", REASON, at(0)) is False
    assert opened.trouble.endswith("; and no latch file can be written either")
    disk.room = None
    (dirs[0] / LATCH).rmdir()
    leave_latch(*dirs, reason("a"))
    assert opened.foreign_latch() is not None


def test_a_re_arm_that_the_disk_does_not_take_leaves_no_latch(
    opened: Prompt, disk: Disk, dirs: tuple[Path, Path]
) -> None:
    disk.room = 0
    assert opened.append_latch("rearm", {"accounts": ("a",)}, at(0)) is False
    assert not (dirs[0] / LATCH).exists()


def test_the_next_start_is_tripped_by_a_latch_that_only_the_file_has(dirs: tuple[Path, Path], disk: Disk) -> None:
    first = Prompt(*dirs)
    disk.room = 0
    first.append_latch("reason", REASON, at(0))
    first.close()  # the disk is still full
    disk.room = None
    second = Prompt(*dirs)
    said = second.foreign_latch()
    second.close()
    assert said == ""  # the disk took no word of it, in two directories
    assert latched_accounts(said, ("a", "b")) == ("a", "b")


def test_a_failed_fsync_is_reported(dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Prompt(*dirs)
    monkeypatch.setattr("kill_switch.journal.fsync.os.fdatasync", no_sync)
    opened.append_latch("reason", REASON, at(0))
    opened.close()
    assert opened.trouble == f"journal {opened.path}: sync failed: Input/output error"


def test_the_lag_counts_unwritten_records_and_the_time_of_the_fsync(
    opened: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, done = threading.Event(), threading.Event()

    def sync(fd: int) -> None:
        slow.set()
        done.wait(10)

    monkeypatch.setattr("kill_switch.journal.fsync.os.fdatasync", sync)
    assert opened.figures(clock.now().mono_ns)[:2] == (0, 0)
    opened.append("note", {}, at(0))
    assert opened.figures(clock.now().mono_ns)[:2] == (1, 0)
    opened.flush()
    opened.sync()
    assert slow.wait(10)
    unwritten, syncing_ns, *_ = opened.figures(clock.now().mono_ns + 5_000_000_000)
    assert unwritten == 0
    assert 5_000_000_000 <= syncing_ns < 15_000_000_000
    done.set()


# ── a latch that somebody else has left ───────────────────────────────────────────────────────────────────────────


def test_a_latch_that_was_left_is_put_on_the_disk_and_one_that_is_gone_is_no_trouble(
    dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        "kill_switch.journal.latch_file.os.fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}"))
    )
    sync_latch(*dirs)
    assert synced == []
    leave_latch(*dirs, reason("a"))
    sync_latch(*dirs)
    assert synced == [str(dirs[0] / LATCH), str(dirs[0])]  # and that it is there


def test_a_latch_that_another_process_left_is_seen_and_forgotten_once_it_is_taken_over(
    by_hand: SyncedByHand, dirs: tuple[Path, Path]
) -> None:
    assert by_hand.foreign_latch() is None
    assert leave_latch(*dirs, reason("a", text="by hand")) is True
    said = by_hand.foreign_latch()
    assert said is not None
    assert orjson.loads(said) == {
        "text": "panic: by hand",
        "at": "2023-11-14T22:13:20.000000Z",
        "accounts": ["a"],
    }
    by_hand.append_latch("reason", REASON, at(0))
    by_hand.adopt_latch(said)
    by_hand.put_on_disk()
    assert by_hand.foreign_latch() is None
    assert not (dirs[0] / LATCH).exists()


def take_over(by_hand: Journal) -> None:
    """Do what the daemon does with a latch file that it has found."""
    said = by_hand.foreign_latch()
    assert said is not None
    by_hand.append_latch("reason", REASON, at(0))
    by_hand.adopt_latch(said)


def test_a_latch_file_is_kept_until_the_record_that_takes_it_over_is_durable(
    by_hand: SyncedByHand, dirs: tuple[Path, Path]
) -> None:
    leave_latch(*dirs, reason("a"))
    take_over(by_hand)
    by_hand.retry_pending()
    by_hand.flush()
    assert (dirs[0] / LATCH).exists()  # a power cut now would leave nothing else
    by_hand.append_latch("reason", REASON, at(1))  # later records need not be on the disk for that
    by_hand.synced()
    by_hand.retry_pending()
    assert not (dirs[0] / LATCH).exists()


def test_a_journal_that_is_closed_takes_the_latch_files_along(dirs: tuple[Path, Path]) -> None:
    leave_latch(*dirs, reason("a"))
    closed = Prompt(*dirs)
    said = closed.foreign_latch()
    assert said is not None
    closed.append_latch("reason", REASON, at(0))
    closed.adopt_latch(said)
    closed.close()
    assert not (dirs[0] / LATCH).exists()


def test_a_disk_that_cannot_sync_takes_no_latch_file_with_it(
    by_hand: SyncedByHand, dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_latch(*dirs, reason("a"))
    take_over(by_hand)
    with monkeypatch.context() as patch:
        patch.setattr("kill_switch.journal.fsync.os.fdatasync", no_sync)
        by_hand.put_on_disk()
    by_hand.put_on_disk()  # succeeds, and has nothing to write: the failure has taken it for written
    assert (dirs[0] / LATCH).exists()
    by_hand.append("strike", {}, at(1))
    by_hand.flush()
    by_hand.put_on_disk()
    assert not (dirs[0] / LATCH).exists()
    assert by_hand.sync_trouble == f"journal {by_hand.path}: sync failed: Input/output error"  # nobody takes that back


def test_a_late_write_is_synced_without_a_request(by_hand: SyncedByHand, disk: Disk) -> None:
    disk.room = 0
    by_hand.append_latch("reason", REASON, at(0))
    by_hand.sync()
    by_hand.synced()
    disk.room = None
    by_hand.flush()
    by_hand.synced()
    assert by_hand.syncing.durable == by_hand.path.stat().st_size


def test_records_of_a_predecessor_count_as_synced_only_with_a_later_record(dirs: tuple[Path, Path]) -> None:
    write(dirs, "start", "reason")
    again = SyncedByHand(*dirs)
    again.put_on_disk()
    assert again.syncing.durable == 0  # its sync may have failed, and be told to nobody any more
    again.append("start", {}, at(0))
    again.flush()
    again.put_on_disk()
    assert again.syncing.durable == again.path.stat().st_size
    again.close()


def test_latch_files_and_the_journals_name_are_put_on_the_disk_in_the_thread_beside(
    by_hand: SyncedByHand, disk: Disk, dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        "kill_switch.journal.latch_file.os.fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}"))
    )
    disk.room, disk.where = 0, dirs[0]
    by_hand.append_latch("reason", REASON, at(0))
    assert synced == []  # a strike is waiting
    by_hand.sync()
    by_hand.synced()
    assert synced == [str(path) for path in (dirs[0], dirs[0] / LATCH, dirs[0], dirs[1] / LATCH, dirs[1])]


def test_a_file_system_that_syncs_no_directory_by_itself_is_no_trouble(
    by_hand: SyncedByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(fd: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("kill_switch.journal.latch_file.os.fsync", refuses)
    by_hand.append_latch("reason", REASON, at(0))
    by_hand.put_on_disk()
    assert by_hand.trouble == ""
    assert by_hand.syncing.durable > 0


def test_a_directory_that_cannot_be_synced_is_reported(by_hand: SyncedByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.journal.latch_file.os.fsync", no_sync)
    by_hand.append_latch("reason", REASON, at(0))
    by_hand.put_on_disk()
    assert by_hand.trouble == f"journal {by_hand.path}: sync failed: Input/output error"
    assert by_hand.syncing.durable == 0


def test_a_latch_line_written_after_the_read_is_not_removed_with_the_lines_that_were_read(
    by_hand: SyncedByHand, dirs: tuple[Path, Path]
) -> None:
    leave_latch(*dirs, reason("a"))
    said = by_hand.foreign_latch()
    leave_latch(*dirs, reason("b"))
    assert said is not None
    by_hand.append_latch("reason", REASON, at(0))
    by_hand.adopt_latch(said)
    by_hand.put_on_disk()
    later = by_hand.foreign_latch()
    assert later is not None
    assert latched_accounts(later, ("a", "b", "c")) == ("b",)
    by_hand.append_latch("reason", REASON, at(1))
    by_hand.adopt_latch(later)
    by_hand.put_on_disk()
    assert not (dirs[0] / LATCH).exists()


def test_a_latch_file_that_another_process_is_writing_is_not_removed(
    by_hand: SyncedByHand, dirs: tuple[Path, Path]
) -> None:
    leave_latch(*dirs, reason("a"))
    take_over(by_hand)
    writer = os.open(dirs[0] / LATCH, os.O_WRONLY | os.O_APPEND)
    fcntl.flock(writer, fcntl.LOCK_EX)
    by_hand.put_on_disk()
    os.write(writer, b'{"accounts":["b"],"text":"late"}\n')
    os.close(writer)
    by_hand.put_on_disk()
    later = by_hand.foreign_latch()
    assert later is not None
    assert latched_accounts(later, ("a", "b")) == ("b",)


def test_a_latch_file_that_another_process_locked_and_did_not_change_is_removed_the_next_time(
    by_hand: SyncedByHand, dirs: tuple[Path, Path]
) -> None:
    leave_latch(*dirs, reason("a"))
    take_over(by_hand)
    with (dirs[0] / LATCH).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        by_hand.put_on_disk()
        assert (dirs[0] / LATCH).exists()
    by_hand.retry_pending()
    assert not (dirs[0] / LATCH).exists()


def test_a_file_that_was_removed_between_opening_and_locking_is_made_anew(
    opened: Prompt, dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, times = fcntl.flock, 0

    def flock(fd: int, how: int) -> None:
        nonlocal times
        times += 1
        if times == 1:
            (dirs[0] / LATCH).unlink()
        real(fd, how)

    monkeypatch.setattr("kill_switch.journal.latch_file.fcntl.flock", flock)
    leave_latch(*dirs, reason("a"))
    assert opened.foreign_latch() is not None


def test_a_latch_line_of_another_process_is_seen_while_the_disk_is_full(
    opened: Prompt, disk: Disk, dirs: tuple[Path, Path]
) -> None:
    disk.room = 0
    assert opened.append_latch("reason", REASON, at(0)) is False
    assert opened.foreign_latch() is None
    disk.room = None
    leave_latch(*dirs, reason("b"))
    said = opened.foreign_latch()
    assert said is not None
    assert latched_accounts(said, ("a", "b")) == ("b",)
    opened.flush()
    assert (dirs[0] / LATCH).exists()  # not taken over yet


def test_a_disk_that_stays_full_does_not_fill_the_memory(
    opened: Prompt, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_switch.journal.record_buffer.MAX_HELD", 10)
    disk.room = 0
    for number in range(50):
        opened.append("read", {"n": number}, at(number))
        opened.flush()
    disk.room = None
    assert opened.flush() is True
    replay = journal.read_journal(opened.path)
    assert replay.broken is None
    assert [entry["data"]["n"] for entry in replay.entries] == [*range(40, 50)]


def test_a_reason_is_never_left_out_however_long_the_disk_stays_full(
    opened: Prompt, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_switch.journal.record_buffer.MAX_HELD", 10)
    disk.room = 0
    for number in range(15):
        opened.append("read", {"n": number}, at(number))
    opened.flush()
    for number in range(15, 30):
        opened.append("read", {"n": number}, at(number))
    opened.append_latch("reason", REASON, at(30))
    opened.append_latch("latch", {"accounts": ("z",)}, at(31))
    for number in range(32, 80):
        opened.append("read", {"n": number}, at(number))
    opened.flush()
    disk.room = None
    assert opened.flush() is True
    replay = journal.read_journal(opened.path)
    assert replay.broken is None
    assert [entry["kind"] for entry in replay.entries if entry["kind"] != "read"] == ["reason", "latch"]
    assert len(replay.entries) == 10


def test_a_latch_for_an_unknown_account_goes_to_a_file_while_the_disk_takes_no_record(
    opened: Prompt, disk: Disk, dirs: tuple[Path, Path]
) -> None:
    disk.room = 0
    assert opened.append_latch("latch", {"accounts": ("z",)}, at(0)) is False
    assert (dirs[0] / LATCH).exists()


def test_reasons_alone_are_all_kept(opened: Prompt, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.journal.record_buffer.MAX_HELD", 3)
    disk.room = 0
    for number in range(12):
        opened.append_latch("reason", REASON, at(number))
    disk.room = None
    assert opened.flush() is True
    assert len(journal.read_journal(opened.path).entries) == 12


def test_a_latch_taken_over_while_the_disk_is_full_is_kept_until_its_record_is_written(
    by_hand: SyncedByHand, disk: Disk, dirs: tuple[Path, Path]
) -> None:
    leave_latch(*dirs, reason("a"))
    said = by_hand.foreign_latch()
    assert said is not None
    disk.room = 0
    by_hand.append_latch("reason", REASON, at(0))
    by_hand.adopt_latch(said)
    assert by_hand.foreign_latch() is None
    by_hand.put_on_disk()
    assert (dirs[0] / LATCH).exists()
    disk.room = None
    by_hand.flush()
    by_hand.put_on_disk()
    assert not (dirs[0] / LATCH).exists()


def test_a_latch_is_written_although_another_process_locks_the_file(dirs: tuple[Path, Path]) -> None:
    with (dirs[0] / LATCH).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert leave_latch(*dirs, reason("a")) is True
    assert latched_accounts((dirs[0] / LATCH).read_text(), ("a", "b")) == ("a",)


def test_a_sync_that_has_failed_is_not_forgotten_with_the_next_record(
    by_hand: SyncedByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand.append_latch("reason", REASON, at(0))
    with monkeypatch.context() as patch:
        patch.setattr("kill_switch.journal.fsync.os.fdatasync", no_sync)
        by_hand.put_on_disk()
    by_hand.append("strike", {}, at(1))
    assert by_hand.flush() is True  # the record is in the file: what the disk has of it is another question
    assert by_hand.flush() is True
    assert by_hand.trouble == f"journal {by_hand.path}: sync failed: Input/output error"


def test_latches_in_both_directories_are_both_seen(opened: Prompt, dirs: tuple[Path, Path]) -> None:
    leave_latch(dirs[0], dirs[1], reason("a"))
    leave_latch(dirs[1], dirs[0], reason("b"))
    said = opened.foreign_latch()
    assert said is not None
    assert latched_accounts(said, ("a", "b", "c")) == ("a", "b")


def test_a_latch_lists_the_unknown_accounts_apart_from_the_known_ones(opened: Prompt, dirs: tuple[Path, Path]) -> None:
    leave_latch(*dirs, reason("a", "z"))
    leave_latch(*dirs, reason("z", "y"))
    with (dirs[0] / LATCH).open("a") as file:
        file.write('not JSON\n{"accounts": "all"}\n{"accounts": [1, "x"]}\n7\n')
    said = opened.foreign_latch()
    assert said is not None
    assert latched_unknown_accounts(said, ("a", "b")) == ("z", "y", "x")
    assert latched_unknown_accounts("", ("a",)) == ()


def test_a_latch_is_claimed_with_its_text_its_accounts_those_elsewhere_and_its_evidence(
    opened: Prompt, dirs: tuple[Path, Path]
) -> None:
    leave_latch(*dirs, reason("a", "z", text="by hand"))
    said = opened.foreign_latch()
    assert said is not None
    taken = parse_latch(said, ("a", "b"))
    assert taken.record() == LatchRecord(accounts=("z",), said=said)
    tripped = taken.reason(at(1), set_aside="journal.jsonl.broken-1")
    assert (tripped.trigger, tripped.text, tripped.accounts) == ("latch", "panic: by hand", ("a",))
    assert tripped.evidence == {"said": said, "set_aside": "journal.jsonl.broken-1"}
    assert len(str(parse_latch("x" * 5000, ("a",)).evidence["said"])) == 1000  # anybody may have written it


def test_an_empty_latch_beside_a_written_one_still_means_every_account(opened: Prompt, dirs: tuple[Path, Path]) -> None:
    (dirs[0] / LATCH).touch()
    leave_latch(dirs[1], dirs[0], reason("b"))
    said = opened.foreign_latch()
    assert said is not None
    assert latched_accounts(said, ("a", "b")) == ("a", "b")


def test_a_latch_that_cannot_be_read_is_a_latch(opened: Prompt, dirs: tuple[Path, Path]) -> None:
    (dirs[0] / LATCH).mkdir()
    said = opened.foreign_latch()
    assert said is not None and said.startswith(f"{dirs[0] / LATCH}: not a file")
    assert latched_accounts(said, ("a", "b")) == ("a", "b")


def test_a_latch_that_cannot_be_moved_is_trouble_until_it_can(
    by_hand: SyncedByHand, dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> Path:
        raise PermissionError(1, "Operation not permitted")

    (dirs[1] / LATCH).mkdir()
    take_over(by_hand)
    monkeypatch.setattr(Path, "rename", refuse)
    by_hand.put_on_disk()
    assert by_hand.trouble == f"{dirs[1] / LATCH}: Operation not permitted"
    monkeypatch.undo()
    by_hand.retry_pending()
    assert by_hand.trouble == "" and not (dirs[1] / LATCH).exists()


def unreadable(path: Path, how: str) -> None:
    """Put something there that is no file to be read."""
    match how:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize("how", ["directory", "pipe", "link"])
def test_a_latch_that_cannot_be_read_counts_once_is_moved_aside_and_does_not_trip_the_next_start(
    how: str, dirs: tuple[Path, Path]
) -> None:
    by_hand = SyncedByHand(*dirs)
    unreadable(dirs[0] / LATCH, how)
    assert latched(by_hand)[1] == ("a", "b", "c")
    take_over(by_hand)
    assert by_hand.foreign_latch() is None
    by_hand.put_on_disk()
    assert not os.path.lexists(dirs[0] / LATCH)
    assert len(list(dirs[0].glob(f"{LATCH}.unreadable-*"))) == 1
    by_hand.close()
    again = Journal(*dirs)
    assert again.foreign_latch() is None
    again.close()


def test_a_second_latch_in_a_file_that_cannot_be_read_is_seen(opened: Prompt, dirs: tuple[Path, Path]) -> None:
    (dirs[0] / LATCH).mkdir()
    take_over(opened)
    os.utime(dirs[0] / LATCH, (7, 7))
    assert latched(opened)[1] == ("a", "b", "c")


def test_a_latch_that_comes_while_an_unreadable_one_is_moved_aside_is_not_lost(
    by_hand: SyncedByHand, dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        os.utime(path, (7, 7))
        return rename(path, target)

    (dirs[0] / LATCH).mkdir()
    take_over(by_hand)
    monkeypatch.setattr(Path, "rename", late)
    by_hand.put_on_disk()
    assert latched(by_hand)[1] == ("a", "b", "c")


def test_a_latch_beyond_the_read_bound_is_seen(opened: Journal, dirs: tuple[Path, Path]) -> None:
    (dirs[0] / LATCH).write_bytes(b'{"accounts":["a"],"text":"one"}\n' * 3000)
    take_over(opened)
    leave_latch(*dirs, reason("b"))
    assert opened.foreign_latch() is not None


def test_a_latch_that_no_directory_takes_is_reported(dirs: tuple[Path, Path]) -> None:
    for directory in dirs:
        (directory / LATCH).mkdir()
    assert leave_latch(*dirs, reason("a")) is False


def test_a_latch_whose_text_json_cannot_tell_is_left_all_the_same(opened: Prompt, dirs: tuple[Path, Path]) -> None:
    assert leave_latch(*dirs, reason("a", text="half a character: \ud800")) is True
    said = opened.foreign_latch()
    assert said is not None
    assert latched_accounts(said, ("a", "b")) == ("a",)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ('{"text":"panic: touched"}\n', "panic: touched"),
        ('{"text":"one"}\n{"text":"two"}\nnonsense\n{"accounts":[]}\n[1]', "one; two"),
        ("", "a latch was left in a file"),
        ("nonsense", "a latch was left in a file"),
    ],
)
def test_a_latch_has_every_field_that_its_text_shows(said: str, text: str) -> None:
    assert latch_text(said) == text


@pytest.mark.parametrize(
    ("said", "accounts"),
    [
        ('{"accounts":["a"]}\n', ("a",)),
        ('{"accounts":["c","a"]}\n{"accounts":["b"]}\n', ("a", "b", "c")),
        ('{"accounts":["b"],"text":"line\u2028separator and \x85 in it"}\n', ("b",)),
        ('{"accounts":["x"]}\n', ("a", "b", "c")),
        ("", ("a", "b", "c")),
        ("\n", ("a", "b", "c")),
        ("touched by hand", ("a", "b", "c")),
        ('{"accounts":["a"]}\n{"accou', ("a", "b", "c")),
        ('{"accounts":["a"]}\n\n', ("a", "b", "c")),
        ('{"accounts":"a"}\n', ("a", "b", "c")),
        ('{"accounts":null}\n', ("a", "b", "c")),
        ('{"text":"no accounts"}\n', ("a", "b", "c")),
        ("[1]\n", ("a", "b", "c")),
        ('{"accounts":["a"]}\n' * 1000, ("a",)),
        ('{"accounts":["a"]}\n' * 1002, ("a", "b", "c")),  # more than anybody leaves: it is not gone through
    ],
)
def test_a_latch_trips_the_accounts_that_it_names_or_all_if_it_is_unreadable(
    said: str, accounts: Sequence[str]
) -> None:
    assert latched_accounts(said, ("a", "b", "c")) == accounts


# ── following ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_following_yields_present_and_later_records_and_waits_for_whole_lines(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "reason", "stop")
    first, second, third = lines(path)
    path.write_bytes(first + b"\n" + second[:50])
    pieces = [second[50:], b"\n" + third + b"\n"]

    def tick() -> None:
        with path.open("ab") as file:
            file.write(pieces.pop(0))

    followed = JournalReader(path).entries(tick)
    assert [next(followed)["kind"] for _ in range(3)] == ["start", "reason", "stop"]
    assert pieces == []


def test_following_stops_at_the_first_line_that_does_not_verify(dirs: tuple[Path, Path]) -> None:
    path = write(dirs, "start", "reason")
    path.write_bytes(path.read_bytes().replace(b"touched", b"TOUCHED"))
    followed = JournalReader(path).entries(lambda: None)
    assert next(followed)["kind"] == "start"
    with pytest.raises(JournalBroken, match=r"journal\.jsonl line 2: its hash does not fit its content"):
        next(followed)


def test_a_latch_is_written_although_its_report_fails(opened: Prompt) -> None:
    def fail(entry: object) -> None:
        raise KeyError("accounts")

    opened.deliver_to(fail)
    assert opened.append_latch("reason", REASON, at(0))
    assert opened.append_latch("reason", REASON, at(1))
    again = journal.read_journal(opened.path)
    assert (len(again.entries), again.broken) == (2, None)


def test_a_record_after_the_close_is_not_written_to_a_reused_file_descriptor(
    dirs: tuple[Path, Path], tmp_path: Path
) -> None:
    journal_ = Prompt(*dirs)
    journal_.close()
    others = [os.open(tmp_path / str(number), os.O_WRONLY | os.O_CREAT) for number in range(3)]
    journal_.append("late", {}, at(0))
    assert journal_.flush() is False
    assert [os.fstat(fd).st_size for fd in others] == [0, 0, 0]
    for fd in others:
        os.close(fd)
