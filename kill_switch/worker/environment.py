"""The variables of the daemon's environment that a child may see; the others may hold keys."""

from __future__ import annotations

import os
from collections.abc import Iterable

COMMAND = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "DBUS_SYSTEM_BUS_ADDRESS")
WORKER = (
    *COMMAND,
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PYTHONDONTWRITEBYTECODE"),
)


def visible(names: Iterable[str]) -> dict[str, str]:
    """Return those of these variables that are set."""
    return {name: os.environ[name] for name in names if name in os.environ}
