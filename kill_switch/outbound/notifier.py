"""Tell people: what is announced within a second becomes one message, and each way to them carries it by itself.

Nothing here is in the way of a kill: an announcement is put in a list, the process beside does the sending. A way that
is down keeps its messages and tries again, a trip before everything else; the other ways do not notice.
What a message says is `messages`' business.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import anyio
import anyio.lowlevel

from kill_switch.config.schema import Notify
from kill_switch.core.domain import Now
from kill_switch.core.engine import Announce, Kill
from kill_switch.outbound.digest import Message, News, Outbox, least
from kill_switch.wakeup import AutoResetEvent, Signal
from kill_switch.worker.client import Done, Errands

log = logging.getLogger(__name__)

COLLECT_S = 1.0
CALM_S = 30.0  # between two messages that say nothing but warnings, all different, perhaps
LETTERS = 100  # messages that wait for one way
SEND_WITHIN_S = 20.0
FIRST_RETRY_S, RETRY_CAP_S = 1.0, 60.0
GIVE_UP_AFTER_S = 3600.0


@dataclass(slots=True, eq=False)
class _Letter:
    message: Message
    since_ns: int
    due_ns: int
    tries: int = 0


class Channel:
    """One way to people: send what there is, the most important first, until it has arrived or an hour has passed."""

    def __init__(
        self,
        name: str,
        send: Callable[[Message], Awaitable[Done]],
        check: Callable[[], Awaitable[Done]],
        clock: Callable[[], Now],
    ) -> None:
        """`check` sees whether `send` has a chance, without telling anybody."""
        self.name = name
        self.trouble = ""
        self.sent = self.failures = self.lost = 0
        self._send = send
        self._check = check
        self._clock = clock
        self._letters: list[_Letter] = []
        self._sending: _Letter | None = None
        self._news = AutoResetEvent()

    @property
    def idle(self) -> bool:
        """Nothing waits that has not been tried."""
        return self._sending is None and all(letter.tries for letter in self._letters)

    def put(self, message: Message) -> None:
        """Take a message; where too many wait, the oldest of the least important goes."""
        now_ns = self._clock().mono_ns
        self._letters.append(_Letter(message, now_ns, now_ns))
        if len(self._letters) > LETTERS:
            del self._letters[least([letter.message.level for letter in self._letters])]
            self.lost += 1
        self._news.set()

    async def run(self) -> None:
        """Send for ever."""
        checked = await self._check()
        if not checked.ok:
            self._failed(checked.why)
        while True:
            now_ns = self._clock().mono_ns
            due = [letter for letter in self._letters if letter.due_ns <= now_ns]
            if due:
                await self._try(min(due, key=lambda letter: letter.message.level.rank))
                continue
            next_ns = min((letter.due_ns for letter in self._letters), default=None)
            with anyio.move_on_after(None if next_ns is None else (next_ns - now_ns) / 1e9):
                await self._news.wait()

    async def _try(self, letter: _Letter) -> None:
        self._sending = letter
        self._letters.remove(letter)
        try:
            done = await self._send(letter.message)
        except BaseException:  # the task is ended, the way goes on with another one
            self._letters.append(letter)
            raise
        finally:
            self._sending = None
        now_ns = self._clock().mono_ns
        letter.tries += 1
        if done.ok:
            self.sent += 1
            self.trouble = ""
            return
        self._failed(done.why)
        if now_ns - letter.since_ns > GIVE_UP_AFTER_S * 1e9:
            self.lost += 1
            log.error("notify %s: a message was given up: %s", self.name, letter.message.subject)
            return
        wait_s = min(FIRST_RETRY_S * 2 ** min(letter.tries - 1, 16), RETRY_CAP_S)
        letter.due_ns = now_ns + int(wait_s * 1e9)
        self._letters.append(letter)

    def _failed(self, why: str) -> None:
        self.failures += 1
        if self.trouble != why:
            log.warning("notify %s: %s", self.name, why)
        self.trouble = why


class Notifier:
    """Hear all announcements, and have them told in every way that is configured."""

    def __init__(
        self, errands: Errands, clock: Callable[[], Now], host: str = "", head: Callable[[], str] = lambda: ""
    ) -> None:
        """`host` is who we are, to people; default: this machine's name. `head` returns the journal's newest record."""
        self.channels: dict[str, Channel] = {}  # by what they send to, which is secret
        self._errands = errands
        self._clock = clock
        self._head = head
        self._outbox = Outbox(host or socket.gethostname().partition(".")[0])
        self._calm_ns = -int(CALM_S * 1e9)  # when the last message left that was nothing but warnings
        self._posted = 0
        self._news = AutoResetEvent()
        self._changed = Signal()

    def configure(self, table: Notify) -> None:
        """Take the ways of a configuration; one that stays keeps its messages."""
        made: dict[str, Channel] = {}
        for number, secret in enumerate(table.urls):
            url = secret.get_secret_value()
            name = f"urls[{number}] {url.partition(':')[0]}"
            made[url] = self.channels.get(url) or self._url(name, url)
            made[url].name = name
        if table.command:
            key = "\0".join(table.command)
            made[key] = self.channels.get(key) or self._command(table.command)
        self.channels = made
        self._changed.notify()

    def hear(self, news: Announce, kill: Kill | None) -> None:
        """Take an announcement; costs next to nothing."""
        if not self.channels:
            return
        accounts = tuple(sorted(kill.accounts)) if kill else ()
        told = News(news.level, news.text, news.account, kill.id if kill else "", accounts, self._clock())
        if self._outbox.put(told):
            self._news.set()

    def amend(self, words: str, after: str) -> None:
        """Give a reason other words, unless it has been told already."""
        self._outbox.amend(words, after)

    async def run(self) -> None:
        """Make messages, and have them sent, for ever."""
        while True:
            async with anyio.create_task_group() as group:
                for channel in self.channels.values():
                    group.start_soon(channel.run)
                group.start_soon(self._collect)
                await self._changed.wait()
                group.cancel_scope.cancel()

    async def _collect(self) -> None:
        while True:
            while self._outbox.empty:
                await self._news.wait()
            await anyio.sleep(COLLECT_S)
            wait_ns = self._calm_ns + int(CALM_S * 1e9) - self._clock().mono_ns
            if self._outbox.urgent or wait_ns <= 0:
                self._post()
                continue
            with anyio.move_on_after(wait_ns / 1e9):
                await self._news.wait()  # it may be urgent

    async def finish(self) -> None:
        """Return once everything has been tried; the caller bounds it."""
        await anyio.lowlevel.checkpoint()  # what is announced in this very moment is on its way here
        self._post()
        while not all(channel.idle for channel in self.channels.values()):  # noqa: ASYNC110 - some milliseconds
            await anyio.sleep(0.02)

    def troubles(self) -> Iterator[str]:
        """Yield a line for each way that does not work."""
        for channel in self.channels.values():
            if channel.trouble:
                yield f"notify {channel.name}: {channel.trouble}"

    @property
    def sent(self) -> int:
        """Messages that arrived, by all channels."""
        return sum(channel.sent for channel in self.channels.values())

    @property
    def failures(self) -> int:
        """Attempts that failed, by all channels."""
        return sum(channel.failures for channel in self.channels.values())

    @property
    def lost(self) -> int:
        """Announcements that had no room, and messages that a channel has given up."""
        return self._outbox.dropped + sum(channel.lost for channel in self.channels.values())

    def _post(self) -> None:
        self._posted += 1
        if message := self._outbox.take(self._head(), f"{self._clock().wall_ms:x}-{self._posted}"):
            if message.level.is_calm:
                self._calm_ns = self._clock().mono_ns
            for channel in self.channels.values():
                channel.put(message)

    def _url(self, name: str, url: str) -> Channel:
        async def send(message: Message) -> Done:
            told = {"subject": message.subject, "text": message.text, "type": message.type}
            return await self._errands.do("tell", SEND_WITHIN_S, url=url, **told)

        async def check() -> Done:
            return await self._errands.do("tell", SEND_WITHIN_S, url=url)

        return Channel(name, send, check, self._clock)

    def _command(self, argv: tuple[str, ...]) -> Channel:
        async def send(message: Message) -> Done:
            environ = {
                "KILL_SWITCH_LEVEL": message.level,
                "KILL_SWITCH_SUBJECT": message.subject,
                "KILL_SWITCH_KILL": message.kill,
                "KILL_SWITCH_MESSAGE": message.id,
            }
            text = f"{message.subject}\n\n{message.text}\n"
            return await self._errands.do("run", SEND_WITHIN_S, argv=argv, env=environ, text=text)

        async def check() -> Done:
            return await self._errands.do("find", SEND_WITHIN_S, argv=argv)

        return Channel("command", send, check, self._clock)
