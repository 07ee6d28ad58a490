"""Kill without the daemon: connect, strike, read back, in a process of its own.

If the state directory is free, the journal takes the latch and the next daemon starts tripped. If a daemon holds it
(one that hangs, perhaps), the latch goes into a file that the daemon takes over as soon as it can: it then trips too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio
from anyio import to_thread

from kill_switch import clock, journal, recovery, wiring
from kill_switch.aide import Aide
from kill_switch.config import Config
from kill_switch.dispatch import Dispatcher, Recorder
from kill_switch.domain import Now, Phase, Reason
from kill_switch.engine import Announce, Recovered
from kill_switch.errors import AlreadyRunning, KillSwitchError
from kill_switch.latches import leave_latch, sync_latch
from kill_switch.notify import Notifier
from kill_switch.report import Reports

log = logging.getLogger(__name__)

TELL_WITHIN_S = 3.0  # whoever started this waits for it


class _Memory:
    """A journal that lasts as long as this process, for when the daemon holds the real one."""

    def __init__(self, take: Callable[[Mapping[str, Any]], None]) -> None:
        self.trouble = ""
        self._take = take
        self._boot = clock.boot_id()

    def intend(self, reason: Reason) -> bool:
        return True  # the latch has been left for the daemon already, or nobody will know of this kill

    def append(self, kind: str, data: Mapping[str, object], at: Now) -> None:
        self._take({"at": clock.iso(at.wall_ns), "mono_ns": at.mono_ns, "boot": self._boot, "kind": kind, "data": data})

    def latch(self, kind: str, data: Mapping[str, object], at: Now) -> bool:
        self.append(kind, data, at)
        return True

    def flush(self) -> bool:
        return True

    def sync(self) -> None:
        """Do nothing: there is no disk."""


async def fire(
    config: Config, text: str, accounts: tuple[str, ...], wait_s: float, evidence: Mapping[str, object]
) -> dict[str, object]:
    """Kill `accounts` and return the report, once all are clear or `wait_s` has passed."""
    adapters = {name: account.adapter(config.daemon.hedge_after_s) for name, account in config.accounts.items()}
    paces = wiring.paces(adapters)
    reports = Reports(int(config.daemon.budget_s * 1e6))
    recorder: Recorder
    held: journal.Journal | None = None
    try:
        held = journal.Journal(config.daemon.state_dir, config.daemon.runtime_dir)
        held.on_entry = reports.take
        recorder = held
        state = recovery.rebuild(held.replay.entries, paces)
    except Exception as error:  # whatever is wrong with the record, the kill goes out
        if held is not None:
            held.close()
            held = None
        if not isinstance(error, AlreadyRunning):
            log.error("the journal cannot be used: %s", error if isinstance(error, KillSwitchError) else repr(error))
        recorder = _Memory(reports.take)
        state = recovery.rebuild((), paces)
    reason = Reason("direct", text, accounts, clock.now(), evidence)
    if held is None:
        if not leave_latch(config.daemon.state_dir, config.daemon.runtime_dir, reason):
            log.error("no latch can be left for the daemon: it will not know of this kill")
    news = anyio.Event()

    def announce(said: Announce) -> None:
        nonlocal news
        log.info("%s: %s", said.level, said.text)
        loop.call_soon(lambda: notifier.hear(said, dispatcher.state.kill))
        news.set()
        news = anyio.Event()

    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(state, recorder, clock.now, loop.call_later, announce)
    aide = Aide()
    notifier = Notifier(aide, clock.now)
    notifier.configure(config.notify)
    try:
        async with anyio.create_task_group() as group:
            for _, work in wiring.connect(dispatcher, config, adapters, group.start_soon):
                group.start_soon(_alone, work)
            dispatcher.handle(Recovered(clock.now()))  # what a daemon left unfinished is struck, and not waited for
            dispatcher.report(reason)
            if held is None:  # only now: no disk holds up a strike
                directories = config.daemon.state_dir, config.daemon.runtime_dir
                thread = anyio.CapacityLimiter(1)
                group.start_soon(
                    partial(to_thread.run_sync, sync_latch, *directories, abandon_on_cancel=True, limiter=thread)
                )
            group.start_soon(_alone, aide.run)
            group.start_soon(_alone, notifier.run)
            with anyio.move_on_after(wait_s):
                while any(dispatcher.state.accounts[name].phase is not Phase.CLEAR for name in accounts):
                    await news.wait()
            with anyio.move_on_after(TELL_WITHIN_S):
                await notifier.finish()
            logging.getLogger("kill_switch").setLevel(logging.ERROR)  # lanes that are closed say so; it is no news
            group.cancel_scope.cancel()
    finally:
        if held is not None:
            held.close()
    return reports.get("last") or {}


async def _alone(work: wiring.Work) -> None:
    """Run a task; its failure is no other's, and what a lane would have carried goes out afresh."""
    try:
        await work()
    except Exception:
        log.exception("a task failed")
