"""Parse a datagram of the intake: its signature, its lines, its messages. Pure.

A datagram holds up to `MAX_LINES` messages, separated by newline or NUL. docs/reference/intake.md has the format.
"""

from __future__ import annotations

import hmac
import re
from typing import NamedTuple

import orjson

MAX_BYTES = 4096  # of a datagram
MAX_LINES = 32  # of a datagram, because its messages are handled in one turn of the event loop
MAX_NAME = 128  # characters of a sender's name, because names are kept and recorded
_SEPARATOR = re.compile(rb"[\n\x00]")


class Beat(NamedTuple):
    """A heartbeat, or a goodbye."""

    trigger: str
    sender: str
    bye: bool = False


class EquityReported(NamedTuple):
    """An equity with its time, unchecked."""

    trigger: str
    sender: str
    equity: object
    at: object


Message = Beat | EquityReported


def sign(payload: bytes, key: bytes, wall_ms: int) -> bytes:
    """Return the datagram that an intake with a key accepts: stamp, signature and payload."""
    stamp = str(wall_ms).encode()
    return b"%b %b %b" % (stamp, hmac.digest(key, stamp + b" " + payload, "sha256").hex().encode(), payload)


def verify(datagram: bytes, key: bytes) -> tuple[int, bytes] | None:
    """Return the stamp in milliseconds and the payload; None if `key` has not signed them.

    A signed datagram is `MILLISECONDS SIGNATURE PAYLOAD`. The signature is lower-case hex of HMAC-SHA256 over
    `MILLISECONDS PAYLOAD`.
    """
    stamp, _, signed = datagram.partition(b" ")
    signature, _, payload = signed.partition(b" ")
    if not stamp.isdigit() or len(stamp) > 15:
        return None
    wanted = hmac.digest(key, stamp + b" " + payload, "sha256").hex().encode()
    return (int(stamp), payload) if hmac.compare_digest(wanted, signature) else None


def parse_messages(payload: bytes) -> list[Message | None]:
    """Return the message of each line; None for a line that is no message.

    A message is a bare trigger name, or JSON: `{"beat": NAME}`, `{"bye": NAME}`, `{"pnl": NAME, "equity": "101234.5",
    "at": SECONDS SINCE 1970}`, each with an optional `"from": SENDER`. A single JSON object may extend over several
    lines.
    """
    payload = payload.strip(b" \t\r\n\x00")
    whole = _message(payload)
    if whole is not None:
        return [whole]
    lines = [line for line in (line.strip() for line in _SEPARATOR.split(payload)) if line]
    if not 1 < len(lines) <= MAX_LINES:
        return [None]
    return [_message(line) for line in lines]


def _message(line: bytes) -> Message | None:
    if not line.startswith(b"{"):
        return Beat(line.decode("utf-8", "replace"), "") if line and _SEPARATOR.search(line) is None else None
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    sender = fields.pop("from", "")
    if not isinstance(sender, str) or len(sender) > MAX_NAME or not sender.isprintable():
        return None  # `status` shows the sender's name
    match fields:
        case {"beat": str(name)} if len(fields) == 1:
            return Beat(name, sender)
        case {"bye": str(name)} if len(fields) == 1:
            return Beat(name, sender, bye=True)
        case {"pnl": str(name), "equity": equity, "at": at} if len(fields) == 3:
            return EquityReported(name, sender, equity, at)
        case _:
            return None
