"""Draw the package's import graph: its rooms, in the rows that `.importlinter` gives them, and an arrow an import.

A room is what stands directly below `kill_switch`: a folder, or a single module. `python -m
tests.repository.import_graph` prints counts; with `--write`, it writes the picture of
`docs/explanation/architecture.md`, which `tests/repository/test_layers.py`
compares.
"""

from __future__ import annotations

import argparse
import ast
import collections
import configparser
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kill_switch"
PICTURE = ROOT / "docs/assets/rooms.svg"

WIDTH, ROW, BOX_HEIGHT, SHIFT, LETTER, MARGIN = 1080, 74, 30, 150, 7.9, 24  # pixels


class Graph(NamedTuple):
    """`modules` counts the modules of each room; `arrows` are pairs of rooms, the importing one first."""

    modules: dict[str, int]
    arrows: set[tuple[str, str]]


def rows() -> list[list[str]]:
    """Return the rooms in the rows of the contract of layers, the highest first."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", "utf-8")
    layers = contracts["importlinter:contract:layers"]["layers"].strip().splitlines()
    return [[room.strip() for room in layer.replace(":", "|").split("|")] for layer in layers]


@functools.cache
def graph() -> Graph:
    """Read the imports of all modules, those within functions too."""
    modules: collections.Counter[str] = collections.Counter()
    arrows: set[tuple[str, str]] = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        room = parts[0]
        if room == "__init__":
            continue
        modules[room] += parts[-1] != "__init__"
        for imported in _imported(file, ("kill_switch", *parts[:-1])):
            if imported != room and imported:
                arrows.add((room, imported))
    known = set(modules)
    return Graph(dict(modules), {(room, other) for room, other in arrows if other in known})


def _imported(file: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Yield the rooms that a module imports from."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            within = package[: len(package) + 1 - node.level] if node.level else ()
            base = (*within, *(node.module or "").split(".")) if node.module else within
            for name in node.names:
                path = (*base, name.name)
                if path[0] == "kill_switch" and len(path) > 1:
                    yield path[1]
        elif isinstance(node, ast.Import):
            for name in node.names:
                path = tuple(name.name.split("."))
                if path[0] == "kill_switch" and len(path) > 1:
                    yield path[1]


def picture() -> str:
    """Return the graph as SVG. The same imports give the same text."""
    found = graph()
    centres: dict[str, tuple[float, float]] = {}
    boxes: list[str] = []
    for number, row in enumerate(rows()):
        shift = SHIFT * (-1) ** number if len(row) == 1 else 0
        for place, room in enumerate(row, 1):
            label = f"{room} {found.modules.get(room, 0)}"
            width = len(label) * LETTER + 24
            centre = WIDTH * place / (len(row) + 1) + shift
            top = MARGIN + number * ROW
            centres[room] = (centre, top)
            boxes.append(
                f'<rect x="{centre - width / 2:.0f}" y="{top}" width="{width:.0f}" height="{BOX_HEIGHT}" '
                f'rx="5" class="room"/>'
                f'<text x="{centre:.0f}" y="{top + 20}" class="name">{label}</text>'
            )
    arrows = [
        f'<line x1="{centres[room][0]:.0f}" y1="{centres[room][1] + BOX_HEIGHT}" '
        f'x2="{centres[other][0]:.0f}" y2="{centres[other][1]}"/>'
        for room, other in sorted(found.arrows)
    ]
    height = MARGIN * 2 + len(rows()) * ROW - (ROW - BOX_HEIGHT)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    style = (
        ".room{fill:#fff;stroke:#445;stroke-width:1.2}.name{font:13px monospace;text-anchor:middle;fill:#112}"
        "line{stroke:#36c;stroke-opacity:.28}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<style>{style}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#fbfbf8"/>',
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


def counts() -> dict[str, int]:
    """Count what a stranger meets: rooms, arrows, long modules, wide classes, class names that stand twice."""
    found = graph()
    lines = [len(file.read_text("utf-8").splitlines()) for file in PACKAGE.rglob("*.py")]
    names: collections.Counter[str] = collections.Counter()
    wide = 0
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                names[node.name] += 1
                methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
                wide += len(methods) > 25
    return {
        "rooms": len(found.modules),
        "arrows": len(found.arrows),
        "modules": len(lines),
        "modules over 400 lines": sum(each > 400 for each in lines),
        "classes over 25 methods": wide,
        "class names used twice or more": sum(each > 1 for each in names.values()),
    }


def main() -> None:
    """Print the counts, and write the picture if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.repository.import_graph", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--write", action="store_true", help=f"write {PICTURE.relative_to(ROOT)}")
    if parser.parse_args().write:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_text(picture(), "utf-8")
    for name, count in counts().items():
        print(f"{count:5}  {name}")


if __name__ == "__main__":
    main()
