"""Venues of which only spot orders are covered."""

from __future__ import annotations

from kill_switch.venues.ccxt.ids.common import KEY_AND_SECRET, REQUESTS, TRIGGERS_LISTED, WHOLE_LIST, private
from kill_switch.venues.ccxt.ids.secret_forms import BASE64
from kill_switch.venues.ccxt.profile import Cancel, Endpoint, IdProfile, Listing, Part, Proof, Setting, Sources
from kill_switch.venues.kit.pools import Pool
from kill_switch.venues.profile import Guess

BITSTAMP = IdProfile(
    id="bitstamp",
    venue="Bitstamp",
    secrets=KEY_AND_SECRET,
    products={
        "spot": Part(
            "www.bitstamp.net",
            "/api/v2/",
            (
                Cancel(
                    private("POST", "cancel_all_orders/"),
                    Proof(("success",), bool, good=(True,), ids_at=("canceled",), id=("id",)),
                ),
            ),
            (Listing("open", private("POST", "open_orders/all/"), (), symbol=("currency_pair",), status=()),),
            list_lag_s=10.0,  # the list is cached for so long
        )
    },
    pool=Pool(REQUESTS, 100, window_s=10.0),
    clock_window_s=150.0,
    sources=Sources(limit="ccxt 4.5.90, from bitstamp.net/api: 8,000 in ten minutes"),
    covered="orders of every pair",
    not_covered=("sub-accounts: each has its own keys",),
    guesses=(TRIGGERS_LISTED, WHOLE_LIST),
)


BITVAVO = IdProfile(
    id="bitvavo",
    venue="Bitvavo",
    secrets=KEY_AND_SECRET,
    products={
        "spot": Part(
            "api.bitvavo.com",
            "/v2/",
            (
                Cancel(
                    private("DELETE", "orders", 100.0, operatorId="{operatorId}"),
                    Proof((), list, ids_at=(), id=("orderId",)),
                ),
            ),
            (Listing("open", private("GET", "ordersOpen", 100.0), (), id=("orderId",), symbol=("market",)),),
        )
    },
    pool=Pool(REQUESTS, 1000, window_s=60.0),
    clock_window_s=10.0,
    sources=Sources(
        limit="docs.bitvavo.com/docs/rate-limits: 1,000 a minute; all cancels or all open orders take 100 (2026-05-19)",
        clock="ccxt 4.5.90: it sends a window of 10 s",
    ),
    settings={"operatorId": Setting(int, "who trades, by your own numbering; Bitvavo wants it with each cancel")},
    covered="orders of every market, stops too",
    not_covered=("subaccounts of an institution",),
    guesses=(TRIGGERS_LISTED, WHOLE_LIST),
)


BITSO = IdProfile(
    id="bitso",
    venue="Bitso",
    secrets=KEY_AND_SECRET,
    products={
        "spot": Part(
            "bitso.com",
            "/api/v3/",
            (Cancel(private("DELETE", "orders/all"), Proof(("success",), bool, good=(True,), ids_at=("payload",))),),
            (
                Listing(
                    "open",
                    private("GET", "open_orders", limit=100),
                    ("payload",),
                    id=("oid",),
                    symbol=("book",),
                    full=100,
                ),
            ),
        )
    },
    pool=Pool(REQUESTS, 30, window_s=60.0),
    sources=Sources(
        limit="docs.bitso.com/bitso-api/docs/general-concepts: 300 a minute of a verified user",
        page="ccxt 4.5.90: 100 at most",
    ),
    is_rising=True,
    nonce_refusal=(("error", "code"), "0201"),  # "Invalid Nonce or Invalid Credentials"
    covered="orders of every book",
    not_covered=("margin trading and conversions",),
    guesses=(TRIGGERS_LISTED,),
)


POLONIEX = IdProfile(
    id="poloniex",
    venue="Poloniex",
    secrets=KEY_AND_SECRET,
    products={
        "spot": Part(
            "api.poloniex.com",
            "/",
            tuple(
                Cancel(
                    private("DELETE", path, symbols=[]),
                    Proof((), list, ids_at=(), id=("orderId",), each=(("code",), (200, "200")), none_is_error=True),
                )
                for path in ("orders", "smartorders")
            ),
            (
                Listing("open", private("GET", "orders", limit=2000), (), status=("state",), full=2000),
                Listing("smart", private("GET", "smartorders", limit=2000), (), status=("state",), full=2000),
            ),
        )
    },
    pool=Pool(REQUESTS, 50, window_s=10.0),
    clock_window_s=1.0,
    sources=Sources(
        limit="ccxt 4.5.90: 10 a second for each of the four requests",
        clock="api-docs.poloniex.com/spot/api: refused if it is off by more than 1 s",
    ),
    covered="spot orders of every symbol, smart orders too",
    not_covered=("futures",),
)


COINBASEEXCHANGE = IdProfile(
    id="coinbaseexchange",
    venue="Coinbase Exchange",
    secrets=(*KEY_AND_SECRET, "passphrase"),
    secret_forms={"api_secret": BASE64},
    products={
        "spot": Part(
            "api.exchange.coinbase.com",
            "/",
            (Cancel(private("DELETE", "orders"), Proof((), list, ids_at=())),),
            (Listing("open", private("GET", "orders", limit=1000), (), symbol=("product_id",), full=1000),),
        )
    },
    pool=Pool(REQUESTS, 50, window_s=10.0),
    clock_window_s=30.0,
    sources=Sources(
        limit="docs.cdp.coinbase.com/exchange/rest-api/rate-limits: 15 a second of a profile, 30 at once",
        page="docs.cdp.coinbase.com/exchange/rest-api/pagination: 1,000 at most",
    ),
    covered="orders of every product, stops too, of the key's portfolio",
    not_covered=("other portfolios: each has its own keys", "Coinbase Advanced"),
)


def _gate_account(prefix: str = "", **account: str) -> Part:
    """Return the orders of a kind of account: a list shows one kind, and triggers of some end only by its name."""
    section = ("private", "spot")
    return Part(
        "api.gateio.ws",
        "/api/v4/spot/",
        (
            Cancel(
                Endpoint(section, "DELETE", "orders", account),
                Proof((), list, ids_at=(), id=("id",), each=(("succeeded",), (True,))),
            ),
            Cancel(Endpoint(section, "DELETE", "price_orders", account), Proof((), list)),
        ),
        (
            Listing(
                f"{prefix}open",
                Endpoint(section, "GET", "open_orders", {"limit": 100, **account}),
                (),
                symbol=("currency_pair",),
                inner=("orders",),
                full=100,
            ),
            Listing(
                f"{prefix}trigger",
                Endpoint(section, "GET", "price_orders", {"status": "open", "limit": 100, **account}),
                (),
                symbol=("market",),
                prefix="trigger:",
                full=100,
            ),
        ),
    )


GATE = IdProfile(
    id="gate",
    venue="Gate",
    secrets=KEY_AND_SECRET,
    products={
        "spot": _gate_account(),
        "margin": _gate_account("margin ", account="margin"),
        "unified": _gate_account("unified ", account="unified"),
    },
    pool=Pool(REQUESTS, 100, window_s=10.0),
    clock_window_s=60.0,
    sources=Sources(
        limit="www.gate.com/docs/developers/apiv4: 200 in 10 s; spot cancels 200 a second",
        page="www.gate.com/docs/developers/apiv4: 100 of a pair",
        clock="www.gate.com/docs/developers/apiv4: 60 s",
    ),
    covered="orders of every pair in the spot, margin and unified accounts, price-triggered ones too",
    not_covered=("futures, delivery and options", "POV orders", "sub-accounts: each has its own keys"),
    guesses=(
        Guess(
            "an account that is not unified, or has no margin, answers with an error there: leave it out of products",
            "the list of such a product is not read as empty: the account is not clear",
        ),
    ),
)
