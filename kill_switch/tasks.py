"""Named tasks of an event loop that run until they are ended.

A task that returns or raises is logged and started again; the other tasks are not affected. The daemon and its outbound
services use this. Nothing here is on the kill path.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

log = logging.getLogger(__name__)

RESTART_AFTER_S = 1.0


class TaskSupervisor:
    """The tasks of one task group, by name."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._scopes: dict[str, anyio.CancelScope] = {}

    def supervise(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Run `work`, and again whenever it returns or raises, until `end`. An earlier task of the same name is ended
        first.
        """
        self.cancel(name)
        scope = self._scopes[name] = anyio.CancelScope()
        self._group.start_soon(self._supervise, name, work, scope, name=name)

    def cancel(self, name: str) -> None:
        """Cancel the task of that name, if there is one."""
        if scope := self._scopes.pop(name, None):
            scope.cancel()

    async def _supervise(self, name: str, work: Callable[[], Awaitable[object]], scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                try:
                    await work()
                    log.error("task %s ended; it is started again", name)
                except Exception:
                    log.exception("task %s failed; it is started again", name)
                await anyio.sleep(RESTART_AFTER_S)


async def run_isolated(name: str, work: Callable[[], Awaitable[object]]) -> None:
    """Run `work` once; log its failure, which ends no other task of the group."""
    try:
        await work()
    except Exception:
        log.exception("task %s failed", name)
