"""Fsync the journal in a thread of its own, and count the bytes that are durable.

After a failed fsync Linux may drop the dirty pages and report success next time ("fsyncgate", 2018). Therefore a
success after a failure counts only if bytes were appended in between. Lost bytes before them break the hash chain,
which the next read detects.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable

from kill_switch import clock


class FsyncThread:
    """Fsync one append-only file, and then the next, on request; no caller waits."""

    def __init__(
        self,
        fd: int,
        size: int,
        beside: Callable[[], None],
        begin: Callable[[threading.Thread], object] = threading.Thread.start,
    ) -> None:
        """Start the thread with `begin`; `size` bytes are in the file already.

        `beside` is called in the thread before each fsync; if it raises `OSError`, the fsync counts as failed.
        """
        self.durable = 0  # bytes that survive a power cut, or whose loss the hash chain shows
        self.trouble = ""  # why bytes of the file may not be durable; stays after the first failure
        self._fd = os.dup(fd)  # because the writer may close its descriptor during an fsync
        self._next_files: deque[int] = deque()  # descriptors of the files that follow
        self._beside = beside
        self._wanted = 0
        self._unverified_bytes = size  # a success counts only beyond these bytes
        self._failed = False  # the last fsync failed: the next request sets `_unverified_bytes`
        self._wakeup_sent = False
        self._wakeups: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._began_ns = 0  # monotonic time at which the current fsync began; 0: there is none
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        begin(self._thread)

    def request(self, size: int) -> None:
        """Request an fsync; `size` is the length of the file in bytes, and ends with a whole record."""
        if self._failed:
            self._unverified_bytes, self._failed = size, False
        self._wanted = size
        if not self._wakeup_sent:
            self._wakeup_sent = True
            self._wakeups.put(True)

    def running_ns(self, mono_ns: int) -> int:
        """Return for how many nanoseconds the current fsync has lasted; 0 if there is none."""
        began_ns = self._began_ns
        return mono_ns - began_ns if began_ns else 0

    def close(self, size: int, within_s: float) -> None:
        """Fsync once more and close the files; wait for `within_s` seconds at most."""
        self.request(size)
        self._wakeups.put(False)
        self._thread.join(timeout=within_s)
        if not self._thread.is_alive():
            self._close_files()

    def switch_file(self, fd: int) -> None:
        """Continue with the next file, and take ownership of `fd`.

        The file before must be durable. Sizes continue from its size.
        """
        self._next_files.append(fd)

    def _run(self) -> None:
        while self._wakeups.get():
            self._wakeup_sent = False  # before the size is read, so that a later request wakes the thread again
            self._began_ns = clock.now().mono_ns
            self._sync_once()
            self._began_ns = 0

    def _close_files(self) -> None:
        """Close every descriptor."""
        for fd in (self._fd, *self._next_files):
            os.close(fd)
        self._next_files.clear()
        self._fd = -1

    def _sync_once(self) -> None:
        size = self._wanted
        while self._next_files:
            os.close(self._fd)
            self._fd = self._next_files.popleft()
        try:
            self._beside()
            os.fdatasync(self._fd)
        except OSError as error:
            self._failed, self.trouble = True, error.strerror or type(error).__name__
            return
        if size > self._unverified_bytes and not self._failed:
            self.durable = size
