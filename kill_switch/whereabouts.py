"""Find the daemon's sockets with next to nothing to import: `fire`, `status` and `beat` must start fast.

This reads a configuration that is right, and only one key of it. Whatever looks wrong is left to `config`, which takes
a tenth of a second longer to import and says what is the matter.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

CONFIG = "/etc/kill-switch/config.toml"
RUNTIME_DIR = "/run/kill-switch"


def runtime_dir(path: Path | None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the daemon's sockets are, whatever else the file says; raise `ConfigError`."""
    found = _at_a_glance(path, environ)
    if found is None:
        from kill_switch import config

        return config.runtime_dir(path, environ=environ)
    return found


def _at_a_glance(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the directory if the file leaves no doubt of it."""
    named = path or environ.get("KILL_SWITCH_CONFIG")
    try:
        daemon = tomllib.loads(Path(named or CONFIG).read_bytes().decode("utf-8-sig")).get("daemon", {})
    except (OSError, ValueError, RecursionError) as error:
        if named or not isinstance(error, OSError):
            return None
        daemon = {}  # a file that nobody named need not be there
    if not isinstance(daemon, dict):
        return None
    default = environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or RUNTIME_DIR
    written = daemon.get("runtime_dir", default)
    return Path(written) if isinstance(written, str) and written.startswith("/") and written.isprintable() else None
