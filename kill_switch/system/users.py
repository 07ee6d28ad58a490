"""Look up the names of users and groups without waiting for the data bases that hold them (LDAP and others, by nss).

A kill needs numbers: whoever fires is recorded by uid at once, and the name follows. `control` and `operators` use
this. Nothing here is called on the way of a kill but `known`, which only looks into memory.
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

from kill_switch.system.offload import Offload

_T = TypeVar("_T")

NAME_WITHIN_S = 1.0  # for commands that want a name on record and may wait: rearm, drill, reload
SOON_S = 0.1  # for the answer to a kill that is out
GROUP_WITHIN_S = 3.0  # for the check of a configuration: with a data base that hangs, a group's name is believed
FRESH_S = 60.0  # a name that is older is looked up again, and used meanwhile
_OF_ROOT = ("sync", "shutdown", "halt", "operator")  # of group 0 in Red Hat's systems and images; nobody works as them


class Users:
    """Hold the names that are known, and look up the others in a thread."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._asked_s: dict[int, float] = {}  # uid → when it was last asked for
        self._told: dict[int, list[Callable[[str], object]]] = {}  # uid → who waits for its name
        self._lookups = Offload("the data base of users and groups (nsswitch.conf)")

    @property
    def trouble(self) -> str:
        """Say that a look-up hangs; "" if none does."""
        hangs = self._lookups.trouble
        return hangs and f"{hangs}: people are on record by number until it does"

    def known(self, uid: int) -> str:
        """Return the user's name if it is in memory, else the number."""
        return self._names.get(uid, str(uid))

    async def name(self, uid: int, within_s: float) -> str:
        """Return the user's name, or the number if there is none, or if it is not found within `within_s`."""
        if uid not in self._names:
            found = anyio.Event()
            self.when_known(uid, lambda name: found.set())
            with anyio.move_on_after(within_s):
                await found.wait()
        return self.known(uid)

    def when_known(self, uid: int, tell: Callable[[str], object]) -> None:
        """Call `tell` with the user's name, or with the number if there is none, once the data base has answered."""
        self._told.setdefault(uid, []).append(tell)
        if len(self._told[uid]) == 1:
            self._asked_s[uid] = time.monotonic()
            self._lookups.submit(name_of, uid, then=lambda name: self._answered(uid, name))

    def learn(self, uid: int) -> None:
        """Have the user's name looked up, unless that has been done lately."""
        if uid not in self._told and time.monotonic() - self._asked_s.get(uid, float("-inf")) > FRESH_S:
            self.when_known(uid, lambda name: None)

    async def group(self, name: str) -> int:
        """Return a group's number; waits for the data base. Raises `KeyError`. Learns its members' names too."""
        found = await self._lookups.run(grp.getgrnam, name)
        self._lookups.post(self._learn_members, found.gr_mem)
        return found.gr_gid

    def close(self) -> None:
        """Let go of the thread; a look-up that hangs is not waited for."""
        self._lookups.close()

    def _answered(self, uid: int, name: str | None) -> None:
        if name is not None:
            self._names[uid] = name
        for tell in self._told.pop(uid, ()):
            tell(self.known(uid))

    def _learn_members(self, names: list[str]) -> None:
        for name in names:
            with contextlib.suppress(KeyError):
                self._names[pwd.getpwnam(name).pw_uid] = name


def name_of(uid: int) -> str | None:
    """Return a user's name, None if there is none. Waits for the data base."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def group_number(name: str) -> int | None:
    """Return a group's number, None if the data base has not answered within `GROUP_WITHIN_S`.

    Raises `KeyError` or `ValueError` for a name that is no group's.
    """
    return _bounded(lambda: grp.getgrnam(name).gr_gid)


def others_in(gid: int, uids: Collection[int]) -> list[str] | None:
    """Return who is in a group besides the users `uids`, sorted, whether by the group's entry or by their own.

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


def strangers(gid: int, uids: Collection[int]) -> str:
    """Name the first three of those in a group besides the users `uids`; "" if there are none, or nobody can tell."""
    others = others_in(gid, uids) or []
    return ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")


def _bounded(look_up: Callable[[], _T]) -> _T | None:
    """Return what a look-up finds in a thread; None if it takes longer than `GROUP_WITHIN_S`."""
    answers: queue.SimpleQueue[tuple[_T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((look_up(), None))
        except (KeyError, ValueError) as error:
            answers.put((None, error))

    threading.Thread(target=run, name="group", daemon=True).start()
    try:
        found, error = answers.get(timeout=GROUP_WITHIN_S)
    except queue.Empty:
        return None
    if error is not None:
        raise error
    return found
