"""Define the configuration keys of an account at Deribit."""

from __future__ import annotations

from kill_switch.venues.options import VenueOptions


class DeribitOptions(VenueOptions):
    """The configuration keys of an account at Deribit: one subaccount."""

    ws_url: str = "wss://www.deribit.com/ws/api/v2"
    rest_url: str = "https://www.deribit.com"
