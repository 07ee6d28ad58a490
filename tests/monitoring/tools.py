"""Find promtool, prometheus and amtool, or get them from Debian: `python -m tests.monitoring.tools`.

Debian's programs are linked statically, so it is enough to unpack the packages into a directory of the user's cache.
Nothing is installed. The command prints `NOT RUN: REASON` where there is no apt, or no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = ("promtool", "prometheus", "amtool")
PACKAGES = ("prometheus", "prometheus-alertmanager")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kill-switch/prometheus"
WITHIN_S = 100.0  # seconds for one command of apt


def find(name: str) -> str | None:
    """Return the path of a tool: on PATH, or in the cache; None if there is none."""
    return shutil.which(name) or shutil.which(name, path=str(CACHE / "usr/bin"))


def fetch() -> str:
    """Unpack the missing tools into the cache; return why that is impossible, "" if all tools are there."""
    if all(map(find, TOOLS)):
        return ""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return f"{' and '.join(TOOLS)} are not on PATH, and there is no apt to get them by"
    CACHE.mkdir(parents=True, exist_ok=True)
    why = _run("apt-get", "-qq", "download", *PACKAGES)
    if why and os.geteuid() == 0:  # a new container has no lists
        why = _run("apt-get", "-qq", "update") or _run("apt-get", "-qq", "download", *PACKAGES)
    for package in CACHE.glob("*.deb"):
        why = why or _run("dpkg", "-x", str(package), ".")
        package.unlink()
    missing = [name for name in TOOLS if find(name) is None]
    return why or (f"the packages have no {' and no '.join(missing)}" if missing else "")


def _run(*command: str) -> str:
    """Run a command in the cache; return its last line if it fails, else ""."""
    try:
        done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=WITHIN_S)
    except subprocess.TimeoutExpired:
        return f"{command[0]} {command[1]}: no end within {WITHIN_S:g} s"
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"{' '.join(command[:3])}: {last}" if done.returncode else ""


if __name__ == "__main__":
    reason = fetch()
    sys.stdout.write(f"NOT RUN: {reason}\n" if reason else f"{', '.join(str(find(name)) for name in TOOLS)}\n")
