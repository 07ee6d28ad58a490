"""Drills, checks and dry runs on real connections: they prove the order path and touch no order."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


def cancels(play: Play) -> list[str]:
    return [request["what"] for request in play.admin("GET", "/requests") if request["what"].startswith("cancel-all")]


def test_a_drill_answers_on_every_lane_within_the_budget_and_hits_nothing(play: Play) -> None:
    for venue in play.venues:
        play.rest(venue, 20)
    done = play.command("drill", "--json")
    assert done.exit_code == 0, done.out + done.err
    found = done.json
    assert found["ok"] and found["within_budget"]
    assert 0 < found["answered_us"] <= found["budget_us"] == 250_000
    assert {name: set(account["lanes"]) for name, account in found["accounts"].items()} == {
        "oxfun": {"ws", "http"},
        "roxom": {"http"},
    }
    assert play.open_orders() == 40
    assert cancels(play) == []
    status = play.status()
    assert status["state"] == "ARMED"
    assert status["drill"]["last"]["ok"] is True
    assert status["accounts"]["oxfun"]["drill"]["http"]["ok"] is True
    entries = [json.loads(line) for line in (play.state_dir / "journal.jsonl").read_text().splitlines()]
    assert [entry["data"]["by"] for entry in entries if entry["kind"] == "drill"] == ["operator"]


def test_a_failed_drill_is_in_the_status_until_a_successful_one_across_a_restart(play: Play) -> None:
    play.admin("POST", "/faults", venue="roxom", fault="delay", ms=400)
    done = play.command("drill", "--scope", "roxom")
    assert done.exit_code == 1
    assert "OVER" in done.out
    play.admin("DELETE", "/faults?venue=roxom")
    play.stop_daemon()
    play.start_daemon()
    (trouble,) = play.status()["trouble"]
    assert trouble.startswith("drill: roxom http: 4")
    assert "over the budget" in play.command("status").out
    assert play.command("drill").exit_code == 0
    assert play.status()["trouble"] == []


def test_a_kill_goes_first_while_a_drill_is_under_way(play: Play) -> None:
    play.rest("roxom", 20)
    play.admin("POST", "/faults", venue="oxfun", fault="drop_reply")  # the drill waits for oxfun
    drilled: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: drilled.append(play.ask(cmd="drill")))
    thread.start()
    time.sleep(0.3)
    play.flag.touch()
    play.until(lambda: play.book("roxom") == 0, 3.0)
    assert not drilled
    play.admin("DELETE", "/faults?venue=oxfun")
    thread.join()
    assert drilled[0]["ok"] is False
    play.until_tripped()
    assert play.status()["trouble"] == []


def test_the_status_shows_the_next_scheduled_drill(play: Play) -> None:
    assert play.status()["drill"]["next"] is None
    play.stop_daemon()
    play.write_config('[drill]\ncron = "0 6 * * *"\ntimezone = "UTC"\n')
    play.start_daemon()
    assert play.status()["drill"]["next"].endswith("T06:00:00+00:00")


def test_check_connect_without_a_daemon_drills_everything_and_leaves_no_trace(play: Play) -> None:
    play.stop_daemon()
    before = (play.state_dir / "journal.jsonl").read_bytes()
    play.rest("oxfun", 5)
    done = play.command("check", "--connect", "--json")
    assert done.exit_code == 0, done.out + done.err
    connect = done.json["connect"]
    assert connect["via"] == "lanes"
    assert all(account["ready"] for account in connect["accounts"].values())
    assert connect["drill"]["ok"]
    assert (play.state_dir / "journal.jsonl").read_bytes() == before
    assert not (play.state_dir / "latch.jsonl").exists()
    assert play.book("oxfun") == 5


def test_check_connect_beside_a_daemon_asks_it(play: Play) -> None:
    done = play.command("check", "--connect", "--json")
    assert done.exit_code == 0, done.out + done.err
    assert done.json["connect"]["via"] == "daemon"


def test_check_connect_says_who_cannot_log_in(play: Play) -> None:
    play.stop_daemon()
    play.admin("POST", "/faults", venue="roxom", fault="reject_login")
    done = play.command("check", "--connect", "--wait", "1")
    assert done.exit_code == 1
    assert "roxom (roxom) is NOT READY" in done.out
    assert "oxfun (oxfun) is NOT READY" not in done.out


def test_check_connect_does_not_wait_for_a_refused_key(play: Play) -> None:
    play.stop_daemon()
    for venue in play.venues:
        play.admin("POST", "/faults", venue=venue, fault="reject_login")
    done = play.command("check", "--connect", "--wait", "15", "--json")
    connect = done.json["connect"]
    assert done.exit_code == 1 and connect["drill"] is None
    assert connect["waited_s"] < 5.0  # it may wait for 15; a refused login is looked at again for one second
    assert all(account["refused"] for account in connect["accounts"].values())


def test_check_connect_of_one_websocket_venue_beside_its_daemon_takes_nothing_from_it() -> None:
    with Play(["crosstrade"]) as play:
        play.write_config()
        play.start_daemon()
        time.sleep(3.0)  # what logging in has used up comes back
        assert play.command("check", "--connect").exit_code == 0
        assert play.command("fire", "--direct", "--dry-run", "--reason", "looking").exit_code == 0
        assert play.status()["accounts"]["crosstrade"]["lanes"] == {"ws": "up", "http": "up"}


@pytest.mark.parametrize("direct", [False, True])
def test_a_dry_run_lists_each_order_and_the_commands_and_changes_nothing(play: Play, direct: bool) -> None:
    ids = {venue: play.rest(venue, 7) for venue in play.venues}
    if direct:
        play.stop_daemon()
    done = play.command("fire", "--dry-run", "--reason", "looking", "--json", *(["--direct"] if direct else []))
    assert done.exit_code == 0, done.err
    assert done.json["dry_run"] is True
    for venue, account in done.json["accounts"].items():
        assert account["orders_known"] is True
        assert {order["id"] for order in account["orders"]} == set(map(str, ids[venue]))
        assert any("cancel-all" in line for line in account["would_send"])
        assert account["venue"] == venue
        assert (account["state"], account["ready"]) == ((None, None) if direct else ("ARMED", True))
    assert play.open_orders() == 14
    assert cancels(play) == []
    kinds = {json.loads(line)["kind"] for line in (play.state_dir / "journal.jsonl").read_text().splitlines()}
    assert "reason" not in kinds


def test_a_dry_run_that_cannot_read_says_so_and_never_that_there_is_nothing(play: Play) -> None:
    play.rest("roxom", 7)
    play.admin("POST", "/faults", venue="roxom", fault="half_open")
    account = play.command("fire", "--dry-run", "--reason", "looking", "--scope", "roxom", "--json").json["accounts"]
    assert account["roxom"]["orders_known"] is False
    assert account["roxom"]["orders_why"]


def test_a_large_clock_offset_is_announced() -> None:
    with Play(["oxfun"]) as play:
        play.write_config()
        play.admin("POST", "/faults", venue="oxfun", fault="skew", seconds=20)
        play.start_daemon(wait=False)
        play.wait_for(lambda s: abs(s["accounts"]["oxfun"]["clock_offset_ms"] or 0) > 15_000, 15.0)
        trouble = play.wait_for(lambda s: bool(s["trouble"]), 5.0)["trouble"]
        assert any(line.startswith("clock: oxfun: the venue's is") for line in trouble)
