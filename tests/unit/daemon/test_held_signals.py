"""A signal's handler ends a start beside the main thread, and waits for nothing that the main thread holds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence

import pytest

from kill_switch.daemon.held_signals import SignalHolder


class Blocked(SignalHolder):
    """Its latches cannot be left before the main thread goes on, as behind an import that it is in."""

    def __init__(self, imports: threading.Lock) -> None:
        super().__init__()
        self._imports = imports

    def _write_latch(self, text: str, accounts: Sequence[str] | None) -> None:
        with self._imports:
            self.lines.append(text)


def test_a_term_behind_a_kill_signal_ends_the_process_only_when_the_latch_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imports, ended = threading.Lock(), threading.Event()
    left: list[str] = []
    held = Blocked(imports)

    def end(code: int) -> None:
        left.extend(held.lines)
        ended.set()

    monkeypatch.setattr(os, "_exit", end)
    with imports:
        held._on_signal(signal.SIGUSR1, None)
        held._on_signal(signal.SIGTERM, None)  # returns: an exception here would meet whatever is being imported
    assert ended.wait(5.0)
    assert left == ["operator: SIGUSR1"]
