"""The default directories and the default file; imported before anything slow is."""

from __future__ import annotations

CONFIG = "/etc/kill-switch/config.toml"  # where neither -c nor $KILL_SWITCH_CONFIG names another
RUNTIME_DIR = "/run/kill-switch"  # the sockets; else $RUNTIME_DIRECTORY, where systemd sets it
STATE_DIR = "/var/lib/kill-switch"  # the journal; else $STATE_DIRECTORY
