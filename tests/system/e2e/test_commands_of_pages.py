"""Every command block that a page marks to be run does what the page says, on a host with simulators and a daemon."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import pytest

from tests.repository import pages

PAGES = [page for page in pages.pages() if any(block.mark("run") is not None for block in pages.blocks(page))]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(pages.ROOT / "docs")))
def test_the_commands_of_a_page_end_and_print_as_it_says(page: Path) -> None:
    needs, host = "", None
    with contextlib.ExitStack() as stack:
        for block in pages.blocks(page):
            words = block.mark("run")
            if words is None:
                continue
            tools = [tool for tool in ("jq", "curl") if re.search(rf"\b{tool}\b", block.text)]
            if not all(map(shutil.which, tools)):
                pytest.skip(f"{block.place} takes {' and '.join(tools)}")
            if host is None or block.mark("needs") != needs:
                stack.close()
                needs = block.mark("needs") or "nothing"
                host = stack.enter_context(pages.Host())
                pages.SETUPS[needs](host)
            exit_code, output = host.run(block)
            assert exit_code == int(words.removeprefix("exit code ") or 0), f"{block.place}\n{output}"
            assert pages.missing(block.expected, output) == [], f"{block.place}\n{output}"
