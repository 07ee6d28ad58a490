"""`include`, `[defaults.<venue>]`, and the file and line of each problem."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from kill_switch.config import loader, toml_lines
from kill_switch.config.diff import diff_configs
from kill_switch.config.in_force import in_force
from kill_switch.config.rescue import rescue
from kill_switch.control import paths
from kill_switch.errors import ConfigError

MAIN = """\
include = ["accounts.d/*.toml"]
[daemon]
budget = "200ms"
[triggers.panic]
kind = "flag"
path = "/run/x/KILL"
"""
ENVIRON = {"KEY": "key-of-one-login", "OTHER": "key-of-another-login", "SECRET": "secret-of-them"}


def account(name: str, key: str = "KEY", more: str = "") -> str:
    return (
        f'[accounts.{name}]\nvenue = "oxfun"\napi_key = {{ env = "{key}" }}\n'
        f'api_secret = {{ env = "SECRET" }}\n{more}\n'
    )


def write(tmp_path: Path, main: str = MAIN, **included: str) -> Path:
    """Write a configuration and its included files, by their names without `.toml`; return its path."""
    (tmp_path / "accounts.d").mkdir(exist_ok=True)
    for name, text in included.items():
        (tmp_path / "accounts.d" / f"{name}.toml").write_text(text)
    path = tmp_path / "config.toml"
    path.write_text(main)
    return path


def load(path: Path) -> loader.Config:
    return loader.load(path, environ=ENVIRON)


def refused(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(path)
    return str(error.value).splitlines()


def test_accounts_of_included_files_come_behind_those_of_the_main_file_in_the_order_of_the_files_names(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, MAIN + account("z"), b=account("b", "OTHER"), a='[defaults.oxfun]\ntags = ["desk:mm"]\n')
    config = load(path)
    assert list(config.accounts) == ["z", "b"]
    assert config.triggers["panic"].accounts == ("z", "b")
    assert config.accounts["b"].tags == config.accounts["z"].tags == ("desk:mm",)
    assert config.files == (path, tmp_path / "accounts.d" / "a.toml", tmp_path / "accounts.d" / "b.toml")
    assert paths.account_names(path) == ("z", "b")


def test_a_pattern_that_matches_nothing_is_fine_and_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert load(write(tmp_path, MAIN + account("z"))).accounts
    main = 'include = ["more.toml"]\n' + account("z")
    assert refused(write(tmp_path, main)) == [
        f"{tmp_path}/more.toml: file: no such file or directory; "
        'expected an array of files, such as ["accounts.d/*.toml"]'
    ]


def test_a_pattern_that_matches_the_main_file_reads_it_once(tmp_path: Path) -> None:
    assert list(load(write(tmp_path, 'include = ["*.toml", "./*.toml"]\n' + account("z"))).accounts) == ["z"]


def test_a_name_in_two_files_is_a_problem_with_both_places(tmp_path: Path) -> None:
    path = write(tmp_path, MAIN + account("mm1"), a=f"\n{account('mm1', 'OTHER')}")
    assert refused(path) == [
        f"{tmp_path}/accounts.d/a.toml:2: accounts.mm1: defined at {path}:7 too; call one of the two something else"
    ]


def test_every_problem_of_every_file_is_reported_at_once_with_its_file_and_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        MAIN.replace('"200ms"', "200") + account("z"),
        a=account("a", "OTHER", 'tags = ["desk:mm",\n  "no tag"]\nzz = 1'),
        b="[accounts.b\n",
        c="[daemon]\nbudget = 1\n",
        d="include = ['x']\n",
    )
    found = [line.partition("; ")[0] for line in refused(path)]
    where = f"{tmp_path}/accounts.d"
    assert [line.split(": ")[0] for line in sorted(found)] == [
        f"{where}/a.toml:6",
        f"{where}/a.toml:7",
        f"{where}/b.toml",
        f"{where}/c.toml",
        f"{where}/d.toml",
        f"{path}:3",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_an_included_file_or_its_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, MAIN, a=account("a"))
    (tmp_path / "accounts.d" / "a.toml").chmod(0o666)
    assert "include[0]: everyone can write to it" in refused(path)[0]
    (tmp_path / "accounts.d" / "a.toml").chmod(0o640)
    (tmp_path / "accounts.d").chmod(0o777)
    assert f"include[0]: everyone can write to it; chmod o-w {tmp_path}/accounts.d" in refused(path)[0]


def test_a_directory_in_the_place_of_an_included_file_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, MAIN + account("z"))
    (tmp_path / "accounts.d" / "d.toml").mkdir()
    assert "not a regular file" in refused(path)[0]


def test_a_pipe_in_the_place_of_an_included_file_is_an_error_and_does_not_block(tmp_path: Path) -> None:
    path = write(tmp_path, MAIN + account("z"))
    os.mkfifo(tmp_path / "accounts.d" / "p.toml")
    assert "not a regular file" in refused(path)[0]


def test_a_direct_kill_uses_all_usable_files_and_names_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, MAIN + account("z"), a=account("a", "OTHER"), c=account("z", "OTHER"))
    (tmp_path / "accounts.d" / "b.toml").mkdir()
    rescued = rescue(path, environ=ENVIRON)
    assert list(rescued.config.accounts) == ["z", "a"]
    assert list(rescued.unread) == [f"{tmp_path}/accounts.d/b.toml", f"[accounts.z] of {tmp_path}/accounts.d/c.toml"]


def test_a_change_of_an_included_file_is_a_change_of_the_configuration_in_force(tmp_path: Path) -> None:
    old = load(write(tmp_path, a=account("a")))
    new = load(write(tmp_path, a=account("a", more='tags = ["desk:mm"]'), b=account("b", "OTHER")))
    assert diff_configs(old, new).added == ("b",)
    assert in_force(old) != in_force(new)


# ── defaults ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_account_has_its_venues_defaults_and_its_own_keys_go_before_them(tmp_path: Path) -> None:
    defaults = '[defaults.oxfun]\nmax_connections = 9\napi_secret = { env = "SECRET" }\n'
    bare = '[accounts.a]\nvenue = "oxfun"\napi_key = { env = "KEY" }\n'
    config = load(write(tmp_path, MAIN + defaults + bare + account("b", "OTHER", "max_connections = 5")))
    assert [each.options.max_connections for each in config.accounts.values()] == [9, 5]
    rescued = rescue(tmp_path / "config.toml", environ=ENVIRON).config
    assert [each.options.max_connections for each in rescued.accounts.values()] == [9, 5]


def test_a_problem_of_a_default_is_reported_once_and_at_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "[defaults.oxfun]\nzz = 1\nmax_connections = 0\n" + account("a") + account("b", "OTHER"))
    found = [line.partition("; ")[0] for line in refused(path)]
    assert sorted(line.rpartition(":")[0] for line in found) == [
        f"{path}:2: defaults.oxfun.zz",
        f"{path}:3: defaults.oxfun.max_connections",
    ]


def test_defaults_of_no_venue_or_with_a_venue_in_them_are_problems(tmp_path: Path) -> None:
    path = write(tmp_path, '[defaults.oxfan]\n[defaults.roxom]\nvenue = "oxfun"\n' + account("a"))
    assert refused(path)[0].startswith(f'{path}:1: defaults.oxfan: no venue; did you mean "oxfun"?')
    assert refused(path)[1].startswith(f"{path}:3: defaults.roxom.venue: the venue is the table's name")


def test_the_defaults_of_a_ccxt_venue_are_known_and_one_that_is_not_offered_has_the_reason(tmp_path: Path) -> None:
    keys = 'api_key = { env = "KEY" }\napi_secret = { env = "SECRET" }\n'
    venue = '[defaults."ccxt:bybit"]\ntags = ["desk:mm"]\n[accounts.a]\nvenue = "ccxt:bybit"\n'
    assert load(write(tmp_path, MAIN + venue + keys)).accounts["a"].tags == ("desk:mm",)
    (problem,) = refused(write(tmp_path, MAIN + '[defaults."ccxt:okx"]\ntags = ["x"]\n' + account("a")))
    assert '"ccxt:okx" is not offered; ' in problem and "did you mean" not in problem
    (problem,) = refused(write(tmp_path, MAIN + '[defaults."ccxt:bybot"]\ntags = ["x"]\n' + account("a")))
    assert 'no venue; did you mean "ccxt:bybit"?' in problem and "oxfun" not in problem


# ── lines ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

HARD = '''
"a b".c = 1 # x = 2
text = """
[accounts.no]
k = \\"""1\\"""
"""
raw = \'\'\'
no = 1\'\'\'
list = [ # comment ]
  "one", [2,
  3], {x = 1, "y z" = [
     4 ]},
]
when = 1979-05-27 07:32:00
empty = ""

[ accounts . "m]m" ] # [accounts.x]
venue = 'a"b'
options = { deep = { er = 1 } }
[[hooks]]
a = 1
[[hooks]]
a = 2
'''


def test_each_key_and_element_has_its_line_whatever_strings_and_comments_hold() -> None:
    tomllib.loads(HARD)
    assert toml_lines.key_lines(HARD) == {
        '"a b"': 2,
        '"a b".c': 2,
        "text": 3,
        "raw": 7,
        "list": 9,
        "list[0]": 10,
        "list[1]": 10,
        "list[1][0]": 10,
        "list[1][1]": 11,
        "list[2]": 11,
        "list[2].x": 11,
        'list[2]."y z"': 11,
        'list[2]."y z"[0]': 12,
        "when": 14,
        "empty": 15,
        "accounts": 17,
        'accounts."m]m"': 17,
        'accounts."m]m".venue': 18,
        'accounts."m]m".options': 19,
        'accounts."m]m".options.deep': 19,
        'accounts."m]m".options.deep.er': 19,
        "hooks": 20,
        "hooks[0]": 20,
        "hooks[0].a": 21,
        "hooks[1]": 22,
        "hooks[1].a": 23,
    }


@pytest.mark.parametrize("text", ["[", "a", "a = [1, 2", 'a = "', "=", "[[a]", "{", '"""', "a = {b"])
def test_a_text_that_is_no_toml_ends_the_scan(text: str) -> None:
    toml_lines.key_lines(text)


def test_a_key_that_is_missing_has_the_line_of_its_table(tmp_path: Path) -> None:
    path = write(tmp_path, '\n[accounts.a]\nvenue = "oxfun"\napi_key = { env = "KEY" }\n')
    assert refused(path)[0].startswith(f"{path}:2: accounts.a.api_secret: missing")
