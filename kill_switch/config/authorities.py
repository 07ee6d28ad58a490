"""See whether a `ca_file` holds certificates that TLS can use: a lane that finds out at the start is too late."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

from kill_switch.config.messages import Wrong

_HINT = "expected a file with PEM certificates"


def examine(ca_file: str) -> None:
    """Raise `Wrong` if no TLS context can be made with the file."""
    try:
        path = Path(ca_file)
        if path.exists() and not path.is_file():  # a pipe would have us wait
            raise Wrong("not a regular file", _HINT)
        found = path.stat()
        _load(ca_file, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    except Wrong:
        raise
    except ssl.SSLError:
        raise Wrong("holds no certificate", _HINT) from None
    except OSError as error:
        why = error.strerror or "cannot be read"
        raise Wrong(why[:1].lower() + why[1:], _HINT) from None
    except ValueError:  # a NUL
        raise Wrong("not a path", _HINT) from None


@lru_cache(maxsize=64)  # accounts share a file: to read all authorities of a system takes 20 ms
def _load(ca_file: str, *identity: int) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=ca_file)
