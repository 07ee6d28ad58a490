"""Of a file with a syntax error, what can be trusted is used; an account is used whole or not at all."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kill_switch.config.salvage import salvage

DAEMON = '[daemon]\nruntime_dir = "/run/x"\n'


def table(name: str, *more: str) -> str:
    return f'[accounts.{name}]\nvenue = "oxfun"\n' + "".join(f"{line}\n" for line in more)


def accounts(text: str) -> tuple[list[str], list[str]]:
    """Return the accounts that are trusted, and those that are lost."""
    salvaged = salvage(text)
    return sorted(salvaged.document.get("accounts", {})), sorted(salvaged.lost)


@pytest.mark.parametrize(
    ("text", "trusted", "lost"),
    [
        (DAEMON + table("a") + table("b", "tags = [x]") + table("c"), ["a", "c"], ["b"]),
        (DAEMON + table("a") + table("b", 'api_key = "x') + table("c"), ["a", "c"], ["b"]),
        (DAEMON + table("a") + table("b", 'tags = ["x"') + table("c"), ["a", "c"], ["b"]),
        (DAEMON + table("a") + table("b", 'tags = ["x"'), ["a"], ["b"]),
        (table("a") + '[accounts.b\nvenue = "oxfun"\n' + table("c"), ["a", "c"], ["b"]),
        (table("a") + "[accounts.b]]\n" + table("c"), ["a", "c"], ["b"]),
        (table("a") + table("b") + '[accounts.a.api_key]\nfile = "/k\n' + table("c"), ["b", "c"], ["a"]),
        (table("a") + table("b") + table("a") + table("c"), ["b", "c"], ["a"]),
        (table("a", "venue = 'roxom'") + table("b"), ["b"], ["a"]),
        ("x =\n" + table("a"), ["a"], []),
        ('accounts.a = { venue = "oxfun"\n' + table("b"), ["b"], ["a"]),
        ("[accounts]\na = { venue = x }\nb.venue = 'oxfun'\n" + DAEMON, [], ["a", "b"]),
        ('[accounts."a.b"]\nvenue = \n' + table("c"), ["c"], ["a.b"]),
        (table("a").replace("\n", "\r\n") + table("b", "=").replace("\n", "\r\n"), ["a"], ["b"]),
    ],
)
def test_only_the_accounts_that_the_error_is_in_are_lost(text: str, trusted: list[str], lost: list[str]) -> None:
    assert accounts(text) == (trusted, lost)


def test_a_table_header_within_a_multi_line_text_is_no_account() -> None:
    text = table("a") + '[accounts.b]\nnote = """\n' + table("old") + table("older") + '"""\ntags = [x]\n' + table("c")
    trusted, lost = accounts(text)
    assert trusted == ["a"]
    assert {"b", "old", "older", "c"} <= set(lost)


def test_a_text_that_does_not_end_takes_all_behind_it_along() -> None:
    assert accounts(table("a") + table("b", 'note = """') + table("c")) == (["a"], ["b", "c"])


def test_a_file_of_errors_is_given_up_and_not_parsed_for_ever() -> None:
    with pytest.raises(ValueError, match="too many"):
        salvage("".join(table(f"a{n}", "=") for n in range(100)))


def test_directories_are_found_in_a_part_that_is_left_out_unless_they_are_unclear() -> None:
    assert salvage('[daemon]\nruntime_dir = "/run/x"\nbudget = 2 s\n').directories == {"runtime_dir": "/run/x"}
    assert salvage("[daemon]\nstate_dir = /var\nbudget = 2 s\n").directories == {"state_dir": None}


def test_a_bracket_that_begins_no_table_excludes_the_table_around_it() -> None:
    saved = salvage(table("a", "[nt_accounts = []", 'api_key = "k"') + table("b"))
    assert saved.lost == {"a": "lines 1 to 4"}
    assert list(saved.document["accounts"]) == ["b"]


WHOLE = (
    DAEMON + table("a", 'tags = ["x", "y"]', 'api_key = { file = "/k" }') + table("b", "flatten = true") + table("c")
)


@given(st.integers(0, len(WHOLE)), st.sampled_from(['"', "'", "[", "]", "{", "=", "\n", "#", '"""', "\x00", "x"]))
def test_whatever_is_typed_into_a_file_no_account_is_trusted_that_is_not_as_it_was(at: int, typed: str) -> None:
    text = WHOLE[:at] + typed + WHOLE[at:]
    try:
        tomllib.loads(text)
    except ValueError:
        pass
    else:
        return  # it is another file, and a right one
    whole = tomllib.loads(WHOLE)["accounts"]
    try:
        trusted = salvage(text).document.get("accounts", {})
    except ValueError:
        return
    assert all(whole[name] == made for name, made in trusted.items())
