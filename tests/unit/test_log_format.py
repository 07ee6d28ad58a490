"""Each form gives time and level once; JSON is one object a line, whatever is logged or printed."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from kill_switch import logging_setup
from kill_switch.log_format import JournalForm, JournalJsonForm, JsonForm, LogEntry, LogForm, TextForm, choose, trail_of

AT_NS = 1_700_000_000_123_456_000


def entry(message: str = "it failed", error: BaseException | None = None, **fields: str) -> LogEntry:
    return LogEntry(logging.ERROR, AT_NS, "kill_switch.x", message, fields, trail_of(error))


def raised() -> Exception:
    try:
        raise ValueError("line one\nline two")
    except ValueError as error:
        return error


def test_json_has_all_that_is_known_in_one_line_and_an_exception_in_one_string() -> None:
    line = JsonForm().entry(entry("a\nforged line \x1b[2J", raised(), account="mm1"))
    assert line.count("\n") == 1 and line.endswith("\n")
    shown = json.loads(line)
    exception = shown.pop("exception")
    assert shown == {
        "ts": "2023-11-14T22:13:20.123456Z",
        "level": "error",
        "logger": "kill_switch.x",
        "msg": "a\nforged line \N{REPLACEMENT CHARACTER}[2J",
        "account": "mm1",
    }
    assert exception.startswith('  File "') and exception.endswith("ValueError: line one\nline two")


def test_each_line_for_the_journal_begins_with_its_priority_and_has_no_level() -> None:
    lines = JournalForm().entry(entry(error=raised())).splitlines()
    assert lines[0] == "<3>it failed" and all(line.startswith("<3>  ") for line in lines[1:]) and len(lines) > 3


def test_text_has_time_and_level_and_indents_further_lines() -> None:
    first, *others = TextForm().entry(entry(error=raised())).splitlines()
    assert first == "2023-11-14T22:13:20.123456Z ERROR    it failed"
    assert others and all(line.startswith("  ") for line in others)


def test_json_for_the_journal_is_the_same_object_behind_its_priority() -> None:
    failed = entry("a\nforged line", raised())
    assert JournalJsonForm().entry(failed) == "<3>" + JsonForm().entry(failed)
    assert JournalJsonForm().stray("printed\n", AT_NS) == "<3>" + JsonForm().stray("printed\n", AT_NS)


@pytest.mark.parametrize(
    ("form", "is_journal", "expected"),
    [
        ("text", True, JournalForm),
        ("text", False, TextForm),
        ("json", True, JournalJsonForm),
        ("json", False, JsonForm),
    ],
)
def test_only_lines_to_the_file_that_the_journal_has_made_have_its_priority(
    tmp_path: Path, form: str, is_journal: bool, expected: type[LogForm]
) -> None:
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        named = f"{status.st_dev}:{status.st_ino + (not is_journal)}"
        chosen = choose(form, {"JOURNAL_STREAM": named}, stream.fileno())
    assert type(chosen) is expected


@pytest.mark.parametrize("form", [JsonForm(), TextForm()], ids=["json", "text"])
def test_text_that_is_printed_in_pieces_is_written_line_by_line(form: LogForm) -> None:
    written: list[str] = []
    writer = logging_setup.LogWriter(written.append, form)
    for piece in ("Traceback", " (most\n", "\n", "recent", " call"):
        writer.put_stray(piece)
    assert writer.flush(5)
    lines = "".join(written).splitlines()
    if isinstance(form, JsonForm):
        lines = [json.loads(line)["msg"] for line in lines]
        assert {json.loads(line)["logger"] for line in "".join(written).splitlines()} == {"stderr"}
    assert [line for line in lines if line] == ["Traceback (most", "recent call"]
