"""Become somebody else for a while, where this process is root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become somebody else")


@contextlib.contextmanager
def somebody_else() -> Iterator[None]:
    """Be nobody for a while: no file, no group."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
