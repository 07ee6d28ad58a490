"""The options of the simulated Deribit; § numbers are those of docs/venues/deribit.md."""

from __future__ import annotations

from dataclasses import dataclass

from kill_switch.sim.deribit.pools import TIERS
from kill_switch.sim.kit.options import Options, option


@dataclass
class DeribitOptions(Options):
    """The facts about Deribit that are inferred or unknown, or differ by account."""

    idle_s: float = option(60.5, "seconds of silence until a WebSocket without heartbeat and subscription ends (§5)")
    idle_close_code: int = option(1006, "close code after `idle_s`; 1006 drops the connection (§5)")
    events: str = option("subscribed", "the sessions that get account events (§5)", "subscribed")
    dropped: str = option("", "channels, with commas, that a subscription leaves out without an error (§5)")
    snapshot: bool = option(False, "a subscription first shows the resting orders; measured: none (§5)")
    testnet: bool = option(False, "what replies say in `testnet` (§2)")
    max_scope: str = option(
        "account:read_write block_rfq:read_write trade:read_write", "the scopes that the keys allow (§9)"
    )
    expires_in: int = option(31_536_000, "seconds until a token ends (§2, §11)", harsh=120)
    needs_id: bool = option(
        True, "a request without an id is refused (§2: documents and measurement differ)", kind=False
    )
    token_in_params: bool = option(False, "each private request over a WebSocket must have an access token (§2)")
    tier: str = option("T4", "the tier of all accounts; `unlimited` has no limits at all (§7)", *TIERS)
    limited: str = option(
        "close", "after 10028 the session ends with a close frame, or is dropped at once (§7)", "close", "drop",
        harsh="drop",
    )  # fmt: skip
    connections: int = option(32, "connections of an address; the next one gets HTTP 429 (§5); 0 is no limit")
    error_status: int = option(0, "HTTP status of all errors but 429; 0: 401 for logins, else 400 (§8, §11)", harsh=200)
    queue_full: str = option("", "currencies, with commas, whose cancels a detailed answer reports as 10047 (§3.1)")
    echoes: bool = option(
        False, "a detailed answer repeats orders that cancel-on-disconnect has just cancelled (§11)", harsh=True
    )
    mark_price: float = option(60_000.0, "the price of every market; triggers that it reaches fire (§1)")
    trigger_ms: float = option(0.0, "milliseconds from the end of a trigger that fires until its order is there (§1)")
    settling: bool = option(False, "the pause at 08:00 UTC: commands get 10041 (§8)")
    settling_cancels: bool = option(False, "cancels pass in the pause (§11)", kind=True)
    locked: bool = option(False, "the account is frozen by Deribit: user.lock, and 10019 for new orders (§5, §8)")
    locked_cancels: bool = option(True, "cancels pass while the account is frozen (§8, §11)", harsh=False)
    rfq: int = option(0, "open Block RFQ quotes of each account, which no cancel_all reaches (§3.3)")
    starbase: int = option(0, "open Starbase orders of each account, which no cancel_all reaches (§3.3)")
    starbase_cancelled: bool = option(False, "cancel_all reaches Starbase orders of the portfolio (§11)", kind=True)
    starbase_listed: bool = option(False, "lists show Starbase orders of the portfolio (§11)", kind=True)
    liquidation: int = option(0, "liquidation orders of each account, which nobody can cancel (§3.1)")
    cross_collateral: bool = option(False, "summaries have `total_equity_usd` (§9)")
