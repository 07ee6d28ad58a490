"""The main job, on real connections: trip, cancel, prove, hold, re-arm."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from typing import Any

import pytest

from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


def test_touching_the_flag_clears_every_order_and_proves_it(play: Play) -> None:
    for venue in play.venues:
        play.rest(venue, 150)
        play.rest(venue, 50, kind="stop")
    play.flag.touch()
    play.until_tripped()
    assert play.open_orders() == 0
    assert play.command("status").exit_code == 3
    report = play.command("report", "--json").json
    assert report["within_budget"] is True
    assert report["reasons"][0]["trigger"] == "panic"
    for name, account in report["accounts"].items():
        assert account["verdict"] == "CONFIRMED", (name, account)
        assert account["left"] == 0
        assert account["cancelled"] == 200
        assert 0 < account["sent_us"] < account["answered_us"] < account["clear_us"]
    struck = [request["what"] for request in play.admin("GET", "/requests") if request["what"].startswith("cancel")]
    assert any("all" in what for what in struck), struck


def test_an_order_placed_while_tripped_is_swept_too(play: Play) -> None:
    play.flag.touch()
    play.until_tripped()
    for venue in play.venues:
        assert len(play.rest(venue, 3)) == 3
    play.until(lambda: play.open_orders() == 0)
    play.until_tripped()


def test_an_order_that_no_list_shows_keeps_its_account_from_being_clear_until_it_is_gone(play: Play) -> None:
    play.admin("POST", "/faults", venue="roxom", fault="unlisted")
    play.rest("roxom", 1)
    play.until(lambda: play.status()["accounts"]["roxom"]["open_orders"] == 1)
    play.admin("POST", "/faults", venue="roxom", fault="accept_but_keep", times=2)  # the cancel-all, and its own cancel
    play.flag.touch()
    play.until_tripped()
    assert play.book("roxom") == 0
    assert play.command("report", "--json").json["accounts"]["roxom"]["strikes"] >= 2


def test_live_orders_are_struck_and_a_failed_list_of_their_venue_is_reported(play: Play) -> None:
    play.rest("roxom", 3)
    play.admin("POST", "/faults", venue="roxom", fault="partial_list", list="spot")
    play.admin("POST", "/faults", venue="roxom", fault="accept_but_keep", times=2)
    play.flag.touch()
    play.until(lambda: play.book("roxom") == 0, 4.0)
    assert play.status()["accounts"]["roxom"]["state"] != "CLEAR"
    play.admin("DELETE", "/faults?venue=roxom")
    play.until_tripped()


def test_a_kill_survives_kill_dash_nine_and_goes_on_guarding(play: Play) -> None:
    play.rest("oxfun", 20)
    play.flag.touch()
    play.until_tripped()
    first = play.command("report", "--json").json["id"]
    play.stop_daemon(signal.SIGKILL)
    play.flag.unlink()
    play.rest("roxom", 5)
    play.start_daemon(wait=False)
    play.wait_for(lambda s: s["state"] != "ARMED", 10.0)
    play.until(lambda: play.open_orders() == 0)
    play.until_tripped()
    assert play.status()["last_kill"] == first
    assert play.command("journal", "--verify").exit_code == 0


def test_an_unfinished_kill_is_resumed_at_the_next_start(play: Play) -> None:
    play.rest("roxom", 30)
    play.admin("POST", "/faults", venue="roxom", fault="accept_but_keep", times=1000)
    play.flag.touch()
    play.until(lambda: play.status()["accounts"]["roxom"]["state"] == "CONFIRMING")
    play.stop_daemon(signal.SIGKILL)
    play.flag.unlink()
    play.admin("DELETE", "/faults?venue=roxom")
    assert play.book("roxom") == 30
    play.start_daemon(wait=False)
    play.until(lambda: play.book("roxom") == 0)
    play.until_tripped()


def test_rearming_is_refused_while_the_flag_is_there_and_granted_afterwards(play: Play) -> None:
    play.flag.write_text("the quoter went mad\n")
    play.until_tripped()
    refused = play.command("rearm", "--reason", "looks fine")
    assert refused.exit_code == 1
    assert "remove it" in refused.err
    assert play.status()["state"] == "TRIPPED"
    play.flag.unlink()
    granted = play.command("rearm", "--reason", "looks fine", "--json")
    assert granted.exit_code == 0, granted.err
    assert granted.json == {"rearmed": ["oxfun", "roxom"]}
    assert play.command("status").exit_code == 0
    play.rest("oxfun", 2)
    play.until(lambda: play.status()["accounts"]["oxfun"]["open_orders"] == 2)
    assert play.book("oxfun") == 2
    play.flag.touch()
    play.until(lambda: play.book("oxfun") == 0)


def test_a_heartbeat_that_stops_kills_its_accounts_after_the_timeout_and_not_before(play: Play) -> None:
    for venue in play.venues:
        play.rest(venue, 10)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sock:
        for _ in range(8):
            sock.sendto(b"alive", str(play.runtime_dir / "intake.sock"))
            last_s = time.monotonic()
            time.sleep(0.2)
            assert play.status()["state"] == "ARMED"
    play.wait_for(lambda s: s["accounts"]["oxfun"]["state"] == "CLEAR", 10.0)
    report = play.command("report", "--json").json
    assert report["reasons"][0]["trigger"] == "alive"
    assert report["reasons"][0]["evidence"]["silent_ms"] >= 700
    assert time.monotonic() - last_s >= 0.7
    assert list(report["accounts"]) == ["oxfun"]
    assert (play.book("oxfun"), play.book("roxom")) == (0, 10)


def test_a_daemon_that_was_stopped_for_a_while_does_not_trip_on_beats_it_could_not_hear(play: Play) -> None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    assert play.daemon is not None
    with sock:
        sock.sendto(b"alive", str(play.runtime_dir / "intake.sock"))
        play.until(lambda: play.status()["triggers"]["alive"]["state"] == "ok")
        os.kill(play.daemon.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(play.daemon.pid, signal.SIGCONT)
        for _ in range(5):
            sock.sendto(b"alive", str(play.runtime_dir / "intake.sock"))
            time.sleep(0.1)
    assert play.status()["state"] == "ARMED"
    play.wait_for(lambda s: s["accounts"]["oxfun"]["state"] == "CLEAR", 10.0)  # and a true loss is not hidden


def test_fire_waits_for_the_proof_and_prints_its_result(play: Play) -> None:
    for venue in play.venues:
        play.rest(venue, 5)
    done = play.command("fire", "--reason", "test", "--scope", "roxom", "--json")
    assert done.exit_code == 0, done.err
    assert done.json["accounts"]["roxom"]["verdict"] == "CONFIRMED"
    assert (play.book("oxfun"), play.book("roxom")) == (5, 0)
    assert done.json["reasons"][0]["evidence"]["uid"] == os.getuid()


def test_fire_ends_with_one_when_something_is_left(play: Play) -> None:
    play.rest("roxom", 5)
    play.admin("POST", "/faults", venue="roxom", fault="accept_but_keep", times=1000)
    done = play.command("fire", "--reason", "test", "--wait", "1", "--json")
    play.stop_daemon(signal.SIGKILL)
    assert done.exit_code == 1
    assert done.json["accounts"]["roxom"]["verdict"] != "CONFIRMED"
    assert done.json["accounts"]["roxom"]["left"] == 5


def test_sigusr1_is_an_operators_reason(play: Play) -> None:
    play.rest("oxfun", 5)
    assert play.daemon is not None
    os.kill(play.daemon.pid, signal.SIGUSR1)
    play.until(lambda: play.book("oxfun") == 0)
    play.until_tripped()


def test_a_terminal_that_closes_does_not_end_it_and_a_second_daemon_takes_nothing_from_it(play: Play) -> None:
    assert play.daemon is not None
    os.kill(play.daemon.pid, signal.SIGHUP)
    other = play.config.with_name("other.toml")
    other.write_text(play.config.read_text().replace(str(play.state_dir), str(play.directory / "other-state")))
    mine, play.config = play.config, other
    second = play.command("run")
    play.config = mine
    assert second.exit_code == 75
    assert "another daemon answers on" in second.err
    play.rest("oxfun", 3)
    assert play.command("fire", "--reason", "still there").exit_code == 0
    assert play.book("oxfun") == 0


def test_sigterm_lets_the_kill_come_to_its_end(play: Play) -> None:
    play.rest("oxfun", 50)
    play.admin("POST", "/faults", venue="oxfun", fault="delay", ms=300, on="all")
    assert play.daemon is not None
    play.flag.touch()
    play.until(lambda: play.status()["state"] == "FIRING")
    assert play.stop_daemon(signal.SIGTERM) == 0
    assert play.book("oxfun") == 0
    kinds = [entry["kind"] for entry in play.command("journal", "--json").lines]
    assert "all-clear" in kinds
    assert kinds[-1] == "stop"


def test_an_answer_that_never_comes_is_hedged_over_a_fresh_connection(play: Play) -> None:
    play.rest("roxom", 5)
    play.admin("POST", "/faults", venue="roxom", fault="half_open")
    play.flag.touch()
    time.sleep(0.5)
    play.admin("DELETE", "/faults?venue=roxom")
    play.until(lambda: play.book("roxom") == 0)
    play.until_tripped()
    assert "fresh" in play.command("report", "--json").json["accounts"]["roxom"]["routes"]


def test_one_venue_that_fails_is_not_felt_by_the_other(play: Play) -> None:
    for venue in play.venues:
        play.rest(venue, 5)
    play.admin("POST", "/faults", venue="roxom", fault="garble", on="all")
    play.flag.touch()
    play.wait_for(lambda s: s["accounts"]["oxfun"]["state"] == "CLEAR", 5.0)
    report = play.command("report", "--json").json
    assert report["accounts"]["oxfun"]["verdict"] == "CONFIRMED"
    assert report["accounts"]["roxom"]["verdict"] == "UNKNOWN"
    play.admin("DELETE", "/faults?venue=roxom")
    play.until_tripped()


def test_fire_direct_kills_without_a_daemon_and_the_next_daemon_is_tripped(play: Play) -> None:
    play.stop_daemon()
    for venue in play.venues:
        play.rest(venue, 20)
    done = play.command("fire", "--direct", "--reason", "the daemon is dead", "--json")
    assert done.exit_code == 0, done.err
    assert play.open_orders() == 0
    play.start_daemon()
    assert play.status()["state"] == "TRIPPED"


def test_fire_direct_beside_a_hung_daemon_trips_it_when_it_comes_back(play: Play) -> None:
    for venue in play.venues:
        play.rest(venue, 20)
    assert play.daemon is not None
    os.kill(play.daemon.pid, signal.SIGSTOP)
    try:
        done = play.command("fire", "--direct", "--reason", "the daemon hangs", "--json", within_s=40.0)
    finally:
        os.kill(play.daemon.pid, signal.SIGCONT)
    assert {account["verdict"] for account in done.json["accounts"].values()} == {"CONFIRMED"}
    assert done.exit_code == 0 and "has not taken this kill over" in done.err  # it is on no record yet
    assert play.open_orders() == 0
    play.wait_for(lambda s: s["state"] == "TRIPPED", 10.0)


def test_a_venue_that_cannot_be_reached_trips_its_account_and_no_other() -> None:
    with Play(["oxfun", "roxom"]) as play:
        play.write_config('[triggers.lost]\nkind = "link"\ntimeout = "1s"\n')
        play.start_daemon()
        for venue in play.venues:
            play.rest(venue, 5)
        play.admin("POST", "/faults", venue="roxom", fault="half_open")
        play.wait_for(lambda s: s["triggers"]["lost"]["state"] == "tripped", 15.0)
        assert play.status()["accounts"]["oxfun"]["state"] == "ARMED"
        play.admin("DELETE", "/faults?venue=roxom")
        play.until(lambda: play.book("roxom") == 0)
        assert play.book("oxfun") == 5


def test_a_blind_trigger_is_announced_and_fires_if_so_configured() -> None:
    with Play(["roxom"]) as play:
        away = play.directory / "away"
        away.mkdir()
        flag = f'[triggers.other]\nkind = "flag"\npath = "{away}/KILL"\non_blind = "fire"\n'
        play.write_config(flag)
        play.start_daemon()
        play.rest("roxom", 5)
        assert play.status()["state"] == "ARMED"
        away.rmdir()
        play.until(lambda: play.book("roxom") == 0)
        assert play.status()["triggers"]["other"]["state"] == "blind"
        assert "trigger other is blind" in play.log.read_text()


def test_a_damaged_journal_trips_even_if_the_start_after_it_fails() -> None:
    with Play(["roxom"]) as play, socket.socket(socket.AF_UNIX) as taken:
        play.write_config()
        play.start_daemon()
        play.command("fire", "--reason", "test")
        play.stop_daemon()
        path = play.state_dir / "journal.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"kind":"reason"', b'"kind":"raisin"'))
        control = play.runtime_dir / "control.sock"
        control.unlink(missing_ok=True)
        taken.bind(str(control))
        taken.listen()
        assert play.command("run").exit_code == 75
        taken.close()
        play.start_daemon()
        assert play.status()["state"] != "ARMED"


def test_a_journal_that_was_taken_away_trips_at_the_next_start(play: Play) -> None:
    (play.state_dir / "journal.jsonl").unlink()
    play.until(lambda: play.status()["journal"] != "ok")
    play.stop_daemon(signal.SIGKILL)
    play.start_daemon()
    assert play.status()["state"] != "ARMED"


@pytest.mark.parametrize("way", ["removed", "emptied", "cut"])
def test_a_kill_after_the_journal_was_taken_away_is_tripped_after_the_next_start(play: Play, way: str) -> None:
    match way:
        case "removed":
            shutil.rmtree(play.state_dir)
        case "emptied":
            for path in play.state_dir.iterdir():
                path.unlink()
        case _:
            os.truncate(play.state_dir / "journal.jsonl", 0)
    for venue in play.venues:
        play.rest(venue, 3)
    play.flag.touch()
    status = play.wait_for(lambda s: s["state"] == "TRIPPED" and s["journal"] != "ok", 10.0)
    assert "nothing is on record" in status["journal"]
    assert play.open_orders() == 0
    play.stop_daemon(signal.SIGKILL)
    play.flag.unlink()
    play.start_daemon()
    assert play.status()["state"] != "ARMED"


def test_fire_direct_strikes_at_once_the_accounts_that_a_dead_daemon_left_unfinished(play: Play) -> None:
    for venue in play.venues:
        play.rest(venue, 10)
        play.admin("POST", "/faults", venue=venue, fault="accept_but_keep", times=1000)
    play.flag.touch()
    play.wait_for(lambda s: s["state"] == "FIRING", 5.0)
    play.stop_daemon(signal.SIGKILL)
    for venue in play.venues:
        play.admin("DELETE", f"/faults?venue={venue}")
        play.admin("POST", "/faults", venue=venue, fault="drop_reply", on="read")  # nothing can be read back
    done = play.command("fire", "--direct", "--reason", "last resort", "--wait", "2", "--json")
    assert play.open_orders() == 0
    assert done.exit_code == 1  # gone, and not proven
    assert all(account["verdict"] == "UNKNOWN" for account in done.json["accounts"].values())


def test_rearming_is_refused_while_the_venue_cannot_be_read(play: Play) -> None:
    play.flag.touch()
    play.until_tripped()
    play.admin("POST", "/faults", venue="roxom", fault="half_open")
    play.flag.unlink()
    refused = play.command("rearm", "--reason", "looks clear")
    assert refused.exit_code == 1
    assert "roxom" in refused.err
    play.wait_for(lambda s: s["accounts"]["roxom"]["state"] not in ("CLEAR", "ARMED"), 12.0)  # a claim is no proof
    play.admin("DELETE", "/faults?venue=roxom")
    play.until_tripped()
    assert play.command("rearm", "--reason", "is clear").exit_code == 0


@pytest.mark.parametrize("wait", ["nan", "inf", "-1", "100000"])
def test_a_kill_leaves_at_any_wait(wait: str) -> None:
    with Play(["roxom"]) as play:
        play.write_config()
        play.start_daemon()
        play.rest("roxom", 3)
        play.command("fire", "--reason", "test", "--wait", wait)
        play.until(lambda: play.book("roxom") == 0)


def test_a_flag_that_comes_and_goes_at_once_has_been_touched(play: Play) -> None:
    play.rest("roxom", 3)
    play.flag.touch()
    play.flag.unlink()
    play.until(lambda: play.book("roxom") == 0)


def told(play: Play, name: str) -> dict[str, Any]:
    report: dict[str, Any] = play.command("report", "--json").json
    account: dict[str, Any] = report["accounts"][name]
    return {**account, "within_budget": report["within_budget"]}


def test_orders_that_a_venue_says_it_cancels_and_keeps_are_left_and_not_gone(play: Play) -> None:
    ids = play.rest("roxom", 6)
    play.wait_for(lambda s: s["accounts"]["roxom"]["open_orders"] == 6, 5.0)
    play.admin("POST", "/faults", venue="roxom", fault="accept_but_keep", times=1000)
    play.flag.touch()
    play.until(lambda: told(play, "roxom")["strikes"] >= 3, 8.0)
    kept = told(play, "roxom")
    assert (kept["cancelled"], kept["cancelled_ids"], kept["left"]) == (0, [], 6)
    assert kept["claimed"] >= 12
    play.admin("DELETE", "/faults?venue=roxom")
    play.until_tripped()
    gone = told(play, "roxom")
    assert (gone["cancelled"], sorted(gone["cancelled_ids"]), gone["left"]) == (6, sorted(ids), 0)


def test_orders_that_are_filled_while_their_cancel_is_pending_are_not_gone(play: Play) -> None:
    for venue in play.venues:
        play.rest(venue, 4)
    play.wait_for(lambda s: all(account["open_orders"] == 4 for account in s["accounts"].values()), 5.0)
    for venue in play.venues:
        play.admin("POST", "/faults", venue=venue, fault="pending", ms=100, fill=True)
    play.flag.touch()
    play.until_tripped()
    assert {name: told(play, name)["cancelled"] for name in play.venues} == dict.fromkeys(play.venues, 0)


def test_a_restart_in_the_middle_of_a_kill_neither_loses_nor_doubles_orders(play: Play) -> None:
    ids = play.rest("roxom", 30)
    play.wait_for(lambda s: s["accounts"]["roxom"]["open_orders"] == 30, 5.0)
    play.admin("POST", "/faults", venue="roxom", fault="accept_but_keep", times=1000)
    play.flag.touch()
    play.until(lambda: play.status()["accounts"]["roxom"]["state"] == "CONFIRMING")
    play.stop_daemon(signal.SIGKILL)
    play.flag.unlink()
    play.admin("DELETE", "/faults?venue=roxom")
    play.start_daemon(wait=False)
    play.until_tripped()
    gone = told(play, "roxom")
    assert (gone["cancelled"], sorted(gone["cancelled_ids"])) == (30, sorted(ids))


def test_a_refused_cancel_is_no_answer_and_the_time_is_that_of_the_one_that_was_accepted(play: Play) -> None:
    play.rest("roxom", 3)
    play.admin("POST", "/faults", venue="roxom", fault="refuse", status=403, times=3)
    play.flag.touch()
    play.until_tripped()
    account = told(play, "roxom")
    *refused, accepted = account["attempts"]
    assert [attempt["answer"] for attempt in account["attempts"]] == ["REFUSED"] * 3 + ["ACCEPTED"]
    assert account["answered_us"] == accepted["answered_us"] > 1_000_000
    assert account["sent_us"] == accepted["sent_us"] > refused[-1]["answered_us"]
    assert (account["verdict"], account["within_budget"]) == ("CONFIRMED", False)
