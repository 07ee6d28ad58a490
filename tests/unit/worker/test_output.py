"""A line of a worker process becomes a line of the daemon's log, and a flood of lines does not."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kill_switch.worker.output import LINES, WITHIN_S, OutputLog


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_record_of_a_worker_keeps_its_level_and_anything_else_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    output = OutputLog("the worker", Clock())
    for line in ("<3>a fault", "<6>a fact", "Segmentation fault", "\x1b[2Jx", "", "  "):
        output.take(line)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "the worker: a fault"),
        ("INFO", "the worker: a fact"),
        ("WARNING", "the worker: Segmentation fault"),
        ("WARNING", "the worker: \N{REPLACEMENT CHARACTER}[2Jx"),
    ]


def test_of_a_flood_the_first_lines_are_logged_and_the_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    output = OutputLog("the worker", clock)
    for number in range(1000):
        output.take(f"line {number}")
    assert len(caplog.records) == LINES
    clock.now_s = WITHIN_S
    output.take("the next")
    assert [record.getMessage() for record in caplog.records[LINES:]] == [
        f"the worker: {1000 - LINES} line(s) of its output were left out",
        "the worker: the next",
    ]


@pytest.mark.anyio
async def test_a_line_in_pieces_is_one_line_also_if_the_reader_was_cancelled_between_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream, output = asyncio.StreamReader(), OutputLog("the worker", Clock())
    stream.feed_data(b"one\ntw")
    task = asyncio.ensure_future(output.follow(stream))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    stream.feed_data(b"o\nthree")
    stream.feed_eof()
    await output.follow(stream)
    assert [record.getMessage().removeprefix("the worker: ") for record in caplog.records] == ["one", "two", "three"]
