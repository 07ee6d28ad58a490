"""Triggers on money, orders and time with real processes: each trips, and each does not."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from kill_switch import clock
from kill_switch.core.domain import Instant
from kill_switch.journal.journal import Journal
from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

DAY_NS = 86_400_000_000_000


@pytest.fixture
def stage() -> Iterator[Play]:
    """Two simulated venues; a test writes the configuration and starts the daemon."""
    with Play(["oxfun", "roxom"]) as play:
        yield play


def pnl(name: str, more: str) -> str:
    return f'[triggers.{name}]\nkind = "pnl"\nreset = "00:00 UTC"\non_blind = "alarm"\nconfirm = 1\n{more}\n'


def detail(play: Play, name: str) -> str:
    text: str = play.status()["triggers"][name]["detail"]
    return text


def reason(play: Play) -> dict[str, object]:
    first: dict[str, object] = play.command("report", "--json").json["reasons"][0]
    return first


def test_equity_at_venues_that_falls_trips_and_a_restart_forgets_no_baseline(stage: Play) -> None:
    ox = pnl("ox-loss", 'accounts = ["oxfun"]\ncurrency = "OX"\nmax_loss = "100"\n')
    both = pnl(
        "all-loss",
        'accounts = ["oxfun", "roxom"]\ncurrency = "USD"\nrates = { OX = "1", BTC = "100000" }\nmax_loss = "50000"\n',
    )
    stage.write_config(ox + both)
    stage.admin("POST", "/equity", venue="oxfun", equity="5000")
    stage.admin("POST", "/equity", venue="roxom", equity="2")
    stage.start_daemon()
    stage.wait_for(lambda s: "profit 0, max_loss 100" in s["triggers"]["ox-loss"]["detail"], 10.0)
    stage.wait_for(lambda s: "equity 205000 USD" in s["triggers"]["all-loss"]["detail"], 10.0)
    stage.stop_daemon(signal.SIGKILL)

    for venue in stage.venues:
        stage.rest(venue, 5)
    stage.admin("POST", "/equity", venue="oxfun", equity="4901")
    stage.start_daemon()
    stage.wait_for(lambda s: "loss 99 of 100 (99%)" in s["triggers"]["ox-loss"]["detail"], 10.0)
    assert (stage.status()["state"], stage.open_orders()) == ("ARMED", 10)

    stage.admin("POST", "/equity", venue="roxom", equity="1.5")
    stage.until_tripped()
    told = reason(stage)
    assert told["trigger"] == "all-loss"
    assert str(told["text"]).startswith("max_loss reached: equity 154901 USD")
    evidence = told["evidence"]
    assert isinstance(evidence, dict)
    assert (evidence["baseline"], set(evidence["samples"][0]["accounts"])) == ("205000", {"oxfun", "roxom"})
    assert stage.open_orders() == 0
    assert stage.command("rearm", "--reason", "seen").exit_code == 0


def test_equity_from_outside_trips_and_a_single_low_figure_does_not(stage: Play) -> None:
    stage.write_config(
        pnl("loss", 'currency = "USD"\nmax_loss = "100"\nsource = "intake"\n').replace("confirm = 1", "confirm = 2")
    )
    stage.start_daemon()
    stage.rest("oxfun", 3)

    def tell(equity: str) -> None:
        figure = {"pnl": "loss", "equity": equity, "at": time.time()}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(json.dumps(figure).encode(), str(stage.runtime_dir / "intake.sock"))
        stage.wait_for(lambda s: f"equity {equity} USD" in s["triggers"]["loss"]["detail"], 5.0)

    for equity in ("1000", "1001", "1002", "2", "1003", "902"):
        tell(equity)
    assert (stage.status()["state"], stage.book("oxfun")) == ("ARMED", 3)
    tell("901")
    tell("900")
    stage.until_tripped()
    assert str(reason(stage)["text"]).startswith("max_loss reached: equity 900 USD")
    assert stage.open_orders() == 0


def test_a_runaway_algorithm_trips_its_account_and_a_busy_one_does_not(stage: Play) -> None:
    stage.write_config(
        '[triggers.runaway]\nkind = "order-rate"\nmax_new = 10\nwindow = "60s"\naccounts = ["oxfun"]\n'
        '[triggers.full]\nkind = "order-rate"\nmax_open = 10\nwindow = "500ms"\naccounts = ["roxom"]\n'
    )
    stage.start_daemon()
    for venue in stage.venues:
        stage.rest(venue, 10)
    stage.wait_for(lambda s: "10 new orders within 60 s, of 10" in s["triggers"]["runaway"]["detail"], 5.0)
    stage.wait_for(lambda s: "10 open orders, of 10" in s["triggers"]["full"]["detail"], 5.0)
    time.sleep(0.8)
    assert (stage.status()["state"], stage.open_orders()) == ("ARMED", 20)
    stage.rest("oxfun", 1)
    stage.until(lambda: stage.book("oxfun") == 0)
    assert reason(stage)["text"] == "oxfun has 11 new orders within 60 s (allowed: 10)"
    assert (stage.status()["accounts"]["roxom"]["state"], stage.book("roxom")) == ("ARMED", 10)
    stage.rest("roxom", 1)
    stage.until(lambda: stage.book("roxom") == 0)
    assert reason(stage)["text"] == "roxom has 11 open orders, and has had more than 10 for 0.5 s"


@pytest.mark.parametrize("ahead_ns", [None, DAY_NS, 365 * DAY_NS])  # how far the clock was ahead at the end
@pytest.mark.parametrize(("missed", "state"), [("fire", "TRIPPED"), ("skip", "ARMED")])
def test_a_schedule_that_was_missed_fires_at_the_start_where_it_is_to(
    stage: Play, missed: str, state: str, ahead_ns: int | None
) -> None:
    now = clock.now()
    stage.state_dir.mkdir()
    with contextlib.closing(Journal(stage.state_dir, stage.runtime_dir)) as journal:  # of a daemon of yesterday
        cast = {"accounts": {"oxfun": "oxfun", "roxom": "roxom"}, "triggers": {"flat": "schedule"}}
        journal.append("start", {"version": "0.1.0", "pid": 1, **cast}, Instant(now.mono_ns, now.wall_ns - DAY_NS))
        if ahead_ns is not None:
            journal.append("stop", {"state": "ARMED"}, Instant(now.mono_ns, now.wall_ns + ahead_ns))
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    stage.write_config(
        f'[triggers.flat]\nkind = "schedule"\nmissed = "{missed}"\ncron = "{an_hour_ago:%-M %-H} * * *"\n'
        'timezone = "UTC"\n'
    )
    stage.rest("oxfun", 2)
    stage.start_daemon()
    status = stage.wait_for(lambda s: s["state"] != "FIRING", 10.0)
    assert (status["state"], stage.book("oxfun")) == (state, 0 if missed == "fire" else 2)
    tomorrow = (an_hour_ago + timedelta(days=1)).strftime("next: %Y-%m-%dT%H:%M:00+00:00")
    assert detail(stage, "flat").endswith(tomorrow)


def test_check_shows_when_schedules_drills_and_resets_come_next(stage: Play) -> None:
    flat = '[triggers.flat]\nkind = "schedule"\ncron = "55 16 1,15 * fri"\ntimezone = "America/New_York"\n'
    loss = pnl("loss", 'currency = "USD"\nmax_loss = "100"\nsource = "intake"\n')
    stage.write_config(flat + loss + '[drill]\ncron = "30 6 * * *"\ntimezone = "Europe/Kyiv"\n')
    coming = stage.command("check", "--json").json["schedules"]
    assert list(coming) == ["triggers.flat.cron", "triggers.loss.reset", "drill.cron"]
    shown = stage.command("check").out
    for path, entry in coming.items():
        assert f"{path}: {entry['when']} in {entry['timezone']}; next:" in shown
        assert len(entry["next"]) == 3
        for one in entry["next"]:
            local = datetime.fromisoformat(one["local"])
            assert local == datetime.fromisoformat(one["utc"]) > datetime.now(UTC)
            assert f"{local:%a %Y-%m-%d %H:%M} {one['zone']}  {one['utc']}" in shown
    days = [datetime.fromisoformat(one["local"]) for one in coming["triggers.flat.cron"]["next"]]
    assert all(day.day in (1, 15) or day.weekday() == 4 for day in days)


def test_a_silence_holds_back_a_lost_heartbeat_over_a_kill_9_and_fires_when_it_ends(stage: Play) -> None:
    stage.write_config('[triggers.alive]\nkind = "heartbeat"\ntimeout = "300ms"\naccounts = ["oxfun"]\n')
    stage.start_daemon()
    stage.rest("oxfun", 3)
    silenced = stage.command("silence", "alive", "--for", "9s", "--reason", "deploy", "--json")
    assert (silenced.exit_code, silenced.json["silences"]["alive"]["reason"]) == (0, "deploy")
    assert stage.command("beat", "alive").exit_code == 0
    stage.wait_for(lambda s: s["triggers"]["alive"]["silence"]["held"] is not None, 3.0)
    stage.stop_daemon(signal.SIGKILL)
    stage.start_daemon()
    status = stage.status()
    assert (status["state"], status["triggers"]["alive"]["state"]) == ("ARMED", "silenced")
    assert stage.book("oxfun") == 3
    stage.until_tripped()
    assert reason(stage)["trigger"] == "alive"
    assert stage.book("oxfun") == 0


def test_a_withdrawal_that_no_connection_pushes_is_no_loss_at_kraken_derivatives() -> None:
    with Play(["kraken-futures"], options=["kraken-futures.equity_moves=transfer"]) as play:
        play.write_config(pnl("loss", 'currency = "USD"\nmax_loss = "1000"\n'))
        play.start_daemon()
        play.wait_for(lambda s: "equity 100000 USD" in s["triggers"]["loss"]["detail"], 10.0)
        play.admin("POST", "/faults", venue="kraken-futures", fault="half_open", on="ws")
        play.wait_for(lambda s: s["accounts"]["kraken-futures"]["lanes"]["ws"] != "up", 10.0)
        play.rest("kraken-futures", 2)
        play.admin("POST", "/equity", venue="kraken-futures", equity="60000")
        play.wait_for(lambda s: "equity 60000 USD" in s["triggers"]["loss"]["detail"], 15.0)
        assert (play.status()["state"], play.open_orders()) == ("ARMED", 2)
        assert "profit 0" in detail(play, "loss")
        play.admin("POST", "/options", venue="kraken-futures", equity_moves="trade")
        play.admin("POST", "/equity", venue="kraken-futures", equity="58000")
        play.until_tripped()
        assert play.open_orders() == 0
