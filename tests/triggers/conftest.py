"""Triggers run in virtual time: what takes a week takes milliseconds, and instants can be asserted."""

from __future__ import annotations

import pytest

from tests.virtual_time import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})
