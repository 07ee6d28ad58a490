"""Announce each trigger that becomes blind, once, and fire for it where the configuration says `on_blind = "fire"`.

The supervisor calls it at each look.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Reason, Severity
from kill_switch.core.settled_change import SettledChange
from kill_switch.triggers.base import Report, Trigger

SEES_S = 30.0  # seconds without a break until a trigger that was announced as blind counts as seeing again


class BlindnessMonitor:
    """Remember which triggers are blind, and for which of them that has been a reason."""

    def __init__(
        self,
        announce: Callable[[Announce], None],
        fire: Report,
        clock: Callable[[], Instant],
    ) -> None:
        """Start with no blind trigger; `fire` returns True for a reason that a silence holds back."""
        self._announce = announce
        self._fire = fire
        self._clock = clock
        self._blind = SettledChange(0, int(SEES_S * 1e9))
        self._fired: set[str] = set()  # names of blind triggers that have fired for it

    def retain(self, names: Collection[str]) -> None:
        """Forget all other triggers: a reload has replaced or removed them."""
        self._blind.retain(names)
        self._fired.intersection_update(names)

    def update(self, blind: Mapping[str, str], firing: Mapping[str, Trigger]) -> None:
        """Announce what has changed, and report a reason for each blind trigger in `firing` that has not fired.

        `blind` maps the name of each blind trigger to a detail for people.
        """
        begun, ended = self._blind.update(blind, self._clock().mono_ns)
        self._fired.intersection_update(blind)
        for name in ended:
            text = f"trigger {name} sees its input again, for {SEES_S:g} s"
            self._announce(Announce(Severity.OVER, text, about=f"blind {name}"))
        for name in begun:
            do = "mend its input, or kill by hand: kill-switch fire --reason blind"
            text = f"trigger {name} is blind: {blind[name]}"
            self._announce(Announce(Severity.BLIND, text, do=do, about=f"blind {name}"))
        for name, trigger in firing.items():
            if name not in self._fired:
                text = f"it is blind: {blind[name]}"
                if not self._fire(Reason(name, text, trigger.accounts, self._clock(), {"blind": True})):
                    self._fired.add(name)
