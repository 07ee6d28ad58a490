"""Run a test that measures real time once more if it fails.

Such a test drives real sockets, threads or processes, and states how long they may take. A machine that other work
holds up for a second fails it without a fault of ours. The second run decides, and pytest names each test that needed
one (`-rR`). Tests in virtual time and tests of pure code are never run again: they fail for a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REAL_TIME = ("beside", "crash", "e2e", "faults", "security", "sim", "transports")
PURE = (
    "test_config.py",
    "test_config_triggers.py",
    "test_explain.py",
    "test_layers.py",
    "test_prose.py",
    "test_reload.py",
)
PAUSE_S = 2.0  # before the second run: whatever held the machine up may be over


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Mark the tests that get a second run; with `--reruns 0` none does."""
    if config.getoption("reruns", None) == 0:
        return
    for item in items:
        first = item.path.relative_to(HERE).parts[0]
        if first in REAL_TIME or (first.endswith(".py") and first not in PURE):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=PAUSE_S))
