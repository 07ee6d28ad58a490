"""Heartbeat, attention and intake in virtual time; the flag in real time, on a real directory."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import anyio.lowlevel
import pytest
from asyncinotify import Inotify

from kill_switch import clock
from kill_switch.core.domain import Instant, Reason
from kill_switch.system import offload
from kill_switch.triggers.base import TriggerState, Unseen
from kill_switch.triggers.flag import directory, trigger
from kill_switch.triggers.flag.directory import Directory
from kill_switch.triggers.flag.trigger import FlagTrigger
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.intake.intake import LOCAL, MAX_BYTES, Intake, sign
from kill_switch.triggers.intake.socket import PASS_DATAGRAMS, DatagramSocket
from kill_switch.triggers.link import LinkTrigger
from kill_switch.triggers.stall_clock import StallClock
from tests.virtual_time import VirtualTimeLoop, running

VIRTUAL = pytest.param(("asyncio", {"loop_factory": VirtualTimeLoop}), id="virtual-time")
REAL = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]

virtual_time = pytest.mark.parametrize("anyio_backend", [VIRTUAL])
real_time = pytest.mark.parametrize("anyio_backend", REAL)
Start = Literal["first-beat", "boot"]


# ── heartbeats ────────────────────────────────────────────────────────────────────────────────────────────────────


class Watch:
    """A heartbeat of 3 s on account `a`, with its attention, at work."""

    def __init__(self, start: Start, allow_bye: bool, drain: Callable[[], None]) -> None:
        self.loop = running()
        self.began_ns = self.loop.now().mono_ns
        self.reasons: list[Reason] = []
        self.attention = StallClock(self.loop.now)
        self.trigger = HeartbeatTrigger(
            "quoter-alive",
            ("a",),
            3.0,
            start,
            allow_bye,
            clock=self.loop.now,
            attention=self.attention,
            drain=drain,
        )

    @property
    def s(self) -> float:
        return (self.loop.now().mono_ns - self.began_ns) / 1e9

    @property
    def fired_s(self) -> list[float]:
        """When it has fired, in seconds since the start, to the millisecond."""
        return [round((reason.observed_at.mono_ns - self.began_ns) / 1e9, 3) for reason in self.reasons]

    @property
    def state(self) -> TriggerState:
        return self.trigger.state()[0]

    async def until(self, seconds: float) -> None:
        await anyio.sleep(self.began_ns / 1e9 + seconds - self.loop.time())


@asynccontextmanager
async def watching(
    start: Start = "first-beat", *, allow_bye: bool = False, drain: Callable[[], None] = lambda: None
) -> AsyncIterator[Watch]:
    watch = Watch(start, allow_bye, drain)
    async with anyio.create_task_group() as group:
        group.start_soon(watch.attention.run)
        group.start_soon(watch.trigger.run, watch.reasons.append)
        await anyio.lowlevel.checkpoint()
        yield watch
        group.cancel_scope.cancel()


@virtual_time
class TestHeartbeat:
    pytestmark = pytest.mark.anyio

    async def test_it_fires_when_the_time_out_is_over_and_not_before(self) -> None:
        async with watching() as watch:
            await watch.until(1)
            watch.trigger.on_beat()
            await watch.until(3.999)
            assert watch.reasons == []
            await watch.until(4.001)
            assert watch.fired_s == [4.0]

    async def test_its_reason_names_its_accounts_only_and_shows_what_it_saw(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(5)
            (reason,) = watch.reasons
            assert (reason.trigger, reason.accounts) == ("quoter-alive", ("a",))
            assert reason.text == "no heartbeat for 3.000 s (allowed: 3 s)"
            assert reason.evidence == {"silent_ms": 3000, "timeout_ms": 3000, "deaf_ms": 0, "beats_before": True}

    async def test_it_fires_once(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(600)
            assert watch.fired_s == [3.0]
            assert watch.state is TriggerState.TRIPPED

    async def test_ten_minutes_of_beats_trip_nothing(self) -> None:
        async with watching() as watch:
            for second in range(0, 600, 2):
                await watch.until(second)
                watch.trigger.on_beat()
            assert watch.reasons == []
            assert watch.state is TriggerState.OK

    async def test_without_a_first_beat_it_waits_for_ever(self) -> None:
        async with watching("first-beat") as watch:
            watch.trigger.start_boot_timer()
            await watch.until(600)
            assert watch.reasons == []
            assert watch.trigger.state() == (TriggerState.WAITING, "waits for a beat; last beat: never")

    async def test_from_boot_on_it_wants_a_beat_without_having_seen_one(self) -> None:
        async with watching("boot") as watch:
            await watch.until(10)
            watch.trigger.start_boot_timer()
            await watch.until(60)
            assert watch.fired_s == [13.0]
            assert watch.reasons[0].evidence["beats_before"] is False
            assert watch.trigger.state()[1] == "heartbeat lost; last beat: never"

    async def test_booting_again_is_no_beat(self) -> None:
        async with watching("boot") as watch:
            watch.trigger.start_boot_timer()
            await watch.until(2)
            watch.trigger.start_boot_timer()
            await watch.until(60)
            assert watch.fired_s == [3.0]

    async def test_before_boot_nothing_is_missed(self) -> None:
        async with watching("boot") as watch:
            await watch.until(60)
            assert watch.state is TriggerState.WAITING
            assert watch.reasons == []

    async def test_a_goodbye_ends_the_watch_until_the_next_beat(self) -> None:
        async with watching(allow_bye=True) as watch:
            watch.trigger.on_beat()
            await watch.until(2)
            assert watch.trigger.on_bye() is True
            await watch.until(60)
            assert (watch.reasons, watch.state) == ([], TriggerState.WAITING)
            watch.trigger.on_beat()
            await watch.until(70)
            assert watch.fired_s == [63.0]

    async def test_a_goodbye_that_is_not_allowed_is_ignored(self) -> None:
        async with watching(allow_bye=False) as watch:
            watch.trigger.on_beat()
            assert watch.trigger.on_bye() is False
            await watch.until(60)
            assert watch.fired_s == [3.0]

    async def test_a_goodbye_after_the_loss_hides_nothing(self) -> None:
        async with watching(allow_bye=True) as watch:
            watch.trigger.on_beat()
            await watch.until(4)
            assert watch.trigger.on_bye() is True
            assert watch.state is TriggerState.TRIPPED

    async def test_a_beat_after_the_loss_does_not_untrip(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(10)
            watch.trigger.on_beat()
            await watch.until(12)
            assert watch.trigger.state() == (TriggerState.TRIPPED, "heartbeat lost; last beat: 2.0 s ago")
            assert watch.fired_s == [3.0]

    async def test_waiting_datagrams_are_read_before_silence_is_believed(self) -> None:
        waiting: list[str] = []

        def drain() -> None:
            if waiting:
                waiting.pop()
                watch.trigger.on_beat()

        async with watching(drain=drain) as watch:
            watch.trigger.on_beat()
            waiting.append("beat")
            await watch.until(5.999)
            assert watch.reasons == []
            await watch.until(10)
            assert watch.fired_s == [6.0]

    async def test_a_goodbye_that_is_waiting_is_read_before_silence_is_believed(self) -> None:
        def goodbye() -> None:
            watch.trigger.on_bye()

        async with watching(allow_bye=True, drain=goodbye) as watch:
            watch.trigger.on_beat()
            await watch.until(60)
            assert watch.reasons == []

    # a stalled process

    @pytest.mark.parametrize("stall_s", [0.5, 2.9, 3.1, 60.0, 3600.0])
    async def test_a_stall_of_our_own_trips_nothing(self, stall_s: float) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1)
            watch.loop.stall(stall_s)
            await anyio.sleep(0.05)
            assert watch.reasons == []
            watch.trigger.on_beat()
            await watch.until(1 + stall_s + 3.0)
            assert watch.reasons == []

    @pytest.mark.parametrize("stall_s", [0.5, 2.9, 3.1, 60.0])
    async def test_a_stall_delays_a_true_loss_by_itself_and_no_more(self, stall_s: float) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1)
            watch.loop.stall(stall_s)
            await watch.until(stall_s + 10)
            (fired_s,) = watch.fired_s
            assert 3.0 < fired_s <= 3.0 + stall_s
            assert watch.reasons[0].evidence["deaf_ms"] == pytest.approx(stall_s * 1000, abs=200)

    async def test_two_stalls_add_up(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            for second in (1, 7):
                await watch.until(second)
                watch.loop.stall(5)
            await watch.until(30)
            assert 12.5 <= watch.fired_s[0] <= 13.0

    async def test_a_stall_before_a_beat_is_no_credit_after_it(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1)
            watch.loop.stall(100)
            watch.trigger.on_beat()
            await watch.until(120)
            assert watch.fired_s == [104.0]

    async def test_jitter_is_no_stall(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            for n in range(25):
                await watch.until(0.1 * n)
                watch.loop.stall(0.05)
            await watch.until(10)
            assert watch.fired_s[0] == pytest.approx(3.0, abs=0.01)

    @pytest.mark.parametrize("jump_s", [-86_400, -1, 1, 86_400])
    async def test_a_wall_clock_that_jumps_neither_trips_nor_hides(self, jump_s: float) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1)
            watch.loop.jump_wall(jump_s)
            await watch.until(2.999)
            assert watch.reasons == []
            await watch.until(10)
            assert watch.fired_s == [3.0]

    # the re-arm

    async def test_a_lost_first_beat_trigger_does_not_block_the_re_arm_and_waits_again(self) -> None:
        async with watching("first-beat") as watch:
            watch.trigger.on_beat()
            await watch.until(10)
            assert watch.trigger.rearm_blocker() is None
            watch.trigger.on_rearmed()
            assert watch.state is TriggerState.WAITING
            await watch.until(60)
            watch.trigger.on_beat()
            await watch.until(70)
            assert watch.fired_s == [3.0, 63.0]

    async def test_a_lost_boot_trigger_blocks_the_re_arm_until_beats_have_come_back(self) -> None:
        async with watching("boot") as watch:
            watch.trigger.start_boot_timer()
            await watch.until(10)
            assert watch.trigger.rearm_blocker() == "no heartbeat yet; it would fire again"
            watch.trigger.on_beat()
            assert watch.trigger.rearm_blocker() is None
            await watch.until(13)
            assert watch.trigger.rearm_blocker() == "no heartbeat yet; it would fire again"
            watch.trigger.on_beat()
            watch.trigger.on_rearmed()
            assert watch.state is TriggerState.OK
            await watch.until(60)
            assert watch.fired_s == [3.0, 16.0]

    async def test_a_trigger_that_is_owed_a_beat_and_has_heard_none_cannot_see_whether_it_would_fire(self) -> None:
        async with watching("boot") as watch:
            assert isinstance(watch.trigger.rearm_blocker(), Unseen)
            watch.trigger.start_boot_timer()
            await watch.until(1)
            assert watch.trigger.rearm_blocker() == (
                "cannot see whether it beats: last beat: never, allowed: 3 s; look there, then use --force"
            )
            watch.trigger.on_beat()
            assert watch.trigger.rearm_blocker() is None

    async def test_a_trigger_whose_beats_may_be_lost_cannot_see_whether_it_would_fire(self) -> None:
        async with watching() as watch:
            assert watch.trigger.rearm_blocker() is None  # it waits for a first beat
            watch.trigger.on_beat()
            await watch.until(2)
            watch.trigger.on_possible_beat("more datagrams come by UDP than can be read", "UDP")
            assert watch.trigger.rearm_blocker() is None
            await watch.until(3.1)
            assert watch.state is TriggerState.BLIND
            assert isinstance(watch.trigger.rearm_blocker(), Unseen)

    @pytest.mark.parametrize("start", ["first-beat", "boot"])
    async def test_a_re_arm_for_another_reason_does_not_end_the_watch(self, start: Start) -> None:
        async with watching(start) as watch:
            watch.trigger.start_boot_timer()
            watch.trigger.on_beat()
            await watch.until(2)
            watch.trigger.on_rearmed()
            assert watch.state is TriggerState.OK
            await watch.until(60)
            assert watch.fired_s == [3.0]

    async def test_its_condition_tells_a_person_how_long_ago_the_last_beat_was(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1.5)
            assert watch.trigger.state() == (TriggerState.OK, "last beat: 1.5 s ago, allowed: 3 s")


@virtual_time
class TestLink:
    pytestmark = pytest.mark.anyio

    async def test_a_re_arm_for_another_reason_does_not_end_the_watch_over_an_account_that_is_down(self) -> None:
        loop = running()
        up = {"a": True}
        reasons: list[Reason] = []
        attention = StallClock(loop.now)
        link = LinkTrigger("lost", ("a",), 10.0, clock=loop.now, attention=attention, reachable=lambda: up)
        async with anyio.create_task_group() as group:
            group.start_soon(attention.run)
            group.start_soon(link.run, reasons.append)
            await anyio.sleep(1)
            up["a"] = False
            await anyio.sleep(5)
            link.on_rearmed()
            await anyio.sleep(5.5)
            assert [reason.accounts for reason in reasons] == [("a",)]
            group.cancel_scope.cancel()


@virtual_time
class TestAttention:
    pytestmark = pytest.mark.anyio

    async def test_a_loop_that_turns_is_never_deaf(self) -> None:
        loop = running()
        attention = StallClock(loop.now)
        with anyio.move_on_after(60):
            await attention.run()
        assert attention.stalled_ns(loop.now().mono_ns) == 0

    async def test_a_stall_that_is_only_just_over_counts_and_counts_once(self) -> None:
        loop = running()
        attention = StallClock(loop.now)
        loop.stall(5)
        now_ns = loop.now().mono_ns
        assert attention.stalled_ns(now_ns) == 4_900_000_000
        attention.tick(now_ns)
        assert attention.stalled_ns(now_ns) == 4_900_000_000

    async def test_a_tick_that_is_a_little_late_is_jitter(self) -> None:
        loop = running()
        attention = StallClock(loop.now)
        loop.stall(0.2)
        assert attention.stalled_ns(loop.now().mono_ns) == 0


# ── the intake ────────────────────────────────────────────────────────────────────────────────────────────────────

KEY = b"a key of the intake"


class IntakeFixture:
    """An intake with two heartbeats behind it; nothing runs."""

    def __init__(self, path: Path, key: bytes | None = None, udp: tuple[str, int] | None = None) -> None:
        self.wall_ms = 1_700_000_000_000
        now = self._now
        self.intake = Intake(path, udp, key, clock=now)
        attention = StallClock(now)
        self.alive, self.strict = (
            HeartbeatTrigger(name, ("a",), 3.0, "first-beat", bye, clock=now, attention=attention, drain=lambda: None)
            for name, bye in (("quoter-alive", True), ("strict", False))
        )
        self.intake.heartbeats = {"quoter-alive": self.alive, "strict": self.strict}

    def _now(self) -> Instant:
        return Instant(1_000_000_000_000, self.wall_ms * 1_000_000)

    def hear(self, datagram: bytes, key: bytes | None = None) -> bool:
        return self.intake.on_datagram(datagram, key)


@pytest.fixture
def ears(tmp_path: Path) -> IntakeFixture:
    return IntakeFixture(tmp_path / "intake.sock")


@pytest.mark.parametrize(
    "datagram",
    [
        *(b"quoter-alive", b" quoter-alive\n", b"quoter-alive\x00", b"quoter-alive\r\n\x00\x00"),
        *(b'{"beat":"quoter-alive"}', b'  {"beat": "quoter-alive"}\n', b'{"beat":\n"quoter-alive"\n}\x00'),
        b'{"beat":"quoter-alive","from":"quoter-1"}',
    ],
)
def test_a_beat_is_a_bare_name_or_an_object(ears: IntakeFixture, datagram: bytes) -> None:
    assert ears.hear(datagram) is True
    assert ears.intake.beats == 1
    assert ears.alive.state()[0] is TriggerState.OK
    assert ears.strict.state()[0] is TriggerState.WAITING


def test_a_goodbye_is_an_object_and_taken_where_it_is_allowed(ears: IntakeFixture) -> None:
    ears.hear(b"quoter-alive")
    ears.hear(b"strict")
    assert ears.hear(b'{"bye":"quoter-alive"}') is True
    assert ears.hear(b'{"bye":"strict"}') is False
    assert ears.alive.state()[0] is TriggerState.WAITING
    assert ears.strict.state()[0] is TriggerState.OK


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\n",
        b"quoter-alive2",
        b"quoter-alive quoter-alive",
        b"QUOTER-ALIVE",
        b"quoter\x00alive",
        b"\xff\xfe\x00",
        b"{",
        b"{}",
        b"[]",
        b'["quoter-alive"]',
        b'"quoter-alive"',
        b'{"beat":"nobody"}',
        b'{"bye":"nobody"}',
        b'{"beat":7}',
        b'{"beat":null}',
        b'{"beat":["quoter-alive"]}',
        b'{"beat":"quoter-alive","bye":"quoter-alive"}',
        b'{"beat":"quoter-alive","at":1}',
        b'{"beat":"quoter-alive","from":7}',
        b'{"beat":"quoter-alive","from":"\\u001b[31m"}',
        b'{"beat":"quoter-alive","from":"a\\u202eb"}',
        b'{"beat":"quoter-alive","from":"%s"}' % (b"x" * 200),
        b'{"from":"quoter-alive"}',
        b"nobody\n" * 40 + b"quoter-alive",
        b'{"BEAT":"quoter-alive"}',
        b'{"beat":"quoter-alive"} trailing',
        b'{"a":' * 800 + b"1" + b"}" * 800,
        b"quoter-alive".rjust(MAX_BYTES + 1),
        sign(b"quoter-alive", KEY, 1_700_000_000_000),
    ],
)
def test_anything_else_is_ignored(ears: IntakeFixture, datagram: bytes) -> None:
    assert ears.hear(datagram) is False
    assert ears.intake.beats == 0
    assert ears.alive.state()[0] is TriggerState.WAITING


def test_a_datagram_of_the_largest_size_is_taken(ears: IntakeFixture) -> None:
    assert ears.hear(b"quoter-alive".rjust(MAX_BYTES)) is True


@pytest.mark.parametrize("apart", [b"\n", b"\x00", b"\r\n", b"\n\x00"])
def test_each_line_of_a_datagram_is_taken(ears: IntakeFixture, apart: bytes) -> None:
    assert ears.hear(apart.join((b"quoter-alive", b'{"beat":"strict"}', b"quoter-alive"))) is True
    assert (ears.intake.beats, ears.intake.ignored) == (3, 0)


def test_of_a_beat_and_a_goodbye_in_one_datagram_the_last_one_counts(ears: IntakeFixture) -> None:
    assert ears.hear(b'quoter-alive\n{"bye":"quoter-alive"}') is True
    assert ears.alive.state()[0] is TriggerState.WAITING
    assert ears.hear(b'{"bye":"quoter-alive"}\nquoter-alive') is True
    assert ears.alive.state()[0] is TriggerState.OK


def test_a_line_that_is_none_keeps_no_other_from_being_taken(ears: IntakeFixture) -> None:
    assert ears.hear(b"nobody\nquoter-alive\n{") is False
    assert ears.intake.beats == 1
    assert ears.intake.why_ignored == {"no such trigger": 1, "not understood": 1}


def test_a_signed_datagram_is_taken_once(ears: IntakeFixture) -> None:
    for datagram in (
        sign(b"quoter-alive", KEY, ears.wall_ms),
        sign(b'{"beat":"quoter-alive"}', KEY, ears.wall_ms + 1),
        sign(b'{"beat":"quoter-alive","from":"quoter-2"}', KEY, ears.wall_ms),
    ):
        assert ears.hear(datagram, KEY) is True
        assert ears.hear(datagram, KEY) is False
    assert ears.intake.beats == 3


def test_a_signature_has_one_spelling_only(ears: IntakeFixture) -> None:
    stamp, signature, payload = sign(b"quoter-alive", KEY, ears.wall_ms).split(b" ")
    assert ears.hear(b" ".join((stamp, signature.upper(), payload)), KEY) is False
    assert ears.hear(b" ".join((b"0" + stamp, signature, payload)), KEY) is False
    assert ears.hear(b" ".join((stamp, signature, payload + b" ")), KEY) is False
    assert ears.hear(b" ".join((stamp, signature, payload)), KEY) is True


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"quoter-alive",
        b"1700000000000 quoter-alive",
        b"1700000000000  quoter-alive",
        b"now " + b"0" * 64 + b" quoter-alive",
        b"-1 " + b"0" * 64 + b" quoter-alive",
        b"1" * 4000 + b" " + b"0" * 64 + b" x",
        "\N{ARABIC-INDIC DIGIT ONE} ".encode() + b"0" * 64 + b" quoter-alive",
        sign(b"quoter-alive", b"another key", 1_700_000_000_000),
    ],
)
def test_what_is_not_signed_with_the_key_is_ignored(ears: IntakeFixture, datagram: bytes) -> None:
    assert ears.hear(datagram, KEY) is False


def test_its_socket_is_for_owner_and_group_and_goes_with_it(tmp_path: Path) -> None:
    ears = IntakeFixture(tmp_path / "intake.sock")
    ears.intake.open()
    assert (tmp_path / "intake.sock").stat().st_mode & 0o777 == 0o660
    ears.intake.close()
    assert not (tmp_path / "intake.sock").exists()


@virtual_time
class TestIntake:
    pytestmark = pytest.mark.anyio

    async def test_it_hears_what_is_sent_and_counts_what_it_ignores(self, tmp_path: Path) -> None:
        ears = IntakeFixture(tmp_path / "intake.sock")
        ears.intake.open()
        async with anyio.create_task_group() as group:
            group.start_soon(ears.intake.run)
            await anyio.sleep(0.01)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                peer.sendto(b"quoter-alive", str(tmp_path / "intake.sock"))
                peer.sendto(b"garbage", str(tmp_path / "intake.sock"))
                peer.sendto(b"x" * (MAX_BYTES + 100), str(tmp_path / "intake.sock"))
            await anyio.sleep(0.01)
            assert (ears.intake.beats, ears.intake.ignored) == (1, 2)
            group.cancel_scope.cancel()
        ears.intake.close()

    async def test_udp_wants_the_signature_and_the_local_socket_does_not(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            address: tuple[str, int] = free.getsockname()
        ears = IntakeFixture(tmp_path / "intake.sock", KEY, address)
        ears.intake.open(gid=os.getgid())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"quoter-alive", address)
            peer.sendto(sign(b"quoter-alive", KEY, ears.wall_ms), address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"strict", str(tmp_path / "intake.sock"))
        ears.intake.drain()
        assert (ears.intake.beats, ears.intake.ignored) == (2, 1)
        ears.intake.close()

    async def test_udp_over_ipv6_is_an_address_like_any_other(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as free:
            try:
                free.bind(("::1", 0))
            except OSError:
                pytest.skip("no IPv6 on this machine")
            port: int = free.getsockname()[1]
        ears = IntakeFixture(tmp_path / "intake.sock", None, ("::1", port))
        ears.intake.open()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"quoter-alive", ("::1", port))
        ears.intake.drain()
        assert ears.intake.beats == 1
        ears.intake.close()

    async def test_a_socket_of_a_process_that_died_is_replaced(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(tmp_path / "intake.sock"))
        ears = IntakeFixture(tmp_path / "intake.sock")
        ears.intake.open()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"garbage", str(tmp_path / "intake.sock"))
        ears.intake.drain()
        assert ears.intake.ignored == 1
        ears.intake.close()

    async def test_a_flood_gives_the_loop_its_turn(self, tmp_path: Path) -> None:
        ears = IntakeFixture(tmp_path / "intake.sock")

        class Flood(socket.socket):
            def recv(self, bufsize: int, flags: int = 0) -> bytes:
                return b"garbage"

        with Flood(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
            assert ears.intake._take(LOCAL, DatagramSocket(flood)) is False
        assert ears.intake.ignored == PASS_DATAGRAMS

    async def test_closing_while_it_runs_is_no_fault(self, tmp_path: Path) -> None:
        ears = IntakeFixture(tmp_path / "intake.sock")
        ears.intake.open()
        sock = ears.intake._inlets[LOCAL].sock
        async with anyio.create_task_group() as group:
            group.start_soon(ears.intake.run)
            await anyio.sleep(0.01)
            running().remove_reader(sock.fileno())
            sock.close()
            group.cancel_scope.cancel()
        ears.intake.close()

    async def test_a_beat_that_waits_in_the_socket_is_heard_before_the_kill(self, tmp_path: Path) -> None:
        intake = Intake(tmp_path / "intake.sock", None, None, clock=running().now)
        intake.open()
        async with watching(drain=intake.drain) as watch:
            intake.heartbeats = {"quoter-alive": watch.trigger}
            watch.trigger.on_beat()
            await watch.until(2.9)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                peer.sendto(b"quoter-alive", str(tmp_path / "intake.sock"))
            await watch.until(5.9)
            assert watch.reasons == []
            await watch.until(10)
            assert watch.fired_s == [6.0]
        intake.close()


# ── the flag ──────────────────────────────────────────────────────────────────────────────────────────────────────


class FlagFixture:
    """A flag that is being watched; `next` waits for its next reason, within a bound."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trigger = FlagTrigger("panic", ("a", "b"), path, clock=clock.now, amend=self._amend)
        self.reasons: list[Reason] = []
        self.texts: list[tuple[Reason, str]] = []  # added to reasons
        self._news = anyio.Event()

    def report(self, reason: Reason) -> None:
        self.reasons.append(reason)
        self._news.set()

    def _amend(self, reason: Reason, text: str, evidence: Mapping[str, object]) -> None:
        if text:
            self.texts.append((reason, text))
            self._news.set()

    async def next(self, number: int) -> Reason:
        with anyio.fail_after(5):
            while len(self.reasons) < number:
                self._news = anyio.Event()
                await self._news.wait()
        assert len(self.reasons) == number
        return self.reasons[-1]

    async def text(self, text: str) -> None:
        """Wait, within a bound, until this text is added to the one reason that there is."""
        with anyio.fail_after(5):
            while not (self.texts and self.texts[-1][1] == text):
                self._news = anyio.Event()
                await self._news.wait()
        (reason,) = self.reasons
        assert self.texts[-1][0].observed_at == reason.observed_at

    async def until(self, state: TriggerState, words: str = "") -> str:
        """Wait, within a bound, until its condition is this."""
        with anyio.fail_after(5):
            while True:
                is_now, detail = self.trigger.state()
                if is_now is state and words in detail:
                    return detail
                await anyio.sleep(0.01)


@asynccontextmanager
async def pressing(path: Path) -> AsyncIterator[FlagFixture]:
    button = FlagFixture(path)
    async with anyio.create_task_group() as group:
        group.start_soon(button.trigger.run, button.report)
        with anyio.fail_after(5):
            while not button.trigger._looked or button.trigger._watching.busy:  # noqa: ASYNC110 - threads
                await anyio.sleep(0.001)
        await anyio.sleep(5 * trigger.LOOK_APART_S)  # what they have found has been taken
        yield button
        group.cancel_scope.cancel()


class Spot:
    """A place in the file system, and what people and programs do there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def beside(self, name: str) -> Spot:
        return Spot(self.path.parent / name)

    @property
    def directory(self) -> Spot:
        return Spot(self.path.parent)

    def touch(self) -> None:
        self.path.touch()

    def write(self, content: str | bytes) -> None:
        self.path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def move_to(self, target: Spot) -> None:
        self.path.rename(target.path)

    def link_to(self, target: str) -> None:
        self.path.symlink_to(target)

    def remove(self) -> None:
        self.path.unlink()

    def make_directory(self) -> None:
        self.path.mkdir()

    def remove_directory(self) -> None:
        self.path.rmdir()


@pytest.fixture
def kill_file(tmp_path: Path) -> Spot:
    directory = tmp_path / "run"
    directory.mkdir()
    return Spot(directory / "KILL")


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to inotify alone."""
    monkeypatch.setattr(trigger, "POLL_S", 3600.0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a text for the reason's own for as long as a busy machine may need to read it."""
    monkeypatch.setattr(trigger, "TEXT_WITHIN_S", 5.0)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every text that comes after its file for a late one."""
    monkeypatch.setattr(trigger, "TEXT_WITHIN_S", 0.0)


@pytest.fixture
def quick_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "POLL_S", 0.02)


@real_time
@pytest.mark.usefixtures("no_poll")
class TestFlag:
    pytestmark = pytest.mark.anyio

    async def test_it_fires_on_touch(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            assert button.trigger.state() == (TriggerState.OK, f"{kill_file} is not there")
            before = clock.now()
            kill_file.touch()
            reason = await button.next(1)
            assert (reason.trigger, reason.accounts) == ("panic", ("a", "b"))
            assert reason.text == f"{kill_file} is there"
            assert reason.evidence == {"path": str(kill_file)}
            assert before.mono_ns <= reason.observed_at.mono_ns <= clock.now().mono_ns
            assert button.trigger.state() == (TriggerState.TRIPPED, f"{kill_file} is there")

    async def test_it_fires_on_a_file_that_is_there_at_the_start(self, kill_file: Spot) -> None:
        kill_file.write("left over\n")
        async with pressing(kill_file.path) as button:
            assert (await button.next(1)).text == "left over"

    async def test_a_file_that_came_just_before_the_watch_is_found_when_the_watch_begins(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked, real_watch, real_look = threading.Event(), directory.watch, trigger.look

        def look(path: Path) -> trigger.FlagState:
            flag_state = real_look(path)
            looked.set()
            return flag_state

        def watch(directory: Path) -> tuple[Inotify, Directory | None]:
            looked.wait(5)
            kill_file.touch()
            return real_watch(directory)

        monkeypatch.setattr(trigger, "look", look)
        monkeypatch.setattr(trigger, "watch", watch)
        async with pressing(kill_file.path) as button:
            await button.next(1)

    async def test_a_rename_into_place_is_one_reason_to_which_its_text_is_added(
        self, kill_file: Spot, patient: None
    ) -> None:
        kill_file.beside("other").write("by rename")
        async with pressing(kill_file.path) as button:
            kill_file.beside("other").move_to(kill_file)
            await button.next(1)
            await button.text("by rename")
            assert button.trigger.state()[1] == f"{kill_file} is there: by rename"

    async def test_a_file_that_is_made_and_written_is_one_reason_to_which_its_text_is_added(
        self, kill_file: Spot, patient: None
    ) -> None:
        async with pressing(kill_file.path) as button:
            with kill_file.path.open("w") as file:
                await button.next(1)
                file.write("the quoter ")
                file.flush()
                await anyio.sleep(0.02)
                file.write("has gone mad")
            await button.text("the quoter has gone mad")

    async def test_a_kill_does_not_wait_for_a_text_that_cannot_be_had(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch, patient: None
    ) -> None:
        over, real = threading.Event(), trigger.look
        kill_file.beside("other").write("by rename")
        async with pressing(kill_file.path) as button:
            monkeypatch.setattr(trigger, "look", lambda path: over.wait(10) and real(path))
            kill_file.beside("other").move_to(kill_file)
            assert (await button.next(1)).text == f"{kill_file} is there"
            assert button.texts == []
            over.set()
            await button.text("by rename")

    async def test_a_rename_that_is_undone_at_once_fires_all_the_same(self, kill_file: Spot) -> None:
        kill_file.beside("other").touch()
        async with pressing(kill_file.path) as button:
            kill_file.beside("other").move_to(kill_file)
            kill_file.remove()
            assert (await button.next(1)).text == f"{kill_file} came and went"

    async def test_a_file_that_is_found_while_nobody_takes_reasons_is_a_reason_once_somebody_does(
        self, kill_file: Spot
    ) -> None:
        button = FlagFixture(kill_file.path)
        kill_file.touch()
        await button.trigger.look()
        assert "is still there" in str(button.trigger.rearm_blocker())
        async with anyio.create_task_group() as group:
            group.start_soon(button.trigger.run, button.report)
            assert (await button.next(1)).text == f"{kill_file} is there"
            group.cancel_scope.cancel()

    async def test_other_files_are_nobodys_business(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.beside("KILL2").touch()
            kill_file.beside("KIL").touch()
            kill_file.touch()
            await button.next(1)

    async def test_a_file_that_has_gone_before_anybody_looked_was_touched_all_the_same(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            kill_file.remove()
            assert (await button.next(1)).text == f"{kill_file} came and went"
            assert button.trigger.rearm_blocker() is None
            kill_file.touch()
            await button.next(2)

    async def test_a_touch_that_the_poll_has_reported_is_not_news_when_its_events_come(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            button.trigger._on_state(trigger.FlagState(True))  # the poll, a moment before inotify
            kill_file.remove()
            await button.until(TriggerState.OK, f"{kill_file} is not there")
            await anyio.sleep(0.05)
            assert [reason.text for reason in button.reasons] == [f"{kill_file} is there"]

    async def test_other_files_events_touch_no_file_system_that_may_hang(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with pressing(kill_file.path):
            looked: list[object] = []
            monkeypatch.setattr(trigger, "look", looked.append)
            (kill_file.path.parent / "other").touch()
            await anyio.sleep(0.05)
            assert looked == []

    async def test_a_look_that_an_event_has_overtaken_undoes_nothing(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looking, go_on, real = threading.Event(), threading.Event(), trigger.look

        def look(path: Path) -> trigger.FlagState:
            flag_state = real(path)
            looking.set()
            go_on.wait(5)
            return flag_state

        async with pressing(kill_file.path) as button:
            monkeypatch.setattr(trigger, "look", look)
            button.trigger._wake()
            while not looking.is_set():  # noqa: ASYNC110 - a thread
                await anyio.sleep(0.001)
            kill_file.touch()
            await button.next(1)
            go_on.set()
            await anyio.sleep(0.05)
            assert button.trigger.state()[0] is TriggerState.TRIPPED
            assert len(button.reasons) == 1

    async def test_a_text_that_is_written_later_is_a_second_reason(self, kill_file: Spot, late: None) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            await button.next(1)
            kill_file.write("the quoter has gone mad")
            assert (await button.next(2)).text == "the quoter has gone mad"

    async def test_the_same_text_again_is_no_news(self, kill_file: Spot, late: None) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.write("once")
            await button.until(TriggerState.TRIPPED, "once")
            told = len(button.reasons)
            kill_file.write("once")
            kill_file.write("twice")
            await button.next(told + 1)

    async def test_a_file_that_goes_and_comes_back_fires_again(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            await button.next(1)
            kill_file.remove()
            await button.until(TriggerState.OK)
            kill_file.touch()
            await button.next(2)

    async def test_only_the_head_of_a_text_is_taken_and_what_is_not_printable_is_not(
        self, kill_file: Spot, patient: None
    ) -> None:
        kill_file.beside("other").write(b"\x1b[31mred\nsecond line\xff" + b"x" * 5000)
        async with pressing(kill_file.path) as button:
            kill_file.beside("other").move_to(kill_file)
            await button.until(TriggerState.TRIPPED, "red")
            ((_, text),) = button.texts
            assert text.startswith("\N{REPLACEMENT CHARACTER}[31mred second line\N{REPLACEMENT CHARACTER}xxx")
            assert len(text) == trigger.TEXT_BYTES

    async def test_a_link_fires_without_being_followed(self, kill_file: Spot, tmp_path: Path) -> None:
        Spot(tmp_path / "secret").write("not to be told")
        async with pressing(kill_file.path) as button:
            kill_file.link_to(str(tmp_path / "secret"))
            assert (await button.next(1)).text == f"{kill_file} is there"
            kill_file.remove()
            await button.until(TriggerState.OK)
            kill_file.link_to("dangling")
            await button.next(2)

    async def test_a_pipe_fires_and_does_not_block(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            os.mkfifo(str(kill_file))
            assert (await button.next(1)).text == f"{kill_file} is there"

    async def test_a_directory_fires(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.make_directory()
            assert (await button.next(1)).text == f"{kill_file} is there"

    async def test_a_socket_fires(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
                listener.bind(str(kill_file))
                assert (await button.next(1)).text == f"{kill_file} is there"

    async def test_a_file_that_cannot_be_read_fires_all_the_same(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch, patient: None
    ) -> None:
        def fails(fd: int, size: int) -> bytes:
            raise OSError(5, "Input/output error")

        kill_file.beside("other").write("cannot be read")
        async with pressing(kill_file.path) as button:
            with monkeypatch.context() as patch:
                patch.setattr("kill_switch.triggers.flag.trigger.os.read", fails)
                assert trigger.look(kill_file.beside("other").path) == trigger.FlagState(True)
            kill_file.beside("other").move_to(kill_file)
            await button.text("cannot be read")

    async def test_a_re_arm_is_blocked_while_it_is_there(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            assert button.trigger.rearm_blocker() is None
            kill_file.touch()
            await button.next(1)
            assert button.trigger.rearm_blocker() == f"{kill_file} is still there: remove it"
            kill_file.remove()
            await button.trigger.look()
            assert button.trigger.rearm_blocker() is None

    async def test_a_touch_right_before_a_re_arm_is_asked_for_is_not_swallowed(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            await button.trigger.look()
            assert button.trigger.rearm_blocker() is not None
            await button.next(1)

    async def test_a_touch_right_after_a_re_arm_fires_though_the_removal_went_unseen(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.touch()
            await button.next(1)
            kill_file.remove()
            await button.trigger.look()
            assert button.trigger.rearm_blocker() is None
            button.trigger.on_rearmed()
            kill_file.touch()
            await button.next(2)


@real_time
@pytest.mark.usefixtures("quick_poll")
class TestFlagAndItsDirectory:
    pytestmark = pytest.mark.anyio

    async def test_a_directory_that_is_not_there_is_blindness_until_it_comes(self, tmp_path: Path) -> None:
        spot = Spot(tmp_path / "none" / "KILL")
        async with pressing(spot.path) as button:
            assert await button.until(TriggerState.BLIND) == f"{spot}: no directory {spot.directory}"
            assert button.trigger.rearm_blocker() is None
            spot.directory.make_directory()
            await button.until(TriggerState.OK)
            spot.touch()
            await button.next(1)

    async def test_a_directory_that_goes_and_comes_back_is_watched_again(self, kill_file: Spot) -> None:
        async with pressing(kill_file.path) as button:
            kill_file.directory.remove_directory()
            await button.until(TriggerState.BLIND)
            kill_file.directory.make_directory()
            assert await button.until(TriggerState.OK) == f"{kill_file} is not there"
            kill_file.touch()
            await button.next(1)

    async def test_a_directory_that_comes_back_with_the_file_in_it_fires(self, kill_file: Spot, tmp_path: Path) -> None:
        async with pressing(kill_file.path) as button:
            away = Spot(tmp_path / "away" / "KILL")
            kill_file.directory.move_to(away.directory)
            await button.until(TriggerState.BLIND)
            away.write("meanwhile")
            away.directory.move_to(kill_file.directory)
            assert (await button.next(1)).text == "meanwhile"

    async def test_without_inotify_it_is_polled_and_says_so(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none_left() -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(directory, "Inotify", none_left)
        async with pressing(kill_file.path) as button:
            detail = await button.until(TriggerState.OK, "polled only")
            assert detail == f"{kill_file} is not there (polled only: Too many open files)"
            kill_file.touch()
            await button.next(1)

    async def test_a_file_system_that_hangs_is_blindness_stops_nothing_and_inotify_still_tells(
        self, kill_file: Spot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        over, real = threading.Event(), trigger.look

        def look(path: Path) -> trigger.FlagState:
            over.wait(10)
            return real(path)

        monkeypatch.setattr(offload, "HANGS_AFTER_S", 0.1)
        monkeypatch.setattr(trigger, "LOOK_WITHIN_S", 0.1)
        async with pressing(kill_file.path) as button:
            monkeypatch.setattr(trigger, "look", look)
            detail = await button.until(TriggerState.BLIND)
            assert detail == f"{kill_file}: its file system does not answer"
            await button.trigger.look()
            assert button.trigger.rearm_blocker() is None
            kill_file.touch()
            await button.next(1)
            assert "nobody can tell that it is gone" in str(button.trigger.rearm_blocker())
            kill_file.remove()
            over.set()
            await button.until(TriggerState.OK)

    async def test_a_path_that_cannot_be_looked_at_is_blindness_and_blocks_until_it_is_seen_or_forced(
        self, kill_file: Spot
    ) -> None:
        kill_file.touch()
        async with pressing(kill_file.path) as button:
            await button.next(1)
            kill_file.directory.move_to(kill_file.directory.beside("away"))
            kill_file.directory.link_to("run")  # a link to itself: ELOOP
            await button.trigger.look()
            assert str(button.trigger.rearm_blocker()).startswith(f"{kill_file} was there, and ")
            assert not isinstance(button.trigger.rearm_blocker(), Unseen)  # no force helps against what was seen
            button.trigger.on_rearmed()
            why = button.trigger.rearm_blocker()
            assert isinstance(why, Unseen)
            assert why.startswith(f"cannot see whether {kill_file} is there: Too many levels of symbolic links")
            assert await button.until(TriggerState.BLIND) == f"{kill_file}: Too many levels of symbolic links"
