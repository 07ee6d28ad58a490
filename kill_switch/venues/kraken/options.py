"""Define the configuration keys of an account at Kraken spot."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kill_switch.venues.options import VenueOptions


class KrakenOptions(VenueOptions):
    """The configuration keys of an account at Kraken spot."""

    ws_url: str = "wss://ws-auth.kraken.com/v2"
    rest_url: str = "https://api.kraken.com"
    equity_currency: Literal["USD", "EUR", "GBP", "CAD", "AUD", "JPY"] = Field(
        default="USD", description="Kraken values the account in it"
    )
    tier: Literal["starter", "intermediate", "pro"] = Field(
        default="starter", description="the account's verification level, which sets its rate limit"
    )
