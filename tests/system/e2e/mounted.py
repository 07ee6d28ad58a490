"""Have a daemon see other files than the machine has, at paths that no option can change: `/etc/passwd`, for one.

The daemon runs in a mount namespace of its own, where files are bound over those of the machine. That takes root.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from kill_switch.testbed.testbed import START_WITHIN_S
from tests.system.e2e.conftest import Play

_BIND = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 1; shift 2; done; shift; exec "$@"'


def _command(files: Mapping[str, Path], *words: str) -> Sequence[str]:
    pairs = [word for target, source in files.items() for word in (str(source), target)]
    return ["unshare", "--mount", "sh", "-c", _BIND, "sh", *pairs, "--", *words]


class Mounted(Play):
    """A stage whose daemon finds at each path in `files` the file that it has there."""

    def __init__(self, venues: Sequence[str]) -> None:
        """Skip the test where nothing can be mounted."""
        if os.geteuid() or subprocess.run(_command({"/etc/passwd": Path("/etc/passwd")}, "true")).returncode:
            pytest.skip("it takes root, and a mount namespace of its own")
        super().__init__(venues)
        self.files: dict[str, Path] = {}

    def start_daemon(self, *, wait: bool = True) -> None:
        command = _command(self.files, sys.executable, "-m", "kill_switch", "run", "-c", str(self.config))
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            self.wait_for(lambda s: all(account["ready"] for account in s["accounts"].values()), START_WITHIN_S)
