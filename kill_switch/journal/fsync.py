"""Put files that only grow on the disk, in a thread beside, and know how much of it a power cut would leave.

A sync that fails may leave the bytes that it could not write marked as written: the next one succeeds, and has not
written them either. So a success counts only if it is one of later bytes. If earlier ones are missing before those,
the file shows it, as long as its records hang together.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable

from kill_switch import clock


class FsyncThread:
    """Sync one file, and then the next, whenever that is asked for; nobody waits for it."""

    def __init__(
        self,
        fd: int,
        size: int,
        beside: Callable[[], None],
        begin: Callable[[threading.Thread], object] = threading.Thread.start,
    ) -> None:
        """Begin; `size` bytes were there before. `beside` precedes each sync, in the thread; its `OSError` fails it.

        `begin` starts the thread.
        """
        self.durable = 0  # so many bytes outlive the machine, or leave a gap that is seen
        self.trouble = ""  # why the disk may not have what is in the file: once it has failed, nobody can tell
        self._fd = os.dup(fd)  # whoever writes the file may close it while a sync is under way
        self._next_files: deque[int] = deque()  # files that it goes over to
        self._beside = beside
        self._wanted = 0
        self._unverified_bytes = size  # whether the disk has these bytes, no sync of them alone will say
        self._failed = False  # just now: the bytes written up to the next asking are doubtful
        self._wakeup_sent = False
        self._wakeups: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._began_ns = 0  # of the sync that is under way
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        begin(self._thread)

    def request(self, size: int) -> None:
        """Have the file's first `size` bytes, all there are, put on the disk: whole records, written before this."""
        if self._failed:
            self._unverified_bytes, self._failed = size, False
        self._wanted = size
        if not self._wakeup_sent:
            self._wakeup_sent = True
            self._wakeups.put(True)

    def running_ns(self, mono_ns: int) -> int:
        """Return for how long the sync under way has lasted."""
        began_ns = self._began_ns
        return mono_ns - began_ns if began_ns else 0

    def close(self, size: int, within_s: float) -> None:
        """Sync once more, and let go of the file; a disk that hangs is not waited for any longer than that."""
        self.request(size)
        self._wakeups.put(False)
        self._thread.join(timeout=within_s)
        if not self._thread.is_alive():
            self._close_files()

    def switch_file(self, fd: int) -> None:
        """Go over to the next file, and own `fd`; sizes go on from those of the one before, which is on the disk."""
        self._next_files.append(fd)

    def _run(self) -> None:
        while self._wakeups.get():
            self._wakeup_sent = False  # before the size is looked at: whoever asks from now on is not forgotten
            self._began_ns = clock.now().mono_ns
            self._sync_once()
            self._began_ns = 0

    def _close_files(self) -> None:
        """Close what is open."""
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
            self._failed, self.trouble = True, error.strerror or "no"
            return
        if size > self._unverified_bytes and not self._failed:
            self.durable = size
