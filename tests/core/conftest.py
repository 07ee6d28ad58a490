"""Give tests of the pure core their playbooks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.playbook import Theatre, theatre


@pytest.fixture
def play() -> Iterator[Theatre]:
    with theatre() as opened:
        yield opened
