"""The next times of schedules, drills and resets, as `check` prints them.

The times come from the configuration and the given instant. No clock is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from kill_switch.config import schema
from kill_switch.config.messages import config_path
from kill_switch.cron import Crontab

if TYPE_CHECKING:
    from kill_switch.config.loader import Config

SHOWN = 3  # times that are shown of each entry


class Entry(NamedTuple):
    """A key of the configuration that defines times."""

    path: str
    written: str  # the value in the file, without the zone
    zone: str
    crontab: Crontab


def upcoming(config: Config, now: datetime) -> dict[str, Mapping[str, Any]]:
    """Return the next three times of each entry, in its zone and in UTC, by the path of its key."""
    return {
        entry.path: {"when": entry.written, "timezone": entry.zone, "next": list(_next(entry.crontab, now))}
        for entry in _entries(config)
    }


def show(upcoming_times: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the result of `upcoming`."""
    for path, entry in upcoming_times.items():
        click.echo(f"  {path}: {entry['when']} in {entry['timezone']}; next:")
        for time in entry["next"]:
            local = datetime.fromisoformat(time["local"])
            click.echo(f"    {local:%a} {local:%Y-%m-%d %H:%M} {time['zone']}  {time['utc']}")


def _entries(config: Config) -> Iterator[Entry]:
    for name, trigger in config.triggers.items():
        path = config_path("triggers", name)
        match trigger:
            case schema.ScheduleConfig():
                crontab = Crontab(trigger.cron, trigger.timezone)
                yield Entry(config_path(path, "cron"), trigger.cron, trigger.timezone, crontab)
            case schema.PnlConfig():
                hour, minute, zone = trigger.reset
                yield Entry(
                    config_path(path, "reset"), f"{hour:02}:{minute:02}", zone, Crontab(f"{minute} {hour} * * *", zone)
                )
            case _:
                pass
    if config.drill.cron is not None:
        crontab = Crontab(config.drill.cron, config.drill.timezone)
        yield Entry("drill.cron", config.drill.cron, config.drill.timezone, crontab)


def _next(crontab: Crontab, now: datetime) -> Iterator[Mapping[str, str]]:
    next_s: int | None = int(now.timestamp())
    for _ in range(SHOWN):
        next_s = None if next_s is None else crontab.after(next_s)
        if next_s is None:
            return
        local = crontab.local(next_s)
        utc = datetime.fromtimestamp(next_s, UTC)
        yield {"local": local.isoformat(), "zone": local.tzname() or "", "utc": f"{utc:%Y-%m-%dT%H:%M:%SZ}"}
