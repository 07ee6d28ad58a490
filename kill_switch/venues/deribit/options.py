"""Define the configuration keys of an account at Deribit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from kill_switch.venues.options import VenueOptions


class DeribitOptions(VenueOptions):
    """The configuration keys of an account at Deribit: one subaccount."""

    TESTNET: ClassVar[Mapping[str, str]] = {
        "ws_url": "wss://test.deribit.com/ws/api/v2",
        "rest_url": "https://test.deribit.com",
    }
    ws_url: str = "wss://www.deribit.com/ws/api/v2"
    rest_url: str = "https://www.deribit.com"
