"""The documentation is as the code is: tests that it names, pages that are made, links, the size of the README."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from pathlib import Path

from kill_switch.cli import exit_codes, main
from tests.repository import import_graph, pages, reference

ROOT = Path(__file__).parents[2]


def test_each_test_that_a_page_about_triggers_names_is_there() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = re.findall(r"def test_(\w+)", tests)
    files = (ROOT / "docs/guides/triggers").iterdir()
    # some pages leave out `test_`, and the end of the name
    named = re.compile(r"`(?!kill_switch)([a-z0-9]+(?:_[a-z0-9]+){3,})`")
    pages = {path.name: named.findall(path.read_text()) for path in files}
    for name in ("flag.md", "link.md", "schedule.md", "order-rate.md", "pnl.md"):
        assert len(pages[name]) > 10, name
    missing = [(page, name) for page, names in pages.items() for name in names if not _begins_one(name, there)]
    assert missing == []


def _begins_one(name: str, tests: list[str]) -> bool:
    return any(test.startswith(name.removeprefix("test_")) for test in tests)


def test_each_test_that_the_page_about_security_names_is_in_the_file_that_it_names() -> None:
    page = (ROOT / "docs/explanation/security.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", page)
    assert len(named) > 100
    assert page.count(".py::") == len(named)
    missing = [f"{file}::{test}" for file, test in named if not _has(ROOT / "tests" / file, test)]
    assert missing == []


def _has(file: Path, test: str) -> bool:
    return file.exists() and re.search(rf"def {test}\(", file.read_text()) is not None


def written() -> list[Path]:
    """Return the pages that are in the repository."""
    found = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in found.splitlines()]


def test_pages_that_are_made_from_the_code_are_as_the_code_has_it() -> None:
    differ = [path.name for path, text in reference.pages().items() if path.read_text("utf-8") != text]
    assert differ == [], "python -m tests.repository.reference --write"


def test_each_command_and_each_error_has_its_exit_codes_on_the_page() -> None:
    rows = {row.command.partition(" ")[0] for row in exit_codes.BY_COMMAND}
    assert rows == main.commands.keys()
    numbers = {code.number for code in exit_codes.EXIT_CODES} | {143}
    assert {error.exit_code for error in reference.error_classes()} <= numbers
    assert {number for row in exit_codes.BY_COMMAND for number in row.others} <= numbers


def test_each_exit_code_that_a_commands_help_names_is_on_the_page() -> None:
    missing = []
    for name, command in main.commands.items():
        rows = [row for row in exit_codes.BY_COMMAND if row.command.partition(" ")[0] == name]
        documented = {number for row in rows for number in row.others} | {0, 69}
        named = re.findall(r"(?:[Ee]xit code |; |Also )(\d+)(?=:| unless| if)", " ".join((command.help or "").split()))
        missing += [(name, number) for number in named if int(number) not in documented]
    assert missing == []


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 700


def test_each_link_from_page_to_page_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in written()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if not target.startswith(("http://", "https://", "mailto:")) and not (page.parent / target).exists()
    ]
    assert broken == []


def test_each_path_and_module_of_the_repository_that_a_page_names_is_there() -> None:
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in written()
        if page.name != "CHANGELOG.md"  # which keeps the names of its time
        for name in named_in_repository(page.read_text("utf-8"))
        if not is_in_repository(name, tracked())
    ]
    assert missing == []


def test_each_path_and_module_that_a_unit_names_is_there() -> None:
    text = "\n".join(file.read_text("utf-8") for file in (ROOT / "systemd").iterdir())
    names = [*named_in_repository(text), *re.findall(r"(?<![\w/])(?:docs|systemd|kill_switch)/[\w./-]+\w", text)]
    assert [name for name in names if not is_in_repository(name, tracked())] == []


def test_the_page_about_the_architecture_has_each_room_of_the_package() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
    rooms = {room for row in import_graph.rows() for room in row} - {"__main__"}
    assert rooms - set(re.findall(r"`(\w+)(?=[`/])", page)) == set()


def test_each_method_that_a_page_names_with_its_class_is_in_the_package() -> None:
    members: dict[str, set[str]] = {}
    for file in (ROOT / "kill_switch").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                members.setdefault(node.name, set()).update(re.findall(r"\w+", ast.unparse(node)))
    missing = [
        f"{page.relative_to(ROOT)}: {name}.{member}"
        for page in written()
        if page.name != "CHANGELOG.md"
        for name, member in re.findall(r"\b([A-Z]\w+)\.([a-z_]\w+)\b(?!\.)", page.read_text("utf-8"))
        if name in members and member not in members[name]
    ]
    assert missing == []


def test_each_excerpt_of_the_page_about_adapters_is_in_the_code() -> None:
    page = (ROOT / "docs/developing/venue-adapter.md").read_text("utf-8")
    excerpts = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(excerpts) > 10
    folders = (ROOT / "kill_switch/venues", ROOT / "kill_switch/sim", ROOT / "tests/harness")
    files = [file.read_text("utf-8") for folder in folders for file in folder.rglob("*.py")]
    code = {line.strip() for text in files for line in text.splitlines()}
    assert [line for each in excerpts for line in each.splitlines() if line.strip() not in code] == []


def test_each_name_in_the_page_about_adapters_is_in_the_code() -> None:
    page = re.sub(r"```.*?```", "", (ROOT / "docs/developing/venue-adapter.md").read_text("utf-8"), flags=re.DOTALL)
    named = re.findall(r"`(?:[a-z_]+\.)?([A-Za-z]*_[A-Za-z_]+|[A-Z]\w+[a-z])(?:\([\w=…, ]*\))?`", page)
    venues = (ROOT / "kill_switch/venues").rglob("*.py")
    files = (*venues, ROOT / "kill_switch/core/domain.py", *(ROOT / "tests").rglob("simulated_account.py"))
    code = "\n".join(file.read_text("utf-8") for file in files)
    defined = set(re.findall(r"\w+", code)) | {"VenueProfile", "Player"}  # these two are the tests'
    assert len(named) > 30
    assert [name for name in named if name not in defined] == []


def named_in_repository(text: str) -> list[str]:
    """Return the paths in backticks that end in `.py` or begin with a folder of the repository, and module names."""
    paths = re.findall(r"`((?:kill_switch|tests|docs|systemd)/[\w./-]+|[\w./-]+\.py)(?:::\w+)?`", text)
    modules = re.findall(r"(?:`|python -m )((?:kill_switch|tests)(?:\.\w+)+)", text)
    return [name for name in (*paths, *modules) if not re.search(r"NAME|<|\bkraken\b|^ccxt/", name)]


def is_in_repository(name: str, files: frozenset[str]) -> bool:
    """Return whether a path, the end of a path, or a module with a member of it at most, is in the repository."""
    if re.fullmatch(r"\w+(\.\w+)+", name) and not name.endswith(".py"):
        parts = name.split(".")
        candidates = {"/".join(parts), "/".join(parts[:-1])}
        return any(f"{path}.py" in files or any(file.startswith(f"{path}/") for file in files) for path in candidates)
    return any(f"/{file}".endswith(f"/{name}") or f"/{name.rstrip('/')}/" in f"/{file}" for file in files)


@functools.cache
def tracked() -> frozenset[str]:
    """Return the files of the repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return frozenset(listed.splitlines())


def test_no_page_installs_by_a_name_that_is_not_ours_on_an_index() -> None:
    named = re.compile(
        r"(pip|pipx|uv|poetry)\b[^\n]* (install|add)\b[^\n]*[\s'\"]kill[-_]switch([\s'\"\[=<>~]|$)", re.MULTILINE
    )
    assert [str(page.relative_to(ROOT)) for page in written() if named.search(page.read_text("utf-8"))] == []
    assert named.search("pip install 'kill-switch[sim]'") and named.search("uv pip install kill-switch")


def test_each_command_block_runs_in_a_test_or_says_why_not() -> None:
    silent = []
    tested = "\n".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("systemd/*.py"))
    for block in (block for page in pages.pages() for block in pages.blocks(page)):
        marks = [block.mark("run") is not None, bool(block.mark("not run")), block.mark("tested") is not None]
        wrong = sum(marks) != 1 or (block.mark("needs") or "nothing") not in pages.SETUPS
        if wrong or (marks[2] and f'block("{block.mark("tested")}")' not in tested):
            silent.append(f"{block.place}: {block.marks}")
    assert silent == []


def test_output_fits_a_page_by_its_words_and_not_by_its_numbers() -> None:
    expected = "kill k1-17\n…\nmm1 CLEAR 0.4 ms – 1\n"
    assert pages.missing(expected, "kill k1-18\nx\nmm1   CLEAR  12 ms 3 ms 2\n") == []
    assert pages.missing(expected, "kill k1-18\nmm1 RESIDUE 12 ms 3 ms 2\n") == ["mm1 CLEAR 0.4 ms – 1"]
    assert pages.missing(expected, "mm1 CLEAR 12 ms 3 ms 2\nkill k1-18\n") == ["mm1 CLEAR 0.4 ms – 1"]


def test_each_user_and_group_of_a_page_or_a_unit_is_made_by_sysusers_or_is_an_example_of_the_readers_own() -> None:
    made = re.findall(r"^[ug] +(\S+)", (ROOT / "systemd/kill-switch.sysusers").read_text(), re.MULTILINE)
    own = {"hedger", "root", "traders"}
    named = re.compile(
        r"(?:^|`)(?:User|Group|SupplementaryGroups)=([\w-]+)"  # a line of a unit
        r"|\b(?:usermod -aG|runuser -u|install -o|userdel|-g|chgrp|sudo -u) (\w[\w-]*)"  # a command
        r"|^%(\S+) ALL="  # sudoers
        r"|^[dfL] +/\S+ +\d+ +(\S+) +(\S+)",  # tmpfiles
        re.MULTILINE,
    )
    files = [*written(), *(ROOT / "systemd").iterdir()]
    names = {(file.name, name) for file in files for found in named.findall(file.read_text()) for name in found if name}
    assert len(names) > 6
    assert {(file, name) for file, name in names if name not in {*made, *own}} == set()
