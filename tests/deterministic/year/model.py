"""What the models of all triggers have in common: how sure a trip is, and the count of what went wrong."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import IntEnum
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from kill_switch.dispatch.session import AccountSession

if TYPE_CHECKING:
    from tests.deterministic.year.world import World

STEP_S = 30.0  # between two looks of the triggers, and of the models: three hundred times the daemon's
EARLY_S = 3 * STEP_S  # a look may have been that long ago
LATE_S = 4 * STEP_S
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Due(IntEnum):
    """Whether a trip would be right now."""

    NO = 0  # it would be false
    MAY = 1  # the model cannot tell within its bounds
    MUST = 2  # it is missed, if it has not come


class Model(ABC):
    """Play one trigger's input, and say for each step whether a trip is due; times are the world's, in seconds."""

    NAME: ClassVar[str]  # of the trigger
    ACCOUNTS: ClassVar[tuple[str, ...]]
    TOML: ClassVar[str]  # of the trigger, its accounts apart

    def __init__(self, world: World, random: Random) -> None:
        self.world = world
        self.random = random
        self.tripped = False
        self.trips = 0
        self.false: list[str] = []
        self.missed: list[str] = []
        self.stuck: list[str] = []
        self._may_until_s = -1.0
        self._told_missed = False
        self._rearm_s = 0.0
        self._mended_s = 0.0

    # ── what a kind of trigger says ───────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def play(self) -> None:
        """Let the next step's input come."""

    @abstractmethod
    def due(self) -> Due:
        """Say whether a trip is due now, by what has been played so far."""

    @abstractmethod
    def mend(self) -> None:
        """Take away what would trip again: a person is about to re-arm."""

    def booted(self) -> None:  # noqa: B027 - most models need not know
        """Take note that a daemon has started."""

    def stopping(self) -> None:  # noqa: B027 - most models need not know
        """Take note that the daemon is about to end."""

    def stood_still(self, seconds: float) -> None:  # noqa: B027 - most models need not know
        """Take note that the process has been stopped for so long."""

    def clock_set(self, seconds: float) -> None:  # noqa: B027 - most models need not know
        """Take note that the wall clock has been set, or that the machine has slept."""

    def rearmed(self) -> None:  # noqa: B027 - most models need not know
        """Take note that a person has re-armed."""

    def allows(self, evidence: Mapping[str, Any]) -> bool:
        """Say whether a trip with this evidence is right, besides what `due` says."""
        return False

    # ── the judgement ─────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, reasons: list[Mapping[str, Any]]) -> None:
        """Compare what the trigger has done in the last step with what was due."""
        due, now_s = self.due(), self.world.now_s
        if due is not Due.NO:
            self._may_until_s = now_s + LATE_S
        for reason in reasons:
            self.trips += not self.tripped
            evidence = reason.get("evidence", {})
            if not self.tripped and now_s > self._may_until_s and not self.allows(evidence):
                self.false.append(self._told(f"tripped: {reason.get('text')}"))
            if not self.tripped:
                self.tripped, self._rearm_s = True, now_s + self.random.uniform(10 * MINUTE, 2 * HOUR)
                self._mended_s = 0.0
        if due is not Due.MUST:
            self._told_missed = False
        elif not self.tripped and not self._told_missed:
            self._told_missed = True
            detail = self.world.watch.states()[self.NAME]
            self.missed.append(self._told(f"no trip, {detail[0]}: {detail[1]}"))

    def consider_rearm(self) -> None:
        """Re-arm once it is time: mend first, wait until everything is seen, and give up after hours of refusals."""
        now_s = self.world.now_s
        if not self.tripped or now_s < self._rearm_s:
            return
        if not self._mended_s:
            self._mended_s = now_s
            self.mend()
            return
        if now_s < self._mended_s + 20 * MINUTE:  # whatever counts within a window has left it
            return
        whys = self.world.rearm(self)
        if not whys:
            self.tripped = False
            self.rearmed()
        elif now_s > self._mended_s + 12 * HOUR:
            self.stuck.append(self._told(f"not re-armed: {whys}"))
            self._mended_s = now_s

    def _told(self, what: str) -> str:
        return f"{self.world.stamp()} {self.NAME}: {what}; before: {', '.join(self.world.log)}"

    # ── helps ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def happens(self, each_s: float) -> bool:
        """Throw the dice for what happens about once in so many seconds."""
        return self.random.random() < STEP_S * self.world.density / each_s

    def session(self, account: str) -> AccountSession:
        return self.world.floor.session(account)


class Since:
    """How long something has been so, as far as the daemon listened; with a slack for each time that it did not."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._from = (world.heard_s, world.stalls)

    @property
    def seconds(self) -> float:
        return self._world.heard_s - self._from[0]

    def due(self, after_s: float, extra_s: float = 0.0) -> Due:
        """Say whether a trip is due that comes after so long; it may come later by `extra_s`."""
        slack_s = 2 * STEP_S * (self._world.stalls - self._from[1])
        if self.seconds < after_s - EARLY_S - slack_s:
            return Due.NO
        return Due.MUST if self.seconds > after_s + extra_s + LATE_S + slack_s else Due.MAY
