"""The way to kill that works on this host, by its secrets, its user and systemd; and the run of the unit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kill_switch.cli import last_resort, next_steps
from kill_switch.cli.next_steps import UNIT, HostFacts
from kill_switch.control import paths
from kill_switch.errors import Unreachable, Unresponsive

CREDENTIAL = '[accounts.mm1]\napi_key = { credential = "key" }\n'
FILE = '[accounts.mm1]\napi_key = { file = "/srv/key" }\n'


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root directory with systemd, the unit, and the service's configuration."""
    monkeypatch.setattr(next_steps, "CONFIG", str(tmp_path / "config.toml"))
    for directory in ("run/systemd/system", "etc/systemd/system"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/systemd/system" / f"{UNIT}.service").touch()
    return tmp_path


def found(host: Path, text: str, **environ: str) -> HostFacts:
    (host / "config.toml").write_text(text)
    return next_steps.look(None, {"KILL_SWITCH_CONFIG": str(host / "config.toml"), **environ}, host)


@pytest.mark.parametrize(
    ("text", "needs_unit"),
    [
        (CREDENTIAL, True),
        (FILE, False),
        ("[defaults.oxfun]\napi_key = { credential = 'key' }\n", True),
        ("include = ['more/*.toml', '/etc/x', 7]\n", True),
        ("accounts = 7", False),
        ("no TOML", False),
    ],
)
def test_secrets_that_are_credentials_need_the_unit_wherever_the_configuration_names_them(
    text: str, needs_unit: bool, host: Path
) -> None:
    (host / "more").mkdir()
    (host / "more/mm1.toml").write_text(CREDENTIAL)
    assert found(host, text)[1:3] == (True, needs_unit)
    assert not found(host, text, CREDENTIALS_DIRECTORY="/run/credentials").needs_unit  # within the unit itself


def test_the_unit_is_no_way_for_another_configuration_and_none_where_systemd_does_not_run(host: Path) -> None:
    found(host, CREDENTIAL)
    (host / "other.toml").write_text(CREDENTIAL)
    assert not next_steps.look(host / "other.toml", {}, host).has_unit
    (host / "run/systemd/system").rmdir()
    assert not found(host, CREDENTIAL).has_unit


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        (HostFacts(True, True, True), f"to kill now: systemctl start {UNIT}"),
        (HostFacts(False, True, True), f"to kill now: sudo systemctl start {UNIT}"),
        (HostFacts(True, True, False), "to kill now, without the daemon: kill-switch fire --direct"),
        (HostFacts(True, False, True), "to kill now: nothing here has the secrets"),
    ],
)
def test_the_way_that_works_is_named_first(facts: HostFacts, first: str) -> None:
    assert next(next_steps.ways(facts)).startswith(first)


def test_a_flag_whose_directory_can_be_written_is_named_in_any_case(host: Path) -> None:
    text = f'{FILE}[triggers.x]\nkind = "flag"\npath = "/nonexistent/KILL"\n'
    assert found(host, text).flag == ""
    facts = found(host, f'{text}[triggers.y]\nkind = "flag"\npath = "{host}/KILL"\n')
    assert (
        list(next_steps.ways(facts))[-1] == f"in any case: touch {host}/KILL: it fires as soon as the daemon runs again"
    )


def test_a_daemon_that_hangs_and_one_that_is_dead_have_their_own_next_step_and_page() -> None:
    facts = HostFacts(True, False, False)
    hangs, dead = (next_steps.describe(kind("x"), facts) for kind in (Unresponsive, Unreachable))
    assert "then: systemctl restart kill-switch" in hangs and hangs.endswith("runbook: the-daemon-hangs")
    assert "systemctl start kill-switch" in dead and dead.endswith("runbook: the-daemon-is-dead")


def test_a_daemon_that_answers_others_is_neither_ended_nor_passed_by() -> None:
    late = Unreachable("x")
    late.is_awake = True
    steps = next_steps.describe(late, HostFacts(True, False, False))
    assert "kill-switch status shows" in steps and "--direct" not in steps and "restart" not in steps


def test_where_systemd_does_not_run_the_daemon_no_step_names_it(host: Path) -> None:
    assert found(host, FILE).is_service
    (host / "other.toml").write_text(FILE)
    facts = next_steps.look(host / "other.toml", {}, host)
    hangs, dead = (next_steps.describe(kind("x"), facts) for kind in (Unresponsive, Unreachable))
    assert "then: end its process with kill -KILL, then kill-switch run\n" in hangs
    assert "then: kill-switch run\n" in dead and "systemctl" not in hangs + dead
    (host / "run/systemd/system").rmdir()
    assert not found(host, FILE).is_service


def fifo(path: Path) -> None:
    os.mkfifo(path)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    "make",
    [
        fifo,
        huge,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda path: path.write_text("a = " + "[" * 5000 + "]" * 5000),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text(f"accounts = 7\ninclude = ['{path}', 'config.toml']"),
    ],
    ids=["pipe", "huge", "directory", "device", "link to itself", "deep", "not UTF-8", "includes itself"],
)
def test_a_hint_neither_raises_nor_waits_whatever_a_configuration_includes(
    make: Callable[[Path], object], host: Path
) -> None:
    make(host / "x.toml")
    assert found(host, f"include = ['x.toml']\n{CREDENTIAL}").needs_unit
    assert paths.account_names(host / "config.toml") == ()


def test_a_pipe_that_is_the_configuration_is_left_to_the_one_who_loads_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.toml")
    assert not next_steps.look(tmp_path / "config.toml", {}, tmp_path).needs_unit
    assert paths.account_names(tmp_path / "config.toml") == ()


def test_a_path_with_a_nul_stops_no_hint(host: Path) -> None:
    assert found(host, f'{FILE}[triggers.x]\nkind = "flag"\npath = "/a\\u0000b/KILL"\n').flag == ""
    assert not next_steps.look(Path("/a\0b"), {}, host).needs_unit


class Systemd:
    """Answer the commands of `last_resort` as systemd would for a unit that has ended so."""

    def __init__(self, code: str, status: str) -> None:
        self.shown = f"InvocationID=abc\nExecMainCode={code}\nExecMainStatus={status}\n"
        self.ran: list[Sequence[str]] = []
        self.reason = ""

    def run(self, reason_file: Path, command: Sequence[str], within_s: float) -> str:
        self.ran.append(command)
        if command[1] == "start":
            self.reason = reason_file.read_text()
        return self.shown if command[1] == "show" else "the report\n" if command[0] == "journalctl" else ""


@pytest.mark.parametrize(
    ("code", "status", "exit_code"), [("1", "0", 0), ("1", "78", 78), ("2", "9", 1), ("0", "0", 1)]
)
def test_a_direct_kill_by_the_unit_has_its_output_and_its_exit_code_and_1_without_a_proof(
    code: str, status: str, exit_code: int, tmp_path: Path
) -> None:
    systemd, reason_file = Systemd(code, status), tmp_path / "reason"
    result = last_resort.kill('a "mad" bot', lambda *words: systemd.run(reason_file, *words), reason_file)
    assert result == (exit_code, "the report\n")
    assert systemd.ran[0] == ("systemctl", "start", UNIT)
    assert systemd.ran[-1][-1] == "_SYSTEMD_INVOCATION_ID=abc"
    assert systemd.reason == "KILL_SWITCH_REASON=\"a 'mad' bot\"\n" and not reason_file.exists()


def test_a_unit_that_does_not_end_has_given_no_proof(tmp_path: Path) -> None:
    def hang(command: Sequence[str], within_s: float) -> str:
        raise subprocess.TimeoutExpired(command, within_s)

    result = last_resort.kill("x", hang, tmp_path / "reason")
    assert result.exit_code == last_resort.NO_PROOF and "could not be run to its end" in result.output
