"""Find the daemon's sockets with few imports, because `fire`, `status` and `beat` must start fast.

Only [daemon] is read. A file with a syntax error must not prevent a command to a running daemon, so its usable parts
are read (`salvage`). A key that is present and wrong is passed to `config`, which takes 0.1 s longer to import and
reports the fault.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kill_switch.client.places import CONTROL_SOCKET as CONTROL_SOCKET
from kill_switch.client.places import INTAKE_SOCKET as INTAKE_SOCKET
from kill_switch.config import included_files, toml_text
from kill_switch.config.defaults import CONFIG, RUNTIME_DIR, STATE_DIR, own_environment, systemd_directories

_DEFAULTS = {"state_dir": STATE_DIR, "runtime_dir": RUNTIME_DIR}


def runtime_dir(
    path: Path | None, *, environ: Mapping[str, str] = os.environ, say: Callable[[str], object] = lambda line: None
) -> Path:
    """Return the directory of the daemon's sockets, whatever faults other keys have; raise `ConfigError`.

    If the file cannot be parsed as a whole, `say` gets a line for people.
    """
    directory = _quick_runtime_dir(path, environ, say)
    if directory is None:
        from kill_switch.config import loader

        return loader.runtime_dir(path, environ=environ)
    return directory


def directories(path: Path | None, *, environ: Mapping[str, str] = os.environ) -> tuple[Path, Path]:
    """Return the daemon's state and runtime directory; raise `ValueError` if the file is unclear about them.

    Raises `OSError` if a named file cannot be read. For a daemon that has not loaded its configuration yet, and may end
    before it has.
    """
    daemon, _ = _table(path, environ)
    paths = [_directory(daemon, key, environ) for key in _DEFAULTS]
    if None in paths:
        raise ValueError("the configuration is unclear about the daemon's directories")
    state_dir, runtime_dir = (Path(path_text) for path_text in paths if path_text is not None)
    return state_dir, runtime_dir


def account_names(path: Path | None, *, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the accounts that the configuration names, in its order; () if it cannot be read as a whole."""
    source = Path(path or environ.get("KILL_SWITCH_CONFIG") or CONFIG)
    names: dict[str, None] = {}
    for tables in included_files.glance(source):
        accounts = None if tables is None else tables.get("accounts", {})
        if not isinstance(accounts, dict):
            return ()
        names |= dict.fromkeys(accounts)
    return tuple(names)


def _quick_runtime_dir(path: Path | None, environ: Mapping[str, str], say: Callable[[str], object]) -> Path | None:
    """Return the runtime directory if the file is clear about it, else None."""
    try:
        daemon, broken = _table(path, environ)
    except (OSError, ValueError):
        return None
    directory = _directory(daemon, "runtime_dir", own_environment(environ))
    if directory is None:
        return None
    if broken:
        source = path or environ.get("KILL_SWITCH_CONFIG") or CONFIG
        say(f"{source}: {broken}; going on with the daemon in {directory} (for details: kill-switch check)")
    return Path(directory)


def _directory(daemon: Mapping[str, Any], key: str, environ: Mapping[str, str]) -> str | None:
    written = daemon.get(key, systemd_directories(environ).get(key, _DEFAULTS[key]))
    return written if isinstance(written, str) and written.startswith("/") and written.isprintable() else None


def _table(path: Path | None, environ: Mapping[str, str]) -> tuple[Mapping[str, Any], str]:
    """Return the table [daemon], and which parts of the file are not understood.

    Raises `OSError` if a named file cannot be read, `ValueError` if [daemon] is not a table.
    """
    named = path or environ.get("KILL_SWITCH_CONFIG")
    try:
        content = Path(named or CONFIG).read_bytes()
    except OSError:
        if named:
            raise
        content = b""  # because a file that was not named need not exist
    broken = ""
    try:
        daemon = toml_text.loads(content.decode("utf-8-sig")).get("daemon", {})
    except (ValueError, RecursionError):
        daemon, broken = _salvaged_table(content)
    if not isinstance(daemon, dict):
        raise ValueError("[daemon] is no table")
    return daemon, broken


def _salvaged_table(content: bytes) -> tuple[Any, str]:
    """Return the table [daemon] of a file that does not parse, and a line that names the ignored parts.

    Unclear values are None.
    """
    from kill_switch.config.salvage import salvage

    try:
        salvaged = salvage(content.decode("utf-8-sig", "surrogateescape"))
    except ValueError:
        return {}, "it is not TOML"
    daemon = salvaged.document.get("daemon", {})
    why = f"{', '.join(salvaged.parts)} cannot be understood" if salvaged.parts else "it is not UTF-8"
    return ({**salvaged.directories, **daemon} if isinstance(daemon, dict) else daemon), why
