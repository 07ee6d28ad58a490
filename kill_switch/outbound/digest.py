"""Combine announcements into one message: the worst first, nothing twice, nothing important lost.

The notifier uses this. A message gives a person who is woken the event, the host, the reason, the accounts and the
command to type. Pure: nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kill_switch import clock, printable
from kill_switch.core.domain import Now

SAME_AGAIN_S = 600.0  # seconds between two messages about the same
OUTBOX = 500  # announcements in one message at most
LINES = 30  # lines of a message at most
WORDS = {  # from the worst to the mildest
    "trip": "KILL",
    "residue": "ORDERS LEFT",
    "blind": "BLIND",
    "warn": "WARNING",
    "rearm": "RE-ARMED",
    "clear": "CLEAR",
}
CALM = ("warn", "blind")
RANK = {level: rank for rank, level in enumerate(WORDS)}
_TYPES = {"trip": "failure", "residue": "failure", "rearm": "info", "clear": "success"}  # apprise's


class News(NamedTuple):
    """An announcement, and the kill during which it was made."""

    level: str
    text: str
    account: str | None
    kill: str
    accounts: tuple[str, ...]  # the kill's accounts
    at: Now


class Message(NamedTuple):
    level: str
    subject: str
    text: str
    kill: str
    id: str = ""  # the same for every attempt to send the message

    @property
    def type(self) -> str:
        return _TYPES.get(self.level, "warning")


class Outbox:
    """The announcements for the next message. Pure."""

    def __init__(self, host: str) -> None:
        self.dropped = 0
        self._host = host
        self._news: list[News] = []
        self._told: dict[tuple[str, ...], tuple[str, int]] = {}  # subject → level and time of its last message

    def put(self, news: News) -> bool:
        """Add an announcement unless people know it already; return whether it was added.

        If there are too many, the oldest one of the least important is dropped.
        """
        if news.level not in WORDS or self._known(news):
            return False
        self._news.append(news)
        if len(self._news) > OUTBOX:
            del self._news[least([one.level for one in self._news])]
            self.dropped += 1
        return True

    def amend(self, words: str, after: str) -> None:
        """Replace a reason's text, if it has not been sent yet."""
        self._news = [
            one._replace(text=after) if (one.level, one.text) == ("trip", words) else one for one in self._news
        ]

    @property
    def urgent(self) -> bool:
        return any(news.level not in CALM for news in self._news)

    def take(self, head: str = "", id: str = "") -> Message | None:
        """Return one message of all announcements, None if there are none, and empty the outbox.

        `head` is the journal's newest record, `id` the message's name.
        """
        news, self._news = self._news, []
        return compose(news, self._host, head, id) if news else None

    def _known(self, news: News) -> bool:
        """Return whether the same was announced within `SAME_AGAIN_S`.

        A bot that quotes into a guard would cause a CLEAR a second.
        """
        match news.level:
            case "trip" | "rearm":
                return False
            case "clear" | "residue":
                # without the level, because the account's last state in the kill counts
                subject: tuple[str, ...] = (news.account or "", news.kill)
            case _:
                subject = (news.account or "", news.level, news.text)
        level, told_ns = self._told.get(subject, ("", 0))
        if level == news.level and news.at.mono_ns - told_ns < SAME_AGAIN_S * 1e9:
            return True
        if len(self._told) >= 10 * OUTBOX:
            self._told.clear()
        self._told[subject] = (news.level, news.at.mono_ns)
        return False


def least(levels: Sequence[str]) -> int:
    """Return the index of the first of the least important levels."""
    return max(range(len(levels)), key=lambda n: (RANK[levels[n]], -n))


def compose(news: Sequence[News], host: str, head: str = "", id: str = "") -> Message:
    """Write a message: the worst first, accounts that share a text in one line, the journal's newest record last.

    `id` is part of the text, so that a reader notices a message that arrives twice.
    """
    together: dict[tuple[int, str, str], list[str]] = {}
    for announcement in news:
        accounts = together.setdefault(
            (RANK[announcement.level], announcement.level, " ".join(printable.line(announcement.text).split())), []
        )
        if announcement.account and announcement.account not in accounts:
            accounts.append(announcement.account)
    worst = sorted(together.items(), key=lambda item: item[0][0])
    lines = [f"{WORDS[level]}: {_about(accounts)}{_short(text, 300)}" for (_, level, text), accounts in worst]
    if len(lines) > LINES:
        lines[LINES:] = [f"and {len(lines) - LINES} more"]
    (_, level, text), accounts = worst[0]
    over = level == "trip" and news[-1].level == "clear" and news[-1].account is None
    word = f"{WORDS[level]}, proven clear" if over else WORDS[level]
    subject = _short(f"kill-switch {host}: {word}: {_about(accounts)}{text}", 140)
    last = max(news, key=lambda announcement: (announcement.kill != "", announcement.at))
    if last.kill and level not in ("warn", "blind"):
        lines += ["", f"kill {last.kill} of {_short(', '.join(last.accounts), 500)}"]
        lines.append(f"more: kill-switch report {last.kill}")
    else:
        lines += ["", "more: kill-switch status"]
    lines.append(f"{host}, {clock.iso(news[0].at.wall_ns)}")
    if head:
        lines.append(f"journal: record {head}")
    if id:
        lines.append(f"message: {id}")
    return Message(level, subject, "\n".join(lines), last.kill, id)


def _about(accounts: Sequence[str]) -> str:
    return f"{_short(', '.join(accounts), 200)}: " if accounts else ""


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
