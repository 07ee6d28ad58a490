"""A daemon that hangs or is dead, and a venue that does not answer: what a person reads, and how soon."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


def test_a_kill_that_a_stopped_daemon_does_not_acknowledge_is_queued_and_carried_out_when_it_wakes(
    play: Play,
) -> None:
    assert play.daemon is not None
    os.kill(play.daemon.pid, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        status = play.command("status")
        assert (status.exit_code, status.out) == (69, "")
        assert time.monotonic() - began_s < 8.0  # it waits 2 s; the rest is the start of Python on a busy machine
        way = f"to kill now, without the daemon: kill-switch fire -c {play.config} --direct"
        words = ("waited 2 s", "the daemon hangs", way)
        assert all(each in status.err for each in (*words, f"touch {play.flag}", "runbook: the-daemon-hangs"))
        fire = play.command("fire", "--reason", "runaway quoter", "--wait", "0")
        assert fire.exit_code == 69
        assert all(each in fire.err for each in ("no acknowledgement within 1 s", "stays queued", *words[2:]))
    finally:
        os.kill(play.daemon.pid, signal.SIGCONT)
    play.until_tripped()
    (reason,) = play.command("report", "--json").json["reasons"]
    assert reason["text"].startswith("runaway quoter (asked ")
    assert reason["evidence"]["asked_at"] < reason["observed_at"]


WORDS = (
    "report",
    "report --list",
    "silence --list",
    "silence alive --for 1m --reason deploy",
    "rearm --reason looked",
    "drill",
    "reload",
    "beat alive",
    "check --connect",
    "fire --dry-run",
)


def test_each_command_gives_up_a_stopped_daemon_after_two_seconds_and_says_the_next_step(play: Play) -> None:
    assert play.daemon is not None
    os.kill(play.daemon.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(4) as pool:  # more would share two cores too long
            tried = pool.map(lambda words: play.command(*words.split(), within_s=40.0), WORDS)
            done = dict(zip(WORDS, tried, strict=True))
    finally:
        os.kill(play.daemon.pid, signal.SIGCONT)
    for words, each in done.items():
        assert each.exit_code == (1 if words.startswith("report") else 69), each
        assert f"(waited {1 if 'fire' in words else 2}" in each.err, each
        assert "then: end its process with kill -KILL" in each.err
        assert f"to kill now, without the daemon: kill-switch fire -c {play.config} --direct" in each.err
    listed = play.command("silence", "--list")
    assert "no trigger is silenced" in listed.out  # because the person who asked for it had given up


def test_a_dry_run_goes_on_directly_after_a_stopped_daemons_silence_and_leaves_no_kill_behind(play: Play) -> None:
    assert play.daemon is not None
    os.kill(play.daemon.pid, signal.SIGSTOP)
    try:
        fire = play.command("fire", "--dry-run", "--direct-after", "1.2s", "--json", within_s=40.0)
    finally:
        os.kill(play.daemon.pid, signal.SIGCONT)
    assert (fire.exit_code, fire.json["dry_run"], set(fire.json["accounts"])) == (0, True, set(play.venues))
    assert "no acknowledgement within 1.2 s: going on without the daemon" in fire.err and "queued" not in fire.err
    assert play.status()["state"] == "ARMED"


def test_a_kill_goes_on_directly_after_a_stopped_daemons_silence_and_one_re_arm_ends_both_kills(play: Play) -> None:
    for venue in play.venues:
        play.rest(venue, 3)
    assert play.daemon is not None
    os.kill(play.daemon.pid, signal.SIGSTOP)
    try:
        fire = play.command("fire", "--reason", "runaway quoter", "--direct-after", "1.2s", "--json", within_s=40.0)
        assert {account["verdict"] for account in fire.json["accounts"].values()} == {"CONFIRMED"}
        assert fire.exit_code == 0 and play.open_orders() == 0
        assert "no acknowledgement within 1.2 s: going on without the daemon, as --direct" in fire.err
        assert "the request stays queued" in fire.err
    finally:
        os.kill(play.daemon.pid, signal.SIGCONT)
    play.wait_for(lambda s: s["state"] == "TRIPPED", 15.0)
    play.until(lambda: len(play.status()["why"]) == 2)  # the queued request, and the latch
    texts = {reason["text"].partition(" (asked")[0] for reason in play.status()["why"]}
    assert texts == {"runaway quoter", "direct: runaway quoter"}
    assert play.command("rearm", "--reason", "looked").exit_code == 0
    assert play.status()["state"] == "ARMED"


def test_ignored_messages_and_then_the_missing_daemon_are_named_with_the_next_step(play: Play) -> None:
    assert play.command("beat", "alife").exit_code == 1
    shown = play.command("status")
    (line,) = [line for line in shown.out.splitlines() if line.startswith("!")]  # for a script, however long
    assert '1 message for "alife" from ' in line and 'did you mean "alive"?' in line
    assert shown.exit_code == 0
    play.stop_daemon()
    for words in (("status",), ("fire", "--reason", "x")):
        done = play.command(*words)
        assert done.exit_code == 69
        assert "no daemon runs: nothing is watched" in done.err
        assert f"kill-switch fire -c {play.config} --direct" in done.err
        assert "runbook: the-daemon-is-dead" in done.err


def test_a_venue_that_falls_silent_is_named_within_ten_seconds_and_one_lane_of_it_alone_leaves_the_daemon_whole(
    play: Play,
) -> None:
    play.admin("POST", "/faults", venue="oxfun", fault="half_open", on="ws")
    status = play.wait_for(lambda s: s["accounts"]["oxfun"]["lanes"]["ws"] == "down", 10.0)
    assert status["accounts"]["oxfun"]["killable"]
    shown = play.command("status")
    assert shown.exit_code == 0
    assert "! oxfun: the ws lane is down" in shown.out and "a kill still goes over http" in shown.out
    play.admin("DELETE", "/faults?venue=oxfun")
    play.wait_for(lambda s: s["accounts"]["oxfun"]["ready"], 15.0)

    play.admin("POST", "/faults", venue="oxfun", fault="half_open")
    began_s = time.monotonic()
    status = play.wait_for(lambda s: not s["accounts"]["oxfun"]["killable"], 15.0)
    assert time.monotonic() - began_s < 10.0
    assert status["accounts"]["roxom"]["killable"]
    (problem,) = [each for each in status["problems"] if each.get("account") == "oxfun"]
    assert "no command would reach the venue" in problem["text"] and "kill-switch check --connect" in problem["do"]
    shown = play.command("status")
    assert shown.exit_code == 4 and shown.out.startswith(" ARMED, but not whole ")
    (line,) = [line for line in shown.out.splitlines() if line.startswith("! oxfun")]
    assert "no command would reach" in line and "[runbook/an-account-is-not-ready]" in line
