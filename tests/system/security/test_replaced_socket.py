"""A program that has taken the control socket's place, as the daemon's own user could have it: commands come back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kill_switch.client import control_socket
from kill_switch.errors import Unreachable

Server = Callable[[Callable[[socket.socket], None]], Path]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    """Serve one connection by what a test does with it."""
    path, over = tmp_path / "control.sock", list[threading.Thread]()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve(script: Callable[[socket.socket], None]) -> Path:
        def run() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):  # the command may end first
                script(peer)

        over.append(threading.Thread(target=run))
        over[0].start()
        return path

    yield serve
    over[0].join(10)
    listener.close()


def test_an_answer_that_dribbles_in_is_awaited_no_longer_than_one_that_does_not_come(served: Server) -> None:
    def dribbles(peer: socket.socket) -> None:
        for _ in range(200):
            peer.sendall(b" ")
            time.sleep(0.05)

    path = served(dribbles)
    with pytest.raises(Unreachable, match=r"does not answer on .* \(waited 0.3 s\)"):
        control_socket.send_request(path, {"cmd": "status"}, timeout_s=0.3)


def test_an_answer_without_an_end_is_none(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "MAX_ANSWER", 1 << 20)

    def floods(peer: socket.socket) -> None:
        for _ in range(10_000):
            peer.sendall(b" " * 65536)

    path = served(floods)
    with pytest.raises(Unreachable, match="its answer does not end"):
        control_socket.send_request(path, {"cmd": "status"}, timeout_s=30.0)
