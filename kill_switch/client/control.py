"""Ask the daemon for its status, a kill or a drill, from a program.

Each call has a bound in seconds and raises one of the errors of `kill_switch.client`. These calls wait: a loop that
trades calls them from a thread, or uses `aio`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kill_switch.client.control_socket import STARTS_WITHIN_S, send_request
from kill_switch.client.places import CONTROL_SOCKET, socket_path
from kill_switch.errors import NotAllowed, Refused, UnknownProtocol, Unreachable

PROTOCOL = 1  # of control socket and intake; docs/reference/control-socket.md
STATUS_WITHIN_S = 2.0
DRILL_WITHIN_S = 20.0
ANSWERED_WITHIN_S = 5.0  # beyond a kill's wait
MAX_WAIT_S = 3600.0  # the daemon waits no longer for a kill's proof
MAX_REASON = 1000  # characters that the daemon keeps of a reason


class Control:
    """The daemon of one runtime directory; each call makes a connection of its own, and threads may share it."""

    def __init__(self, runtime_dir: str | Path | None = None) -> None:
        """Connect nowhere yet; None is `$KILL_SWITCH_RUNTIME_DIR`, else `/run/kill-switch`."""
        self.path = Path(socket_path(runtime_dir, CONTROL_SOCKET))

    def status(self, *, within_s: float = STATUS_WITHIN_S) -> dict[str, Any]:
        """Return what `kill-switch status --json` prints.

        Raises `Unreachable` without an answer within `within_s` seconds, `NotAllowed`, or `UnknownProtocol`.
        """
        return check_protocol(check_answer(send_request(self.path, {"cmd": "status"}, within_s)))

    def fire(self, reason: str, scope: Sequence[str] = (), wait_s: float = 10.0) -> dict[str, Any]:
        """Kill the accounts of the scope, and return what `kill-switch report --json` prints, after the proof.

        `scope` has names and tags of accounts; an empty one means every account. The answer comes once every account in
        scope is clear, and after `wait_s` seconds at the latest; the kill goes on. `answer["accounts"][NAME]["state"]`
        is `CLEAR` for each name in `answer["asked"]` if nothing is left.

        Raises `Unreachable` if no daemon answers: `kill-switch fire --direct` needs none. Its subclass `Unresponsive`
        means that the daemon hangs; the request stays queued, and kills when the daemon wakes. Raises `NotAllowed`, or
        `Refused`, for example for a scope that names no account.
        """
        request, wait_s = fire_request(reason, scope, wait_s)
        within_s = wait_s + ANSWERED_WITHIN_S
        return check_answer(send_request(self.path, request, within_s, STARTS_WITHIN_S, lambda: wait_s))

    def drill(self, scope: Sequence[str] = (), *, within_s: float = DRILL_WITHIN_S) -> dict[str, Any]:
        """Send a harmless command over every lane of the scope, and return what `kill-switch drill --json` prints.

        `answer["ok"]` is whether every lane would carry a kill within the budget. Raises as `fire` does, and `Refused`
        while another drill is under way.
        """
        return check_answer(send_request(self.path, drill_request(scope), within_s))


def fire_request(reason: str, scope: Sequence[str], wait_s: float) -> tuple[dict[str, object], float]:
    """Return the request of a kill, and for how many seconds the daemon waits for the proof."""
    wait_s = min(max(0.0, wait_s), MAX_WAIT_S)  # NaN is 0
    return {"cmd": "fire", "reason": reason[:MAX_REASON], "scope": _selectors(scope), "wait_s": wait_s}, wait_s


def drill_request(scope: Sequence[str]) -> dict[str, object]:
    """Return the request of a drill."""
    return {"cmd": "drill", "scope": _selectors(scope)}


def check_answer(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer; raise `Unreachable`, `NotAllowed` or `Refused` if it is an error."""
    if "error" not in answer:
        return answer
    text = str(answer["error"])
    match answer.get("exit"):
        case Unreachable.exit_code:
            raise Unreachable(text)
        case NotAllowed.exit_code:
            raise NotAllowed(text)
        case _:
            raise Refused(text, answer)


def check_protocol(status: dict[str, Any]) -> dict[str, Any]:
    """Return the status; raise `UnknownProtocol` if its keys mean something else than this library knows."""
    protocol = status.get("protocol", PROTOCOL)
    if protocol != PROTOCOL:
        text = f"the daemon {status.get('version')} speaks protocol {protocol}, and this library protocol {PROTOCOL}"
        raise UnknownProtocol(f"{text}: install the daemon's version of kill-switch here", status)
    return status


def _selectors(scope: Sequence[str]) -> list[str]:
    """Return the selectors of a scope; a single name is a scope of one."""
    return [scope] if isinstance(scope, str) else list(scope)
