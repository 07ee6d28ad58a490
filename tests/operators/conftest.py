"""What operators ask is tried in virtual time: instants can be asserted, and nothing sleeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operators.office import ControlHarness, Opened
from tests.virtual_time import VirtualTimeLoop


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
