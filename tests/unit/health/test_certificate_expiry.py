"""A venue's certificate that is about to expire is said once a day, before no lane comes up any more."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kill_switch.core.commands import Announce
from kill_switch.health.certificate_expiry import CertificateExpiryMonitor
from kill_switch.transports.certificates import CertificateExpiry
from tests.harness.dispatch_doubles import Floor

DAY_S = 86_400


class Tower:
    def __init__(self, *accounts: str) -> None:
        self.floor = Floor(accounts)
        self.said: list[Announce] = []
        self.expiries = CertificateExpiryMonitor(self.floor.dispatcher.sessions, self.floor.time.now, self.said.append)

    def shows(self, days: float, *accounts: str, issuer: str = "") -> str:
        """Have lanes of accounts be verified by a certificate that ends then; return its date."""
        at_s = self.floor.time.now().wall_ns / 1e9 + days * DAY_S
        for name in accounts or self.floor.accounts:
            self.floor.lanes[name].certificate = CertificateExpiry(at_s, issuer)
        return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%MZ}"

    def look(self, days: float = 0) -> list[str]:
        self.floor.time.advance(days * DAY_S * 1000)
        before = len(self.said)
        self.expiries.check()
        return [f"{announcement.level}: {announcement.text}" for announcement in self.said[before:]]


@pytest.mark.parametrize(("days", "left"), [(13.0, "13 days"), (13.99, "14 days"), (1.5, "36 h"), (0.02, "1 h")])
def test_within_two_weeks_a_certificate_is_warned_of_with_its_date_and_its_accounts(days: float, left: str) -> None:
    tower = Tower("a", "b")
    date = tower.shows(days)
    [said] = tower.look()
    assert said == (
        f"warn: certificate: that of venue.example expires on {date}, in {left}:"
        " from then on no connection of a, b comes up"
    )
    assert list(tower.expiries.troubles()) == [said.removeprefix("warn: ")]


def test_one_that_lasts_longer_is_nobodys_concern_and_one_that_no_lane_has_shown_neither() -> None:
    tower = Tower("a", "b")
    tower.shows(14.01, "a")
    assert tower.look() == [] and list(tower.expiries.troubles()) == []


def test_a_lasting_connections_certificate_is_checked_and_reported_once_a_day() -> None:
    tower = Tower("a")
    tower.shows(20)
    assert [len(tower.look(0.25)) for _ in range(80)] == [*[0] * 23, 1, *[0, 0, 0, 1] * 14]


def test_an_expired_certificate_is_reported_and_a_renewed_one_is_not() -> None:
    tower = Tower("a")
    date = tower.shows(0.5)
    tower.look()
    [said] = tower.look(1.1)
    assert said == f"warn: certificate: that of venue.example expired on {date}: no new connection of a comes up"
    tower.shows(90)
    assert tower.look(2) == [] and list(tower.expiries.troubles()) == []


def test_an_issuers_certificate_is_named() -> None:
    tower = Tower("a")
    tower.shows(3.5, issuer="Old Root")
    [said] = tower.look()
    assert said.startswith(
        "warn: certificate: the certificate of Old Root, which signed that of venue.example, expires on"
    )


def test_many_accounts_of_one_host_are_one_line() -> None:
    names = [f"a{number}" for number in range(20)]
    tower = Tower(*names)
    tower.shows(3.5)
    [said] = tower.look()
    assert said.endswith("no connection of a0, a1, a2, a3, a4 and 15 more comes up")
