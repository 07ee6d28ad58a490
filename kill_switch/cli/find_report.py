"""Find the report of a kill for the command `report`: in the journal, in the running daemon, and in latch files.

The journal has every kill as long as its disk accepts records; the daemon knows its latest kills even if not. A kill
that neither of them knows has left a latch. An older kill is never shown as the last kill without a warning.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kill_switch.cli import next_steps
from kill_switch.cli.common import ask, say_once
from kill_switch.client import control_socket
from kill_switch.control import paths
from kill_switch.core.outcome import Problem, make_problem
from kill_switch.errors import OWN_DIRECTORIES, KillSwitchError, NotAllowed, Unreachable
from kill_switch.journal import kill_list, latch_file, latch_lines, segments, write_ahead

ANSWER_WITHIN_S = 2.0


def find(config: Path | None, kill: str) -> dict[str, Any]:
    """Return the report of a kill, with `problems`: why it may be incomplete, each with the remedy.

    `kill` is an id, or "last". Raises `KillSwitchError` if there is no such kill, `NotAllowed` if the caller may not
    read.
    """
    from kill_switch.config.loader import daemon_keys

    daemon = daemon_keys(config, "state_dir", "runtime_dir", "budget", say=say_once)
    live, problems = _asked(config, daemon.runtime_dir / paths.CONTROL_SOCKET, kill)
    path = daemon.state_dir / segments.NAME
    try:
        reports, fault = segments.read_reports(path, int(daemon.budget_s * 1e6))
    except PermissionError:
        if live is None:
            # because the daemon may read the journal, and refuses a caller who may not ask
            live = ask(config, {"cmd": "report", "id": kill})
        return {"problems": [], **live}
    except OSError as error:
        reports, broken = None, f"{error.filename or path}: {error.strerror}"
    else:
        broken = "" if fault is None else str(fault)
    stored = None if reports is None else reports.render(kill)
    if live is not None and (stored is None or live["id"] != stored["id"] or live.get("problems")):
        return {"problems": [], **live}
    if broken:
        text = f"{broken}: later kills cannot be read, and this may not be the last one"
        problems.append(make_problem(text, "kill-switch journal --verify shows the place; keep the files as evidence"))
    if live is None and kill == "last" and not problems:
        problems += _unrecorded(config, daemon.state_dir, daemon.runtime_dir)
    if stored is None:
        known = ", ".join(() if reports is None else reports.kill_ids()[-5:])
        details = "".join(f"; {problem['text']}\n  {problem['do']}" for problem in problems)
        if not known:
            raise KillSwitchError(f"there is no kill on record{details}")
        raise KillSwitchError(f"there is no kill {kill!r} on record; the latest: {known}{details}")
    return {**stored, "problems": problems}


def list_kills(config: Path | None, since_ns: int | None) -> dict[str, Any]:
    """Return `kills`, a summary of each since a wall time, and `problems`: why the list may be incomplete.

    A kill that only the running daemon knows is the last one. Raises `NotAllowed` if the caller may not read.
    """
    from kill_switch.config.loader import daemon_keys

    daemon = daemon_keys(config, "state_dir", "runtime_dir", "budget", say=say_once)
    live, problems = _asked(config, daemon.runtime_dir / paths.CONTROL_SOCKET, "last")
    path = daemon.state_dir / segments.NAME
    try:
        reports, fault = segments.read_reports(path, int(daemon.budget_s * 1e6))
    except OSError as error:
        raise not_readable(error, path) from None
    kills = kill_list.summaries(reports, since_ns)
    if live is not None:
        problems += live.get("problems", ())
        if live["id"] not in reports.kill_ids():
            kills.append(kill_list.summary(live))
    if fault is not None:
        text = f"{fault}: later kills cannot be read"
        problems.append(make_problem(text, "kill-switch journal --verify shows the place; keep the files as evidence"))
    if live is None and not problems:
        problems += _unrecorded(config, daemon.state_dir, daemon.runtime_dir)
    return {"kills": kills, "problems": problems}


def _asked(config: Path | None, path: Path, kill: str) -> tuple[Mapping[str, Any] | None, list[Problem]]:
    """Return the report that a running daemon has; if the daemon does not answer, a problem that warns of that."""
    try:
        answer = control_socket.send_request(path, {"cmd": "report", "id": kill}, timeout_s=ANSWER_WITHIN_S)
        return (None if "error" in answer or "id" not in answer else answer), []
    except NotAllowed:
        return None, []
    except Unreachable as error:
        if kill != "last" or not _is_there(path):
            return None, []
        text, facts = (
            f"{error}: the daemon may have a later kill, or a newer state of this one",
            next_steps.look(config),
        )
        return None, [make_problem(text, "\n  ".join((*next_steps.ways(facts), f"then: {next_steps.restart(facts)}")))]


def _is_there(path: Path) -> bool:
    try:
        return control_socket.is_listening(path)
    except NotAllowed:
        return False


def not_readable(error: OSError, path: Path) -> NotAllowed:
    """Return that the caller may not read the journal at a path, with the next step."""
    is_forbidden = isinstance(error, PermissionError)
    hint = f"; read it as root or as the daemon's user; or, {OWN_DIRECTORIES}" if is_forbidden else ""
    return NotAllowed(f"{error.filename or path}: {error.strerror}{hint}")


def _unrecorded(config: Path | None, state_dir: Path, runtime_dir: Path) -> list[Problem]:
    """Return a problem for each latch without a record in the journal: each belongs to a later kill.

    Call it only if no daemon has answered, because a daemon takes such latches over.
    """
    latches: dict[Path, str] = {}
    with contextlib.suppress(OSError):
        standing = latch_file.files_with_lines([state_dir / latch_file.LATCH_NAME, runtime_dir / latch_file.LATCH_NAME])
        latches |= {path: latch_lines.latch_text("\n".join(lines)) for path, lines in standing.items()}
    with contextlib.suppress(OSError):
        path = runtime_dir / write_ahead.NAME
        if lines := [line for line in path.read_bytes().splitlines() if line]:
            unrecorded = write_ahead.unrecorded(lines, segments.read_at_start(state_dir / segments.NAME).entries)
            latches |= (
                {path: latch_lines.latch_text("\n".join(line.decode("utf-8", "replace") for line in unrecorded))}
                if unrecorded
                else {}
            )
    facts = next_steps.look(config)
    return [
        make_problem(
            f"a later kill is not in the journal: {path}: {latch_line}",
            f"start the daemon, which records it: {next_steps.start(facts)}",
        )
        for path, latch_line in latches.items()
    ]
