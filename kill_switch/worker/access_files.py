"""The files that say who may read the metrics; the daemon names them to the worker process, which reads them."""

from __future__ import annotations

from typing import NamedTuple

LEAST_TOKEN, MOST_TOKEN = 16, 256  # characters; a shorter token can be guessed


class AccessFiles(NamedTuple):
    """Paths; "" where there is none. `certificate` and `key` belong together."""

    token: str = ""  # of the bearer token
    certificate: str = ""  # of the server and the authorities between, PEM
    key: str = ""  # of the certificate, PEM


NO_FILES = AccessFiles()  # everyone may read, over plain HTTP
