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

CONFIG = "/etc/kill-switch/config.toml"
RUNTIME_DIR = "/run/kill-switch"


def runtime_dir(
    path: Path | None, *, environ: Mapping[str, str] = os.environ, say: Callable[[str], object] = lambda line: None
) -> Path:
    """Return where the daemon's sockets are, whatever else the file says; raise `ConfigError`.

    `say` takes a line for a person if the file cannot be parsed as a whole.
    """
    found = _at_a_glance(path, environ, say)
    if found is None:
        from kill_switch import config

        return config.runtime_dir(path, environ=environ)
    return found


def _at_a_glance(path: Path | None, environ: Mapping[str, str], say: Callable[[str], object]) -> Path | None:
    """Return the directory if the file leaves no doubt of it."""
    named = path or environ.get("KILL_SWITCH_CONFIG")
    source = Path(named or CONFIG)
    try:
        content = source.read_bytes()
    except (OSError, ValueError) as error:
        if named or not isinstance(error, OSError):
            return None
        content = b""  # a file that nobody named need not be there
    broken = ""
    try:
        daemon = tomllib.loads(content.decode("utf-8-sig")).get("daemon", {})
    except (ValueError, RecursionError):
        daemon, broken = _of_the_parts(content)
        if daemon is None:
            return None
    if not isinstance(daemon, dict):
        return None
    default = environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or RUNTIME_DIR
    written = daemon.get("runtime_dir", default)
    if not (isinstance(written, str) and written.startswith("/") and written.isprintable()):
        return None
    if broken:
        say(f"{source}: {broken}; going on with the daemon in {written} (`kill-switch check` says what is wrong)")
    return Path(written)


def _of_the_parts(content: bytes) -> tuple[Any, str]:
    """Return the table [daemon] of a file that does not parse, None if it is unclear, and what is left out."""
    from kill_switch.salvage import salvage

    try:
        found = salvage(content.decode("utf-8-sig", "surrogateescape"))
    except ValueError:
        return {}, "it is not TOML"
    if found.directories.get("runtime_dir", "") is None:
        return None, ""
    daemon = found.document.get("daemon", {})
    why = f"{', '.join(found.parts)} cannot be understood" if found.parts else "it is not UTF-8"
    return ({**found.directories, **daemon} if isinstance(daemon, dict) else daemon), why
