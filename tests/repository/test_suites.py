"""Every test belongs to one session of `noxfile.py`. CI runs the sessions within the times that CONTRIBUTING.md has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import noxfile

ROOT = Path(__file__).parents[2]
CI_MINUTES = 40
FOLDERS = (
    *(*noxfile.UNIT, *noxfile.VENUES, *noxfile.DETERMINISTIC),
    *(*noxfile.SYSTEM, *noxfile.SYSTEMD, *noxfile.MONITORING),
)
OTHERS = (  # in environments of their own
    *(path for paths in noxfile.CLIENTS.values() for path in paths),
    *(test for _, _, test in noxfile.RECIPES.values()),
)


def test_each_test_module_is_in_one_session() -> None:
    modules = sorted((ROOT / "tests").rglob("test_*.py"))
    sessions = [
        sorted(module for path in ROOT.glob(folder) for module in _modules(path)) for folder in (*FOLDERS, *OTHERS)
    ]
    assert all(sessions), "a folder without a test"
    assert sorted(module for session in sessions for module in session) == modules


def _modules(path: Path) -> list[Path]:
    return [path] if path.is_file() else list(path.rglob("test_*.py"))


def test_pytest_without_words_runs_the_fast_sessions() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    assert options["testpaths"] == [*noxfile.UNIT, *noxfile.VENUES]


def test_ci_runs_each_part_within_the_time_that_the_table_has() -> None:
    script = (ROOT / ".ci/run").read_text("utf-8")
    table = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## What CI runs")[2].partition("\n## ")[0]
    parts = [(name, int(minutes)) for minutes, name in re.findall(r'^\s*part (\d+) "([^"]+)"', script, re.MULTILINE)]
    rows = [
        (name, int(minutes)) for name, minutes in re.findall(r"^\| ([^|]+) \|.*\| (\d+) min \|$", table, re.MULTILINE)
    ]
    assert parts == rows
    assert sum(minutes for _, minutes in parts) < CI_MINUTES


@pytest.mark.parametrize("session", ["lint", "types", "docs", "deterministic", "monitoring", "system", "systemd"])
def test_ci_runs_the_session(session: str) -> None:
    assert re.search(rf"nox -s (\w+ )*{session}\b", (ROOT / ".ci/run").read_text("utf-8"))


def test_the_readme_says_how_long_its_tests_take() -> None:
    assert "about three minutes on two cores" in " ".join((ROOT / "README.md").read_text("utf-8").split())
