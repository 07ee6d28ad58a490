"""`check` calls nothing good that `run` would not start with."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kill_switch.cli import main
from kill_switch.config.loader import load
from kill_switch.daemon import preflight
from kill_switch.journal.journal import Journal

NOBODY = 65534
EQUITY = (
    '[triggers.x]\nkind = "pnl"\naccounts = ["a"]\nrates = { OX = "0.5" }\ncurrency = "USD"\nmax_loss = "5"\n'
    'reset = "17:00 America/New_York"\non_blind = "alarm"\nstale_after = "1m"\n'
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


class Site:
    """A configuration, and the directories that it names."""

    def __init__(self, directory: Path) -> None:
        self.state, self.run = directory / "state", directory / "run"
        self.file = directory / "config.toml"
        self.taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.write()

    def write(self, more: str = "", accounts: str = "", daemon: str = "") -> None:
        self.file.write_text(
            f'[daemon]\nstate_dir = "{self.state}"\nruntime_dir = "{self.run}"\n{daemon}\n{more}\n'
            f'[accounts.a]\nvenue = "oxfun"\n'
            f'api_key = {{ env = "KEY" }}\napi_secret = {{ env = "SECRET" }}\n{accounts}\n'
        )

    def command(self, *words: str) -> Result:
        return CliRunner().invoke(main, [*words, "-c", str(self.file)])

    def found(self) -> list[str]:
        return list(map(str, preflight.problems(load(self.file).daemon)))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("KEY", "key-of-the-account")
    monkeypatch.setenv("SECRET", "secret-of-the-account")
    made = Site(tmp_path)
    yield made
    made.taken.close()


@contextmanager
def as_nobody(directory: Path) -> Iterator[None]:
    for above in (directory, *directory.parents):
        if above.is_relative_to("/tmp") and above != Path("/tmp"):
            above.chmod(above.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_directories_that_are_not_there_yet_are_no_problem_and_are_not_made(site: Site) -> None:
    assert site.command("check").exit_code == 0
    assert not site.state.exists() and not site.run.exists()


def break_it(site: Site, how: str) -> None:
    match how:
        case "a file in its place":
            site.state.write_text("")
        case "a file above it":
            site.state.parent.joinpath("file").write_text("")
            site.state = site.state.parent / "file" / "state"
            site.write()
        case "everyone may write":
            site.run.mkdir()
            site.run.chmod(0o777)
        case "too long":
            site.run = site.run.parent / ("x" * 100)
            site.write()
        case "no authorities":
            site.write(accounts='ca_file = "/nonexistent.pem"')
        case "a directory for a file":
            (site.state / "lock").mkdir(parents=True)


@pytest.mark.parametrize(
    "how",
    [
        "a file in its place",
        "a file above it",
        "everyone may write",
        "too long",
        "no authorities",
        "a directory for a file",
    ],
)
def test_check_refuses_every_configuration_that_run_refuses(how: str, site: Site) -> None:
    break_it(site, how)
    checked, ran = site.command("check"), site.command("run")
    assert ran.exit_code in (73, 78)
    assert checked.exit_code == 78, checked.output
    assert "Traceback" not in checked.output + ran.output
    assert "None" not in ran.output


@as_root
@pytest.mark.parametrize("whose", ["the directory", "the lock", "the group"])
def test_a_directory_of_another_user_is_a_problem(whose: str, site: Site) -> None:
    for directory in (site.state, site.run):
        directory.mkdir()
        os.chown(directory, NOBODY, NOBODY)
    match whose:
        case "the directory":
            os.chown(site.state, 1, 1)
            said = "daemon.state_dir: it belongs to uid 1, who could remove the latch"
        case "the lock":
            (site.state / "lock").touch(0o600)
            said = "daemon.state_dir: lock there cannot be opened: it belongs to uid 0"
        case _:
            site.write(more='group = "daemon"')
            said = "daemon.group: a group that this user is not in"
    with as_nobody(site.state.parent):
        assert [line[: len(said)] for line in site.found()] == [said]


@as_root
def test_root_checks_for_a_daemon_of_another_user(site: Site) -> None:
    for directory in (site.state, site.run):
        directory.mkdir()
        os.chown(directory, NOBODY, NOBODY)
    assert site.found() == []


@as_root
def test_default_directories_that_only_systemd_can_make_are_a_note(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/nonexistent/state")
    text = site.file.read_text().replace(f'state_dir = "{site.state}"\n', "")
    site.file.write_text(text)
    tmp_path.chmod(0o777)
    with as_nobody(tmp_path):
        assert site.found() == []
        (note,) = preflight.notes(load(site.file))
    assert "/nonexistent/state does not exist" in note


def test_accounts_that_share_a_limit_so_that_the_guard_looks_rarely_are_a_note(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = ""
    for number in range(39):
        monkeypatch.setenv(f"KEY{number}", f"key-of-account-{number}-of-many")
        keys = f'api_key = {{ env = "KEY{number}" }}\napi_secret = {{ env = "SECRET" }}'
        others += f'[accounts.b{number}]\nvenue = "oxfun"\n{keys}\n'
    assert list(preflight.notes(load(site.file))) == []
    site.write(accounts=others)
    found = list(preflight.notes(load(site.file)))
    assert len(found) == 40
    words = "its venue's limit is small for all who share it: its orders are read every 15s only while it is tripped"
    assert found[0] == f"accounts.a: {words}"
    site.write(accounts=others, more=EQUITY)
    measured, *others_found = preflight.notes(load(site.file))
    assert measured == f"accounts.a: {words.replace('15s', '30s')}; its equity is read every 18s"
    assert others_found == found[1:]


def test_a_port_of_another_process_is_a_note(site: Site) -> None:
    site.taken.bind(("127.0.0.1", 0))
    site.write(more=f'[intake]\nudp = "127.0.0.1:{site.taken.getsockname()[1]}"')
    done = site.command("check", "--json")
    assert done.exit_code == 0
    unsigned, note = json.loads(done.stdout)["notes"]
    assert note.startswith("intake.udp: cannot be listened on: Address already in use")
    assert unsigned.startswith("intake.udp: without [intake] key, every user of this machine can send heartbeats")


@pytest.mark.parametrize("place", ["of another process", "of another host"])
def test_an_address_of_the_metrics_that_cannot_be_listened_on_is_a_note(site: Site, place: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}", "Address already in use"
        at, why = taken if place == "of another process" else ("10.255.255.1:9464", "Cannot assign requested address")
        site.write(daemon=f'metrics = "{at}"\nmetrics_plain = true')
        done = site.command("check", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["notes"] == [
        f"daemon.metrics: cannot be listened on: {why}: until then, nobody can read the metrics"
    ]


def test_a_runtime_directory_too_long_for_sockets_is_named_with_the_remedy(site: Site) -> None:
    break_it(site, "too long")
    ran = site.command("run")
    assert ran.exit_code == 73
    assert "too long for a socket in it by" in ran.output
    assert "set a shorter daemon.runtime_dir" in ran.output


def test_a_flag_whose_directory_is_not_there_is_a_note(site: Site) -> None:
    site.write(more='[triggers.panic]\nkind = "flag"\npath = "/nonexistent/KILL"')
    done = site.command("check", "--json")
    assert done.exit_code == 0
    (note,) = json.loads(done.stdout)["notes"]
    assert "there is no directory /nonexistent: the trigger would be blind" in note


def test_a_daemon_that_runs_and_holds_everything_is_no_problem(site: Site, tmp_path: Path) -> None:
    site.state.mkdir()
    site.run.mkdir()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as control:
        udp.bind(("127.0.0.1", 0))
        control.bind(str(site.run / "control.sock"))
        control.listen()
        site.write(more=f'[intake]\nudp = "127.0.0.1:{udp.getsockname()[1]}"')
        held = Journal(site.state, site.run)
        assert site.found() == []
        held.close()


def test_a_flag_that_is_there_is_a_note(site: Site, tmp_path: Path) -> None:
    flag = tmp_path / "KILL"
    flag.symlink_to("/nonexistent")  # whatever it is: the trigger follows no link either
    site.write(more=f'[triggers.panic]\nkind = "flag"\npath = "{flag}"')
    done = site.command("check", "--json")
    assert done.exit_code == 0
    (note,) = json.loads(done.stdout)["notes"]
    assert note == f"triggers.panic.path: {flag} is there: the daemon trips at once when it starts"
