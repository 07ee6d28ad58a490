"""Dry runs, for `fire --dry-run`: the orders that a kill would hit, and the commands that it would send.

An armed account is read once more, behind all urgent traffic; the engine ignores the orders of an armed account. A
tripped account is not read, because an order in that read would make the guard strike; its last read is returned.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import anyio

from kill_switch.core.domain import Order, OrderState, Phase
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.session import AccountSession

log = logging.getLogger(__name__)

WITHIN_S = 3.0  # seconds for the reads
GAP_S = 1.0  # seconds between two reads of an account, because a loop of dry runs must not use up the rate limit


class DryRun:
    """The dry runs, one at a time; a dry run that had to wait uses the reads of the previous dry run."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._lock = anyio.Lock()

    async def list_targets(self, names: Collection[str], within_s: float = WITHIN_S) -> dict[str, Mapping[str, Any]]:
        """Return, for each account, the orders that a kill would hit, and the commands that it would send.

        `orders_known` is whether the orders are complete; `orders_why` gives the reason if they are not.
        """
        since_ns = self._dispatcher.clock().mono_ns
        async with self._lock:
            sessions = {name: self._dispatcher.sessions[name] for name in names if name in self._dispatcher.sessions}
            armed = [session for session in sessions.values() if self._armed(session)]
            await self._read(armed, since_ns, within_s)
        read = {session.name for session in armed}
        return {
            name: _shown(self._dispatcher, session, since_ns if name in read else None, within_s)
            for name, session in sessions.items()
        }

    async def _read(self, sessions: Collection[AccountSession], since_ns: int, within_s: float) -> None:
        """Read each account whose last read is older than `since_ns`; return after all reads, or `within_s` seconds."""
        now_ns = self._dispatcher.clock().mono_ns
        latest_ns = max(
            (
                session.status.last_read.asked_ns
                for session in sessions
                if session.status.last_read and not _read(session, since_ns)
            ),
            default=0,
        )
        await anyio.sleep(max(0.0, GAP_S - (now_ns - latest_ns) / 1e9))
        for session in sessions:
            if self._armed(session) and not _read(session, since_ns):
                session.dry_run()
        with anyio.move_on_after(within_s):
            while any(self._armed(session) and not _read(session, since_ns) for session in sessions):  # noqa: ASYNC110
                await anyio.sleep(0.01)

    def _armed(self, session: AccountSession) -> bool:
        """Return whether the account still exists and is armed."""
        account = self._dispatcher.state.accounts.get(session.name)
        here = self._dispatcher.sessions.get(session.name) is session
        return here and account is not None and not account.phase.is_tripped


def _read(session: AccountSession, since_ns: int) -> bool:
    read = session.status.last_read
    return read is not None and read.asked_ns >= since_ns


def _shown(dispatcher: Dispatcher, session: AccountSession, since_ns: int | None, within_s: float) -> Mapping[str, Any]:
    account = dispatcher.state.accounts.get(session.name)
    phase = Phase.ARMED if account is None else account.phase
    read = session.status.last_read
    orders: Sequence[Order] = session.status.orders
    known, why = False, ""
    if phase.is_unfinished:
        why = f"a kill is under way: {phase}"
    elif phase is Phase.CLEAR and read is not None and read.complete:
        age_s = (dispatcher.clock().mono_ns - read.asked_ns) / 1e9
        orders, known, why = read.orders, True, f"tripped: as its guard has read it {age_s:.1f} s ago"
    elif since_ns is None:
        why = "tripped, and not read yet" if phase is Phase.CLEAR else "re-armed meanwhile"
    elif read is None or read.asked_ns < since_ns:
        trouble = session.status.http_trouble
        why = f"no answer within {within_s:g} s" + (f"; http: {trouble}" if trouble else "")
    elif not read.complete:
        why = read.why or "the venue's answer is not whole"
    else:
        orders, known = read.orders, True
    return {
        "orders": [
            {"id": o.id, "symbol": o.symbol, "status": o.status} for o in orders if o.state is not OrderState.GONE
        ],
        "orders_known": known,
        "orders_why": why or None,
        "would_send": _plan(session),
    }


def _plan(session: AccountSession) -> list[str]:
    try:
        return list(session.status.describe_strike())
    except Exception as error:  # the error is shown; the other accounts are not affected
        log.exception("account %s: the commands that a kill would send cannot be built", session.name)
        return [f"internal error: {type(error).__name__}"]
