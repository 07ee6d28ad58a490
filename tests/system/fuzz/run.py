"""Run a target over inputs: what raises, what is slow, what grows; a failure's input is made small and kept."""

from __future__ import annotations

import hashlib
import signal
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from .target import CORPUS, After, Target, Wrong, corpus

SLOW_NS = 50_000_000
SLOW_BYTES = 64 << 10  # for so many bytes, and so many steps; for more of them, in proportion
SLOW_STEPS = 20
HANGS_AFTER_S = 20.0
AGE = 20_000
MOST_KINDS = 10  # of failures: then something is wrong throughout, and the run ends
SHRINK_S = 10.0


class Hangs(BaseException):
    """End an input that does not end; no `except Exception` of the program's own may swallow it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What an input did; `kind` is the same for all that do it at the same place."""

    target: str
    kind: str
    detail: str
    data: bytes

    def save(self) -> Path:
        path = CORPUS / self.target / f"found-{hashlib.sha256(self.data).hexdigest()[:12]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data)
        return path


def attempt(target: Target, data: bytes) -> Failure | None:
    """Let a target take one input; time is the processor's, not the wall's, and a slow one has three chances."""
    signal.setitimer(signal.ITIMER_PROF, HANGS_AFTER_S)
    try:
        for _ in range(3):
            began_ns = time.thread_time_ns()
            target.take(data)
            took_ns = time.thread_time_ns() - began_ns
            if took_ns <= SLOW_NS * max(1.0, len(data) / SLOW_BYTES, target.steps(data) / SLOW_STEPS):
                return None
    except (Exception, Hangs) as raised:
        error: BaseException = raised
        if isinstance(raised, After):
            data, error = raised.data, raised.error
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "/kill_switch/" in frame.filename] or frames
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
        text = str(error)
        kind = f"{type(error).__name__} at {place}" + (
            f": {text.partition(':')[0]}" if isinstance(error, Wrong) else ""
        )
        return Failure(target.NAME, kind, "".join(traceback.format_exception(error))[-3000:], data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return Failure(target.NAME, "slow", f"{took_ns / 1e6:.0f} ms for {len(data)} bytes", data)


def fuzz(target: Target, seed: int, numbers: Iterable[int]) -> Iterator[Failure]:
    """Run a range of a seed's inputs; yield the first failure of each kind, made small."""
    kinds: set[str] = set()
    with _alarm():
        for done, number in enumerate(numbers, 1):
            failure = attempt(target, target.make(seed, number))
            if failure is not None and failure.kind not in kinds:
                kinds.add(failure.kind)
                yield shrink(target, failure)
                if len(kinds) >= MOST_KINDS:
                    return
            if done % AGE == 0:
                try:
                    target.age()
                except Wrong as wrong:
                    yield Failure(target.NAME, f"growth: {wrong}", f"input {number - AGE + 1} to {number}", b"")


def replay(target: Target, paths: Iterable[Path] | None = None) -> Iterator[Failure]:
    """Run the kept inputs."""
    with _alarm():
        for path in corpus(target.NAME) if paths is None else paths:
            failure = attempt(target, path.read_bytes())
            if failure is not None:
                yield failure


def shrink(target: Target, failure: Failure) -> Failure:
    """Leave out what is not needed for the same failure."""
    until_s, size = time.monotonic() + SHRINK_S, len(failure.data) // 2
    while size and failure.kind != "slow" and not failure.kind.startswith("Hangs"):
        at = 0
        while at < len(failure.data) and time.monotonic() < until_s:
            smaller = attempt(target, failure.data[:at] + failure.data[at + size :])
            if smaller is not None and smaller.kind == failure.kind:
                failure = smaller
            else:
                at += size
        size //= 2
    return failure


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hangs

    before = signal.signal(signal.SIGPROF, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
