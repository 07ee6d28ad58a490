"""Names, addresses and authorities: what is wrong with those of one venue holds up no other, and not even itself."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from kill_switch.core.domain import Route
from kill_switch.transports import authorities, connection_pool, http, http_connection, network
from kill_switch.transports.authorities import Authorities, tls_context
from kill_switch.transports.fresh import FreshRoute
from kill_switch.transports.http import HttpLane
from kill_switch.transports.lookup import Lookup
from kill_switch.transports.network import Network
from kill_switch.transports.resolver import HostAddress, ResolvedHost
from kill_switch.transports.ws import WsLane
from kill_switch.venues.messages import Call, CallLost, Replied
from kill_switch.venues.request import Request, Upgrade
from tests.harness.lane_listeners import RecordingListener, elapsed_s, get, running, until
from tests.harness.scripted_server import Certificates, Peer, Server, ok

pytestmark = pytest.mark.anyio

HOST = "localhost"  # the certificates are good for it; what it resolves to is the test's business
OTHER = "127.0.0.2"  # an address of this machine where nothing listens, unless a test does
V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return ("asyncio", {"use_uvloop": request.param})


def found(*addresses: str) -> list[tuple[Any, ...]]:
    """Answer as `socket.getaddrinfo` does."""
    return [(socket.AF_INET6 if ":" in address else socket.AF_INET, 1, 6, "", (address, 0)) for address in addresses]


class Names:
    """A name service that says what it is told to say, and hangs until it is let go."""

    def __init__(self, *addresses: str) -> None:
        self.answer: list[tuple[Any, ...]] | Exception = found(*addresses)
        self.hangs = False
        self.asked: list[str] = []
        self._go = threading.Event()

    def __call__(self, host: str) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if self.hangs:
            self._go.wait(20)
        answer = self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def let_go(self) -> None:
        self.hangs = False
        self._go.set()


@pytest.fixture
def names() -> Iterator[Names]:
    made = Names("127.0.0.1")
    yield made
    made.let_go()


async def answers(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.say(ok())


def lane_to(server: Server, names: Names, ear: RecordingListener, ca_file: str) -> HttpLane:
    return HttpLane(f"https://{HOST}:{server.port}", ear, ca_file=ca_file, network=Network(names))


async def up(lane: HttpLane, within_s: float = 4.0) -> None:
    await until(lambda: any(connection.open for connection in lane._connections), within_s)


async def cut(server: Server, lane: HttpLane) -> None:
    old = tuple(lane._connections)
    for peer in server.peers:
        peer.writer.transport.abort()
    await until(lambda: not any(connection.open for connection in old))


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_names_that_hang_for_some_accounts_hold_up_no_other(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, real = threading.Event(), socket.getaddrinfo
    hanging: list[str] = []

    def getaddrinfo(host: Any, *more: Any, **others: Any) -> Any:
        if "sick" in str(host):
            hanging.append(host)
            go.wait(15)
            raise socket.gaierror(socket.EAI_AGAIN, "too late")
        return real(host, *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    server.script = answers
    sick = [HttpLane(f"https://sick-{number}.invalid", RecordingListener(), ca_file=ca_file) for number in range(40)]
    try:
        async with running(*(lane.run for lane in sick)) as group:
            await until(lambda: len(set(hanging)) >= 5)
            await anyio.sleep(0.3)
            healthy = HttpLane(f"https://{HOST}:{server.port}", ear, ca_file=ca_file)
            fresh = FreshRoute(f"https://{HOST}:{server.port}", ear, group.start_soon, ca_file=ca_file)
            since_s = time.monotonic()
            group.start_soon(healthy.run)
            await up(healthy)
            await cut(server, healthy)
            fresh.call(Call("kill", Request("GET", "/", {"Host": "h"}), Route.FRESH, urgent=True))
            assert isinstance(await ear.end("kill"), Replied)
            await up(healthy)
            assert elapsed_s(since_s) < 2
    finally:
        go.set()


@pytest.mark.parametrize("trouble", ["fails", "hangs", "nothing", "lies", "not a name"])
async def test_a_name_service_that_goes_wrong_keeps_no_lane_down_whose_host_it_has_named_once(
    trouble: str, server: Server, ear: RecordingListener, ca_file: str, names: Names
) -> None:
    server.script = answers
    lane = lane_to(server, names, ear, ca_file)
    async with running(lane.run):
        await up(lane)
        names.hangs = trouble == "hangs"
        wrong = {"fails": socket.gaierror(socket.EAI_AGAIN, "no"), "not a name": UnicodeError("no")}
        names.answer = wrong.get(trouble, found(OTHER) if trouble == "lies" else [])
        for _ in range(3):
            since_s = time.monotonic()
            await cut(server, lane)
            await up(lane)
            assert elapsed_s(since_s) < 1.5


async def test_a_second_route_does_not_wait_for_the_name_service_while_an_address_is_known(
    server: Server, ear: RecordingListener, ca_file: str, names: Names
) -> None:
    server.script = answers
    net = Network(names)
    async with running() as group:
        fresh = FreshRoute(f"https://{HOST}:{server.port}", ear, group.start_soon, ca_file=ca_file, network=net)
        fresh.call(get("1"))
        assert isinstance(await ear.end("1"), Replied)
        names.hangs = True
        net.resolver.host(HOST)._lookup.ended_s = float("-inf")  # long ago
        since_s = time.monotonic()
        fresh.call(get("2"))
        assert isinstance(await ear.end("2"), Replied)
        assert elapsed_s(since_s) < 0.2
        await until(lambda: len(names.asked) == 2)  # it is asked all the same, for the next time


async def test_a_look_up_without_an_answer_is_named_and_a_late_answer_is_used(
    server: Server, ear: RecordingListener, ca_file: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = answers
    names.hangs = True
    monkeypatch.setattr(network, "NAME_WITHIN_S", 0.2)
    monkeypatch.setattr(network.Dialer.connect, "__kwdefaults__", {"patience_s": 0.3, "name_within_s": 0.2})
    lane = lane_to(server, names, ear, ca_file)
    async with running(lane.run):
        await until(lambda: lane.trouble.startswith("the name service has not answered for"))
        assert lane.trouble.endswith(f"for {HOST}")
        lane.call(get("1", urgent=True))
        assert ear.events == [CallLost("1", False, lane.trouble)]
        names.let_go()
        await up(lane)
        assert len(names.asked) == 1  # by one thread, however often a lane has tried


async def test_a_name_that_does_not_resolve_is_named(ear: RecordingListener, ca_file: str, names: Names) -> None:
    names.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    lane = HttpLane("https://venue.test", ear, ca_file=ca_file, network=Network(names))
    async with running(lane.run):
        await until(lambda: lane.trouble)
    assert lane.trouble == "the name venue.test does not resolve: Name or service not known"


async def test_the_time_to_connect_begins_when_there_is_an_address(
    server: Server, ear: RecordingListener, ca_file: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "CONNECT_WITHIN_S", 0.5)
    names.hangs = True
    lane = lane_to(server, names, ear, ca_file)
    async with running(lane.run):
        await anyio.sleep(0.8)
        assert lane.trouble == ""
        names.let_go()
        await up(lane)


async def test_a_literal_address_is_never_looked_up(
    server: Server, ear: RecordingListener, ca_file: str, names: Names
) -> None:
    lane = HttpLane(server.https, ear, ca_file=ca_file, network=Network(names))
    async with running(lane.run):
        await up(lane)
    assert names.asked == []


async def test_one_question_is_asked_by_one_thread_and_by_another_when_that_is_overdue(names: Names) -> None:
    names.hangs = True
    lookup = Lookup(lambda: names(HOST))
    for _ in range(50):
        lookup.begin()
    await until(lambda: names.asked)
    assert len(names.asked) == 1
    for number in lookup._under_way:
        lookup._under_way[number] -= 11.0
    for _ in range(50):
        lookup.begin()
    await until(lambda: len(names.asked) == 2)
    assert len(lookup._under_way) == 2
    names.let_go()
    await until(lambda: not lookup.under_way)
    assert lookup.answer == found("127.0.0.1")


async def test_a_late_answer_does_not_replace_a_younger_one() -> None:
    go = threading.Event()
    asked: list[str] = []

    def ask() -> str:
        asked.append("")
        if len(asked) > 1:
            return "new"
        go.wait(10)
        return "old"

    lookup = Lookup(ask)
    lookup.begin()
    await until(lambda: asked)
    lookup._under_way[1] -= 11.0
    lookup.begin()
    await until(lambda: lookup.answer)
    go.set()
    await until(lambda: not lookup.under_way)
    assert lookup.answer == "new"


async def test_a_process_that_can_start_no_thread_uses_the_known_addresses(
    monkeypatch: pytest.MonkeyPatch, names: Names
) -> None:
    host = ResolvedHost("venue.test", names)
    host.look_up()
    await until(host.addresses)

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("kill_switch.transports.lookup.start_new_thread", refuse)
    host.look_up(0.0)
    await host.settle(0.1, 0.1)
    assert [place.address for place in host.addresses()] == ["127.0.0.1"]
    assert host.trouble == "the name venue.test does not resolve: no thread can be started"


# ── addresses ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def host_of(*addresses: str) -> ResolvedHost:
    host = ResolvedHost("venue.test", Names(*addresses))
    host.look_up()
    await until(host.addresses)
    return host


def order(host: ResolvedHost) -> list[str]:
    return [place.address for place in host.addresses()]


async def test_address_families_alternate_with_the_last_working_first_and_failed_last() -> None:
    host = await host_of("2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2")
    assert order(host) == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]
    host.mark_failed(HostAddress(V6, "2001:db8::1"))
    host.mark_proven(HostAddress(V4, "192.0.2.2"))
    assert order(host) == ["192.0.2.2", "2001:db8::2", "192.0.2.1", "2001:db8::1"]
    host.mark_failed(HostAddress(V4, "192.0.2.2"))
    assert order(host)[-2:] == ["2001:db8::1", "192.0.2.2"]  # the one that failed longer ago is better


async def test_an_address_that_worked_is_kept_until_those_that_replace_it_have_worked() -> None:
    names = Names("192.0.2.1")
    host = ResolvedHost("venue.test", names)
    host.look_up()
    await until(host.addresses)
    host.mark_proven(HostAddress(V4, "192.0.2.1"))
    names.answer = found("192.0.2.66")
    host.look_up(0.0)
    await until(lambda: len(host.addresses()) == 2)
    assert order(host) == ["192.0.2.66", "192.0.2.1"]
    host.mark_failed(HostAddress(V4, "192.0.2.66"))
    assert order(host) == ["192.0.2.1", "192.0.2.66"]
    host.mark_proven(HostAddress(V4, "192.0.2.66"))
    assert order(host) == ["192.0.2.66"]


@contextlib.asynccontextmanager
async def dead(how: str, port: int, certificates: Certificates) -> AsyncIterator[None]:
    """Have OTHER refuse, drop SYNs, accept and say nothing, speak no TLS, or show a certificate of another host."""
    if how in ("other host", "no TLS"):
        context = certificates.other_host if how == "other host" else None

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hello\r\n")
            with contextlib.suppress(OSError):  # the client goes
                await reader.read()
            writer.close()

        async with await asyncio.start_server(talk, OTHER, port, ssl=context):
            yield
        return
    with contextlib.ExitStack() as stack:
        if how != "refuses":
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((OTHER, port))
            listener.listen(0 if how == "drops" else 128)
            for _ in range(3 if how == "drops" else 0):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex((OTHER, port))
        yield


@pytest.mark.parametrize("how", ["refuses", "drops", "says nothing", "no TLS", "other host"])
async def test_one_address_of_two_that_does_not_work_keeps_nothing_down(
    how: str, server: Server, ear: RecordingListener, ca_file: str, certificates: Certificates
) -> None:
    server.script = answers
    names = Names(OTHER, "127.0.0.1")
    lane, wslane_ear = lane_to(server, names, ear, ca_file), RecordingListener()
    wslane = WsLane(f"wss://{HOST}:{server.port}/ws", Upgrade, wslane_ear, ca_file=ca_file, network=Network(names))
    async with dead(how, server.port, certificates), running(lane.run, wslane.run) as group:
        fresh = FreshRoute(
            f"https://{HOST}:{server.port}", ear, group.start_soon, ca_file=ca_file, network=Network(names)
        )
        fresh.call(get("kill"))
        await up(lane, 2.0)
        assert isinstance(await ear.end("kill", 2.0), Replied)
        await until(lambda: len(server.peers) >= 4)  # two of the lane, the fresh one, the WebSocket's
        await cut(server, lane)
        since_s = time.monotonic()
        await up(lane)
        assert elapsed_s(since_s) < 0.5  # what worked is tried first


async def test_an_address_that_stops_working_behind_its_tls_is_left_for_the_other(
    certificates: Certificates, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "ANSWER_WITHIN_S", 0.2)
    async with Server(certificates.good) as good:
        good.script = answers

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):  # the client goes
                await reader.read()
            writer.close()

        async with await asyncio.start_server(mute, OTHER, good.port, ssl=certificates.good):
            lane = lane_to(good, Names(OTHER, "127.0.0.1"), ear, ca_file)
            async with running(lane.run):
                await until(lambda: len(lane._connections) == http.CONNECTIONS)
                for number in range(3):
                    await until(lambda: lane.spare)
                    lane.call(get(str(number), urgent=True)._replace(answer_within_s=0.2))
                    end = await ear.end(str(number))
                assert isinstance(end, Replied)


async def test_when_no_address_works_the_trouble_names_each(
    server: Server, ear: RecordingListener, elsewhere: str, names: Names
) -> None:
    names.answer = found(OTHER, "127.0.0.1")
    lane = lane_to(server, names, ear, elsewhere)
    async with running(lane.run):
        await until(lambda: lane.trouble)
    certificate, refused = sorted(lane.trouble.split("; "))
    assert refused == "127.0.0.2: Connection refused" and certificate.startswith("127.0.0.1: certificate: ")


async def test_a_race_leaves_no_socket_behind(
    server: Server, ear: RecordingListener, ca_file: str, certificates: Certificates
) -> None:
    server.script = answers
    before = len(os.listdir("/proc/self/fd"))
    async with dead("says nothing", server.port, certificates), running() as group:
        for number in range(3):
            fresh = FreshRoute(
                f"https://{HOST}:{server.port}",
                ear,
                group.start_soon,
                ca_file=ca_file,
                network=Network(Names(OTHER, "127.0.0.1")),
            )
            fresh.call(get(str(number)))
            assert isinstance(await ear.end(str(number)), Replied)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 4)  # the server's own are closed a moment later


class Leaves(asyncio.Protocol):
    """Cancel whoever connects it, in the moment in which the connection is made."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        self.ended = asyncio.Event()
        self._scope = scope

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._scope.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def test_a_connection_that_is_made_as_its_owner_is_cancelled_is_closed(server: Server, ca_file: str) -> None:
    server.script = answers
    dialer = Network(Names("127.0.0.1")).dialer(f"https://{HOST}:{server.port}", ca_file)
    with anyio.CancelScope() as scope:
        leaves = Leaves(scope)
        await dialer.connect(leaves, within_s=5.0)
    assert scope.cancelled_caught
    with anyio.fail_after(5.0):
        await leaves.ended.wait()


async def test_an_answer_that_comes_during_the_race_joins_it(
    server: Server, ear: RecordingListener, ca_file: str, certificates: Certificates, names: Names
) -> None:
    server.script = answers
    net = Network(names)
    names.answer = found(OTHER)
    host = net.resolver.host(HOST)
    host.look_up()
    await until(host.addresses)
    async with dead("says nothing", server.port, certificates), running() as group:
        host._lookup.ended_s = float("-inf")
        names.answer = found("127.0.0.1")
        fresh = FreshRoute(f"https://{HOST}:{server.port}", ear, group.start_soon, ca_file=ca_file, network=net)
        fresh.call(get("1"))
        assert isinstance(await ear.end("1", 2.5), Replied)


# ── authorities ───────────────────────────────────────────────────────────────────────────────────────────────────


def replace(path: Path, source: str) -> None:
    """Put another file in its place, as an update of the system's authorities does."""
    new = path.with_name("new")
    shutil.copy(source, new)
    new.rename(path)


def spoil(path: Path, how: str) -> None:
    """Take a file away, or what is in it."""
    whole = path.read_bytes()
    path.unlink()
    if how in ("empty", "cut off"):
        path.write_bytes(b"" if how == "empty" else whole[:-200])
    elif how == "a directory":
        path.mkdir()


def mend(path: Path, source: str) -> None:
    """Put it back."""
    if path.is_dir():
        path.rmdir()
    shutil.copy(source, path)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the bundle of the system's authorities."""
    (tmp_path / "certs").mkdir()
    bundle = tmp_path / "bundle.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "certs"))
    monkeypatch.setattr(authorities, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(Authorities.check_files, "__defaults__", (0.0,))
    return bundle


async def told(ear: RecordingListener, fresh: FreshRoute, tag: str) -> Replied | CallLost:
    fresh.call(get(tag))
    return await ear.end(tag)


def fresh_to(server: Server, ear: RecordingListener, group: anyio.abc.TaskGroup, ca_file: str | None) -> FreshRoute:
    return FreshRoute(server.https, ear, group.start_soon, ca_file=ca_file)


@pytest.mark.parametrize("own", [False, True], ids=["system", "ca_file"])
async def test_new_connections_follow_the_authorities_when_these_change(
    own: bool, server: Server, ear: RecordingListener, ca_file: str, elsewhere: str, system: Path
) -> None:
    server.script = answers
    replace(system, elsewhere)
    async with running() as group:
        fresh = fresh_to(server, ear, group, str(system) if own else None)
        refused = await told(ear, fresh, "not trusted yet")
        assert isinstance(refused, CallLost) and refused.why.startswith("certificate: ")
        replace(system, ca_file)
        assert isinstance(await told(ear, fresh, "trusted"), Replied)
        replace(system, elsewhere)
        assert isinstance(await told(ear, fresh, "not trusted any more"), CallLost)


async def test_a_lane_comes_back_when_the_authorities_and_the_certificate_change(
    server: Server, ear: RecordingListener, ca_file: str, elsewhere: str, system: Path
) -> None:
    replace(system, elsewhere)
    lane = HttpLane(server.https, ear)
    async with running(lane.run):
        await until(lambda: lane.trouble.startswith("certificate: "))
        replace(system, ca_file)
        await up(lane)


@pytest.mark.parametrize("how", ["gone", "empty", "cut off", "a directory"])
@pytest.mark.parametrize("own", [False, True], ids=["system", "ca_file"])
async def test_missing_authorities_are_reported_and_the_last_good_ones_are_used(
    own: bool,
    how: str,
    server: Server,
    ear: RecordingListener,
    ca_file: str,
    system: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.script = answers
    shutil.copy(ca_file, system)
    net = Network()
    async with running() as group:
        fresh = FreshRoute(server.https, ear, group.start_soon, ca_file=str(system) if own else None, network=net)
        assert isinstance(await told(ear, fresh, "before"), Replied)
        spoil(system, how)
        for tag in ("1", "2"):
            assert isinstance(await told(ear, fresh, tag), Replied)
        await until(lambda: list(net.troubles()))
        assert len([r for r in caplog.records if "the authorities that were read before are used" in r.message]) == 1
        mend(system, ca_file)
        assert isinstance(await told(ear, fresh, "after"), Replied)
        await until(lambda: not list(net.troubles()))


async def test_authorities_in_a_directory_are_read_as_openssl_names_them(
    server: Server, ear: RecordingListener, ca_file: str, system: Path
) -> None:
    server.script = answers
    directory = system.with_name("certs")
    shutil.copy(ca_file, directory / "not-hashed.pem")
    async with running() as group:
        fresh = fresh_to(server, ear, group, None)
        assert isinstance(await told(ear, fresh, "not hashed"), CallLost)
        (directory / "0a1b2c3d.0").symlink_to(directory / "not-hashed.pem")
        assert isinstance(await told(ear, fresh, "hashed"), Replied)


async def test_authorities_whose_files_hang_hold_up_nothing(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = answers
    go = threading.Event()
    async with running() as group:
        fresh = fresh_to(server, ear, group, ca_file)
        monkeypatch.setattr(authorities, "_signature", lambda path: go.wait(15) and ())
        try:
            since_s = time.monotonic()
            for tag in ("1", "2", "3"):
                assert isinstance(await told(ear, fresh, tag), Replied)
            assert elapsed_s(since_s) < 1
        finally:
            go.set()


async def test_a_context_verifies_as_pythons_default_does(monkeypatch: pytest.MonkeyPatch, ca_file: str) -> None:
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    ours, pythons = tls_context(ca_file), ssl.create_default_context(cafile=ca_file)
    for name in ("protocol", "verify_flags", "verify_mode", "check_hostname", "options", "keylog_filename"):
        assert getattr(ours, name) == getattr(pythons, name), name
    assert ours.get_ca_certs() == pythons.get_ca_certs()


@pytest.mark.parametrize("writable", [True, False])
async def test_tls_secrets_are_never_written_and_the_request_is_logged_once(
    writable: bool,
    server: Server,
    ear: RecordingListener,
    ca_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.script = answers
    path = tmp_path / "keys" if writable else tmp_path / "missing" / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    net = Network()
    async with running() as group:
        lane = HttpLane(server.https, RecordingListener(), ca_file=ca_file, network=net)
        group.start_soon(lane.run)
        fresh = FreshRoute(server.https, ear, group.start_soon, ca_file=ca_file, network=net)
        assert isinstance(await told(ear, fresh, "1"), Replied)
        await up(lane)
    assert not path.exists()
    assert len([record for record in caplog.records if "SSLKEYLOGFILE" in record.message]) == 1


def test_a_ca_file_that_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is not a file"):
        tls_context(tmp_path / "pipe")


@pytest.mark.parametrize("passes", range(6))
async def test_a_handshake_that_is_cancelled_as_it_begins_closes_no_socket_twice(
    server: Server, names: Names, ear: RecordingListener, ca_file: str, passes: int
) -> None:
    server.script = answers
    lane = lane_to(server, names, ear, ca_file)
    async with running(lane.run):
        while not (begun := [task for task in asyncio.all_tasks() if "_shake" in repr(task.get_coro())]):  # noqa: ASYNC110 - the moment has no event
            await asyncio.sleep(0)
        for _ in range(passes):  # at 1 uvloop has the socket and has not said so to its object; then TLS begins
            await asyncio.sleep(0)
        begun[0].cancel()
        await asyncio.wait(begun)
        await up(lane)  # what a callback raises fails the test


class Wire(asyncio.Protocol):
    """The protocol that a connection gets: it keeps its transport."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)


@pytest.mark.parametrize("size", [90, 20_000])
async def test_a_command_has_left_when_its_write_returns(server: Server, names: Names, ca_file: str, size: int) -> None:
    wire = Wire()
    await Network(names).dialer(f"https://{HOST}:{server.port}", ca_file).connect(wire, within_s=4)
    await until(lambda: server.peers)
    wire.transport.write(bytes(size))
    received = fcntl.ioctl(server.peers[0].writer.get_extra_info("socket"), termios.FIONREAD, bytes(4))
    assert int.from_bytes(received, sys.byteorder) > size  # in this pass of the loop: TLS adds a few bytes
    wire.transport.abort()
