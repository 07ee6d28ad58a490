"""Accounts that are served through ccxt, on real connections: nothing but the encoding is ccxt's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kill_switch.testbed.config_files import THROUGH_CCXT, through_ccxt
from kill_switch.venues.ccxt import library
from tests.system.e2e.conftest import Play

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(60),
    pytest.mark.skipif(bool(library.why_unusable()), reason="needs the extra ccxt"),
]
AT_ONCE = ("deribit", "kraken", "kraken-futures")  # their lists do not lag; the simulated lives prove Binance's


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    with Play(AT_ONCE) as made:
        made.write_config(accounts=[through_ccxt(made.ready, login) for login in made.accounts()])
        made.start_daemon()
        yield made


def test_accounts_through_ccxt_are_drilled_struck_and_proven_clear(play: Play) -> None:
    drill = play.command("drill", "--json").json
    for venue in AT_ONCE:
        play.rest(venue, 30)
        play.rest(venue, 10, kind="stop")

    play.flag.touch()
    play.until_tripped()

    assert play.open_orders() == 0
    status, report = play.status(), play.command("report", "--json").json
    for name in AT_ONCE:
        shown, account = status["accounts"][name], report["accounts"][name]
        assert (shown["venue"], list(shown["lanes"])) == (THROUGH_CCXT[name], ["http"])
        assert (account["verdict"], account["left"], account["routes"]) == ("CONFIRMED", 0, ["http"])
        assert 40 in (account["cancelled"], account["claimed"])  # Kraken's answers name no orders
        assert drill["accounts"][name]["lanes"]["http"]["ok"], drill["accounts"][name]
    assert report["within_budget"] is True


def test_the_daemon_never_imports_the_whole_of_ccxt_and_no_event_loop_of_its(play: Play) -> None:
    assert play.daemon is not None
    mapped = Path(f"/proc/{play.daemon.pid}/maps").read_text()

    assert "aiohttp" not in mapped and "yarl" not in mapped


def test_importing_kill_switch_and_the_venues_needs_no_ccxt() -> None:
    script = "import sys, kill_switch.venues; sys.exit(any(name.split('.')[0] == 'ccxt' for name in sys.modules))"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_demo_of_accounts_at_one_simulator_proves_those_through_ccxt_clear_too() -> None:
    command = [sys.executable, "-m", "kill_switch", "demo", "--json", "--orders", "5"]
    command += ["--venue", "kraken", "--venue", "ccxt:kraken", "--venue", "ccxt:kraken"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55)

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {name: each["verdict"] for name, each in report["accounts"].items()} == dict.fromkeys(
        ("kraken", "ccxt-kraken1", "ccxt-kraken2"), "CONFIRMED"
    )
    assert report["books"] == {"kraken": 0}
