"""Notifications: announcements within a second become one message, and each channel sends it independently.

A channel that is down keeps its messages and tries again, trips first; the other channels are not affected. `digest`
writes the text, and the worker process sends. Nothing here is on the kill path.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.lowlevel

from kill_switch.config.defaults import CONFIG
from kill_switch.config.schema import NotifyConfig
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant
from kill_switch.core.state import Kill
from kill_switch.outbound.digest import Announcement, Digest, Message, least_important
from kill_switch.outbound.targets import CommandTarget, UrlTarget, host_name
from kill_switch.wakeup import AutoResetEvent, Signal
from kill_switch.worker.client import JobResult, JobRunner

log = logging.getLogger(__name__)

COLLECT_S = 1.0  # seconds in which announcements are collected into a message
CALM_S = 30.0  # seconds between two messages that hold only warnings, which may all differ
MAX_QUEUED = 100  # messages that wait for a channel at most
FIRST_RETRY_S, RETRY_CAP_S = 1.0, 60.0  # seconds until the second attempt; at most, between two attempts
GIVE_UP_AFTER_S = 3600.0  # seconds


@dataclass(slots=True, eq=False)
class _QueuedMessage:
    message: Message
    since_ns: int
    due_ns: int
    tries: int = 0


class Channel:
    """A channel to people: sends its messages, the worst first, until each has arrived or an hour has passed."""

    def __init__(
        self,
        name: str,
        send: Callable[[Message], Awaitable[JobResult]],
        check: Callable[[], Awaitable[JobResult]],
        clock: Callable[[], Instant],
    ) -> None:
        """`check` returns whether `send` could work, without sending a message."""
        self.name = name
        self.trouble = ""
        self.sent = self.failures = self.lost = 0
        self._send = send
        self._check = check
        self._clock = clock
        self._queue: list[_QueuedMessage] = []
        self._sending: _QueuedMessage | None = None
        self._news = AutoResetEvent()

    @property
    def idle(self) -> bool:
        """Return whether every waiting message has been tried at least once."""
        return self._sending is None and all(queued.tries for queued in self._queue)

    def put(self, message: Message) -> None:
        """Queue a message; if too many wait, the oldest one of the least important is dropped."""
        now_ns = self._clock().mono_ns
        self._queue.append(_QueuedMessage(message, now_ns, now_ns))
        if len(self._queue) > MAX_QUEUED:
            del self._queue[least_important([queued.message.level for queued in self._queue])]
            self.lost += 1
        self._news.set()

    async def run(self) -> None:
        """Send for ever."""
        checked = await self._check()
        if not checked.ok:
            self._failed(checked.why)
        while True:
            now_ns = self._clock().mono_ns
            due = [queued for queued in self._queue if queued.due_ns <= now_ns]
            if due:
                await self._try(min(due, key=lambda queued: queued.message.level.rank))
                continue
            next_ns = min((queued.due_ns for queued in self._queue), default=None)
            with anyio.move_on_after(None if next_ns is None else (next_ns - now_ns) / 1e9):
                await self._news.wait()

    async def _try(self, queued: _QueuedMessage) -> None:
        self._sending = queued
        self._queue.remove(queued)
        try:
            done = await self._send(queued.message)
        except BaseException:  # because a cancelled task must not lose the message: a later task sends it
            self._queue.append(queued)
            raise
        finally:
            self._sending = None
        now_ns = self._clock().mono_ns
        queued.tries += 1
        if done.ok:
            self.sent += 1
            self.trouble = ""
            return
        self._failed(done.why)
        if now_ns - queued.since_ns > GIVE_UP_AFTER_S * 1e9:
            self.lost += 1
            log.error("notify %s: a message was given up: %s", self.name, queued.message.subject)
            return
        wait_s = min(FIRST_RETRY_S * 2 ** min(queued.tries - 1, 16), RETRY_CAP_S)
        queued.due_ns = now_ns + int(wait_s * 1e9)
        self._queue.append(queued)

    def _failed(self, why: str) -> None:
        self.failures += 1
        if self.trouble != why:
            log.warning("notify %s: %s", self.name, why)
        self.trouble = why


class Notifier:
    """The receiver of all announcements, which sends them over every configured channel."""

    def __init__(
        self,
        jobs: JobRunner,
        clock: Callable[[], Instant],
        host: str = "",
        head: Callable[[], str] = lambda: "",
        *,
        source: Path = Path(CONFIG),
        name_of: Callable[[str], str] = lambda user: user,
    ) -> None:
        """`host` names this daemon to people; default: the host's name. `head` returns the journal's newest record.

        `source` and `name_of`: see `Digest`.
        """
        self.channels: dict[str, Channel] = {}  # target → channel; the target is secret
        self._jobs = jobs
        self._clock = clock
        self._head = head
        self._digest = Digest(host or host_name(), source, name_of)
        self._calm_ns = -int(CALM_S * 1e9)  # when the last message was posted that held only warnings
        self._posted = 0
        self._news = AutoResetEvent()
        self._changed = Signal()

    def configure(self, config: NotifyConfig) -> None:
        """Use the channels of a configuration; a channel that stays keeps its messages."""
        channels: dict[str, Channel] = {}
        for number, secret in enumerate(config.urls):
            url = secret.get_secret_value()
            name = f"urls[{number}] {url.partition(':')[0]}"
            channels[url] = self.channels.get(url) or self._url(name, url)
            channels[url].name = name
        if config.command:
            key = "\0".join(config.command)
            channels[key] = self.channels.get(key) or self._command(config.command)
        self.channels = channels
        self._changed.notify()

    def on_announcement(self, news: Announce, kill: Kill | None) -> None:
        """Queue an announcement; cheap enough for the kill path."""
        if not self.channels:
            return
        accounts = tuple(sorted(kill.accounts)) if kill else ()
        about = kill.id if kill else "", accounts, self._clock()
        if self._digest.add(Announcement(news.level, news.text, news.account, *about, news.do, news.by, news.about)):
            self._news.set()

    def amend(self, words: str, after: str, by: str = "") -> None:
        """Replace a reason's text, and the user who has acted, unless it has been sent already."""
        self._digest.amend(words, after, by)

    async def run(self) -> None:
        """Build messages and have them sent, for ever."""
        while True:
            async with anyio.create_task_group() as group:
                for channel in self.channels.values():
                    group.start_soon(channel.run)
                group.start_soon(self._collect)
                await self._changed.wait()
                group.cancel_scope.cancel()

    async def _collect(self) -> None:
        while True:
            while self._digest.empty:
                await self._news.wait()
            await anyio.sleep(COLLECT_S)
            wait_ns = self._calm_ns + int(CALM_S * 1e9) - self._clock().mono_ns
            if self._digest.urgent or wait_ns <= 0:
                self._post()
                continue
            with anyio.move_on_after(wait_ns / 1e9):
                await self._news.wait()  # an urgent announcement ends the wait

    async def finish(self) -> None:
        """Return once every message has been tried; the caller bounds the time."""
        await anyio.lowlevel.checkpoint()  # because an announcement of this moment is on its way here
        self._post()
        while not all(channel.idle for channel in self.channels.values()):  # noqa: ASYNC110 - some milliseconds
            await anyio.sleep(0.02)

    def unsent(self) -> Iterator[str]:
        """Yield the name of each channel with a message that it has not tried yet."""
        return (channel.name for channel in self.channels.values() if not channel.idle)

    def troubles(self) -> Iterator[str]:
        """Yield a line for each channel that does not work."""
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
        return self._digest.dropped + sum(channel.lost for channel in self.channels.values())

    def _post(self) -> None:
        self._posted += 1
        if message := self._digest.compose(self._head(), f"{self._clock().wall_ms:x}-{self._posted}"):
            if message.level.is_calm:
                self._calm_ns = self._clock().mono_ns
            for channel in self.channels.values():
                channel.put(message)

    def _url(self, name: str, url: str) -> Channel:
        target = UrlTarget(self._jobs, url)
        return Channel(name, target.send, target.check, self._clock)

    def _command(self, argv: tuple[str, ...]) -> Channel:
        target = CommandTarget(self._jobs, argv)
        return Channel("command", target.send, target.check, self._clock)
