"""Fixtures of the lane tests: the event loop, throw-away certificates, and a listener."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kill_switch.transports import connection_count, connection_pool, ws, ws_connection
from kill_switch.transports.lane import Backoff
from tests.harness.lane_listeners import RecordingListener
from tests.harness.scripted_server import Certificates, Server


@pytest.fixture
def anyio_backend() -> object:
    return ("asyncio", {"use_uvloop": True})  # as in the daemon


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the back-off and the closing time-out of all lanes."""
    for module in (connection_count, connection_pool, ws):
        monkeypatch.setattr(module, "Backoff", lambda first_s=0.0, cap_s=0.0: Backoff(first_s=0.01, cap_s=0.1))
    monkeypatch.setattr(ws_connection, "CLOSE_WITHIN_S", 0.2)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def ca_file(certificates: Certificates) -> str:
    return certificates.ca_file


@pytest.fixture
async def server(anyio_backend: object, certificates: Certificates) -> AsyncIterator[Server]:
    async with Server(certificates.good) as started:
        yield started


@pytest.fixture
def ear() -> RecordingListener:
    return RecordingListener()


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    """Return the CA file of an authority that has signed no certificate of the server."""
    return Certificates(tmp_path).ca_file
