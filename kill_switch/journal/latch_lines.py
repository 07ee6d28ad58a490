"""The lines of latch files: made, and read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import orjson

from kill_switch import clock, printable
from kill_switch.core.domain import Instant, Reason
from kill_switch.core.records import LatchRecord
from kill_switch.journal.plain_json import json_safe

MAX_LINES = 1000
MAX_TEXT = 1000  # characters of a latch file that go on record


def latch_line(text: str, accounts: object, at: Instant, uid: object = None) -> bytes:
    """Return a line for a latch file; `uid` is the person who fired, where it was one."""
    line = {"text": json_safe(text), "at": clock.iso(at.wall_ns), "accounts": json_safe(accounts)}
    if uid is not None:
        line["uid"] = uid
    return orjson.dumps(line, default=str)


class LatchContents(NamedTuple):
    """What latch files say, to somebody who has certain accounts."""

    text: str
    accounts: tuple[str, ...]  # of ours: they trip
    unknown_accounts: tuple[
        str, ...
    ]  # not ours, yet or any more: who left the latch may have read a newer configuration
    excerpt: str  # the beginning of the lines
    uid: int | None  # the first person whom a line names

    @property
    def evidence(self) -> Mapping[str, object]:
        return {"said": self.excerpt, **({} if self.uid is None else {"uid": self.uid, "user": str(self.uid)})}

    def reason(self, at: Instant, **evidence: object) -> Reason:
        return Reason("latch", self.text, self.accounts, at, {**self.evidence, **evidence})

    def record(self) -> LatchRecord:
        """Return what is to be on record of the accounts elsewhere."""
        user = None if self.uid is None else str(self.uid)
        return LatchRecord(accounts=self.unknown_accounts, said=self.excerpt, uid=self.uid, user=user)


def parse_latch(content: str, known: Collection[str]) -> LatchContents:
    """Understand a latch file's lines; `known` are the accounts that there are."""
    accounts, elsewhere = latched_accounts(content, known), latched_unknown_accounts(content, known)
    return LatchContents(latch_text(content)[:MAX_TEXT], accounts, elsewhere, content[:MAX_TEXT], _latched_by(content))


def latch_text(text: str) -> str:
    """Return what a latch file's lines say, for people."""
    texts = []
    for line in _pieces(text):
        try:
            texts.append(printable.line(str(orjson.loads(line)["text"])))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return "; ".join(texts) or "a latch was left in a file"


def _latched_by(text: str) -> int | None:
    """Return the user whom the first line that names one names."""
    for line in _pieces(text):
        try:
            uid = orjson.loads(line)["uid"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
        if isinstance(uid, int):
            return uid
    return None


def latched_unknown_accounts(text: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the accounts that a latch file's lines name and that are not known here, yet or any more."""
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
    """Return the accounts that a latch file's lines name; all that are known, if any line cannot be understood."""
    named: set[str] = set()
    for line in _pieces(text):
        try:
            accounts = orjson.loads(line)["accounts"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return tuple(known)
        if not isinstance(accounts, list):
            return tuple(known)
        named.update(str(name) for name in accounts)
    return tuple(name for name in known if name in named) or tuple(known)  # whom else could it have meant


def _pieces(text: str) -> list[str]:
    """Part a file into its lines; what is more than anybody leaves stays one piece, which nobody understands."""
    return text.removesuffix("\n").split("\n", MAX_LINES)
