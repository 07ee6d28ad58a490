"""Keep the promises however a venue decides what its documents leave open: for its clients, or against them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kill_switch.sim.main import VENUES as SIMULATORS

from .scenario import tell
from .simulated_account import VENUES

BEYOND: Mapping[str, Mapping[str, object]] = {
    # Harsh facts under which no client can do what is promised here. What it says is true all the same: the orders
    # are left. A limit below the pace that an adapter was written for keeps a proof waiting as long as it lasts.
    "kuna": {"lists_pending": "history", "cancels_pending": True, "rest_per_min": 300},
    "roxom": {"rest_per_s": 0},
}
HARSH = [
    (venue, one.name, one.metadata["harsh"])
    for venue, kind in sorted(SIMULATORS.items())
    if venue in VENUES
    for one in kind.options_type.unknowns()
    if one.metadata["harsh"] is not None and one.name not in BEYOND.get(venue, {})
]


@pytest.mark.parametrize("how", ["kind", "harsh"])
@pytest.mark.parametrize("venue", VENUES)
def test_every_promise_is_kept_with_all_that_is_unknown_decided_one_way(venue: str, how: str) -> None:
    for seed in range(300_000, 300_006):
        found = tell(seed, venue, options={"unknown": how, **BEYOND.get(venue, {})}).found
        assert not found, f"seed {seed}"


@pytest.mark.parametrize(("venue", "name", "value"), HARSH)
def test_every_promise_is_kept_with_one_harsh_fact_alone(venue: str, name: str, value: object) -> None:
    for seed in (5, 11):
        assert not tell(seed, venue, options={name: value}).found, f"seed {seed}"
