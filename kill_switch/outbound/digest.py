"""Combine announcements into one message: the worst first, nothing twice, nothing important lost.

The notifier uses this. A message gives a person who is woken the event, the host, the reason, the accounts and the
command to type. Pure: nothing is sent here.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from kill_switch import clock, printable
from kill_switch.config.defaults import CONFIG
from kill_switch.core.domain import Instant, Severity

REPEAT_AFTER_S = 600.0  # seconds between two messages about the same
MAX_ANNOUNCEMENTS = 500  # announcements in one message at most
MAX_LINES = 30  # lines about announcements in one message at most
_OF_A_KILL = (Severity.TRIP, Severity.RESIDUE, Severity.REARM, Severity.CLEAR)
_COMMAND = re.compile(r"\bkill-switch [a-z][a-z-]*(?=[ ;,]|$)")
_TYPES = {  # apprise's
    Severity.TRIP: "failure",
    Severity.RESIDUE: "failure",
    Severity.REARM: "info",
    Severity.CLEAR: "success",
    Severity.OVER: "success",
    Severity.START: "info",
    Severity.TEST: "info",
}


class Announcement(NamedTuple):
    """An announcement, and the kill during which it was made."""

    level: Severity
    text: str
    account: str | None
    kill: str
    accounts: tuple[str, ...]  # the kill's accounts
    at: Instant
    do: str = ""  # `by` and the rest: see `Announce`
    by: str = ""
    about: str = ""


class Message(NamedTuple):
    level: Severity
    subject: str
    text: str
    kill: str
    id: str = ""  # the same for every attempt to send the message
    host: str = ""
    accounts: tuple[str, ...] = ()  # the kill's accounts, or those that the message is about

    @property
    def type(self) -> str:
        return _TYPES.get(self.level, "warning")


class Digest:
    """The announcements for the next message. Pure."""

    def __init__(
        self, host: str, source: Path = Path(CONFIG), name_of: Callable[[str], str] = lambda user: user
    ) -> None:
        """`source` is the configuration's file, for the commands to type; `name_of` returns the name of a user."""
        self.dropped = 0
        self._host = host
        path = os.path.abspath(source)  # because the reader is in another directory
        self._option = "" if path == CONFIG else f" -c {shlex.quote(path)}"
        self._name_of = name_of
        self._announcements: list[Announcement] = []
        self._announced: dict[tuple[str, ...], tuple[str, int]] = {}  # subject → state and time of the last

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

    def amend(self, words: str, after: str, by: str = "") -> None:
        """Replace a reason's text, and the user who has acted, if the reason has not been sent yet."""
        self._announcements = [
            announcement._replace(text=after, by=by or announcement.by)
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
        named = [each._replace(by=self._name_of(each.by)) if each.by else each for each in news]
        return render(named, self._host, head, id, self._option) if named else None

    def _known(self, news: Announcement) -> bool:
        """Return whether the same was announced within `REPEAT_AFTER_S`.

        A bot that quotes into a guard would cause a CLEAR a second.
        """
        state: str = news.level
        match news.level:
            case Severity.TRIP | Severity.REARM | Severity.START | Severity.STOP | Severity.APPROVAL:
                return False  # an approval may be void by now, so that the same words ask again
            case _ if news.about:  # the last state of the condition counts
                subject: tuple[str, ...] = (news.account or "", news.about)
                state = f"{news.level} {news.text}"
            case Severity.CLEAR | Severity.RESIDUE:
                # without the level, because the account's last state in the kill counts
                subject = (news.account or "", news.kill)
            case _:
                subject = (news.account or "", news.level, news.text)
        last_state, announced_ns = self._announced.get(subject, ("", 0))
        if last_state == state and news.at.mono_ns - announced_ns < REPEAT_AFTER_S * 1e9:
            return True
        if len(self._announced) >= 10 * MAX_ANNOUNCEMENTS:
            self._announced.clear()
        self._announced[subject] = (state, news.at.mono_ns)
        return False


def least_important(levels: Sequence[Severity]) -> int:
    """Return the index of the first of the least important levels."""
    return max(range(len(levels)), key=lambda n: (levels[n].rank, -n))


def render(news: Sequence[Announcement], host: str, head: str = "", id: str = "", option: str = "") -> Message:
    """Write a message: the worst first, accounts that share a text in one line, the journal's newest record last.

    `id` is part of the text, so that a reader notices a message that arrives twice. `option` is added to each command.
    """
    together: dict[tuple[Severity, str, str], list[str]] = {}
    for announcement in news:
        by = f" (by {announcement.by})" if announcement.by else ""
        text = " ".join(printable.line(announcement.text + by).split())
        accounts = together.setdefault((announcement.level, text, announcement.do), [])
        if announcement.account and announcement.account not in accounts:
            accounts.append(announcement.account)
    worst = sorted(together.items(), key=lambda item: item[0][0].rank)
    lines: list[str] = []
    for number, ((level, text, do), accounts) in enumerate(worst):
        if len(lines) >= MAX_LINES:
            lines.append(f"and {len(worst) - number} more")
            break
        lines.append(f"{level.word}: {_about(accounts)}{_short(text, 300)}")
        if do:
            lines.append(f"  do: {_with_option(_short(printable.line(do), 300), option)}")
    (level, text, _), accounts = worst[0]
    over = level is Severity.TRIP and news[-1].level is Severity.CLEAR and news[-1].account is None
    word = f"{level.word}, proven clear" if over else level.word
    subject = _short(f"kill-switch {host}: {word}: {_about(accounts)}{text}", 140)
    last = max(news, key=lambda announcement: (announcement.kill != "", announcement.at))
    about_accounts = last.accounts or tuple(dict.fromkeys(each.account for each in news if each.account))
    if last.kill and level in _OF_A_KILL:
        lines += ["", f"kill {last.kill} of {_short(', '.join(last.accounts), 500)}"]
        lines.append(_with_option(f"more: kill-switch report {last.kill}", option))
    else:
        lines += ["", _with_option("more: kill-switch status", option)]
    lines.append(f"{host}, {clock.iso(news[0].at.wall_ns)}")
    if head:
        lines.append(f"journal: record {head}")
    if id:
        lines.append(f"message: {id}")
    return Message(level, subject, "\n".join(lines), last.kill, id, host, about_accounts)


def _with_option(text: str, option: str) -> str:
    return _COMMAND.sub(lambda match: match[0] + option, text)


def _about(accounts: Sequence[str]) -> str:
    return f"{_short(', '.join(accounts), 200)}: " if accounts else ""


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
