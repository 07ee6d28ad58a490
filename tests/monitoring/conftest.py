"""The tools of Prometheus; without one its tests are skipped, or fail in the session that has got them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from tests.monitoring import tools

Tool = Callable[..., subprocess.CompletedProcess[str]]


def path_of(name: str) -> str:
    """Return the path of a tool, or skip the test."""
    path = tools.find(name)
    if path is None:
        reason = f"there is no {name}: nox -s monitoring gets it"
        (pytest.fail if os.environ.get("KILL_SWITCH_NEEDS_PROMETHEUS") else pytest.skip)(reason)
    return str(path)


def runner(name: str) -> Tool:
    """Return a function that runs a tool with words and standard input."""
    path = path_of(name)

    def run(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *words], input=text, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def promtool() -> Tool:
    return runner("promtool")


@pytest.fixture
def amtool() -> Tool:
    return runner("amtool")


@pytest.fixture
def prometheus() -> str:
    return path_of("prometheus")
