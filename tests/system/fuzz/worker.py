"""Run a part of a target's inputs, in a process of its own."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from . import TARGETS
from .run import Failure, fuzz

CHUNK = 20_000


class Chunk(NamedTuple):
    target: str
    seed: int
    start: int
    stop: int


class Done(NamedTuple):
    chunk: Chunk
    seconds: float  # of processor time
    failures: list[Failure]


def work(chunk: Chunk) -> Done:
    """Do a chunk."""
    logging.disable()
    began_s = time.process_time()
    target = TARGETS[chunk.target]()
    try:
        failures = list(fuzz(target, chunk.seed, range(chunk.start, chunk.stop)))
    finally:
        target.close()
    return Done(chunk, time.process_time() - began_s, failures)
