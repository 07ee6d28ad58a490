"""What goes on beside the kill runs in virtual time, but for the tests of its process."""

from __future__ import annotations

import pytest

from tests.virtual_time import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})
