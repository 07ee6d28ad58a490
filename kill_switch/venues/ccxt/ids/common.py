"""Hold the parts that the profiles of several ids share."""

from __future__ import annotations

from typing import Any

from kill_switch.venues.ccxt.profile import Endpoint
from kill_switch.venues.profile import Guess

KEY_AND_SECRET = ("api_key", "api_secret")
REQUESTS = "weight"  # the name of each id's pool; Binance's own adapters count in the same pools by it
TRIGGERS_LISTED = Guess(
    "the list shows conditional orders, and the cancel ends them",
    "nothing: a conditional order that no list shows is out of reach",
)
WHOLE_LIST = Guess("one answer has all open orders", "the guard reads on: what was left out shows once others are gone")


def private(method: str, path: str, weight: float = 1.0, **params: Any) -> Endpoint:
    """Return a request to the section "private"."""
    return Endpoint(("private",), method, path, params, weight)
