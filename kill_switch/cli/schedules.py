"""Show when what follows the clock comes next: what `check` prints of schedules, drills and resets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from kill_switch.config import schema
from kill_switch.config.messages import at
from kill_switch.cron import Crontab

if TYPE_CHECKING:
    from kill_switch.config.loader import Config

SHOWN = 3  # times of each


class Entry(NamedTuple):
    """One key of the configuration that names times."""

    path: str
    written: str  # as the file has it, without the zone
    zone: str
    crontab: Crontab


def upcoming(config: Config, now: datetime) -> dict[str, Mapping[str, Any]]:
    """Return, by the path of its key, the next three times of each entry, in its zone and in UTC."""
    return {
        entry.path: {"when": entry.written, "timezone": entry.zone, "next": list(_next(entry.crontab, now))}
        for entry in _entries(config)
    }


def show(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what `upcoming` has found."""
    for path, entry in found.items():
        click.echo(f"  {path}: {entry['when']} in {entry['timezone']}; next:")
        for time in entry["next"]:
            local = datetime.fromisoformat(time["local"])
            click.echo(f"    {local:%a} {local:%Y-%m-%d %H:%M} {time['zone']}  {time['utc']}")


def _entries(config: Config) -> Iterator[Entry]:
    for name, trigger in config.triggers.items():
        path = at("triggers", name)
        match trigger:
            case schema.Schedule():
                crontab = Crontab(trigger.cron, trigger.timezone)
                yield Entry(at(path, "cron"), trigger.cron, trigger.timezone, crontab)
            case schema.Pnl():
                hour, minute, zone = trigger.reset
                yield Entry(at(path, "reset"), f"{hour:02}:{minute:02}", zone, Crontab(f"{minute} {hour} * * *", zone))
            case _:
                pass
    if config.drill.cron is not None:
        crontab = Crontab(config.drill.cron, config.drill.timezone)
        yield Entry("drill.cron", config.drill.cron, config.drill.timezone, crontab)


def _next(crontab: Crontab, now: datetime) -> Iterator[Mapping[str, str]]:
    found_s: int | None = int(now.timestamp())
    for _ in range(SHOWN):
        found_s = None if found_s is None else crontab.after(found_s)
        if found_s is None:
            return
        local = crontab.local(found_s)
        utc = datetime.fromtimestamp(found_s, UTC)
        yield {"local": local.isoformat(), "zone": local.tzname() or "", "utc": f"{utc:%Y-%m-%dT%H:%M:%SZ}"}
