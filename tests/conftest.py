"""Run a test that measures real time once more if it fails.

Such a test drives real sockets, threads or processes, and states how long they may take. A machine that other work
holds up for a second fails it without a fault of ours. The second run decides, and pytest names each test that needed
one (`-rR`). Tests in virtual time and tests of pure code are never run again: they fail for a reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # an example's time says nothing there
settings.load_profile("shared machine")

HERE = Path(__file__).parent
REAL_TIME = (
    *("monitoring", "system/crash", "system/e2e", "system/fault_matrix", "system/security"),
    *("unit/cli", "unit/client", "unit/daemon", "unit/direct", "unit/outbound", "unit/sim", "unit/system"),
    *("unit/transports",),
    *("unit/worker", "unit/test_logging_setup.py", "unit/test_printable.py", "unit/test_unexpected.py"),
    *("unit/control/test_paths.py", "unit/triggers/test_flag.py", "unit/triggers/test_flag_flood.py"),
)
PAUSE_S = 2.0  # before the second run: whatever held the machine up may be over


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Mark the tests that get a second run; with `--reruns 0` none does."""
    if config.getoption("reruns", None) == 0:
        return
    for item in items:
        if item.path.relative_to(HERE).as_posix().startswith(REAL_TIME):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=PAUSE_S))


@pytest.fixture(autouse=True)
def logging_of_a_process() -> Iterator[None]:
    """Restore the log, because a command that a test runs in this process sets it up for a process of its own."""
    root, own = logging.getLogger(), logging.getLogger("kill_switch")
    levels = root.level, own.level
    filters = [(handler, handler.filters[:]) for handler in (*root.handlers, logging.lastResort) if handler]
    handlers = root.handlers[:]
    yield
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    root.handlers[:] = handlers
    for handler, kept in filters:
        handler.filters[:] = kept
