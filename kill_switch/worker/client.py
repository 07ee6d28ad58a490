"""Start, restart and talk to the worker processes: `kill_switch.worker.main` and `kill_switch.worker.commands`.

Notifications, hooks, the outer ping and metrics use this, because starting a process or calling a library may block.
The daemon only writes lines to a pipe and reads lines. Nothing here waits for a worker on the kill path.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shlex
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import anyio
import anyio.lowlevel
import orjson

from kill_switch.json_line import to_json_line
from kill_switch.system.host_port import HostPort
from kill_switch.system.offload import OffloadThread
from kill_switch.worker import child_process
from kill_switch.worker.access_files import NO_FILES, AccessFiles
from kill_switch.worker.output import OutputLog

log = logging.getLogger(__name__)

# seconds between two heartbeats, counted in ticks of the event loop: a daemon that was stopped has no ticks
BEAT_S = 1.0
MISSED = 4  # heartbeats without an answer after which the process counts as hung
BEGIN_S, BEGIN_CAP_S = 10.0, 60.0  # seconds from a start to the first answer; longer after each failed start
PAUSES_S = (0.2, 1.0, 2.0, 5.0, 15.0)  # seconds before the next start; the last value is repeated
STEADY_S = 60.0  # seconds; a process that lived longer resets the pauses
GRACE_S = 3.0  # seconds beyond an errand's own time, for its answer to arrive
DRAIN_S = 0.2  # seconds for the last lines of a process that has ended; its keepers may hold the pipe open
BACKLOG_BYTES = 4 << 20  # bytes in the daemon's end of the pipe while the process does not read
LINE_BYTES = 1 << 16
NOT_A_LINE = 20  # lines that are not understood, after which the process is replaced
UNBEGUN = "unbegun"
INTERRUPTED = "interrupted"


class JobResult(NamedTuple):
    """The outcome of an errand; `why` is one line that shows no secret.

    `lost` is set if the outcome is unknown. `UNBEGUN`: the errand has not begun and never will. `INTERRUPTED`: it may
    have begun.
    """

    ok: bool
    why: str = ""
    code: int | None = None
    ms: int = 0
    output: str = ""
    lost: str = ""


class JobRunner(Protocol):
    """Anything that carries out errands: a `WorkerClient`, `WorkerPool`, or a test's substitute."""

    async def run_job(self, job: str, within_s: float, **errand: object) -> JobResult: ...


@dataclass(slots=True, eq=False)
class _PendingJob:
    """An errand that was sent to the worker process."""

    about: str  # described for people
    outcome: asyncio.Future[JobResult]
    begun: bool = False


class MetricsSnapshot(NamedTuple):
    """The daemon's answer to a request for figures."""

    figures: Sequence[Mapping[str, Any]]
    unable: str = ""  # why no kill could be carried now; "": it could


class Exposure(NamedTuple):
    """The figures that a process exposes to Prometheus, the address, and the files that say who may read them."""

    at: HostPort
    snapshot: Callable[[], MetricsSnapshot]  # of this moment
    on_trouble: Callable[[str], object]  # called with the trouble of the server; "" once it works
    files: AccessFiles = NO_FILES


class WorkerClient:
    """A worker process, from the first errand on, for as long as `run` runs.

    A worker that ends or does not answer its heartbeat is killed and started again; errands in progress get an outcome.
    """

    def __init__(
        self,
        module: str = "kill_switch.worker.main",
        name: str = "the process for messages",
        *,
        outlives: bool = False,
        on_restart: Callable[[str], object] | None = None,
        exposure: Exposure | None = None,
    ) -> None:
        """`name` is for people. With `outlives`, errands that have begun survive the process (`commands`).

        `on_restart` gets a line for people when the process is started again; without it, the line is logged.
        """
        self.name = name
        self.trouble = ""
        self.restarts = 0
        self._on_restart = on_restart or partial(log.warning, "%s")
        self._exposure = exposure
        self._module = module
        self._outlives = outlives
        self._wanted = anyio.Event()
        self._up = anyio.Event()
        self._begun = False  # the process has answered once
        self._heard = False  # an answer has come since the last tick
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: asyncio.WriteTransport | None = None  # writes to the process
        self._starting = OffloadThread(f"the start of {name}")
        self._output = OutputLog(name)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _PendingJob] = {}

    @property
    def hangs(self) -> str:
        """Return a line for people if the start of a process hangs, else ""."""
        return self._starting.trouble

    @property
    def pid(self) -> int | None:
        """Return the number of the current process; None if there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def is_used(self) -> bool:
        """Return whether there are, or have been, errands for it."""
        return self._wanted.is_set()

    @property
    def is_up(self) -> bool:
        """Return whether the current process has answered, and is not given up."""
        return self._up.is_set() and self._begun

    def start_when_needed(self) -> None:
        """Announce that there will be errands, so that the process is started."""
        self._wanted.set()

    async def run_job(self, job: str, within_s: float, **errand: object) -> JobResult:
        """Run an errand; return its outcome, at the latest after 2 × (`within_s` + `GRACE_S`). Never raises.

        The errand begins within `GRACE_S` after it was sent, or not at all.
        """
        self.start_when_needed()
        wait_s = within_s + GRACE_S
        with anyio.move_on_after(wait_s) as scope:
            await self._up.wait()
        if scope.cancelled_caught:
            return JobResult(False, f"{self.name} was not running for {wait_s:g} s", lost=UNBEGUN)
        number = next(self._numbers)
        waiting = _PendingJob(_about(job, errand), asyncio.get_running_loop().create_future())
        self._waiting[number] = waiting
        begin_by_s = time.monotonic() + GRACE_S
        try:
            if not self._write({"do": job, "id": number, "within_s": within_s, "begin_by_s": begin_by_s, **errand}):
                return JobResult(False, f"{self.name} does not read its pipe", lost=UNBEGUN)
            with anyio.move_on_after(wait_s):
                return await waiting.outcome
            return JobResult(False, f"no outcome within {wait_s:g} s", lost=self._lost(waiting))
        finally:
            del self._waiting[number]

    async def run(self) -> None:
        """Keep a process running for ever, once it is wanted."""
        await self._wanted.wait()
        failures = 0
        async with self._outcomes() as outcomes:
            while True:
                began_s = time.monotonic()
                try:
                    why, lost = await self._run_one(outcomes, min(BEGIN_S * (failures + 1), BEGIN_CAP_S))
                except OSError as error:
                    why, lost = f"cannot be started: {error.strerror}", ()
                failures = 0 if time.monotonic() - began_s >= STEADY_S else failures + 1
                self.restarts += 1
                self.trouble = f"{self.name} {why}"
                self._on_restart(
                    f"{self.trouble}; it is started again" + (f"; under way: {', '.join(lost)}" if lost else "")
                )
                await anyio.sleep(PAUSES_S[min(max(failures, 1), len(PAUSES_S)) - 1])

    @contextlib.asynccontextmanager
    async def _outcomes(self) -> AsyncIterator[int]:
        """Read a pipe that outlives each process, and yield the end that processes write to; -1 if there is none."""
        if not self._outlives:
            yield -1
            return
        out, into = os.pipe()
        try:
            reader = asyncio.StreamReader(LINE_BYTES)
            reading, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(out, "rb", 0)
            )
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._listen, reader)
                    yield into
                    group.cancel_scope.cancel()
            finally:
                reading.close()
        finally:
            os.close(into)

    async def _run_one(self, outcomes: int, begin_s: float) -> tuple[str, Sequence[str]]:
        """Run one process until it must be replaced; it must answer within `begin_s` seconds.

        Return the reason for the replacement, and the errands that were in progress.
        """
        process = self._process = await self._starting.run(self._start, outcomes, drop=child_process.abandon)
        loop = asyncio.get_running_loop()
        out, errors = asyncio.StreamReader(LINE_BYTES), asyncio.StreamReader(LINE_BYTES)
        readings: list[asyncio.ReadTransport] = []
        ends: list[str] = []

        async def until(work: Callable[[], Awaitable[str]]) -> None:
            ends.append(await work())
            group.cancel_scope.cancel()

        try:
            self._pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
            for stream, pipe_end in ((out, process.stdout), (errors, process.stderr)):
                reading, _ = await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, stream), pipe_end)
                readings.append(reading)
            if self._exposure is not None:
                at, files = self._exposure.at, self._exposure.files
                self._write({"do": "expose", "host": at.host, "port": at.port, "files": [*files]})
            self._up.set()
            async with anyio.create_task_group() as group:
                group.start_soon(self._output.follow, errors)
                group.start_soon(until, lambda: self._listen(out))
                group.start_soon(until, lambda: self._beat(begin_s))
            process.kill()  # kills the process, not its group: keepers and commands have other groups
            return ends[0], self._lose()
        finally:
            self._up = anyio.Event()
            self._lose()
            pipe, self._pipe = self._pipe, None
            if pipe is not None:
                pipe.close()  # the lines that are already written are still delivered
            await self._end(process)
            self._process = None
            if pipe is not None and pipe.get_write_buffer_size():
                pipe.abort()
            if len(readings) == 2:  # a process that failed has written why
                with anyio.move_on_after(DRAIN_S, shield=True):
                    await self._output.follow(errors)
            for reading in readings:
                reading.close()
            child_process.close(*(process.stdout, process.stderr)[len(readings) :])

    async def _listen(self, out: asyncio.StreamReader) -> str:
        """Read lines until the process ends or sends too much that is not understood; return why."""
        strange = 0
        try:
            while line := await out.readline():
                strange += not self._hear(line)
                if strange >= NOT_A_LINE:
                    return "sends lines that are not understood"
                await anyio.lowlevel.checkpoint()  # because a flood of lines must not delay a kill
        except ValueError:
            return "sends a line that is too long"
        except OSError:
            pass
        return "ended"

    async def _beat(self, begin_s: float) -> str:
        """Send heartbeats; return the reason once the process has not answered for too long."""
        silent = 0
        self._heard = self._begun = False
        while True:
            self._write({"do": "beat", "id": 0})
            await anyio.sleep(BEAT_S)
            silent = 0 if self._heard else silent + 1
            self._heard = False
            if silent >= MISSED and self._begun:
                return f"hung: no answer for {silent * BEAT_S:g} s"
            if silent * BEAT_S >= begin_s:
                return f"has not answered within {begin_s:g} s of its start"

    def _lost(self, waiting: _PendingJob) -> str:
        """Return what is known about an errand without an outcome."""
        return UNBEGUN if self._outlives and not waiting.begun else INTERRUPTED

    def _lose(self) -> Sequence[str]:
        """Set the outcome of each errand that ended with the process; return descriptions of all in progress."""
        words = []
        for waiting in self._waiting.values():
            if waiting.outcome.done():
                continue
            if self._outlives and waiting.begun:
                words.append(f"{waiting.about} (goes on)")
            else:
                words.append(waiting.about)
                waiting.outcome.set_result(JobResult(False, f"{self.name} ended meanwhile", lost=self._lost(waiting)))
        return words

    def _hear(self, line: bytes) -> bool:
        """Handle a line from the process; return False if it is not understood.

        Such a line alone does not end the process, because a library may print there.
        """
        message: Any
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError:
            message = None
        match message:
            case {"beat": int()}:
                self._heard = self._begun = True
                self.trouble = ""
            case {"begun": int(number)}:
                if number in self._waiting:
                    self._waiting[number].begun = True
            case {"asks": int(number)} if self._exposure is not None:
                try:
                    self._write({"do": "figures", "id": number, **self._exposure.snapshot()._asdict()})
                except Exception:
                    log.exception("the metrics could not be collected")
            case {"trouble": str(trouble)} if self._exposure is not None:
                self._exposure.on_trouble(trouble)
            case {"id": int(number), "ok": bool()} if message.keys() <= {"id", *JobResult._fields}:
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.outcome.done():
                    waiting.outcome.set_result(
                        JobResult(**{key: value for key, value in message.items() if key != "id"})
                    )
            case _:
                log.error("%s sent a line that is not understood", self.name)
                return False
        return True

    def _write(self, errand: Mapping[str, object]) -> bool:
        pipe = self._pipe
        if pipe is None or pipe.is_closing() or pipe.get_write_buffer_size() > BACKLOG_BYTES:
            return False
        pipe.write(to_json_line(errand))
        return True

    def _start(self, outcomes: int) -> subprocess.Popen[bytes]:
        return child_process.start(self._module, () if outcomes < 0 else (outcomes,))

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the process ends by itself, because its errands have a moment left."""
        with anyio.move_on_after(child_process.END_WITHIN_S + child_process.KILL_WITHIN_S, shield=True):
            await self._starting.run(child_process.reap, process)


class WorkerPool:
    """The two worker processes: one for messages, calls and metrics, one for commands. They are independent."""

    def __init__(self, on_restart: Callable[[str], object] | None = None, exposure: Exposure | None = None) -> None:
        """`on_restart` and `exposure`: see `WorkerClient`; it is the process for messages that exposes."""
        self.messages = WorkerClient(on_restart=on_restart, exposure=exposure)
        self.commands = WorkerClient(
            "kill_switch.worker.commands", "the process for commands", outlives=True, on_restart=on_restart
        )

    async def run_job(self, job: str, within_s: float, **errand: object) -> JobResult:
        """Send an errand to the worker that carries it out; see `WorkerClient.run_job`."""
        worker = self.commands if job in ("run", "find") else self.messages
        return await worker.run_job(job, within_s, **errand)

    def clients(self) -> tuple[WorkerClient, WorkerClient]:
        return self.messages, self.commands

    def troubles(self) -> Iterator[str]:
        """Yield a line for people for each fault of the worker processes."""
        for worker in self.clients():
            yield from filter(None, (worker.trouble, worker.hangs))


def _about(job: str, errand: Mapping[str, Any]) -> str:
    """Describe an errand for people."""
    match job:
        case "run":
            return shlex.join(errand["argv"])
        case "tell" if "subject" in errand:
            return f"the message {str(errand['subject'])!r}"
        case "call":
            return "a call of the outer ping"
        case _:
            return "a check of a command or an address"
