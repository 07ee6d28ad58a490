"""A kill uses what is right in a configuration, whatever else is wrong with it, and names what it leaves out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kill_switch.config import loader
from kill_switch.config.included_files import MOST_BYTES
from kill_switch.config.rescue import NOWHERE, RescuedConfig, rescue
from kill_switch.errors import ConfigError

ENVIRON = {"KEY": "key-of-the-account", "SECRET": "secret-of-the-account"}
SECRETS = 'api_key = { env = "KEY" }\napi_secret = { env = "SECRET" }\n'


def account(name: str, more: str = "", tags: str = '["desk:mm"]') -> str:
    return f'[accounts.{name}]\nvenue = "oxfun"\ntags = {tags}\n{SECRETS}{more}'


def read(directory: Path, text: str) -> RescuedConfig:
    path = directory / "config.toml"
    path.write_text(text)
    return rescue(path, environ=ENVIRON)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (account("b").replace('"SECRET"', '"GONE"'), "its variable is not set"),
        (account("b").replace('{ env = "SECRET" }', '{ file = "/nonexistent" }'), "its file does not exist"),
        (account("b").replace('{ env = "SECRET" }', '{ credential = "x" }'), "$CREDENTIALS_DIRECTORY is not set"),
        (account("b", 'ca_file = "/nonexistent"\n'), "no such file"),
        (account("b", f'ca_file = "{__file__}"\n'), "holds no certificate"),
        (account("b", 'ca_file = "/tmp"\n'), "not a regular file"),
        (account("b", "rest_url = 7\n"), "expected a string"),
        (account("b", 'rest_ur = "https://127.0.0.1"\n'), "unknown key"),
        (account("b").replace("oxfun", "oxfan"), 'did you mean "oxfun"'),
        (account("b", tags="7"), "expected an array"),
        ("[accounts]\nb = 7\n", "expected a table"),
        (account("b", "x = \n"), "not understood: lines"),
        ('[accounts.b]\nvenue = "roxom"\nprivate_key = { env = "KEY" }\napi_key = { env = "KEY" }\n', "private_key"),
    ],
)
def test_an_invalid_account_does_not_affect_the_others(wrong: str, why: str, tmp_path: Path) -> None:
    rescued = read(tmp_path, account("a") + wrong + account("c"))
    assert list(rescued.config.accounts) == ["a", "c"]
    assert list(rescued.left_out) == ["b"]
    assert why in "; ".join(map(str, rescued.left_out["b"]))
    with pytest.raises(ConfigError):
        loader.load(tmp_path / "config.toml", environ=ENVIRON)  # the daemon takes no such file


@pytest.mark.parametrize(
    "wrong",
    [
        '[triggers.panic]\nkind = "flagg"\n',
        "triggers = 7\n",
        '[intake]\nudp = "0.0.0.0:1"\n',
        "[drill]\ncron = 7\n",
        "[rearm]\napprovals = 0\n",
        '[daemon]\nbudget = "1ms"\nhedge_after = "x"\ngroup = "nobody-has-it"\n',
        "[notify]\nurls = [7]\n",
        "[nonsense]\n",
        "[triggers.panic]\nkind = flag\n",
    ],
)
def test_a_problem_outside_of_the_accounts_affects_no_account(wrong: str, tmp_path: Path) -> None:
    rescued = read(tmp_path, wrong + account("a"))
    assert list(rescued.config.accounts) == ["a"] and not rescued.left_out


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_huge_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def test_a_main_file_that_is_larger_than_an_included_one_may_be_is_read(tmp_path: Path) -> None:
    filler = f"# {'x' * 100}\n" * (MOST_BYTES // 100)
    assert list(read(tmp_path, filler + account("a")).config.accounts) == ["a"]
    assert list(read(tmp_path, f"[triggers.panic]\nkind = flag\n{filler}{account('b')}").config.accounts) == ["b"]


@pytest.mark.parametrize("make", [as_huge_file, lambda path: path.symlink_to("/dev/zero")])
def test_a_main_file_without_an_end_is_refused(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match="larger than 64 MiB"):
        rescue(tmp_path / "config.toml", environ=ENVIRON)


@pytest.mark.parametrize("make", [as_pipe, as_huge_file, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_an_included_file_that_cannot_be_read_affects_no_account_and_is_named(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    make(tmp_path / "x.toml")
    rescued = read(tmp_path, f"include = ['x.toml']\n{account('a')}")
    assert (list(rescued.config.accounts), list(rescued.unread)) == (["a"], [str(tmp_path / "x.toml")])


def test_an_included_file_whose_name_is_too_long_affects_no_account(tmp_path: Path) -> None:
    rescued = read(tmp_path, f"include = ['{'x' * 300}']\n{account('a')}")
    assert list(rescued.config.accounts) == ["a"] and rescued.unread


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
def test_an_included_file_in_a_directory_of_another_user_affects_no_account(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    for directory in (tmp_path, *tmp_path.parents[:-1]):
        if str(directory).startswith(tempfile.gettempdir() + "/"):
            directory.chmod(0o755)
    read(tmp_path, account("a"))  # imports what another user may not read
    (tmp_path / "config.toml").write_text(f"include = ['d/x.toml']\n{account('a')}")
    os.seteuid(65534)
    try:
        rescued = rescue(tmp_path / "config.toml", environ=ENVIRON)
    finally:
        os.seteuid(0)
    assert list(rescued.config.accounts) == ["a"] and rescued.unread


def test_a_table_that_is_nested_too_deeply_affects_no_other(tmp_path: Path) -> None:
    rescued = read(tmp_path, f"{account('a')}[more]\nx = {'[' * 5000}{']' * 5000}\n{account('b')}")
    assert list(rescued.config.accounts) == ["a", "b"]
    assert [str(problem) for problem in rescued.problems][-1] == "lines 6 to 7: left out; not TOML"


def test_directories_of_a_table_that_is_none_are_not_guessed(tmp_path: Path) -> None:
    daemon = read(tmp_path, "daemon = 5\n" + account("a")).config.daemon
    assert daemon.state_dir == daemon.runtime_dir == NOWHERE


def test_a_directory_that_is_wrong_is_not_guessed(tmp_path: Path) -> None:
    rescued = read(tmp_path, f'[daemon]\nstate_dir = 7\nruntime_dir = "{tmp_path}"\n' + account("a"))
    assert rescued.config.daemon.runtime_dir == tmp_path
    assert not rescued.config.daemon.state_dir.exists()
    assert any("daemon.state_dir" in str(problem) for problem in rescued.problems)


def test_a_file_without_an_account_that_can_be_used_is_an_error_that_says_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, account("a").replace("oxfun", "x") + account("b", "x =\n"))
    assert "accounts.a.venue" in str(caught.value) and "accounts.b: not understood" in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        rescue(tmp_path / "none.toml", environ=ENVIRON)


@pytest.mark.parametrize(
    ("selectors", "picked", "left_out", "unknown"),
    [
        ((), ("a", "c"), ("b", "d"), ()),
        (("a",), ("a",), (), ()),
        (("b",), (), ("b",), ()),
        (("desk:mm",), ("a",), ("b", "d"), ()),
        (("desk:fx",), ("c",), ("d",), ()),
        (("c", "typo"), ("c",), ("d",), ("typo",)),
    ],
)
def test_a_refused_scope_names_the_left_out_accounts_that_may_be_meant(
    selectors: tuple[str, ...],
    picked: tuple[str, ...],
    left_out: tuple[str, ...],
    unknown: tuple[str, ...],
    tmp_path: Path,
) -> None:
    text = account("a") + account("b", "nonsense = 1\n") + account("c", tags='["desk:fx"]') + account("d", tags="7")
    assert read(tmp_path, text).select(selectors) == (picked, left_out, unknown)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_root_uses_a_key_file_of_the_daemons_user(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("key-in-a-file")
    key.chmod(0o400)
    os.chown(key, 65533, 65533)
    rescued = read(tmp_path, key_in(account("a"), key))
    assert list(rescued.config.accounts) == ["a"]


def test_a_world_readable_key_is_reported_and_used_by_a_direct_kill(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("key-of-the-account")
    key.chmod(0o644)
    rescued = read(tmp_path, key_in(account("a"), key))
    assert list(rescued.config.accounts) == ["a"] and not rescued.left_out
    assert [str(problem).partition(";")[0] for problem in rescued.problems] == [
        "accounts.a.api_secret: its file can be read by everyone (mode 0644)"
    ]
    key.chmod(0o666)  # it may be another account's key by now
    assert list(read(tmp_path, account("b") + key_in(account("a"), key)).left_out) == ["a"]


def key_in(text: str, key: Path) -> str:
    return text.replace('{ env = "SECRET" }', f'{{ file = "{key}" }}')


def test_either_name_of_the_second_routes_key_counts_in_a_file_that_is_wrong_elsewhere(tmp_path: Path) -> None:
    text = '[nonsense]\n[daemon]\nsecond_route_after = "50ms"\n' + account("a")
    assert read(tmp_path, text).config.daemon.second_route_after_s == 0.05
