"""Whose a flag file is: in the reason's evidence, found before the kill or after it, and never waited for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from kill_switch import clock
from kill_switch.core.domain import Reason
from kill_switch.triggers.flag import evidence as flag_evidence
from kill_switch.triggers.flag.trigger import FlagState, FlagTrigger

MTIME_NS = 1_700_000_000_123_456_000
TIME = "2023-11-14T22:13:20.123456Z"


def aged(path: Path, text: str = "") -> Path:
    path.write_text(text)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))
    return path


def test_the_evidence_of_a_file_is_its_owner_its_time_and_its_text(tmp_path: Path) -> None:
    status = aged(tmp_path / "KILL").stat()
    assert flag_evidence.make_evidence(status) == {"uid": os.getuid(), "user": str(os.getuid()), "mtime": TIME}
    told = flag_evidence.make_evidence(status, "a\x1b[2Jb\n" + 2000 * "x")["text"]
    assert isinstance(told, str) and told.startswith("a\ufffd[2Jb x") and len(told) == flag_evidence.MAX_TEXT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_owner_of_a_link_is_who_made_the_link(tmp_path: Path) -> None:
    path = tmp_path / "KILL"
    path.symlink_to(aged(tmp_path / "other"))
    os.chown(path, 12345, 12345, follow_symlinks=False)
    assert flag_evidence.find_evidence(path)["uid"] == 12345


def test_a_file_that_has_gone_and_a_time_that_no_calendar_has_cost_no_more_than_themselves(tmp_path: Path) -> None:
    assert flag_evidence.find_evidence(tmp_path / "KILL") == {}
    fields = [0] * os.stat_result.n_fields
    status = os.stat_result(fields[:10], {"st_mtime_ns": 10**21, "st_uid": 7})
    assert flag_evidence.make_evidence(status) == {"uid": 0, "user": "0"}


# ── as the trigger tells it ───────────────────────────────────────────────────────────────────────────────────────


class Press:
    """A flag that is watched, what it reports, and what it finds out afterwards."""

    def __init__(self, path: Path) -> None:
        self.reasons: list[Reason] = []
        self.found: list[tuple[Reason, Mapping[str, object]]] = []
        self.flag = FlagTrigger("panic", ("a",), path, clock=clock.now, amend=self._amend)

    def _amend(self, reason: Reason, text: str, evidence: Mapping[str, object]) -> None:
        assert text == ""
        self.found.append((reason, evidence))

    async def until_told(self, *, found: int) -> None:
        with anyio.fail_after(5):
            while not self.reasons or len(self.found) < found:  # noqa: ASYNC110 - a thread looks
                await anyio.sleep(0.005)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_file_that_was_there_at_the_start_gives_its_owner_with_the_reason(tmp_path: Path) -> None:
    press = Press(aged(tmp_path / "KILL", "left over"))
    async with anyio.create_task_group() as group:
        group.start_soon(press.flag.run, press.reasons.append)
        await press.until_told(found=0)
        group.cancel_scope.cancel()
    [reason] = press.reasons
    owner = {"uid": os.getuid(), "user": str(os.getuid()), "mtime": TIME, "text": "left over"}
    assert reason.evidence == {"path": str(tmp_path / "KILL"), **owner}
    assert press.found == []


@pytest.mark.anyio
async def test_a_touch_fires_at_once_and_its_owner_is_found_once_afterwards(tmp_path: Path) -> None:
    press = Press(tmp_path / "KILL")
    async with anyio.create_task_group() as group:
        group.start_soon(press.flag.run, press.reasons.append)
        with anyio.fail_after(5):
            while not press.flag._looked or press.flag._watching.busy:  # noqa: ASYNC110 - threads
                await anyio.sleep(0.001)
        await anyio.sleep(0.01)
        (tmp_path / "KILL").touch()
        await press.until_told(found=1)
        await press.flag.look()
        group.cancel_scope.cancel()
    [reason], [(about, evidence)] = press.reasons, press.found
    assert about == reason and reason.evidence == {"path": str(tmp_path / "KILL")}
    assert evidence["uid"] == os.getuid() and str(evidence["mtime"]).endswith("Z")


def test_a_file_that_came_and_went_has_no_owner_and_lends_it_to_no_other(tmp_path: Path) -> None:
    press = Press(tmp_path / "KILL")
    press.flag._report = press.reasons.append
    press.flag._present = True
    press.flag._fire("it is there")
    press.flag._on_state(FlagState(False))
    press.flag._on_state(FlagState(True), {"uid": 1})
    assert [reason.evidence.get("uid") for reason in press.reasons] == [None, 1]
    assert press.found == []
