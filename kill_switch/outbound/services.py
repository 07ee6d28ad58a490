"""All services beside the kill path, for one daemon: messages, hooks, the outer ping, metrics.

The daemon builds this, starts it and passes configurations to it. No failure here may affect a kill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import anyio
import anyio.lowlevel

from kill_switch import clock
from kill_switch.config.loader import Config
from kill_switch.config.schema import DaemonConfig
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.core.state import Kill
from kill_switch.health.readiness import why_unable_to_fire
from kill_switch.outbound.healthcheck_ping import HealthcheckPing
from kill_switch.outbound.hooks import HookRunner
from kill_switch.outbound.metrics import MeasuredParts, MetricsCollector, OutboundCounters, WorkerFigures
from kill_switch.outbound.notifier import Notifier
from kill_switch.system import orphans
from kill_switch.system.users import UserDirectory
from kill_switch.tasks import TaskSupervisor
from kill_switch.worker.access_files import AccessFiles
from kill_switch.worker.client import Exposure, WorkerPool

WORDS_WITHIN_S = 0.02  # seconds that hooks wait for the text of a reason that was reported without it
FINISH_WITHIN_S = 2.0  # seconds for the last messages when the daemon stops
LAST_WORDS_S = 0.2  # seconds to pass on the last jobs; the workers have `subordinate.LAST_S` for them


class OutboundHub:
    """The services of one daemon; `reconfigure` applies another configuration while they run."""

    def __init__(
        self,
        config: Config,
        parts: MeasuredParts,
        announce: Callable[[Announce], None],
        users: UserDirectory | None = None,
    ) -> None:
        """Create it.

        `parts` are the parts of the daemon that the metrics show; hooks and messages use some of them too. `users` has
        the names of people who have acted.
        """
        self._announce = announce
        self._users = users or UserDirectory()
        self._config = config
        self._dispatcher = dispatcher = parts.dispatcher
        self._journal = parts.journal
        self._exposing = ""  # the fault of the metrics server, or ""
        self._tripped: list[tuple[Kill, str]] = []  # kills whose hooks have not begun, each with its reason
        self.meter = MetricsCollector(parts, self._counters, self._worker_figures, clock.now)
        at, files = config.daemon.metrics, _access_files(config.daemon)
        exposed = at and Exposure(at, self.meter.snapshot, self._on_trouble, files)
        self._workers = workers = WorkerPool(lambda text: announce(Announce(Severity.WARN, text)), exposed)
        self._notifier = Notifier(workers, clock.now, head=self._head, source=config.source, name_of=self._name_of)
        self._hooks = HookRunner(workers, self._record, announce, lambda: dispatcher.state.tripped)
        self._ping = HealthcheckPing(workers, self._why_unable, clock.now, self._head)
        self._configure()

    def start(self, tasks: TaskSupervisor) -> None:
        """Begin all tasks, and continue the hooks of an unfinished kill."""
        self._hooks.resume(self._dispatcher.state.kill, self._journal.contents.entries)
        for worker in self._workers.clients():
            tasks.supervise(worker.name, worker.run)
        tasks.supervise("hooks", self._hooks.run)
        tasks.supervise("notify", self._notifier.run)
        if self._config.daemon.metrics:
            tasks.supervise("metrics", self.meter.run)
        tasks.supervise("ping", self._ping.run)

    def reconfigure(self, config: Config, tasks: TaskSupervisor) -> None:
        """Apply another configuration."""
        self._config = config
        self._configure()
        tasks.supervise("ping", self._ping.run)

    def on_announcement(self, news: Announce) -> None:
        """Queue an announcement, once the strike that it may belong to has been sent."""
        asyncio.get_running_loop().call_soon(self._forward, news, self._dispatcher.state.kill)

    def amend(self, words: str, after: str, by: str = "") -> None:
        """Replace a reason's text where it has not been sent yet; `by` is the user who has acted, "" if unknown."""
        self._notifier.amend(words, after, by)
        self._tripped = [(kill, after if text == words else text) for kill, text in self._tripped]

    async def finish(self, within_s: float = FINISH_WITHIN_S) -> None:
        """Send the last messages and wait for the hooks, at most `within_s` seconds."""
        await anyio.lowlevel.checkpoint()  # because an announcement of this moment is on its way here
        self._begin_hooks()
        with anyio.move_on_after(within_s):
            await self._notifier.finish()
            while not self._hooks.idle:  # noqa: ASYNC110 - some milliseconds
                await anyio.sleep(0.02)

    def sent(self) -> int:
        """Return how many messages have arrived, by all channels."""
        return self._notifier.sent

    @property
    def missing(self) -> str:
        """Return which worker process is missing or does not work; "" if none."""
        return next(self._workers.troubles(), "")

    def reap(self) -> None:
        """Collect the orphans that the kernel has given to this process; see `orphans`."""
        orphans.reap_orphans([worker.pid for worker in self._workers.clients()])

    def troubles(self) -> Iterator[str]:
        """Yield a line for people for each service that does not work."""
        yield from self._workers.troubles()
        if self._exposing:
            yield f"metrics: {self._exposing}"
        for part in (self._notifier, self._hooks, self._ping):
            yield from part.troubles()

    def _configure(self) -> None:
        config = self._config
        self._notifier.configure(config.notify)
        self._hooks.configure(config.hooks)
        self._ping.configure(config.ping)
        if config.daemon.metrics or config.notify.urls or config.ping.url:
            self._workers.messages.start_when_needed()
        if config.notify.command or config.hooks.on_trip:
            self._workers.commands.start_when_needed()

    def _forward(self, news: Announce, kill: Kill | None) -> None:
        if news.level is Severity.TRIP and kill is not None:
            self._tripped.append((kill, news.text))
            asyncio.get_running_loop().call_later(WORDS_WITHIN_S, self._begin_hooks)
        self._notifier.on_announcement(news, kill)

    def _begin_hooks(self) -> None:
        tripped, self._tripped = self._tripped, []
        for kill, text in tripped:
            self._hooks.on_trip(kill, text)

    def _head(self) -> str:
        """Return the journal's newest record, for messages and the outer ping."""
        return self._journal.head.describe

    def _name_of(self, user: str) -> str:
        """Return the name of a user whose number was recorded; the number where no name is known."""
        if not user.isdecimal():
            return user
        name = self._users.cached_name(int(user))
        return f"uid {user}" if name == user else name

    def _on_trouble(self, trouble: str) -> None:
        if trouble and trouble != self._exposing:
            self._announce(Announce(Severity.WARN, f"metrics: {trouble}"))
        elif self._exposing and not trouble:
            self._announce(Announce(Severity.INFO, "metrics: served as before"))
        self._exposing = trouble

    def _why_unable(self) -> str:
        return why_unable_to_fire(self._dispatcher, clock.now())

    def _worker_figures(self) -> Iterator[WorkerFigures]:
        named = {"messages": self._workers.messages, "commands": self._workers.commands}
        for name, worker in named.items():
            yield WorkerFigures(name, worker.is_used, worker.is_up, worker.restarts)

    def _counters(self) -> OutboundCounters:
        return OutboundCounters(
            notifications_sent_total=self._notifier.sent,
            notification_failures_total=self._notifier.failures,
            notifications_lost_total=self._notifier.lost,
            hook_runs_total=self._hooks.runs,
            hook_failures_total=self._hooks.failures,
            pings_sent_total=self._ping.sent,
            ping_failures_total=self._ping.failures,
        )

    def _record(self, kind: str, data: Mapping[str, object]) -> None:
        self._journal.append(kind, data, clock.now())
        self._journal.flush()


def _access_files(daemon: DaemonConfig) -> AccessFiles:
    """Return the files that say who may read the metrics."""
    token, certificate, key = (
        "" if path is None else str(path)
        for path in (daemon.metrics_token_file, daemon.metrics_cert_file, daemon.metrics_key_file)
    )
    return AccessFiles(token, certificate, key)
