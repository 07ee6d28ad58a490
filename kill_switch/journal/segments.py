"""Read and verify a journal: one file of it, or all of its files in their order, as a stream.

`journal.jsonl` is the file that the writer appends to; full files are `journal-000001.jsonl` and on, and never change.
Numbers and hashes continue from file to file. Each file but the first begins with a `checkpoint` record, so that a
start reads `journal.jsonl` alone, and `journal --verify` reads all files.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from kill_switch.errors import JournalBroken
from kill_switch.journal import checkpoint
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.records import TRIPS, Entry

NAME = "journal.jsonl"
NEXT = "journal.jsonl.next"  # the next file, before it gets the journal's name
LOCK = "lock"  # is not empty once a record was written in the directory; an archive has none
GENESIS = "0" * 64
CHUNK = 1 << 20  # bytes of one read
MAX_LINE = 64 << 20  # bytes of a record; bounds time and memory for a file without newlines
_MAX_DEPTH = 254  # the deepest nesting that orjson writes: a deeper line is no record
_HASH_BYTES = len(b',"hash":"') + 64 + len(b'"}')
LEAST_DIGITS = 12  # hex digits of a hash that `--head` needs: 48 bits
SHOWN_DIGITS = 16  # hex digits of a hash in messages
TOO_LONG = "longer than any record"
_KEYS = frozenset({"seq", "at", "mono_ns", "boot", "kind", "data", "prev", "hash"})
_BEGUN = ", and a journal was begun here"
_NUMBERED = re.compile(r"journal-(\d{6,})\.jsonl")


class JournalContents(NamedTuple):
    """A journal's entries up to the first fault, and the fault, None if there is none."""

    entries: list[Entry]
    size: int  # bytes of the complete lines that verify
    torn: bytes  # bytes after the last newline: a write that a crash of the machine cut off
    broken: JournalBroken | None
    snapshot: JournalSnapshot | None = None  # the fold of all entries, if `read_at_start` read the file

    @property
    def latch_torn(self) -> bool:
        """True if the incomplete record is of a kind that trips."""
        return any(b'"kind":"%b"' % kind.encode() in self.torn for kind in TRIPS)


class ChainHead(NamedTuple):
    """The newest record of a journal; a copy kept elsewhere proves later that no record before it is missing."""

    seq: int  # 0: there is no record
    hash: str

    @property
    def describe(self) -> str:
        """Return the number and the beginning of the hash, which `journal --verify --head` takes."""
        return f"{self.seq} {self.hash[:SHOWN_DIGITS]}" if self.seq else ""

    @property
    def number(self) -> int:
        """Return the first 48 bits of the hash, which a metric can hold exactly."""
        return int(self.hash[:LEAST_DIGITS], 16)


class HashChain:
    """Verify lines in order: each record's own hash, its number, and the hash of the record before."""

    def __init__(self) -> None:
        """Begin before the first record."""
        self.seq = 0  # number of the last record
        self.hash = GENESIS  # hash of the last record
        self.first = 0  # number of the first record; 0: there is none yet
        self._line = 0  # line in the current file

    def begin_file(self) -> None:
        """Count lines from 1 again, for the next file."""
        self._line = 0

    def add_line(self, line: bytes) -> Entry:
        """Verify a line and return its entry; raise `JournalBroken` with the line's number in its file.

        The very first entry may be a checkpoint of any number: the files before it were archived.
        """
        self._line += 1
        entry = _parsed(line, self._line)
        if self._line == 1 and not self.first and entry["kind"] == checkpoint.KIND and isinstance(entry["seq"], int):
            self.seq, self.hash = entry["seq"] - 1, entry["prev"]
        elif self._line == 1 and entry["kind"] == checkpoint.KIND and _follows(entry["seq"], self.seq + 1):
            raise JournalBroken(
                1, f"records {self.seq + 1} to {entry['seq'] - 1} are missing: a file before it is not here"
            )
        if entry["seq"] != self.seq + 1:
            raise JournalBroken(self._line, f"is numbered {entry['seq']}: a record is missing or doubled")
        if entry["prev"] != self.hash:
            raise JournalBroken(self._line, "does not follow from the line before")
        self.seq, self.hash = entry["seq"], entry["hash"]
        self.first = self.first or self.seq
        return entry


def _follows(seq: object, expected: int) -> bool:
    return isinstance(seq, int) and seq > expected


def _parsed(line: bytes, number: int) -> Entry:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise JournalBroken(number, "not JSON") from None
    if not isinstance(entry, dict) or entry.keys() != _KEYS or not isinstance(entry["data"], dict):
        raise JournalBroken(number, "not a journal record")
    if line.count(b"{") + line.count(b"[") > _MAX_DEPTH and _is_too_deep(entry):
        raise JournalBroken(number, "nested too deeply")
    if entry["hash"] != hashlib.sha256(line[:-_HASH_BYTES] + b"}").hexdigest():
        raise JournalBroken(number, "its hash does not fit its content")
    return entry


def _is_too_deep(entry: Entry) -> bool:
    try:
        orjson.dumps(entry)
    except orjson.JSONEncodeError:
        return True
    return False


def read_journal(path: Path) -> JournalContents:
    """Read and verify one file with all its entries; a missing file is empty. Raises `OSError`."""
    entries: list[Entry] = []
    return _read(path, entries.append)._replace(entries=entries)


def read_at_start(path: Path, reading: Callable[[], object] = lambda: None) -> JournalContents:
    """Read and verify one file in bounded memory, and return the entries that stand for all of its entries.

    A file that cannot be read, or not be understood, is returned as broken. `reading` is called after each full
    `CHUNK`, so that a long read can report progress.
    """
    snapshot = JournalSnapshot()
    try:
        replay = _read(path, snapshot.apply, reading)
    except OSError as error:
        return JournalContents([], 0, b"", JournalBroken(1, f"cannot be read: {error.strerror}"), snapshot)
    return replay._replace(entries=snapshot.entries(), snapshot=snapshot)


def _read(path: Path, take: Callable[[Entry], object], reading: Callable[[], object] = lambda: None) -> JournalContents:
    chain, size, remainder, number = HashChain(), 0, b"", 0
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return JournalContents([], 0, b"", None)
    with file:
        while chunk := file.read(CHUNK):
            *lines, remainder = (remainder + chunk).split(b"\n")
            for line in lines:
                number += 1
                try:
                    take(chain.add_line(line))
                except JournalBroken as broken:
                    return JournalContents([], size, b"", JournalBroken(number, broken.why))
                size += len(line) + 1
            if len(remainder) > MAX_LINE:
                return JournalContents([], size, b"", JournalBroken(number + 1, TOO_LONG))
            if len(chunk) == CHUNK:
                reading()
    return JournalContents([], size, remainder, None)


# ── all files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def segment_number(name: str) -> int:
    """Return the number in a full file's name, 0 for any other name."""
    match = _NUMBERED.fullmatch(name)
    return int(match[1]) if match else 0


def segment_name(number: int) -> str:
    """Return the name of the full file with this number."""
    return f"journal-{number:06}.jsonl"


def full_segments(directory: Path) -> list[Path]:
    """Return the full files in their order. Raises `OSError`."""
    paths = [path for path in directory.iterdir() if segment_number(path.name)]
    return sorted(paths, key=lambda path: segment_number(path.name))


class JournalReader:
    """Read all files of a journal as one stream, while the daemon writes and begins new files.

    `where` and `line` are the file and the line of the last record; `chain` has verified all records up to it.
    """

    def __init__(self, path: Path) -> None:
        """Set the path of `journal.jsonl`; nothing is read before `entries`."""
        self.chain = HashChain()
        self.where = path
        self.line = 0
        self._rest = b""  # bytes after the last complete line
        self._path = path

    def entries(self, tick: Callable[[], object] | None = None) -> Iterator[Entry]:
        """Yield every entry. Raises `JournalBroken` and `OSError`.

        With `tick`, go on with entries as they are written; `tick` waits between two looks. A journal that was begun
        and whose newest file is missing or empty is broken, after the entries of the full files.
        """
        current = self._open()
        if current is None and tick is not None and not self._was_begun():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        try:
            for path in self._before(current):
                with path.open("rb") as old:
                    yield from self._lines(old, path)
                self._must_be_whole()
            if current is None and self._was_begun():
                raise JournalBroken(0, f"is missing{_BEGUN}", self._path.name)
            while current is not None:
                yield from self._lines(current, self._path)
                if tick is None and not self.line and (self.chain.seq or self._was_begun()):
                    raise JournalBroken(0, f"has no record{_BEGUN}", self._path.name)
                if tick is None:
                    return
                if (following := self._following(current)) is None:
                    tick()
                    continue
                yield from self._lines(current, self._path)  # records written since the last read
                self._must_be_whole()
                between = self._between(current, following)
                current.close()
                current = following
                for path in between:
                    with path.open("rb") as old:
                        yield from self._lines(old, path)
                    self._must_be_whole()
        finally:
            if current is not None:
                current.close()

    @property
    def torn(self) -> int:
        """Return the number of bytes after the last complete line."""
        return len(self._rest)

    def _was_begun(self) -> bool:
        """Return whether a daemon has written a record in the journal's directory."""
        try:
            return self._path.with_name(LOCK).stat().st_size > 0
        except FileNotFoundError:
            return False

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def _before(self, current: BinaryIO | None) -> Iterator[Path]:
        """Yield the full files before the open file, which may have been filed under a number since."""
        for path in full_segments(self._path.parent) if self._path.parent.is_dir() else ():
            if current is not None and _is_same(path, current):
                return
            yield path

    def _following(self, current: BinaryIO) -> BinaryIO | None:
        """Open the file under the journal's name if it is not the open file, else return None."""
        try:
            return None if _is_same(self._path, current) else self._open()
        except FileNotFoundError:
            return None  # the file was removed, and may come back

    def _between(self, current: BinaryIO, following: BinaryIO) -> list[Path]:
        """Return the full files that come after `current` and before `following`."""
        files, after = [], False
        for path in full_segments(self._path.parent):
            if _is_same(path, following):
                break
            if after:
                files.append(path)
            after = after or _is_same(path, current)
        return files

    def _begin(self, path: Path) -> None:
        self.where, self.line = path, 0
        self.chain.begin_file()

    def _lines(self, file: BinaryIO, path: Path) -> Iterator[Entry]:
        """Yield the entries from the file's position to its current end."""
        if path != self.where or not file.tell():
            self._begin(path)
        while chunk := file.read(CHUNK):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                try:
                    entry = self.chain.add_line(line)
                except JournalBroken as broken:
                    raise JournalBroken(broken.line, broken.why, path.name) from None
                self.line += 1
                yield entry
            if len(self._rest) > MAX_LINE:
                raise JournalBroken(self.line + 1, TOO_LONG, path.name)

    def _must_be_whole(self) -> None:
        if self._rest:
            raise JournalBroken(self.line + 1, "is cut off", self.where.name)


def _is_same(path: Path, file: BinaryIO) -> bool:
    return os.path.samestat(os.stat(path), os.fstat(file.fileno()))


def read_reports(path: Path, budget_us: int) -> tuple[ReportBuilder, JournalBroken | None]:
    """Return the reports of all kills in all files up to the first fault, and that fault. Raises `OSError`.

    `budget_us` is the latency budget in microseconds.
    """
    report_builder = ReportBuilder(budget_us, keep=None)
    try:
        for number, entry in enumerate(JournalReader(path).entries()):
            if entry["kind"] == checkpoint.KIND and number:
                continue  # a checkpoint repeats the entries before it
            report_builder.take(entry)
    except JournalBroken as broken:
        return report_builder, broken
    return report_builder, None
