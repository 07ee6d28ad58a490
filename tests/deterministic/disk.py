"""Be the machine's disk: take what is written, refuse it, lose it with the power; and forget the runtime directory.

What is written is in the kernel's memory, and outlives a process. What has been synced outlives the machine. A sync
that fails leaves its bytes marked as written: no later one writes them, so that a power cut may find a gap there. Of
what was not synced, a power cut leaves as much as it likes; a file that was removed may be back.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from kill_switch.journal import journal, latch_file
from kill_switch.journal import write_ahead as intent

if TYPE_CHECKING:
    from .oracle import Judge
    from .scheduler import World


class Disk:
    """The state directory's disk, and the runtime directory, which is in memory."""

    def __init__(self, world: World, judge: Judge, state: Path, run: Path) -> None:
        self.world, self.judge = world, judge
        self.journal, self.latch = state / journal.NAME, state / latch_file.LATCH_NAME
        self.chance = world.more
        self.full = False
        self.short = False  # there is room for a part of each record
        self.no_names = False  # while it is full, it does not even make an empty file
        self.fails = False  # to sync
        self.slow_s = 0.0
        self.hangs = False  # whoever asks for anything waits
        self.displaced = False  # somebody has taken the journal away, or cut it
        self.step: Callable[[], object] = lambda: None  # said before and after what a thread asks for
        self.sick_ns = 0  # when it last was any of that
        self._hung_ns = -(10**18)  # when it last began or ceased to hang
        self._lame_ns = -(10**18)  # when it last began or ceased to sync as it should
        self.durable = 0  # bytes of the journal that a power cut leaves, with gaps perhaps; over all its files
        self._base = self._before = 0  # bytes of the files before this one
        self._full: Path | None = None  # the file that had the name before, as long as a power cut may give it back
        self._state, self._run = state, run
        self._clean = 0  # bytes of the journal that the kernel holds for written
        self._lost: list[tuple[int, int]] = []  # that it does not hold rightly
        self._inode = 0
        self._latch: bytes | None = None  # what a power cut leaves of the latch file; None: none

    @property
    def sick(self) -> bool:
        return self.full or self.short or self.fails or self.hangs or self.slow_s > 0

    @property
    def kept(self) -> int:
        """Bytes of the journal's file that a power cut leaves in any case."""
        status = self.journal.stat()
        return max(0, min(self.durable - self._base, status.st_size)) if status.st_ino == self._inode else 0

    def displace(self, way: str) -> None:
        """Take the journal away from under the process, or cut it."""
        self.world.note("disk: the journal is", way)
        self.displaced = True
        match way:
            case "removed":
                self.journal.unlink()
            case "emptied":
                for path in self._state.iterdir():
                    path.unlink()
            case _:
                os.truncate(self.journal, self.journal.stat().st_size // 2)

    def opened(self) -> None:
        """Count bytes from the beginning of the file that there is: a new process does."""
        self.displaced = False
        self._before, self._base = self._base, 0
        self.durable = max(0, self.durable - self._before)

    def forget_base(self) -> int:
        """Return how many bytes a process before this one had counted in files that were full, once."""
        before, self._before = self._before, 0
        return before

    @property
    def intent(self) -> Path:
        return self._run / intent.NAME

    def syncs_for(self, seconds: float) -> bool:
        """Say whether a sync has worked and been fast for so long, whether or not there is room."""
        return not self.fails and not self.slow_s and not self.hangs and self.world.ns - self._lame_ns >= seconds * 1e9

    @property
    def marked(self) -> bool:
        """There was a journal once."""
        return (self._state / "lock").stat().st_size > 0

    @property
    def has_latch(self) -> bool:
        """The latch file that there is would be there after a power cut."""
        return self._latch is not None

    def hung_for(self, seconds: float) -> bool:
        """Say whether it hangs, or has within so long."""
        return self.hangs or self.world.ns - self._hung_ns < seconds * 1e9

    def well_for(self, seconds: float) -> bool:
        return not self.sick and self.world.ns - self.sick_ns >= seconds * 1e9

    def fault(self, kind: str, on: bool) -> None:
        self.world.note("disk", kind, on)
        self.sick_ns, lame = self.world.ns, (self.fails, self.slow_s)
        match kind:
            case "full":
                self.full, self.no_names = on, on and self.chance.random() < 0.5
            case "short":
                self.short = on
            case "fails":
                self.fails = on
            case "hangs":
                self.hangs = on
            case _:
                self.slow_s = 2.0 if on else 0.0
        if kind == "hangs":
            self._hung_ns = self.world.ns
        if lame != (self.fails, self.slow_s) or kind == "hangs":
            self._lame_ns = self.world.ns

    def has_files(self) -> bool:
        """Say whether there is any latch file."""
        return self.latch.exists() or (self._run / latch_file.LATCH_NAME).exists()

    def heal(self) -> None:
        for kind in ("full", "short", "fails", "slow", "hangs"):
            self.fault(kind, False)

    def takes_s(self) -> float:
        """Return how long a sync takes."""
        return self.slow_s or self.chance.random() ** 3 * (2.0 if self.chance.random() < 0.1 else 0.05)

    # what the product asks of it

    def _ours(self, fd: int) -> bool:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(f"{self._state}/")

    def write(self, fd: int, data: bytes) -> int:
        self.step()
        if self._ours(fd):
            if self.full:
                raise _error(errno.ENOSPC)
            if self.short:
                data = data[: self.chance.randrange(len(data))]
                if not data:
                    raise _error(errno.ENOSPC)
        written = os.write(fd, data)
        self.step()
        return written

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if self.full and self._ours(fd):
            raise _error(errno.ENOSPC)
        return os.pwrite(fd, data, offset)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        if self.full and self.no_names and flags & os.O_CREAT and path.parent == self._state and not path.exists():
            raise _error(errno.ENOSPC)
        return os.open(path, flags, mode)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)
        if os.fstat(fd).st_ino == self._inode:
            self.durable, self._clean = min(self.durable, self._base + size), min(self._clean, size)

    def link(self, source: Path, target: Path) -> None:
        self.step()
        if self.full and self.no_names:
            raise _error(errno.ENOSPC)
        os.link(source, target)
        self.step()

    def rename(self, source: Path, target: Path) -> None:
        """Give the journal's name to its next file, which was synced."""
        self.step()
        if target == self.journal:
            self._full = latest(self._state)
            self._base += target.stat().st_size
            self._inode, self._clean, self._lost = source.stat().st_ino, 0, []
            self.world.note("disk: a new file, behind", self._base)
        os.rename(source, target)
        self.step()

    def fdatasync(self, fd: int) -> None:
        """Sync the journal, and what names there are."""
        status = os.fstat(fd)
        if not self._current(fd):  # a file that was full, and was synced as such
            return
        if status.st_ino != self._inode:  # another one has been begun
            self._inode, self._clean, self._lost = status.st_ino, 0, []
            self.durable = self._base = 0
        size = status.st_size
        if self.fails:
            if self._clean < size:
                self._lost.append((self._clean, size))
                self._clean = size
            self.world.note("disk: sync failed at", size)
            raise _error(errno.EIO)
        if self._clean < size:
            self._clean, self.durable = size, self._base + size
        self._names()
        self.world.note("disk: synced", size)
        self.judge.synced(self.durable)

    def _current(self, fd: int) -> bool:
        return not self.displaced and os.fstat(fd).st_ino == self.journal.stat().st_ino

    def fsync(self, fd: int) -> None:
        """Sync a latch file, a directory, or the journal before its next file is begun."""
        self.step()
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if path == self.journal:
            self.fdatasync(fd)
            return
        if self.fails and path.is_relative_to(self._state):
            raise _error(errno.EIO)
        self._names()
        if path == self.latch:
            self._latch = self.latch.read_bytes() if self.latch.exists() else None
            if self._latch is not None:
                self.judge.latch_synced(self._latch)

    def _names(self) -> None:
        """Take note of a removal: names are kept in order, and go along with whatever is synced."""
        if not self.latch.exists():
            self._latch = None
        self._full = None

    # its death

    def cut(self, left: int) -> None:
        """Lose the power, with `left` bytes of the journal."""
        chance, damaged = self.chance, False
        if self._full is not None and chance.random() < 0.5:  # its name was never synced: it is the old one's again
            self.journal.unlink()
            os.link(self._full, self.journal)
            self._lost, left = [], self.journal.stat().st_size
            self.world.note("the journal's file that was full is back under its name")
        self._full = None
        if self.journal.stat().st_ino != self._inode:
            self._lost = []  # of another journal, which was set aside
        with self.journal.open("r+b") as file:
            file.truncate(left)
            for begin, end in self._lost:
                if begin < min(end, left) and chance.random() < 0.5:
                    file.seek(begin)
                    file.write(bytes(min(end, left) - begin))
                    damaged = True
            self._inode = os.fstat(file.fileno()).st_ino
        self._before, self._base = self._before + self._base, 0
        self.durable = self._clean = left  # whatever is found now has been read from the disk
        self._lost = []
        now = self.latch.read_bytes() if self.latch.exists() else None
        after = chance.choice((now, self._latch))
        if after is None:
            self.latch.unlink(missing_ok=True)
        else:
            self.latch.write_bytes(after)
        self._latch = after
        for path in self._run.iterdir():
            path.unlink()
        self.world.note(
            "of the journal", left, "bytes are left", "with a gap" if damaged else "", "and a latch file:", after
        )
        self.judge.rebooted(damaged, after)


def latest(directory: Path) -> Path:
    """Return the last of the journal's full files."""
    return max(directory.glob("journal-*.jsonl"))


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def standin(here: list[World]) -> SimpleNamespace:
    """Make an `os` whose disk is that of the world that is there."""
    ways = ("write", "pwrite", "open", "ftruncate", "fdatasync", "fsync", "link", "rename")

    def through(way: str) -> object:
        return lambda *arguments: getattr(here[-1].disk, way)(*arguments)

    return SimpleNamespace(**{**vars(os), **{way: through(way) for way in ways}})
