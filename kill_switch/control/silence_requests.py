"""Handle the requests for silences: begin one, end one, list them. The control handlers use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from kill_switch import printable
from kill_switch.config.loader import Config
from kill_switch.config.messages import closest_match
from kill_switch.control.server import Caller, RequestRefused
from kill_switch.core.domain import Instant
from kill_switch.core.outcome import Problem
from kill_switch.triggers.silences import (
    APPROVE_WITHIN_NS,
    NEVER,
    PendingSilence,
    Person,
    Silence,
    describe_span,
)
from kill_switch.triggers.supervisor import TriggerSupervisor

SHORTEST_S = 1.0  # seconds; the shortest silence
MAX_TEXT = 1000


class SilenceRequests:
    """Begin, end and list silences as a caller asks."""

    def __init__(
        self,
        config: Config,
        supervisor: TriggerSupervisor,
        now: Callable[[], Instant],
        recorded: Callable[[], Awaitable[bool]],
        problems: Callable[[], Awaitable[list[Problem]]],
    ) -> None:
        """`recorded` syncs the journal and returns whether the disk has accepted all; `problems` are the journal's."""
        self._config = config
        self._supervisor = supervisor
        self._now = now
        self._recorded = recorded
        self._problems = problems

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

    async def handle(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        """Begin a silence, `end` one, or `list` them; return the list. Raises `RequestRefused`.

        A request has `trigger`, and `for_s` (seconds) with `reason`, or `end`. With `list` it has nothing else.
        """
        if request.get("list") is True:
            return self._list()
        name = self._trigger(request.get("trigger"))
        if request.get("end") is True:
            await self._end(name, caller)
        else:
            await self._begin(name, request, caller)
        problems = await self._problems()
        return {**self._list(), **({"problems": problems} if problems else {})}

    def _trigger(self, name: object) -> str:
        triggers = self._supervisor.triggers
        trigger = triggers.get(name) if isinstance(name, str) else None
        if trigger is None:
            known = [other.name for other in triggers.values() if other.kind not in NEVER]
            there_are = f"there are {', '.join(known)}" if known else "there is none that can be silenced"
            near = closest_match(name, known) if isinstance(name, str) else None
            meant = f"did you mean {near}? " if near else ""
            raise RequestRefused(f"there is no trigger {printable.line(str(name))!r}; {meant}{there_are}")
        if trigger.kind in NEVER:
            raise RequestRefused(f"trigger {trigger.name} is a {trigger.kind}, which is never silenced")
        return trigger.name

    async def _begin(self, name: str, request: Mapping[str, Any], caller: Caller) -> None:
        text, for_s = request.get("reason"), request.get("for_s")
        if not isinstance(text, str) or not text.strip():
            raise RequestRefused("silence needs a reason")
        most_s, needed = self._config.silence.max_s, self._config.rearm.approvals
        if isinstance(for_s, bool) or not isinstance(for_s, int | float) or not SHORTEST_S <= for_s <= most_s:
            bounds = f"{describe_span(SHORTEST_S)} to {describe_span(most_s)}"
            raise RequestRefused(f"a silence lasts from {bounds}, which is [silence] max")
        if caller.gone():  # because a daemon that hung reads the request after its caller has given up
            raise RequestRefused("not silenced: the caller has closed the connection")
        silences, person = self._supervisor.silences, Person(caller.uid, caller.user)
        asked = silences.ask(name, int(for_s * 1e9), printable.line(text).strip()[:MAX_TEXT], person, needed)
        if not await self._recorded():
            silences.end(name, "it could not be recorded")
            raise RequestRefused("not silenced, because the disk has not taken the record")
        if isinstance(asked, PendingSilence):
            within = describe_span(APPROVE_WITHIN_NS / 1e9)
            have = f"{len(asked.people)} of {needed} people have approved"
            lapsed = f"an earlier one is void after {within}, or if its --for was another"
            note = f" ({lapsed})" if len(asked.people) == 1 else ""
            raise RequestRefused(f"{have}{note}: another person must type the same command within {within}", 75)

    async def _end(self, name: str, caller: Caller) -> None:
        if not self._supervisor.silences.end(name, f"by {caller.user}"):
            raise RequestRefused(f"trigger {name} is not silenced")
        await self._recorded()

    def _list(self) -> dict[str, object]:
        silences, now = self._supervisor.silences, self._now()
        return {
            "silences": {name: _to_json(silence, now) for name, silence in silences.all_active().items()},
            "pending": {
                name: {"for_s": pending.for_ns / 1e9, "by": list(pending.people.values()), "reason": pending.text}
                for name, pending in silences.all_pending().items()
            },
        }


def describe_silence(silence: Silence | None, now: Instant) -> dict[str, object]:
    """Return the key `silence` of a trigger in the status; {} if it is not silenced."""
    return {} if silence is None else {"silence": _to_json(silence, now)}


def _to_json(silence: Silence, now: Instant) -> dict[str, object]:
    return {
        "until": silence.end_iso(now),
        "left_s": round(max(0.0, silence.left_s(now)), 1),
        "by": list(silence.people),
        "reason": silence.text,
        "held": silence.held or None,
    }
