"""Name the way to kill that works on this host while the daemon does not answer.

`status` and `fire` print it. The facts come from the configuration file, the user and systemd's directories; nothing is
started here. `last_resort` starts the unit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kill_switch.config import included_files
from kill_switch.config.defaults import CONFIG
from kill_switch.errors import Unreachable, Unresponsive

UNIT = "kill-switch-last-resort"
_BOOTED = "run/systemd/system"  # is there while systemd manages the host; sd_booted(3)
_UNITS = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")


class HostFacts(NamedTuple):
    """The facts of a host that decide which way works."""

    is_root: bool
    has_unit: bool  # the last resort's unit is installed, and kills the accounts of this configuration
    needs_unit: bool  # a secret is a systemd credential, which this process does not have
    flag: str = ""  # path of a flag whose directory is there; "": none
    is_service: bool = True  # systemd runs the daemon of this configuration


def look(config: Path | None, environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> HostFacts:
    """Return the facts of this host; `root` is where systemd's directories are.

    Raises nothing and waits for nothing, because a kill follows: facts that cannot be found out are left out.
    """
    try:
        return _look(config or Path(environ.get("KILL_SWITCH_CONFIG") or CONFIG), environ, root)
    except Exception:
        return HostFacts(os.geteuid() == 0, has_unit=False, needs_unit=False, is_service=False)


def _look(source: Path, environ: Mapping[str, str], root: Path) -> HostFacts:
    documents = list(filter(None, included_files.glance(source)))
    is_service = str(source) == CONFIG and (root / _BOOTED).is_dir()
    return HostFacts(
        os.geteuid() == 0,
        is_service and any((root / directory / f"{UNIT}.service").exists() for directory in _UNITS),
        not environ.get("CREDENTIALS_DIRECTORY") and any(map(_has_credential, documents)),
        next(filter(None, map(_flag, documents)), ""),
        is_service,
    )


def ways(facts: HostFacts) -> Iterator[str]:
    """Yield the lines that say how to kill now, the surest way first."""
    if facts.needs_unit and facts.has_unit:
        sudo = "" if facts.is_root else "sudo "
        yield f"to kill now: {sudo}systemctl start {UNIT}"
        yield "(the secrets are systemd credentials, which a shell does not have; the unit has them)"
    elif facts.needs_unit:
        yield "to kill now: nothing here has the secrets, because they are systemd credentials: use the venues' pages"
    else:
        yield "to kill now, without the daemon: kill-switch fire --direct"
    if facts.flag:
        yield f"in any case: touch {facts.flag}: it fires as soon as the daemon runs again"


def describe(error: Unreachable, facts: HostFacts) -> str:
    """Return the next steps after a request that the daemon has not answered, a line each."""
    if error.is_awake:
        return "  the daemon watches, and kills: kill-switch status shows what has become of this request"
    if isinstance(error, Unresponsive):
        lines = ["the daemon hangs: until it runs again it watches nothing; under systemd it is restarted after 10 s"]
        then, page = restart(facts), "the-daemon-hangs"
    else:
        lines, page = ["no daemon runs: nothing is watched"], "the-daemon-is-dead"
        then = f"systemctl status kill-switch; {start(facts)}" if facts.is_service else start(facts)
    return "\n".join(f"  {line}" for line in (*lines, *ways(facts), f"then: {then}", f"runbook: {page}"))


def start(facts: HostFacts) -> str:
    """Return the command that starts the daemon on this host."""
    return "systemctl start kill-switch" if facts.is_service else "kill-switch run"


def restart(facts: HostFacts) -> str:
    """Return what ends a daemon that hangs, and starts it again."""
    if facts.is_service:
        return "systemctl restart kill-switch"
    return f"end its process with kill -KILL, then {start(facts)}"


def describe_silence(facts: HostFacts, silent_s: float, direct_in_s: float) -> str:
    """Return what `fire` says when the daemon has not acknowledged the request for `silent_s` seconds.

    `direct_in_s` is in how many seconds the command goes on without the daemon; infinity: never.
    """
    directly = f"in another {direct_in_s:g} s this command goes on without the daemon, as --direct"
    lines = (
        f"no acknowledgement within {silent_s:g} s: the daemon hangs, or is still starting",
        "the request stays queued: it will be carried out if the daemon wakes, and not if it is restarted; the report "
        "then says when you asked",
        *(ways(facts) if math.isinf(direct_in_s) else (directly,)),
    )
    return "\n".join(f"  {line}" if number else f"kill-switch: {line}" for number, line in enumerate(lines))


def _has_credential(document: Mapping[str, Any]) -> bool:
    """Return whether a secret of an account, or of the defaults of a venue, is a systemd credential."""
    return any(
        isinstance(value, dict) and "credential" in value
        for section in ("accounts", "defaults")
        for table in _tables(document, section)
        for value in table.values()
    )


def _flag(document: Mapping[str, Any]) -> str:
    """Return the path of the first flag whose directory this user may write; "" if there is none."""
    paths = [table.get("path") for table in _tables(document, "triggers") if table.get("kind") == "flag"]
    texts = (path for path in paths if isinstance(path, str) and path.isprintable())
    return next((path for path in texts if os.access(os.path.dirname(path), os.W_OK)), "")


def _tables(document: Mapping[str, Any], section: str) -> list[Mapping[str, Any]]:
    named = document.get(section)
    return [table for table in named.values() if isinstance(table, dict)] if isinstance(named, dict) else []
