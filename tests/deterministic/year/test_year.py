"""A few dense days of the year, around the nights in which clocks change; `python -m tests.deterministic.year` has
all of it.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.deterministic.year.beats import Beats
from tests.deterministic.year.flags import Flags
from tests.deterministic.year.floors import Floors
from tests.deterministic.year.links import Links
from tests.deterministic.year.model import Model
from tests.deterministic.year.money import Money
from tests.deterministic.year.orders import Orders
from tests.deterministic.year.run import run
from tests.deterministic.year.times import Nights

SPRING, AUTUMN = datetime(2024, 3, 30, 12, tzinfo=UTC), datetime(2024, 10, 26, 12, tzinfo=UTC)  # London's nights
DAYS, DENSITY = 1.0, 20.0


@pytest.mark.timeout(120)  # it takes three on a machine that has nothing else to do
@pytest.mark.parametrize(("seed", "begin"), [(1, SPRING), (2, AUTUMN)])
def test_in_dense_days_nothing_trips_falsely_no_trip_is_missed_and_no_rearm_is_refused(
    seed: int, begin: datetime
) -> None:
    counted = run(seed, DAYS, begin, DENSITY)
    assert (counted.false, counted.missed, counted.stuck) == ((), (), ())
    assert sum(count > 0 for count in counted.trips.values()) >= 5  # the days have had something to find
    assert counted.restarts


@pytest.mark.parametrize("kind", [Beats, Flags, Floors, Links, Money, Nights, Orders])
def test_a_trigger_that_does_not_fire_is_found(kind: type[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.dispatch.dispatcher.Dispatcher.fire", lambda self, reason: None)
    assert run(1, DAYS, SPRING, DENSITY, [kind]).missed


@pytest.mark.parametrize("kind", [Beats, Links])
def test_a_trigger_that_fires_too_soon_is_found(kind: type[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "TOML", kind.TOML.replace("1800s", "600s").replace("900s", "240s"))
    assert run(1, DAYS, SPRING, DENSITY, [kind]).false
