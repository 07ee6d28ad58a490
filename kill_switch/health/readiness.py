"""The readiness rule: whether a reason that is reported now would become a kill.

The outer ping and the metrics use it. Nothing is announced here.
"""

from __future__ import annotations

from kill_switch.core.domain import Instant
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.journal.journal import Journal
from kill_switch.triggers.supervisor import TriggerSupervisor

PULSE_S = 5.0  # seconds after its last answer from which on the engine counts as stopped


def why_not_ready_to_fire(
    dispatcher: Dispatcher, journal: Journal, supervisor: TriggerSupervisor, ready: str, now: Instant
) -> str:
    """Return why a reason now would not become a kill, "" if it would; `ready` is `[daemon] ready`."""
    waiting = [name for name, session in dispatcher.sessions.items() if not session.status.is_ready]
    if waiting and (ready == "all" or len(waiting) == len(dispatcher.sessions)):
        return f"not ready: {', '.join(_unready(name, dispatcher) for name in waiting)}"
    if now.mono_ns - dispatcher.last_pulse_ns > PULSE_S * 1e9:
        return "the engine does not answer"
    if journal.trouble or journal.displaced():
        return "the journal is not written"
    if blind := supervisor.blind():
        return f"{blind} trigger(s) are blind"
    return ""


def _unready(name: str, dispatcher: Dispatcher) -> str:
    """Return the name of an account that is not ready, with its lanes' troubles."""
    troubles = dispatcher.sessions[name].status.troubles()
    why = "; ".join(f"{route}: {trouble}" for route, trouble in troubles.items())
    return f"{name} ({why})" if why else name
