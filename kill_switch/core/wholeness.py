"""Judge by a status answer whether the daemon is whole, for the exit code of `status` and its first line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_WATCHING = ("blind", "silenced")  # states of a trigger that would not fire


def is_whole(status: Mapping[str, Any]) -> bool:
    """Return whether every account of a status could be killed now, and no trigger is blind or silenced.

    A daemon of an earlier version does not say whether an account could be killed; then it has to be ready.
    """
    killable = (account.get("killable", account["ready"]) for account in status["accounts"].values())
    return all(killable) and all(trigger["state"] not in NOT_WATCHING for trigger in status["triggers"].values())
