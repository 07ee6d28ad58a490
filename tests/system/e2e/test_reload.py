"""Reload the configuration of a running daemon, as a whole or not at all."""

from __future__ import annotations

import os
import signal

import pytest

from tests.system.e2e.conftest import Play

pytestmark = pytest.mark.e2e

BEAT = '[triggers.beat]\nkind = "heartbeat"\ntimeout = "400ms"\nstart = "boot"\n'


def connections(play: Play, venue: str) -> list[int]:
    """Return when the venue has seen each login."""
    seen = play.admin("GET", f"/requests?venue={venue}")
    return [request["t_ns"] for request in seen if "login" in request["what"] or "upgrade" in request["what"]]


def test_a_trigger_that_is_added_trips_and_the_accounts_keep_their_lanes(play: Play) -> None:
    before = connections(play, "oxfun")
    play.config.write_text(play.config.read_text() + BEAT)
    done = play.command("reload")
    assert (done.exit_code, done.out) == (0, "reloaded: triggers begun: beat\n"), done.err
    play.until_tripped()
    report = play.command("report", "--json").json
    assert [reason["trigger"] for reason in report["reasons"]] == ["beat"]
    assert before
    assert connections(play, "oxfun") == before


def test_a_file_that_is_wrong_changes_nothing_and_says_why(play: Play) -> None:
    good = play.config.read_text()
    play.config.write_text(good.replace('venue = "roxom"', 'venue = "roxon"') + BEAT)
    done = play.command("reload")
    assert done.exit_code == 78
    assert 'did you mean "roxom"?' in done.err
    assert "beat" not in play.status()["triggers"]
    play.config.write_text(good + BEAT)
    assert play.daemon is not None
    os.kill(play.daemon.pid, signal.SIGHUP)
    play.until(lambda: "beat" in play.status()["triggers"])
    kinds = [entry["kind"] for entry in play.command("journal", "--json").lines]
    assert [kind for kind in kinds if kind.startswith("reload")] == ["reload-refused", "reload"]


def test_a_tripped_account_stays_tripped_and_is_guarded_over_its_new_lanes(play: Play) -> None:
    good = play.config.read_text()
    play.config.write_text(good.replace("[accounts.roxom]", '[accounts.roxom]\ninst_types = ["perpetual", "spot"]'))
    assert play.command("reload").out == "reloaded: accounts connected anew: roxom\n"
    play.wait_for(lambda s: s["accounts"]["roxom"]["ready"], 10.0)
    play.command("fire", "--reason", "a test")
    without = good[: good.index("[accounts.roxom]")] + good[good.index("[triggers.") :]
    play.config.write_text(without)
    refused = play.command("reload")
    assert refused.exit_code == 78
    assert "accounts.roxom: removed, and it is CLEAR; re-arm it first" in refused.err
    play.config.write_text(good)  # it reads more than before: less is refused until it is re-armed
    done = play.command("reload")
    assert done.out == "reloaded: accounts connected anew: roxom\n", done.err
    play.wait_for(lambda s: s["accounts"]["roxom"]["state"] == "CLEAR", 10.0)  # what it reads now is proven, too
    play.rest("roxom", 3)
    play.until(lambda: play.book("roxom") == 0)
    play.wait_for(lambda s: s["state"] == "TRIPPED" and s["accounts"]["roxom"]["ready"], 10.0)
    assert play.command("journal", "--verify").exit_code == 0


def test_an_account_comes_and_goes(play: Play) -> None:
    good = play.config.read_text()
    without = good[: good.index("[accounts.roxom]")] + good[good.index("[triggers.") :]
    play.config.write_text(without)
    assert play.command("reload").out == "reloaded: accounts removed: roxom\n"
    assert list(play.status()["accounts"]) == ["oxfun"]
    play.rest("roxom", 2)
    assert play.command("fire", "--reason", "only what is there").exit_code == 0
    assert play.book("roxom") == 2
    play.config.write_text(good)
    assert play.command("reload").out == "reloaded: accounts added: roxom\n"
    play.wait_for(lambda s: s["accounts"]["roxom"]["ready"], 10.0)
    assert play.status()["accounts"]["roxom"]["state"] == "ARMED"
    assert play.command("fire", "--reason", "all of it").exit_code == 0
    assert play.book("roxom") == 0
