"""Signals from the first line of `run` until the daemon can act on them, and after its end.

By default SIGUSR1 and SIGHUP end a process; here they are recorded for the daemon. A SIGUSR1 is also written to a latch
file, which outlives the process. This module imports little, because it is loaded first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
_TOGETHER_S = 0.005  # seconds for a SIGUSR1 that arrives with the SIGTERM
SETTLE_WITHIN_S = 1.0  # seconds for a latch file that is being written when the process ends


class SignalHolder:
    """The signals that arrived while no event loop could handle them."""

    def __init__(self) -> None:
        self.recorded: list[int] = []  # signals, in the order of their arrival
        self.lines: list[str] = []  # lines of latch files that were written for recorded signals and requests
        self._directories: tuple[Path, Path] | None = None  # state and runtime; None: find them in the configuration
        self._ends = True  # SIGTERM and SIGINT end the process
        self._installed = False
        self._writers: list[threading.Thread] = []  # threads that write latch files

    def install(self) -> None:
        """Catch the signals from now on, also if the parent process has blocked them."""
        self._installed = True
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    @contextlib.contextmanager
    def hand_over(self) -> Iterator[None]:
        """Pass the signals to an event loop within the context; catch them again afterwards.

        The event loop must call `listen` at its beginning and `block` before it is closed.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # because for a moment neither handler is installed
        try:
            yield
        finally:
            self._ends = False  # because the process is ending already
            if self._installed:
                self.install()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def listen(self, add: Callable[..., object], act: Callable[[int], object]) -> None:
        """Install `act` as the handler of each signal; `add` is the event loop's `add_signal_handler`."""
        for number in SIGNALS:
            add(number, act, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def block(self) -> None:
        """Block the signals, because the event loop is about to be closed and its handlers end with it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def set_directories(self, state_dir: Path, runtime_dir: Path) -> None:
        """Set the directories for latch files, once the configuration has been read."""
        self._directories = state_dir, runtime_dir

    def record(self, number: int) -> None:
        """Record a signal for the daemon; for SIGUSR1, also write a latch file."""
        self.recorded.append(number)
        if number == signal.SIGUSR1:
            self.leave_latch("operator: SIGUSR1")

    def leave_latch(self, text: str, accounts: Sequence[str] | None = None) -> None:
        """Begin to write a latch file for these accounts, in a thread; None: for all. Does not wait for the disk."""
        thread = threading.Thread(target=self._write_latch, args=(text, accounts), name="latch", daemon=True)
        thread.start()  # before it is listed, because `settle` cannot join a thread that has not begun
        self._writers.append(thread)

    def settle(self, within_s: float = SETTLE_WITHIN_S) -> None:
        """Wait for the latch files that are being written, at most `within_s` seconds for each."""
        for thread in tuple(self._writers):
            thread.join(within_s)
            with contextlib.suppress(ValueError):  # another thread calls this too
                self._writers.remove(thread)

    def hold_until_exit(self) -> None:
        """Block signals until the process ends; write a latch file for a SIGUSR1 that is pending. To be called last."""
        self.block()
        if signal.SIGUSR1 in signal.sigpending():
            self.record(signal.SIGUSR1)
        self.settle()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number not in (signal.SIGTERM, signal.SIGINT):
            self.record(number)
        elif self._ends:
            self._ends = False
            threading.Thread(target=self._end, name="end", daemon=True).start()

    def _end(self) -> None:
        """End the process from a thread of its own; no strike is in progress yet.

        An exception raised in the signal's handler could be swallowed by the main thread's code, or be taken for a
        failed import. Waiting there could block a latch file's thread, which may need an import of the main thread.
        """
        time.sleep(_TOGETHER_S)
        self.settle()
        os._exit(0)

    def _write_latch(self, text: str, accounts: Sequence[str] | None) -> None:
        from kill_switch import clock

        # imported in this thread, because the main thread may be importing them
        from kill_switch.journal import latch_file, latch_lines

        try:
            directories = self._directories or _find_directories()
            line = latch_lines.latch_line(text, "all" if accounts is None else accounts, clock.now())
            self.lines.append(line.decode())  # before the file shows it, because the daemon handles the kill itself
            files = [directory / latch_file.LATCH_NAME for directory in directories]
            self.lines += latch_file.append_to_first(files, line, sync=True)  # a full disk may cut the line off
        except Exception as error:  # the daemon of this process still handles it, if the process lives
            sys.stderr.write(f"kill-switch: no latch file can be written for {text}: {type(error).__name__}\n")


SIGNAL_HOLDER = SignalHolder()


def _find_directories() -> tuple[Path, Path]:
    """Find state and runtime directory by the command line's option, because no configuration has been read yet."""
    from kill_switch.control import paths

    words = sys.argv[1:]
    named = None
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word in ("-c", "--config"):
            named = after
        elif word.startswith("--config="):
            named = word.partition("=")[2]
        elif word.startswith("-c") and not word.startswith("--"):
            named = word[2:]
    return paths.directories(Path(named) if named else None, environ=os.environ)
