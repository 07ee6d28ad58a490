"""Hold signals from the first line of `run` until the daemon can act on them, and from its end on.

Python's own answer to SIGUSR1 and SIGHUP is to die. Before the daemon stands, SIGUSR1 and SIGHUP are noted, and SIGTERM
and SIGINT end the process in good order: nothing is under way. A SIGUSR1 is left as a latch as well, so that it
outlives this process. This module imports next to nothing, since it has to be there first.
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
_TOGETHER_S = 0.005  # for a SIGUSR1 of the same moment
SETTLE_WITHIN_S = 1.0  # for a latch that is being left when the process ends


class SignalHolder:
    """What has come for a daemon that cannot act yet, or any more."""

    def __init__(self) -> None:
        self.recorded: list[int] = []  # signals, in the order in which they came
        self.lines: list[str] = []  # of latch files, that stand for what is noted here
        self._directories: tuple[Path, Path] | None = None  # state and runtime; None: to be looked up
        self._ends = True  # SIGTERM and SIGINT end the process
        self._installed = False
        self._leaving: list[threading.Thread] = []

    def install(self) -> None:
        """Take the signals from now on, also if whoever started this process has blocked them."""
        self._installed = True
        for number in SIGNALS:
            signal.signal(number, self._take)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    @contextlib.contextmanager
    def hand_over(self) -> Iterator[None]:
        """Leave the signals to an event loop, which begins with `listen`; take them again when it has been closed."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # between us and the loop there would be a moment of nobody
        try:
            yield
        finally:
            self._ends = False  # it is ending anyway
            if self._installed:
                self.install()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def listen(self, add: Callable[..., object], act: Callable[[int], object]) -> None:
        """Have an event loop take the signals; `add` is its `add_signal_handler`."""
        for number in SIGNALS:
            add(number, act, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def block(self) -> None:
        """Let signals wait: the event loop is about to be closed, and with it go its handlers."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def set_directories(self, state_dir: Path, runtime_dir: Path) -> None:
        """Take note of where latches are left."""
        self._directories = state_dir, runtime_dir

    def record(self, number: int) -> None:
        """Keep a signal for the daemon that will stand; a kill is left as a latch, too."""
        self.recorded.append(number)
        if number == signal.SIGUSR1:
            self.leave_latch("operator: SIGUSR1")

    def leave_latch(self, text: str, accounts: Sequence[str] | None = None) -> None:
        """Leave a latch for what a daemon has to do, for all accounts if none are named; nobody waits for the disk."""
        thread = threading.Thread(target=self._leave, args=(text, accounts), name="latch", daemon=True)
        thread.start()  # first: whoever settles meanwhile can wait for no thread that has not begun
        self._leaving.append(thread)

    def settle(self, within_s: float = SETTLE_WITHIN_S) -> None:
        """Wait for latches that are being left, so long for each at most."""
        for thread in tuple(self._leaving):
            thread.join(within_s)
            with contextlib.suppress(ValueError):  # another thread has settled too
                self._leaving.remove(thread)

    def hold_until_exit(self) -> None:
        """Take signals for the last time: the process ends behind this."""
        self.block()
        if signal.SIGUSR1 in signal.sigpending():
            self.record(signal.SIGUSR1)
        self.settle()

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number not in (signal.SIGTERM, signal.SIGINT):
            self.record(number)
        elif self._ends:
            self._ends = False
            threading.Thread(target=self._end, name="end", daemon=True).start()

    def _end(self) -> None:
        """End the process, beside the main thread: nothing is under way.

        An exception in a signal's handler may meet code that swallows it, or an import that takes it for another
        fault. And a latch that is being left may wait for an import that only the main thread can end.
        """
        time.sleep(_TOGETHER_S)
        self.settle()
        os._exit(0)

    def _leave(self, text: str, accounts: Sequence[str] | None) -> None:
        from kill_switch import clock
        from kill_switch.journal import latch_file, latch_lines  # here, in a thread: the main one may be importing them

        try:
            directories = self._directories or _look_up()
            line = latch_lines.latch_line(text, "all" if accounts is None else accounts, clock.now())
            self.lines += latch_file.append_to_first(
                [directory / latch_file.LATCH_NAME for directory in directories], line, sync=True
            )
        except Exception as error:  # what is noted is done all the same, if this process lives
            sys.stderr.write(f"kill-switch: no latch can be left for {text}: {type(error).__name__}\n")


SIGNAL_HOLDER = SignalHolder()


def _look_up() -> tuple[Path, Path]:
    """Find the directories as the command line names them: the configuration has not been read yet."""
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
