"""Check that a `ca_file` holds certificates that TLS can use.

The loader uses this, because a lane that finds out when it connects is too late. Nothing connects here.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

from kill_switch.config.messages import InvalidValue

_HINT = "expected a file with PEM certificates"


def examine(ca_file: str) -> None:
    """Raise `Wrong` if no TLS context can be made with the file."""
    try:
        path = Path(ca_file)
        if path.exists() and not path.is_file():  # because reading a pipe would block
            raise InvalidValue("not a regular file", _HINT)
        status = path.stat()
        _load(ca_file, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    except InvalidValue:
        raise
    except ssl.SSLError:
        raise InvalidValue("holds no certificate", _HINT) from None
    except OSError as error:
        why = error.strerror or "cannot be read"
        raise InvalidValue(why[:1].lower() + why[1:], _HINT) from None
    except ValueError:  # the path has a NUL
        raise InvalidValue("not a path", _HINT) from None


@lru_cache(maxsize=64)  # because accounts share a file, and all authorities of a system take 20 ms to read
def _load(ca_file: str, *identity: int) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=ca_file)
