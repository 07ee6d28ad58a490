"""Push bytes at the server that no good client would send, and some that every fast client sends."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time

import pytest

from .clients import Sim, roxom_headers

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Use both loops: their TLS differs."""
    return ("asyncio", {"use_uvloop": request.param})


async def connect(sim: Sim, venue: str = "roxom") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(sim.venue(venue)["rest_url"].rpartition(":")[2])
    return await asyncio.open_connection("127.0.0.1", port, ssl=sim.tls, server_hostname="127.0.0.1")


def request(sim: Sim, method: str, path: str, body: bytes | None = b"", more: str = "") -> bytes:
    headers = roxom_headers(sim.venue("roxom"), f"{method}:/api/v1{path}")
    lines = [f"{method} /api/v1{path} HTTP/1.1", "Host: 127.0.0.1", *(f"{k}: {v}" for k, v in headers.items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n" + more.encode() + b"\r\n" + (body or b"")


async def reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)


async def done(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    await asyncio.sleep(0)


async def test_pipelined_requests_are_answered_in_order_even_when_the_first_is_slow(sim: Sim) -> None:
    ids = await sim.rest_orders("roxom", 2)
    await sim.fault("roxom", "delay", ms=50, times=1)
    reader, writer = await connect(sim)
    writer.write(request(sim, "POST", "/orders/cancel-all") + request(sim, "GET", "/orders?instType=perpetual"))
    first, second = await reply(reader), await reply(reader)
    assert json.loads(first[1])["data"]["cancelledOrderIds"] == ids
    assert json.loads(second[1])["data"]["orders"] == []
    writer.write(request(sim, "GET", "/accounts/balance"))  # and the connection is kept
    assert (await reply(reader))[0] == 200
    await done(writer)


async def test_a_request_that_dribbles_in_is_stamped_when_its_last_byte_arrives(sim: Sim) -> None:
    reader, writer = await connect(sim)
    data = request(sim, "POST", "/orders/cancel-all", b"{}")
    for byte in data[:-1]:
        writer.write(bytes([byte]))
        await writer.drain()
    await asyncio.sleep(0.05)
    before = time.monotonic_ns()
    writer.write(data[-1:])
    assert (await reply(reader))[0] == 200
    after = time.monotonic_ns()
    [line] = await sim.requests("roxom")
    assert before < line["t_ns"] < after
    assert (line["route"], line["what"], line["ok"], line["account"]) == ("http", "cancel-all", True, "roxom-1")
    await done(writer)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_request_that_has_arrived_is_executed_after_its_sender_left(sim: Sim, reset: bool) -> None:
    """All of it arrives while the simulator is busy with the first."""
    senders = [await connect(sim) for _ in range(10)]
    for _, writer in senders:
        writer.write(request(sim, "POST", "/orders/cancel-all", b"{}"))
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        else:
            writer.close()
    async with asyncio.timeout(5):
        while len(await sim.requests("roxom")) < len(senders):  # noqa: ASYNC110 - the simulator is another process
            await asyncio.sleep(0.01)
    assert all(line["ok"] for line in await sim.requests("roxom"))


async def test_a_half_open_server_lets_the_senders_buffers_fill_up(sim: Sim) -> None:
    async def fill_buffers() -> None:
        for _ in range(1000):
            writer.write(b"x" * 1_000_000)
            await writer.drain()

    _, writer = await connect(sim)
    await sim.fault("roxom", "half_open")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fill_buffers(), 0.4)
    assert not writer.is_closing()
    await done(writer)


async def test_a_chunked_body_is_read(sim: Sim) -> None:
    reader, writer = await connect(sim)
    writer.write(
        request(sim, "POST", "/orders/cancel-all", None, "Transfer-Encoding: chunked\r\n") + b"2\r\n{}\r\n0\r\n\r\n"
    )
    assert (await reply(reader))[0] == 200
    await done(writer)


async def test_connection_close_is_honoured(sim: Sim) -> None:
    reader, writer = await connect(sim)
    writer.write(request(sim, "POST", "/orders/cancel-all", b"", "Connection: close\r\n"))
    assert (await reply(reader))[0] == 200
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    await done(writer)


async def test_a_head_request_has_no_body(sim: Sim) -> None:
    reader, writer = await connect(sim)
    writer.write(b"HEAD /api/v1/orders HTTP/1.1\r\nHost: x\r\n\r\n" + request(sim, "POST", "/orders/cancel-all"))
    async with asyncio.timeout(5):
        assert b"401" in await reader.readuntil(b"\r\n\r\n")
    assert (await reply(reader))[0] == 200
    await done(writer)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01 hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/v1/orders HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /api/v1/orders HTTP/1.1\r\n\r\n",
        b"GET /api/v1/orders HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_malformed_http_is_400_and_the_end(sim: Sim, nonsense: bytes) -> None:
    reader, writer = await connect(sim)
    writer.write(nonsense)
    assert (await reply(reader))[0] == 400
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    await done(writer)


async def test_an_upgrade_without_a_key_is_refused(sim: Sim) -> None:
    reader, writer = await connect(sim, "oxfun")
    writer.write(b"GET /v2/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    async with asyncio.timeout(5):
        assert b" 400 " in await reader.readline()
    await done(writer)


async def test_the_websocket_is_at_its_path_only(sim: Sim) -> None:
    reader, writer = await connect(sim, "oxfun")
    writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await reply(reader))[0] == 404
    await done(writer)
