"""`fire --direct` as a process kills what it can, whatever is wrong around it; no traceback reaches a person."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kill_switch.journal.latch_file import LATCH_NAME as LATCH
from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


@pytest.mark.parametrize("running", [True, False], ids=["beside a daemon", "before a daemon starts"])
def test_an_account_that_cannot_be_struck_from_here_is_struck_by_the_daemon_that_can(
    running: bool, field: Play
) -> None:
    good = field.config.read_text()
    if running:
        field.start_daemon()
    field.config.write_text(good.replace('venue = "oxfun"', "venue = oxfun"))
    assert field.command(*FIRE).exit_code == 1
    field.config.write_text(good)
    if not running:
        assert field.book("oxfun") == 5
        field.start_daemon()
    field.until(lambda: field.open_orders() == 0)
    field.until_tripped()
    assert {account["state"] for account in field.status()["accounts"].values()} == {"CLEAR"}


FIRE = ("fire", "--direct", "--reason", "the daemon is gone", "--json")


@pytest.fixture
def field() -> Iterator[Play]:
    """Two venues with orders, directories that nobody holds, and no daemon."""
    with Play(["oxfun", "roxom"]) as play:
        play.write_config()
        play.state_dir.mkdir()
        for venue in play.venues:
            play.rest(venue, 5)
        yield play


def test_without_waiting_for_the_proof_every_order_goes(field: Play) -> None:
    done = field.command(*FIRE, "--wait", "0")
    assert done.exit_code in (0, 1), done.err
    assert field.open_orders() == 0


@pytest.mark.parametrize("how", ["a key is gone", "a key is no PEM", "the authorities are gone", "a syntax error"])
def test_one_account_that_cannot_be_built_is_named_and_the_other_is_killed(how: str, field: Play) -> None:
    text = field.config.read_text()
    match how:
        case "a key is gone":
            (field.directory / "oxfun-api_secret").unlink()
        case "a key is no PEM":
            authorities = field.directory / "none.pem"
            authorities.write_text("no certificate")
            text = text.replace(str(field.ready["ca_file"]), str(authorities), 1)
        case "the authorities are gone":
            text = text.replace(str(field.ready["ca_file"]), "/nonexistent/ca.pem", 1)
        case "a syntax error":
            text = text.replace('venue = "oxfun"', "venue = oxfun")
    field.config.write_text(text)
    done = field.command(*FIRE)
    assert done.exit_code == 1
    assert "NOT KILLED: oxfun: " in done.err and "Traceback" not in done.err
    assert list(done.json["accounts"]) == ["roxom"] and list(done.json["missed"]) == ["oxfun"]
    assert (field.book("oxfun"), field.book("roxom")) == (5, 0)
    scoped = field.command(*FIRE, "--scope", "roxom")
    assert scoped.exit_code == 0, scoped.err
    assert field.command("check").exit_code == 78  # as `run` would


def test_a_kill_that_dies_between_its_first_byte_and_its_record_trips_the_next_daemon(field: Play) -> None:
    os.mkfifo(field.state_dir / "journal.jsonl")  # whoever opens it to read waits for ever
    process = subprocess.Popen(
        [sys.executable, "-m", "kill_switch", *FIRE, "-c", str(field.config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        field.until(lambda: field.open_orders() == 0)
    finally:
        process.kill()
        process.wait()
    (field.state_dir / "journal.jsonl").unlink()
    field.start_daemon(wait=False)
    status = field.wait_for(lambda s: s["state"] != "ARMED", 10.0)
    assert all(account["state"] != "ARMED" for account in status["accounts"].values())


def test_a_record_that_cannot_be_read_for_hanging_keeps_neither_the_kill_nor_its_end(field: Play) -> None:
    os.mkfifo(field.state_dir / "journal.jsonl")
    done = field.command(*FIRE, within_s=30.0)
    assert done.exit_code == 0 and "not on record" in done.err  # the latch stands
    assert field.open_orders() == 0
    assert {account["verdict"] for account in done.json["accounts"].values()} == {"CONFIRMED"}
    assert (field.state_dir / LATCH).exists()
    assert "the latch stays in a file" in done.err


def test_an_interrupt_waits_for_the_answers_and_says_so(field: Play) -> None:
    for venue in field.venues:
        field.admin("POST", "/faults", venue=venue, fault="delay", ms=500)
    command = [sys.executable, "-m", "kill_switch", *FIRE, "--wait", "60", "-c", str(field.config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    field.until(lambda: (field.state_dir / LATCH).exists())
    time.sleep(0.1)  # the handler of the signal has been there since before the latch
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert "SIGINT: no wait for the proof" in err and "Traceback" not in err
    assert field.open_orders() == 0


def test_a_report_without_a_reader_does_not_change_the_kill(field: Play) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kill_switch", *FIRE, "-c", str(field.config)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    assert field.open_orders() == 0
    assert "Traceback" not in done.stderr and "No space left" in done.stderr
    assert done.returncode == 0


def test_a_dry_run_that_waits_for_no_proof_lists_the_orders_all_the_same(field: Play) -> None:
    done = field.command(*FIRE, "--dry-run", "--wait", "0")
    assert done.exit_code == 0, done.err
    assert [len(account["orders"]) for account in done.json["accounts"].values()] == [5, 5]


def test_commands_that_ask_a_healthy_daemon_work_beside_a_broken_file(play: Play) -> None:
    play.config.write_text(play.config.read_text() + "\n[accounts.new\n")
    for words in (("status",), ("beat", "alive"), ("drill",), ("fire", "--reason", "x"), ("rearm", "--reason", "x")):
        done = play.command(*words)
        assert done.exit_code in (0, 3), (words, done.err)
        assert "cannot be understood" in done.err
    assert play.command("reload").exit_code == 78  # the daemon takes no such file
    assert play.command("journal", "--verify").exit_code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_roots_direct_kill_leaves_files_that_the_daemons_own_user_can_use(field: Play) -> None:
    other = 65533
    for directory in (field.state_dir, field.runtime_dir):
        os.chown(directory, other, other)
    for key in field.directory.glob("*-*"):
        os.chown(key, other, other)
    command = ["sh", "-c", f'umask 077; exec "{sys.executable}" -m kill_switch "$@"', "sh"]
    words = [*command, *FIRE, "-c", str(field.config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    made = [path for directory in (field.state_dir, field.runtime_dir) for path in directory.iterdir()]
    assert {path.name for path in made} >= {"lock", "journal.jsonl"}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(other, other)}


def test_a_fault_of_the_program_is_one_line_and_70(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\ndef fail(*words): raise RuntimeError('a secret')\nsocket.socket.connect = fail\n"
    )
    (tmp_path / "config.toml").write_text(f'[daemon]\nruntime_dir = "{tmp_path}"\n')
    command = [sys.executable, "-m", "kill_switch", "status", "-c", str(tmp_path / "config.toml")]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environ)
    assert done.returncode == 70
    assert done.stderr.count("\n") == 1 and "RuntimeError" in done.stderr and "secret" not in done.stderr
    shown = subprocess.run(
        command, capture_output=True, text=True, timeout=30, env={**environ, "KILL_SWITCH_DEBUG": "1"}
    )
    assert "Traceback" in shown.stderr
