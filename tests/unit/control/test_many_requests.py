"""Many requests at once leave the event loop to others, and keep no kill waiting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from kill_switch.client.control_socket import is_listening
from kill_switch.control import server as control
from kill_switch.control.server import Caller, Handler, Turnstile
from kill_switch.system.offload import OffloadThread
from kill_switch.system.users import UserDirectory
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio
CLIENTS = 200
PATH = b"/etc/\xff"


class Desk:
    """Note in which pass of the event loop each request begins."""

    def __init__(self) -> None:
        self.passes = 0
        self.began: list[tuple[int, str]] = []
        self._tick()

    def _tick(self) -> None:
        self.passes += 1
        self._handle = running().call_soon(self._tick)

    def close(self) -> None:
        self._handle.cancel()

    def handlers(self) -> Mapping[str, Handler]:
        async def handle(request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
            self.began.append((self.passes, str(request["cmd"])))
            return {"ok": True}

        return {"status": handle, "fire": handle}


async def ask(desk: Desk, turnstile: Turnstile, cmd: str, had: int = 0, **more: object) -> None:
    line = orjson.dumps({"cmd": cmd, **more})
    await control._answer(line, Caller(7, 77, "ann"), desk.handlers(), None, turnstile, had)


async def test_one_request_begins_in_a_pass_of_the_loop_and_a_kill_does_not_wait_for_the_others() -> None:
    desk, turnstile = Desk(), Turnstile()
    async with anyio.create_task_group() as group:
        for _ in range(CLIENTS):
            group.start_soon(ask, desk, turnstile, "status")
        await asyncio.sleep(0)
        asked = desk.passes
        await ask(desk, turnstile, "fire")
        assert desk.passes == asked  # not even one pass
        assert len(desk.began) <= 3
    desk.close()
    passes = [number for number, cmd in desk.began if cmd == "status"]
    assert len(passes) == len(set(passes)) == CLIENTS


async def test_many_kills_leave_the_loop_to_others_and_a_dry_run_is_no_kill() -> None:
    desk, turnstile = Desk(), Turnstile()
    async with anyio.create_task_group() as group:
        for _ in range(CLIENTS):
            group.start_soon(ask, desk, turnstile, "fire")
            group.start_soon(lambda: ask(desk, turnstile, "fire", dry_run=True))
    desk.close()
    passes = [number for number, _ in desk.began]
    assert len(passes) == 2 * CLIENTS
    assert max(passes.count(number) for number in passes) == 2


async def test_a_request_is_acknowledged_before_its_turn_and_a_kill_by_its_handler_alone() -> None:
    desk, turnstile, lines = Desk(), Turnstile(), list[object]()

    async def note(line: Mapping[str, object]) -> None:
        lines.append(line["acknowledged"])
        assert not desk.began

    desk.close()
    for words in ({"cmd": "drill?"}, {"cmd": "status"}, {"cmd": "fire"}, {"cmd": "fire", "dry_run": True}):
        line = orjson.dumps({**words, "acknowledge": True})
        caller = Caller(7, 77, "ann", acknowledge=note)
        await control._answer(line, caller, desk.handlers(), None, turnstile)
        desk.began.clear()
    assert lines == [None, None]


async def test_who_has_asked_for_much_waits_for_who_has_not() -> None:
    desk, turnstile, order = Desk(), Turnstile(), list[int]()

    async def note(had: int) -> None:
        await ask(desk, turnstile, "status", had)
        order.append(had)

    async with anyio.create_task_group() as group:
        for had in (900, 800, 5, 700):
            group.start_soon(note, had)
    desk.close()
    assert order == [900, 5, 700, 800]  # the first one found the loop free


async def test_a_status_on_every_connection_is_answered(tmp_path: Path) -> None:
    desk = Desk()
    desk.close()
    path, answers = tmp_path / "control.sock", list[bytes]()

    async def client() -> None:
        async with await anyio.connect_unix(path) as stream:
            for _ in range(3):
                await stream.send(b'{"cmd":"status"}\n')
                answers.append(await stream.receive())

    async with anyio.create_task_group() as server:
        server.start_soon(serve, path, desk.handlers())
        while not is_listening(path):  # noqa: ASYNC110 - the server binds in a thread
            await anyio.sleep(0.01)
        async with anyio.create_task_group() as clients:
            for _ in range(30):
                clients.start_soon(client)
        server.cancel_scope.cancel()
    assert answers == [b'{"ok":true}\n'] * 90


async def test_a_status_that_names_a_path_that_is_not_utf_8_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def status(request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        return {"do": f"kill-switch check -c {os.fsdecode(PATH)}"}

    async with anyio.create_task_group() as server:
        server.start_soon(serve, path, {"status": status})
        while not is_listening(path):  # noqa: ASYNC110 - the server binds in a thread
            await anyio.sleep(0.01)
        async with await anyio.connect_unix(path) as stream:
            await stream.send(b'{"cmd":"status"}\n')
            answer = orjson.loads(await stream.receive())
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        server.cancel_scope.cancel()
    assert answer == {"do": "kill-switch check -c /etc/\ufffd"}


async def serve(path: Path, handlers: Mapping[str, Handler]) -> None:
    await control.serve(path, handlers, files=OffloadThread("the directory"), users=UserDirectory())


async def test_a_kill_whose_connection_is_replaced_while_it_waits_for_its_turn_begins_all_the_same() -> None:
    desk, turnstile = Desk(), Turnstile()
    async with anyio.create_task_group() as group:
        for cmd in ("fire", "fire", "fire", "status", "status", "status"):
            group.start_soon(ask, desk, turnstile, cmd)
        await asyncio.sleep(0)
        group.cancel_scope.cancel()
    desk.close()
    assert [cmd for _, cmd in desk.began].count("fire") == 3
    assert [cmd for _, cmd in desk.began].count("status") == 1


class Kills:
    """Note the scope of each kill, and hold its answer back as one does whose proof takes long."""

    def __init__(self) -> None:
        self.scopes = list[str]()
        self.open = 0
        self.most_open = 0

    def handlers(self) -> Mapping[str, Handler]:
        async def fire(request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
            self.scopes.append(request["scope"])
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            try:
                await anyio.sleep_forever()
            finally:
                self.open -= 1
            return {}

        return {"fire": fire}


@pytest.mark.parametrize("idle", [0, control.MAX_OPEN])
async def test_no_kill_is_lost_however_many_a_user_sends_and_whatever_they_wait_for(idle: int, tmp_path: Path) -> None:
    kills, path, sent = Kills(), tmp_path / "control.sock", 0
    with contextlib.ExitStack() as stack:

        async def ask() -> None:
            """Connect, send a kill a moment after, as two processes may, and go without the answer."""
            nonlocal sent
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(path))
            await anyio.sleep(0.02)
            with contextlib.suppress(BrokenPipeError):  # the daemon has replaced it
                sock.sendall(orjson.dumps({"cmd": "fire", "scope": str(sent)}) + b"\n")
            sent += 1

        async with anyio.create_task_group() as server:
            server.start_soon(serve, path, kills.handlers())
            while not is_listening(path):  # noqa: ASYNC110 - the server binds in a thread
                await anyio.sleep(0.01)
            for _ in range(idle):
                stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
            async with anyio.create_task_group() as callers:
                for _ in range(3 * control.MAX_OPEN):
                    callers.start_soon(ask)
                    await anyio.sleep(0.002)
            with anyio.move_on_after(5.0):
                while len(kills.scopes) < sent:  # noqa: ASYNC110 - what comes last has no event
                    await anyio.sleep(0.01)
            server.cancel_scope.cancel()
    assert sorted(map(int, kills.scopes)) == list(range(3 * control.MAX_OPEN))
    assert kills.most_open <= control.MAX_OPEN
