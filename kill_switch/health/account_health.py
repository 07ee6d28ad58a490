"""The state of an account's lanes in the keys of `status --json`, for the daemon and for `check --connect`."""

from __future__ import annotations

from kill_switch.dispatch.account_status import AccountStatus


def account_health(status: AccountStatus) -> dict[str, object]:
    """Return the state of an account's lanes, in the keys of the status."""
    return {
        "venue": status.venue_name,
        "environment": status.environment,
        "ready": status.is_ready,
        "killable": status.is_killable,
        "lanes": status.lanes,
        "ws_connections": status.ws_connections._asdict(),
        "rtt_us": max(status.round_trips_us.values(), default=None),
        "trouble": status.troubles(),
        "refused": {route.value: why for route, why in status.refused.items()},
        "key": dict(status.key_rights),
    }
