"""Find the daemon's sockets with next to nothing to import: `fire`, `status` and `beat` must start fast.

This reads only one key of the configuration. A file with a syntax error keeps nobody from a daemon that runs: what can
be trusted of it is enough (`salvage`). A key that is there and wrong is left to `config`, which takes a tenth of a
second longer to import and says what is the matter.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kill_switch.config.defaults import CONFIG, RUNTIME_DIR, STATE_DIR

CONTROL_SOCKET = "control.sock"  # in the runtime directory: where the daemon takes commands
INTAKE_SOCKET = "intake.sock"  # where it takes heartbeats and figures


def runtime_dir(
    path: Path | None, *, environ: Mapping[str, str] = os.environ, say: Callable[[str], object] = lambda line: None
) -> Path:
    """Return where the daemon's sockets are, whatever else the file says; raise `ConfigError`.

    `say` takes a line for a person if the file cannot be parsed as a whole.
    """
    found = _at_a_glance(path, environ, say)
    if found is None:
        from kill_switch.config import loader

        return loader.runtime_dir(path, environ=environ)
    return found


def directories(path: Path | None, *, environ: Mapping[str, str] = os.environ) -> tuple[Path, Path]:
    """Return the state and the runtime directory; raise `ValueError` if the file leaves doubts, `OSError` if none is.

    For a process that has not read its configuration yet, and may die before it has.
    """
    daemon, _ = _table(path, environ)
    defaults = ("state_dir", "STATE_DIRECTORY", STATE_DIR), ("runtime_dir", "RUNTIME_DIRECTORY", RUNTIME_DIR)
    found = [_directory(daemon, *default, environ) for default in defaults]
    if None in found:
        raise ValueError("the configuration does not say clearly where the directories are")
    state_dir, runtime_dir = (Path(one) for one in found if one is not None)
    return state_dir, runtime_dir


def _at_a_glance(path: Path | None, environ: Mapping[str, str], say: Callable[[str], object]) -> Path | None:
    """Return the directory if the file leaves no doubt of it."""
    try:
        daemon, broken = _table(path, environ)
    except (OSError, ValueError):
        return None
    found = _directory(daemon, "runtime_dir", "RUNTIME_DIRECTORY", RUNTIME_DIR, environ)
    if found is None:
        return None
    if broken:
        source = path or environ.get("KILL_SWITCH_CONFIG") or CONFIG
        say(f"{source}: {broken}; going on with the daemon in {found} (`kill-switch check` says what is wrong)")
    return Path(found)


def _directory(
    daemon: Mapping[str, Any], key: str, variable: str, default: str, environ: Mapping[str, str]
) -> str | None:
    written = daemon.get(key, environ.get(variable, "").split(":")[0] or default)
    return written if isinstance(written, str) and written.startswith("/") and written.isprintable() else None


def _table(path: Path | None, environ: Mapping[str, str]) -> tuple[Mapping[str, Any], str]:
    """Return the table [daemon], and what of the file cannot be understood.

    Raises `OSError` for a file that was named and cannot be read, `ValueError` for a table that is none.
    """
    named = path or environ.get("KILL_SWITCH_CONFIG")
    try:
        content = Path(named or CONFIG).read_bytes()
    except OSError:
        if named:
            raise
        content = b""  # a file that nobody named need not be there
    broken = ""
    try:
        daemon = tomllib.loads(content.decode("utf-8-sig")).get("daemon", {})
    except (ValueError, RecursionError):
        daemon, broken = _of_the_parts(content)
    if not isinstance(daemon, dict):
        raise ValueError("[daemon] is no table")
    return daemon, broken


def _of_the_parts(content: bytes) -> tuple[Any, str]:
    """Return the table [daemon] of a file that does not parse, and what is left out; what is unclear there is None."""
    from kill_switch.config.salvage import salvage

    try:
        found = salvage(content.decode("utf-8-sig", "surrogateescape"))
    except ValueError:
        return {}, "it is not TOML"
    daemon = found.document.get("daemon", {})
    why = f"{', '.join(found.parts)} cannot be understood" if found.parts else "it is not UTF-8"
    return ({**found.directories, **daemon} if isinstance(daemon, dict) else daemon), why
