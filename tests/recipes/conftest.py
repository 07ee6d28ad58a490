"""The intake's socket in a directory of the test's own; the library finds it by its variable."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kill_switch.client.places import INTAKE_SOCKET, VARIABLE


@pytest.fixture
def intake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / INTAKE_SOCKET))
        sock.setblocking(False)
        yield sock
