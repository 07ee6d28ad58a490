"""Kraken, spot and derivatives. They have adapters of their own."""

from __future__ import annotations

from kill_switch.venues.ccxt.ids.common import KEY_AND_SECRET, REQUESTS, WHOLE_LIST, private
from kill_switch.venues.ccxt.ids.secret_forms import BASE64
from kill_switch.venues.ccxt.profile import Cancel, IdProfile, Listing, Part, Proof, Sources
from kill_switch.venues.kit.pools import Pool

KRAKEN = IdProfile(
    id="kraken",
    venue="Kraken spot",
    secrets=KEY_AND_SECRET,
    secret_forms={"api_secret": BASE64},
    products={
        "spot": Part(
            "api.kraken.com",
            "/0/private/",
            (
                Cancel(
                    private("POST", "CancelAll"),
                    Proof(("result", "count"), int, is_count=True, pending_at=("result", "pending")),
                ),
            ),
            (
                Listing(
                    "open",
                    private("POST", "OpenOrders"),
                    ("result", "open"),
                    id=("",),
                    symbol=("descr", "pair"),
                    is_keyed=True,
                ),
            ),
            harmless=private("POST", "CancelOrder", txid="OAAAAA-AAAAA-AAAAAA"),
        )
    },
    pool=Pool(REQUESTS, 15, per_s=0.33),  # the lowest tier
    is_rising=True,
    unknown_order="EOrder:Unknown order",
    covered="orders of every pair, conditional ones too, of every program and of the web page",
    not_covered=("derivatives: ccxt:krakenfutures", "sub-accounts: each has its own keys", "positions on margin"),
    guesses=(WHOLE_LIST,),
    own_adapter="kraken",
    sources=Sources(limit="docs.kraken.com: the counter of the lowest tier, 15, which falls by 0.33 a second"),
)

KRAKENFUTURES = IdProfile(
    id="krakenfutures",
    venue="Kraken derivatives",
    secrets=KEY_AND_SECRET,
    secret_forms={"api_secret": BASE64},
    products={
        "futures": Part(
            "futures.kraken.com",
            "/derivatives/api/v3/",
            (
                Cancel(
                    private("POST", "cancelallorders", 25.0),
                    Proof(
                        ("cancelStatus", "status"),
                        str,
                        good=("cancelled", "noOrdersToCancel"),
                        ids_at=("cancelStatus", "cancelledOrders"),
                        id=("order_id",),
                    ),
                ),
            ),
            (Listing("open", private("GET", "openorders", 2.0), ("openOrders",), id=("order_id",)),),
            harmless=private("POST", "cancelorder", 10.0, order_id="00000000-0000-4000-8000-000000000000"),
            not_there=(("cancelStatus", "status"), "notFound"),
        )
    },
    pool=Pool(REQUESTS, 500, window_s=10.0, shared_by="account"),
    covered="orders of every contract, stops and take-profits too, of every program and of the web page",
    not_covered=("spot: ccxt:kraken", "sub-accounts: each has its own keys", "anything after 2027-03-01"),
    own_adapter="kraken-futures",
    sources=Sources(limit="docs.kraken.com: 500 in 10 s; cancelallorders takes 25, openorders 2, cancelorder 10"),
)
