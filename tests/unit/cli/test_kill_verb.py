"""The verb of a kill: wrong usage fires nothing, and no suggestion leads from a kill to something else, or back."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kill_switch.cli import direct_fire, kill_verb, main, operator_commands
from kill_switch.config import defaults
from kill_switch.control import paths
from kill_switch.direct import direct_kill
from tests.harness.fake_daemon import answering

CONFIG = """
[daemon]
state_dir = "{0}/state"
runtime_dir = "{0}/run"
[accounts.mm1]
venue = "roxom"
tags = ["desk:mm"]
[accounts.rx1]
venue = "roxom"
"""
CLEAR = {"accounts": {"mm1": {"state": "CLEAR"}, "rx1": {"state": "CLEAR"}}, "asked": ["mm1", "rx1"]}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(tmp_path))
    return path


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def asked(tmp_path: Path, *words: object, answer: Mapping[str, Any] = CLEAR) -> tuple[Result, list[Mapping[str, Any]]]:
    """Return the result of a command, and what it has asked a daemon."""
    path = tmp_path / "run" / paths.CONTROL_SOCKET
    path.unlink(missing_ok=True)
    with answering(path, dict.fromkeys(("fire", "rearm", "status"), answer)) as said:
        return invoke(*words), said


@pytest.mark.parametrize("verb", kill_verb.VERBS)
def test_each_verb_kills_without_a_reason_and_says_first_how_many_accounts(
    config: Path, tmp_path: Path, verb: str
) -> None:
    done, said = asked(tmp_path, verb, "-c", config, "--json")
    assert done.exit_code == 0
    assert [(each["cmd"], each["reason"], each["scope"]) for each in said] == [("fire", "", [])]
    assert done.stderr.splitlines()[0] == "kill-switch: killing all accounts, 2: mm1, rx1"


def test_a_scope_or_a_dry_run_is_not_announced_as_a_kill_of_all(config: Path, tmp_path: Path) -> None:
    for words in (["--scope", "mm1"], ["--dry-run"]):
        done, said = asked(tmp_path, "kill", "-c", config, "--json", *words)
        assert (done.exit_code, done.stderr, len(said)) == (0, "", 1)


@pytest.mark.parametrize("verb", kill_verb.VERBS)
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        ["--now", "--help"],
        ["--everything"],
        ["-reason", "x"],
        ["--scop", "mm1"],
        ["everything"],
        ["mm1"],
        ["mm1", "rx1"],
        ["--scope"],
        ["--reason", "--help"],
        ["--scope", "--dry-run"],
        ["--wait", "soon"],
        ["--", "--reason"],
        [""],
    ],
)
def test_a_command_line_that_is_not_understood_fires_nothing_and_ends_with_2_usage_and_the_right_line(
    config: Path, tmp_path: Path, verb: str, words: list[str]
) -> None:
    done, said = asked(tmp_path, verb, "-c", config, *words)
    assert (done.exit_code, said) == (2, [])
    assert f"Usage: kill-switch {verb}" in done.output or f"Usage: main {verb}" in done.output
    assert f"kill-switch {verb} -c {config}" in done.output


def test_a_word_that_is_an_account_or_a_tag_is_shown_as_a_scope(config: Path, tmp_path: Path) -> None:
    done, _ = asked(tmp_path, "kill", "-c", config, "mm1", "desk:mm")
    assert f"kill-switch kill -c {config} --scope mm1 --scope desk:mm" in done.stderr
    assert "--scope SEL" in asked(tmp_path, "kill", "-c", config, "mm2")[0].stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--scop", "mm1"], "--scope mm1"),
        (["--dry-rnu"], "--dry-run"),
        (["--dirct"], "--direct"),
        (["--wiat=3"], "--wait=3"),
    ],
)
def test_an_option_with_a_slip_is_corrected_to_the_nearest_option_and_to_no_other(
    config: Path, tmp_path: Path, typed: list[str], meant: str
) -> None:
    done, said = asked(tmp_path, "kill", "-c", config, *typed)
    assert (done.exit_code, said) == (2, [])
    assert f"did you mean:  kill-switch kill -c {config} {meant}\n" in done.stderr


def test_a_dry_run_with_a_word_too_many_leads_to_no_kill(config: Path, tmp_path: Path) -> None:
    done, said = asked(tmp_path, "kill", "-c", config, "--dry-run", "everything")
    lines = [line for line in done.stderr.splitlines() if "kill-switch kill -c" in line]
    assert said == [] and lines and all("--dry-run" in line for line in lines)


@pytest.mark.parametrize("word", ["kil", "klil", "killl", "fier", "fir", "KILL", "tirp", "panic", "killall", "cancel"])
def test_a_slip_of_a_kill_or_another_word_for_it_leads_to_a_kill_and_to_nothing_harmless(word: str) -> None:
    message = invoke(word).stderr
    assert "To cancel every order: kill-switch " in message and "Did you mean" not in message


@pytest.mark.parametrize(
    ("word", "near"),
    [("stauts", "status"), ("drll", "drill"), ("rearmm", "rearm"), ("repor", "report"), ("chek", "check")],
)
def test_a_slip_of_something_harmless_leads_to_it_and_to_no_kill(word: str, near: str) -> None:
    done = invoke(word)
    assert done.exit_code == 2
    assert f"Did you mean {near}?" in done.stderr and "To cancel" not in done.stderr


@pytest.mark.parametrize("word", ["dill", "krill", "unkill", "dry-fire", "untrip", "stop", "help", "list"])
def test_a_word_that_may_be_either_or_neither_leads_nowhere(word: str) -> None:
    done = invoke(word)
    assert done.exit_code == 2
    assert "Did you mean" not in done.stderr and "To cancel" not in done.stderr


@pytest.mark.parametrize(
    ("written", "seconds"), [("10", 10), ("10s", 10), ("0", 0), ("500ms", 0.5), ("2m", 120), ("nan", 0)]
)
def test_wait_is_taken_with_and_without_a_unit(config: Path, tmp_path: Path, written: str, seconds: float) -> None:
    _, said = asked(tmp_path, "kill", "-c", config, "--json", "--wait", written)
    assert [each["wait_s"] for each in said] == [seconds]


def test_rearm_needs_no_reason(config: Path, tmp_path: Path) -> None:
    done, said = asked(tmp_path, "rearm", "-c", config, answer={"rearmed": ["mm1"]})
    assert (done.exit_code, said[0]["reason"]) == (0, "")


def test_hints_carry_the_file_that_was_named_and_no_file_that_was_not(config: Path, tmp_path: Path) -> None:
    named = invoke("status", "-c", config).stderr
    assert f"kill-switch run -c {config}" in named
    assert f"kill-switch fire -c {config} --direct" in invoke("fire", "-c", config).stderr


def test_hints_name_no_file_where_the_environment_names_it(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILL_SWITCH_CONFIG", str(config))
    assert "then: kill-switch run\n" in invoke("status").stderr


@pytest.mark.parametrize("words", [["status"], ["kill"], ["rearm"], ["beat", "a"], ["drill"]])
def test_a_missing_configuration_is_named_and_is_78_where_no_daemon_is_in_the_default_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.delenv("KILL_SWITCH_CONFIG", raising=False)
    monkeypatch.setenv(defaults.OWN_UNIT, "yes")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(defaults, "CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setattr(paths, "CONFIG", str(tmp_path / "none.toml"))
    done = invoke(*words)
    assert done.exit_code == 78
    assert "no configuration found" in done.stderr and "no daemon answers" not in done.stderr
    (tmp_path / paths.CONTROL_SOCKET).touch()
    (tmp_path / paths.INTAKE_SOCKET).touch()
    assert invoke(*words).exit_code == 69


def test_beat_with_a_slip_asks_the_daemon_and_names_the_nearest_trigger(config: Path, tmp_path: Path) -> None:
    triggers = {"triggers": {"quoter-alive": {"kind": "heartbeat"}, "panic": {"kind": "flag"}}}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as intake:
        intake.bind(str(tmp_path / "run" / paths.INTAKE_SOCKET))
        done, _ = asked(tmp_path, "beat", "-c", config, "quoter-alvie", answer=triggers)
    assert done.exit_code == 1
    assert "'quoter-alvie': did you mean quoter-alive?" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
@pytest.mark.parametrize("words", [["status"], ["kill"], ["beat", "a"]])
def test_a_socket_that_a_user_may_not_use_names_the_keys_of_a_daemon_of_ones_own(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    asked(tmp_path, *words, "-c", config)  # imports what another user may not read
    monkeypatch.setenv(defaults.OWN_UNIT, "yes")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path).chmod(0o700)
    os.seteuid(65534)
    try:
        done = invoke(*words)
    finally:
        os.seteuid(0)
    assert done.exit_code == 77
    assert "state_dir" in done.stderr and "runtime_dir" in done.stderr


# ── a kill that goes on without the daemon ────────────────────────────────────────────────────────────────────────────


Direct = list[tuple[str, list[str], float, bool]]  # reason, scope, wait, dry run


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> Direct:
    """Record each direct kill instead of carrying it out."""
    kills: Direct = []

    def fire_directly(
        path: Path | None,
        reason: str,
        scope: Sequence[str],
        wait_s: float,
        dry_run: bool,
        say_all: Callable[[], object],
    ) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        say_all()
        kills.append((reason, list(scope), wait_s, dry_run))
        return CLEAR, {}

    monkeypatch.setattr(direct_fire, "fire_directly", fire_directly)
    return kills


@contextmanager
def silent(path: Path, *, acknowledges: bool = False) -> Iterator[list[bytes]]:
    """Listen on a control socket and answer no request, at most acknowledge it; give the requests that came."""
    requests: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen(8)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = sock.accept()
                    held.append(connection)
                    requests.append(connection.recv(1 << 16))
                    if acknowledges and requests[-1]:  # else the connection only looked whether one listens
                        connection.sendall(b'{"acknowledged": "k1"}\n')

        held: list[socket.socket] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield requests
        sock.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


def test_a_kill_that_is_not_acknowledged_in_time_goes_on_directly_and_says_so(
    config: Path, tmp_path: Path, direct: Direct
) -> None:
    words = ("kill", "-c", config, "--direct-after", "0.2s", "--reason", "gone", "--json")
    with silent(tmp_path / "run" / paths.CONTROL_SOCKET) as requests:
        done = invoke(*words)
        while not any(requests):  # of the probe that looks whether a daemon listens, and of the kill
            time.sleep(0.01)
    assert (done.exit_code, json.loads(done.stdout)) == (0, CLEAR)
    assert direct == [("gone", [], 10.0, False)]
    assert done.stderr.count("killing all accounts, 2: mm1, rx1") == 1
    assert "no acknowledgement within 0.2 s" in done.stderr
    assert "going on without the daemon, as --direct" in done.stderr and "stays queued" in done.stderr


def test_a_kill_without_a_daemon_goes_on_directly_at_once(config: Path, direct: Direct) -> None:
    done = invoke("fire", "-c", config, "--direct-after", "0", "--json")
    assert (done.exit_code, direct) == (0, [("", [], 10.0, False)])
    assert "no daemon answers" in done.stderr and "going on without the daemon" in done.stderr
    assert done.stderr.count("killing all accounts, 2: mm1, rx1") == 1
    assert "queued" not in done.stderr  # because the request reached no daemon


def test_a_kill_that_was_acknowledged_or_refused_never_goes_on_directly(
    config: Path, tmp_path: Path, direct: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("fire", "-c", config, "--direct-after", "0.2s", "--json")
    done, said = asked(tmp_path, *words, answer={"error": "scope: no such account"})
    assert (done.exit_code, len(said), direct) == (1, 1, [])
    monkeypatch.setattr(operator_commands, "ANSWERED_WITHIN_S", 0.5)
    (tmp_path / "run" / paths.CONTROL_SOCKET).unlink()
    with silent(tmp_path / "run" / paths.CONTROL_SOCKET, acknowledges=True):
        assert invoke(*words, "--wait", "0").exit_code == 69
    assert direct == []


def test_a_kill_that_an_ending_daemon_leaves_to_the_next_start_goes_on_directly_only_if_that_was_asked_for(
    config: Path, tmp_path: Path, direct: Direct
) -> None:
    answer = {"error": "the daemon is ending; the next start begins with this kill", "exit": 69}
    done, said = asked(tmp_path, "fire", "-c", config, "--direct-after", "3s", "--json", answer=answer)
    assert (done.exit_code, len(said), len(direct)) == (0, 1, 1)
    assert f"{answer['error']}: going on without the daemon, as --direct" in done.stderr
    (tmp_path / "run" / paths.CONTROL_SOCKET).unlink()
    assert asked(tmp_path, "fire", "-c", config, answer=answer)[0].exit_code == 69
    assert len(direct) == 1


def test_the_line_after_wrong_usage_keeps_the_direct_after(config: Path, direct: Direct) -> None:
    done = invoke("kill", "mm1", "-c", config, "--direct-after", "3s")
    assert done.exit_code == 2 and not direct
    assert f"kill-switch kill -c {config} --direct-after 3s --scope mm1" in done.stderr


# ── a direct kill that cannot be ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", [("--direct",), ("--direct-after", "0")], ids=" ".join)
def test_a_direct_kill_without_any_usable_account_does_not_say_that_it_kills(
    config: Path, how: tuple[str, ...]
) -> None:
    done = invoke("fire", "-c", config, *how)
    assert done.exit_code == 78 and "killing" not in done.stderr
    assert "accounts.mm1.api_key" in done.stderr and "accounts.rx1.api_key" in done.stderr


def test_a_direct_kill_of_some_accounts_says_first_which_it_can_kill(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("secret-0001")
    (tmp_path / "key").chmod(0o600)
    keys = "".join(f'{name} = {{ file = "{tmp_path}/key" }}\n' for name in ("api_key", "api_secret"))
    config.write_text(
        config.read_text().replace('[accounts.rx1]\nvenue = "roxom"', f'[accounts.rx1]\nvenue = "oxfun"\n{keys}')
    )
    killed: list[Sequence[str]] = []

    async def fire(config: object, reason: str, accounts: Sequence[str], *rest: object) -> tuple[Any, Any]:
        killed.append(accounts)
        return {"accounts": {"rx1": {"state": "CLEAR"}}}, {}

    monkeypatch.setattr(direct_kill, "fire", fire)
    done = invoke("fire", "-c", config, "--direct", "--json")
    assert (done.exit_code, killed) == (1, [("rx1",)])
    assert "killing the accounts that can be used, 1 of 2: rx1" in done.stderr and "NOT KILLED: mm1" in done.stderr
    assert "all accounts" not in done.stderr
