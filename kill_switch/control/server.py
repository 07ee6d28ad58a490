"""The control server: a Unix socket on which the daemon answers each JSON line with a JSON line.

The socket's mode and group decide who may connect; the journal has the caller as the kernel names it (`SO_PEERCRED`).
A malformed line gets an answer and changes nothing. No more than one request and one kill begin in a pass of the event
loop, and a kill waits behind other kills only.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import orjson
from anyio.abc import SocketAttribute, SocketListener, SocketStream

from kill_switch import printable
from kill_switch.errors import AlreadyRunning, KillSwitchError
from kill_switch.json_line import to_json_line
from kill_switch.system.offload import OffloadThread
from kill_switch.system.unix_sockets import bind_unix_socket
from kill_switch.system.users import NAME_WITHIN_S, UserDirectory
from kill_switch.transports.turn_scheduler import TurnScheduler

log = logging.getLogger(__name__)

MAX_LINE = 64 << 10  # bytes
IDLE_S = 60.0  # seconds that a connection may be open without a request
LOOK_EVERY_S = 1.0  # seconds between two checks that the socket's file exists
CONNECT_WITHIN_S = 2.0  # seconds
MAX_OPEN = 32  # connections of a user, because lanes need descriptors and each request needs the loop's time
SPEAKS_WITHIN_S = 1.0  # seconds; a connection without a request is not idle until then, because a kill may be coming
ACKNOWLEDGE_WITHIN_S = 1.0  # seconds that a line before the answer may take to be sent
BACKLOG = 65536  # limited by the kernel (net.core.somaxconn)
# recorded with the caller's name; a kill does not wait for it
COMMANDS_WITH_A_NAME = ("rearm", "drill", "reload", "silence")


def _never() -> bool:
    return False


async def _ignore(line: Mapping[str, object]) -> None:
    """Send nothing, because no connection is there."""


class Caller(NamedTuple):
    """The process at the other end of a connection, as the kernel names it."""

    uid: int
    pid: int
    user: str  # the number until the name is known
    gone: Callable[[], bool] = _never  # returns whether the caller has closed the connection
    acknowledge: Callable[[Mapping[str, object]], Awaitable[None]] = _ignore  # sends a line before the answer


class Turnstile:
    """The queue of requests, which begin one by one: kills apart from others, connections with fewer requests first."""

    def __init__(self) -> None:
        self._kills, self._others = TurnScheduler(), TurnScheduler()

    async def enter(self, request: Mapping[str, Any], had: int) -> None:
        """Return when the request may begin; `had` is the number of requests that its connection has made."""
        is_kill = _is_kill(request)
        turns = self._kills if is_kill else self._others
        if not turns.claim_turn():
            with anyio.CancelScope(shield=is_kill):  # a kill whose connection is replaced meanwhile begins all the same
                await turns.wait_turn(had)


class RequestRefused(Exception):
    """Raised by a handler: the error line of the answer, and the exit code of the command."""

    def __init__(self, text: str, exit_code: int = 1, **data: object) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.data = data


Handler = Callable[[Mapping[str, Any], Caller], Awaitable[Mapping[str, object]]]


async def serve(
    path: Path, handlers: Mapping[str, Handler], gid: int | None = None, *, files: OffloadThread, users: UserDirectory
) -> None:
    """Serve until the socket is removed or replaced; then return, so that the caller creates it again.

    `files` carries out calls that may block on the file system of `path`. Raises `AlreadyRunning` if another daemon
    serves there, and `OSError` if the socket cannot be made.
    """
    await refuse_second(path, files)
    sock, mine = await files.run(_bind, path, gid, drop=partial(_unbind, path))
    listener = await SocketListener.from_socket(sock)
    connections, turnstile = _Connections(), Turnstile()

    async def serve_caller(stream: SocketStream) -> None:
        uid, pid = _peer(stream.extra_attributes[SocketAttribute.raw_socket]())
        try:
            async with stream:
                with connections.enter(uid) as connection:
                    await _converse(stream, connection, uid, pid, handlers, users, turnstile)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError, OSError):
            pass  # the caller has closed the connection
        except Exception:
            log.exception("a control connection failed")

    try:
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve_caller)
            while await files.run(inode, path) == mine:  # noqa: ASYNC110 - the kernel sends no event
                await anyio.sleep(LOOK_EVERY_S)
            log.warning("%s was removed or replaced", path)
            group.cancel_scope.cancel()
    finally:
        files.post(_remove, path, mine)


class _Connection:
    """A caller's connection: its scope ends it, and it is busy while one of its requests is carried out."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.is_busy = False
        self.idle_from_s = anyio.current_time() + SPEAKS_WITHIN_S  # on the event loop's clock

    @property
    def is_idle(self) -> bool:
        return not self.is_busy and anyio.current_time() >= self.idle_from_s


class _Connections:
    """The open connections: at most `MAX_OPEN` a user; a new one replaces another.

    So a member of the group can neither use up the descriptors that lanes need, nor keep a `fire` from being read.
    """

    def __init__(self) -> None:
        self._open: dict[int, list[_Connection]] = {}  # uid → its connections, the oldest first

    @contextmanager
    def enter(self, uid: int) -> Iterator[_Connection]:
        """Count a connection of that user for as long as the context is open."""
        mine = self._open.setdefault(uid, [])
        if len(mine) >= MAX_OPEN:
            replaced = _to_replace(mine)
            mine.remove(replaced)
            replaced.scope.cancel()
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


def _to_replace(connections: Sequence[_Connection]) -> _Connection:
    """Return the connection that ends for a new one: the oldest idle one, else the oldest busy one.

    A busy connection loses its answer only. A new connection has not sent its request yet, which may be a kill: it ends
    only where more than half are new.
    """
    idle = [connection for connection in connections if connection.is_idle]
    busy = [connection for connection in connections if connection.is_busy]
    new = [connection for connection in connections if not connection.is_idle and not connection.is_busy]
    few = len(new) <= MAX_OPEN // 2
    return (idle or (busy if few else new))[0]


def _bind(path: Path, gid: int | None) -> tuple[socket.socket, tuple[int, int] | None]:
    """Create the socket; return it and its file's identity."""
    sock = bind_unix_socket(path, socket.SOCK_STREAM, gid)
    sock.listen(BACKLOG)
    return sock, inode(path)


def _unbind(path: Path, bound: tuple[socket.socket, tuple[int, int] | None]) -> None:
    """Close and remove a socket whose caller no longer waits."""
    sock, mine = bound
    sock.close()
    _remove(path, mine)


def _remove(path: Path, mine: tuple[int, int] | None) -> None:
    if inode(path) == mine:
        path.unlink(missing_ok=True)


def inode(path: Path) -> tuple[int, int] | None:
    """Return the identity (device, inode) of the file at a path; None if there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


async def _converse(
    stream: SocketStream,
    connection: _Connection,
    uid: int,
    pid: int,
    handlers: Mapping[str, Handler],
    users: UserDirectory,
    turnstile: Turnstile,
) -> None:
    gone = partial(_hung_up, stream.extra_attributes[SocketAttribute.raw_socket]())
    unread, had = b"", 0
    while True:
        while b"\n" not in unread:
            if len(unread) > MAX_LINE:
                await stream.send(to_json_line({"error": "the line is too long", "exit": 1}))
                await _discard_input(stream)
                return
            with anyio.fail_after(IDLE_S):
                try:
                    unread += await stream.receive()
                except anyio.EndOfStream:
                    return
        line, _, unread = unread.partition(b"\n")
        caller = Caller(uid, pid, users.cached_name(uid), gone, partial(_acknowledge, stream))
        connection.is_busy = True
        await stream.send(to_json_line(await _answer(line, caller, handlers, users, turnstile, had)))
        connection.is_busy, connection.idle_from_s, had = False, 0.0, had + 1
        users.look_up(uid)  # not before the answer, because the line may have been a kill


async def _acknowledge(stream: SocketStream, line: Mapping[str, object]) -> None:
    """Send a line before the answer; a caller that has gone or does not read holds nothing up."""
    with anyio.move_on_after(ACKNOWLEDGE_WITHIN_S), suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(to_json_line(line))


async def _discard_input(stream: SocketStream) -> None:
    """Read what is still arriving, for one second: closing with unread bytes would discard the answer."""
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
    users: UserDirectory | None = None,
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
    if request.get("acknowledge") and not _is_kill(request):  # a kill is acknowledged once it has been sent
        await caller.acknowledge({"acknowledged": None})
    if turnstile is not None:
        await turnstile.enter(request, had)
    if command in COMMANDS_WITH_A_NAME and users is not None:
        caller = caller._replace(user=await users.name(caller.uid, NAME_WITHIN_S))
    try:
        return await handler(request, caller)
    except RequestRefused as refusal:
        return {"error": str(refusal), "exit": refusal.exit_code, **refusal.data}
    except KillSwitchError as error:
        return {"error": str(error), "exit": error.exit_code}
    except Exception as error:  # any error is reported to this caller only
        log.exception("the request %r failed", command)
        return {"error": f"internal error: {type(error).__name__}", "exit": 1}


def _is_kill(request: Mapping[str, Any]) -> bool:
    return request.get("cmd") == "fire" and not request.get("dry_run")


def _request(line: bytes) -> Any:
    """Return the request in a line; bytes that are not UTF-8, and characters that do not print, are replaced.

    Raises `ValueError`, or `RecursionError` for a line that is nested too deeply.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # because a person who wants a kill may type in any encoding
        request = json.loads(line.decode("utf-8-sig", "replace"), strict=False)
        return printable.mapping(request) if isinstance(request, dict) else request


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Return uid and pid of the process at the other end."""
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid, pid


def _hung_up(sock: socket.socket) -> bool:
    """Return whether the caller has closed the connection; a caller that only ended its requests has not.

    See poll(2).
    """
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return bool(poll.poll(0))


async def refuse_second(path: Path, files: OffloadThread) -> None:
    """Raise `AlreadyRunning` if a daemon answers on the socket, because its socket must not be replaced."""
    if await files.run(_is_served, path):
        raise AlreadyRunning(f"another daemon answers on {path}")


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(CONNECT_WITHIN_S)
        try:
            sock.connect(str(path))
        except TimeoutError:
            return True  # the backlog is full: a daemon that hangs is still a daemon
        except OSError:
            return False
    return True
