"""Keep a process beside the daemon that does what must never touch a kill: `kill_switch.errands`.

Starting a process, a library that blocks, an address that does not answer: none of it happens in the daemon. Here is
its end of the pipe: an errand costs a line, and an answer comes back or does not. A process that dies is started again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import anyio
import orjson

import kill_switch
from kill_switch.offload import Offload

log = logging.getLogger(__name__)

RESTART_AFTER_S = 1.0
END_WITHIN_S = 3.0  # longer than `errands.LAST_S`
KILL_WITHIN_S = 1.0  # after SIGKILL
GRACE_S = 3.0  # beyond an errand's own time: until its answer is here, or will not come
BACKLOG_BYTES = 4 << 20  # in our end of the pipe, while the process does not read
LINE_BYTES = 1 << 20
PASSED = (  # of our environment; what else is in there, keys perhaps, is nobody's business
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "DBUS_SYSTEM_BUS_ADDRESS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PYTHONDONTWRITEBYTECODE"),
)


class Done(NamedTuple):
    """What became of an errand; `why` is one line that shows nothing secret."""

    ok: bool
    why: str = ""
    code: int | None = None
    ms: int = 0
    output: str = ""


class Errands(Protocol):
    """What an aide is to those who have something to be done."""

    async def do(self, what: str, within_s: float, **errand: object) -> Done: ...


class Aide:
    """The process beside, for as long as `run` runs; there is none until somebody wants one."""

    def __init__(self) -> None:
        self.trouble = ""
        self.asked: Callable[[], Sequence[Mapping[str, Any]]] = tuple  # returns the figures that are to be exposed
        self.told: Callable[[str], None] = lambda trouble: None  # hears what is the matter with the exposing
        self.standing: list[Mapping[str, object]] = []  # errands that each process begins with
        self._wanted = anyio.Event()
        self._up = anyio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: asyncio.WriteTransport | None = None  # to the process
        self._starting = Offload("the start of the process beside")
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Done]] = {}

    @property
    def hangs(self) -> str:
        """Say that the start of a process hangs; "" if it does not."""
        return self._starting.trouble

    def want(self) -> None:
        """Say that there will be something to do."""
        self._wanted.set()

    async def do(self, what: str, within_s: float, **errand: object) -> Done:
        """Have an errand done; return what became of it, or after a bounded time that nothing did. Never raises."""
        number = next(self._numbers)
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.want()
        try:
            with anyio.move_on_after(within_s + GRACE_S):
                await self._up.wait()
                if not self._write({"do": what, "id": number, "within_s": within_s, **errand}):
                    return Done(False, "the process beside does not listen")
                return await future
            return Done(False, f"nothing was heard of it for {within_s + GRACE_S:g} s")
        finally:
            del self._waiting[number]

    async def run(self) -> None:
        """Have a process for ever, once it is wanted."""
        await self._wanted.wait()
        while True:
            try:
                await self._run_one()
                self.trouble = "the process beside ended; it is started again"
            except OSError as error:
                self.trouble = f"the process beside cannot be started: {error.strerror}"
            log.warning("%s", self.trouble)
            await anyio.sleep(RESTART_AFTER_S)

    async def _run_one(self) -> None:
        process = self._process = await self._starting.run(_start, drop=_abandon)
        loop = asyncio.get_running_loop()
        out = asyncio.StreamReader(LINE_BYTES)
        reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(out), process.stdout)
        self._pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        try:
            for errand in self.standing:
                self._write(errand)
            self._up.set()
            while line := await out.readline():
                self.trouble = ""
                self._hear(line)
        finally:
            self._up = anyio.Event()
            for future in self._waiting.values():
                if not future.done():
                    future.set_result(Done(False, "the process beside ended meanwhile"))
            self._pipe.close()
            await self._end(process)
            reading.close()

    def _hear(self, line: bytes) -> None:
        """Take a line; a library that prints there must not end what else is under way."""
        said: Any
        try:
            said = orjson.loads(line)
        except orjson.JSONDecodeError:
            said = None
        match said:
            case {"asks": int(number)}:
                try:
                    self._write({"do": "figures", "id": number, "figures": self.asked()})
                except Exception:
                    log.exception("there are no figures to be had")
            case {"trouble": str(trouble)}:
                self.told(trouble)
            case {"id": int(number), "ok": bool()} if said.keys() <= {"id", *Done._fields}:
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    future.set_result(Done(**{key: value for key, value in said.items() if key != "id"}))
            case _:
                log.error("the process beside says what nobody understands")

    def _write(self, errand: Mapping[str, object]) -> bool:
        pipe = self._pipe
        if pipe is None or pipe.is_closing() or pipe.get_write_buffer_size() > BACKLOG_BYTES:
            return False
        pipe.write(orjson.dumps(errand, default=str) + b"\n")
        return True

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Let the process end by itself: what is under way there has a moment left."""
        with anyio.move_on_after(END_WITHIN_S + KILL_WITHIN_S, shield=True):
            await self._starting.run(_reap, process)


def _start() -> subprocess.Popen[bytes]:
    """Start the process; raises `OSError`. Waits for the disk that the program is on."""
    # vfork(2) would keep this whole process from running until the program is loaded
    setattr(subprocess, "_USE_VFORK", False)  # noqa: B010 - documented, and not for type checkers
    return subprocess.Popen(
        (sys.executable, "-P", "-m", "kill_switch.errands"),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ(),
        start_new_session=True,
    )


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """End a process that nobody wants any more."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    _reap(process)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has ended, and kill it if it does not."""
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environ() -> dict[str, str]:
    """Return what the process beside may know of our environment, and where it finds this package."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {**passed, "PYTHONPATH": str(Path(kill_switch.__file__).parents[1])}
