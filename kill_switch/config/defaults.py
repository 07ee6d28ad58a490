"""The default file and directories, and those that systemd names; imported before anything slow is."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kill_switch.client.places import CONTROL_SOCKET
from kill_switch.client.places import RUNTIME_DIR as RUNTIME_DIR  # the sockets

CONFIG = "/etc/kill-switch/config.toml"  # where neither -c nor $KILL_SWITCH_CONFIG names another
STATE_DIR = "/var/lib/kill-switch"  # the journal
OWN_UNIT = "KILL_SWITCH_UNIT"  # set by each unit of kill-switch, so that commands in it use its directories
_VARIABLES = {"state_dir": "STATE_DIRECTORY", "runtime_dir": "RUNTIME_DIRECTORY"}  # systemd.exec(5)


def systemd_directories(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the directories that systemd made for this process's unit, by key of [daemon]; of several, the first."""
    return {key: first for key, name in _VARIABLES.items() if (first := environ.get(name, "").split(":")[0])}


def own_environment(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment, without systemd's directories if they are not the daemon's.

    They are in a unit of kill-switch (`OWN_UNIT`), and where the daemon's socket is in the runtime directory. For every
    command except `run` and `check`. In a strategy's unit, systemd names the strategy's directories: a goodbye or a
    latch there would not reach the daemon. The state directory is not looked at, because its file system may hang.
    """
    runtime_dir = systemd_directories(environ).get("runtime_dir")
    if environ.get(OWN_UNIT) or (runtime_dir and os.path.lexists(os.path.join(runtime_dir, CONTROL_SOCKET))):
        return environ
    return {name: value for name, value in environ.items() if name not in _VARIABLES.values()}
