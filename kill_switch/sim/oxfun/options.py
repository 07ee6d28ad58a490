"""The facts about OX.FUN that its documents leave open; § numbers are those of docs/venues/oxfun.md."""

from __future__ import annotations

from dataclasses import dataclass

from kill_switch.sim.kit.options import Options, option


@dataclass
class OxfunOptions(Options):
    """The facts about OX.FUN that are inferred or unknown."""

    engine_ms: float = option(
        5.0, "milliseconds from 'queued' or 'submitted' until the engine has executed it", harsh=150.0
    )
    idle_s: float = option(60.0, "seconds without a message until a WebSocket is closed (§3.3)")
    greeting: bool = option(True, "a Welcome frame with a nonce comes first (§3.1 [I])", harsh=False)
    max_skew_s: float = option(30.0, "how far a client's clock may be off, in seconds (§2 [U])", harsh=3.0)
    nonce_unique: bool = option(False, "a REST nonce is valid for one request (§2 [U])", harsh=True)
    counts_pings: bool = option(False, "a ping before the login is one of its messages (§3.4 [U])", harsh=True)
    login_s: float = option(0.0, "seconds until a login expires, without a message; 0 is never (§3.2 [U])", harsh=20.0)
    cancel_all: str = option(
        "account", "a cancel-all without marketCode: the whole account, or refused (§4.3)", "account", "market",
        harsh="market",
    )  # fmt: skip
    cancel_all_includes_stops: bool = option(True, "cancel-all includes stop orders (§12 [I])", harsh=False)
    string_ids: bool = option(False, "orderId may be text in WebSocket commands (§4.1: documented as integer)")
    max_message: int = option(4000, "longest WebSocket message in characters (§11 [I])", harsh=1000)
    page_limit: int = option(0, "longest working list; 0 is no limit (§5 [U])", harsh=5)
    error_status: int = option(
        0, "HTTP status of every error except 429 and 503; 0 is a fitting one (§5 [U])", harsh=200
    )
    limits: str = option("ip", "the client that the REST and connect limits count for (§3.4)", "ip", "account", "off")
    ws_limit: int = option(50, "WebSocket messages a second once logged in; 0 is no limit (§3.4)")
