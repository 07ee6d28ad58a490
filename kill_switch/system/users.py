"""Look up names of users and groups without blocking on their data bases (LDAP and others, by nss).

The control socket, the configuration's checks and direct kills use this. A kill records the caller's uid at once; the
name follows when it is known. On the kill path only `known` is called, which reads memory.
"""

from __future__ import annotations

import contextlib
import grp
import pwd
import queue
import threading
import time
from collections.abc import Callable, Collection
from typing import TypeVar

import anyio

from kill_switch.system.offload import OffloadThread

_T = TypeVar("_T")

NAME_WITHIN_S = 1.0  # seconds; for commands that record a name and may wait: rearm, drill, reload
SOON_S = 0.1  # seconds; for the answer to a kill that has been sent
GROUP_WITHIN_S = 3.0  # seconds; in the check of a configuration, a group is believed if its data base hangs
FRESH_S = 60.0  # seconds; an older name is used, and looked up again
_OF_ROOT = ("sync", "shutdown", "halt", "operator")  # members of group 0 in Red Hat's systems, which no person uses


class UserDirectory:
    """The known names of users; unknown ones are looked up in a thread."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._asked_s: dict[int, float] = {}  # uid → when its name was last looked up
        self._told: dict[int, list[Callable[[str], object]]] = {}  # uid → callbacks that wait for its name
        self._lookups = OffloadThread("the data base of users and groups (nsswitch.conf)")

    @property
    def trouble(self) -> str:
        """Return a line for people if a look-up hangs, else ""."""
        hangs = self._lookups.trouble
        return hangs and f"{hangs}: until it does, the journal has people's numbers instead of their names"

    def cached_name(self, uid: int) -> str:
        """Return the user's name if it is in memory, else the number as text."""
        return self._names.get(uid, str(uid))

    async def name(self, uid: int, within_s: float) -> str:
        """Return the user's name; return the number if there is no name, or none is found within `within_s` seconds."""
        if uid not in self._names:
            known = anyio.Event()
            self.call_with_name(uid, lambda name: known.set())
            with anyio.move_on_after(within_s):
                await known.wait()
        return self.cached_name(uid)

    def call_with_name(self, uid: int, tell: Callable[[str], object]) -> None:
        """Call `tell` with the user's name once the data base has answered; with the number if there is no name."""
        self._told.setdefault(uid, []).append(tell)
        if len(self._told[uid]) == 1:
            self._asked_s[uid] = time.monotonic()
            self._lookups.submit(name_of, uid, then=lambda name: self._answered(uid, name))

    def look_up(self, uid: int) -> None:
        """Look up the user's name in the background, unless that was done within `FRESH_S`."""
        if uid not in self._told and time.monotonic() - self._asked_s.get(uid, float("-inf")) > FRESH_S:
            self.call_with_name(uid, lambda name: None)

    async def group(self, name: str) -> int:
        """Return a group's number, and look up its members' names in the background. Raises `KeyError`.

        Waits for the data base.
        """
        entry = await self._lookups.run(grp.getgrnam, name)
        self._lookups.post(self._learn_members, entry.gr_mem)
        return entry.gr_gid

    def close(self) -> None:
        """End the thread; a look-up that hangs is not waited for."""
        self._lookups.close()

    def _answered(self, uid: int, name: str | None) -> None:
        if name is not None:
            self._names[uid] = name
        for tell in self._told.pop(uid, ()):
            tell(self.cached_name(uid))

    def _learn_members(self, names: list[str]) -> None:
        for name in names:
            with contextlib.suppress(KeyError):
                self._names[pwd.getpwnam(name).pw_uid] = name


def name_of(uid: int) -> str | None:
    """Return a user's name, None if there is none. Blocks on the data base."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def group_number(name: str) -> int | None:
    """Return a group's number; None if the data base has not answered within `GROUP_WITHIN_S`.

    Raises `KeyError` or `ValueError` if there is no such group.
    """
    return _bounded(lambda: grp.getgrnam(name).gr_gid)


def others_in(gid: int, uids: Collection[int]) -> list[str] | None:
    """Return the names of a group's members besides the users `uids`, sorted; primary groups count too.

    None if the data base has not answered within `GROUP_WITHIN_S`.
    """

    def look_up() -> list[str]:
        known = {user.pw_name: user for user in pwd.getpwall()}
        try:
            named = grp.getgrgid(gid).gr_mem
        except KeyError:
            named = []
        nobody = _OF_ROOT if gid == 0 else ()
        members = {*named, *(name for name, user in known.items() if user.pw_gid == gid and name not in nobody)}
        return sorted(name for name in members if name not in known or known[name].pw_uid not in uids)

    return _bounded(look_up)


def unlisted_members(gid: int, uids: Collection[int]) -> str:
    """Return the first three members of a group besides the users `uids`, as text; "" if none, or if unknown."""
    others = others_in(gid, uids) or []
    return ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")


def _bounded(look_up: Callable[[], _T]) -> _T | None:
    """Return the result of a look-up in a thread; None if it takes longer than `GROUP_WITHIN_S`."""
    answers: queue.SimpleQueue[tuple[_T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((look_up(), None))
        except (KeyError, ValueError) as error:
            answers.put((None, error))

    threading.Thread(target=run, name="group", daemon=True).start()
    try:
        result, error = answers.get(timeout=GROUP_WITHIN_S)
    except queue.Empty:
        return None
    if error is not None:
        raise error
    return result
