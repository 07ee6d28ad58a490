"""NinjaTrader that stops showing an account, on real connections: never clear, always said, a person's to decide."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

CAUSE = "NinjaTrader does not show NT account Live1"


@pytest.fixture
def floor() -> Iterator[Play]:
    with Play(["crosstrade"], options=["crosstrade.nt_accounts=Sim101,Live1"]) as play:
        play.write_config()
        play.start_daemon()
        yield play


def test_orders_of_an_account_that_is_not_shown_any_more_are_residue_until_it_is_shown_or_a_person_forces_it(
    floor: Play,
) -> None:
    floor.rest("crosstrade", 2)
    floor.rest("crosstrade", 3, inst_type="Live1")
    floor.admin("POST", "/options", venue="crosstrade", hidden="Live1")
    floor.flag.touch()
    status = floor.wait_for(lambda s: s["accounts"]["crosstrade"]["state"] == "RESIDUE", 20.0)
    assert CAUSE in status["accounts"]["crosstrade"]["trouble"]["http"]
    assert not status["accounts"]["crosstrade"]["ready"]
    report = floor.command("report", "--json").json["accounts"]["crosstrade"]
    assert report["verdict"] != "CONFIRMED" and CAUSE in report["evidence"]
    floor.flag.unlink()
    refused = floor.command("rearm", "--reason", "looks clear")
    assert refused.exit_code == 1 and "use --force" in refused.err
    assert floor.command("rearm", "--reason", "the broker says that nothing rests", "--force").exit_code == 0
    floor.flag.touch()
    floor.wait_for(lambda s: s["state"] == "FIRING", 10.0)
    floor.admin("POST", "/options", venue="crosstrade", hidden="")
    floor.until_tripped()
    assert floor.open_orders() == 0
