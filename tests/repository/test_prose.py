"""The package's docstrings, names and sizes have no finding that `tests/repository/prose.json` does not allow."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.repository import prose


@pytest.mark.parametrize("rule", prose.RULES)
def test_each_file_has_exactly_the_findings_that_the_allow_list_has(rule: str) -> None:
    differences = prose.differences(rule, prose.count(prose.RULES[rule]()), prose.allowed()[rule])
    assert differences == [], "see them by python -m tests.repository.prose FILE; if there are fewer, --write"


FUNCTION = ast.parse("def f(): ...").body[0]
CLASS = ast.parse("class C: ...").body[0]
MODULE = ast.parse("")


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (FUNCTION, "Send the account's prebuilt command."),
        (FUNCTION, "Return the offset, in seconds.\n\n    value = offset(one, what, said)\n"),
        (FUNCTION, "Process the reply (e.g. a refusal). Raises `VenueError` if `one is what somebody said`."),
        (CLASS, "A warm connection of one account."),
        (MODULE, "The write-ahead note. The dispatcher writes it. It survives the process. It never waits."),
    ],
)
def test_a_docstring_that_keeps_the_style_has_no_finding(node: ast.AST, text: str) -> None:
    assert list(prose.problems(text, node)) == []


@pytest.mark.parametrize(
    ("node", "text", "finding"),
    [
        (FUNCTION, "Say what is about to be done.", 'begins with "Say"'),
        (FUNCTION, "Send the command. Who left it is known.", 'begins with "Who"'),
        (FUNCTION, "Send the command that somebody left.", '"somebody" stands for a term'),
        (FUNCTION, "Send " + "a b c d e f g h i j k l m n o p q r s t u v w x y.", "26 words"),
        (FUNCTION, "Send the command", "ends without a period"),
        (FUNCTION, "Sends the command.", "no imperative"),
        (FUNCTION, "The command.", "no imperative"),
        (MODULE, "A. B. C. D. E.", "5 sentences"),
    ],
)
def test_a_docstring_against_the_style_has_a_finding_that_names_the_rule(
    node: ast.AST, text: str, finding: str
) -> None:
    assert [finding in problem for problem in prose.problems(text, node)] == [True]


@pytest.mark.parametrize(
    ("name", "vague"),
    [
        ("test_what_is_at_hand_leaves_first", ["what", "at_hand"]),
        ("test_a_latch_of_somebody_elses_stays", ["somebody"]),
        ("test_a_failure_is_told", ["told"]),
        ("test_the_standard_error_of_an_untold_whatsit_is_kept", []),
        ("test_the_prebuilt_command_leaves_before_the_record", []),
    ],
)
def test_a_test_name_with_a_word_in_place_of_its_subject_is_found(name: str, vague: list[str]) -> None:
    assert prose.NO_TEST_NAMES.findall(name) == vague


def test_a_rule_that_the_allow_list_does_not_have_yet_may_be_written() -> None:
    assert prose.grown({"test names": {"a.py": 3}}, {"docstrings": {}}) == []


def test_the_allow_list_may_shrink_and_move_but_not_grow() -> None:
    assert prose.grown({"docstrings": {"b.py": 2, "c.py": 1}}, {"docstrings": {"a.py": 3}}) == []
    assert prose.grown({"docstrings": {"a.py": 3, "b.py": 1}}, {"docstrings": {"a.py": 3}}) == ["docstrings"]
    assert prose.differences("docstrings", {"a.py": 1}, {"a.py": 2}) == ["a.py: 1 docstrings, 2 allowed"]


# names of other programs and protocols
FOREIGN = {"Age", "sock_connect", "create_default_context", "SSLSocket", "getpeercert"}


def test_each_identifier_that_a_docstring_or_comment_quotes_is_in_the_package() -> None:
    package = Path(__file__).parents[2] / "kill_switch"
    files = {path: path.read_text("utf-8") for path in sorted(package.rglob("*.py"))}
    names = {part for path in files for part in path.with_suffix("").parts} | FOREIGN
    quoted: list[tuple[str, str]] = []
    for path, text in files.items():
        place = str(path.relative_to(package))
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            prose_text = token.type == tokenize.COMMENT or token.string.startswith('"""')
            if token.type == tokenize.NAME or (token.type == tokenize.STRING and not prose_text):
                names.update(re.findall(r"\w+", token.string))
            elif prose_text:
                quoted += [(place, name) for name in re.findall(r"`([a-zA-Z][\w.]+\w)`", token.string)]
    missing = [(place, name) for place, name in quoted if not names.issuperset(name.removesuffix(".py").split("."))]
    assert len(quoted) > 1000
    assert missing == []
