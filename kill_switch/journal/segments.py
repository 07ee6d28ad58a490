"""Read a journal: one file of it, or all of its files in their order, as a stream.

`journal.jsonl` is written. Files that are full are `journal-000001.jsonl` and on; nobody writes or removes those. The
numbers and the chain of hashes go on from file to file, and each file but the first begins with a `checkpoint` record.
So a start reads `journal.jsonl` alone, and `journal --verify` reads all of them.
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
NEXT = "journal.jsonl.next"  # the file to come, while it is being made
GENESIS = "0" * 64
CHUNK = 1 << 20  # bytes that are read at a time
MAX_LINE = 64 << 20  # bytes of a record; a file that goes on without a newline must use up neither time nor memory
_MAX_DEPTH = 254  # levels that orjson writes: nothing that is nested deeper is a record of ours
_HASH_BYTES = len(b',"hash":"') + 64 + len(b'"}')
LEAST_DIGITS = 12  # of a hash that is looked for: 48 bits
SHOWN_DIGITS = 16
TOO_LONG = "longer than any record"
_KEYS = frozenset({"seq", "at", "mono_ns", "boot", "kind", "data", "prev", "hash"})
_NUMBERED = re.compile(r"journal-(\d{6,})\.jsonl")


class JournalContents(NamedTuple):
    """What a journal holds: its entries up to the first fault, and the fault, if it has one."""

    entries: list[Entry]
    size: int  # bytes of the whole lines that verify
    torn: bytes  # what stands after the last newline: a write that the machine's death cut off
    broken: JournalBroken | None
    snapshot: JournalSnapshot | None = None  # of all entries, if the file was read as a start reads it

    @property
    def latch_torn(self) -> bool:
        """The record that was cut off was one that trips."""
        return any(b'"kind":"%b"' % kind.encode() in self.torn for kind in TRIPS)


class ChainHead(NamedTuple):
    """The newest record of a journal. Whoever keeps it elsewhere can tell later that nothing before it is missing."""

    seq: int  # 0: there is none
    hash: str

    @property
    def describe(self) -> str:
        """Return it for people: `journal --verify --head` takes its second word."""
        return f"{self.seq} {self.hash[:SHOWN_DIGITS]}" if self.seq else ""

    @property
    def number(self) -> int:
        """Return the first 48 bits of the hash, which a metric can hold exactly."""
        return int(self.hash[:LEAST_DIGITS], 16)


class HashChain:
    """Verify lines, one after the other: each record's own hash, its number, and the hash before it."""

    def __init__(self) -> None:
        self.seq = 0  # of the last record
        self.hash = GENESIS
        self.first = 0  # number of the first record; 0: none has come
        self._line = 0  # of the file that is being read

    def begin_file(self) -> None:
        """Count lines from the beginning again: they are those of the next file."""
        self._line = 0

    def add_line(self, line: bytes) -> Entry:
        """Return the line's entry; raise `JournalBroken` with its number in its file.

        The first of all may be a checkpoint of any number: the records before it are in files that were archived.
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
    """Read and verify one file, all its entries; a missing one is empty. Raises `OSError` if it cannot be read."""
    entries: list[Entry] = []
    return _read(path, entries.append)._replace(entries=entries)


def read_at_start(path: Path, reading: Callable[[], object] = lambda: None) -> JournalContents:
    """Read and verify one file as a start does: in bounded memory, with the entries that stand for all of them.

    One that cannot be read, or understood, is broken. `reading` is called for each `CHUNK` of a file that is longer.
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
    """Return a full file's number, 0 if it is no such name."""
    match = _NUMBERED.fullmatch(name)
    return int(match[1]) if match else 0


def segment_name(number: int) -> str:
    """Return a full file's name."""
    return f"journal-{number:06}.jsonl"


def full_segments(directory: Path) -> list[Path]:
    """Return the files that are full, in their order; raises `OSError`."""
    paths = [path for path in directory.iterdir() if segment_number(path.name)]
    return sorted(paths, key=lambda path: segment_number(path.name))


class JournalReader:
    """Read all files of a journal as one stream, while the daemon writes and begins new ones.

    `where` and `line` say which record came last; `chain` has verified all records up to it.
    """

    def __init__(self, path: Path) -> None:
        """`path` is that of `journal.jsonl`."""
        self.chain = HashChain()
        self.where = path
        self.line = 0
        self._rest = b""  # what stands behind the last whole line
        self._path = path

    def entries(self, tick: Callable[[], object] | None = None) -> Iterator[Entry]:
        """Yield every entry; with `tick`, which waits between two looks, those to come too. Raises `JournalBroken`."""
        current = self._open()
        if current is None and tick is not None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        try:
            for path in self._before(current):
                with path.open("rb") as old:
                    yield from self._lines(old, path)
                self._must_be_whole()
            while current is not None:
                yield from self._lines(current, self._path)
                if tick is None:
                    return
                if (following := self._following(current)) is None:
                    tick()
                    continue
                yield from self._lines(current, self._path)  # what was written before it was full
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
        """Return how many bytes stand behind the last whole line."""
        return len(self._rest)

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def _before(self, current: BinaryIO | None) -> Iterator[Path]:
        """Yield the full files before the open one, which may have become one of them since."""
        for path in full_segments(self._path.parent) if self._path.parent.is_dir() else ():
            if current is not None and _is_same(path, current):
                return
            yield path

    def _following(self, current: BinaryIO) -> BinaryIO | None:
        """Open the file that is written now, if it is another one."""
        try:
            return None if _is_same(self._path, current) else self._open()
        except FileNotFoundError:
            return None  # taken away: it may come back

    def _between(self, current: BinaryIO, following: BinaryIO) -> list[Path]:
        """Return the full files that were begun after one open file and before another."""
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
        """Yield the entries up to the end that the file has now; goes on where it was."""
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
    """Return the reports of all kills, from all files, and the first fault; what is behind it is left out.

    Raises `OSError`.
    """
    report_builder = ReportBuilder(budget_us, keep=None)
    try:
        for number, entry in enumerate(JournalReader(path).entries()):
            if entry["kind"] == checkpoint.KIND and number:
                continue  # it says what those before it have said
            report_builder.take(entry)
    except JournalBroken as broken:
        return report_builder, broken
    return report_builder, None
