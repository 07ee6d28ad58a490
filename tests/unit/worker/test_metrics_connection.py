"""A connection of the metrics server ends in bounded time, whatever either side does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from kill_switch.worker.metrics_connection import Connection


def raise_fault(connection: Connection, head: bytes) -> None:
    """Answer with an exception, as a figure that cannot be formatted would."""
    raise RuntimeError


@pytest.mark.parametrize("answer", [lambda _, __: None, raise_fault], ids=["never comes", "raises"])
def test_a_connection_whose_answer_does_not_come_is_closed(
    answer: Callable[[Connection, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_connection.SEND_S", 0.05)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    closed = list[Connection]()

    async def play() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        connection = Connection(ours, answer, closed.append)
        asyncio.get_running_loop().call_soon(connection.begin)
        theirs.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(5):
            while not closed:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        connection.send(b"too late")
        connection.close()
        assert closed == [connection]

    with theirs:
        asyncio.run(play())
        assert theirs.recv(1) == b""
