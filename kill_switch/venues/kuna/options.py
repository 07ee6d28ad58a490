"""The options of a KUNA account, as the configuration and the adapter use them."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from kill_switch.venues.kuna.replies import PAGE
from kill_switch.venues.options import VenueOptions

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", re.ASCII)


class KunaOptions(VenueOptions):
    """The keys of an account at KUNA."""

    ws_url: str = "wss://ws-pro.kuna.io/socketcluster/"
    rest_url: str = "https://api.kuna.io"
    auth: Literal["api-key", "hmac"] = Field(default="api-key", description="the single key, or signed requests")
    ws_login: Literal["api-key", "none"] = Field(
        default="api-key", description='"none": no push session, for an account that has no single key'
    )
    account_type: Literal["", "pro"] = Field(default="", description='"pro" for a Kuna Pro account')
    stop_orders: bool = Field(
        default=True, description="read WaitStop orders too: whether the active list has them is not documented"
    )
    pending_orders: bool = Field(default=True, description="read Pending orders too, for the same reason")
    since: str = Field(
        default="2014-01-01T00:00:00Z",
        description='without it ("") the lists lack orders that are older than two weeks',
    )
    batch_orders: int = Field(
        default=PAGE,
        ge=1,
        le=PAGE,
        description=f"orders in one cancel/multi, 1 to {PAGE}; the venue's maximum is not documented",
    )

    @field_validator("since")
    @classmethod
    def _moment(cls, since: str) -> str:
        if since and not _MOMENT.fullmatch(since):
            raise ValueError('must be a moment such as "2014-01-01T00:00:00Z", or empty')
        return since
