"""The daemon's process: its limits, its signals while it reads the journal, and a bound for its stop.

The command `run` calls it. No task of the daemon is here.
"""

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
from kill_switch.daemon.start_and_stop import open_journal
from kill_switch.errors import KillSwitchError
from kill_switch.system import abandonable_thread
from kill_switch.system.hardening import forbid_dumps, make_directory
from kill_switch.tasks import TaskSupervisor

log = logging.getLogger(__name__)

END_WITHIN_S = 28.0  # seconds after SIGTERM: all bounds of the stop together; systemd's TimeoutStopSec is longer


def run(config: Config, signals: SignalHolder = SIGNAL_HOLDER) -> None:
    """Run the daemon in the foreground until SIGTERM or SIGINT. Raises `KillSwitchError` if it cannot start.

    `signals` has caught the process's signals since its first line.
    """
    os.umask(0o027)
    if not forbid_dumps():
        log.warning("this process can be dumped: this user's other processes can read the keys in its memory")
    _raise_descriptor_limit()
    directories = config.daemon.state_dir, config.daemon.runtime_dir
    signals.set_directories(*directories)
    for directory in directories:
        if why := make_directory(directory):
            log.warning("directory %s: %s", directory, why)
    try:
        with signals.hand_over():
            anyio.run(_live, config, signals, backend_options={"use_uvloop": _uvloop()})
    except BaseExceptionGroup as group:
        expected, unexpected = group.split(KillSwitchError)
        if expected is not None and unexpected is None:
            first: BaseException = expected
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None
        raise
    finally:
        signals.settle()
    log.info("stopped; nobody watches now")


async def _live(config: Config, signals: SignalHolder) -> None:
    """Run a daemon; its sockets are open, and its signals are handled, while it still reads its journal."""
    listeners, systemd = ListenerSet(config, signals), ServiceNotifier()
    scope = anyio.CancelScope()
    guard = threading.Timer(END_WITHIN_S, _end_late)
    guard.daemon = True  # so that it does not keep a process from ending

    def start_guard() -> None:
        if not guard.is_alive():
            guard.start()

    def act(number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            start_guard()
            scope.cancel()
        else:
            signals.record(number)

    signals.listen(asyncio.get_running_loop().add_signal_handler, act)
    try:
        with scope:
            await listeners.open()
            async with anyio.create_task_group() as group:
                TaskSupervisor(group).supervise("control", listeners.serve)
                journal = await abandonable_thread.start_abandonable(
                    open_journal, config, systemd.starting, name="journal"
                )
                daemon = Daemon(config, journal, listeners, signals, systemd, start_guard)
                await daemon.run()
                group.cancel_scope.cancel()
    finally:
        listeners.close()
        signals.block()


def _end_late() -> None:
    """End a process whose stop hangs, because it guards no account any more."""
    log.critical(
        "the stop has not ended within %g s: the process ends; the next start continues the kill", END_WITHIN_S
    )
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
