"""Processes beside the daemon that are sick, each in its own way: `python -m tests.unit.worker.sick.NAME`.

Each answers its first heartbeat like `errands`, so that the daemon takes it for well.
"""

from __future__ import annotations

import sys

import orjson


def answer_once() -> None:
    """Answer one heartbeat."""
    orjson.loads(sys.stdin.buffer.readline())
    sys.stdout.buffer.write(b'{"beat":0}\n')
    sys.stdout.buffer.flush()
