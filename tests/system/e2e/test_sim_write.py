"""`sim --write`: what it writes is all that `run` needs, and touching the flag kills everything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kill_switch.testbed.testbed import stop_process
from kill_switch.venues import VENUES
from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


class WrittenBySim(Play):
    """All venues, with the configuration that `sim --write` wrote."""

    def __init__(self, accounts: int = 1) -> None:
        super().__init__(sorted(VENUES), accounts=accounts)
        written = self.directory / "lab"
        self._command += ["--write", str(written)]
        self.config, self.runtime_dir, self.flag = written / "config.toml", written / "run", written / "run/flag/KILL"


def test_the_flag_of_a_written_configuration_removes_every_kind_of_order_in_several_markets() -> None:
    with WrittenBySim(accounts=2) as play:
        check = play.command("check")
        assert check.exit_code == 0, check.err
        play.start_daemon()
        accounts = play.status()["accounts"]
        assert len(accounts) == 2 * len(VENUES)
        for venue, entry in play.venues.items():
            for login in (entry, *entry["accounts"]):
                for symbol in entry["symbols"][:10]:
                    for kind in entry["kinds"]:
                        play.rest(venue, 2, account=login["name"], symbol=symbol, kind=kind)
        assert all(play.book(venue) for venue in play.venues)

        play.flag.touch()
        play.wait_for(lambda status: bool(status["state"] == "TRIPPED"), 40.0)

        assert {venue: play.book(venue) for venue in play.venues} == dict.fromkeys(play.venues, 0)
        report = play.command("report", "--json")
        assert report.exit_code == 0
        assert {name: account["verdict"] for name, account in report.json["accounts"].items()} == dict.fromkeys(
            accounts, "CONFIRMED"
        )


def test_a_simulator_that_starts_again_writes_its_new_addresses_over_its_old_ones_only() -> None:
    with WrittenBySim() as play:
        old = play.config.read_text()
        assert play.venues["oxfun"]["rest_url"] in old
        command = [sys.executable, "-m", "kill_switch", "sim", "--venue", "oxfun", "--write", str(play.config.parent)]
        taken = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert (taken.returncode, taken.stdout) == (73, "")
        assert "another `kill-switch sim --write` uses it" in taken.stderr
        assert play.config.read_text() == old

        assert play.simulators is not None
        stop_process(play.simulators)
        play._start_simulators()
        assert play.venues["oxfun"]["rest_url"] in play.config.read_text()
        assert play.config.read_text() != old

        stop_process(play.simulators)
        play.config.write_text("[accounts]\n")
        foreign = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert (foreign.returncode, foreign.stdout, foreign.stderr.count("\n")) == (73, "", 1)
        assert f"{play.config} was not written by `kill-switch sim`" in foreign.stderr
        assert play.config.read_text() == "[accounts]\n"
