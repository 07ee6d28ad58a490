"""Each command's exit code and its one clear line."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kill_switch import clock
from kill_switch.cli import beat_command, find_report, kill_verb, main
from kill_switch.client import control_socket
from kill_switch.config import toml_file
from kill_switch.core.domain import Reason
from kill_switch.journal import latch_file, segments
from kill_switch.journal.journal import Journal
from kill_switch.journal.write_ahead import WriteAheadNote
from kill_switch.venues import EVERY_VENUE, VENUES
from kill_switch.venues.ccxt.refused import REFUSED
from tests.harness.fake_daemon import answering

CONFIG = """
[daemon]
state_dir = "{0}/state"
runtime_dir = "{0}/run"

[accounts.mm1]
venue = "oxfun"
tags = ["desk:mm"]
api_key = {{ env = "MM1_KEY" }}
api_secret = {{ env = "MM1_SECRET" }}

[triggers.panic]
kind = "flag"
path = "{0}/run/KILL"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MM1_KEY", "key-in-the-environment")
    monkeypatch.setenv("MM1_SECRET", "secret-in-the-environment")
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(tmp_path))
    (tmp_path / "state").mkdir()
    (tmp_path / "run").mkdir()
    return path


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def lines(*words: object) -> list[Any]:
    """Return the JSON of each line that the command prints."""
    return [json.loads(line) for line in invoke(*words).stdout.splitlines()]


def test_check_summarises_a_valid_configuration(config: Path) -> None:
    done = invoke("check", "-c", config)
    assert done.exit_code == 0
    assert "1 account(s), 1 trigger(s)" in done.output
    assert "account mm1: oxfun, tags desk:mm" in done.output
    assert "environment" not in done.output


def test_check_names_the_orders_out_of_a_kills_reach_in_one_line_an_account(config: Path) -> None:
    more = '[accounts.nt]\nvenue = "crosstrade"\nnt_accounts = ["Sim101"]\ntoken = { env = "MM1_KEY" }\n'
    config.write_text(f"{config.read_text()}\n{more}")
    shown = invoke("check", "-c", config).output.splitlines()
    behind = {
        name: shown[shown.index(line) + 1] for line in shown for name in ("mm1", "nt") if f"account {name}:" in line
    }
    assert behind["mm1"] == "    a kill does not reach: other sub-accounts: each has its own key"
    assert "strategies in NinjaTrader" in behind["nt"] and behind["nt"].endswith("; positions, unless flatten is true")
    told = json.loads(invoke("check", "-c", config, "--json").stdout)["not_covered"]
    assert set(told) == {"mm1", "nt"} and told["mm1"] == ["other sub-accounts: each has its own key"]


def test_check_marks_an_account_of_the_test_environment(config: Path) -> None:
    config.write_text(config.read_text().replace('venue = "oxfun"', 'venue = "oxfun"\nenvironment = "testnet"'))
    assert "account mm1: oxfun TESTNET at https://stgapi.ox.fun, tags desk:mm" in invoke("check", "-c", config).output
    assert json.loads(invoke("check", "-c", config, "--json").stdout)["environments"] == {"mm1": "testnet"}


def test_venues_shows_the_addresses_of_each_test_environment() -> None:
    shown, told = invoke("venues").output, json.loads(invoke("venues", "--json").stdout)["venues"]
    for name, venue in VENUES.items():
        assert all(f"    {url}\n" in shown for url in venue.Options.TESTNET.values())
        assert told[name]["testnet"] == (venue.Options.TESTNET or None)


def test_venues_shows_the_commands_the_reach_and_the_guesses_of_each_venue() -> None:
    done = invoke("venues")
    assert done.exit_code == 0
    for name, venue in EVERY_VENUE.items():
        assert f"{name} (verified against the live venue: never)" in done.output
        phrases = (*venue.COMMANDS, *venue.COVERED, *venue.NOT_COVERED, *map(": ".join, venue.GUESSES))
        assert all(f"    {phrase}\n" in done.output for phrase in phrases)
    told = json.loads(invoke("venues", "--json").stdout)["venues"]
    assert set(told) == set(EVERY_VENUE)
    assert told["kuna"]["verified"] is None and told["kuna"]["sends"] == list(VENUES["kuna"].COMMANDS)
    assert set(told["kuna"]["guesses"][0]) == {"fact", "covered_by"}


def test_venues_with_a_name_shows_all_that_is_known_of_it_and_nothing_else() -> None:
    done = invoke("venues", "kraken-futures")
    assert done.exit_code == 0
    listed = invoke("venues").output
    own = listed[listed.index("kraken-futures (") : listed.index("kuna (")]
    assert done.output.startswith(own), "what the list shows of it, first"
    more = done.output.removeprefix(own)
    for line in ("500 units in 10 s, of a key", "api_secret: base64", "unified_key: optional; only with unified_secret",
                 "token_url: https://api.kraken.com/0/private/GetWebSocketsToken"):  # fmt: skip
        assert f"    {line}\n" in more and f"    {line}\n" not in listed


@pytest.mark.parametrize("name", ["bitvavo", "ccxt:bitvavo"])
def test_venues_takes_an_id_of_ccxt_with_and_without_its_prefix(name: str) -> None:
    told = json.loads(invoke("venues", "--json", name).stdout)
    assert (set(told["venues"]), told["not_offered"]) == ({"ccxt:bitvavo"}, {})
    shown = told["venues"]["ccxt:bitvavo"]
    assert list(shown["keys"]) == ["api_key", "api_secret"] and "operatorId" in shown["options"]["options"]
    assert any("docs.bitvavo.com" in source["source"] for source in shown["sources"])
    assert shown["limits"] == ["1,000 units in 60 s, of a key"]


def test_venues_says_why_an_id_is_not_offered_beside_one_that_is() -> None:
    done = invoke("venues", "okx", "kraken")
    assert done.exit_code == 0
    assert done.output.startswith("kraken (") and done.output.count("(verified against") == 1
    assert done.output.endswith(f"  {REFUSED['okx']}\n    ccxt:okx\n")
    told = json.loads(invoke("venues", "okx", "--json").stdout)
    assert told == {"venues": {}, "not_offered": {"ccxt:okx": REFUSED["okx"]}}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("krakn", "did you mean 'kraken'? "),
        ("ccxt:krakn", "did you mean 'ccxt:kraken'? "),
        ("bitvovo", "did you mean 'ccxt:bitvavo'? "),
        ("no-such-venue", ""),
    ],
)
def test_an_unknown_venue_is_wrong_usage_with_the_likeliest_name(name: str, near: str) -> None:
    done = invoke("venues", name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"no venue {name!r}; {near}`kill-switch venues` shows all" in done.stderr


def test_a_venue_that_was_verified_has_the_date_of_its_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VENUES["oxfun"], "VERIFIED", "2026-11-29")
    assert "oxfun (verified against the live venue: 2026-11-29)" in invoke("venues").output
    assert json.loads(invoke("venues", "--json").stdout)["venues"]["oxfun"]["verified"] == "2026-11-29"


def test_check_says_every_problem_at_once_and_ends_with_78(config: Path) -> None:
    config.write_text(config.read_text().replace("oxfun", "oxfan").replace('kind = "flag"', 'kind = "flagg"'))
    done = invoke("check", "-c", config)
    assert done.exit_code == 78
    assert 'accounts.mm1.venue: "oxfan"; did you mean "oxfun"?' in done.output
    assert 'triggers.panic.kind: "flagg"; did you mean "flag"?' in done.output
    as_json = invoke("check", "-c", config, "--json")
    assert as_json.exit_code == 78
    assert len(json.loads(as_json.stdout)["problems"]) >= 2


def test_run_ends_with_78_before_it_starts_anything(config: Path, tmp_path: Path) -> None:
    config.write_text("[accounts]\n")
    assert invoke("run", "-c", config).exit_code == 78
    assert not list((tmp_path / "state").iterdir())


def test_a_missing_configuration_is_one_line_and_78(tmp_path: Path) -> None:
    done = invoke("run", "-c", tmp_path / "nowhere.toml")
    assert done.exit_code == 78
    assert "no such file or directory" in done.output
    assert done.output.count("\n") == 1


def test_a_second_daemon_on_the_same_state_directory_ends_with_75(config: Path, tmp_path: Path) -> None:
    held = Journal(tmp_path / "state", tmp_path / "run")
    try:
        done = invoke("run", "-c", config)
    finally:
        held.close()
    assert done.exit_code == 75
    assert f"another daemon holds the state directory {tmp_path / 'state'}" in done.output


@pytest.mark.parametrize("words", [("status",), ("fire", "--reason", "x"), ("rearm", "--reason", "x"), ("beat", "a")])
def test_a_daemon_that_is_not_there_is_69(
    config: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (control_socket, beat_command):
        monkeypatch.setattr(module, "STARTS_WITHIN_S", 0.1)
    done = invoke(*words, "-c", config)
    assert done.exit_code == 69
    assert "no daemon" in done.output
    assert "no daemon runs: nothing is watched" in done.output and "--direct" in done.output


def test_a_socket_that_only_others_may_use_is_77(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert invoke("status", "-c", config).exit_code == 77


def test_init_writes_a_configuration_and_says_the_next_three_steps(tmp_path: Path) -> None:
    done = invoke("init", tmp_path / "new")
    assert done.exit_code == 0
    assert [line[:2] for line in done.output.splitlines() if line[:1].isdigit()] == ["1.", "2.", "3."]
    assert (tmp_path / "new" / "config.toml").read_text().startswith("# kill-switch: the whole configuration.")


def test_init_touches_nothing_that_is_there_and_ends_with_73(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mine")
    done = invoke("init", tmp_path)
    assert done.exit_code == 73
    assert (tmp_path / "config.toml").read_text() == "mine"


@pytest.mark.parametrize("words", [("status",), ("rearm", "--reason", "x"), ("drill",), ("reload",)])
def test_a_command_without_a_daemon_names_the_command_that_starts_it(config: Path, words: tuple[str, ...]) -> None:
    done = invoke(*words, "-c", config)
    assert done.exit_code == 69
    assert "no daemon answers" in done.stderr and f"kill-switch run -c {config}" in done.stderr


def test_report_of_nothing_ends_with_one(config: Path) -> None:
    done = invoke("report", "-c", config)
    assert done.exit_code == 1
    assert "there is no kill on record" in done.output


def test_a_report_of_a_damaged_journal_says_so_and_ends_with_one(config: Path, tmp_path: Path) -> None:
    held = Journal(tmp_path / "state", tmp_path / "run")
    at = clock.now()
    for kill in ("k1-1", "k2-2"):
        reason = {"trigger": "panic", "text": kill, "accounts": ["mm1"], "kill": kill, "evidence": dict[str, str]()}
        held.append("reason", {**reason, "observed_mono_ns": at.mono_ns, "observed_wall_ns": at.wall_ns}, at)
    held.close()
    assert invoke("report", "-c", config).exit_code == 0
    path = tmp_path / "state" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"text":"k2-2"', b'"text":"k2-3"'))
    done = invoke("report", "-c", config)
    assert done.exit_code == 1
    assert "k1-1" in done.output and "later kills cannot be read" in done.output
    as_json = invoke("report", "-c", config, "--json")
    assert as_json.exit_code == 1 and json.loads(as_json.stdout)["id"] == "k1-1"


@pytest.mark.parametrize(("asked", "code"), [(["b"], 0), (["a"], 1), (["a", "b"], 1), (["b", "c"], 1)])
def test_fire_ends_with_0_if_the_accounts_that_it_asked_for_are_clear(
    config: Path, tmp_path: Path, asked: list[str], code: int
) -> None:
    answer = {"accounts": {"a": {"state": "RESIDUE"}, "b": {"state": "CLEAR"}}, "asked": asked}
    with answering(tmp_path / "run" / "control.sock", {"fire": answer}):
        assert invoke("fire", "--reason", "x", "--json", "-c", config).exit_code == code


def test_fire_names_the_accounts_that_are_not_proven_yet_and_the_command_that_shows_the_proof(
    config: Path, tmp_path: Path
) -> None:
    answer = {"accounts": {"a": {"state": "CONFIRMING"}, "b": {"state": "CLEAR"}, "c": {"state": "RESIDUE"}}}
    with answering(tmp_path / "run" / "control.sock", {"fire": answer}):
        done = invoke("fire", "--reason", "x", "--wait", "2", "--json", "-c", config)
    assert done.exit_code == 1
    hint = f"the daemon goes on, and kill-switch report -c {config} shows the proof"
    assert f"not proven within 2 s: a; {hint}" in done.stderr


def leave_kills(tmp_path: Path, *kills: str) -> None:
    held, at = Journal(tmp_path / "state", tmp_path / "run"), clock.now()
    for kill in kills:
        reason = {"trigger": "panic", "text": kill, "accounts": ["mm1"], "kill": kill, "evidence": dict[str, str]()}
        held.append("reason", {**reason, "observed_mono_ns": at.mono_ns, "observed_wall_ns": at.wall_ns}, at)
    held.close()


PROBLEM = {"text": "not on record: No space left on device", "do": "mend the disk"}


@pytest.mark.parametrize(("note", "code"), [(False, 1), (True, 0)])
def test_a_clear_kill_that_is_not_on_record_ends_with_0_only_if_its_latch_file_exists(
    config: Path, tmp_path: Path, note: bool, code: int
) -> None:
    answer = {"accounts": {"a": {"state": "CLEAR"}}, "asked": ["a"], "problems": [{**PROBLEM, "note": note}]}
    with answering(tmp_path / "run" / "control.sock", {"fire": answer}):
        done = invoke("fire", "--reason", "x", "--json", "-c", config)
    assert done.exit_code == code and "No space left on device\n  mend the disk" in done.stderr


@pytest.mark.parametrize(("kill", "shown"), [("last", "k3-3"), ("k3-3", "k3-3"), ("k1-1", "k1-1")])
def test_a_report_asks_the_daemon_for_unwritten_records(config: Path, tmp_path: Path, kill: str, shown: str) -> None:
    leave_kills(tmp_path, "k1-1", "k2-2")

    def told(request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"id": "k3-3" if request["id"] == "last" else request["id"], "problems": [PROBLEM]}

    with answering(tmp_path / "run" / "control.sock", {"report": told}):
        done = invoke("report", kill, "--json", "-c", config)
    assert (done.exit_code, json.loads(done.stdout)["id"]) == (1, shown)
    assert "No space left on device" in done.stderr


def test_a_kill_that_the_daemon_no_longer_has_is_reported_from_the_disk(config: Path, tmp_path: Path) -> None:
    leave_kills(tmp_path, "k1-1", "k2-2")
    answers = {"report": {"error": "there is no such kill", "exit": 1}}
    with answering(tmp_path / "run" / "control.sock", answers):
        done = invoke("report", "k1-1", "--json", "-c", config)
    assert (done.exit_code, json.loads(done.stdout)["id"]) == (0, "k1-1")


def test_a_report_beside_a_daemon_that_hangs_is_not_taken_for_the_last_one(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_report, "ANSWER_WITHIN_S", 0.1)
    leave_kills(tmp_path, "k1-1")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "run" / "control.sock"))
        silent.listen()
        last = invoke("report", "--json", "-c", config)
        named = invoke("report", "k1-1", "--json", "-c", config)
    assert (last.exit_code, named.exit_code) == (1, 0)
    assert "may have a later kill" in json.loads(last.stdout)["problems"][0]["text"]


@pytest.mark.parametrize("how", ["latch", "intent"])
def test_a_kill_that_is_in_a_latch_alone_is_later_than_the_last_one_on_record(
    how: str, config: Path, tmp_path: Path
) -> None:
    leave_kills(tmp_path, "k1-1")
    assert invoke("report", "-c", config).exit_code == 0
    reason = Reason("direct", "on a full disk", ("mm1",), clock.now())
    if how == "latch":
        latch_file.leave_latch(tmp_path / "state", tmp_path / "run", reason)
    else:
        noted = WriteAheadNote(tmp_path / "run" / "intent.jsonl")
        assert noted.write(reason)
        noted.close()
    last = invoke("report", "--json", "-c", config)
    assert last.exit_code == 1
    assert "direct: on a full disk" in json.loads(last.stdout)["problems"][0]["text"]
    assert invoke("report", "k1-1", "-c", config).exit_code == 0


def test_a_journal_that_the_disk_does_not_give_is_one_clear_line(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, budget_us: int) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(segments, "read_reports", fails)
    done = invoke("report", "-c", config)
    assert done.exit_code == 1
    assert "there is no kill on record" in done.stderr and "journal.jsonl: Input/output error" in done.stderr


@pytest.mark.parametrize("words", [("fire", "--reason", "x"), ("rearm", "--reason", "x"), ("reload",), ("drill",)])
@pytest.mark.parametrize("how", ["hangs up", "resets"])
def test_a_request_on_which_the_daemon_dies_is_reported_with_an_unknown_effect(
    how: str, words: tuple[str, ...], config: Path, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as dies:
        dies.bind(str(tmp_path / "run" / "control.sock"))
        dies.listen()

        def die() -> None:
            asked = b""
            while not asked:  # `fire` first looks whether somebody is there
                with dies.accept()[0] as stream:
                    asked = stream.recv(1000, socket.MSG_PEEK)
                    if how == "hangs up":
                        stream.recv(1000)

        thread = threading.Thread(target=die, daemon=True)
        thread.start()
        done = invoke(*words, "-c", config)
        thread.join()
    assert done.exit_code == 69
    assert "re-armed" not in done.stdout and "reloaded" not in done.stdout
    assert "is not known" in done.stderr


def test_a_fire_whose_proof_needs_longer_than_its_wait_says_when_to_look(config: Path, tmp_path: Path) -> None:
    report = {
        **{"id": "k1", "reasons": [], "asked": ["mm1"], "problems": []},
        **{"accounts": {"mm1": {"state": "CONFIRMING"}}},
        **{"not_proven_yet": {"mm1": {"lists_lag_s": 20.0, "proof_in_s": 13}}},
    }
    with answering(tmp_path / "run" / "control.sock", {"fire": report}):
        done = invoke("fire", "--reason", "x", "-c", config, "--json")
    assert done.exit_code == 1
    words = f"kill-switch: not proven yet: mm1: lists lag 20 s; kill-switch status -c {config} in 13 s\n"
    assert done.stderr == f"kill-switch: killing all accounts, 1: mm1\n{words}"


@pytest.mark.parametrize(("name", "code"), [("alive", 0), ("alife", 1), ("panic", 1)])
def test_a_beat_for_a_heartbeat_that_the_daemon_does_not_know_ends_with_1(
    name: str, code: int, config: Path, tmp_path: Path
) -> None:
    status = {"triggers": {"alive": {"kind": "heartbeat"}, "panic": {"kind": "flag"}}}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as intake:
        intake.bind(str(tmp_path / "run" / "intake.sock"))
        with answering(tmp_path / "run" / "control.sock", {"status": status}):
            done = invoke("beat", name, "-c", config)
        assert json.loads(intake.recv(100))["beat"] == name
    assert done.exit_code == code
    assert ("waits for no heartbeat" in done.stderr and "there are alive" in done.stderr) == bool(code)


def test_a_daemon_that_does_not_list_its_heartbeats_delays_no_beat(config: Path, tmp_path: Path) -> None:
    """Else a bot that begins to beat at a daemon that is busy is taken for dead."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as intake,
        socket.socket(socket.AF_UNIX) as busy,
    ):
        intake.bind(str(tmp_path / "run" / "intake.sock"))
        intake.settimeout(30)
        busy.bind(str(tmp_path / "run" / "control.sock"))
        busy.listen()
        command = (sys.executable, "-m", "kill_switch", "beat", "alive", "--every", "20ms", "-c", str(config))
        beating = subprocess.Popen(command)
        try:
            intake.recv(100)
            with busy.accept()[0] as asking:
                assert asking.recv(1000)
                for _ in range(5):
                    intake.recv(100)
                asking.setblocking(False)
                with pytest.raises(BlockingIOError):  # it still waits for the answer
                    asking.recv(1)
        finally:
            beating.kill()
            beating.wait()


def test_a_head_that_was_kept_shows_that_the_end_of_the_record_was_cut_off(config: Path, tmp_path: Path) -> None:
    held = Journal(tmp_path / "state", tmp_path / "run")
    for number in range(3):
        held.append("note", {"number": number}, clock.now())
    held.flush()
    assert held._state.carry_out(lambda: None, 5.0)
    kept = held.head
    held.close()
    seq, digits = kept.describe.split()
    assert (kept.seq, int(seq), len(digits)) == (3, 3, 16) and kept.number == int(kept.hash[:12], 16)
    good = invoke("journal", "--verify", "--head", digits.upper(), "-c", config)
    assert good.exit_code == 0 and f"{digits} is record 3: nothing up to it is missing" in good.output
    path = tmp_path / "state" / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert invoke("journal", "--verify", "-c", config).exit_code == 0  # the chain alone does not show it
    bad = invoke("journal", "--verify", "--head", digits, "-c", config)
    assert bad.exit_code == 1 and f"{digits} is no record's hash" in bad.output
    as_json = invoke("journal", "--verify", "--head", digits, "-c", config, "--json")
    assert as_json.exit_code == 1 and json.loads(as_json.stdout)["found"] is None


@pytest.mark.parametrize(
    "words", [("--head", "0" * 12), ("--verify", "--head", "0" * 11), ("--verify", "--head", "g" * 12)]
)
def test_a_head_that_is_none_is_wrong_usage(config: Path, words: tuple[str, ...]) -> None:
    assert invoke("journal", *words, "-c", config).exit_code == 2


def test_the_journal_verifies_and_a_changed_byte_is_found(config: Path, tmp_path: Path) -> None:
    held = Journal(tmp_path / "state", tmp_path / "run")
    for number in range(3):
        held.append("note", {"number": number}, clock.now())
    held.close()
    good = invoke("journal", "--verify", "-c", config)
    assert good.exit_code == 0
    assert "3 records" in good.output
    path = tmp_path / "state" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":7'))
    bad = invoke("journal", "--verify", "-c", config, "--json")
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["broken"]["line"] == 2


def test_a_beat_reaches_the_intake(config: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as intake:
        intake.bind(str(tmp_path / "run" / "intake.sock"))
        assert invoke("beat", "quoter-alive", "-c", config).exit_code == 0
        assert json.loads(intake.recv(100)) == {"beat": "quoter-alive", "from": socket.gethostname()}
        assert invoke("beat", "quoter-alive", "--bye", "--from", "quoter-2", "-c", config).exit_code == 0
        assert json.loads(intake.recv(100)) == {"bye": "quoter-alive", "from": "quoter-2"}


def test_a_beat_and_a_kill_wait_a_moment_for_a_daemon_that_is_just_starting(config: Path, tmp_path: Path) -> None:
    said: list[object] = []
    for words in (("beat", "quoter-alive"), ("fire", "--reason", "x", "--json")):
        kind = socket.SOCK_DGRAM if words[0] == "beat" else socket.SOCK_STREAM
        with socket.socket(socket.AF_UNIX, kind) as sock:

            def start(sock: socket.socket = sock, name: str = words[0]) -> None:
                sock.bind(str(tmp_path / "run" / ("intake.sock" if name == "beat" else "control.sock")))
                if name == "beat":
                    said.append(json.loads(sock.recv(100)))
                    return
                sock.listen()
                while len(said) < 2:
                    with sock.accept()[0] as stream:  # the first only asks whether somebody is there
                        if line := stream.recv(1000):
                            said.append(json.loads(line)["cmd"])
                            stream.sendall(b'{"accounts":{"mm1":{"state":"CLEAR"}}}\n')

            timer = threading.Timer(0.2, start)
            timer.start()
            assert invoke(*words, "-c", config).exit_code == 0
            timer.join()
    assert said == [{"beat": "quoter-alive", "from": socket.gethostname()}, "fire"]


@pytest.mark.parametrize("every", ["1", "fast", "-1s", "0s"])
def test_a_beats_period_needs_a_unit(config: Path, every: str) -> None:
    done = invoke("beat", "a", "--every", every, "-c", config)
    assert done.exit_code == 2
    assert "--every" in done.output


def test_an_unknown_venue_for_the_simulators_is_one_clear_line() -> None:
    done = invoke("sim", "--venue", "oxfan")
    assert done.exit_code == 2
    assert "Did you mean 'oxfun'?" in done.output


def test_every_command_has_help_and_takes_the_short_form() -> None:
    for name in main.commands:
        done = invoke(name, "-h")
        assert done.exit_code == (2 if name in kill_verb.VERBS else 0)  # 0 of a kill means that every account is clear
        assert len(done.output.splitlines()) > 3


def test_the_top_level_example_is_the_one_that_init_writes(tmp_path: Path) -> None:
    invoke("init", tmp_path)
    example = Path(__file__).parents[3] / "config.example.toml"
    assert example.read_text() == (tmp_path / "config.toml").read_text()


def test_secrets_of_the_environment_never_reach_the_output(config: Path) -> None:
    assert os.environ["MM1_SECRET"] not in invoke("check", "-c", config, "--json").output


@pytest.fixture
def files(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Leave a journal of three full files and one that is written, with a kill in each of the full ones."""
    monkeypatch.setattr("kill_switch.journal.writer.FULL_BYTES", 2_000)
    monkeypatch.setattr("kill_switch.journal.writer._CALM_NS", 0)
    held = Journal(tmp_path / "state", tmp_path / "run")
    for number in range(3):
        observed = {"observed_mono_ns": number, "observed_wall_ns": 10**18}
        told = {"trigger": "panic", "text": "touched", "accounts": ("a",), "evidence": {}, **observed}
        held.append_latch("reason", {"kill": f"k{number}-1", **told}, clock.now())
        for n in range(10):
            held.append("note", {"number": n}, clock.now())
        until = time.monotonic() + 10
        while len(segments.full_segments(tmp_path / "state")) <= number and time.monotonic() < until:
            held.retry_pending()
            time.sleep(0.01)
    held.close()
    return segments.full_segments(tmp_path / "state")


def test_verify_checks_a_journal_of_several_files_and_prints_its_head(config: Path, files: list[Path]) -> None:
    good = json.loads(invoke("journal", "--verify", "-c", config, "--json").stdout)
    last = json.loads((files[0].parent / "journal.jsonl").read_text().splitlines()[-1])
    assert (good["broken"], good["first"], good["head"]) == (None, 1, last["hash"])
    assert good["records"] == good["seq"] == last["seq"] == 36
    assert last["hash"] in invoke("journal", "--verify", "-c", config).output


def test_verify_names_archived_files_and_checks_the_others(config: Path, files: list[Path]) -> None:
    for path in files[:2]:
        path.unlink()
    done = invoke("journal", "--verify", "-c", config)
    assert done.exit_code == 0
    assert "records 1 to 23 are not here: archived, or lost" in done.output


def test_a_file_that_is_missing_in_the_middle_is_named(config: Path, files: list[Path]) -> None:
    files[1].unlink()
    done = invoke("journal", "--verify", "-c", config)
    assert done.exit_code == 1
    assert f"{files[2]}: BROKEN at line 1: records 12 to 23 are missing" in done.output
    shown = invoke("journal", "--verify", "-c", config, "--json")
    assert json.loads(shown.stdout)["broken"]["file"] == files[2].name


@pytest.mark.parametrize(
    ("damage", "why"),
    [(Path.unlink, "journal.jsonl is missing"), (lambda path: os.truncate(path, 0), "journal.jsonl has no record")],
)
def test_each_reader_of_a_journal_that_was_removed_or_emptied_prints_the_records_before_and_ends_with_1(
    config: Path, files: list[Path], damage: Callable[[Path], object], why: str
) -> None:
    damage(files[0].with_name("journal.jsonl"))
    verified = invoke("journal", "--verify", "-c", config)
    assert (verified.exit_code, "records before it are right" in verified.output) == (1, True)
    assert f"BROKEN: {why}, and a journal was begun here" in verified.output
    assert json.loads(invoke("journal", "--verify", "-c", config, "--json").stdout)["broken"]["file"] == "journal.jsonl"
    for words in (("journal", "-n", "1", "--json"), ("report", "--json"), ("report", "--list", "--json")):
        done = invoke(*words, "-c", config)
        assert (done.exit_code, why in done.stderr) == (1, True), words
        assert json.loads(done.stdout)
    for path in files:  # the only file of a short journal
        path.unlink()
    assert invoke("journal", "--verify", "-c", config).exit_code == 1
    assert invoke("report", "-c", config).exit_code == 1
    if why.endswith("missing"):
        assert why in invoke("journal", "--follow", "-c", config).stderr


def test_an_archive_of_full_files_verifies_without_the_newest_file(config: Path, files: list[Path]) -> None:
    for name in ("journal.jsonl", "lock"):
        files[0].with_name(name).unlink()
    assert invoke("journal", "--verify", "-c", config).exit_code == 0


def test_reports_and_records_are_printed_from_all_files(config: Path, files: list[Path]) -> None:
    for number in range(3):
        assert json.loads(invoke("report", f"k{number}-1", "-c", config, "--json").stdout)["id"] == f"k{number}-1"
    assert json.loads(invoke("report", "-c", config, "--json").stdout)["id"] == "k2-1"
    assert [entry["seq"] for entry in lines("journal", "-c", config, "--json")] == list(range(1, 37))
    assert len(invoke("journal", "-c", config).output.splitlines()) == 36
    files[2].write_bytes(files[2].read_bytes().replace(b'"number":3', b'"number":4'))
    damaged = invoke("journal", "-c", config, "--json")
    assert damaged.exit_code == 1
    assert "journal-000003.jsonl line" in damaged.stderr


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (("-n", "3"), [34, 35, 36]),
        (("--kind", "reason"), [1, 13, 25]),
        (("--kind", "reason", "-n", "1"), [25]),
        (("--account", "a"), [1, 13, 25]),
        (("--account", "b"), []),
        (("--since", "1h"), list(range(1, 37))),
        (("--since", "2001-01-01T00:00:00Z", "-n", "1"), [36]),
        (("--since", "2999-01-01"), []),
    ],
)
def test_the_journal_is_filtered_by_time_kind_account_and_number(
    config: Path, files: list[Path], options: tuple[str, ...], numbers: list[int]
) -> None:
    assert [entry["seq"] for entry in lines("journal", "-c", config, "--json", *options)] == numbers


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("journal", "--since", "yesterdy"), 'expected "2h", "30m", "2026-11-30"'),
        (("journal", "--kind", "reasons"), "there is no kind 'reasons'; there are reason, "),
        (("journal", "--verify", "-n", "3"), "--verify checks the whole journal"),
        (("report", "--since", "2h"), "--since goes with --list"),
        (("report", "k1", "--list"), "--list takes neither a kill nor --explain"),
    ],
)
def test_a_filter_that_cannot_be_is_wrong_usage(config: Path, words: tuple[str, ...], hint: str) -> None:
    done = invoke(*words, "-c", config)
    assert done.exit_code == 2
    assert hint in " ".join(done.stderr.split())


def test_all_kills_are_listed_with_their_state_and_their_person(config: Path, files: list[Path]) -> None:
    kills = json.loads(invoke("report", "--list", "-c", config, "--json").stdout)["kills"]
    assert [(kill["id"], kill["trigger"], kill["state"], kill["accounts"]) for kill in kills] == [
        (f"k{number}-1", "panic", "STRIKING", ["a"]) for number in range(3)
    ]
    assert kills[0]["still_tripped"] == ["a"]
    rows = invoke("report", "--list", "-c", config).stdout.splitlines()
    assert [row.split()[0] for row in rows[:4]] == ["kill", "k0-1", "k1-1", "k2-1"]
    assert json.loads(invoke("report", "--list", "--since", "2h", "-c", config, "--json").stdout)["kills"] == []


def test_a_list_has_the_problems_that_the_daemon_knows_of_its_latest_kill(
    config: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = {"text": "what was done is not on record: it was cut", "do": "put the file back", "note": True}
    latest = find_report.find(config, "last")
    monkeypatch.setattr(control_socket, "send_request", lambda *words, **more: {**latest, "problems": [lost]})
    done = invoke("report", "--list", "-c", config)
    assert (done.exit_code, done.stderr) == (0, f"kill-switch: {lost['text']}\n  {lost['do']}\n")
    monkeypatch.setattr(
        control_socket, "send_request", lambda *words, **more: {**latest, "problems": [{**lost, "note": False}]}
    )
    assert invoke("report", "--list", "-c", config).exit_code == 1


def test_a_journal_of_which_nothing_is_shown_says_why(config: Path, files: list[Path]) -> None:
    done = invoke("journal", "--account", "nobody", "-c", config)
    assert (done.exit_code, done.stdout) == (0, "")
    assert re.search(r"journal\.jsonl: none of its \d+ records is selected\n$", done.stderr)
    for file in files[0].parent.iterdir():
        file.unlink()
    done = invoke("journal", "-n", "3", "--json", "-c", config)
    assert (done.exit_code, done.stdout) == (0, "") and done.stderr.endswith("journal.jsonl: there is no record\n")


def test_a_list_without_a_kill_says_so(config: Path) -> None:
    done = invoke("report", "--list", "-c", config)
    assert (done.exit_code, done.stdout) == (0, "there is no kill on record\n")


def test_a_configuration_that_may_not_be_read_is_no_wrong_usage(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *about, **more: False)
    assert invoke("journal", "-c", config).exit_code == 0  # because it can be read after all

    def refuse(path: Path, *mode: object, **more: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # read_bytes too
    monkeypatch.setattr(toml_file, "read_regular", refuse)
    for words in (("status",), ("fire",), ("journal",), ("check",)):
        done = invoke(*words, "-c", config)
        assert done.exit_code == 78 and f"{config}: file: permission denied" in done.output, done.output


@pytest.mark.parametrize("words", [("journal",), ("report", "--list")])
def test_a_journal_that_may_not_be_read_is_77_and_names_who_may(
    config: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*about: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied", "journal.jsonl")

    monkeypatch.setattr(segments, "read_reports", refuse)
    monkeypatch.setattr(segments.JournalReader, "entries", refuse)
    done = invoke(*words, "-c", config)
    assert done.exit_code == 77
    assert "journal.jsonl: Permission denied; read it as root or as the daemon's user; or, for a daemon" in done.output


def test_a_silence_that_waits_for_another_person_is_listed_with_its_length_reason_and_person(
    config: Path, tmp_path: Path
) -> None:
    pending = {"beat": {"for_s": 1800.0, "by": ["ann"], "reason": "deploy"}}
    with answering(tmp_path / "run" / "control.sock", {"silence": {"silences": {}, "pending": pending}}):
        done = invoke("silence", "--list", "-c", config)
    assert (done.exit_code, done.stdout) == (0, "beat: waits for another person: 30 min (deploy), asked for by ann\n")
