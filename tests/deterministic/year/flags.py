"""Somebody touches the flag: live, while the daemon is down, or while the file system hangs."""

from __future__ import annotations

import os
from pathlib import Path

from tests.deterministic.year.model import DAY, HOUR, STEP_S, Due, Model, Since
from tests.deterministic.year.world import Inline


class Flags(Model):
    NAME = "panic"
    ACCOUNTS = ("flag",)
    TOML = 'kind = "flag"\npath = "{run}/flag/KILL"\n'

    _there: Since | None = None
    _blinked = False
    _hung_until_s = 0.0

    @property
    def _path(self) -> Path:
        return self.world.directory / "run/flag/KILL"

    def play(self) -> None:
        now_s = self.world.now_s
        if not Inline.hung and self.happens(3 * DAY):
            self._hung_until_s = now_s + self.random.uniform(0, HOUR)
            Inline.hang(True)
        elif Inline.hung and now_s >= self._hung_until_s:
            Inline.hang(False)
            self._there = Since(self.world) if self._there is not None and self.world.up else self._there
        self._blinked = False
        if self.tripped or self._there is not None or not self._path.parent.is_dir() or not self.happens(2 * DAY):
            return
        match self.random.randrange(3):
            case 0:
                self._path.touch()
            case 1:
                (self._path.parent / "note").write_text("a text that a person has written\n")
                os.replace(self._path.parent / "note", self._path)
            case _ if self.world.up and not Inline.hung:
                self._path.touch()
                self._path.unlink()  # it came and went: whoever did that meant it, and the events say so
                self._blinked = True
                return
            case _:
                return
        self._there = Since(self.world)

    def due(self) -> Due:
        if self._there is None:
            return Due.MAY if self._blinked else Due.NO
        return Due.MAY if Inline.hung else self._there.due(2 * STEP_S)

    def booted(self) -> None:
        if self._there is not None:
            self._there = Since(self.world)

    def rearmed(self) -> None:
        self._there = None

    def mend(self) -> None:
        Inline.hang(False)
        self._path.unlink(missing_ok=True)
