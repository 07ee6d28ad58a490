"""Connections to the venues without the daemon, for `check --connect` and `fire --direct --dry-run`.

There is no journal, no latch and no trigger. No reason is ever reported, so nothing here can strike.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import anyio

from kill_switch import clock
from kill_switch.config.loader import Config
from kill_switch.core.domain import Instant, LaneState, Route
from kill_switch.core.state import AccountState, State
from kill_switch.dispatch import connect
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.ports import ForwardedFact, NullJournal
from kill_switch.dispatch.session import AccountSession
from kill_switch.health.account_health import account_health
from kill_switch.health.certificate_expiry import CertificateExpiryMonitor
from kill_switch.health.drills import DrillRunner
from kill_switch.health.dry_run import DryRun
from kill_switch.tasks import run_isolated
from kill_switch.transports.lane import CONNECT_WITHIN_S
from kill_switch.transports.network import Network
from kill_switch.venues.messages import Drilled

log = logging.getLogger(__name__)

T = TypeVar("T")
Progress = Callable[[Mapping[str, Mapping[str, Any]], float], object]  # (accounts, seconds since the beginning)
LOOK_EVERY_S = 0.05  # seconds
REFUSED_FOR_S = 1.0  # seconds after which refused logins are not waited for
NOTHING_TO_DRILL = "no order path was probed: every login was refused"


async def check(config: Config, within_s: float, progress: Progress) -> dict[str, Any]:
    """Connect every account's lanes, wait until all accounts are ready or `within_s` seconds have passed, and drill.

    `progress` is called while this waits. The result is what `check --connect --json` prints as `connect`.
    """
    network = Network()
    drill_runners: list[DrillRunner] = []  # empty until the lanes are there

    def on_fact(account: str, fact: ForwardedFact, now: Instant) -> None:
        if isinstance(fact, Drilled):
            for drills in drill_runners:
                drills.on_drilled(account, fact, now)

    async def work(dispatcher: Dispatcher) -> dict[str, Any]:
        drills = DrillRunner(
            dispatcher, NullJournal(), ignore, budget_us=round(config.daemon.budget_s * 1e6), clock=clock.now
        )
        drill_runners.append(drills)
        began_s = settled_s = anyio.current_time()
        with anyio.move_on_after(within_s):
            # because a login may be refused once, for another's request or a clock that was not known yet
            while anyio.current_time() - settled_s < REFUSED_FOR_S:
                sessions = dispatcher.sessions.values()
                if all(map(_is_settled, sessions)):
                    break
                if not all(_is_settled(session) or session.status.refused for session in sessions):
                    settled_s = anyio.current_time()
                progress(_conditions(dispatcher), anyio.current_time() - began_s)
                await anyio.sleep(LOOK_EVERY_S)
        waited_s = round(anyio.current_time() - began_s, 3)
        names = tuple(name for name, session in dispatcher.sessions.items() if not session.status.refused)
        warnings = [*network.troubles(), *CertificateExpiryMonitor(dispatcher.sessions, clock.now, ignore).troubles()]
        if not names:
            result = {"waited_s": waited_s, "accounts": _conditions(dispatcher), "warnings": warnings, "drill": None}
            return {**result, "error": NOTHING_TO_DRILL}
        drill = await drills.run(names, "check")
        while (
            _failed(drill) and anyio.current_time() - began_s < within_s
        ):  # because the logins have used up rate limit, which returns
            progress(_conditions(dispatcher), anyio.current_time() - began_s)
            drill = await drills.run(names, "check")
        degraded = [line for session in dispatcher.sessions.values() for line in session.status.degraded()]
        warnings = [*warnings, *degraded]
        return {"waited_s": waited_s, "accounts": _conditions(dispatcher), "warnings": warnings, "drill": drill}

    return await _with_lanes(config, tuple(config.accounts), work, network, ws=True, on_fact=on_fact)


async def dry_run(config: Config, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the orders that a direct kill would hit, and the accounts that cannot be read, with the reason.

    Only HTTP is used, because some venues allow one WebSocket, which may be the daemon's. A venue has
    `CONNECT_WITHIN_S` to answer.
    """
    failed: dict[str, str] = {}

    async def work(dispatcher: Dispatcher) -> dict[str, Any]:
        with anyio.move_on_after(CONNECT_WITHIN_S):
            while any(session.status.lanes[Route.HTTP] is not LaneState.UP for session in dispatcher.sessions.values()):  # noqa: ASYNC110
                await anyio.sleep(LOOK_EVERY_S)
        shown = await DryRun(dispatcher).list_targets(tuple(dispatcher.sessions))
        known = _conditions(dispatcher)
        # no state, because only the daemon knows it; no readiness, because no WebSocket was tried
        return {name: {**known[name], "state": None, "ready": None, **shown[name]} for name in dispatcher.sessions}

    return await _with_lanes(config, names, work, Network(), ws=False, failed=failed), failed


def _is_settled(session: AccountSession) -> bool:
    """Return whether an account is ready, and its spare WebSocket connections are up too, or have a trouble."""
    status = session.status
    up, wanted = status.ws_connections
    return status.is_ready and (up >= wanted or any(status.degraded()))


def _failed(drill: Mapping[str, Any]) -> bool:
    return any(not lane["ok"] for account in drill["accounts"].values() for lane in account["lanes"].values())


def _conditions(dispatcher: Dispatcher) -> dict[str, Mapping[str, Any]]:
    return {name: account_health(session.status) for name, session in dispatcher.sessions.items()}


def ignore(announcement: object) -> None:
    """Ignore an announcement, because the result has the same facts."""


async def _with_lanes(
    config: Config,
    names: Sequence[str],
    work: Callable[[Dispatcher], Awaitable[T]],
    network: Network,
    *,
    ws: bool,
    failed: dict[str, str] | None = None,
    on_fact: Callable[[str, ForwardedFact, Instant], None] = lambda account, fact, now: None,
) -> T:
    """Connect the accounts' lanes (with `ws`, WebSockets too), do the work, and close the lanes.

    An account without lanes is put into `failed`, with the reason; without `failed`, the error is raised.
    """
    adapters = connect.build_adapters(config, names, failed)
    state = State({name: AccountState(timing) for name, timing in connect.sweep_timings(adapters, ()).items()})
    later = asyncio.get_running_loop().call_later
    dispatcher = Dispatcher(state, NullJournal(), clock.now, later, ignore, on_fact=on_fact)
    await connect.load_authorities(network, config)
    async with anyio.create_task_group() as group:
        for lane, run in connect.connect_accounts(dispatcher, config, adapters, group.start_soon, network, failed):
            if ws or not lane.endswith(" ws"):
                group.start_soon(run_isolated, lane, run)
        result = await work(dispatcher)
        logging.getLogger("kill_switch").setLevel(logging.ERROR)  # each lane that is closed would log it
        group.cancel_scope.cancel()
    return result
