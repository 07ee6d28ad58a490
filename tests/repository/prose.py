"""Lint the package's docstrings, names and sizes, and the names of tests, against an allow-list that only shrinks.

`python -m tests.repository.prose` prints every finding, `python -m tests.repository.prose FILE…` those of some files.
`--write` writes `tests/repository/prose.json`, and refuses if a rule has more findings than the list allows.
`tests/repository/test_prose.py` compares.
"""

from __future__ import annotations

import argparse
import ast
import collections
import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kill_switch"
ALLOWED = ROOT / "tests/repository/prose.json"

LONGEST_SENTENCE = 25  # words; docs/contributing/style.md, rule 5
MODULE_SENTENCES = 4  # rule 4 asks for three; a fourth may say how to run it
LONGEST_MODULE = 400  # lines
MOST_METHODS = 25
MOST_COMPLEX = 12  # McCabe

OPENERS = frozenset(  # a sentence that begins so names no actor, or is a literary verb for a technical act
    "what whatever who whoever whom whose one somebody someone told said say tell take hear have let put give".split()
)
UNCLEAR = re.compile(  # words that stand where a term of the field belongs
    r"\b(somebody|anew|whom|whoever|told|said|at hand|gone over|be done with|is done for|on the disk|"
    r"(?:of|by|to|with|from|in|than|and) what|(?:those|one|the one) who|one that|the ones?)\b",
    re.IGNORECASE,
)
NOT_IMPERATIVE = frozenset(  # openings of a function's docstring that are no command
    "a an the this that it its if when where whether which how why no not all each every some there here as".split()
)
NO_NAMES = frozenset("one what both rest more made found given told said".split())
NO_TEST_NAMES = re.compile(  # words of a test's name that stand where its subject or its result belongs
    r"(?<![a-z])(what|whoever|whom|somebody|anybody|nobody|said|told|unsay|at_hand|stands?)(?![a-z])"
)
TEST = re.compile(r"\s*(?:async )?def (test_\w+)")
ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|cf|etc|vs)\.", re.IGNORECASE)


class Finding(NamedTuple):
    """`key` is what the allow-list counts by: a file, or a name."""

    key: str
    place: str
    text: str


# ── docstrings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def docstrings() -> Iterator[Finding]:
    """Yield what each docstring of the package does against the style."""
    for path, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    place = f"{path}:{getattr(node, 'lineno', 1)}"
                    for problem in problems(text, node):
                        yield Finding(path, place, problem)


def problems(text: str, node: ast.AST) -> Iterator[str]:
    """Yield the problems of one docstring; `node` says whether it is a module's, a class's or a function's."""
    sentences = list(split_sentences(text))
    for sentence in sentences:
        words = sentence.split()
        if words and words[0].strip("`*(\"'").lower() in OPENERS:
            yield f'begins with "{words[0]}": {sentence}'
        if len(words) > LONGEST_SENTENCE:
            yield f"{len(words)} words, at most {LONGEST_SENTENCE}: {sentence}"
        for match in UNCLEAR.finditer(sentence):
            yield f'"{match[0]}" stands for a term: {sentence}'
    if not sentences:
        yield "has no sentence"
        return
    first = text.strip().split("\n\n")[0]
    if not first.rstrip().endswith((".", ":", "?")):
        yield f"the first paragraph ends without a period: {sentences[0]}"
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_property(node)
    if is_function and not _is_imperative(sentences[0]):
        yield f"the first line is no imperative: {sentences[0]}"
    if isinstance(node, ast.Module) and len(sentences) > MODULE_SENTENCES:
        yield f"a module's docstring of {len(sentences)} sentences, at most {MODULE_SENTENCES}"


def split_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a docstring. Code, tables and literal blocks are none; a span of code is one word."""
    for paragraph in re.split(r"\n\s*\n|\n(?=[-*] )", text):
        lines = [line for line in paragraph.splitlines() if not line.startswith(("    ", "|", ">>>", "```"))]
        prose = re.sub(r"`+[^`]+`+", "`code`", " ".join(lines))
        prose = ABBREVIATIONS.sub(lambda match: match[0].replace(".", ""), prose)
        for sentence in re.split(r"(?<=[.!?])[\"')]*\s+", prose.strip()):
            if sentence:
                yield sentence


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether the function is read like an attribute: its docstring may be a noun phrase."""
    return any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list)


def _is_imperative(sentence: str) -> bool:
    word = sentence.split()[0].strip("`*(\"',.:;").lower()
    third_person = re.fullmatch(r"\w+[^s]s", word) is not None and not word.endswith(("cess", "ess", "us", "is"))
    return word not in NOT_IMPERATIVE and not third_person and not word.endswith("ing")


# ── names and sizes ───────────────────────────────────────────────────────────────────────────────────────────────────


def variable_names() -> Iterator[Finding]:
    """Yield each place that binds a name which says nothing; the fields of records are words that journals have."""
    for path, tree in _modules():
        fields = {
            id(field.target)
            for field in ast.walk(tree)
            if isinstance(field, ast.AnnAssign) and Path(path).name == "records.py"
        }
        for node in ast.walk(tree):
            name = _bound(node)
            if name in NO_NAMES and id(node) not in fields:
                yield Finding(path, f"{path}:{node.lineno}", f"`{name}` does not say what it is")  # type: ignore[attr-defined]


def _bound(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.attr
    if isinstance(node, ast.arg):
        return node.arg
    return node.name if isinstance(node, ast.ExceptHandler | ast.MatchAs) else None


def test_names() -> Iterator[Finding]:
    """Yield the tests whose name has a word in place of its subject, its condition or its result."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        path = str(file.relative_to(ROOT))
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            if test := TEST.match(line):
                for match in NO_TEST_NAMES.finditer(test[1]):
                    yield Finding(path, f"{path}:{number}", f'"{match[0]}" does not say what it is: {test[1]}')


def class_names() -> Iterator[Finding]:
    """Yield the second and further public classes of one name; simulators and asynchronous twins may repeat a name."""
    first: dict[str, str] = {}
    for path, tree in _modules():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ClassDef)
                and not node.name.startswith("_")
                and not re.search("/sim/|/client/aio", path)
            ):
                if node.name in first:
                    yield Finding(node.name, f"{path}:{node.lineno}", f"{node.name} is in {first[node.name]} too")
                first.setdefault(node.name, path)


def long_modules() -> Iterator[Finding]:
    """Yield the modules that are too long."""
    for path, _ in _modules():
        lines = len((ROOT / path).read_text("utf-8").splitlines())
        if lines > LONGEST_MODULE:
            yield Finding(path, path, f"{lines} lines, at most {LONGEST_MODULE}")


def wide_classes() -> Iterator[Finding]:
    """Yield the classes that have too many methods of their own."""
    for path, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
                if methods > MOST_METHODS:
                    yield Finding(f"{path} {node.name}", f"{path}:{node.lineno}", f"{methods} methods")


def complex_functions() -> Iterator[Finding]:
    """Yield the functions with too many branches, those with a `noqa` too."""
    command = [Path(sys.executable).with_name("ruff"), "check", "--isolated", "--no-cache", "--ignore-noqa"]
    command += ["--select", "C901", "--config", f"lint.mccabe.max-complexity = {MOST_COMPLEX}"]
    command += ["--output-format", "json", "--exit-zero", PACKAGE]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    for problem in json.loads(done.stdout):
        path = str(Path(problem["filename"]).relative_to(ROOT))
        name = re.findall(r"`(\w+)`", problem["message"])[0]
        yield Finding(f"{path} {name}", f"{path}:{problem['location']['row']}", problem["message"])


@functools.cache
def _modules() -> list[tuple[str, ast.Module]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [(str(file.relative_to(ROOT)), ast.parse(file.read_text("utf-8"))) for file in files]


# ── the allow-list ────────────────────────────────────────────────────────────────────────────────────────────────────

RULES: Mapping[str, Callable[[], Iterator[Finding]]] = {
    "docstrings": docstrings,
    "variable names": variable_names,
    "test names": test_names,
    "class names used twice": class_names,
    f"modules over {LONGEST_MODULE} lines": long_modules,
    f"classes over {MOST_METHODS} methods": wide_classes,
    f"functions more complex than {MOST_COMPLEX}": complex_functions,
}


def allowed() -> dict[str, dict[str, int]]:
    """Return how many findings each file or name may have, by rule."""
    counts: dict[str, dict[str, int]] = json.loads(ALLOWED.read_text("utf-8"))
    return counts


def count(findings: Iterator[Finding]) -> dict[str, int]:
    """Return the number of findings of each file or name."""
    return dict(sorted(collections.Counter(finding.key for finding in findings).items()))


def differences(rule: str, there: Mapping[str, int], may: Mapping[str, int]) -> list[str]:
    """Say where there are more findings than allowed, or fewer, so that the list must shrink."""
    return [
        f"{key}: {there.get(key, 0)} {rule}, {may.get(key, 0)} allowed"
        for key in sorted({*there, *may})
        if there.get(key, 0) != may.get(key, 0)
    ]


def grown(there: Mapping[str, Mapping[str, int]], may: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return the rules of the list that have more findings in all than allowed.

    A file may be moved or cut with its findings. A rule that is not in the list yet may be written.
    """
    return [rule for rule in there if rule in may and sum(there[rule].values()) > sum(may[rule].values())]


def main() -> int:
    """Print the findings, or write the allow-list."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.repository.prose", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--write", action="store_true", help="write the allow-list; it may not grow")
    parser.add_argument("files", nargs="*", help="print findings of these files only")
    options = parser.parse_args()
    if options.write:
        there = {rule: count(find()) for rule, find in RULES.items()}
        if ALLOWED.exists() and (rules := grown(there, allowed())):
            print(f"not written: more findings than allowed: {', '.join(rules)}")
            return 1
        ALLOWED.write_text(json.dumps(there, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for rule, find in RULES.items():
        findings = list(find())
        print(f"{len(findings):5}  {rule}")
        for finding in [] if options.write else findings:
            if not options.files or any(finding.place.startswith(file) for file in options.files):
                print(f"       {finding.place}: {finding.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
