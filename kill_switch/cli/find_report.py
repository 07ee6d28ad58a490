"""Find what is known of a kill: on the disk, from the daemon that is running, and in latches that are on no record.

The disk has every kill, as long as it takes records. A daemon knows its last kills whatever its disk does. A kill that
is on neither has left a latch. Whoever asks for the last kill must not be shown an older one as if it were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kill_switch.cli.common import ask, say_once
from kill_switch.control import client, paths
from kill_switch.core.outcome import Problem, problem
from kill_switch.errors import KillSwitchError, NotAllowed, Unreachable
from kill_switch.journal import latch_file, segments, write_ahead

ANSWER_WITHIN_S = 2.0


def find(config: Path | None, kill: str) -> dict[str, Any]:
    """Return a kill's report with `problems`; raise `KillSwitchError` if there is none, or nobody may look."""
    from kill_switch.config.loader import daemon_keys

    daemon = daemon_keys(config, "state_dir", "runtime_dir", "budget", say=say_once)
    live, problems = _asked(daemon.runtime_dir / paths.CONTROL_SOCKET, kill)
    path = daemon.state_dir / segments.NAME
    try:
        reports, fault = segments.reports(path, int(daemon.budget_s * 1e6))
    except PermissionError:
        if live is None:
            live = ask(config, {"cmd": "report", "id": kill})  # the daemon may read it, and says who may not ask
        return {"problems": [], **live}
    except OSError as error:
        reports, broken = None, f"{error.filename or path}: {error.strerror}"
    else:
        broken = "" if fault is None else str(fault)
    stored = None if reports is None else reports.get(kill)
    if live is not None and (stored is None or live["id"] != stored["id"] or live.get("problems")):
        return {"problems": [], **live}
    if broken:
        text = f"{broken}: kills behind that are not seen, and this may not be the last one"
        problems.append(problem(text, "kill-switch journal --verify says where; keep the files as evidence"))
    if live is None and kill == "last" and not problems:
        problems += _unrecorded(daemon.state_dir, daemon.runtime_dir)
    if stored is None:
        known = ", ".join(() if reports is None else reports.ids()[-5:]) or "none at all"
        said = "".join(f"; {one['text']}" for one in problems)
        raise KillSwitchError(f"there is no kill {kill!r} on record; the latest: {known}{said}")
    return {**stored, "problems": problems}


def _asked(path: Path, kill: str) -> tuple[Mapping[str, Any] | None, list[Problem]]:
    """Return what a daemon that is running knows; if it does not answer, that it may know more than the disk."""
    try:
        answer = client.ask(path, {"cmd": "report", "id": kill}, timeout_s=ANSWER_WITHIN_S)
        return (None if "error" in answer or "id" not in answer else answer), []
    except NotAllowed:
        return None, []
    except Unreachable as error:
        if kill != "last" or not _is_there(path):
            return None, []
        text = f"{error}: it may know of a later kill, or of more of this one"
        return None, [problem(text, "kill-switch fire --direct kills without it; systemctl status kill-switch")]


def _is_there(path: Path) -> bool:
    try:
        return client.listening(path)
    except NotAllowed:
        return False


def _unrecorded(state_dir: Path, runtime_dir: Path) -> list[Problem]:
    """Return what latches say, where no daemon is there that has taken them over: each is of a later kill."""
    found: dict[Path, str] = {}
    with contextlib.suppress(OSError):
        standing = latch_file.standing([state_dir / latch_file.NAME, runtime_dir / latch_file.NAME])
        found |= {path: latch_file.latch_text("\n".join(lines)) for path, lines in standing.items()}
    with contextlib.suppress(OSError):
        path = runtime_dir / write_ahead.NAME
        if lines := [line for line in path.read_bytes().splitlines() if line]:
            left = write_ahead.unrecorded(lines, segments.remember(state_dir / segments.NAME).entries)
            found |= (
                {path: latch_file.latch_text("\n".join(line.decode("utf-8", "replace") for line in left))}
                if left
                else {}
            )
    return [
        problem(
            f"there is a later kill, which is not on record: {path} says: {said}", "start the daemon: it records it"
        )
        for path, said in found.items()
    ]
