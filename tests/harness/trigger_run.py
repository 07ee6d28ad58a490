"""Run a trigger for a while, and keep what it reports."""

from __future__ import annotations

import anyio

from kill_switch.core.domain import Reason
from kill_switch.triggers.base import Trigger


async def watch(trigger: Trigger, seconds: float) -> list[Reason]:
    """Run the trigger for so many seconds; return its reasons."""
    reasons: list[Reason] = []
    with anyio.move_on_after(seconds):
        await trigger.run(reasons.append)
    return reasons
