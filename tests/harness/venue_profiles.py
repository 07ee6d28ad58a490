"""Name the profiles of all venues, for the tests that all venues share.

A new venue adds a module to `tests/harness/profiles`, and its `VenueProfile` to `STANDS`. A registered venue without it
fails `test_every_registered_venue_has_a_test_profile`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.harness.profiles.binance_futures import COINM, USDM
from tests.harness.profiles.binance_spot import BINANCE_SPOT
from tests.harness.profiles.crosstrade import CROSSTRADE
from tests.harness.profiles.deribit import DERIBIT
from tests.harness.profiles.kraken import KRAKEN
from tests.harness.profiles.kraken_futures import KRAKEN_FUTURES
from tests.harness.profiles.kuna import KUNA
from tests.harness.profiles.oxfun import OXFUN
from tests.harness.profiles.roxom import ROXOM
from tests.harness.profiles.venue_profile import SECOND_ROUTE_S, VenueProfile

__all__ = ["SECOND_ROUTE_S", "STANDS", "VenueProfile"]

STANDS: Mapping[str, VenueProfile] = {
    stand.venue: stand
    for stand in (BINANCE_SPOT, COINM, USDM, CROSSTRADE, DERIBIT, KRAKEN, KRAKEN_FUTURES, KUNA, OXFUN, ROXOM)
}
