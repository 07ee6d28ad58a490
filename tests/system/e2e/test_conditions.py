"""Each condition that `status` knows, on one daemon: its line, its exit code, its place in the JSON, and its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.system.e2e.conftest import HEARTBEAT, Done, Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

OTHER_UID = 54321  # of the second person
BLIND = """
[triggers.figures]
kind = "pnl"
source = "intake"
accounts = ["oxfun"]
currency = "USD"
max_loss = "5000"
reset = "00:00 UTC"
on_blind = "alarm"
stale_after = "1s"
"""
QUIET = '[triggers.alive]\nkind = "heartbeat"\ntimeout = "10m"\naccounts = ["oxfun"]\n'
TWO = "[rearm]\napprovals = 2\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Play]:
    with Play(["oxfun", "roxom"]) as made:
        made.write_config()
        made.start_daemon()
        yield made


@pytest.fixture
def play(daemon: Play) -> Iterator[Play]:
    """The armed daemon; afterwards it is armed again, with no order and no fault."""
    yield daemon
    for venue in daemon.venues:
        daemon.admin("DELETE", f"/faults?venue={venue}")
    if daemon.status()["state"] != "ARMED":
        daemon.until_tripped()
        daemon.command("rearm", "--reason", "the next test")
        if daemon.status()["state"] != "ARMED":  # two people are needed
            as_other_person(daemon, "rearm", "--reason", "the next test")
    configure(daemon, "")


def configure(play: Play, extra: str) -> None:
    play.write_config(extra)
    done = play.command("reload")
    assert done.exit_code == 0, done.err


def said(play: Play, about: str) -> tuple[int, str, str, Mapping[str, Any]]:
    """Return exit code, first line, the only line about that and its problem, as `status` shows them now."""
    done, told = play.command("status"), play.command("status", "--json")
    assert done.exit_code == told.exit_code
    lines = [line for line in done.out.splitlines() if line.startswith(f"! {about}")]
    assert len(lines) == 1, done.out
    (line,) = lines
    (problem,) = [each for each in told.json["problems"] if line.startswith(f"! {prefix(each)}{each['text']}")]
    assert f" → {problem['do']} [{problem['page']}]" in line
    return done.exit_code, done.out.splitlines()[0], line, problem


def prefix(problem: Mapping[str, Any]) -> str:
    kind = "trigger " if "trigger" in problem else ""
    about = problem.get("account") or problem.get("trigger")
    return f"{kind}{about}: " if about else ""


def as_other_person(play: Play, *words: str) -> Done:
    """Run a command as another user, who may do all the same with files."""
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("only root can be two people")
    may = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    command = ["setpriv", f"--reuid={OTHER_UID}", "--clear-groups", *may, sys.executable, "-m", "kill_switch", *words]
    done = subprocess.run([*command, "-c", str(play.config)], capture_output=True, text=True, timeout=30)
    return Done(done.returncode, done.stdout, done.stderr)


def test_orders_that_a_kill_has_left_are_named_also_after_a_forced_re_arm_until_they_have_gone(play: Play) -> None:
    ids = play.rest("oxfun", 3)
    play.admin("POST", "/faults", venue="oxfun", fault="accept_but_keep", times=10_000)
    assert play.command("fire", "--scope", "oxfun", "--reason", "runaway", "--wait", "0").exit_code == 1
    play.wait_for(lambda s: s["accounts"]["oxfun"]["state"] == "RESIDUE", 30.0)
    code, head, line, problem = said(play, "oxfun: RESIDUE")
    assert code == 3 and head.startswith(" RESIDUE  1 of 2, 3 orders left ")
    assert all(order_id in line for order_id in ids) and "the venue has accepted the cancels" in line
    assert (problem["account"], problem["page"]) == ("oxfun", "runbook/orders-are-left")

    refused = play.command("rearm", "--reason", "looks fine")
    assert refused.exit_code == 1 and "use --force" in refused.err
    forced = play.command("rearm", "--reason", "the broker cancels them", "--force")
    assert (forced.exit_code, forced.out) == (0, "re-armed: oxfun\n")
    assert all(order_id in forced.err for order_id in ids) and "does not cancel them any more" in forced.err
    code, head, line, problem = said(play, "oxfun: 3 orders")
    assert code == 0 and head.startswith(" ARMED ") and all(order_id in line for order_id in ids)
    assert "left by a forced re-arm" in line and problem["do"].endswith(f"fire --scope oxfun -c {play.config}")
    play.admin("DELETE", "/faults?venue=oxfun")
    assert play.command("fire", "--scope", "oxfun", "--reason", "now").exit_code == 0
    assert play.command("rearm", "--reason", "clear").exit_code == 0
    assert "! oxfun" not in play.command("status").out


def test_a_kill_of_one_account_says_how_many_are_hit(play: Play) -> None:
    assert play.command("fire", "--scope", "roxom", "--reason", "x").exit_code == 0
    done = play.command("status")
    assert (done.exit_code, done.out.splitlines()[0][:17]) == (3, " TRIPPED  1 of 2 ")


def test_a_hook_that_failed_is_named_with_its_kill(play: Play) -> None:
    configure(play, '[hooks]\non_trip = ["false"]\n')
    assert play.command("fire", "--scope", "roxom", "--reason", "x").exit_code == 0
    kill = play.status()["last_kill"]
    play.until(lambda: bool(play.status()["trouble"]))
    code, _, line, problem = said(play, "hook false failed")
    assert code == 3 and f"for kill {kill}: exit code 1: what it stops may still run" in line
    assert problem["page"] == "guides/hooks"
    assert play.command("journal", "--kind", "hook").exit_code == 0


def test_a_blind_trigger_is_named_and_the_daemon_is_not_whole(play: Play) -> None:
    configure(play, BLIND)
    play.wait_for(lambda s: s["triggers"]["figures"]["state"] == "blind", 10.0)
    code, head, line, problem = said(play, "trigger figures: blind: ")
    assert code == 4 and head.startswith(" ARMED, but not whole ")
    assert "it fires nothing until it sees again" in line
    assert (problem["trigger"], problem["page"]) == ("figures", "runbook/a-trigger-is-blind")


def test_a_bot_that_has_sent_no_beat_since_a_re_arm_is_named_until_it_sends_one(play: Play) -> None:
    configure(play, HEARTBEAT)
    assert play.command("beat", "alive").exit_code == 0
    play.wait_for(lambda s: s["accounts"]["oxfun"]["state"] == "CLEAR", 15.0)
    assert play.command("rearm", "--reason", "the bot is fixed").exit_code == 0
    code, head, line, problem = said(play, "trigger alive: no beat has come since the re-arm")
    assert code == 0 and head.startswith(" ARMED ") and "a bot that is dead now is not noticed" in line
    assert problem["page"] == "runbook/a-bot-is-dead"


def test_a_re_arm_that_waits_for_the_second_person_names_the_first_the_accounts_and_the_time(play: Play) -> None:
    configure(play, TWO)
    assert play.command("fire", "--scope", "roxom", "--reason", "x").exit_code == 0
    first = play.command("rearm", "--reason", "quoter fixed", "--scope", "roxom")
    assert first.exit_code == 75 and "another person must type the same command" in first.err
    code, _, line, problem = said(play, "root has approved")
    assert code == 3 and "of roxom (quoter fixed): 1 of 2 people" in line and problem["at"].endswith("Z")
    assert "another person than root types kill-switch rearm --reason … --scope roxom" in line
    second = as_other_person(play, "rearm", "--reason", "I looked too", "--scope", "roxom")
    assert (second.exit_code, play.status()["state"]) == (0, "ARMED"), second.err


def test_a_silence_that_waits_for_the_second_person_names_the_first_and_its_command_begins_it(
    play: Play,
) -> None:
    configure(play, TWO + QUIET)
    words = ("silence", "alive", "--for", "30m", "--reason", "deploy 2.4")
    assert play.command(*words).exit_code == 75
    code, _, line, problem = said(play, "trigger alive: root has asked to silence it for 30 min (deploy 2.4)")
    assert code == 0 and "1 of 2 people" in line and problem["at"].endswith("Z")
    assert "another person than root types kill-switch silence alive --for 30m --reason …" in line
    assert as_other_person(play, *words).exit_code == 0
    code, head, line, _ = said(play, "trigger alive: silenced for another ")
    assert code == 4 and head.startswith(" ARMED, but not whole ") and "deploy 2.4" in line
