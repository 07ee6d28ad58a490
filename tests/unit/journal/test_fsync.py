"""The sync beside: what counts as on the disk, who waits for it, and a disk that fails or hangs."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kill_switch.journal.fsync import FsyncThread


class Disk:
    """Stand in for `fdatasync`: it does what it is told, one call after the other, and says when it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.fails = False
        self.calls = 0

    def __call__(self, fd: int) -> None:
        os.fstat(fd)
        self.calls += 1
        self.begun.release()
        assert self.go_on.acquire(timeout=10)
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr("kill_switch.journal.fsync.os.fdatasync", made)
    return made


@pytest.fixture
def made(tmp_path: Path, disk: Disk) -> Iterator[FsyncThread]:
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    syncing = FsyncThread(fd, 0, lambda: None)
    yield syncing
    for _ in range(5):
        disk.go_on.release()
    syncing.close(0, 10)
    os.close(fd)


def until(true: Callable[[], bool]) -> None:
    """Wait for the thread, which is about to be done."""
    for _ in range(10_000):
        if true():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not come to that")


def test_nothing_counts_as_on_the_disk_before_the_sync_is_over(made: FsyncThread, disk: Disk) -> None:
    made.request(100)
    assert disk.begun.acquire(timeout=10)
    assert made.durable == 0
    assert made.running_ns(1 << 62) > 0
    disk.go_on.release()
    until(lambda: made.durable == 100)
    until(lambda: made.running_ns(1 << 62) == 0)
    assert made.trouble == ""


def test_many_who_ask_during_one_sync_wait_for_one_more(made: FsyncThread, disk: Disk) -> None:
    made.request(100)
    assert disk.begun.acquire(timeout=10)
    for size in range(101, 150):
        made.request(size)
    disk.go_on.release()
    assert disk.begun.acquire(timeout=10)
    assert made.durable == 100
    disk.go_on.release()
    until(lambda: made.durable == 149)
    assert disk.calls == 2


def test_after_a_failure_the_same_bytes_count_no_more_and_later_ones_do(made: FsyncThread, disk: Disk) -> None:
    disk.fails = True
    made.request(100)
    disk.go_on.release()
    until(lambda: made.trouble == "Input/output error")
    disk.fails = False
    made.request(150)  # some of these were written while it failed
    disk.go_on.release()
    until(lambda: disk.calls == 2 and made.running_ns(1 << 62) == 0)
    assert made.durable == 0
    made.request(151)
    disk.go_on.release()
    until(lambda: made.durable == 151)
    assert made.trouble == "Input/output error"


def test_a_sync_that_was_asked_for_before_a_failure_proves_nothing_after_it(made: FsyncThread, disk: Disk) -> None:
    made.request(100)
    assert disk.begun.acquire(timeout=10)
    made.request(120)
    disk.fails = True
    disk.go_on.release()
    assert disk.begun.acquire(timeout=10)
    disk.fails = False
    disk.go_on.release()
    until(lambda: made.running_ns(1 << 62) == 0)
    assert made.durable == 0


def test_a_failure_of_the_further_step_fails_the_fsync(tmp_path: Path, disk: Disk) -> None:
    def fails() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    syncing = FsyncThread(fd, 0, fails)
    syncing.close(100, 10)
    os.close(fd)
    assert (syncing.durable, syncing.trouble, disk.calls) == (0, "Read-only file system", 0)


def test_the_close_waits_for_a_last_sync(tmp_path: Path, disk: Disk) -> None:
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    syncing = FsyncThread(fd, 0, disk.go_on.release)
    syncing.close(100, 10)
    os.close(fd)
    assert syncing.durable == 100


def test_the_close_does_not_wait_for_ever(tmp_path: Path, disk: Disk) -> None:
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    syncing = FsyncThread(fd, 0, lambda: None)
    syncing.close(100, 0.01)
    assert syncing.durable == 0
    disk.go_on.release()
    syncing._thread.join(10)
    os.close(fd)
