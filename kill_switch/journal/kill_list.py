"""Summarise the kills of a journal, a line each, for `report --list`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kill_switch import clock
from kill_switch.core.domain import Phase
from kill_switch.journal.kill_report import ReportBuilder

_WORST = tuple(Phase)  # from harmless to worst


def summaries(reports: ReportBuilder, since_ns: int | None = None) -> list[dict[str, object]]:
    """Return the kills in their order, those before the wall time `since_ns` left out."""
    rendered = (reports.render(kill) for kill in reports.kill_ids())
    shown = [summary(report) for report in rendered if report is not None]
    return [each for each in shown if since_ns is None or str(each["fired_at"]) >= clock.iso(since_ns)]


def summary(report: Mapping[str, Any]) -> dict[str, object]:
    """Return a kill's id, time, first reason, its person, accounts, worst state, orders left and last re-arm."""
    accounts: Sequence[Mapping[str, Any]] = list(report["accounts"].values())
    first, left = report["reasons"][0], [account["left"] for account in accounts]
    states = [Phase(account["state"]) for account in accounts]
    rearmed = report["rearmed"]
    return {
        "id": report["id"],
        "fired_at": report["fired_at"],
        "trigger": first["trigger"],
        "text": first["text"],
        "reasons": len(report["reasons"]),
        "by": report["by"],
        "accounts": report["scope"],
        "state": max(states, key=_WORST.index, default=Phase.ARMED),
        "left": None if None in left else sum(left),
        "all_clear_us": report["all_clear_us"],
        "rearmed_at": rearmed["at"] if rearmed else None,
        "still_tripped": rearmed["left"] if rearmed else report["scope"],
    }
