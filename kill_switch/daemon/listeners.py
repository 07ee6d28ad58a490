"""The daemon's two sockets, which are open while it still reads its journal, so that no sender is refused.

Datagrams are verified as they arrive and passed to the triggers once these exist. Requests wait for the daemon's
handlers. A `fire` that waits is also written to a latch file, so that it counts even if this process dies before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio

from kill_switch import clock
from kill_switch.config.loader import Config
from kill_switch.control import paths, server
from kill_switch.control.request_reason import reason_text
from kill_switch.control.server import Caller, Handler, RequestRefused
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.daemon.held_signals import SignalHolder
from kill_switch.daemon.reload import listen_address
from kill_switch.errors import AlreadyRunning, CannotCreate
from kill_switch.system.offload import OffloadThread
from kill_switch.system.unix_sockets import MAX_PATH
from kill_switch.system.users import UserDirectory
from kill_switch.triggers.intake.intake import Intake

GROUP_WITHIN_S = 2.0  # seconds for the group's number at the start; if the user database hangs, it is set later
COMMANDS = ("status", "fire", "drill", "rearm", "silence", "report", "reload")


class ListenerSet:
    """The control socket and the intake of a daemon."""

    def __init__(self, config: Config, signals: SignalHolder) -> None:
        """`signals` writes the latch files of kills that wait. Nothing is opened before `open`."""
        self.files = OffloadThread(f"the file system of {config.daemon.runtime_dir}")
        self.users = UserDirectory()
        self._intake_path = config.daemon.runtime_dir / paths.INTAKE_SOCKET
        self.intake = Intake(self._intake_path, *listen_address(config), clock=clock.now, files=self.files)
        self.opened = False
        self._gid: int | None = None  # the group that the sockets belong to
        self._path = config.daemon.runtime_dir / paths.CONTROL_SOCKET
        self._config = config
        self._signals = signals
        self._handlers: Mapping[str, Handler] = {}
        self._announce: Callable[[Announce], None] = lambda news: None
        self._handlers_set = anyio.Event()
        self._is_ending = False

    async def open(self) -> None:
        """Open the intake; a part of it that fails is shown and tried again, because a kill does not need it.

        Raises `AlreadyRunning` if another daemon answers here, `CannotCreate` if no socket can ever be made here. Call
        `serve` next.
        """
        await server.refuse_second(self._path, self.files)
        await self._find_group()
        excess = max(len(os.fsencode(path)) for path in (self._path, self._intake_path)) - MAX_PATH
        if excess > 0:
            words = f"too long for a socket in it by {excess} bytes: set a shorter daemon.runtime_dir"
            raise CannotCreate(f"{self._config.daemon.runtime_dir}: {words}")
        self.intake.open(self._gid)
        self.opened = True
        self.intake.start_holding()

    async def serve(self) -> None:
        """Serve the control socket for ever; create it again when its file was removed or replaced."""
        async with anyio.create_task_group() as group:
            if self._config.daemon.group is not None and self._gid is None:
                group.start_soon(self._set_group, self._config.daemon.group)
            await self._serve()

    async def _serve(self) -> None:
        handlers = {name: partial(self._answer, name) for name in COMMANDS}
        announced = False
        while True:
            try:
                await server.serve(self._path, handlers, self._gid, files=self.files, users=self.users)
                announced = False  # it was served until its file was removed
            except (OSError, AlreadyRunning) as error:
                if not announced and self._handlers_set.is_set():  # because no status can show it
                    self._announce(Announce(Severity.WARN, f"the control socket cannot be made: {error}"))
                    announced = True
                await anyio.sleep(server.LOOK_EVERY_S)

    def hand_over(self, handlers: Mapping[str, Handler], announce: Callable[[Announce], None]) -> None:
        """Pass the waiting requests and datagrams to the daemon, and all later ones."""
        self._handlers, self._announce = handlers, announce
        self._handlers_set.set()
        self.intake.release()

    def stop_accepting(self) -> None:
        """Refuse requests from now on, because the daemon is ending; a `fire` is written to a latch file."""
        self._is_ending = True

    def close(self) -> None:
        """Close the sockets without waiting for a look-up that hangs."""
        self.intake.close()
        self.users.close()

    async def _find_group(self) -> None:
        """Look up the sockets' group; without an answer within `GROUP_WITHIN_S`, `serve` sets it later."""
        name = self._config.daemon.group
        try:
            with anyio.move_on_after(GROUP_WITHIN_S):
                self._gid = None if name is None else await self.users.group(name)
        except KeyError:
            raise CannotCreate(f"daemon.group: there is no group {name}") from None
        for uid in (os.geteuid(), 0):
            self.users.look_up(uid)

    async def _set_group(self, name: str) -> None:
        """Set the sockets' group once its number is known; until then only this user may use them."""
        gid = self._gid = await self.users.group(name)
        self.intake.set_group(gid)
        self.files.post(os.chown, self._path, -1, gid)

    async def _answer(self, name: str, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        if self._is_ending:
            is_latched = name == "fire" and not request.get("dry_run") and self._leave_latch(request, caller)
            consequence = "; the next start begins with this kill" if is_latched else ""
            raise RequestRefused(f"the daemon is ending{consequence}", 69)
        if not self._handlers_set.is_set():
            if name == "fire" and not request.get("dry_run"):
                self._leave_latch(request, caller)
            await self._handlers_set.wait()
        return await self._handlers[name](request, caller)

    def _leave_latch(self, request: Mapping[str, Any], caller: Caller) -> bool:
        """Begin to write a latch file for a kill, and return True; return False for a request that will be refused."""
        scope = request.get("scope", [])
        if not isinstance(scope, list) or not all(isinstance(selector, str) for selector in scope):
            return False
        try:
            text, accounts = reason_text(request, caller), self._config.select(scope)
        except (RequestRefused, ValueError):
            return False
        self._signals.leave_latch(f"operator: {text}", accounts)
        return True
