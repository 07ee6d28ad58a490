"""Sign requests: HMAC in its usual forms, and nonces that rise. Adapters use it; it never reads a clock."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlencode

from kill_switch.core.domain import Instant

MOST_AHEAD_US = 1_000_000  # µs that a nonce may be ahead of our wall clock; another process signs with the same key
FIRST_LEAP_US = 50_000  # µs that the third try of a command is ahead; each further try quadruples it


class RisingNonce:
    """Make nonces from a wall clock in microseconds, or in milliseconds; each is higher than the last.

    A nonce is at most `MOST_AHEAD_US` ahead of the wall clock. Another process with the same key, for example a direct
    kill beside the daemon, is then refused for a second at most. After a host clock has stepped back, nonces begin
    at the clock again. Only if the venue has refused one, the next is higher than all before, whatever the clock shows.
    """

    __slots__ = ("_highest", "_last", "_refused", "_unit_us")

    def __init__(self, unit_us: int = 1) -> None:
        """`unit_us` is the unit of the nonces in microseconds; in milliseconds, it is 1000."""
        self._unit_us = unit_us
        self._last = 0  # the last nonce that the clock has led to
        self._highest = 0  # the highest nonce that was ever used
        self._refused = 0  # how often the request that is built next was refused

    def note_refusal(self, tries: int) -> None:
        """Note that the venue has refused the nonce of a request `tries` times in a row; it is now built again."""
        self._refused = tries

    def next(self, now: Instant) -> int:
        """Return the nonce of a request that is built now."""
        clock, most_ahead = now.wall_ns // (1000 * self._unit_us), MOST_AHEAD_US // self._unit_us
        refused, self._refused = self._refused, 0
        if refused:
            nonce = max(clock + _leap_us(refused) // self._unit_us, self._highest + 1)
        else:
            nonce = max(clock, self._highest + 1)
            if nonce > clock + most_ahead:  # the clock has stepped back
                nonce = max(clock, self._last + 1)
                if nonce > clock + most_ahead:
                    nonce = clock
            self._last = nonce
        self._highest = max(self._highest, nonce)
        return nonce


def _leap_us(refused: int) -> int:
    """Return how far ahead of the clock a nonce is after so many refusals: another process may be signing, too."""
    return 0 if refused < 2 else min(MOST_AHEAD_US, FIRST_LEAP_US * 4 ** (refused - 2))


def form(**values: object) -> str:
    """Return the values as a query or a form, in their order; a name with a list is repeated for each value."""
    return urlencode(values, doseq=True)


def hex_hmac(secret: bytes, text: bytes, digest: str = "sha256") -> str:
    """Return the HMAC of a text in hexadecimal digits."""
    return hmac.digest(secret, text, digest).hex()


def base64_hmac(secret: bytes, text: bytes, digest: str = "sha512") -> str:
    """Return the HMAC of a text in base64."""
    return base64.b64encode(hmac.digest(secret, text, digest)).decode()


def sha256(text: bytes) -> bytes:
    """Return the SHA-256 digest of a text."""
    return hashlib.sha256(text).digest()


def base64_secret(name: str, secret: str) -> bytes:
    """Decode a secret in base64; raise ValueError, without the secret, if it is none."""
    try:
        decoded = base64.b64decode(secret, validate=True)
    except ValueError:
        decoded = b""
    if not decoded:
        raise ValueError(f"{name} is not base64") from None  # the cause would show the secret
    return decoded
