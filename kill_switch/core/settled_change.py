"""Compare conditions with their last state once a change has lasted, so that a flapping part is announced rarely.

`OnChange` announces every change at once. Monitors whose announcements become messages to people use this. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from kill_switch.core.on_change import Change


class SettledChange:
    """Conditions, of which each begins and ends only after it has held, or has not held, for a time without a break."""

    def __init__(self, begins_after_ns: int, ends_after_ns: int) -> None:
        self._begins_after_ns = begins_after_ns
        self._ends_after_ns = ends_after_ns
        self._begun: set[str] = set()
        self._since_ns: dict[str, int] = {}  # condition → since when it differs from what has been announced, monotonic

    def update(self, holding: Iterable[str], now_ns: int) -> Change:
        """Replace the conditions by those that hold now; return those that have begun and ended since the last call."""
        holds = frozenset(holding)
        self._since_ns = {key: self._since_ns.get(key, now_ns) for key in holds ^ self._begun}
        lasted = {key: now_ns - since_ns for key, since_ns in self._since_ns.items()}
        begun = sorted(key for key in holds - self._begun if lasted[key] >= self._begins_after_ns)
        ended = sorted(key for key in self._begun - holds if lasted[key] >= self._ends_after_ns)
        self._begun = (self._begun | set(begun)) - set(ended)
        for key in (*begun, *ended):
            del self._since_ns[key]
        return Change(begun, ended)

    def retain(self, keys: Iterable[str]) -> None:
        """Forget the conditions outside `keys` silently. If they hold at the next update, their time begins then."""
        kept = frozenset(keys)
        self._begun &= kept
        self._since_ns = {key: since_ns for key, since_ns in self._since_ns.items() if key in kept}
