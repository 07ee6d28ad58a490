"""The owner, time and text of a flag file, as evidence of its reason.

The flag trigger calls `find_evidence` in a thread, because lstat(2) waits for the file system. The owner is a number
here; the daemon looks up the name afterwards.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from kill_switch import clock, printable

MAX_TEXT = 1000  # characters; a longer text is cut


def make_evidence(status: os.stat_result, text: str = "") -> dict[str, object]:
    """Return uid, user (the uid until the name is looked up), `mtime` as ISO 8601, and the text."""
    evidence: dict[str, object] = {"uid": status.st_uid, "user": str(status.st_uid)}
    with contextlib.suppress(ValueError, ArithmeticError, OSError):  # the time is outside of the calendar
        evidence["mtime"] = clock.iso(status.st_mtime_ns)
    if text:
        evidence["text"] = printable.line(text[:MAX_TEXT])
    return evidence


def find_evidence(path: Path, text: str = "") -> dict[str, object]:
    """Return the evidence of the file at `path`, or of a link itself; {} if it cannot be read."""
    try:
        return make_evidence(os.lstat(path), text)
    except OSError:
        return {}
