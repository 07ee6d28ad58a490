"""The address at which a socket listens, or to which a lane connects."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit


class HostPort(NamedTuple):
    """A host, by name or IP address, and its TCP or UDP port."""

    host: str
    port: int

    @classmethod
    def of_url(cls, url: str) -> HostPort:
        """Return what a URL connects to; without a port, 443."""
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or 443)

    @property
    def is_loopback(self) -> bool:
        """Return whether the host, which must be an IP address, is this machine alone."""
        return ipaddress.ip_address(self.host).is_loopback
