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
_MARKS = {"state_dir": ("lock", "journal.jsonl"), "runtime_dir": (CONTROL_SOCKET,)}  # the daemon's files there


def systemd_directories(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the directories that systemd made for this process's unit, by key of [daemon]; of several, the first."""
    return {key: first for key, name in _VARIABLES.items() if (first := environ.get(name, "").split(":")[0])}


def own_environment(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment without those of systemd's directories that are not the daemon's.

    All are in a unit of kill-switch (`OWN_UNIT`); elsewhere, those in which the daemon's files are. For every command
    except `run` and `check`. In a strategy's unit, systemd names the strategy's directories: a goodbye or a latch there
    would not reach the daemon.
    """
    if environ.get(OWN_UNIT):
        return environ
    others = {
        _VARIABLES[key]
        for key, directory in systemd_directories(environ).items()
        if not all(os.path.lexists(os.path.join(directory, mark)) for mark in _MARKS[key])
    }
    return {name: value for name, value in environ.items() if name not in others}
