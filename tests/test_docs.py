"""The pages about triggers and security name tests, and each of them is there."""

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


def test_each_test_that_the_page_about_security_names_is_in_the_file_that_it_names() -> None:
    page = (ROOT / "docs/security.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", page)
    assert len(named) > 100
    assert page.count(".py::") == len(named)
    missing = [f"{file}::{test}" for file, test in named if not _has(ROOT / "tests" / file, test)]
    assert missing == []


def _has(file: Path, test: str) -> bool:
    return file.exists() and re.search(rf"def {test}\(", file.read_text()) is not None
