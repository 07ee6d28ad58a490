"""What a datagram to the intake may say."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.intake.datagrams import MAX_BYTES, sign
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.intake.socket import PASS_DATAGRAMS, DatagramSocket
from kill_switch.triggers.intake.sockets import LOCAL
from tests.harness.trigger_fixtures import (
    IntakeFixture,
    virtual_time,
    watching,
)
from tests.harness.virtual_time import running

KEY = b"a key of the intake"


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
def test_a_datagram_not_signed_with_the_key_is_ignored(ears: IntakeFixture, datagram: bytes) -> None:
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

    async def test_the_intake_receives_datagrams_and_counts_ignored_ones(self, tmp_path: Path) -> None:
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
            def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
                return b"garbage", [], 0, None

        with Flood(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
            assert ears.intake._take(LOCAL, DatagramSocket(flood)) is False
        assert ears.intake.ignored == PASS_DATAGRAMS

    async def test_closing_while_it_runs_is_no_fault(self, tmp_path: Path) -> None:
        ears = IntakeFixture(tmp_path / "intake.sock")
        ears.intake.open()
        sock = ears.intake.sockets.inlets[LOCAL].sock
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
            intake.configure({"quoter-alive": watch.trigger}, {})
            watch.trigger.on_beat()
            await watch.until(2.9)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                peer.sendto(b"quoter-alive", str(tmp_path / "intake.sock"))
            await watch.until(5.9)
            assert watch.reasons == []
            await watch.until(10)
            assert watch.fired_s == [6.0]
        intake.close()
