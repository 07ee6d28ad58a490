"""Give tests of the core their playbooks, and directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.playbook import Theatre, theatre


@pytest.fixture
def play() -> Iterator[Theatre]:
    with theatre() as opened:
        yield opened


@pytest.fixture
def dirs(tmp_path: Path) -> tuple[Path, Path]:
    """Make a state directory and a runtime directory."""
    state, run = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    run.mkdir()
    return state, run
