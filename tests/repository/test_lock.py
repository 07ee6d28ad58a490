"""The lock has a hash for each package, names no index, and has what `pyproject.toml` asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
WANTED = {
    "run": PROJECT["dependencies"],
    "notify": [*PROJECT["dependencies"], *EXTRAS["notify"]],
    "ccxt": [*PROJECT["dependencies"], *EXTRAS["ccxt"]],
    "dev": [*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)],
}


def pins(name: str) -> dict[str, str]:
    """Return the block of each package of a lock file."""
    text = (ROOT / f"requirements/{name}.txt").read_text("utf-8")
    return {block.split("==")[0]: block for block in re.split(r"\n(?=\w)", text) if not block.startswith("#")}


@pytest.mark.parametrize("name", WANTED)
def test_each_package_of_the_lock_has_one_version_and_a_hash_and_names_no_index(name: str) -> None:
    wrong = [
        block
        for block in pins(name).values()
        if not re.fullmatch(r"[\w.-]+==\S+( ; [^\\]+)? ?(\\\s+--hash=sha256:\w{64}\s*)+", block)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", WANTED)
def test_the_lock_has_each_dependency_and_not_the_project_itself(name: str) -> None:
    wanted = {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in WANTED[name]} - {"kill-switch"}
    assert wanted - pins(name).keys() == set(), "nox -s lock"
    assert "kill-switch" not in pins(name)


@pytest.mark.parametrize("name", ["run", "notify", "ccxt"])
def test_a_service_installs_the_versions_that_were_tested(name: str) -> None:
    tested = pins("dev")
    assert [package for package, block in pins(name).items() if tested[package].split()[0] != block.split()[0]] == []


def test_the_guides_install_by_the_lock() -> None:
    for page, name in (
        ("get-started/install.md", "run"),
        ("guides/systemd.md", "run"),
        ("guides/systemd.md", "notify"),
        ("guides/systemd.md", "ccxt"),
        ("venues/ccxt.md", "ccxt"),
    ):
        assert f"pip install --require-hashes -r requirements/{name}.txt" in (ROOT / "docs" / page).read_text("utf-8")
