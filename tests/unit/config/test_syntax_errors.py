"""Each syntax error of a file is named with its line, and the rest is judged without an error that is none."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from kill_switch.config.loader import load
from kill_switch.config.syntax_errors import UNKNOWN, find
from kill_switch.errors import ConfigError

GOOD = """\
[daemon]
budget = "250ms"

[accounts.mm1]
venue = "oxfun"
tags = ["desk:mm"]
api_key = { env = "K" }
api_secret = { env = "S" }

[accounts.rx1]
venue = "oxfun"
api_key = { env = "K2" }
api_secret = { env = "S2" }

[triggers.alive]
kind = "heartbeat"
timeout = "3s"
accounts = ["mm1", "desk:mm"]

[triggers.panic]
kind = "flag"
path = "/run/desk/KILL"
"""
ENVIRON = {"K": "key-0001", "S": "secret-0001", "K2": "key-0002", "S2": "secret-0002"}


def faults(tmp_path: Path, *changes: tuple[str, str], more: str = "") -> list[str]:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "config.toml"
    path.write_text(text + more)
    with pytest.raises(ConfigError) as caught:
        load(path, environ=ENVIRON)
    return [
        line.partition(" expected TOML")[0].removeprefix(f"{path}:").strip() for line in str(caught.value).split("\n")
    ]


def test_errors_of_several_lines_and_tables_are_reported_at_once_with_those_of_good_tables(tmp_path: Path) -> None:
    assert faults(
        tmp_path,
        ('venue = "oxfun"', 'venue = "oxfun'),
        ('{ env = "S" }', "{ env = S }"),
        ('timeout = "3s"', "timeout = 3s"),
        ("/run/desk/KILL", "run/desk/KILL"),
    ) == [
        "line 5, column 15: the string has no closing quote;",
        "line 8, column 22: invalid value;",
        "line 17, column 12: expected newline or end of document after a statement;",
        '22: triggers.panic.path: "run/desk/KILL", not an absolute path; it must begin with "/"',
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("[accounts.mm1]", "[accounts.mm1"), "line 4, column 14: expected ']' at the end of a table declaration;"),
        (("[accounts.mm1]", "accounts.mm1]"), "line 4, column 13: expected '=' after a key in a key/value pair;"),
        (('["desk:mm"]', '["desk:mm"'), "line 7, column 1: unclosed array;"),
        (('["mm1", "desk:mm"]', '["mm1", "desk:mm"'), "lines 15 to 19: unclosed array;"),
        (("[accounts.rx1]", "[accounts.mm1]"), "line 10, column 14: cannot declare ('accounts', 'mm1') twice;"),
        (('budget = "250ms"', 'budget = "250ms'), "line 2, column 16: the string has no closing quote;"),
        (("[daemon]\nbudget", "[daemon]\nx = '''\nbudget"), "line 5, column 1: unterminated string;"),
        (('tags = ["desk:mm"]', "what is this"), "line 6, column 6: expected '=' after a key in a key/value pair;"),
    ],
)
def test_an_error_causes_no_other_one(tmp_path: Path, change: tuple[str, str], line: str) -> None:
    found = faults(tmp_path, change)
    assert len(found) == 1 and (found == [line] or "'''" in change[1]), found


def test_a_value_over_lines_that_look_like_headers_is_whole(tmp_path: Path) -> None:
    nested = '[hooks]\non_trip = [\n["a"]\n]\n'
    assert faults(tmp_path, ('timeout = "3s"', "timeout = 3s"), more=nested)[0].startswith("line 17, column 12:")
    assert find(GOOD.replace('"3s"', "3s") + nested).tables["hooks"] == {"on_trip": [["a"]]}


def test_the_syntax_errors_of_an_included_file_keep_its_accounts_from_being_called_unknown(tmp_path: Path) -> None:
    more = tmp_path / "more.toml"
    more.write_text('[accounts.in1]\nvenue = \n[accounts.in2]\nvenue = "nosuch"\n[triggers.x]\nkind = 5 5\n')
    found = faults(
        tmp_path, ("[daemon]", 'include = ["more.toml"]\n[daemon]'), ('["mm1", "desk:mm"]', '["mm1", "in1", "nowhere"]')
    )
    assert found[0] == f"{more}: line 2, column 9: invalid value;"
    assert found[1] == f"{more}: line 6, column 10: expected newline or end of document after a statement;"
    assert len(found) == 3 and found[2].startswith(f'{more}:4: accounts.in2.venue: "nosuch"')


def test_many_errors_end_the_search_and_accuse_nothing_else() -> None:
    found = find("".join(f"[triggers.t{number}]\nkind = \n" for number in range(50)))
    assert len(found.problems) == 20 and "" in found.faulty


def test_the_search_parses_a_text_of_many_tables_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, parsed = tomllib.loads, []

    def count(text: str) -> dict[str, object]:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", count)
    text = "".join(f"[a{number}]\n" for number in range(2000)) + "x =\n"
    assert [problem.path for problem in find(text).problems] == ["line 2001, column 4"]
    assert sum(parsed) < 10 * len(text)


def test_of_a_text_that_is_too_long_to_search_the_first_error_is_reported() -> None:
    faults = find("x =\n" + "# words\n" * 30_000 + "y =\n")
    assert [problem.path for problem in faults.problems] == ["line 1, column 4"]
    assert not faults.text and not faults.tables and set(faults.faulty) == {UNKNOWN}
