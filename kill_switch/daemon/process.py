"""Run a daemon as a process: its limits, its signals while it reads its record, and a bound for its stop."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import threading

import anyio

from kill_switch import logging_setup
from kill_switch.config.loader import Config
from kill_switch.daemon.daemon import Daemon
from kill_switch.daemon.held_signals import SIGNAL_HOLDER, SignalHolder
from kill_switch.daemon.listeners import ListenerSet
from kill_switch.daemon.sd_notify import ServiceNotifier
from kill_switch.errors import KillSwitchError
from kill_switch.journal.journal import Journal
from kill_switch.system import abandonable_thread
from kill_switch.system.hardening import forbid_dumps, make_directory
from kill_switch.tasks import TaskSupervisor

log = logging.getLogger(__name__)

END_WITHIN_S = 28.0  # after SIGTERM, all bounds of the stop together; systemd's TimeoutStopSec is longer


def run(config: Config, held: SignalHolder = SIGNAL_HOLDER) -> None:
    """Run the daemon in the foreground until it is told to stop. Raises `KillSwitchError` if it cannot start."""
    os.umask(0o027)
    if not forbid_dumps():
        log.warning("this process can be dumped: keys in its memory can be read by others of the same user")
    _raise_descriptor_limit()
    directories = config.daemon.state_dir, config.daemon.runtime_dir
    held.set_directories(*directories)
    for directory in directories:
        if why := make_directory(directory):
            log.warning("directory %s: %s", directory, why)
    try:
        with held.hand_over():
            anyio.run(_live, config, held, backend_options={"use_uvloop": _uvloop()})
    except BaseExceptionGroup as group:
        known, rest = group.split(KillSwitchError)
        if known is not None and rest is None:
            first: BaseException = known
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None
        raise
    finally:
        held.settle()


async def _live(config: Config, held: SignalHolder) -> None:
    """Run a daemon, whose sockets are open and whose signals are heard while it still reads its record."""
    doors, systemd = ListenerSet(config, held), ServiceNotifier()
    scope = anyio.CancelScope()
    guard = threading.Timer(END_WITHIN_S, _end_late)
    guard.daemon = True

    def end_soon() -> None:
        if not guard.is_alive():
            guard.start()

    def act(number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            end_soon()
            scope.cancel()
        else:
            held.record(number)

    held.listen(asyncio.get_running_loop().add_signal_handler, act)
    try:
        with scope:
            await doors.open()
            async with anyio.create_task_group() as group:
                TaskSupervisor(group).supervise("control", doors.serve)
                directories = config.daemon.state_dir, config.daemon.runtime_dir
                journal = await abandonable_thread.start_abandonable(
                    Journal, *directories, systemd.starting, name="journal"
                )
                daemon = Daemon(config, journal, doors, held, systemd, end_soon)
                await daemon.run()
                group.cancel_scope.cancel()
    finally:
        doors.close()
        held.block()


def _end_late() -> None:
    """End a process that was told to stop and does not come to its end: something waits, and nobody guards."""
    log.critical("the stop has not ended within %g s: something hangs; the next start goes on", END_WITHIN_S)
    logging_setup.leave(1)


def _uvloop() -> bool:
    try:
        import uvloop  # noqa: F401 - asked for its presence
    except ImportError:
        return False
    return True


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
