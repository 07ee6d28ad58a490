"""Make a file system hang: from then on every call that names a path there waits, until the end of the context.

The kernel sends what such a call wants to know to a FUSE server, and here is one that never answers. It is mounted over
a directory: files that are open already stay good, as with a file server that is gone. That takes root and `/dev/fuse`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_DETACH = 2  # umount2(2)


class CannotHang(Exception):
    """Raised where this machine cannot make a file system hang."""


@contextlib.contextmanager
def hung(directory: Path) -> Iterator[None]:
    """Have all paths in a directory hang; raises `CannotHang`. At the end, calls that wait fail; all is as before."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise CannotHang(f"/dev/fuse: {error.strerror}") from None
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    try:
        if libc.mount(b"hung", bytes(directory), b"fuse", 0, options):
            raise CannotHang(f"mount: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            libc.umount2(bytes(directory), _DETACH)
    finally:
        os.close(server)
