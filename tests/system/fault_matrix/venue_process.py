"""Host the venues of many cells in one process: for each a simulator behind a hostile proxy, and a healthy one.

`python -m tests.system.fault_matrix.venue_process SOCKET DIRECTORY` listens on a Unix socket. A connection is one cell:
JSON lines in, JSON lines out, and all that it has opened is closed when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trustme

from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.venue import Venue
from kill_switch.sim.main import make_venues

from .catalog import FAULTS
from .loop_monitor import queued_s
from .proxy import RELAY, Proxy

HOST = "venue.test"  # for cells whose names do not resolve


class Certificates:
    """An authority whose file the product trusts, what it has signed, and what it has not."""

    def __init__(self, directory: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        self.ca_file = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self.other_ca_file = directory / "other.pem"
        stranger.cert_pem.write_to_path(str(self.other_ca_file))
        names = ("127.0.0.1", "localhost", HOST)
        past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
        old = _context(authority.issue_cert(*names))
        with warnings.catch_warnings(action="ignore"):  # it is deprecated, and that is the point
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        self.contexts: Mapping[str, ssl.SSLContext] = {
            "good": _context(authority.issue_cert(*names)),
            "expired": _context(authority.issue_cert(*names, not_after=past)),
            "not yet": _context(authority.issue_cert(*names, not_before=future, not_after=future.replace(year=2199))),
            "other host": _context(authority.issue_cert("elsewhere.test")),
            "unknown authority": _context(stranger.issue_cert(*names)),
            "TLS 1.1": old,
        }
        self.trust = ssl.create_default_context(cafile=str(self.ca_file))


def _context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


class Stand:
    """One simulated venue that can be killed and come back with its book, and perhaps a proxy before it."""

    def __init__(self, name: str, certificates: Certificates, options: Mapping[str, str]) -> None:
        self.venue: Venue = make_venues([name], 1, {name: options})[name]
        self.port = 0
        self.proxy: Proxy | None = None
        self._certificates = certificates
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        context = self._certificates.contexts["good"]
        self._server = await loop.create_server(
            lambda: Connection(self.venue), "127.0.0.1", self.port, ssl=context, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Go as a killed process goes: every connection is reset, and the port refuses."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self.venue.connections):
            connection.abort()

    async def front(self) -> None:
        self.proxy = Proxy(("127.0.0.1", self.port), self._certificates.contexts, self._certificates.trust)

    async def close(self) -> None:
        if self.proxy is not None:
            await self.proxy.close()
        await self.stop()
        self.venue.stopped = True

    def entry(self, host: str) -> dict[str, object]:
        """Say how to reach and enter it."""
        port = self.proxy.port if self.proxy else self.port
        account = self.venue.account()
        return {
            **self.venue.urls(f"{host}:{port}"),
            "port": port,
            "credentials": account.credentials,
            "options": dict(self.venue.account_options()),
            "ca_file": str(self._certificates.ca_file),
            "other_ca_file": str(self._certificates.other_ca_file),
        }

    def rest(self, count: int) -> int:
        category = self.venue.categories[0] if self.venue.categories else ""
        return len(self.venue.rest(self.venue.account(), count, self.venue.symbol, "limit", category, []))

    def book(self) -> int:
        return len(self.venue.account().open)


class Cell:
    """Carry out one cell's commands."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._stands: dict[str, Stand] = {}

    async def close(self) -> None:
        for stand in self._stands.values():
            await stand.close()

    async def do(self, command: Mapping[str, Any]) -> object:
        match command:
            case {"do": "open", "victim": victim, "other": other, "host": host, "proxy": proxied, "options": options}:
                for role, name in (("victim", victim), ("other", other)):
                    stand = self._stands[role] = Stand(name, self._certificates, options if role == "victim" else {})
                    await stand.start()
                if proxied:
                    await self._stands["victim"].front()
                hosts = {"victim": host, "other": "127.0.0.1"}
                return {role: stand.entry(hosts[role]) for role, stand in self._stands.items()}
            case {"do": "rest", "who": who, "count": count}:
                return self._stands[who].rest(count)
            case {"do": "books"}:
                return {role: stand.book() for role, stand in self._stands.items()} | {"queued_s": queued_s()}
            case {"do": "on", "fault": name}:
                await self._on(name)
                return True
            case {"do": "off"}:
                await self._off()
                return True
            case _:
                raise ValueError(f"not a command: {command}")

    async def _on(self, name: str) -> None:
        fault, victim = FAULTS[name], self._stands["victim"]
        for sim, parameters in fault.sim:
            victim.venue.put_fault(sim, parameters)
        if fault.mode is not None and victim.proxy is not None:
            await victim.proxy.set(fault.mode)
        if fault.down_s is not None:
            await victim.stop()
            if fault.down_s:
                asyncio.get_running_loop().call_later(fault.down_s, self._back, victim)

    def _back(self, victim: Stand) -> None:
        self._coming = asyncio.get_running_loop().create_task(victim.start())

    async def _off(self) -> None:
        victim = self._stands["victim"]
        victim.venue.clear_faults()
        if victim.proxy is not None:
            await victim.proxy.set(RELAY)
        if victim._server is None:
            await victim.start()


async def _serve(certificates: Certificates, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    cell = Cell(certificates)
    try:
        while line := await reader.readline():
            try:
                answer: object = await cell.do(json.loads(line))
            except ValueError as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
    except (OSError, asyncio.CancelledError):
        pass  # the cell's end has gone
    finally:
        await cell.close()
        writer.close()


async def main(path: str, directory: Path) -> None:
    """Serve until standard input ends: whoever has started this has gone then."""
    certificates = Certificates(directory)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(_serve(certificates, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(connected, path)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    for task in tuple(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], Path(sys.argv[2])))
