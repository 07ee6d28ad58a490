"""The default directories and the default file; imported before anything slow is."""

from __future__ import annotations

from kill_switch.client.places import RUNTIME_DIR as RUNTIME_DIR  # the sockets; else $RUNTIME_DIRECTORY of systemd

CONFIG = "/etc/kill-switch/config.toml"  # where neither -c nor $KILL_SWITCH_CONFIG names another
STATE_DIR = "/var/lib/kill-switch"  # the journal; else $STATE_DIRECTORY
