"""Asynchronous twins of `Heartbeat`, `equity` and `Control`, for asyncio and uvloop.

Each does what its twin in `kill_switch.client` does, with the same arguments, errors and bounds. The event loop never
waits for the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kill_switch.client import control, control_socket, intake
from kill_switch.client.places import CONTROL_SOCKET, socket_path


class Heartbeat:
    """The twin of `kill_switch.client.Heartbeat`; a beat never waits, so that awaiting it yields to no other task."""

    def __init__(self, name: str, *, runtime_dir: intake.Directory = None, sender: str = "") -> None:
        """Prepare the datagrams; raises as its twin does."""
        self._twin = intake.Heartbeat(name, runtime_dir=runtime_dir, sender=sender)

    async def beat(self) -> bool:
        """Send a beat; return whether the kernel has put it into the daemon's queue. Never raises."""
        return self._twin.beat()

    async def bye(self) -> bool:
        """Send an orderly goodbye; return as `beat` does."""
        return self._twin.bye()

    @property
    def lost(self) -> int:
        """The number of beats and goodbyes that the kernel did not accept."""
        return self._twin.lost

    @property
    def trouble(self) -> str:
        """Why the kernel did not accept the last datagram, in a line for people; "" if it did."""
        return self._twin.trouble


async def equity(
    trigger: str, amount: object, at: float | None = None, *, runtime_dir: intake.Directory = None, sender: str = ""
) -> bool:
    """Send an equity to the pnl trigger of that name; return as its twin does. Never raises."""
    return intake.equity(trigger, amount, at, runtime_dir=runtime_dir, sender=sender)


class Control:
    """The twin of `kill_switch.client.Control`; tasks may share it."""

    def __init__(self, runtime_dir: str | Path | None = None) -> None:
        """Connect nowhere yet; None is `$KILL_SWITCH_RUNTIME_DIR`, else `/run/kill-switch`."""
        self.path = Path(socket_path(runtime_dir, CONTROL_SOCKET))

    async def status(self, *, within_s: float = control.STATUS_WITHIN_S) -> dict[str, Any]:
        """Return what `kill-switch status --json` prints."""
        return control.check_protocol(control.check_answer(await _exchange(self.path, {"cmd": "status"}, within_s)))

    async def fire(self, reason: str, scope: Sequence[str] = (), wait_s: float = 10.0) -> dict[str, Any]:
        """Kill the accounts of the scope, and return what `kill-switch report --json` prints, after the proof.

        A task that is cancelled while it waits for the answer has sent the kill: it goes on.
        """
        request, wait_s = control.fire_request(reason, scope, wait_s)
        within_s = wait_s + control.ANSWERED_WITHIN_S
        silent_s = control_socket.ACKNOWLEDGED_WITHIN_S + wait_s
        starts_s = control_socket.STARTS_WITHIN_S
        return control.check_answer(await _exchange(self.path, request, within_s, silent_s, starts_s))

    async def drill(self, scope: Sequence[str] = (), *, within_s: float = control.DRILL_WITHIN_S) -> dict[str, Any]:
        """Send a harmless command over every lane of the scope, and return what `kill-switch drill --json` prints."""
        return control.check_answer(await _exchange(self.path, control.drill_request(scope), within_s))


async def _connect(path: Path, patience_s: float) -> socket.socket:
    """Return a connected socket; raise `OSError`. A daemon that may be starting is waited for, up to `patience_s`."""
    until_s = time.monotonic() + patience_s
    while True:
        try:
            return _connected(path)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() >= until_s:
                raise
        await asyncio.sleep(control_socket.AGAIN_S)


def _connected(path: Path) -> socket.socket:
    """Return a connected socket; raise `OSError`. A Unix socket connects at once, or not at all."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    return sock


async def _exchange(
    path: Path,
    request: Mapping[str, object],
    within_s: float,
    acknowledged_within_s: float = control_socket.ALIVE_WITHIN_S,
    patience_s: float = 0.0,
) -> dict[str, Any]:
    """Send the daemon a request and return its answer, within `within_s` seconds; errors as of `send_request`.

    The daemon must acknowledge the request within `acknowledged_within_s` seconds. The request is sent as soon as the
    daemon accepts connections, before any other task runs.
    """
    began_s, unknown, is_taken = time.monotonic(), "", False
    try:
        sock = await _connect(path, patience_s)
        began_s, unknown = time.monotonic(), control_socket.consequence(request)
        async with asyncio.timeout(within_s):
            reader, writer = await _opened(sock, control_socket.encode(request))
            try:
                answer = await _first_line(reader, path, unknown, min(within_s, acknowledged_within_s))
                is_taken = True
                while "acknowledged" in answer:
                    answer = await _read(reader, path, unknown)
                return answer
            finally:
                writer.close()
    except OSError as error:
        waited_s = time.monotonic() - began_s
        is_late = is_taken and isinstance(error, TimeoutError) and await _answers_others(path)
        raise control_socket.explained(error, path, waited_s, unknown, is_awake=is_late) from None


async def _first_line(reader: asyncio.StreamReader, path: Path, unknown: str, silent_after_s: float) -> dict[str, Any]:
    """Return the acknowledgement, or the answer; raise `TimeoutError` if the daemon hangs, as of `send_request`."""
    line = asyncio.ensure_future(_read(reader, path, unknown))
    try:
        await asyncio.wait([line], timeout=silent_after_s / 2)
        if not line.done() and not await _answers_others(path, silent_after_s / 2):
            await asyncio.wait([line], timeout=0)
            if not line.done():
                raise TimeoutError
        return await line
    finally:
        line.cancel()


async def _answers_others(path: Path, within_s: float = control_socket.AWAKE_WITHIN_S) -> bool:
    """Return whether a daemon answers a request that asks for nothing, within `within_s` seconds."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await _opened(_connected(path), control_socket.NOTHING)
            try:
                return (await reader.readline()).endswith(b"\n")
            finally:
                writer.close()
    except (OSError, ValueError):
        return False


async def _opened(sock: socket.socket, line: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a line, and return the streams of its socket, which is closed if that fails."""
    try:
        unsent = line[sock.send(line) :]
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=control_socket.MAX_ANSWER)
    except BaseException:
        # at once, before another file can have the number: uvloop has closed the descriptor without a word to `sock`
        # if the task is cancelled here
        with contextlib.suppress(OSError):
            sock.close()
        raise
    writer.write(unsent)
    return reader, writer


async def _read(reader: asyncio.StreamReader, path: Path, unknown: str) -> dict[str, Any]:
    try:
        line = await reader.readline()
    except ValueError:
        raise control_socket.endless(path) from None
    if not line.endswith(b"\n"):
        raise control_socket.hung_up(path, unknown, is_awake=await _answers_others(path))
    return control_socket.decode(line, path, unknown)
