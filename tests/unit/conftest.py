"""Give unit tests their playbooks, directories and control harness; those that wait run in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.control_harness import ControlHarness, Opened
from tests.harness.core_playbook import Theatre, theatre
from tests.harness.immediate_jobs import AtOnce
from tests.harness.virtual_time import VirtualTimeLoop


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


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Open an office for the accounts of these names; it is closed when the test is over."""
    offices: list[ControlHarness] = []

    def make(*accounts: str) -> ControlHarness:
        offices.append(ControlHarness(tmp_path, *accounts))
        return offices[-1]

    yield make
    for office in offices:
        office.journal.close()
