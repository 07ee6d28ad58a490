"""Open the daemon's two sockets before it stands, so that what is sent meanwhile is kept and not refused.

Datagrams are verified as they come and handed to their triggers once these exist. Requests wait for the daemon, which
answers them in their order. A `fire` is left as a latch too: it counts even if this process dies before it stands.
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
from kill_switch.control.server import Caller, Handler, RequestRefused
from kill_switch.core.domain import Severity
from kill_switch.core.engine import Announce
from kill_switch.daemon.held_signals import SignalHolder
from kill_switch.daemon.reload import listen_address
from kill_switch.errors import AlreadyRunning, CannotCreate
from kill_switch.system.offload import OffloadThread
from kill_switch.system.unix_sockets import MAX_PATH
from kill_switch.system.users import UserDirectory
from kill_switch.triggers.intake.intake import Intake

GROUP_WITHIN_S = 2.0  # at the start: with a data base that hangs, the sockets are made without their group
COMMANDS = ("status", "fire", "drill", "rearm", "report", "reload")


class ListenerSet:
    """The control socket and the intake of one daemon."""

    def __init__(self, config: Config, held: SignalHolder) -> None:
        self.files = OffloadThread(f"the file system of {config.daemon.runtime_dir}")
        self.users = UserDirectory()
        self._intake_path = config.daemon.runtime_dir / paths.INTAKE_SOCKET
        self.intake = Intake(self._intake_path, *listen_address(config), clock=clock.now, files=self.files)
        self.opened = False
        self._gid: int | None = None  # the group that the sockets belong to
        self._path = config.daemon.runtime_dir / paths.CONTROL_SOCKET
        self._config = config
        self._held = held
        self._handlers: Mapping[str, Handler] = {}
        self._announce: Callable[[Announce], None] = lambda news: None
        self._stands = anyio.Event()
        self._shut = False

    async def open(self) -> None:
        """Open the intake; what of it cannot be had is shown, and tried again: a kill needs none of it.

        Raises `AlreadyRunning` if another daemon answers here, `CannotCreate` if no socket can ever be made here.
        """
        await server.refuse_second(self._path, self.files)
        await self._find_group()
        longest = max(len(os.fsencode(path)) for path in (self._path, self._intake_path))
        if longest > MAX_PATH:
            words = f"too long for a socket in it by {longest - MAX_PATH} bytes: set a shorter daemon.runtime_dir"
            raise CannotCreate(f"{self._config.daemon.runtime_dir}: {words}")
        self.intake.open(self._gid)
        self.opened = True
        self.intake.start_holding()

    async def serve(self) -> None:
        """Serve the control socket for ever, and make it again when it is gone."""
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
                announced = False  # it was there, and somebody has removed it
            except (OSError, AlreadyRunning) as error:
                if not announced and self._stands.is_set():  # a status cannot tell
                    self._announce(Announce(Severity.WARN, f"the control socket cannot be made: {error}"))
                    announced = True
                await anyio.sleep(server.LOOK_EVERY_S)

    def hand_over(self, handlers: Mapping[str, Handler], announce: Callable[[Announce], None]) -> None:
        """Hand over what has waited: the daemon takes requests and datagrams from now on."""
        self._handlers, self._announce = handlers, announce
        self._stands.set()
        self.intake.release()

    def stop_accepting(self) -> None:
        """Carry out nothing any more: the daemon is ending. A `fire` is left as a latch, for the next start."""
        self._shut = True

    def close(self) -> None:
        """Close the sockets; a look-up that hangs is not waited for."""
        self.intake.close()
        self.users.close()

    async def _find_group(self) -> None:
        """Look up the sockets' group; go on without it if the data base has not answered within the bound."""
        name = self._config.daemon.group
        try:
            with anyio.move_on_after(GROUP_WITHIN_S):
                self._gid = None if name is None else await self.users.group(name)
        except KeyError:
            raise CannotCreate(f"daemon.group: there is no group {name}") from None
        for uid in (os.geteuid(), 0):
            self.users.look_up(uid)

    async def _set_group(self, name: str) -> None:
        """Give the sockets to their group as soon as the data base says its number: until then they are ours alone."""
        gid = self._gid = await self.users.group(name)
        self.intake.set_group(gid)
        self.files.post(os.chown, self._path, -1, gid)

    async def _answer(self, name: str, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        if self._shut:
            left = name == "fire" and not request.get("dry_run") and self._leave_latch(request)
            raise RequestRefused(
                "the daemon is ending" + ("; the next start begins with this kill" if left else ""), 69
            )
        if not self._stands.is_set():
            if name == "fire" and not request.get("dry_run"):
                self._leave_latch(request)
            await self._stands.wait()
        return await self._handlers[name](request, caller)

    def _leave_latch(self, request: Mapping[str, Any]) -> bool:
        """Leave a latch for a kill that the daemon will carry out; False, and none, for one that it will refuse."""
        text, scope = request.get("reason"), request.get("scope", [])
        if not isinstance(text, str) or not text.strip():
            return False
        if not isinstance(scope, list) or not all(isinstance(selector, str) for selector in scope):
            return False
        try:
            accounts = self._config.select(scope)
        except ValueError:
            return False
        self._held.leave_latch(f"operator: {text.strip()}", accounts)
        return True
