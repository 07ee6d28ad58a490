"""What is watched is watched after a restart, with real processes: who dies with the daemon is found, nobody else."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from kill_switch.testbed.testbed import stop_process
from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

ALIVE = '[triggers.alive]\nkind = "heartbeat"\ntimeout = "1s"\naccounts = ["oxfun"]\nallow_bye = true\n'


@pytest.fixture
def stage() -> Iterator[Play]:
    with Play(["oxfun", "roxom"]) as play:
        yield play


def send(play: Play, datagram: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(datagram, str(play.runtime_dir / "intake.sock"))


def watched(play: Play) -> None:
    """Start the daemon, and have it hear a beat and put that on record."""
    play.write_config(ALIVE)
    play.start_daemon()
    for venue in play.venues:
        play.rest(venue, 3)
    send(play, b"alive")
    play.wait_for(lambda s: s["triggers"]["alive"]["state"] == "ok", 5.0)
    play.until(lambda: '"kind":"heartbeat"' in (play.state_dir / "journal.jsonl").read_text())


def test_a_strategy_and_the_daemon_that_are_killed_together_trip_the_strategys_accounts(stage: Play) -> None:
    watched(stage)
    stage.stop_daemon(signal.SIGKILL)
    time.sleep(1.2)  # longer than the time-out: nobody watches
    stage.start_daemon()
    stage.wait_for(lambda s: s["accounts"]["oxfun"]["state"] == "CLEAR", 10.0)
    assert stage.status()["accounts"]["roxom"]["state"] == "ARMED"
    assert (stage.book("oxfun"), stage.book("roxom")) == (0, 3)
    assert stage.command("report", "--json").json["reasons"][0]["trigger"] == "alive"
    stage.stop_daemon(signal.SIGKILL)
    stage.start_daemon()
    assert stage.status()["triggers"]["alive"]["state"] == "tripped"
    assert stage.command("rearm", "--reason", "seen").exit_code == 0
    time.sleep(1.5)
    assert stage.status()["state"] == "ARMED"  # it waits for a first beat again


def test_a_strategy_that_sent_goodbye_is_not_waited_for(stage: Play) -> None:
    watched(stage)
    send(stage, b'{"bye":"alive"}')
    stage.wait_for(lambda s: s["triggers"]["alive"]["state"] == "waiting", 5.0)
    stage.stop_daemon(signal.SIGKILL)
    stage.start_daemon()
    time.sleep(1.5)
    assert (stage.status()["state"], stage.open_orders()) == ("ARMED", 6)


def test_a_strategy_that_beats_on_while_the_daemon_is_restarted_trips_nothing(stage: Play) -> None:
    stage.write_config(ALIVE)
    stage.start_daemon()
    stage.rest("oxfun", 3)
    command = [sys.executable, "-m", "kill_switch", "beat", "alive", "--every", "100ms", "-c", str(stage.config)]
    bot = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        stage.wait_for(lambda s: s["triggers"]["alive"]["state"] == "ok", 10.0)
        for number in (signal.SIGTERM, signal.SIGKILL):
            stage.stop_daemon(number)
            time.sleep(1.2)
            stage.start_daemon()
            stage.wait_for(lambda s: s["triggers"]["alive"]["state"] == "ok", 10.0)
        time.sleep(1.2)
        assert (stage.status()["state"], stage.book("oxfun")) == ("ARMED", 3)
    finally:
        stop_process(bot, signal.SIGINT)


def test_from_the_boot_on_counts_while_another_account_cannot_log_in(stage: Play) -> None:
    stage.admin("POST", "/faults", venue="roxom", fault="reject_login")
    stage.write_config(ALIVE + 'start = "boot"\n')
    stage.rest("oxfun", 3)
    stage.start_daemon(wait=False)
    stage.wait_for(lambda s: s["accounts"]["oxfun"]["state"] == "CLEAR", 15.0)
    status = stage.status()["accounts"]["roxom"]
    assert (status["ready"], status["state"], stage.book("oxfun")) == (False, "ARMED", 0)


def test_a_stop_while_only_lagging_lists_lack_for_the_proof_is_quick_and_the_next_start_goes_on() -> None:
    with Play(["binance-spot"]) as stage:
        stage.write_config()
        stage.start_daemon()
        stage.rest("binance-spot", 3)
        done = stage.command("fire", "--reason", "by hand", "--wait", "1")
        assert done.exit_code == 1 and "not proven yet: binance-spot: lists lag 20 s; kill-switch status" in done.err
        began_s = time.monotonic()
        assert stage.stop_daemon() == 0
        assert time.monotonic() - began_s < 8  # it was 20
        assert stage.book("binance-spot") == 0
        last = stage.state_dir.joinpath("journal.jsonl").read_text().splitlines()[-1]
        assert '"kind":"stop"' in last and "CONFIRMING" in last
        stage.start_daemon(wait=False)
        stage.wait_for(lambda s: s["accounts"]["binance-spot"]["state"] == "CONFIRMING", 10.0)
        stage.stop_daemon(signal.SIGKILL)
