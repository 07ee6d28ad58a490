"""Start simulators: the registry of venues, `serve` inside a running loop, `run` as a process of its own.

Adding a venue: write its file, add it to `VENUES`.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import orjson
import uvloop

from kill_switch.sim.admin import Admin
from kill_switch.sim.crosstrade.venue import CrossTrade
from kill_switch.sim.kit.options import unknown
from kill_switch.sim.kit.server import Connection, Inbox
from kill_switch.sim.kit.venue import Venue
from kill_switch.sim.kuna.venue import Kuna
from kill_switch.sim.oxfun.venue import Oxfun
from kill_switch.sim.roxom.venue import Roxom
from kill_switch.sim.tls import scratch, server_context

VENUES: Mapping[str, type[Venue]] = {venue.name: venue for venue in (CrossTrade, Kuna, Oxfun, Roxom)}

Options = Mapping[str, Mapping[str, str]]
"""Options by venue and name, as `--option venue.name=value` gives them."""


class Login(TypedDict):
    """Say how to log in to one account beyond the first."""

    name: str
    credentials: dict[str, str]
    options: dict[str, Any]


class Entry(TypedDict):
    """Say how to reach one venue; `name`, `credentials` and `options` are the first account's."""

    ws_url: str
    rest_url: str
    name: str
    credentials: dict[str, str]
    options: dict[str, Any]
    accounts: NotRequired[list[Login]]


class Ready(TypedDict):
    """Say where everything is: the line that `kill-switch sim` prints."""

    admin: str
    ca_file: str
    venues: dict[str, Entry]


def read_options(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read options as the command line has them, `venue.name=value`; ValueError says what would be right."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        place, given, value = text.partition("=")
        venue, dot, name = place.partition(".")
        if not (given and dot and venue and name):
            raise ValueError(f"option {text!r} is not written venue.name=value")
        found.setdefault(venue, {})[name] = value
    return found


def make_venues(names: Sequence[str], accounts: int, options: Options) -> dict[str, Venue]:
    """Make the venues; ValueError says in one line what is wrong."""
    if not names:
        raise ValueError(f"name at least one venue. Known: {', '.join(sorted(VENUES))}.")
    if accounts < 1:
        raise ValueError("accounts must be 1 or more")
    for name in (*names, *options):
        if name not in VENUES:
            raise ValueError(unknown("venue", name, VENUES))
    for name in options:
        if name not in names:
            raise ValueError(f"an option is given for venue {name!r}, which is not simulated here")
    made: dict[str, Venue] = {}
    for name in dict.fromkeys(names):
        settings = VENUES[name].options_type()
        settings.set_all(options.get(name, {}), starting=True)
        made[name] = VENUES[name](settings, accounts)
    return made


@asynccontextmanager
async def serve(
    venues: Sequence[str],
    *,
    host: str = "127.0.0.1",
    tls_dir: Path | None = None,
    accounts: int = 1,
    options: Options | None = None,
) -> AsyncIterator[Ready]:
    """Serve the venues on free ports while the context is open; the value is what the ready line says.

    Without `tls_dir` the certificates are in a temporary directory that is removed at the end.
    """
    made = make_venues(venues, accounts, options or {})
    async with AsyncExitStack() as stack:
        directory = tls_dir or Path(stack.enter_context(scratch()))
        context, ca_file = server_context(directory, _reachable(host))
        inbox = Inbox()
        entries: dict[str, Entry] = {}
        for name, venue in made.items():
            port = await _listen(stack, venue, inbox, host, context)
            stack.callback(_stop, venue)
            entries[name] = _entry(venue, _authority(_reachable(host), port))
        admin = await _listen(stack, Admin(made), inbox, "127.0.0.1", None)
        yield {"admin": f"http://127.0.0.1:{admin}", "ca_file": str(ca_file.absolute()), "venues": entries}


def run(
    venues: Sequence[str],
    *,
    host: str = "127.0.0.1",
    tls_dir: Path | None = None,
    accounts: int = 1,
    options: Options | None = None,
) -> int:
    """Serve the venues until SIGTERM or SIGINT, and print the ready line once everything listens; returns 0."""

    async def until_told() -> None:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        async with serve(venues, host=host, tls_dir=tls_dir, accounts=accounts, options=options) as ready:
            sys.stdout.write(orjson.dumps(ready).decode() + "\n")
            sys.stdout.flush()
            gc.freeze()  # what lives until the end need not be looked at in the middle of a measurement,
            gc.set_threshold(100_000, 20, 100)  # and what comes and goes does not make cycles
            await told.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_told())
    return 0


async def _listen(
    stack: AsyncExitStack, handler: Venue | Admin, inbox: Inbox, host: str, context: ssl.SSLContext | None
) -> int:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(handler, inbox), host, 0, ssl=context, backlog=1024)
    stack.push_async_callback(_close, server, handler)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _close(server: asyncio.Server, handler: Venue | Admin) -> None:
    """Stop listening and drop every connection, and wait until they are gone."""
    server.close()
    deadline = asyncio.get_running_loop().time() + 2.0
    while handler.connections and asyncio.get_running_loop().time() < deadline:
        for connection in tuple(handler.connections):
            connection.abort()
        await asyncio.sleep(0.001)
    await server.wait_closed()


def _stop(venue: Venue) -> None:
    venue.stopped = True


def _entry(venue: Venue, authority: str) -> Entry:
    urls = venue.urls(authority)
    first, *others = [_login(venue, name) for name in venue.accounts]
    entry: Entry = {
        "ws_url": urls["ws_url"],
        "rest_url": urls["rest_url"],
        "name": first["name"],
        "credentials": first["credentials"],
        "options": first["options"],
    }
    if others:
        entry["accounts"] = others
    return entry


def _login(venue: Venue, name: str) -> Login:
    account = venue.account(name)
    return {"name": name, "credentials": account.credentials, "options": dict(venue.account_options())}


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _reachable(host: str) -> str:
    """Return an address that a client on this machine can use."""
    address = _address(host)
    if address is None or not address.is_unspecified:
        return host
    return "::1" if address.version == 6 else "127.0.0.1"


def _authority(host: str, port: int) -> str:
    address = _address(host)
    return f"[{host}]:{port}" if address and address.version == 6 else f"{host}:{port}"
