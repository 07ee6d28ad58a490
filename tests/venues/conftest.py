"""Print the conformance table, venue × case: `pytest tests/venues/test_conformance.py --table`."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from kill_switch.venues import VENUES

MARKS = {"passed": "✓", "failed": "✗", "error": "✗", "skipped": "–"}  # the worst of a case's parameters counts
WORST = ("error", "failed", "passed", "skipped")
NODE = re.compile(r"test_conformance\.py::(\w+)\[(.+)\]$")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", action="store_true", help="print the conformance table: venue × case")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Sum the reports up, which come to this process wherever the tests ran."""
    if not terminalreporter.config.getoption("--table", default=False):
        return
    from . import test_conformance

    cells: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for outcome in reversed(WORST):
        for report in terminalreporter.stats.get(outcome, ()):
            found = NODE.search(report.nodeid)
            venue = next((name for name in VENUES if found and name in found[2].split("-")), None)
            if found and venue:
                cells[found[1]][venue] = outcome
    terminalreporter.section("conformance: ✓ passed, ✗ failed, – the venue has no such thing")
    width = max(map(len, VENUES)) + 1
    terminalreporter.write_line("".join(f"{venue:>{width}}" for venue in VENUES) + "  case")
    for case in sorted(cells, key=list(vars(test_conformance)).index):  # as they stand in the file
        row = cells[case]
        marks = (MARKS.get(row.get(venue, ""), "?") for venue in VENUES)
        words = case.removeprefix("test_").replace("_", " ")
        terminalreporter.write_line("".join(f"{mark:>{width}}" for mark in marks) + f"  {words}")
    outcomes = [row.get(venue, "") for row in cells.values() for venue in VENUES]
    good = sum(outcome in ("passed", "skipped") for outcome in outcomes)
    terminalreporter.write_line(f"{len(VENUES)} venues × {len(cells)} cases: {good} of {len(outcomes)} cells green")
