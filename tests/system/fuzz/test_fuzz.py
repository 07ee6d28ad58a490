"""Every kept input, and some fresh ones at each target; `python -m tests.system.fuzz` has as many as there is time
for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from . import TARGETS
from .mutate import mutate_bytes, mutate_json, mutate_script, script
from .run import Failure, fuzz, replay
from .target import Target, must

FRESH = 1000


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    made = TARGETS[request.param]()
    yield made
    made.close()


def test_nothing_that_once_failed_fails_again(target: Target) -> None:
    assert [failure.kind for failure in replay(target)] == []


def test_valid_input_is_accepted(target: Target, tmp_path: Path) -> None:
    kept = tmp_path / "seed"
    for seed in target.seeds():
        kept.write_bytes(seed)
        assert list(replay(target, [kept])) == []


@pytest.mark.timeout(60)
def test_fresh_input_finds_nothing(target: Target) -> None:
    assert [f"{failure.kind}: {failure.data!r}" for failure in fuzz(target, 0, range(FRESH))] == []


# ── the fuzzer itself ─────────────────────────────────────────────────────────────────────────────────────────────


class Picky(Target):
    """Fail for a word, hang for another, take too long for a third."""

    NAME = "picky"

    def seeds(self) -> Iterator[bytes]:
        yield b"a" * 40 + b"!" + b"b" * 40

    def mutate(self, random: Random, data: bytes) -> bytes:
        return data

    def take(self, data: bytes) -> None:
        must(b"!" not in data, "it exclaims: loudly")
        if b"?" in data:
            sum(range(10_000_000))
        if b"/" in data:
            raise KeyError("x")


def test_a_failure_is_reported_once_and_minimised() -> None:
    (failure,) = fuzz(Picky(), 1, range(100))
    assert failure == Failure("picky", failure.kind, failure.detail, b"!")
    assert failure.kind.startswith("Wrong at ") and failure.kind.endswith(": it exclaims")


def test_an_exception_and_a_slow_input_are_failures(tmp_path: Path) -> None:
    for text, kind in ((b"?", "slow"), (b"/", "KeyError at test_fuzz.py:"), (b"", "")):
        (tmp_path / "input").write_bytes(text)
        kinds = [failure.kind for failure in replay(Picky(), [tmp_path / "input"])]
        assert len(kinds) == bool(kind) and all(one.startswith(kind) for one in kinds)


def test_a_seed_and_a_number_name_an_input_for_ever() -> None:
    for made in TARGETS.values():
        one, other = made(), made()
        assert [one.make(3, n) for n in range(20)] == [other.make(3, n) for n in range(20)], made.NAME
        one.close()
        other.close()


def test_mutations_differ_from_their_input() -> None:
    random = Random(1)  # noqa: S311
    text = b'{"data":[{"id":"1","status":"OPEN"}],"success":true}'
    for made in (
        {mutate_bytes(random, text, [text]) for _ in range(300)},
        {mutate_json(random, text, [text], ("OPEN",), ("id",)) for _ in range(300)},
        {
            mutate_script(random, script((b"read", b""), (b"ws", text)), [script()], [b"kill"], mutate_json)
            for _ in range(300)
        },
    ):
        assert len(made) > 150
