"""Positions, on real connections: closed once, proven gone, and closed again when a bot opens one while tripped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


class Floor(Play):
    """NinjaTrader with two accounts, of which the configuration wants flat what it names."""

    def hold(self, qty: int, account: str = "Sim101", symbol: str = "ES 09-26") -> None:
        self.admin("POST", "/positions", venue="crosstrade", qty=qty, inst_type=account, symbol=symbol)

    def held(self) -> list[str]:
        listed = self.admin("GET", "/positions?venue=crosstrade")["positions"]
        return [f"{one['inst_type']} {one['symbol']} {one['qty']}" for one in listed]

    def flattens(self) -> int:
        return sum(one["what"] == "flatten" for one in self.admin("GET", "/requests?venue=crosstrade"))


@pytest.fixture
def floor() -> Iterator[Floor]:
    with Floor(["crosstrade"], options=["crosstrade.nt_accounts=Sim101,Live1"]) as made:
        yield made


def start(floor: Floor, *, flatten: bool) -> None:
    floor.write_config()
    if flatten:
        text = floor.config.read_text()
        floor.config.write_text(text.replace('venue = "crosstrade"\n', 'venue = "crosstrade"\nflatten = true\n'))
    floor.start_daemon()
    floor.rest("crosstrade", 5)
    floor.hold(3)
    floor.hold(1, symbol="NQ 09-26")
    floor.hold(-2, "Live1")


def test_positions_are_closed_with_one_flatten_an_account_and_again_when_one_appears_while_tripped(
    floor: Floor,
) -> None:
    start(floor, flatten=True)
    floor.flag.touch()
    floor.until_tripped()
    assert (floor.held(), floor.open_orders(), floor.flattens()) == ([], 0, 2)
    report = floor.command("report", "--json").json["accounts"]["crosstrade"]
    assert (report["verdict"], report["left"]) == ("CONFIRMED", 0)
    assert report["cancelled"] == 5  # neither positions, nor the orders that close them
    floor.hold(5)
    floor.until(lambda: not floor.held())
    floor.until_tripped()
    assert floor.flattens() == 3
    assert "flatten sent" in floor.command("journal", "--json").out


def test_without_the_option_positions_are_nobodys_business(floor: Floor) -> None:
    start(floor, flatten=False)
    floor.flag.touch()
    floor.until_tripped()
    assert (len(floor.held()), floor.open_orders(), floor.flattens()) == (3, 0, 0)


def test_a_position_that_cannot_be_closed_is_residue_and_announced(floor: Floor) -> None:
    start(floor, flatten=True)
    floor.admin("POST", "/faults", venue="crosstrade", fault="refuse", status=400, message="market closed", on="cancel")
    floor.flag.touch()
    status = floor.wait_for(lambda s: s["accounts"]["crosstrade"]["state"] == "RESIDUE", 15.0)
    assert status["state"] == "FIRING"
    report = floor.command("report", "--json").json["accounts"]["crosstrade"]
    assert report["left"] >= 3 and len(floor.held()) == 3
