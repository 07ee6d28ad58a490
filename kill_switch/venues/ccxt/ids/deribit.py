"""Deribit. It has an adapter of its own."""

from __future__ import annotations

from kill_switch.venues.ccxt.ids.common import KEY_AND_SECRET, REQUESTS, private
from kill_switch.venues.ccxt.profile import Cancel, IdProfile, Listing, Part, Proof, Sources
from kill_switch.venues.kit.pools import Pool

DERIBIT = IdProfile(
    id="deribit",
    venue="Deribit",
    secrets=KEY_AND_SECRET,
    products={
        "all": Part(
            "www.deribit.com",
            "/api/v2/private/",
            (Cancel(private("GET", "cancel_all"), Proof(("result",), int, is_count=True)),),
            tuple(
                Listing(
                    name,
                    private("GET", "get_open_orders", type=kind),
                    ("result",),
                    id=("order_id",),
                    symbol=("instrument_name",),
                    status=("order_state",),
                )
                for name, kind in (("open", "all"), ("trigger", "trigger_all"))
            ),
            harmless=private("GET", "cancel", order_id="ETH-0"),
        )
    },
    pool=Pool(REQUESTS, 20, per_s=5, shared_by="account"),
    clock_window_s=60.0,
    is_rising=True,
    covered="orders of every currency, kind and combo, triggers and mass quotes too",
    not_covered=("quotes for block RFQs", "other subaccounts: each has its own keys"),
    own_adapter="deribit",
    sources=Sources(
        limit="docs.deribit.com: the lowest tier of the matching engine, 5 a second and 20 at once",
        clock="docs.deribit.com: 60 s",
    ),
)
