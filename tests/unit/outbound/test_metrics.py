"""The figures are true, named as Prometheus has it, bounded in number, and cheap to collect."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, fields
from math import nan
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kill_switch.core.domain import LaneState
from kill_switch.journal.journal import Journal
from kill_switch.journal.segments import ChainHead
from kill_switch.outbound.metric_table import BY_NAME, METRICS
from kill_switch.outbound.metrics import Histogram, MetricsCollector, OutboundCounters
from kill_switch.system.host_port import HostPort
from kill_switch.system.process_metrics import ProcessMetricsReader
from kill_switch.transports.certificates import CertificateExpiry
from kill_switch.transports.lane import ConnectionCounts
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.supervisor import TriggerSupervisor
from kill_switch.worker.client import Exposure, WorkerClient
from kill_switch.worker.metrics_server import MetricsServer
from tests.harness.dispatch_doubles import Floor
from tests.harness.virtual_time import running
from tests.harness.worker_double import now

LABELS = {"account", "venue", "phase", "route", "trigger", "kind", "state", "figure", "version", "python"}
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Trigger:
    kind: str = "pnl"
    watched: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: {"loss": (1200.0, 5000.0), "equity": (98_800.5, nan)}
    )

    def measurements(self) -> Mapping[str, tuple[float, float]]:
        return self.watched


class Watched:
    """The part of `TriggerSupervisor` that is measured."""

    def __init__(self) -> None:
        self.stall_clock = self
        self.triggers = {"daily": Trigger(), "panic": Trigger("flag", {})}
        self.deaf_s = 0.25

    def states(self) -> dict[str, tuple[TriggerState, str]]:
        return {"daily": (TriggerState.OK, "fine"), "panic": (TriggerState.BLIND, "cannot see")}

    def stalled_ns(self, mono_ns: int) -> int:
        return int(self.deaf_s * 1e9)


class Record:
    """The part of the journal that is measured."""

    trouble = ""

    head = ChainHead(1234, "0123456789abcdef" * 4)

    def backlog(self, mono_ns: int) -> tuple[int, int]:
        return 3, 40_000_000


@dataclass
class Stage:
    floor: Floor = field(default_factory=lambda: Floor(("mm1", "rx1")))
    why: str = ""

    def __post_init__(self) -> None:
        self.supervisor = Watched()
        self.record = Record()
        self.meter = MetricsCollector(
            self.floor.dispatcher,
            cast(Journal, self.record),
            cast(TriggerSupervisor, self.supervisor),
            lambda: OutboundCounters(notification_failures_total=4),
            lambda: self.why,
            self.floor.time.now,
        )

    def values(self) -> Values:
        """Return the figures as Prometheus reads them."""
        with exposed(self.meter.collect) as port:
            return read(scrape(port))

    def value(self, name: str, **labels: str) -> float:
        return self.values()[f"kill_switch_{name}", frozenset(labels.items())]


@contextmanager
def exposed(figures: Any, *, silent: bool = False) -> Iterator[int]:
    """Serve the figures on a free port, answered at once; return the port."""
    port = free_port()
    told: list[str] = []
    up = threading.Event()

    def write(line: dict[str, Any]) -> None:
        if "trouble" in line:
            told.append(line["trouble"])
            up.set()
        elif not silent:
            metrics_server.on_figures(line["asks"], figures())

    metrics_server = MetricsServer("127.0.0.1", port, write)
    loop = asyncio.new_event_loop()
    serving = loop.create_task(metrics_server.serve())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([serving])), daemon=True)
    thread.start()
    assert up.wait(5) and told == [""]
    yield port
    loop.call_soon_threadsafe(serving.cancel)
    thread.join()
    loop.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def read(text: str) -> Values:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def test_an_armed_daemon_in_figures() -> None:
    stage = Stage()
    values = stage.values()

    def of(name: str, **labels: str) -> float:
        return values[f"kill_switch_{name}", frozenset(labels.items())]

    assert of("responding") == of("able_to_fire") == 1
    assert (of("tripped"), of("kills_total")) == (0, 0)
    assert (of("phase", phase="ARMED"), of("phase", phase="RESIDUE")) == (1, 0)
    assert of("account_info", account="mm1", venue="stub") == 1
    assert of("account_phase", account="rx1", phase="ARMED") == 1
    assert of("account_ready", account="mm1") == of("lane_up", account="mm1", route="ws") == 1
    assert of("trigger_value", trigger="daily", figure="loss") == 1200
    assert of("trigger_limit", trigger="daily", figure="loss") == 5000
    assert of("trigger_value", trigger="daily", figure="equity") == 98_800.5
    assert ("kill_switch_trigger_limit", frozenset({("trigger", "daily"), ("figure", "equity")})) not in values
    assert of("trigger_state", trigger="panic", kind="flag", state="blind") == 1
    assert of("trigger_state", trigger="panic", kind="flag", state="ok") == 0
    assert (of("journal_unwritten_records"), of("journal_sync_seconds"), of("journal_trouble")) == (3, 0.04, 0)
    assert (of("journal_head_record"), of("journal_head_hash")) == (1234, 0x0123456789AB)
    assert of("stalled_seconds_total") == 0.25
    assert of("notification_failures_total") == 4


def test_process_metrics_have_the_standard_names() -> None:
    stage = Stage()
    values = {name: value for (name, labels), value in stage.values().items() if not labels}
    assert 0 < values["process_cpu_seconds_total"] <= time.process_time()
    assert 10_000_000 < values["process_resident_memory_bytes"] < values["process_virtual_memory_bytes"]
    assert 3 <= values["process_open_fds"] < values["process_max_fds"]
    assert values["process_threads"] >= 1
    again = {name: value for (name, labels), value in stage.values().items() if not labels}
    assert again["process_start_time_seconds"] == values["process_start_time_seconds"]


def test_the_process_started_before_its_clock_was_asked_and_not_long_ago() -> None:
    figures = {vital.name: vital.value for vital in ProcessMetricsReader(time.time()).read()}
    assert time.time() - 3600 < figures["start_time_seconds"] < time.time()


def test_descriptors_are_counted_without_the_one_that_counts_them() -> None:
    def count() -> float:
        return next(vital.value for vital in ProcessMetricsReader(0.0).read() if vital.name == "open_fds")

    before = count()
    with socket.socket():
        assert count() == before + 1


def test_a_process_that_is_not_dumpable_exports_its_own_metrics() -> None:
    """As the daemon runs: no root, and nobody can dump it."""
    look = "import os; os.setgid(65534); os.setuid(65534); " if os.geteuid() == 0 else ""
    code = (
        "import kill_switch.system.hardening, kill_switch.system.process_metrics; "
        f"{look}assert kill_switch.system.hardening.forbid_dumps(); "
        "print(*[figure.name for figure in kill_switch.system.process_metrics.ProcessMetricsReader(0.0).read()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert {"resident_memory_bytes", "open_fds", "threads"} <= set(done.stdout.split()), done.stderr


def test_without_proc_there_is_still_the_time_it_took(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kill_switch.system.process_metrics._SELF", tmp_path)
    found = {vital.name: vital.value for vital in ProcessMetricsReader(7.0).read()}
    assert found == {"cpu_seconds_total": pytest.approx(time.process_time(), abs=0.5), "start_time_seconds": 7.0}


def test_a_kill_in_figures() -> None:
    stage = Stage()
    stage.floor.fire("mm1")
    for us in (900, 3_000, 40_000_000):
        stage.meter.on_measured("sent", us)
    stage.floor.lanes["rx1"].state = LaneState.DOWN
    stage.floor.lanes["mm1"].connections = ConnectionCounts(1, 2)
    stage.floor.session("mm1").status.round_trips_us["ws"] = 1500  # type: ignore[index]
    stage.floor.lanes["mm1"].certificate = CertificateExpiry(1_800_000_000.0)
    stage.why = "not ready: rx1"
    stage.record.trouble = "no space"
    values = stage.values()

    def of(name: str, **labels: str) -> float:
        return values[f"kill_switch_{name}", frozenset(labels.items())]

    assert (of("tripped"), of("kills_total"), of("able_to_fire"), of("journal_trouble")) == (1, 1, 0, 1)
    assert (of("phase", phase="STRIKING"), of("account_phase", account="mm1", phase="STRIKING")) == (1, 1)
    assert of("account_phase", account="rx1", phase="STRIKING") == 0
    assert (of("account_ready", account="rx1"), of("lane_up", account="rx1", route="http")) == (0, 0)
    assert (of("ws_connections", account="mm1"), of("ws_connections_wanted", account="mm1")) == (1, 2)
    assert of("lane_round_trip_seconds", account="mm1", route="ws") == 0.0015
    assert of("certificate_expiry_timestamp_seconds", account="mm1", route="http") == 1_800_000_000
    assert [of("kill_sent_seconds_bucket", le=le) for le in ("0.0005", "0.001", "0.005", "30.0", "+Inf")] == [
        *(0, 1, 2, 2, 3),
    ]
    assert of("kill_sent_seconds_count") == 3
    assert of("kill_sent_seconds_sum") == pytest.approx(40.0039)
    assert of("kill_clear_seconds_count") == 0


def test_each_metric_of_the_table_is_served_as_the_table_describes_it_and_no_other() -> None:
    with exposed(Stage().meter.collect) as port:
        served = {family.name: family for family in text_string_to_metric_families(scrape(port))}
    for metric in METRICS:
        family = served.pop(metric.name.removesuffix("_total"))
        assert (family.documentation, family.type) == (metric.help, "gauge" if metric.kind == "state" else metric.kind)
        assert {label for sample in family.samples for label in sample.labels} <= {*metric.labels, "le"}
    assert served == {}


def test_names_and_labels_of_metrics_are_as_prometheus_wants_them_and_few() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert metric.help.endswith("."), metric.name
        assert metric.name.startswith(("kill_switch_", "process_")), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert set(metric.labels) <= LABELS
        assert bool(metric.states) == (metric.kind == "state"), metric.name


def test_each_counter_of_the_outbound_services_is_in_the_table_of_metrics() -> None:
    assert {f"kill_switch_{counter.name}" for counter in fields(OutboundCounters)} <= BY_NAME.keys()


def test_a_duration_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram((0.001, 0.01))
    for seconds in (0.0, 0.001, 0.0011, 0.01, 0.02):
        histogram.observe(seconds)
    buckets, sum_s = histogram.sample()
    assert buckets == [("0.001", 2), ("0.01", 4), ("+Inf", 5)]
    assert sum_s == pytest.approx(0.0321)


@pytest.mark.anyio
async def test_the_event_loops_lag_is_measured() -> None:
    stage = Stage()
    meter = stage.meter
    meter._clock = now
    async with anyio.create_task_group() as group:
        group.start_soon(meter.run)
        await anyio.sleep(0.15)
        running().stall(0.4)
        await anyio.sleep(0.2)
        group.cancel_scope.cancel()
    buckets, sum_s = meter._lag.sample()
    assert dict(buckets)["+Inf"] >= 2
    assert sum_s == pytest.approx(0.35, abs=0.06)


def test_collecting_for_many_accounts_costs_the_event_loop_little() -> None:
    stage = Stage(Floor(tuple(f"a{n}" for n in range(64))))
    best_s = 1.0
    for _ in range(20):
        began_s = time.perf_counter()
        stage.meter.collect()
        best_s = min(best_s, time.perf_counter() - began_s)
    assert best_s < 0.005  # some 0.4 ms on an idle machine


# ── serving them ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_daemon_that_does_not_answer_is_reported_as_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_server.ANSWER_S", 0.1)
    with exposed(None, silent=True) as port:
        values = read(scrape(port))
    assert values["kill_switch_responding", frozenset()] == 0
    assert ("kill_switch_tripped", frozenset()) not in values


def test_scrapes_in_quick_succession_ask_the_daemon_once() -> None:
    asked = []

    def figures() -> list[Any]:
        asked.append(1)
        return []

    with exposed(figures) as port:
        for _ in range(5):
            scrape(port)
    assert len(asked) <= 2


def test_a_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_server.HEAD_S", 0.2)
    with exposed(list) as port, socket.create_connection(("127.0.0.1", port)):
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
    monkeypatch.setattr("kill_switch.worker.metrics_server.HEAD_S", 3600.0)
    with exposed(list) as port, crowd(port, count, lambda client: client.sendall(letter)):
        for _ in range(3):
            began_s = time.monotonic()
            scrape(port)
            assert time.monotonic() - began_s < 4  # some milliseconds on an idle machine


def test_a_client_has_a_bounded_time_for_its_whole_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_server.HEAD_S", 0.3)
    with exposed(list) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.05)
        for _ in range(100):
            client.sendall(b"G")
            with suppress(TimeoutError):
                assert client.recv(1) == b""
                break
        else:
            raise AssertionError("it was not let go")


def test_clients_that_do_not_read_delay_no_other_client_and_are_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.worker.metrics_server.SEND_S", 0.5)
    much: dict[str, Any] = {
        "type": "gauge",
        "name": "kill_switch_x",
        "help": "x" * 20_000_000,
        "labels": [],
        "samples": [([], 7)],
    }
    figures: list[Any] = [much]
    with exposed(lambda: figures) as port, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
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
    with exposed(None, silent=True) as port, ThreadPoolExecutor(20) as pool:
        began_s = time.monotonic()
        texts = list(pool.map(lambda _: scrape(port), range(20)))
        assert time.monotonic() - began_s < 5
    assert all("kill_switch_responding 0.0" in text for text in texts)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"200"),
        (b"HEAD /metrics HTTP/1.0\r\nAccept: \xff\r\n:\r\nx\r\n\r\n", b"200"),
        (b"DELETE / HTTP/1.1\r\n\r\n", b"405"),
        (b"\xff\0\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000, b""),
    ],
)
def test_whatever_a_client_says_it_gets_an_answer_or_is_let_go(asked: bytes, status: bytes) -> None:
    with exposed(list) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        with suppress(ConnectionError):
            client.sendall(asked)
            answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
            assert answer[9:12] == status
            assert not answer.partition(b"\r\n\r\n")[2] or not asked.startswith(b"HEAD")
        assert "kill_switch_responding 1.0" in scrape(port)


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
    with exposed(list) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(f"GET /metrics HTTP/1.1\r\n{field}\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.split()[1] == str(status).encode()
    assert (b"kill_switch" in answer) == (status == 200)


def test_only_reading_is_allowed() -> None:
    with exposed(list) as port:
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
async def serving(port: int) -> AsyncIterator[list[str]]:
    """Have a real process beside serve one figure."""
    told = list[str]()
    figure: dict[str, Any] = {
        "type": "gauge",
        "name": "kill_switch_x",
        "help": "X.",
        "labels": [],
        "samples": [([], 7)],
    }
    beside = WorkerClient(exposure=Exposure(HostPort("127.0.0.1", port), lambda: [figure], told.append))
    beside.start_when_needed()
    async with anyio.create_task_group() as group:
        group.start_soon(beside.run)
        yield told
        group.cancel_scope.cancel()
