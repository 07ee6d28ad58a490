"""Open the daemon's two sockets before it stands, so that what is sent meanwhile is kept and not refused.

Datagrams are verified as they come and handed to their triggers once these exist. Requests wait for the daemon, which
answers them in their order. A `fire` is left as a latch too: it counts even if this process dies before it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio

from kill_switch import clock, control
from kill_switch.config import Config
from kill_switch.control import Caller, Handler, Refusal
from kill_switch.engine import Announce
from kill_switch.errors import AlreadyRunning, CannotCreate
from kill_switch.held import Held
from kill_switch.reloading import remote
from kill_switch.triggers.intake import Intake

COMMANDS = ("status", "fire", "drill", "rearm", "report", "reload")


class Doors:
    """The control socket and the intake of one daemon."""

    def __init__(self, config: Config, held: Held) -> None:
        self.intake = Intake(config.daemon.runtime_dir / "intake.sock", *remote(config), clock=clock.now)
        self.opened = False
        self._path = config.daemon.runtime_dir / control.NAME
        self._config = config
        self._held = held
        self._handlers: Mapping[str, Handler] = {}
        self._announce: Callable[[Announce], None] = lambda news: None
        self._stands = anyio.Event()
        self._shut = False

    async def open(self, gid: int | None) -> None:
        """Open the intake; raises `AlreadyRunning` if another daemon answers here, `CannotCreate` for what is taken."""
        await control.refuse_second(self._path)
        try:
            self.intake.open(gid)
        except OSError as error:
            raise CannotCreate(f"intake: {error.strerror or error}: {_intake_addresses(self._config)}") from error
        self.opened = True
        self.intake.hold()

    async def serve(self, gid: int | None) -> None:
        """Serve the control socket for ever, and make it again when it is gone."""
        told = False
        while True:
            try:
                await control.serve(self._path, {name: partial(self._answer, name) for name in COMMANDS}, gid)
                told = False  # it was there, and somebody has removed it
            except (OSError, AlreadyRunning) as error:
                if not told and self._stands.is_set():  # a status cannot tell
                    self._announce(Announce("warn", f"the control socket cannot be made: {error}"))
                    told = True
                await anyio.sleep(control.LOOK_EVERY_S)

    def stand(self, handlers: Mapping[str, Handler], announce: Callable[[Announce], None]) -> None:
        """Hand over what has waited: the daemon takes requests and datagrams from now on."""
        self._handlers, self._announce = handlers, announce
        self._stands.set()
        self.intake.release()

    def shut(self) -> None:
        """Carry out nothing any more: the daemon is ending. A `fire` is left as a latch, for the next start."""
        self._shut = True

    def close(self) -> None:
        self.intake.close()

    async def _answer(self, name: str, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        if self._shut:
            left = name == "fire" and not request.get("dry_run") and self._leave(request)
            raise Refusal("the daemon is ending" + ("; the next start begins with this kill" if left else ""), 69)
        if not self._stands.is_set():
            if name == "fire" and not request.get("dry_run"):
                self._leave(request)
            await self._stands.wait()
        return await self._handlers[name](request, caller)

    def _leave(self, request: Mapping[str, Any]) -> bool:
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
        self._held.leave(f"operator: {text.strip()}", accounts)
        return True


def _intake_addresses(config: Config) -> str:
    udp = config.intake.udp
    here = str(config.daemon.runtime_dir / "intake.sock")
    return here if udp is None else f"{here} or udp {udp.host}:{udp.port}"
