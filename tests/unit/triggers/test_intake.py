"""Floods, losses and signed beats: what the intake cannot take is neither a beat nor silence. Real sockets."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from kill_switch.core.domain import Reason
from kill_switch.system.unix_sockets import bind_unix_socket
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.intake import socket as inlet
from kill_switch.triggers.intake.datagrams import sign
from kill_switch.triggers.intake.intake import MAX_IGNORED, Intake
from kill_switch.triggers.intake.socket import DatagramSocket
from kill_switch.triggers.intake.sockets import LOCAL, UDP
from kill_switch.triggers.stall_clock import StallClock
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio

KEY = b"a key of the intake"
OK, WAITING, BLIND, TRIPPED = TriggerState.OK, TriggerState.WAITING, TriggerState.BLIND, TriggerState.TRIPPED
JUNK = b"xxx"
RMEM_MAX = int(Path("/proc/sys/net/core/rmem_max").read_text())


class Bench:
    """An intake at work on both ways in, and a heartbeat of 3 s; `reasons` is what the heartbeat has fired for."""

    def __init__(self, directory: Path, key: bytes | None) -> None:
        self.loop = running()
        self.began_s = self.loop.time()
        self.path = directory / "intake.sock"
        self.port = free_port()
        self.intake = Intake(self.path, ("127.0.0.1", self.port), key, clock=self.loop.now)
        self.intake.open()
        self.attention = StallClock(self.loop.now)
        self.reasons: list[Reason] = []
        self.trigger = HeartbeatTrigger(
            "bot", ("a",), 3.0, "first-beat", True,
            clock=self.loop.now, attention=self.attention, drain=self.intake.drain,
        )  # fmt: skip
        self.intake.configure({"bot": self.trigger}, {})
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    async def until(self, second: float) -> None:
        await anyio.sleep(max(0.0, self.began_s + second - self.loop.time()))

    @property
    def state(self) -> TriggerState:
        return self.trigger.state()[0]

    @property
    def fired_s(self) -> list[float]:
        return [round(reason.observed_at.mono_ns / 1e9 - self.began_s, 1) for reason in self.reasons]

    def beat(self, datagram: bytes = b"bot") -> None:
        self.udp.sendto(datagram, ("127.0.0.1", self.port))
        select.select([self.intake.sockets.inlets[UDP].sock], [], [], 5.0)  # a busy kernel hands it over a moment later

    def flood(self, last: bytes = JUNK) -> None:
        """Send more than the kernel has room for, before the daemon's turn comes; what comes behind is lost."""
        for _ in range(300):
            self.udp.sendto(JUNK, ("127.0.0.1", self.port))
        self.beat(last)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def working(directory: Path, key: bytes | None = None) -> AsyncIterator[Bench]:
    bench = Bench(directory, key)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(bench.attention.run)
            group.start_soon(bench.intake.run)
            group.start_soon(bench.trigger.run, bench.reasons.append)
            await anyio.lowlevel.checkpoint()
            yield bench
            group.cancel_scope.cancel()
    finally:
        bench.intake.close()
        bench.udp.close()
        bench.local.close()


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inlet, "ROOM_BYTES", 65536)


# ── the kernel drops ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_flood_that_hides_the_beats_trips_nothing_and_is_blindness(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.beat()
        for tick in range(1, 111):
            await bench.until(tick / 10)
            bench.flood(b"bot" if tick % 10 == 0 else JUNK)
            if tick == 25:
                await anyio.sleep(0.01)
                assert bench.state is OK
        assert bench.intake.beats == 1  # the others were lost
        assert (bench.reasons, bench.state) == ([], BLIND)
        assert "more datagrams come by UDP than can be read" in bench.trigger.state()[1]
        assert bench.intake.lost > 1000
        assert list(bench.intake.troubles()) == ["beats may be lost: more datagrams come by UDP than can be read"]
        await bench.until(11.9)
        bench.beat()
        await bench.until(12)
        assert (bench.reasons, bench.state) == ([], OK)
        await bench.until(20)
        assert bench.fired_s == [14.9]


async def test_a_bot_that_died_during_a_flood_is_found_once_it_is_over(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.beat()
        for tick in range(1, 101):
            await bench.until(tick / 10)
            bench.flood()
        await bench.until(12.9)
        assert (bench.reasons, bench.state) == ([], BLIND)
        await bench.until(20)
        assert bench.fired_s == [13.0]


async def test_a_flood_at_the_moments_of_the_beats_alone_trips_nothing_and_is_blindness(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.beat()
        for second in range(1, 20):
            await bench.until(second)
            bench.flood(b"bot")
        assert bench.intake.beats == 1
        assert (bench.reasons, bench.state) == ([], BLIND)


async def test_a_loss_that_no_later_datagram_tells_of_is_noticed(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.beat()
        await bench.until(2.9)
        bench.flood(b"bot")  # nothing comes any more
        await bench.until(5.8)
        assert bench.reasons == []
        await bench.until(7)
        assert bench.fired_s == [5.9]


async def test_a_flood_over_udp_does_not_spare_a_bot_whose_beats_come_to_the_unix_socket(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.local.sendto(b"bot", str(bench.path))
        for tick in range(1, 60):
            await bench.until(tick / 10)
            bench.flood()
        assert bench.fired_s == [3.0]


async def test_the_kernel_is_asked_for_room_for_thousands_of_datagrams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inlet, "ROOM_BYTES", 4 << 20)
    async with working(tmp_path) as bench:
        room = bench.intake.sockets.inlets[UDP].sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert room >= 2 * min(RMEM_MAX, 4 << 20)


# ── the Unix socket's queue ───────────────────────────────────────────────────────────────────────────────────────


def fill(bench: Bench, datagram: bytes) -> None:
    """Send to the Unix socket until the kernel refuses more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            bench.local.sendto(datagram, str(bench.path))


async def test_a_unix_socket_that_is_found_full_of_junk_is_no_silence(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.local.sendto(b"bot", str(bench.path))
        for tick in range(1, 60):
            await bench.until(tick / 10)
            fill(bench, b"junk")
            if tick % 10 == 0:
                with pytest.raises(BlockingIOError):  # what happens to a bot that does not wait
                    bench.local.sendto(b"bot", str(bench.path))
        assert (bench.reasons, bench.state) == ([], BLIND)
        await bench.until(12)
        assert bench.fired_s == [8.9]


async def test_a_unix_socket_that_is_full_of_beats_hides_no_loss(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        other = HeartbeatTrigger(
            "other", ("a",), 3.0, "first-beat", True, clock=bench.loop.now, attention=bench.attention,
            drain=bench.intake.drain,
        )  # fmt: skip
        bench.intake.configure({"bot": bench.trigger, "other": other}, {})
        bench.local.sendto(b"bot", str(bench.path))
        for tick in range(1, 60):
            await bench.until(tick / 10)
            fill(bench, b"other")
        assert bench.fired_s == [3.0]


async def test_a_full_queue_that_takes_several_turns_to_read_is_full_of_junk_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inlet, "PASS_DATAGRAMS", 5)  # systemd has the kernel hold 512: more than one turn reads
    async with working(tmp_path) as bench:
        await bench.until(0.1)
        fill(bench, b"junk")
        await bench.until(0.2)
        assert bench.intake.lost


@pytest.mark.parametrize(("refills", "lost"), [(3, 0), (5, 1)])
async def test_a_unix_socket_that_is_filled_as_fast_as_it_is_read_may_lose_beats_whatever_it_is_filled_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refills: int, lost: int
) -> None:
    monkeypatch.setattr(inlet, "_queue_length", lambda: 10)
    async with working(tmp_path) as bench:
        receiving = DatagramSocket(bind_unix_socket(tmp_path / "other.sock", socket.SOCK_DGRAM, None))
        taken = 0

        def take(datagram: bytes, sender: object) -> bool:
            nonlocal taken
            taken += 1
            if taken < refills * 10:  # a runaway program beats again as soon as there is room
                bench.local.sendto(b"beat", str(tmp_path / "other.sock"))
            return True

        bench.local.sendto(b"beat", str(tmp_path / "other.sock"))
        assert receiving.read(take, 100, lambda: 0) == (True, lost)
        receiving.close()


async def test_a_queue_that_cannot_be_read_to_its_end_makes_no_silence_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inlet, "PASS_DATAGRAMS", 5)
    async with working(tmp_path) as bench:
        bench.beat()
        await bench.until(2.95)
        for _ in range(9):
            bench.beat(b"junk")
        bench.beat()
        bench.loop.stall(0.1)  # the time-out is over before any of these is read
        await anyio.lowlevel.checkpoint()
        await bench.until(3.1)
        assert bench.reasons == []
        assert bench.intake.beats == 2


async def test_a_way_in_that_cannot_be_read_to_its_end_leaves_no_doubt_about_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inlet, "PASS_DATAGRAMS", 5)
    async with working(tmp_path) as bench:
        bench.local.sendto(b"bot", str(bench.path))
        await bench.until(2)
        for _ in range(20):
            bench.beat(b"junk")
        for _ in range(2):  # two heartbeats want to know at the same moment
            bench.intake.drain()
        await bench.until(5)
        assert bench.fired_s == [3.0]


# ── signed beats ──────────────────────────────────────────────────────────────────────────────────────────────────


def signed(bench: Bench, offset_s: float = 0.0, payload: bytes = b'{"beat":"bot","from":"x"}') -> bytes:
    return sign(payload, KEY, bench.loop.now().wall_ms + round(offset_s * 1000))


@pytest.mark.parametrize("step_s", [-3600, 3600, 86_400])
async def test_our_clock_that_is_set_trips_no_sender(tmp_path: Path, step_s: int) -> None:
    async with working(tmp_path, KEY) as bench:
        for second in range(60):
            await bench.until(second)
            if second == 10:
                bench.loop.jump_wall(step_s)
            bench.beat(signed(bench, -step_s if second >= 10 else 0))
        await bench.until(59.1)
        assert (bench.reasons, bench.state, bench.intake.beats) == ([], OK, 60)


async def test_a_sender_whose_clock_is_set_forward_trips_nothing(tmp_path: Path) -> None:
    async with working(tmp_path, KEY) as bench:
        for second in range(60):
            await bench.until(second)
            bench.beat(signed(bench, 7200 if second >= 10 else 0))
        await bench.until(59.1)
        assert (bench.reasons, bench.state, bench.intake.beats) == ([], OK, 60)


async def test_a_sender_whose_clock_is_set_back_is_not_heard_which_is_no_silence_and_not_ok(tmp_path: Path) -> None:
    async with working(tmp_path, KEY) as bench:
        for second in range(60):
            await bench.until(second)
            bench.beat(signed(bench, -30 if second >= 10 else 0))
            await bench.until(second + 0.5)
            if 14 <= second < 39:
                assert bench.state is BLIND
                assert "signed beats from x have a wrong time: set the sender's clock" in bench.trigger.state()[1]
        assert (bench.reasons, bench.state) == ([], OK)
        assert (bench.intake.wrong_time, bench.intake.ignored) == (30, 0)
        await bench.until(70)
        assert bench.fired_s == [62.0]


async def test_captured_beats_that_are_sent_again_do_not_delay_the_loss(tmp_path: Path) -> None:
    async with working(tmp_path, KEY) as bench:
        captured = []
        for second in range(60):
            await bench.until(second)
            captured.append(signed(bench))
            bench.beat(captured[-1])
        for tick in range(100):
            await bench.until(59 + tick / 10)
            for datagram in captured:
                bench.beat(datagram)
        assert bench.fired_s == [62.0]
        assert bench.intake.beats == 60


async def test_captured_beats_of_long_ago_never_make_a_dead_bot_look_alive(tmp_path: Path) -> None:
    async with working(tmp_path, KEY) as bench:
        captured = [signed(bench, -number) for number in range(2000, 0, -1)]  # more than are remembered
        bench.beat(signed(bench))
        states = set()
        for tick in range(200):
            await bench.until(tick / 10)
            bench.beat(captured[tick])
            if tick > 31:
                states.add(bench.state)
        assert states == {BLIND}
        await bench.until(30)
        assert bench.fired_s == [22.9]


async def test_a_captured_goodbye_ends_no_watch(tmp_path: Path) -> None:
    async with working(tmp_path, KEY) as bench:
        bench.beat(signed(bench))
        await bench.until(1)
        goodbye = signed(bench, payload=b'{"bye":"bot","from":"x"}')
        bench.beat(goodbye)
        await bench.until(2)
        assert bench.state is WAITING
        bench.beat(signed(bench))
        await bench.until(2.5)
        bench.beat(goodbye)
        await bench.until(10)
        assert bench.fired_s == [5.0]


async def test_a_captured_datagram_means_no_other_sender_and_no_other_trigger(tmp_path: Path) -> None:
    async with working(tmp_path, KEY) as bench:
        captured = signed(bench)
        bench.beat(captured)
        await bench.until(0.1)
        for forged in (captured.replace(b'"x"', b'"y"'), captured.replace(b',"from":"x"', b"")):
            bench.beat(forged)
        await bench.until(0.2)
        assert bench.intake.why_ignored == {"not signed with the key": 2}


async def test_any_sender_keeps_a_heartbeat_alive_and_each_has_its_own_stamps(tmp_path: Path) -> None:
    async with working(tmp_path, KEY) as bench:
        bench.beat(signed(bench, 250))
        for second in range(10):
            await bench.until(second)
            bench.beat(signed(bench, 0, b'{"beat":"bot","from":"y"}'))
            await bench.until(second + 0.5)
            assert bench.state is OK
        assert (bench.intake.beats, bench.intake.wrong_time) == (11, 0)


async def test_a_new_sender_with_a_wrong_clock_is_waited_for_and_announced(tmp_path: Path) -> None:
    async with working(tmp_path, KEY) as bench:
        bench.beat(signed(bench, 600))
        await bench.until(1)
        state, detail = bench.trigger.state()
        assert (state, bench.intake.wrong_time) == (WAITING, 1)
        assert "signed beats from x have a wrong time" in detail


# ── a way in is missing ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def squatter() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("127.0.0.1", 0))
        yield squatter


async def test_a_port_of_another_process_is_blindness_until_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squatter: socket.socket
) -> None:
    monkeypatch.setattr(f"{__name__}.free_port", lambda: squatter.getsockname()[1])
    async with working(tmp_path) as bench:
        await bench.until(1)
        assert bench.state is BLIND
        assert list(bench.intake.troubles()) == [f"udp 127.0.0.1:{bench.port}: Address already in use"]
        assert bench.trigger.state()[1].startswith("no beat can be received: udp 127.0.0.1:")
        squatter.close()
        await bench.until(3)
        assert (bench.state, list(bench.intake.troubles())) == (WAITING, [])
        bench.beat()
        await bench.until(3.5)
        assert bench.state is OK


async def test_a_port_of_another_process_hides_no_loss_of_a_bot_on_the_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squatter: socket.socket
) -> None:
    monkeypatch.setattr(f"{__name__}.free_port", lambda: squatter.getsockname()[1])
    async with working(tmp_path) as bench:
        bench.local.sendto(b"bot", str(bench.path))
        await bench.until(1)
        assert bench.state is OK
        await bench.until(5)
        assert bench.fired_s == [3.0]


async def test_a_unix_socket_that_cannot_be_made_is_shown_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "intake.sock").mkdir()
    async with working(tmp_path) as bench:
        await bench.until(1)
        assert bench.state is BLIND
        assert LOCAL not in bench.intake.sockets.inlets
        assert [line for line in bench.intake.troubles() if str(tmp_path) in line and "None" not in line]
        (tmp_path / "intake.sock").rmdir()
        for _ in range(100):
            await anyio.sleep(0.3)
            if not bench.intake.trouble:
                break
            time.sleep(0.02)  # noqa: ASYNC251 - a thread has to make it, in real time
        bench.local.sendto(b"bot", str(bench.path))
        await anyio.sleep(0.1)
        assert bench.state is OK


async def test_an_ignored_message_is_kept_with_its_name_its_sender_as_the_kernel_says_and_its_reason(
    tmp_path: Path,
) -> None:
    async with working(tmp_path) as bench:
        bench.local.sendto(b"bott", str(bench.path))
        bench.local.sendto(b"bott", str(bench.path))
        bench.beat(b"bot")
        await bench.until(0.2)
        *_, ignored = bench.intake.ignored_messages()
        whose = f"process {os.getpid()} of user {os.getuid()}"
        assert ignored[:4] == ("bott", whose, "no such trigger", 2)
        port = bench.udp.getsockname()[1]
        bench.beat(b'{"no":"message"}')
        await bench.until(0.4)
        newest, *_ = bench.intake.ignored_messages()
        assert newest[1].endswith(f":{port}")
        for number in range(50):
            bench.intake.on_datagram(b"x%d" % number, None)
        assert len(bench.intake.ignored_messages()) == MAX_IGNORED
