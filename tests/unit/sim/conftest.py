"""Fixtures that start simulators."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .clients import Sim, running


@pytest.fixture
def anyio_backend() -> object:
    """Use the event loop of `kill-switch sim`."""
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
async def sim(anyio_backend: object) -> AsyncIterator[Sim]:
    async with running("oxfun", "roxom") as started:
        yield started
