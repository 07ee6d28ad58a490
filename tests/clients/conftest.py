"""Start the simulators before a client is imported: libraries read which authorities to trust at their import."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .stage import Stage

STAGE = Stage(
    *("kraken", "kraken-futures", "binance-spot", "binance-usdm", "binance-coinm", "deribit"),
    options={"kraken": {"tier": "unlimited"}, "deribit": {"tier": "unlimited"}, "kraken-futures": {"pool": "0"}},
)
STAGE.start()
os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = STAGE.ready["ca_file"]


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Return the simulators; none has an order that rests."""
    assert not any(STAGE.open(venue) for venue in STAGE.ready["venues"])
    yield STAGE
    assert not any(STAGE.open(venue) for venue in STAGE.ready["venues"])
