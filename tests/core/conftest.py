"""Give tests of the core their playbooks, and directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.at_once import AtOnce
from tests.core.playbook import Theatre, theatre


@pytest.fixture
def play() -> Iterator[Theatre]:
    with theatre() as opened:
        yield opened


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have journals do everything in the thread that asks for it."""
    monkeypatch.setattr("kill_switch.journal.journal.JobThread", AtOnce)
    monkeypatch.setattr("kill_switch.journal.writer.JournalWriter._pause", lambda writer: None)


@pytest.fixture
def dirs(tmp_path: Path) -> tuple[Path, Path]:
    """Make a state directory and a runtime directory."""
    state, run = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    run.mkdir()
    return state, run
