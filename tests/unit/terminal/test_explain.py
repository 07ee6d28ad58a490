"""Every column and every word of a table is explained."""

from __future__ import annotations

from kill_switch.core.domain import Phase, Verdict
from kill_switch.terminal import explain, report_views


def test_each_column_and_each_word_of_a_report_is_explained() -> None:
    assert tuple(explain.REPORT_COLUMNS) == report_views._AccountTable.COLUMNS
    assert set(explain.REPORT_WORDS) == {*map(str, Phase), *map(str, Verdict)}
