"""A flag that is there for ever trips for ever, so the configuration refuses it. One beside our files is legal."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from kill_switch.config import flag_paths
from kill_switch.config.loader import load
from kill_switch.errors import ConfigError
from kill_switch.journal.journal import NAME as JOURNAL
from kill_switch.journal.latch_file import LATCH_NAME as LATCH
from kill_switch.journal.write_ahead import NAME as INTENT
from tests.harness.hanging_files import CannotHang, hung
from tests.unit.daemon.test_reload import Play

HINT = "it is always there, and the trigger would trip for ever; expected a path that nothing else has"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Home:
    """A machine's directories, with a configuration that uses them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("lib/state", "run/ours", "etc/keys", "etc/credentials", "elsewhere", "ca"):
            (root / name).mkdir(parents=True)
        for name in ("etc/keys/key", "etc/credentials/secret"):
            (root / name).write_text("a-key-of-the-account")
            (root / name).chmod(0o600)
        self.environ = {"CREDENTIALS_DIRECTORY": str(root / "etc/credentials")}

    def problems(self, *flags: str, more: str = "", runtime_dir: str = "run/ours") -> list[str]:
        """Load a configuration with these flags, each below the machine's root unless it begins with "/"."""
        text = f"""
        [daemon]
        state_dir = "{self.root}/lib/state"
        runtime_dir = "{self.root}/{runtime_dir}"
        [accounts.a]
        venue = "oxfun"
        api_key = {{ file = "{self.root}/etc/keys/key" }}
        api_secret = {{ credential = "secret" }}
        """
        for number, flag in enumerate(flags):
            text += f'[triggers.flag{number}]\nkind = "flag"\npath = "{self.at(flag)}"\n'
        source = self.root / "etc" / "config.toml"
        source.write_text(text + more)
        try:
            load(source, environ=self.environ)
        except ConfigError as error:
            refusal = error
        else:
            return []
        assert refusal.exit_code == 78
        return [str(problem) for problem in refusal.problems]

    def at(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.root}/{path}"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path.resolve() / "machine")


@pytest.mark.parametrize(
    ("flag", "what"),
    [
        ("lib/state", "is daemon.state_dir"),
        ("lib/state/", "is daemon.state_dir"),
        ("lib/./state/../state", "is daemon.state_dir"),
        ("run/ours", "is daemon.runtime_dir"),
        ("lib", "holds daemon.state_dir"),
        ("run", "holds daemon.runtime_dir"),
        ("/", "holds the configuration itself"),
        ("run/ours/..", "holds daemon.runtime_dir"),
        ("run/ours/flag", "is a file or directory of the daemon's own"),
        ("run/ours/control.sock", "is a file or directory of the daemon's own"),
        ("run/ours/intake.sock", "is a file or directory of the daemon's own"),
        (f"run/ours/{INTENT}", "is a file or directory of the daemon's own"),
        (f"run/ours/{LATCH}", "is a file or directory of the daemon's own"),
        (f"lib/state/{JOURNAL}", "is a file or directory of the daemon's own"),
        (f"lib/state/{JOURNAL}.next", "is a file or directory of the daemon's own"),
        ("lib/state/journal-000001.jsonl", "is a file or directory of the daemon's own"),
        (f"lib/state/{LATCH}", "is a file or directory of the daemon's own"),
        ("lib/state/lock", "is a file or directory of the daemon's own"),
        ("etc/config.toml", "is the configuration itself"),
        ("etc", "holds the configuration itself"),
        ("etc/keys/key", "is accounts.a.api_key.file"),
        ("etc/keys", "holds accounts.a.api_key.file"),
        ("etc/credentials/secret", "is accounts.a.api_secret.credential"),
    ],
)
def test_a_flag_that_is_or_holds_something_of_ours_is_refused(home: Home, flag: str, what: str) -> None:
    assert home.problems(flag) == [f"triggers.flag0.path: {what}; {HINT}"]


def test_a_path_that_another_table_names_is_one_of_ours(home: Home) -> None:
    key = home.root / "etc/intake-key"
    key.write_text("a-key-of-the-intake")
    key.chmod(0o600)
    more = f'[intake]\nkey = {{ file = "{key}" }}\n[hooks]\non_trip = ["{home.root}/elsewhere/stop quoter"]\n'
    more += f'[notify]\ncommand = "{home.root}/elsewhere/page"\n'
    flags = ("etc/intake-key", "elsewhere/stop", "elsewhere/page")
    assert [line.split(";")[0] for line in home.problems(*flags, more=more)] == [
        "triggers.flag0.path: is intake.key.file",
        "triggers.flag1.path: is hooks.on_trip[0]",
        "triggers.flag2.path: is notify.command",
    ]


def test_a_flag_that_is_an_accounts_authorities_is_refused(home: Home) -> None:
    (told, *_) = home.problems("ca", more=f'[accounts.b]\nvenue = "oxfun"\nca_file = "{home.root}/ca/file.pem"\n')[-1:]
    assert told == f"triggers.flag0.path: holds accounts.b.ca_file; {HINT}"


@pytest.mark.anyio
async def test_whatever_the_daemon_makes_in_its_directories_is_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_a", "key-of-the-account")
    monkeypatch.setenv("SECRET", "secret-of-the-account")
    play = Play(tmp_path)
    play.state_dir, play.runtime_dir = home.root / "lib/state", home.root / "run/ours"
    async with play.running("a"):
        for _ in range(500):
            if (play.runtime_dir / "control.sock").exists():
                break
            await anyio.sleep(0.01)  # a thread makes it
        made = [f"{path.relative_to(home.root)}" for path in (*play.state_dir.iterdir(), *play.runtime_dir.iterdir())]
        assert {"lib/state/lock", "run/ours/control.sock"} <= set(made)
        assert [line.partition(": ")[2] for line in home.problems(*made)] == [
            f"is a file or directory of the daemon's own; {HINT}"
        ] * len(made)


@pytest.mark.parametrize("where", ["elsewhere/link", "elsewhere/link/state"])
def test_a_link_to_one_of_our_paths_is_resolved(home: Home, where: str) -> None:
    target = home.root / ("lib/state" if where.endswith("link") else "lib")
    (home.root / "elsewhere/link").symlink_to(target)
    assert home.problems(where) == [f"triggers.flag0.path: is daemon.state_dir; {HINT}"]


def test_a_link_on_our_own_side_is_seen_through(home: Home) -> None:
    (home.root / "run/link").symlink_to(home.root / "run/ours")
    assert home.problems("run/ours", runtime_dir="run/link") == [f"triggers.flag0.path: is daemon.runtime_dir; {HINT}"]


@pytest.mark.parametrize(
    "flag", ["/proc/self/status", "/proc", "/dev/null", "/sys/kernel", "/dev", "elsewhere/full", "elsewhere/full/.."]
)
def test_a_path_that_an_operator_cannot_remove_is_no_flag(home: Home, flag: str) -> None:
    (home.root / "elsewhere/full/files").mkdir(parents=True)
    (told,) = home.problems(flag)
    assert told.startswith("triggers.flag0.path: ")
    assert told.endswith(HINT)


@pytest.mark.parametrize(
    "flag",
    [
        "run/ours/KILL",
        "run/ours/flag/KILL",
        "run/ours/flag/desk/KILL",
        "lib/state/KILL",
        "elsewhere/KILL",
        "elsewhere/not/there/yet/KILL",
        "etc/keys/KILL",
        "run/ours-too",
        "/dev/shm/kill-switch-test/KILL",
    ],
)
def test_a_flag_beside_our_own_paths_is_accepted(home: Home, flag: str) -> None:
    assert home.problems(flag) == []


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, os.mkfifo])
def test_a_flag_that_is_there_now_is_no_fault_of_the_configuration(home: Home, make: object) -> None:
    assert callable(make)
    make(home.root / "elsewhere/KILL")
    assert home.problems("elsewhere/KILL") == []


@pytest.mark.parametrize("other", ["elsewhere/KILL", "elsewhere/x/../KILL", "elsewhere//KILL", "elsewhere/link/KILL"])
def test_one_file_for_two_flags_is_refused_with_both_however_it_is_spelt(home: Home, other: str) -> None:
    (home.root / "elsewhere/link").symlink_to(home.root / "elsewhere")
    assert home.problems("elsewhere/KILL", other) == [
        "triggers.flag1.path: the same file as triggers.flag0.path; expected one trigger a file"
    ]


def test_a_flag_that_holds_another_flags_directory_is_refused(home: Home) -> None:
    assert home.problems("run/ours/desk", "run/ours/desk/KILL") == [
        f"triggers.flag0.path: holds triggers.flag1.path; {HINT}"
    ]


@pytest.mark.parametrize(("state", "run"), [("run/ours", "run/ours"), ("run/link", "run/ours"), ("run/link/s", "run")])
def test_a_state_directory_that_goes_with_the_runtime_directory_is_refused_by_any_name(
    tmp_path: Path, state: str, run: str
) -> None:
    (tmp_path / "run/ours").mkdir(parents=True)
    (tmp_path / "run/link").symlink_to(tmp_path / "run/ours")
    source = tmp_path / "config.toml"
    account = '[accounts.a]\nvenue = "oxfun"\napi_key = { env = "K" }\napi_secret = { env = "K" }\n'
    source.write_text(f'[daemon]\nstate_dir = "{tmp_path}/{state}"\nruntime_dir = "{tmp_path}/{run}"\n{account}')
    with pytest.raises(ConfigError) as caught:
        load(source, environ={"K": "a-key-of-the-account"})
    (problem,) = caught.value.problems
    assert str(problem).startswith("daemon.state_dir: inside of runtime_dir; ")


def test_a_flags_file_system_that_hangs_keeps_no_daemon_from_starting(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flag_paths, "LOOK_WITHIN_S", 0.2)
    try:
        with hung(home.root / "elsewhere"):
            assert home.problems("elsewhere/KILL") == []
            assert len(home.problems("elsewhere/KILL", "elsewhere/./KILL")) == 1
    except CannotHang as why:
        pytest.skip(str(why))
