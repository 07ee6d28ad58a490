"""Serve operators on a Unix socket: a JSON line in, a JSON line out; the kernel says who is asking.

The socket's mode and group decide who may connect, `SO_PEERCRED` is what the journal records. A line that is malformed
gets one clear answer and changes nothing.

However many connections ask for however much, one request begins in each pass of the event loop, and one kill. A kill
waits behind other kills only.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import orjson
from anyio.abc import SocketAttribute, SocketListener, SocketStream

from kill_switch import printable
from kill_switch.errors import AlreadyRunning, KillSwitchError
from kill_switch.system.offload import Offload
from kill_switch.system.unix_sockets import bind
from kill_switch.system.users import NAME_WITHIN_S, Users
from kill_switch.transports.turns import Turns

log = logging.getLogger(__name__)

MAX_LINE = 64 << 10
IDLE_S = 60.0
LOOK_EVERY_S = 1.0  # whether the socket is still there
CONNECT_WITHIN_S = 2.0
MOST_OPEN = 32  # connections of one user: descriptors are for venues first, and each request takes the loop's time
BACKLOG = 65536  # the kernel takes what it allows (net.core.somaxconn)
NAMED = ("rearm", "drill", "reload")  # whose record wants the caller's name; a kill does not wait for one


def _never() -> bool:
    return False


class Caller(NamedTuple):
    """Who is at the other end, as the kernel says."""

    uid: int
    pid: int
    user: str  # the number, as long as nobody has found the name
    gone: Callable[[], bool] = _never  # whether it has closed the connection, and hears no answer


class Turnstile:
    """Let requests begin one by one: kills apart from the others, and who has asked least first."""

    def __init__(self) -> None:
        self._kills, self._others = Turns(), Turns()

    async def enter(self, request: Mapping[str, Any], had: int) -> None:
        """Return when the request may begin; `had` is how many its connection has had."""
        is_kill = request.get("cmd") == "fire" and not request.get("dry_run")
        turns = self._kills if is_kill else self._others
        if not turns.is_free():
            await turns.turn(had)


class Refusal(Exception):
    """Answer a request with one line and the exit code that the command ends with."""

    def __init__(self, text: str, exit_code: int = 1, **data: object) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.data = data


Handler = Callable[[Mapping[str, Any], Caller], Awaitable[Mapping[str, object]]]


async def serve(
    path: Path, handlers: Mapping[str, Handler], gid: int | None = None, *, files: Offload, users: Users
) -> None:
    """Serve until somebody removes or replaces the socket: then return, so that it is made anew.

    `files` carries out what may wait for the file system of `path`. Raises `AlreadyRunning` if somebody else serves
    there, and `OSError` if the socket cannot be made.
    """
    await refuse_second(path, files)
    sock, mine = await files.run(_bind, path, gid, drop=partial(_unbind, path))
    listener = await SocketListener.from_socket(sock)
    connections, turnstile = _Connections(), Turnstile()

    async def one(stream: SocketStream) -> None:
        uid, pid = _peer(stream.extra_attributes[SocketAttribute.raw_socket]())
        try:
            async with stream:
                with connections.enter(uid) as connection:
                    await _converse(stream, connection, uid, pid, handlers, users, turnstile)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError, OSError):
            pass  # the caller went away
        except Exception:
            log.exception("a control connection failed")

    try:
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, one)
            while await files.run(inode, path) == mine:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(LOOK_EVERY_S)
            log.warning("%s was removed or replaced", path)
            group.cancel_scope.cancel()
    finally:
        files.post(_remove, path, mine)


class _Connection:
    """One caller's connection: its scope ends it; it is busy while a request of it is carried out."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.is_busy = False


class _Connections:
    """Bound the connections of each user to `MOST_OPEN`: a new one replaces the oldest idle one, else the oldest.

    So a member of the group can neither use up the descriptors that lanes need, nor keep a `fire` from being read.
    """

    def __init__(self) -> None:
        self._open: dict[int, list[_Connection]] = {}  # uid → its connections, the oldest first

    @contextmanager
    def enter(self, uid: int) -> Iterator[_Connection]:
        """Count a connection of that user for as long as the context is open."""
        mine = self._open.setdefault(uid, [])
        if len(mine) >= MOST_OPEN:
            given_up = next((one for one in mine if not one.is_busy), mine[0])
            mine.remove(given_up)
            given_up.scope.cancel()
        connection = _Connection()
        mine.append(connection)
        try:
            with connection.scope:
                yield connection
        finally:
            if connection in mine:
                mine.remove(connection)
            if not mine and self._open.get(uid) is mine:
                del self._open[uid]


def _bind(path: Path, gid: int | None) -> tuple[socket.socket, tuple[int, int] | None]:
    """Make the socket; return it and which file it is."""
    sock = bind(path, socket.SOCK_STREAM, gid)
    sock.listen(BACKLOG)
    return sock, inode(path)


def _unbind(path: Path, made: tuple[socket.socket, tuple[int, int] | None]) -> None:
    """Take back a socket that nobody wants any more."""
    sock, mine = made
    sock.close()
    _remove(path, mine)


def _remove(path: Path, mine: tuple[int, int] | None) -> None:
    if inode(path) == mine:
        path.unlink(missing_ok=True)


def inode(path: Path) -> tuple[int, int] | None:
    """Say which file has this name now; None if none has."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _converse(
    stream: SocketStream,
    connection: _Connection,
    uid: int,
    pid: int,
    handlers: Mapping[str, Handler],
    users: Users,
    turnstile: Turnstile,
) -> None:
    gone = partial(_hung_up, stream.extra_attributes[SocketAttribute.raw_socket]())
    rest, had = b"", 0
    while True:
        while b"\n" not in rest:
            if len(rest) > MAX_LINE:
                await stream.send(_line({"error": "the line is too long", "exit": 1}))
                await _swallow(stream)
                return
            with anyio.fail_after(IDLE_S):
                try:
                    rest += await stream.receive()
                except anyio.EndOfStream:
                    return
        line, _, rest = rest.partition(b"\n")
        caller = Caller(uid, pid, users.known(uid), gone)
        connection.is_busy = True
        await stream.send(_line(await _answer(line, caller, handlers, users, turnstile, had)))
        connection.is_busy, had = False, had + 1
        users.learn(uid)  # not before: the line may have been a kill


async def _swallow(stream: SocketStream) -> None:
    """Read what is still coming, for a moment: closing on unread bytes would take the answer back."""
    with anyio.move_on_after(1.0):
        await stream.send_eof()
        while True:
            try:
                await stream.receive()
            except anyio.EndOfStream:
                return


async def _answer(
    line: bytes,
    caller: Caller,
    handlers: Mapping[str, Handler],
    users: Users | None = None,
    turnstile: Turnstile | None = None,
    had: int = 0,
) -> Mapping[str, object]:
    try:
        request = _request(line)
    except (ValueError, RecursionError):
        return {"error": "not a line of JSON", "exit": 1}
    command = request.get("cmd") if isinstance(request, dict) else None
    handler = handlers.get(command) if isinstance(command, str) else None
    if handler is None:
        return {"error": f'not a request: {{"cmd": …}} with one of {", ".join(sorted(handlers))}', "exit": 1}
    if turnstile is not None:
        await turnstile.enter(request, had)
    if command in NAMED and users is not None:
        caller = caller._replace(user=await users.name(caller.uid, NAME_WITHIN_S))
    try:
        return await handler(request, caller)
    except Refusal as refusal:
        return {"error": str(refusal), "exit": refusal.exit_code, **refusal.data}
    except KillSwitchError as error:
        return {"error": str(error), "exit": error.exit_code}
    except Exception as error:  # whatever it is, the caller hears of it, and nobody else
        log.exception("the request %r failed", command)
        return {"error": f"internal error: {type(error).__name__}", "exit": 1}


def _request(line: bytes) -> Any:
    """Return what a line says; what is no UTF-8, and what does not print, is replaced.

    Raises `ValueError`, or `RecursionError` for a line that is too deep.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # whoever wants a kill may type in any encoding
        request = json.loads(line.decode("utf-8-sig", "replace"), strict=False)
        return printable.mapping(request) if isinstance(request, dict) else request


def _line(answer: Mapping[str, object]) -> bytes:
    return orjson.dumps(answer, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n"


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Return uid and pid of who is at the other end."""
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid, pid


def _hung_up(sock: socket.socket) -> bool:
    """Tell whether the other end has closed; one that has only ended its own requests still hears. See poll(2)."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return bool(poll.poll(0))


async def refuse_second(path: Path, files: Offload) -> None:
    """Raise `AlreadyRunning` if a daemon answers on that socket: its sockets must not be taken from it."""
    if await files.run(_is_served, path):
        raise AlreadyRunning(f"another daemon answers on {path}")


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(CONNECT_WITHIN_S)
        try:
            sock.connect(str(path))
        except TimeoutError:
            return True  # its backlog is full: a daemon that hangs is one all the same
        except OSError:
            return False
    return True
