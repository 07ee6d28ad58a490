"""A strategy beats, loses beats, pauses, says goodbye and dies: a heartbeat trigger fires when it has been silent."""

from __future__ import annotations

from kill_switch.triggers.heartbeat import READY_WITHIN_S, HeartbeatTrigger
from tests.deterministic.year.model import HOUR, STEP_S, Due, Model, Since


class Beats(Model):
    NAME = "quoter-alive"
    ACCOUNTS = ("beat",)
    TOML = 'kind = "heartbeat"\ntimeout = "900s"\nallow_bye = true\n'
    TIMEOUT_S = 900.0
    EVERY_S = 120.0

    _silent_until_s = 0.0
    _next_s = 0.0
    _watched = False
    _silent: Since | None = None
    _extra_s = 0.0

    def play(self) -> None:
        now_s = self.world.now_s
        if now_s >= self._silent_until_s and self.happens(10 * HOUR):
            if self.random.random() < 0.3:
                self._say_goodbye()
                longest = 3 * HOUR
            else:
                longest = self.random.choice((400.0, 700.0, 1200.0, HOUR, 12 * HOUR))
            self._silent_until_s = now_s + self.random.uniform(0, longest)
        if now_s < max(self._silent_until_s, self._next_s):
            return
        self._next_s = now_s + self.EVERY_S
        if self.random.random() < 0.05 or not self.world.up:
            return  # this one is lost
        self._trigger.on_beat()
        if not self.tripped:
            self._watched, self._silent, self._extra_s = True, Since(self.world), 0.0

    def _say_goodbye(self) -> None:
        if self.world.up:
            self._trigger.on_bye()
            if not self.tripped:
                self._watched = False

    @property
    def _trigger(self) -> HeartbeatTrigger:
        trigger = self.world.watch.triggers[self.NAME]
        assert isinstance(trigger, HeartbeatTrigger)
        return trigger

    def due(self) -> Due:
        if not self._watched or self._silent is None:
            return Due.NO
        return self._silent.due(self.TIMEOUT_S, self._extra_s)

    def booted(self) -> None:
        self._silent, self._extra_s = Since(self.world), READY_WITHIN_S + STEP_S  # its accounts may not be ready before

    def rearmed(self) -> None:
        self._watched = False  # it waits for a first beat

    def mend(self) -> None:
        self._silent_until_s = self.world.now_s + (HOUR if self.random.random() < 0.2 else 0.0)
