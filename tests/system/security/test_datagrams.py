"""What a sender of datagrams can do: nothing without the key, and nothing but what a datagram says."""

from __future__ import annotations

import hmac
import os
import socket
from pathlib import Path

import pytest

from kill_switch.clock import now
from kill_switch.triggers.intake import datagrams
from kill_switch.triggers.intake.intake import Intake

KEY = b"0123456789abcdef"


def test_a_signature_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    signed = datagrams.sign(b"alive", KEY, 1_700_000_000_000)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert datagrams.verify(signed, KEY) is None  # nothing else decides
    assert [len(one) for one, _ in compared] == [64]


def test_descriptors_that_come_with_a_datagram_do_not_stay_open(tmp_path: Path) -> None:
    intake = Intake(tmp_path / "intake.sock", None, None, clock=now)
    intake.open()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.connect(str(tmp_path / "intake.sock"))
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(peer, [b"alive"], [0] * 100)
        intake.drain()
        assert intake.ignored == 1
        assert len(os.listdir("/proc/self/fd")) == before
    intake.close()
