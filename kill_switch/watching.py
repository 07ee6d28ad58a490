"""Make the triggers that the configuration names, and keep each running: none can be silently absent.

A trigger whose task dies is blind, visibly, until it runs again; one that cannot see its input is too. Either is said
aloud once, and taken for a reason where the configuration says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import assert_never

import anyio

from kill_switch.config import Config, tables
from kill_switch.dispatch import Dispatcher
from kill_switch.domain import Now, Reason
from kill_switch.engine import Announce
from kill_switch.transports.lane import LaneState
from kill_switch.triggers.attention import Attention
from kill_switch.triggers.base import Trigger, TriggerState
from kill_switch.triggers.flag import Flag
from kill_switch.triggers.heartbeat import Heartbeat
from kill_switch.triggers.intake import Intake
from kill_switch.triggers.link import Link
from kill_switch.triggers.schedule import Schedule

log = logging.getLogger(__name__)

RESTART_AFTER_S = 1.0
RESTART_CAP_S = 30.0


class Watch:
    """Hold the triggers, by name, in the order of the configuration."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        intake: Intake,
        seen: datetime | None,
        announce: Callable[[Announce], None],
        *,
        clock: Callable[[], Now],
    ) -> None:
        """`seen` is until when an earlier run has watched, None if there was none."""
        self.attention = Attention(clock)
        self._dispatcher = dispatcher
        self._announce = announce
        self._clock = clock
        self._dead: dict[str, str] = {}  # trigger → why its task died
        self._told: set[str] = set()  # of whom people know that they are blind
        self._on_blind = {name: made.on_blind for name, made in config.triggers.items()}
        self._heartbeats: dict[str, Heartbeat] = {}
        self.triggers: Mapping[str, Trigger] = {
            name: self._make(name, made, config.daemon.runtime_dir, intake, seen)
            for name, made in config.triggers.items()
        }
        intake.heartbeats = self._heartbeats

    def _make(
        self, name: str, made: tables.AnyTrigger, runtime_dir: Path, intake: Intake, seen: datetime | None
    ) -> Trigger:
        match made:
            case tables.Flag():
                _make_flag_directory(made.path.parent, runtime_dir)
                return Flag(name, made.accounts, made.path, clock=self._clock)
            case tables.Heartbeat():
                self._heartbeats[name] = Heartbeat(
                    name,
                    made.accounts,
                    made.timeout_s,
                    made.start,
                    made.allow_bye,
                    clock=self._clock,
                    attention=self.attention,
                    drain=intake.drain,
                )
                return self._heartbeats[name]
            case tables.Schedule():
                return Schedule(
                    name, made.accounts, made.cron, made.timezone, made.missed, clock=self._clock, seen=seen
                )
            case tables.Link():
                return Link(
                    name,
                    made.accounts,
                    made.timeout_s,
                    clock=self._clock,
                    attention=self.attention,
                    reachable=self._reachable,
                )
            case tables.Pnl() | tables.OrderRate():
                raise NotImplementedError
            case _:
                assert_never(made)

    def boot(self) -> None:
        """Say that the daemon is ready: what counts from then on, begins."""
        for heartbeat in self._heartbeats.values():
            heartbeat.boot()

    async def run(self, trigger: Trigger) -> None:
        """Run a trigger for ever, whatever becomes of it."""
        wait_s = RESTART_AFTER_S
        while True:
            try:
                await trigger.run(self._dispatcher.report)
                self._dead[trigger.name] = "its task ended"
            except Exception as error:
                log.exception("trigger %s failed; it is started again in %g s", trigger.name, wait_s)
                self._dead[trigger.name] = f"its task failed: {type(error).__name__}"
            await anyio.sleep(wait_s)
            wait_s = min(2 * wait_s, RESTART_CAP_S)
            self._dead.pop(trigger.name, None)

    def conditions(self) -> dict[str, tuple[TriggerState, str]]:
        """Return each trigger's state and detail; one whose task died is blind."""
        return {
            name: (TriggerState.BLIND, self._dead[name]) if name in self._dead else trigger.condition()
            for name, trigger in self.triggers.items()
        }

    def blind(self) -> int:
        return sum(state is TriggerState.BLIND for state, _ in self.conditions().values())

    def watching(self, accounts: set[str]) -> Iterator[Trigger]:
        """Yield the triggers that watch any of the accounts."""
        return (trigger for trigger in self.triggers.values() if accounts.intersection(trigger.accounts))

    def notice_blind(self) -> None:
        """Say aloud that a trigger cannot see, once; take it for a reason where the configuration says so."""
        for name, (state, detail) in self.conditions().items():
            if state is not TriggerState.BLIND:
                if name in self._told:
                    self._told.discard(name)
                    self._announce(Announce("info", f"trigger {name} sees again"))
            elif name not in self._told:
                self._told.add(name)
                self._announce(Announce("blind", f"trigger {name} is blind: {detail}"))
                if self._on_blind[name] == "fire":
                    accounts = self.triggers[name].accounts
                    reason = Reason(name, f"it is blind: {detail}", accounts, self._clock(), {"blind": True})
                    self._dispatcher.report(reason)

    def _reachable(self) -> dict[str, bool]:
        sessions = self._dispatcher.sessions
        return {name: LaneState.UP in (s.ws.state, s.http.state) for name, s in sessions.items()}


def _make_flag_directory(directory: Path, runtime_dir: Path) -> None:
    """Make a flag's directory below our own, where tmpfiles(5) has not: its group may put the flag there."""
    if not directory.is_relative_to(runtime_dir) or directory.exists():
        return
    try:
        directory.mkdir(parents=True)
        directory.chmod(0o2770)
    except OSError as error:
        log.error("directory %s: %s; its flag cannot be seen", directory, error.strerror)
