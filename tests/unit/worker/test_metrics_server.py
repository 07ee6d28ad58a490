"""The metrics and the probes are answered to those who may read them, and no client delays another."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trustme
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from kill_switch.system.host_port import HostPort
from kill_switch.worker.access_files import NO_FILES, AccessFiles
from kill_switch.worker.client import Exposure, MetricsSnapshot, WorkerClient
from kill_switch.worker.metrics_access import MetricsAccess
from kill_switch.worker.metrics_connection import HEAD_BYTES
from kill_switch.worker.metrics_server import family
from tests.harness.metrics_exposure import exposed, free_port, nothing, read, scrape


def test_a_daemon_that_does_not_answer_is_reported_as_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_server.ANSWER_S", 0.1)
    with exposed(silent=True) as port:
        values = read(scrape(port))
    assert values["kill_switch_responding", frozenset()] == 0
    assert ("kill_switch_tripped", frozenset()) not in values


def test_a_daemon_that_hangs_is_waited_for_once_and_is_up_again_once_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_server.ANSWER_S", 1.0)
    hangs = threading.Event()
    with exposed(silent=hangs) as port:
        hangs.set()
        assert "kill_switch_responding 0.0" in scrape(port)
        began_s = time.monotonic()
        for _ in range(3):
            assert "kill_switch_responding 0.0" in scrape(port)
        assert time.monotonic() - began_s < 2.5  # some milliseconds on an idle machine; 3 s if each waited
        hangs.clear()
        until_s = time.monotonic() + 10
        while "kill_switch_responding 0.0" in scrape(port):
            assert time.monotonic() < until_s
            time.sleep(0.05)


def test_scrapes_in_quick_succession_ask_the_daemon_once() -> None:
    asked = []

    def snapshot() -> MetricsSnapshot:
        asked.append(1)
        return nothing()

    with exposed(snapshot) as port:
        for _ in range(5):
            scrape(port)
    assert len(asked) <= 2


def test_a_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_connection.HEAD_S", 0.2)
    with exposed() as port, socket.create_connection(("127.0.0.1", port)):
        time.sleep(0.05)
        began_s = time.monotonic()
        scrape(port)
        assert time.monotonic() - began_s < 2


@contextmanager
def crowd(port: int, count: int, say: Callable[[socket.socket], None]) -> Iterator[None]:
    """Have that many clients connected, and each say something every 50 ms, as long as it is let."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    over = threading.Event()

    def talk() -> None:
        while not over.wait(0.05):
            for client in clients:
                with suppress(OSError):
                    say(client)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for client in clients:
            client.close()


@pytest.mark.parametrize("count", [1, 20, 300])
@pytest.mark.parametrize("letter", [b"", b"G"], ids=["silent", "dribbling"])
def test_clients_with_an_unfinished_request_delay_no_other_client(
    letter: bytes, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_connection.HEAD_S", 3600.0)
    with exposed() as port, crowd(port, count, lambda client: client.sendall(letter)):
        for _ in range(3):
            began_s = time.monotonic()
            scrape(port)
            assert time.monotonic() - began_s < 4  # some milliseconds on an idle machine


def test_a_client_has_a_bounded_time_for_its_whole_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_connection.HEAD_S", 0.3)
    with exposed() as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.05)
        for _ in range(100):
            client.sendall(b"G")
            with suppress(TimeoutError):
                assert client.recv(1) == b""
                break
        else:
            raise AssertionError("it was not let go")


def test_clients_that_do_not_read_delay_no_other_client_and_are_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_connection.SEND_S", 0.5)
    much: dict[str, Any] = {
        "type": "gauge",
        "name": "kill_switch_x",
        "help": "x" * 20_000_000,
        "labels": [],
        "samples": [([], 7)],
    }
    figures: list[Any] = [much]
    with exposed(lambda: MetricsSnapshot(figures)) as port, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        time.sleep(0.5)
        figures.clear()
        assert "kill_switch_responding 1.0" in scrape(port)
        time.sleep(0.6)
        taken = 0
        client.settimeout(5)
        with suppress(ConnectionError):
            while chunk := client.recv(1 << 20):
                taken += len(chunk)
        assert taken < 20_000_000


def test_many_scrapes_at_once_wait_for_a_slow_daemon_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_server.ANSWER_S", 0.5)
    with exposed(silent=True) as port, ThreadPoolExecutor(20) as pool:
        began_s = time.monotonic()
        texts = list(pool.map(lambda _: scrape(port), range(20)))
        assert time.monotonic() - began_s < 5
    assert all("kill_switch_responding 0.0" in text for text in texts)


def test_a_late_loop_reports_a_silent_daemon_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that are ready are served before a timer that is due: each would put the time-out off."""
    late_s = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late_s[0])
    monkeypatch.setattr("kill_switch.worker.metrics_server.time", clock)
    monkeypatch.setattr("kill_switch.worker.metrics_server.ANSWER_S", 60.0)
    with exposed(silent=True) as port, ThreadPoolExecutor(1) as pool:
        first = pool.submit(scrape, port)
        time.sleep(0.3)
        late_s[0] = 60.1
        assert "kill_switch_responding 0.0" in scrape(port)
        assert "kill_switch_responding 0.0" in first.result()


def test_an_answer_that_cannot_be_made_takes_no_other_clients_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_for_one(accept: str) -> object:
        if accept == "a fault":
            raise RuntimeError
        return choose_encoder(accept)

    monkeypatch.setattr("kill_switch.worker.metrics_server.choose_encoder", fail_for_one)
    monkeypatch.setattr("kill_switch.worker.metrics_server.ANSWER_S", 0.5)
    with exposed(silent=True) as port, ThreadPoolExecutor(4) as pool:
        before = pool.submit(ask, port, "/metrics")
        time.sleep(0.1)
        failed = pool.submit(ask, port, "/metrics", Accept="a fault")
        time.sleep(0.1)
        behind = [pool.submit(ask, port, path) for path in ("/metrics", "/healthz")]
        assert [answer.result()[0] for answer in (before, *behind)] == [200, 200, 503]
        with pytest.raises((OSError, http.client.HTTPException)):
            failed.result()


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET /metrics?x=y HTTP/1.1\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET http://[ HTTP/1.1\r\n\r\n", b"404"),
        (b"GET\r\n\r\n", b"404"),
        (b"GET /metrics HTTP/1.1\r\nAccept: text/plain;version=x\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nx:".ljust(HEAD_BYTES, b"y") + b"\r\n\r\n", b"200"),
        (b"HEAD /metrics HTTP/1.0\r\nAccept: \xff\r\n:\r\nx\r\n\r\n", b"200"),
        (b"DELETE / HTTP/1.1\r\n\r\n", b"405"),
        (b"\xff\0\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000, b""),
    ],
)
def test_whatever_a_client_says_it_gets_an_answer_or_is_let_go(asked: bytes, status: bytes) -> None:
    with exposed() as port, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        with suppress(ConnectionError):
            client.sendall(asked)
            answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
            assert answer[9:12] == status
            assert not answer.partition(b"\r\n\r\n")[2] or not asked.startswith(b"HEAD")
        assert "kill_switch_responding 1.0" in scrape(port)


@pytest.mark.parametrize(("method", "status"), [(b"GET", b"200"), (b"POST", b"405")])
def test_a_request_with_an_unread_body_still_gets_its_whole_answer(method: bytes, status: bytes) -> None:
    with exposed() as port, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(method + b" /metrics HTTP/1.1\r\n\r\n" + bytes(60_000))
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))  # a reset would raise
    assert answer[9:12] == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("127.0.0.1:9464", "[::1]:9464", "192.0.2.7", "localhost:9464", "LOCALHOST.", "")),
        *((host, 200) for host in ("guard7.desk.example:9464", "Guard7.Desk.Example", "guard7:9464")),
        *(
            (host, 421)
            for host in ("evil.example", "evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example")
        ),
        *(
            (host, 421)
            for host in ("guard7.evil.example", "guard8", "[::1", "evil.example@127.0.0.1.evil", "127.1", "a b")
        ),
        *(
            (host, 421)
            for host in ("127.0.0.1\r\nHost: evil.example", "evil.example\r\nHost: 127.0.0.1", " ", "[evil]")
        ),
    ],
)
def test_only_a_request_for_an_address_for_localhost_or_for_this_machines_name_is_answered(
    host: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web page can give its own name this machine's address (DNS rebinding), but none of these."""
    monkeypatch.setattr("socket.gethostname", lambda: "Guard7.desk.example")
    field = f"Host: {host}\r\n" if host else ""
    with exposed() as port, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(f"GET /metrics HTTP/1.1\r\n{field}\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.split()[1] == str(status).encode()
    assert (b"kill_switch" in answer) == (status == 200)


def test_only_reading_is_allowed() -> None:
    with exposed() as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", data=b"x", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(request, timeout=5)  # noqa: S310


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_address_in_use_is_reported_and_served_once_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    port = holder.getsockname()[1]
    async with serving(port) as told:
        while not told:  # noqa: ASYNC110
            await anyio.sleep(0.02)
        assert told == [f"127.0.0.1:{port}: Address already in use"]
        holder.close()
        while told[-1]:  # noqa: ASYNC110
            await anyio.sleep(0.02)
        text = await anyio.to_thread.run_sync(scrape, port)
        assert "kill_switch_x 7.0" in text
        assert "process_" not in text  # what it takes itself is nobody's business: the daemon tells of the daemon


@asynccontextmanager
async def serving(port: int, files: AccessFiles = NO_FILES) -> AsyncIterator[list[str]]:
    """Have a real process beside serve one figure."""
    told = list[str]()
    figure: dict[str, Any] = {
        "type": "gauge",
        "name": "kill_switch_x",
        "help": "X.",
        "labels": [],
        "samples": [([], 7)],
    }
    beside = WorkerClient(
        exposure=Exposure(HostPort("127.0.0.1", port), lambda: MetricsSnapshot([figure]), told.append, files)
    )
    beside.start_when_needed()
    async with anyio.create_task_group() as group:
        group.start_soon(beside.run)
        yield told
        group.cancel_scope.cancel()


# ── probes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Return the status and the text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_a_daemon_that_answers_and_could_fire_is_healthy_and_ready() -> None:
    with exposed() as port:
        assert ask(port, "/healthz") == (200, "the daemon answers\n")
        assert ask(port, "/readyz?verbose") == (200, "able to fire\n")


def test_a_daemon_that_could_not_fire_is_healthy_and_not_ready_and_says_why_in_one_line() -> None:
    with exposed(lambda: MetricsSnapshot((), "no kill would reach mm1 (ws:\nrefused)")) as port:
        assert ask(port, "/healthz")[0] == 200
        assert ask(port, "/readyz") == (503, "not able to fire: no kill would reach mm1 (ws: refused)\n")


def test_a_daemon_that_does_not_answer_is_neither_healthy_nor_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_server.ANSWER_S", 0.1)
    with exposed(silent=True) as port:
        for path in ("/healthz", "/readyz"):
            assert ask(port, path) == (503, "the daemon does not answer within 0.1 s\n")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/", "/metrics/x", "/Metrics"])
def test_head_gets_the_status_and_the_length_of_get_and_no_text(path: str) -> None:
    with exposed() as port:
        lengths = []
        for method in ("GET", "HEAD"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            with closing(connection):
                connection.request(method, path)
                answer = connection.getresponse()
                lengths.append((answer.status, answer.headers["Content-Length"]))
                assert bool(answer.read()) == (method == "GET")
    assert lengths[0] == lengths[1]
    assert lengths[0][0] == (200 if path in ("/metrics", "/healthz", "/readyz") else 404)


def test_a_thousand_scrapes_of_one_moment_format_its_figures_once(monkeypatch: pytest.MonkeyPatch) -> None:
    formatted = []

    def format_family(figure: Mapping[str, Any]) -> Metric:
        formatted.append(figure["name"])
        return family(figure)

    monkeypatch.setattr("kill_switch.worker.metrics_server.FRESH_S", 60.0)
    monkeypatch.setattr("kill_switch.worker.metrics_server.family", format_family)
    figure: dict[str, Any] = {
        "type": "gauge",
        "name": "kill_switch_x",
        "help": "X.",
        "labels": [],
        "samples": [([], 7)],
    }
    with exposed(lambda: MetricsSnapshot([figure])) as port:
        assert all("kill_switch_x 7.0" in scrape(port) for _ in range(50))
    assert len(formatted) == 1


# ── who may read ──────────────────────────────────────────────────────────────────────────────────────────────────

TOKEN = "9f2c" * 16
BEARER = f"Bearer {TOKEN}"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        *((value, 200) for value in (BEARER, f"bearer {TOKEN}", f"BEARER   {TOKEN}")),
        *((value, 401) for value in ("", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}0")),
        *((value, 401) for value in (f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}", "Bearer \xff")),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_with_a_token_only_who_has_it_is_answered(path: str, authorization: str, status: int, token_file: Path) -> None:
    files = AccessFiles(token=str(token_file))
    with exposed(lambda: MetricsSnapshot((), "a secret of the desk"), files=files) as port:
        found, text = ask(port, path, Authorization=authorization)
    assert found == (503 if (status, path) == (200, "/readyz") else status)
    assert ("secret" in text) == (found == 503)


def test_without_the_token_every_path_gets_the_same_answer(token_file: Path) -> None:
    with exposed(files=AccessFiles(token=str(token_file))) as port:
        assert ask(port, "/nothing") == ask(port, "/metrics") == (401, "the token is missing or wrong\n")
        assert ask(port, "/nothing", Authorization=BEARER)[0] == 404


def test_a_request_with_the_token_may_call_this_machine_by_any_name(token_file: Path) -> None:
    with exposed(files=AccessFiles(token=str(token_file))) as port:
        assert ask(port, "/healthz", Authorization=BEARER, Host="guard.desk.example")[0] == 200


@pytest.mark.parametrize("text", ["", "short", "two words of a sentence", 257 * "x"])
def test_a_token_that_no_start_would_take_does_not_replace_the_one_in_force(token_file: Path, text: str) -> None:
    access = MetricsAccess(AccessFiles(token=str(token_file)))
    access.read()
    before = f"Bearer {token_file.read_text().strip()}"
    token_file.write_text(f"{text}\n")
    with pytest.raises(ValueError, match="token"):
        access.read()
    assert access.allows(before) and not access.allows(f"Bearer {text}")


def test_a_token_that_changes_is_in_force_without_a_restart(token_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_server.LOOK_S", 0.02)
    with exposed(files=AccessFiles(token=str(token_file))) as port:
        token_file.unlink()
        time.sleep(0.2)
        assert ask(port, "/healthz", Authorization=BEARER)[0] == 200  # it cannot be read: the old one is in force
        token_file.write_text("another" * 5)
        until_s = time.monotonic() + 10
        while ask(port, "/healthz", Authorization=BEARER)[0] == 200:
            assert time.monotonic() < until_s
            time.sleep(0.02)
        assert ask(port, "/healthz", Authorization=f"Bearer {'another' * 5}")[0] == 200


@pytest.fixture
def tls(tmp_path: Path) -> tuple[AccessFiles, ssl.SSLContext]:
    """Return the server's files, and a client's context that trusts them."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    leaf.private_key_pem.write_to_path(key)
    for pem in leaf.cert_chain_pems:
        pem.write_to_path(certificate, append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return AccessFiles(certificate=str(certificate), key=str(key)), context


def test_over_tls_the_metrics_are_as_without(tls: tuple[AccessFiles, ssl.SSLContext]) -> None:
    files, context = tls
    with exposed(files=files) as port:
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", timeout=5, context=context) as answer:
            assert "kill_switch_responding 1.0" in answer.read().decode()
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(port, "/metrics")  # plain HTTP gets nothing


def test_clients_that_never_finish_the_handshake_delay_no_other_client_and_are_let_go(
    tls: tuple[AccessFiles, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, context = tls
    monkeypatch.setattr("kill_switch.worker.metrics_connection.HEAD_S", 3600.0)
    with exposed(files=files) as port, crowd(port, 300, lambda client: client.sendall(b"\x16")):
        for _ in range(3):
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/healthz", timeout=5, context=context) as answer:
                assert answer.status == 200


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_token_that_cannot_be_read_is_reported_and_nothing_is_served_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    async with serving(port, AccessFiles(token=str(tmp_path / "none"))) as told:
        while not told:  # noqa: ASYNC110
            await anyio.sleep(0.02)
        assert told[0] == f"127.0.0.1:{port}: {tmp_path}/none: No such file or directory"
        with pytest.raises(OSError, match="refused"):
            await anyio.to_thread.run_sync(ask, port, "/metrics")


LARGE: dict[str, Any] = {"type": "gauge", "name": "kill_switch_x", "help": 5_000_000 * "x", "labels": [], "samples": []}


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
def test_an_answer_that_is_read_slowly_arrives_whole(over_tls: bool, tls: tuple[AccessFiles, ssl.SSLContext]) -> None:
    """It is far larger than what the kernel takes at once, so that the server has to wait for its client."""
    files, context = tls

    def over(plain: socket.socket) -> socket.socket:
        return context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)

    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(10)
    with exposed(lambda: MetricsSnapshot([LARGE]), files=files if over_tls else NO_FILES) as port:
        plain.connect(("127.0.0.1", port))
        with over(plain) if over_tls else plain as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
            time.sleep(0.05)
            client.sendall(b"\r\n")
            answer = b"".join(iter(lambda: client.recv(1 << 20), b""))  # over TLS, an end without a word raises
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    assert len(body) > 5_000_000


def test_a_client_that_begins_tls_and_says_no_more_delays_no_other_and_is_let_go(
    tls: tuple[AccessFiles, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_connection.HEAD_S", 0.5)
    files, context = tls
    with exposed(files=files) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"\x16\x03\x01")  # the first bytes of a record of a handshake, RFC 8446, 5.1
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/healthz", timeout=5, context=context) as answer:
            assert answer.status == 200
        assert client.recv(1) == b""
