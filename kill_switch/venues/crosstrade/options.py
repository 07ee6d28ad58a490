"""The options of a CrossTrade account, as the configuration and the adapter use them."""

from __future__ import annotations

from pydantic import Field, field_validator

from kill_switch.venues.options import VenueOptions


class CrossTradeOptions(VenueOptions):
    """The keys of an account at CrossTrade."""

    ws_url: str = "wss://app.crosstrade.io/ws/stream"
    rest_url: str = "https://app.crosstrade.io"
    nt_accounts: tuple[str, ...] = Field(  # 15 at most, because a kill costs one token each, and a burst is 20
        min_length=1,
        max_length=15,
        description="accounts as NinjaTrader shows them, 15 at most; others are never ready or clear",
        examples=[["Sim101"]],
    )
    order_events: bool = Field(
        default=True,
        description="try to subscribe to order events; whether NT8 accounts have any is not documented",
    )
    flatten: bool = Field(
        default=False,
        description="close the accounts' positions too, at the market, after their orders are cancelled",
    )

    @field_validator("nt_accounts")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if any(not name or name != name.strip() or not name.isprintable() or len(name) > 64 for name in names):
            raise ValueError('must be names as NinjaTrader shows them, such as "Sim101"')
        if len({name.casefold() for name in names}) != len(names):
            raise ValueError("must not name an account twice; upper and lower case are the same")
        return names
