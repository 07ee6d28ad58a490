"""Start simulators: the registry of venues, `serve` inside a running event loop, `run` as a process.

The command `sim`, the testbed and the tests use it. To add a venue, write its folder and add its class to `VENUES`.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import orjson
import uvloop

from kill_switch.sim.admin import Admin
from kill_switch.sim.binance.futures import BinanceCoinm, BinanceUsdm
from kill_switch.sim.binance.spot import BinanceSpot
from kill_switch.sim.crosstrade.venue import CrossTrade
from kill_switch.sim.kit.options import unknown
from kill_switch.sim.kit.server import Connection, ReceiveQueue
from kill_switch.sim.kit.venue import Venue
from kill_switch.sim.kraken.venue import Kraken
from kill_switch.sim.kraken_futures.venue import KrakenFutures
from kill_switch.sim.kuna.venue import Kuna
from kill_switch.sim.oxfun.venue import Oxfun
from kill_switch.sim.roxom.venue import Roxom
from kill_switch.sim.tls import scratch, server_context

VENUES: Mapping[str, type[Venue]] = {
    venue.name: venue
    for venue in (BinanceCoinm, BinanceSpot, BinanceUsdm, CrossTrade, Kraken, KrakenFutures, Kuna, Oxfun, Roxom)
}

Options = Mapping[str, Mapping[str, str]]  # by venue and name, as `--option venue.name=value` states them


class Login(TypedDict):
    """How to log in to one account after the first."""

    name: str
    credentials: dict[str, str]
    options: dict[str, Any]


class Entry(TypedDict):
    """How to reach one venue; `name`, `credentials` and `options` belong to its first account."""

    ws_url: str
    rest_url: str
    symbols: list[str]
    kinds: list[str]
    not_covered: list[str]
    name: str
    credentials: dict[str, str]
    options: dict[str, Any]
    accounts: NotRequired[list[Login]]


class Ready(TypedDict):
    """Where everything listens: the line that `kill-switch sim` prints."""

    admin: str
    ca_file: str
    venues: dict[str, Entry]


def read_options(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """Parse options in the command line's form, `venue.name=value`. Raises `ValueError` with the right form."""
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        venue, dot, name = place.partition(".")
        if not (equals and dot and venue and name):
            raise ValueError(f"option {text!r} is not written venue.name=value")
        options.setdefault(venue, {})[name] = value
    return options


def with_key_types(options: Options, texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the options with the types of keys that `--key-type` names as `venue=type`.

    Raises `ValueError` with the right form, or the types that the venue takes.
    """
    chosen = {venue: dict(values) for venue, values in options.items()}
    for text in texts:
        venue, equals, kind = text.partition("=")
        if not (equals and venue and kind):
            raise ValueError(f"key type {text!r} is not written VENUE=ed25519 or VENUE=rsa")
        if venue not in VENUES:
            raise ValueError(unknown("venue", venue, VENUES))
        known = VENUES[venue].key_types
        if not known:
            raise ValueError(f"{venue} has one type of credentials: it takes no key type")
        if kind not in known:
            raise ValueError(unknown(f"key type of {venue}", kind, known))
        if chosen.setdefault(venue, {}).setdefault("auth", kind) != kind:
            raise ValueError(f"key type {text!r} contradicts {venue}.auth={chosen[venue]['auth']}")
    return chosen


def make_venues(names: Sequence[str], accounts: int, options: Options) -> dict[str, Venue]:
    """Create the venues. Raises `ValueError` with one line for people."""
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
    simulators: dict[str, Venue] = {}
    for name in dict.fromkeys(names):
        settings = VENUES[name].options_type()
        settings.set_all(options.get(name, {}), starting=True)
        simulators[name] = VENUES[name](settings, accounts)
    for venue in simulators.values():
        venue.joined(simulators.values())
    return simulators


@asynccontextmanager
async def serve(
    venues: Sequence[str],
    *,
    host: str = "127.0.0.1",
    tls_dir: Path | None = None,
    accounts: int = 1,
    options: Options | None = None,
) -> AsyncIterator[Ready]:
    """Serve the venues on free ports while the context is open; yield the content of the ready line.

    Without `tls_dir`, the certificates are in a temporary directory that is removed at the end. Raises `ValueError` for
    a wrong name or option.
    """
    simulators = make_venues(venues, accounts, options or {})
    async with AsyncExitStack() as stack:
        directory = tls_dir or Path(stack.enter_context(scratch()))
        context, ca_file = server_context(directory, _reachable(host))
        inbox = ReceiveQueue()
        entries: dict[str, Entry] = {}
        for name, venue in simulators.items():
            port = await _listen(stack, venue, inbox, host, context)
            stack.callback(_stop, venue)
            entries[name] = _entry(venue, _authority(_reachable(host), port))
        admin = await _listen(stack, Admin(simulators), inbox, "127.0.0.1", None)
        yield {"admin": f"http://127.0.0.1:{admin}", "ca_file": str(ca_file.absolute()), "venues": entries}


def run(
    venues: Sequence[str],
    *,
    host: str = "127.0.0.1",
    tls_dir: Path | None = None,
    accounts: int = 1,
    options: Options | None = None,
    on_ready: Callable[[Ready], None] | None = None,
) -> int:
    """Serve the venues until SIGTERM or SIGINT; print the ready line once everything listens. Return 0.

    `on_ready` is called before the line is printed. Raises `ValueError` for a wrong name or option, and `OSError` if an
    address or a directory cannot be used.
    """

    async def until_signal() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with serve(venues, host=host, tls_dir=tls_dir, accounts=accounts, options=options) as ready:
            if on_ready is not None:
                on_ready(ready)
            sys.stdout.write(orjson.dumps(ready).decode() + "\n")
            sys.stdout.flush()
            gc.freeze()  # objects that live until the end are not collected in the middle of a measurement,
            gc.set_threshold(100_000, 20, 100)  # and short-lived objects form no cycles
            await stop.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_signal())
    return 0


async def _listen(
    stack: AsyncExitStack, handler: Venue | Admin, inbox: ReceiveQueue, host: str, context: ssl.SSLContext | None
) -> int:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(handler, inbox), host, 0, ssl=context, backlog=1024)
    stack.push_async_callback(_close, server, handler)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _close(server: asyncio.Server, handler: Venue | Admin) -> None:
    """Stop listening, drop every connection, and wait until they are gone, for at most 2 s."""
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
    further = {key: url for key, url in urls.items() if key not in ("ws_url", "rest_url")}
    first, *others = [_login(venue, name, further) for name in venue.accounts]
    entry: Entry = {
        "ws_url": urls["ws_url"],
        "rest_url": urls["rest_url"],
        "symbols": list(venue.symbols),
        "kinds": list(venue.kinds),
        "not_covered": list(venue.not_covered),
        "name": first["name"],
        "credentials": first["credentials"],
        "options": first["options"],
    }
    if others:
        entry["accounts"] = others
    return entry


def _login(venue: Venue, name: str, addresses: Mapping[str, str]) -> Login:
    account = venue.account(name)
    return {"name": name, "credentials": account.credentials, "options": {**addresses, **venue.account_options()}}


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
