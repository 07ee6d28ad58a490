"""What a member of the group can do at the control socket: fire and re-arm, and keep nobody else from either."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from kill_switch.client.control_socket import is_listening
from kill_switch.control import server
from kill_switch.control.server import Caller
from kill_switch.system.offload import OffloadThread
from kill_switch.system.users import UserDirectory
from tests.system.security.people import NOBODY, as_root, somebody_else

pytestmark = pytest.mark.anyio


class Door:
    """A control socket of two commands: `fire` is noted at once, `wait` is answered when `go` is set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fired: list[Caller] = []
        self.go = anyio.Event()
        self.sockets = ExitStack()

    def connected(self) -> socket.socket:
        sock = self.sockets.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(str(self.path))
        sock.setblocking(False)
        return sock

    async def fire(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        self.fired.append(caller)
        return {"fired": True}

    async def wait(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        await self.go.wait()
        return {"waited": True}


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """Serve where everybody may connect, as if everybody were in the group."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)  # noqa: ASYNC240 - a test
    made = Door(directory / "control.sock")
    handlers = {"fire": made.fire, "wait": made.wait}
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: server.serve(made.path, handlers, files=OffloadThread("files"), users=UserDirectory()))
        while not is_listening(made.path):  # noqa: ASYNC110 - the server binds in a thread
            await anyio.sleep(0.001)
        made.path.chmod(0o666)
        with made.sockets:
            yield made
        group.cancel_scope.cancel()
    shutil.rmtree(directory, ignore_errors=True)


async def received(sock: socket.socket) -> bytes:
    """Return what comes next; nothing where the daemon has hung up."""
    with anyio.fail_after(5):
        while True:
            try:
                return sock.recv(4096)
            except BlockingIOError:
                await anyio.sleep(0.001)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def still_open(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True


async def test_a_member_who_opens_connections_without_end_has_a_bounded_number_of_them_and_can_still_fire(
    door: Door,
) -> None:
    waits = door.connected()
    waits.send(b'{"cmd":"wait"}\n')
    before = descriptors()
    idle = [door.connected() for _ in range(4 * server.MAX_OPEN)]
    fires = door.connected()
    fires.send(b'{"cmd":"fire"}\n')
    assert json.loads(await received(fires)) == {"fired": True}
    assert descriptors() - before <= len(idle) + 1 + server.MAX_OPEN  # both ends are in this process
    assert [still_open(sock) for sock in idle].count(True) == server.MAX_OPEN - 2
    door.go.set()
    assert json.loads(await received(waits)) == {"waited": True}  # what is under way is not given up for idle ones


async def test_a_fire_is_carried_out_though_all_connections_of_its_user_wait_for_an_answer(door: Door) -> None:
    busy = [door.connected() for _ in range(server.MAX_OPEN)]
    for sock in busy:
        sock.send(b'{"cmd":"wait"}\n')
    await anyio.sleep(0.05)
    fires = door.connected()
    fires.send(b'{"cmd":"fire"}\n')
    assert json.loads(await received(fires)) == {"fired": True}
    assert await received(busy[0]) == b""


@as_root
async def test_one_members_connections_are_not_given_up_for_anothers(door: Door) -> None:
    mine = door.connected()
    await anyio.sleep(0.02)
    with somebody_else():
        theirs = [door.connected() for _ in range(2 * server.MAX_OPEN)]
    await anyio.sleep(0.05)
    assert [still_open(sock) for sock in theirs].count(True) == server.MAX_OPEN
    mine.send(b'{"cmd":"fire"}\n')
    assert json.loads(await received(mine)) == {"fired": True}


@as_root
async def test_the_caller_is_the_user_that_the_kernel_names(door: Door) -> None:
    with somebody_else():
        sock = door.connected()
    sock.send(b'{"cmd":"fire","uid":0,"user":"root"}\n')
    await received(sock)
    assert door.fired[0].uid == NOBODY


async def test_descriptors_that_are_passed_along_with_a_request_do_not_stay_open(door: Door) -> None:
    sock = door.connected()
    await anyio.sleep(0.02)
    before = descriptors()
    socket.send_fds(sock, [b'{"cmd":"fire"}\n'], [0] * 100)
    await received(sock)
    assert descriptors() == before
