"""Every value becomes a line of JSON, also a path whose bytes are not UTF-8."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kill_switch.json_line import to_json_line

TEXT = os.fsdecode(b"/etc/\xffx/\xc3\xa9")  # as Python has a path of such bytes


@pytest.mark.parametrize("value", [{"do": [TEXT]}, {TEXT: 1}, {"do": Path(TEXT)}, {"do": TEXT, "count": 1 << 70}])
def test_text_that_is_no_unicode_is_replaced_and_the_rest_of_the_line_is_kept(value: object) -> None:
    line = to_json_line(value)
    assert "/etc/\ufffdx/é" in line.decode()
    assert line.endswith(b"}\n") and line.count(b"\n") == 1
