"""Notice that a key is used elsewhere with larger nonces, so that requests do not run into the venue's lockout.

An adapter whose venue wants rising nonces owns one `NonceWatch`, and asks it before anything but a kill's commands.
"""

from __future__ import annotations

from kill_switch.core.domain import Instant

OUTRUN_AFTER_S = 1.5  # refusals for so long: another process of ours is ahead of the clock by a second at most
FIRST_PAUSE_S = 10.0  # doubled with each refusal
MAX_PAUSE_S = 60.0
HINT = "the key has been used with larger nonces: make a new key"


class NonceWatch:
    """The refusals of one key's nonces since the last answer that has accepted one."""

    __slots__ = ("_pause_s", "_refused_ns", "_until_ns", "is_outrun")

    def __init__(self) -> None:
        self._refused_ns: int | None = None  # since when nonces have been refused, monotonic; None: the last was not
        self._until_ns = 0  # end of the pause, monotonic
        self._pause_s = FIRST_PAUSE_S
        self.is_outrun = False  # nonces have been refused for longer than another process of ours can cause

    def pause_s(self, now: Instant) -> float:
        """Return for how long nothing but a kill's commands should leave, in seconds; 0: there is no pause."""
        return max(0.0, (self._until_ns - now.mono_ns) / 1e9)

    def on_refusal(self, now: Instant) -> None:
        """Note a refused nonce; a pause begins if none is under way and the key is outrun."""
        if self._refused_ns is None:
            self._refused_ns = now.mono_ns
        self.is_outrun = now.mono_ns - self._refused_ns > OUTRUN_AFTER_S * 1e9
        if self.is_outrun and now.mono_ns >= self._until_ns:
            self._until_ns = now.mono_ns + int(self._pause_s * 1e9)
            self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s)

    def on_accepted(self) -> None:
        """Note an accepted nonce, which ends the pause."""
        self._refused_ns, self._until_ns, self._pause_s, self.is_outrun = None, 0, FIRST_PAUSE_S, False
