"""Say whose a flag file is and when it was written: the evidence of a reason that a file has given.

`flag` calls `find` in its thread, since `lstat(2)` waits for the file system. The owner is told by number; whoever
takes the reason looks the name up afterwards (`users`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from kill_switch import clock, printable

MAX_TEXT = 1000  # characters of the file's text that are kept


def make_evidence(status: os.stat_result, text: str = "") -> dict[str, object]:
    """Return uid, user (the number, until somebody has looked the name up), `mtime` as ISO 8601, and the text."""
    evidence: dict[str, object] = {"uid": status.st_uid, "user": str(status.st_uid)}
    with contextlib.suppress(ValueError, ArithmeticError, OSError):  # a time that no calendar has
        evidence["mtime"] = clock.iso(status.st_mtime_ns)
    if text:
        evidence["text"] = printable.line(text[:MAX_TEXT])
    return evidence


def find_evidence(path: Path, text: str = "") -> dict[str, object]:
    """Return the evidence of the file that is there now, of a link that of the link; {} if none can be had."""
    try:
        return make_evidence(os.lstat(path), text)
    except OSError:
        return {}
