"""A key of very many dotted words is refused before the parser spends time on it, and nothing else is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from kill_switch.config import toml_text
from kill_switch.config.loader import load
from kill_switch.config.salvage import salvage
from kill_switch.errors import ConfigError

WORDS = ".".join(["a"] * 100_000)  # takes `tomllib` minutes
WHY = "has more than 32 words with dots"


@pytest.mark.parametrize(
    "line",
    [
        f"{WORDS} = 1",
        f"[{WORDS}]",
        f"[[{WORDS}]]",
        f"x = {{ {WORDS} = 1 }}",
        f"x = [{{ {WORDS} = 1 }}]",
        WORDS.replace(".", " . ") + " = 1",
        WORDS.replace("a", '"a.\\" b"') + " = 1",
        WORDS.replace("a", "'a b'") + " = 1",
        WORDS,
    ],
    ids=lambda line: line[:8],
)
def test_a_key_of_100_000_words_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError, match=rf"{WHY} \(at line 3, column \d+\)"):
        toml_text.loads(f"[daemon]\n# a.b\n{line}\n")


@pytest.mark.parametrize(
    "text",
    [
        f'x = "{WORDS}"',
        f"x = '{WORDS}'",
        f'x = """\n{WORDS} = 1\n"""',
        f"x = '''\n{WORDS} = 1\n'''",
        f"x = 1 # {WORDS} = 1",
        ".".join(["a"] * 32) + " = 1",
        "x = [" + "1.5, " * 100 + "]",
        'x = ["' + '", "'.join(["www.a.b"] * 100) + '"]',
    ],
    ids=lambda text: text[:8],
)
def test_text_with_many_dots_that_is_no_key_of_many_words_is_read(text: str) -> None:
    assert toml_text.loads(text) == tomllib.loads(text)


def test_a_deep_key_is_reported_with_the_other_errors_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[daemon]\n{WORDS[:2001]} = 1\nbudget = 3x\n\n[accounts.a]\nvenue = oxfun\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    lines = [str(problem).partition(";")[0] for problem in caught.value.problems]
    assert lines == [
        f"line 2, column 1: a key {WHY}",
        "line 3, column 11: expected newline or end of document after a statement",
        "line 6, column 9: invalid value",
    ]


def test_a_direct_kill_leaves_out_the_account_with_a_deep_key_only() -> None:
    salvaged = salvage(f'[accounts.a]\nvenue = "oxfun"\n[accounts.b]\n{WORDS} = 1\n[accounts.c]\nvenue = "oxfun"\n')
    assert list(salvaged.document["accounts"]) == ["a", "c"] and list(salvaged.lost) == ["b"]
