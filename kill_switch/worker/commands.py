"""The worker process that runs the operator's commands: hooks, and the command that carries messages.

`python -m kill_switch.worker.commands FD` reads one JSON line a command from standard input. It forks a keeper for each
command, which writes the outcome to `FD`, a pipe to the daemon. It has one thread, and uses no library that could
block.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from kill_switch.worker import environment, subordinate
from kill_switch.worker.subordinate import LAST_S, PATH

AT_ONCE = 64  # commands at the same time; systemd's TasksMax counts them and their keepers
LEFT = 64  # keepers that still read output of processes left by commands; the oldest are ended
OUTPUT_BYTES = 500  # first bytes of a command's output that are kept, so that a line stays below `LINE_BYTES`
LINE_BYTES = 4096  # PIPE_BUF; because keepers share the pipe, longer lines could be torn
DRAIN_S = 0.2  # seconds; output is read so long after the command's end, because others may hold the pipe
CHUNK = 1 << 16

Errand = Mapping[str, Any]
Outcome = dict[str, Any]


# ── the keeper of one command ─────────────────────────────────────────────────────────────────────────────────────


class Wake:
    """A pipe that becomes readable when a signal arrives."""

    def __init__(self) -> None:
        self.fd, self._in = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._in, False)
        signal.set_wakeup_fd(self._in, warn_on_full_buffer=False)

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, CHUNK)


class CommandKeeper:
    """The process that runs one command, without a shell, in its own session, and kills its group after its time."""

    def __init__(self, errand: Errand, outcomes: int) -> None:
        """Start the command; raise `OSError`.

        `outcomes` is the daemon's pipe: its end shows that the daemon has ended.
        """
        environ = environment.visible(environment.COMMAND)
        self._began_s = time.monotonic()
        self._within_s: float = errand["within_s"]
        self._until_s = self._began_s + self._within_s
        self._text = errand.get("text", "").encode()
        self._kept = bytearray()
        self._outcomes = outcomes
        self._hurried = False
        self._wake = Wake()
        signal.signal(signal.SIGUSR1, lambda *_: self._hurry())
        theirs, self._in = os.pipe()
        self._out, into = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603 - the operator's own command
            errand["argv"],
            stdin=theirs,
            stdout=into,
            stderr=subprocess.STDOUT,
            env={"PATH": PATH, **environ, **errand["env"]},
            cwd="/",
            start_new_session=True,
            preexec_fn=lambda: subordinate.die_with_parent(signal.SIGKILL),  # safe, because there is one thread
        )
        os.close(theirs)
        os.close(into)
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._poll = select.poll()
        self._poll.register(self._wake.fd, select.POLLIN)
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._in, select.POLLOUT)
        self._poll.register(outcomes, 0)  # POLLERR once the daemon has closed its end

    def run(self) -> Outcome:
        """Wait for the command's end and return its outcome."""
        why = ""
        while self._process.poll() is None:
            if time.monotonic() < self._until_s:
                self._turn(self._until_s)
            else:
                why = "killed: the daemon ended" if self._hurried else f"killed after {self._within_s:g} s"
                self._kill()
                self._process.wait()
        ms = round((time.monotonic() - self._began_s) * 1e3)
        drain_s = time.monotonic() + DRAIN_S
        while self._out >= 0 and time.monotonic() < drain_s:
            self._turn(drain_s)
        code: int = self._process.returncode
        why = why or ("" if code == 0 else f"exit code {code}" if code > 0 else f"ended by signal {-code}")
        output = bytes(self._kept).decode("utf-8", "replace")
        return {"ok": not why, "why": why, "code": code, "ms": ms, "output": output}

    def drain(self) -> None:
        """Read until all writers or the daemon end, so that processes that the command started are not blocked."""
        while self._out >= 0 and not self._hurried:
            self._turn(None)

    def _turn(self, until_s: float | None) -> None:
        """Handle the next events; wait for them until `until_s` at most."""
        wait_ms = None if until_s is None else max(0.0, until_s - time.monotonic()) * 1e3
        for fd, event in self._poll.poll(wait_ms):
            if fd == self._wake.fd:
                self._wake.clear()
            elif fd == self._outcomes:
                self._poll.unregister(fd)
                self._hurry()
            elif fd == self._out:
                self._read()
            elif fd == self._in:
                self._feed(bool(event & select.POLLERR))

    def _read(self) -> None:
        try:
            chunk = os.read(self._out, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self._kept += chunk[: max(0, OUTPUT_BYTES - len(self._kept))]
        if not chunk:
            self._poll.unregister(self._out)
            self._out = -1

    def _feed(self, refused: bool) -> None:
        if not refused:
            with contextlib.suppress(OSError):
                self._text = self._text[os.write(self._in, self._text) :]
        if refused or not self._text:
            self._poll.unregister(self._in)
            os.close(self._in)
            self._in = -1

    def _hurry(self) -> None:
        self._hurried = True
        self._until_s = min(self._until_s, time.monotonic() + LAST_S)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def which(errand: Errand) -> Outcome:
    """Return whether a command's program exists and can be run."""
    program: str = errand["argv"][0]
    path = shutil.which(program, path=os.environ.get("PATH", PATH))
    return {"ok": path is not None, "why": f"{program} is not a program that this process could run"}


def keep_command(errand: Errand, outcomes: int) -> None:
    """Carry out one errand in its own process, and write the outcome."""
    keeper = None
    try:
        if errand["do"] == "find":
            outcome = which(errand)
        else:
            keeper = CommandKeeper(errand, outcomes)
            outcome = keeper.run()
    except Exception as error:  # the exception's text may show a secret
        known = isinstance(error, OSError) and error.strerror
        outcome = {"ok": False, "why": known or type(error).__name__}
    write_outcome(outcomes, {"id": errand["id"], **outcome})
    if keeper is not None:
        keeper.drain()


def write_outcome(outcomes: int, line: Outcome) -> None:
    """Write a line to the daemon, if its end of the pipe is open."""
    whole = orjson.dumps(line) + b"\n"
    if len(whole) > LINE_BYTES:
        whole = orjson.dumps({**line, "output": "", "why": str(line.get("why"))[:OUTPUT_BYTES]}) + b"\n"
    with contextlib.suppress(OSError):
        os.write(outcomes, whole)


# ── the desk ──────────────────────────────────────────────────────────────────────────────────────────────────────


class KeptCommand(NamedTuple):
    """A keeper process that has not ended."""

    number: int  # the errand's number
    until_s: float  # the command has ended by this time


class CommandServer:
    """The process's main loop: it reads errands, forks a keeper for each, and collects those that ended.

    A command survives the end of this process, because its keeper writes the outcome to the daemon. If a keeper is
    killed, its command is killed too. When the daemon has ended, a running command has `LAST_S` left; then its process
    group is killed.
    """

    def __init__(self, errands: int, answers: int, outcomes: int) -> None:
        """Use three pipes: errands from the daemon, answers of this process, outcomes of all keepers."""
        self._errands, self._answers, self._outcomes = errands, answers, outcomes
        self._keepers: dict[int, KeptCommand] = {}  # process id → keeper, the oldest first
        self._wake = Wake()
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Read errands until the pipe ends; then give running commands `LAST_S`."""
        poll = select.poll()
        poll.register(self._errands, select.POLLIN)
        poll.register(self._wake.fd, select.POLLIN)
        text = b""
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._wake.fd in ready:
                self._wake.clear()
                self._collect()
            if self._errands in ready:
                chunk = os.read(self._errands, CHUNK)
                if not chunk:
                    break
                *lines, text = (text + chunk).split(b"\n")
                for line in lines:
                    self.start_job(orjson.loads(line))
        for pid in self._keepers:
            os.kill(pid, signal.SIGUSR1)
        until_s = time.monotonic() + LAST_S + DRAIN_S
        while self._keepers and time.monotonic() < until_s:
            time.sleep(0.02)
            self._collect()

    def start_job(self, errand: Errand) -> None:
        """Begin an errand, or answer a heartbeat."""
        now_s = time.monotonic()
        match errand["do"]:
            case "beat":
                write_outcome(self._answers, {"beat": errand["id"]})
            case _ if now_s > errand["begin_by_s"]:
                self._decline(errand, "not begun: the errand arrived too late")
            case _ if sum(kept.until_s > now_s for kept in self._keepers.values()) >= AT_ONCE:
                self._decline(errand, "not begun: too many commands are running")
            case _:
                # sent before the fork, so that the command is never begun twice
                write_outcome(self._outcomes, {"begun": errand["id"]})
                self._fork(errand, now_s)

    def _fork(self, errand: Errand, now_s: float) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._decline(errand, error.strerror or type(error).__name__)
            return
        if pid == 0:
            self._become_keeper(errand)
        self._keepers[pid] = KeptCommand(errand["id"], now_s + errand["within_s"] + DRAIN_S)
        left = [old for old, kept in self._keepers.items() if kept.until_s < now_s]
        for old in left[:-LEFT]:
            os.kill(old, signal.SIGKILL)

    def _decline(self, errand: Errand, why: str) -> None:
        """Report that a command has not begun and will not, so that it can be sent again."""
        write_outcome(self._answers, {"id": errand["id"], "ok": False, "why": why, "lost": "unbegun"})

    def _become_keeper(self, errand: Errand) -> None:
        """Continue as the keeper, in a session that signals to this process do not reach; ends the process."""
        code = 1
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for fd in (self._errands, self._answers):
                os.dup2(nothing, fd)
            keep_command(errand, self._outcomes)
            code = 0
        finally:
            os._exit(code)

    def _collect(self) -> None:
        """Collect the keepers that ended, and report those that were killed before they could write an outcome."""
        while self._keepers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            kept = self._keepers.pop(pid, None)
            if kept is not None and status and kept.until_s > time.monotonic():
                why = f"its keeper process was killed by signal {os.WTERMSIG(status)}, and the command with it"
                write_outcome(self._answers, {"id": kept.number, "ok": False, "why": why, "lost": "interrupted"})


def main() -> None:
    """Serve the process that started this one."""
    subordinate.begin()
    CommandServer(sys.stdin.fileno(), sys.stdout.fileno(), int(sys.argv[1])).serve()
    os._exit(0)


if __name__ == "__main__":
    main()
