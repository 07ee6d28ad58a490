"""The ids of ccxt that are offered, with what is known of each, and the reasons why the others are not.

Facts and their sources are in docs/venues/ccxt.md. A test compares each profile with ccxt's own tables.
"""

from __future__ import annotations

from collections.abc import Mapping

from kill_switch.venues.ccxt.profile import Answer, Cancel, Endpoint, IdProfile, Listing, Product
from kill_switch.venues.kit.pools import Pool

KEY_AND_SECRET = ("api_key", "api_secret")
REQUESTS = "requests"

_KRAKEN = IdProfile(
    id="kraken",
    venue="Kraken spot",
    secrets=KEY_AND_SECRET,
    products={
        "spot": Product(
            "api.kraken.com",
            (Cancel(Endpoint(("private",), "POST", "CancelAll"), Answer(("result", "count"), int, is_count=True)),),
            (
                Listing(
                    "open",
                    Endpoint(("private",), "POST", "OpenOrders"),
                    ("result", "open"),
                    id=("",),
                    symbol=("descr", "pair"),
                    is_keyed=True,
                ),
            ),
        )
    },
    pool=Pool(REQUESTS, 15, per_s=0.33),  # the lowest tier
    is_rising=True,
    harmless=Endpoint(("private",), "POST", "CancelOrder", {"txid": "OAAAAA-AAAAA-AAAAAA"}),
    unknown_order="EOrder:Unknown order",
    covered="orders of every pair, conditional ones too",
    not_covered=("derivatives: ccxt:krakenfutures", "sub-accounts: each has its own keys", "positions on margin"),
    own_adapter="kraken",
)

OFFERED: Mapping[str, IdProfile] = {profile.id: profile for profile in (_KRAKEN,)}
REFUSED: Mapping[str, str] = {}
