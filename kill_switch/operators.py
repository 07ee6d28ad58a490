"""Answer what operators ask: status, fire, rearm, report. Each handler takes a request and who sent it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import anyio

import kill_switch
from kill_switch import clock
from kill_switch.config import Config
from kill_switch.control import Caller, Handler, Refusal
from kill_switch.dispatch import Dispatcher
from kill_switch.domain import Phase, Reason, Route
from kill_switch.engine import Granted, RearmAsked, Waiting
from kill_switch.journal import Journal
from kill_switch.report import Reports
from kill_switch.watching import Watch

MAX_WAIT_S = 3600
PROVE_WITHIN_S = 3.0  # the read-back that a re-arm waits for
MAX_TEXT = 1000
_UNDER_WAY = (Phase.STRIKING, Phase.CONFIRMING, Phase.RESIDUE)


class Operators:
    """Hold what the answers are made of."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        journal: Journal,
        reports: Reports,
        watch: Watch,
    ) -> None:
        self.news = anyio.Event()  # set when a state, or a lane, may have changed
        self._config = config
        self._dispatcher = dispatcher
        self._journal = journal
        self._reports = reports
        self._watch = watch
        self._phase = dispatcher.state.phase
        self._since_ns = clock.now().wall_ns

    def handlers(self) -> Mapping[str, Handler]:
        return {"status": self._status, "fire": self._fire, "rearm": self._rearm, "report": self._report}

    def changed(self) -> None:
        """Wake whoever waits for the state to change."""
        phase = self._dispatcher.state.phase
        if outward(phase) != outward(self._phase):
            self._since_ns = clock.now().wall_ns
        self._phase = phase
        self.news.set()
        self.news = anyio.Event()

    def status(self) -> dict[str, object]:
        """Return what `status --json` prints."""
        conditions = self._watch.conditions()
        return {
            "state": outward(self._dispatcher.state.phase),
            "since": clock.iso(self._since_ns),
            "version": kill_switch.__version__,
            "pid": os.getpid(),
            "accounts": {name: self._account(name) for name in self._dispatcher.sessions},
            "triggers": {
                name: {"kind": trigger.kind, "state": conditions[name][0], "detail": conditions[name][1]}
                for name, trigger in self._watch.triggers.items()
            },
            "last_kill": self._reports.last,
            "journal": self._journal.trouble or ("removed or replaced" if self._journal.displaced() else "ok"),
        }

    def _account(self, name: str) -> dict[str, object]:
        session = self._dispatcher.sessions[name]
        lanes = {Route.WS: session.ws.trouble, Route.HTTP: session.http.trouble}
        trouble = {**lanes, **session.not_ready}
        return {
            "venue": session.venue.NAME,
            "state": self._dispatcher.state.accounts[name].phase,
            "ready": session.ready,
            "lanes": {"ws": session.ws.state, "http": session.http.state},
            "rtt_us": max(session.rtt_us.values(), default=None),
            "open_orders": session.open_orders,
            "trouble": {route.value: why for route, why in trouble.items() if why},
            "noise": session.noise,
        }

    async def _status(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        return self.status()

    async def _report(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        self._journal.flush()
        report = self._reports.get(str(request.get("id", "last")))
        if report is None:
            raise Refusal("there is no such kill")
        return report

    async def _fire(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        text = _text(request, "fire")
        accounts = self._scope(request)
        wait_s = request.get("wait_s", 0)
        if not isinstance(wait_s, int | float):
            raise Refusal("wait_s must be a number of seconds")
        wait_s = min(max(0, wait_s), MAX_WAIT_S)  # how long somebody wants to wait must not keep a kill from going out
        if request.get("dry_run"):
            return {"dry_run": True, "accounts": {name: self._account(name) for name in accounts}}
        evidence = {"uid": caller.uid, "user": caller.user, "pid": caller.pid}
        self._dispatcher.report(Reason("operator", text, accounts, clock.now(), evidence))
        with anyio.move_on_after(wait_s):
            while any(self._dispatcher.state.accounts[name].phase in _UNDER_WAY for name in accounts):
                await self.news.wait()
        self._journal.flush()
        return self._reports.get("last") or {}

    async def _rearm(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        text = _text(request, "rearm")
        accounts = self._scope(request)
        states = self._dispatcher.state.accounts
        tripped = {name for name in accounts if states[name].phase is not Phase.ARMED}
        watching = list(self._watch.watching(tripped))
        force = request.get("force") is True
        since_ns = clock.now().mono_ns
        await self._prove(tripped, since_ns)
        data = {"uid": caller.uid, "user": caller.user, "text": text, "accounts": accounts}
        self._journal.append("rearm-asked", data, clock.now())
        if not self._journal.flush():
            raise Refusal(f"not re-armed, because it could not be recorded: {self._journal.trouble}")
        blockers = tuple(f"trigger {t.name}: {why}" for t in watching if (why := t.against_rearm()))
        asked = RearmAsked(caller.uid, caller.user, text, accounts, force, blockers, clock.now(), since_ns)
        match self._dispatcher.rearm(asked):
            case Granted(names):
                for trigger in watching:
                    trigger.reset()
                self.changed()
                return {"rearmed": names}
            case Waiting(approvals, needed):
                raise Refusal(f"{approvals} of {needed} people have approved: another person must say the same", 75)
            case refused:
                raise Refusal("not re-armed: " + "; ".join(refused.why), why=refused.why)

    async def _prove(self, names: Collection[str], since_ns: int) -> None:
        """Have the accounts that count as clear read back once more; return when they have been, or could not be."""
        for name in names:
            if self._dispatcher.state.accounts[name].phase is Phase.CLEAR:
                self._dispatcher.sessions[name].read()

        def waiting() -> bool:
            accounts = (self._dispatcher.state.accounts[name] for name in names)
            return any(a.phase is Phase.CLEAR and a.sweep and a.sweep.proved_ns < since_ns for a in accounts)

        with anyio.move_on_after(PROVE_WITHIN_S):
            while waiting():  # noqa: ASYNC110 - a clean read of a clear account is no news
                await anyio.sleep(0.01)

    def _scope(self, request: Mapping[str, Any]) -> tuple[str, ...]:
        scope = request.get("scope", [])
        if not isinstance(scope, list) or not all(isinstance(selector, str) for selector in scope):
            raise Refusal("scope must be a list of account names and tags")
        try:
            return self._config.select(scope)
        except ValueError as error:
            raise Refusal(str(error)) from None


def outward(phase: Phase) -> str:
    """Return the daemon's state in the three words that operators know."""
    match phase:
        case Phase.ARMED:
            return "ARMED"
        case Phase.CLEAR:
            return "TRIPPED"
        case _:
            return "FIRING"


def _text(request: Mapping[str, Any], command: str) -> str:
    text = request.get("reason")
    if not isinstance(text, str) or not text.strip():
        raise Refusal(f"{command} needs a reason")
    return text.strip()[:MAX_TEXT]
