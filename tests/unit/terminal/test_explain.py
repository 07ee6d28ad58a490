"""Every column and every word of a table is explained."""

from __future__ import annotations

import pytest

from kill_switch.core.domain import Phase, Verdict
from kill_switch.terminal import explain, report_views, status_view
from kill_switch.triggers.base import TriggerState


def test_each_column_and_each_word_of_a_report_is_explained() -> None:
    assert tuple(explain.REPORT_COLUMNS) == report_views._AccountTable.COLUMNS
    assert set(explain.REPORT_WORDS) == {*map(str, Phase), *map(str, Verdict)}


def test_each_column_and_each_word_of_the_status_is_explained() -> None:
    columns = (*status_view.ACCOUNT_COLUMNS, *status_view.TRIGGER_COLUMNS)
    assert tuple(explain.STATUS_COLUMNS) == tuple(dict.fromkeys(columns))
    lanes, heads = {"up", "down", "connecting"}, set(status_view.HEADS)
    assert set(explain.STATUS_WORDS) == {*map(str, Phase), *map(str, TriggerState), *lanes, *heads}
    assert set(status_view.NARROW_COLUMNS) <= set(columns)


def test_each_column_of_a_drill_is_explained() -> None:
    assert tuple(explain.DRILL_COLUMNS) == report_views.DrillView.COLUMNS
    assert set(report_views.DrillView.NARROW) <= set(explain.DRILL_COLUMNS)
    assert set(explain.DRILL_WORDS) == {"within", "OVER", "FAILED", "(expected)"}


def test_an_explanation_fits_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    explain.print_explanation(explain.STATUS_COLUMNS, explain.STATUS_WORDS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert any(line.startswith("round trip ") for line in lines) and any(line.startswith("silenced ") for line in lines)
