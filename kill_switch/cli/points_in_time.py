"""Parse the time of `--since`: a duration before now, or a date and time."""

from __future__ import annotations

import time
from datetime import date, datetime
from typing import Any

import click

HINT = 'expected "2h", "30m", "2026-11-30", "2026-11-30 14:05" (this host\'s time zone) or "2026-11-30T14:05:00Z"'


class PointInTime(click.ParamType):  # type: ignore[type-arg]  # generic in its newer releases only
    """A time that becomes nanoseconds since 1970; without a zone, it is of this host's zone."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the time in nanoseconds since 1970, or fail with a hint of how to write it."""
        if isinstance(value, int):
            return value
        from kill_switch.config.messages import InvalidValue
        from kill_switch.config.parsers import seconds

        text = str(value).strip()
        try:
            return time.time_ns() - int(seconds(text) * 1e9)
        except InvalidValue:
            pass
        if text == "today":
            text = date.today().isoformat()
        try:
            return int(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text!r} is no time: {HINT}", param, ctx)


SINCE = PointInTime()
