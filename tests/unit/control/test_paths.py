"""The commands that an emergency needs start fast: they import next to nothing, and find the daemon all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kill_switch.config import defaults, loader, toml_file
from kill_switch.config.schema import DaemonConfig
from kill_switch.control import paths
from kill_switch.errors import ConfigError

HEAVY = (
    "pydantic",
    "anyio",
    "asyncio",
    "httpx",
    "rich",
    "cryptography",
    "websockets",
    "orjson",
    "kill_switch.config.loader",
)

IMPORTED = """
import json, sys
from kill_switch.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    json.dump({"code": end.code, "modules": sorted(sys.modules)}, sys.stdout)
"""


@pytest.mark.parametrize(
    "words",
    [
        ("fire", "--reason", "x", "--json"),
        ("status", "--json"),
        ("beat", "alive"),
        ("rearm", "--reason", "x", "--json"),
    ],
)
def test_a_command_that_asks_the_daemon_imports_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[daemon]\nruntime_dir = "{tmp_path}"\n')
    command = [sys.executable, "-c", IMPORTED, words[0], "-c", str(file), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"] == 69  # it has got as far as asking: there is no daemon
    assert [name for name in HEAVY if name in told["modules"]] == []


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ('[daemon]\nruntime_dir = "/run/x"\n', {}),
        ('[daemon]\nruntime_dir = "/run/x"\n', {"RUNTIME_DIRECTORY": "/run/y", "KILL_SWITCH_UNIT": "yes"}),
        ("", {"RUNTIME_DIRECTORY": "/run/y:/run/z", "KILL_SWITCH_UNIT": "yes"}),
        ("", {"RUNTIME_DIRECTORY": "/run/quoter"}),
        ('\ufeff[daemon]\nstart = "a typo that is not our business"\n', {}),
    ],
)
def test_the_runtime_directory_is_the_one_that_the_whole_configuration_would_give(
    text: str, environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    found = paths.runtime_dir(file, environ=environ)
    assert found == loader.runtime_dir(file, environ=environ)
    assert paths.runtime_dir(None, environ={"KILL_SWITCH_CONFIG": str(file), **environ}) == found


def test_a_default_file_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CONFIG", "/nonexistent/config.toml")
    assert paths.runtime_dir(None, environ={}) == Path("/run/kill-switch")


def test_the_defaults_are_those_of_the_whole_configuration() -> None:
    assert str(toml_file.DEFAULT) == defaults.CONFIG
    assert str(DaemonConfig().runtime_dir) == defaults.RUNTIME_DIR


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('daemon = "x"', "expected a table [daemon]"),
        ("[daemon]\nruntime_dir = 7\n", "expected an absolute path"),
        ('[daemon]\nruntime_dir = "run"\n', 'it must begin with "/"'),
        ('[daemon]\nruntime_dir = "/run/\\u0007"\n', "leave them out"),
        ('[daemon]\nruntime_dir = "/run/x\n', "not understood; the daemon's directories are unclear"),
        ("[daemon]\nruntime_dir = '/run/x'\nruntime_dir = '/run/y'\n", "not understood"),
    ],
)
def test_a_problem_has_the_words_of_the_whole_configuration(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        paths.runtime_dir(file, environ={})
    assert says in str(caught.value)


def test_a_file_that_was_named_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        paths.runtime_dir(tmp_path / "config.toml", environ={})


@pytest.mark.parametrize(
    ("text", "directory", "left_out"),
    [
        ('[daemon]\nruntime_dir = "/run/x"\n[accounts.a]\nvenue = oxfun\n', "/run/x", "lines 3 to 5"),
        ('[accounts.a]\nvenue = oxfun\n[daemon]\nruntime_dir = "/run/x"\n', "/run/x", "lines 1 to 2"),
        ("[daemon]\nruntime_dir = '/run/x' # here\nbudget = 250 ms\n", "/run/x", "lines 1 to 4"),
        ('daemon.runtime_dir = "/run/x"\nbudget = \n[accounts.a]\n', "/run/x", "lines 1 to 2"),
        ("[accounts.a\n", "/run/y", "lines 1 to 2"),
        ("}}}}", "/run/y", "lines 1 to 1"),
    ],
)
def test_the_daemon_is_reached_despite_a_syntax_error_which_is_reported(
    text: str, directory: str, left_out: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    said: list[str] = []
    environ = {"RUNTIME_DIRECTORY": "/run/y", "KILL_SWITCH_UNIT": "yes"}
    found = paths.runtime_dir(file, environ=environ, say=said.append)
    assert found == Path(directory)
    assert len(said) == 1 and f"{left_out} cannot be understood" in said[0] and directory in said[0]


def test_the_daemon_is_reached_despite_a_comment_that_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes('# Börse\n[daemon]\nruntime_dir = "/run/x"\n'.encode("latin-1"))
    said: list[str] = []
    assert paths.runtime_dir(file, environ={}, say=said.append) == Path("/run/x")
    assert len(said) == 1 and "not UTF-8" in said[0]
