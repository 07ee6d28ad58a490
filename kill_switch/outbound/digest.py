"""Combine announcements into one message: the worst first, nothing twice, nothing important lost.

The notifier uses this. A message gives a person who is woken the event, the host, the reason, the accounts and the
command to type. Pure: nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kill_switch import clock, printable
from kill_switch.core.domain import Instant, Severity

REPEAT_AFTER_S = 600.0  # seconds between two messages about the same
MAX_ANNOUNCEMENTS = 500  # announcements in one message at most
MAX_LINES = 30  # lines of a message at most
_TYPES = {  # apprise's
    Severity.TRIP: "failure",
    Severity.RESIDUE: "failure",
    Severity.REARM: "info",
    Severity.CLEAR: "success",
}


class Announcement(NamedTuple):
    """An announcement, and the kill during which it was made."""

    level: Severity
    text: str
    account: str | None
    kill: str
    accounts: tuple[str, ...]  # the kill's accounts
    at: Instant


class Message(NamedTuple):
    level: Severity
    subject: str
    text: str
    kill: str
    id: str = ""  # the same for every attempt to send the message

    @property
    def type(self) -> str:
        return _TYPES.get(self.level, "warning")


class Digest:
    """The announcements for the next message. Pure."""

    def __init__(self, host: str) -> None:
        self.dropped = 0
        self._host = host
        self._announcements: list[Announcement] = []
        self._announced: dict[tuple[str, ...], tuple[Severity | None, int]] = {}  # subject → level and time of the last

    def add(self, news: Announcement) -> bool:
        """Add an announcement unless people know it already; return whether it was added.

        If there are too many, the oldest one of the least important is dropped.
        """
        if news.level is Severity.INFO or self._known(news):
            return False
        self._announcements.append(news)
        if len(self._announcements) > MAX_ANNOUNCEMENTS:
            del self._announcements[least_important([announcement.level for announcement in self._announcements])]
            self.dropped += 1
        return True

    def amend(self, words: str, after: str) -> None:
        """Replace a reason's text, if it has not been sent yet."""
        self._announcements = [
            announcement._replace(text=after)
            if (announcement.level, announcement.text) == (Severity.TRIP, words)
            else announcement
            for announcement in self._announcements
        ]

    @property
    def empty(self) -> bool:
        return not self._announcements

    @property
    def urgent(self) -> bool:
        return any(not news.level.is_calm for news in self._announcements)

    def compose(self, head: str = "", id: str = "") -> Message | None:
        """Return one message of all announcements, None if there are none, and empty the outbox.

        `head` is the journal's newest record, `id` the message's name.
        """
        news, self._announcements = self._announcements, []
        return render(news, self._host, head, id) if news else None

    def _known(self, news: Announcement) -> bool:
        """Return whether the same was announced within `REPEAT_AFTER_S`.

        A bot that quotes into a guard would cause a CLEAR a second.
        """
        match news.level:
            case Severity.TRIP | Severity.REARM:
                return False
            case Severity.CLEAR | Severity.RESIDUE:
                # without the level, because the account's last state in the kill counts
                subject: tuple[str, ...] = (news.account or "", news.kill)
            case _:
                subject = (news.account or "", news.level, news.text)
        level, announced_ns = self._announced.get(subject, (None, 0))
        if level is news.level and news.at.mono_ns - announced_ns < REPEAT_AFTER_S * 1e9:
            return True
        if len(self._announced) >= 10 * MAX_ANNOUNCEMENTS:
            self._announced.clear()
        self._announced[subject] = (news.level, news.at.mono_ns)
        return False


def least_important(levels: Sequence[Severity]) -> int:
    """Return the index of the first of the least important levels."""
    return max(range(len(levels)), key=lambda n: (levels[n].rank, -n))


def render(news: Sequence[Announcement], host: str, head: str = "", id: str = "") -> Message:
    """Write a message: the worst first, accounts that share a text in one line, the journal's newest record last.

    `id` is part of the text, so that a reader notices a message that arrives twice.
    """
    together: dict[tuple[Severity, str], list[str]] = {}
    for announcement in news:
        accounts = together.setdefault((announcement.level, " ".join(printable.line(announcement.text).split())), [])
        if announcement.account and announcement.account not in accounts:
            accounts.append(announcement.account)
    worst = sorted(together.items(), key=lambda item: item[0][0].rank)
    lines = [f"{level.word}: {_about(accounts)}{_short(text, 300)}" for (level, text), accounts in worst]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f"and {len(lines) - MAX_LINES} more"]
    (level, text), accounts = worst[0]
    over = level is Severity.TRIP and news[-1].level is Severity.CLEAR and news[-1].account is None
    word = f"{level.word}, proven clear" if over else level.word
    subject = _short(f"kill-switch {host}: {word}: {_about(accounts)}{text}", 140)
    last = max(news, key=lambda announcement: (announcement.kill != "", announcement.at))
    if last.kill and not level.is_calm:
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
