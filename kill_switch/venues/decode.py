"""Decode a venue's messages: JSON within a limit, texts, sums of money, and evidence without secrets."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from kill_switch import printable

MAX_DIGITS = 30  # of a sum of money, on either side of the point
MAX_MARKS = (
    500_000  # brackets, braces and commas of an answer; enough for 10,000 orders of 45 fields and five objects each
)
MAX_SHOWN = 64 << 10  # characters of a venue's words that are read
MAX_WORDS = 160  # characters of a venue's words in one line of evidence
MAX_TOKENS = 8  # tokens of an account that are hidden: a venue may name one that it has just refused
HIDDEN_FROM = 6  # characters: a shorter secret protects nothing, and may be part of any sentence


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; return None for text that is not JSON, or that has more values than any venue needs.

    8 MiB of empty lists would block the event loop for most of a second: while they are parsed, and again in the
    garbage collector.
    """
    if len(text) > MAX_MARKS and _marks(text) > MAX_MARKS:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _marks(text: str | bytes) -> int:
    """Count the marks that begin or separate JSON values, those inside texts too: a bound on the number of values."""
    if isinstance(text, str):
        return sum(map(text.count, "{[,"))
    return sum(map(text.count, (b"{", b"[", b",")))


def as_text(value: object) -> str:
    """Return a JSON text or number as text, any other value as "": a code, a status or an id is one of the two."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def as_decimal(value: object) -> Decimal | None:
    """Read a JSON text or number as a sum of money; return None if it is no number or has over `MAX_DIGITS` digits."""
    try:
        number = Decimal(as_text(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= MAX_DIGITS else None


def header_safe(name: str, secret: str) -> str:
    """Return a secret that goes into a header; raise ValueError, without the secret, if no header can carry it."""
    if not secret or not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        raise ValueError(f"{name} is empty or holds what an HTTP header cannot carry")
    return secret


def to_text(value: object) -> str:
    """Return any JSON value as text of at most `MAX_SHOWN` characters; it may be nested too deeply to serialize."""
    if not isinstance(value, dict | list):
        return (value if isinstance(value, str) else repr(value))[:MAX_SHOWN]
    try:
        return orjson.dumps(value)[:MAX_SHOWN].decode(errors="replace")  # ten times as fast as `repr`
    except orjson.JSONEncodeError:
        return "nested too deeply"


def truncate(words: str, limit: int = MAX_WORDS) -> str:
    """Cut a venue's words to `limit` characters, made printable by `printable.line`; end a cut text with "…"."""
    cut = printable.line(words[:limit])
    return cut if len(words) <= limit else cut[:-1] + "…"


class Evidence:
    """Make lines of evidence from a venue's words, and replace the account's secrets, which some venues echo."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secret for secret in secrets if len(secret) >= HIDDEN_FROM)
        self._tokens: tuple[str, ...] = ()

    def hide(self, token: str) -> None:
        """Replace this token too, and the last `MAX_TOKENS` before it."""
        if len(token) >= HIDDEN_FROM:
            self._tokens = (*(each for each in self._tokens if each != token), token)[-MAX_TOKENS:]

    def __call__(self, *texts: object, limit: int = MAX_WORDS) -> str:
        """Return `texts`, which may be any JSON values, as a line of at most `limit` characters."""
        line = " ".join(map(to_text, texts))
        for secret in (*self._secrets, *self._tokens):
            line = line.replace(secret, "[secret]")
        return truncate(line, limit)
