"""The readiness rule: whether a reason that is reported now would become a kill of every armed account.

The outer ping, the metrics and `/readyz` use it. A blind trigger or a full disk delays no kill, so neither counts here;
both have metrics and messages of their own.
"""

from __future__ import annotations

from kill_switch.core.domain import Instant
from kill_switch.dispatch.dispatcher import Dispatcher

PULSE_S = 5.0  # seconds after its last answer from which on the engine counts as stopped


def why_unable_to_fire(dispatcher: Dispatcher, now: Instant) -> str:
    """Return why some armed account could not be killed now, "" if each could, over at least one of its routes.

    A tripped account has been struck, and its guard goes on: it is not asked for a route.
    """
    states = dispatcher.state.accounts
    armed = {name: session for name, session in dispatcher.sessions.items() if states[name].sweep is None}
    unreachable = [name for name, session in armed.items() if not session.status.is_killable]
    if unreachable:
        return f"no kill would reach {', '.join(_with_troubles(name, dispatcher) for name in unreachable)}"
    if now.mono_ns - dispatcher.last_pulse_ns > PULSE_S * 1e9:
        return "the engine does not answer"
    return ""


def _with_troubles(name: str, dispatcher: Dispatcher) -> str:
    """Return the name of an account, with its lanes' troubles."""
    status = dispatcher.sessions[name].status
    refused = {route.value: why for route, why in status.refused.items()}
    why = "; ".join(f"{route}: {trouble}" for route, trouble in {**refused, **status.troubles()}.items())
    return f"{name} ({why})" if why else name
