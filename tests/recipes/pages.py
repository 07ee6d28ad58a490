"""The code blocks of the recipes, and the socket that their beats reach."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "docs/recipes"


def blocks(page: str, language: str) -> list[str]:
    """Return the page's code blocks in a language."""
    text = (FOLDER / f"{page}.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def module(page: str) -> ModuleType:
    """Run the page's Python as a module and return it."""
    (code,) = blocks(page, "python")
    made = ModuleType(page.replace("-", "_"))
    made.__file__ = f"{made.__name__}.py"
    exec(compile(code, str(FOLDER / f"{page}.md"), "exec"), made.__dict__)  # noqa: S102 - a page of ours
    return made


def beats(intake: socket.socket) -> list[bytes]:
    """Return the datagrams that wait."""
    datagrams = []
    while True:
        try:
            datagrams.append(intake.recv(5000))
        except BlockingIOError:
            return datagrams
