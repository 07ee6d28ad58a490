"""Make and read the lines of latch files: one JSON object a line, with `text`, `at`, `accounts` and perhaps `uid`.

A line that cannot be read trips every account, because nobody knows which accounts it meant. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import orjson

from kill_switch import clock, printable
from kill_switch.core.domain import Instant, Reason
from kill_switch.core.records import LatchRecord
from kill_switch.journal.plain_json import json_safe

MAX_LINES = 1000  # lines of a latch file that are read
MAX_TEXT = 1000  # characters of a latch file that are copied into records


def latch_line(text: str, accounts: object, at: Instant, uid: object = None) -> bytes:
    """Return a line for a latch file, without its newline; `uid` is the user who fired, None if no person did.

    `accounts` is a list of names, or any other value for all accounts.
    """
    line = {"text": json_safe(text), "at": clock.iso(at.wall_ns), "accounts": json_safe(accounts)}
    if uid is not None:
        line["uid"] = uid
    return orjson.dumps(line, default=str)


class LatchContents(NamedTuple):
    """The latch files' content, split by this daemon's configuration."""

    text: str
    accounts: tuple[str, ...]  # configured here: they are tripped
    # not configured here: the writer may have read a newer configuration, or the account was removed
    unknown_accounts: tuple[str, ...]
    excerpt: str  # the first `MAX_TEXT` characters of the lines
    uid: int | None  # the first user that a line names

    @property
    def evidence(self) -> Mapping[str, object]:
        """Return the reason's evidence: the excerpt, and the user if a line names one."""
        return {"said": self.excerpt, **({} if self.uid is None else {"uid": self.uid, "user": str(self.uid)})}

    def reason(self, at: Instant, **evidence: object) -> Reason:
        """Return the reason that trips the configured accounts; `evidence` is added to the latch's own."""
        return Reason("latch", self.text, self.accounts, at, {**self.evidence, **evidence})

    def record(self) -> LatchRecord:
        """Return the record that trips the accounts that are not configured."""
        user = None if self.uid is None else str(self.uid)
        return LatchRecord(accounts=self.unknown_accounts, said=self.excerpt, uid=self.uid, user=user)


def parse_latch(content: str, known: Collection[str]) -> LatchContents:
    """Return the content of latch files' lines; `known` are the configured accounts."""
    accounts, elsewhere = latched_accounts(content, known), latched_unknown_accounts(content, known)
    return LatchContents(latch_text(content)[:MAX_TEXT], accounts, elsewhere, content[:MAX_TEXT], _latched_by(content))


def latch_text(text: str) -> str:
    """Return the texts of a latch file's lines in one line, for people."""
    texts = []
    for line in _pieces(text):
        try:
            texts.append(printable.line(str(orjson.loads(line)["text"])))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return "; ".join(texts) or "a latch was left in a file"


def _latched_by(text: str) -> int | None:
    """Return the first uid in the lines, None if no line has one."""
    for line in _pieces(text):
        try:
            uid = orjson.loads(line)["uid"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
        if isinstance(uid, int):
            return uid
    return None


def latched_unknown_accounts(text: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the accounts that the lines name and that are not in `known`, in their order."""
    named: dict[str, None] = {}
    for line in _pieces(text):
        try:
            accounts = orjson.loads(line)["accounts"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
        if isinstance(accounts, list):
            named |= dict.fromkeys(name for name in accounts if isinstance(name, str))
    return tuple(name for name in named if name not in known)


def latched_accounts(text: str, known: Collection[str]) -> tuple[str, ...]:
    """Return those of `known` that the lines trip.

    All of them are tripped if a line cannot be read, or if no line names a known account.
    """
    named: set[str] = set()
    for line in _pieces(text):
        try:
            accounts = orjson.loads(line)["accounts"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return tuple(known)
        if not isinstance(accounts, list):
            return tuple(known)
        named.update(str(name) for name in accounts)
    return tuple(name for name in known if name in named) or tuple(known)  # a latch always trips


def _pieces(text: str) -> list[str]:
    """Split a file into its lines; all beyond `MAX_LINES` stays one piece, which cannot be read and so trips."""
    return text.removesuffix("\n").split("\n", MAX_LINES)
