"""The layers of the architecture are lint rules, and this run enforces them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.repository import import_graph

ROOT = Path(__file__).parents[2]


def test_no_module_has_an_import_that_its_layer_forbids() -> None:
    command = [
        str(Path(sys.executable).with_name("lint-imports")),
        "--config",
        str(ROOT / ".importlinter"),
        "--no-cache",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_picture_of_the_rooms_shows_the_imports_that_there_are() -> None:
    assert import_graph.PICTURE.read_text("utf-8") == import_graph.picture(), (
        "python -m tests.repository.import_graph --write"
    )
    placed = [room for row in import_graph.rows() for room in row]
    assert sorted(placed) == sorted(import_graph.graph().modules)
