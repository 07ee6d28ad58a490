"""Each row of the heartbeat's table in the documentation names its test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_each_row_of_the_heartbeats_table_names_a_test_that_exists() -> None:
    page = (ROOT / "docs/guides/triggers/heartbeat.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 30
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        (name,) = re.findall(r"`(test_\w+)` \|$", row)
        assert f"def {name}(" in tests, name
