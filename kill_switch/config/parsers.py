"""Parsers of single values: durations, addresses, paths, names, amounts, times.

The schema uses them as validators. Each returns the parsed value or raises `Wrong`, and never shows a value that may be
a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import shlex
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from kill_switch.config.messages import InvalidValue, safe_description, with_value
from kill_switch.system.host_port import HostPort

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_HINT = 'expected a duration with its unit, such as "250ms", "3s", "5m" or "1h"'
BOUNDS = {  # duration key → shortest and longest value; every duration key is listed here
    "budget": ("1ms", "1h"),
    "hedge_after": ("1ms", "10m"),
    "heartbeat.timeout": ("10ms", "168h"),
    "link.timeout": ("100ms", "24h"),  # because lanes are polled ten times a second
    "stale_after": ("100ms", "24h"),
    "window": ("1ms", "24h"),
    "hooks.timeout": ("100ms", "1h"),
    "ping.every": ("1s", "24h"),  # because the server called belongs to another party
    "beat.every": ("10ms", "24h"),
    "silence.max": ("1m", "24h"),
    "silence.for": ("1s", "24h"),
    "bench.rtt": ("1ms", "5s"),
}
_ADDRESS = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+)):([0-9]{1,5})")
_ADDRESS_HINT = 'expected an IP address and a port, such as "127.0.0.1:9465" or "[::1]:9465"'
_CRON_HINT = 'expected minute, hour, day, month and day of the week, such as "55 16 * * fri"'
_ZONE_HINT = 'expected the name of a time zone, such as "America/New_York" or "UTC"'
_ZONES: dict[str, zoneinfo.ZoneInfo] = {}  # cached, so that later users of a zone do not read its file
_AMOUNT = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_AMOUNT_HINT = 'expected an amount as a string, such as "5000" or "0.25"'
_COMMAND_HINT = 'expected a command, such as "systemctl stop quoter.service"'
_SHELLS = ("sh", "bash", "dash", "zsh")
_FOR_A_SHELL = re.compile(r"[$`|&;<>]|[0-9]>|.*;$")
_CURRENCY = re.compile(r"[A-Z][A-Z0-9]{1,9}")
CURRENCY_HINT = 'expected a currency in capital letters, such as "USD" or "BTC"'
_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
WALL_TIME_HINT = 'expected a time and its zone, such as "17:00 America/New_York"'
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_HINT = 'expected letters, digits, ".", "_" and "-", a letter or digit first, 64 at most'
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


class WallTime(NamedTuple):
    """A time of day in a time zone."""

    hour: int
    minute: int
    zone: str


def seconds(value: object) -> float:
    """Parse a duration longer than zero; `duration` sets bounds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise InvalidValue(f"{safe_description(value)}, a number without a unit", _DURATION_HINT)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidValue(safe_description(value), _DURATION_HINT)
    found_s = float(match[1]) * _SECONDS[match[2]]
    if found_s <= 0:
        raise InvalidValue(safe_description(value), "it must be longer than zero")
    return found_s


def duration(key: str) -> Callable[[object], float]:
    """Return a parser for the durations of a key, within its `BOUNDS`."""
    least, most = BOUNDS[key]
    least_s, most_s = seconds(least), seconds(most)

    def read(value: object) -> float:
        found_s = seconds(value)
        if found_s < least_s:
            raise InvalidValue(safe_description(value), f'it must be "{least}" or more')
        if found_s > most_s:
            raise InvalidValue(safe_description(value), f'it must be "{most}" or less')
        return found_s

    return read


def format_duration(duration_s: float) -> str:
    """Return a duration as the file would write it."""
    unit = "ms" if duration_s < 1 else "s"
    return f"{duration_s / _SECONDS[unit]:g}{unit}"


def address(value: object) -> HostPort:
    """Parse HOST:PORT; HOST is an IP address, never a name that is resolved. `localhost` is 127.0.0.1."""
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[3]) <= 65535:
        raise InvalidValue(_described(value, "not an address"), _ADDRESS_HINT)
    host = "127.0.0.1" if match[2] == "localhost" else match[1] or match[2]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InvalidValue(_described(value, "not an address"), _ADDRESS_HINT) from None
    return HostPort(host, int(match[3]))


def command(value: object) -> tuple[str, ...]:
    """Parse a command into words; no shell runs it."""
    if not isinstance(value, str):
        raise InvalidValue(safe_description(value), _COMMAND_HINT)
    try:
        words = tuple(shlex.split(value))
    except ValueError:
        raise InvalidValue("quotes that do not match", _COMMAND_HINT) from None
    if not words or not words[0]:
        raise InvalidValue("an empty command", _COMMAND_HINT)
    if not value.isprintable():
        raise InvalidValue("a command with control characters", "leave them out")
    if Path(words[0]).name not in _SHELLS and any(_FOR_A_SHELL.match(word) for word in words):
        raise InvalidValue("a command for a shell, and there is none here", "put it into a script, or write sh -c '…'")
    return words


def amount(value: object) -> Decimal:
    """Parse an amount of money above zero. It must be a string, because a float is not exact."""
    if not isinstance(value, str):
        raise InvalidValue(safe_description(value), _AMOUNT_HINT)
    if _AMOUNT.fullmatch(value) is None:
        raise InvalidValue(_described(value, "not an amount"), _AMOUNT_HINT)
    parsed = Decimal(value)
    if not parsed:
        raise InvalidValue("zero", "it must be more than zero")
    return parsed


def currency(value: object) -> str:
    """Parse a currency code, spelt as the venues spell it."""
    if not isinstance(value, str):
        raise InvalidValue(safe_description(value), CURRENCY_HINT)
    if _CURRENCY.fullmatch(value) is None:
        raise InvalidValue(_described(value, "not a currency"), CURRENCY_HINT)
    return value


def wall_time(value: object) -> WallTime:
    """Parse `HH:MM ZONE`."""
    clock, _, where = value.strip().partition(" ") if isinstance(value, str) else ("", "", "")
    if _CLOCK.fullmatch(clock) is None or not where:
        raise InvalidValue(_described(value, "not a time of the day"), WALL_TIME_HINT)
    return WallTime(int(clock[:2]), int(clock[3:]), zone(where.strip()))


def absolute_path(value: object) -> Path:
    """Parse an absolute path; a path with control characters is refused, because it cannot be intended."""
    if not isinstance(value, str):
        raise InvalidValue(safe_description(value), 'expected an absolute path, such as "/run/kill-switch/flag/KILL"')
    if not value.startswith("/"):
        raise InvalidValue(_described(value, "not an absolute path"), 'it must begin with "/"')
    if not value.isprintable():
        raise InvalidValue("a path with control characters", "leave them out")
    return Path(value)


def cron(value: object) -> str:
    """Parse a cron expression of five fields, as crontab(5) defines it."""
    if not isinstance(value, str):
        raise InvalidValue(safe_description(value), _CRON_HINT)
    from kill_switch import cron  # imported here, because most configurations have no schedule

    try:
        cron.check(value)
    except cron.InvalidCron as misread:
        raise InvalidValue(misread.description, misread.hint or _CRON_HINT) from None
    return " ".join(value.split())


def zone(value: object) -> str:
    """Parse the name of a time zone."""
    if not isinstance(value, str):
        raise InvalidValue(safe_description(value), _ZONE_HINT)
    try:
        _ZONES[value] = zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        near = _nearest_zone(value)
        raise InvalidValue(
            _described(value, "not a time zone"), f'did you mean "{near}"?' if near else _ZONE_HINT
        ) from None
    return value


def _nearest_zone(word: str) -> str | None:
    """Return the zone that was probably meant: with a similar name, or with a similar city."""
    # because the signs of GMT zones are reversed
    zones = sorted(name for name in zoneinfo.available_timezones() if "GMT" not in name)
    meant = word.strip().replace(" ", "_").lower()
    for known in ({name.lower(): name for name in zones}, {name.lower().split("/")[-1]: name for name in zones}):
        if close := difflib.get_close_matches(meant, known, 1, 0.85):
            return known[close[0]]
    return None


def is_name(word: str) -> bool:
    """Return whether the word is a valid name of an account or a trigger."""
    return _NAME.fullmatch(word) is not None


def is_tag(word: str) -> bool:
    """Return whether the word is a valid tag."""
    return _TAG.fullmatch(word) is not None


def tag(value: object) -> str:
    """Parse a tag."""
    if not isinstance(value, str):
        raise InvalidValue(safe_description(value), "expected a string")
    if not is_tag(value):
        raise InvalidValue(
            _described(value, "not a tag"),
            'expected letters, digits, ".", "_", ":" and "-", a letter or digit first, 64 at most',
        )
    return value


def _described(value: object, fault: str) -> str:
    """Return the fault of a value, with the value itself unless that may be a secret."""
    return with_value(value, fault) if isinstance(value, str) else safe_description(value)
