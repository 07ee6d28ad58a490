"""Deribit. It has an adapter of its own."""

from __future__ import annotations

from kill_switch.venues.ccxt.ids.common import KEY_AND_SECRET, REQUESTS, private
from kill_switch.venues.ccxt.profile import Cancel, IdProfile, Listing, Part, Proof, Sources
from kill_switch.venues.kit.pools import Pool

_LIQUIDATIONS = (("is_liquidation",), True, "liquidation order(s) of Deribit's own")

DERIBIT = IdProfile(
    id="deribit",
    venue="Deribit",
    secrets=KEY_AND_SECRET,
    products={
        "all": Part(
            "www.deribit.com",
            "/api/v2/private/",
            (
                Cancel(
                    # without `detailed`, a part that has failed does not show
                    private("GET", "cancel_all", detailed="true", freeze_quotes="true"),
                    Proof(
                        ("result",),
                        list,
                        ids_at=("result",),
                        inner=("result",),
                        id=("order_id",),
                        each=(("error",), (None,)),
                    ),
                ),
            ),
            tuple(
                Listing(
                    name,
                    private("GET", "get_open_orders", type=kind),
                    ("result",),
                    id=("order_id",),
                    symbol=("instrument_name",),
                    status=("order_state",),
                    out_of_reach=beyond,
                )
                for name, kind, beyond in (("open", "all", _LIQUIDATIONS), ("trigger", "trigger_all", None))
            ),
            harmless=private("GET", "cancel", order_id="ETH-0"),
        )
    },
    pool=Pool(REQUESTS, 20, per_s=5, shared_by="account"),
    clock_window_s=60.0,
    is_rising=True,
    covered="orders of every currency, kind and combo, triggers and mass quotes too",
    not_covered=(
        "orders entered through Starbase: they have their own gateway and key",
        "block RFQs, their triggers, and quotes for them",
        "block trades that wait for a signature; liquidation orders of Deribit's own",
        "isolated books at drb.coinbase.com; other subaccounts: each has its own keys",
    ),
    own_adapter="deribit",
    sources=Sources(
        limit="docs.deribit.com: the lowest tier of the matching engine, 5 a second and 20 at once",
        clock="docs.deribit.com: 60 s",
    ),
)
