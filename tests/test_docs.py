"""The pages about triggers name tests, and each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_each_test_that_a_page_about_triggers_names_is_there() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)", tests))
    files = (ROOT / "docs/triggers").iterdir()
    pages = {path.name: set(re.findall(r"`(test_\w+)`", path.read_text())) for path in files}
    assert pages["flag.md"] and pages["link.md"] and pages["schedule.md"]
    assert {name: named - there for name, named in pages.items() if named - there} == {}
