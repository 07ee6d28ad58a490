"""Whoever fires, re-arms or reads a report is told what the disk has not taken, and never another kill."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from kill_switch.journal.latch_file import LatchFile
from kill_switch.journal.write_ahead import WriteAheadNote
from tests.harness.control_harness import ControlHarness, Opened

pytestmark = pytest.mark.anyio


def spoil(office: ControlHarness, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have every write into the journal fail with this error."""
    fd, write = office.journal._writer._fd, os.write

    def fails(to: int, data: bytes) -> int:
        if to == fd:
            raise OSError(number, os.strerror(number))
        return write(to, data)

    monkeypatch.setattr(os, "write", fails)


async def fire(office: ControlHarness, *accounts: str) -> Mapping[str, Any]:
    """Fire, and let the venues answer until the answer is there."""
    found: list[Mapping[str, Any]] = []

    async def ask() -> None:
        found.append(await office.ask("fire", reason="this kill", scope=list(accounts), wait_s=30))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        while not found:
            await anyio.sleep(0.02)
            office.answer()
    return found[0]


async def test_a_kill_that_is_on_record_has_no_problem(opened: Opened) -> None:
    found = await fire(opened("a"))
    assert (found["problems"], found["accounts"]["a"]["state"]) == ([], "CLEAR")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
async def test_on_a_failing_disk_the_fired_kill_is_reported_with_its_weaknesses(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    office = opened("a", "b")
    await office.kill()
    old = office.reports.last
    spoil(office, monkeypatch, number)
    found = await fire(office, "a")
    assert found["id"] != old and [reason["text"] for reason in found["reasons"]] == ["this kill"]
    [problem] = found["problems"]
    assert os.strerror(number) in problem["text"] and "ARMED" not in problem["text"]  # the intent has it
    assert (await office.ask("report"))["id"] == found["id"]
    assert (await office.ask("report", id=old))["problems"]


async def test_a_kill_without_record_intent_or_latch_file_is_reported_as_lost_by_a_restart(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = opened("a")
    spoil(office, monkeypatch, errno.EROFS)
    monkeypatch.setattr(WriteAheadNote, "_put", lambda intent, line: False)
    monkeypatch.setattr(LatchFile, "append_line", lambda file, line: None)
    [problem] = (await fire(office))["problems"]
    assert "a restart would start ARMED" in problem["text"] and "do not restart" in problem["do"]


async def test_a_kill_without_a_report_is_refused_and_no_other_kill_is_shown(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = opened("a")
    await office.kill()

    def fails(entry: object) -> None:
        raise RuntimeError("a fault of the reports")

    office.journal.deliver_to(fails)
    found = await fire(office)
    assert found["exit"] == 1 and "cannot be shown" in found["error"] and "accounts" not in found


async def test_a_re_arm_that_is_not_on_record_says_so(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    office = opened("a")
    await office.kill()
    asked = office.dispatcher.rearm

    def then_the_disk_is_full(event: Any) -> Any:
        spoil(office, monkeypatch, errno.ENOSPC)
        return asked(event)

    monkeypatch.setattr(office.dispatcher, "rearm", then_the_disk_is_full)
    found: list[Mapping[str, Any]] = []

    async def ask() -> None:
        found.append(await office.ask("rearm", reason="well"))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        while not found:
            await anyio.sleep(0.02)
            office.answer()
    assert found[0]["rearmed"] == ("a",)
    assert "No space left" in found[0]["problems"][0]["text"] and "ARMED" not in found[0]["problems"][0]["text"]
