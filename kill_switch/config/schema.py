"""Define the tables of the configuration file; a field's description says what would be right for its key.

A new kind of trigger is a model here and a line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr

from kill_switch.config import parsers
from kill_switch.config.defaults import RUNTIME_DIR, STATE_DIR
from kill_switch.system.host_port import HostPort

Budget = Annotated[float, PlainValidator(parsers.duration("budget"))]
HedgeAfter = Annotated[float, PlainValidator(parsers.duration("hedge_after"))]
BeatTimeout = Annotated[float, PlainValidator(parsers.duration("heartbeat.timeout"))]
LinkTimeout = Annotated[float, PlainValidator(parsers.duration("link.timeout"))]
StaleAfter = Annotated[float, PlainValidator(parsers.duration("stale_after"))]
Window = Annotated[float, PlainValidator(parsers.duration("window"))]
HookTimeout = Annotated[float, PlainValidator(parsers.duration("hooks.timeout"))]
PingEvery = Annotated[float, PlainValidator(parsers.duration("ping.every"))]
AbsolutePath = Annotated[Path, PlainValidator(parsers.absolute)]
Tag = Annotated[str, PlainValidator(parsers.tag)]
Amount = Annotated[Decimal, PlainValidator(parsers.amount)]
Currency = Annotated[str, PlainValidator(parsers.currency)]
Command = Annotated[tuple[str, ...], PlainValidator(parsers.command)]

_DURATION = 'expected a duration with its unit, such as "3s"'
_COMMANDS = 'expected an array of commands, such as ["systemctl stop quoter.service"]'
_COUNT = "expected a whole number, 1 or more"
_RATES = 'expected a table such as { EUR = "1.08" }: what one unit is worth in `currency`'
_ON_BLIND = "one of: alarm, fire"
_WARN_AT = "expected per cents of a limit, such as [50, 75, 90]"
_GROUP = "expected the name of a unix group"
_SELECTORS = "expected an array with at least one account or tag; leave the key out for all accounts"


class Table(BaseModel):
    """A table that knows its keys and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Daemon(Table):
    """What concerns the process as a whole."""

    budget_s: Budget = Field(default=0.25, alias="budget")  # reason observed → every account has answered
    hedge_after_s: HedgeAfter = Field(
        default=0.06, alias="hedge_after"
    )  # no answer by then: the second route goes out too; `second_route_after` is its other name
    state_dir: AbsolutePath = Path(STATE_DIR)  # the journal; else $STATE_DIRECTORY, where systemd sets it
    runtime_dir: AbsolutePath = Path(RUNTIME_DIR)  # the sockets; else $RUNTIME_DIRECTORY
    start: Literal["armed", "tripped"] = "armed"  # with an empty state_dir
    ready: Literal["all", "degraded"] = "all"  # READY to systemd: once every account is ready, or once we listen
    group: str | None = Field(default=None, description=_GROUP)  # may use the sockets; else our own group
    metrics: Annotated[HostPort | None, PlainValidator(parsers.loopback)] = None  # for Prometheus


class Common(Table):
    """What every account may say, whatever its venue."""

    tags: tuple[Tag, ...] = Field(default=(), description='expected an array of strings, such as ["desk:mm"]')


class Trigger(Table):
    """What every trigger says; `accounts` holds names once the file is loaded."""

    kind: str
    accounts: tuple[str, ...] = Field(default=(), min_length=1, description=_SELECTORS)
    on_blind: Literal["alarm", "fire"] = "alarm"  # what it does, besides saying so, when it cannot see its input


class Flag(Trigger):
    """Fire when a file exists."""

    kind: Literal["flag"]
    path: AbsolutePath = Field(description='expected an absolute path, such as "/run/kill-switch/flag/KILL"')


class Heartbeat(Trigger):
    """Fire when a beat has not come for too long."""

    kind: Literal["heartbeat"]
    timeout_s: BeatTimeout = Field(alias="timeout", description=_DURATION)
    start: Literal["first-beat", "boot"] = "first-beat"  # what the first timeout counts from
    allow_bye: bool = Field(
        default=False, description="expected true or false"
    )  # a strategy may say that it stops on purpose


class Schedule(Trigger):
    """Fire at a wall time."""

    kind: Literal["schedule"]
    cron: Annotated[str, PlainValidator(parsers.cron)]  # when, as in crontab(5)
    timezone: Annotated[str, PlainValidator(parsers.zone)]  # of those times
    missed: Literal["fire", "skip"] = "fire"  # a time that has passed while the daemon was down


class Link(Trigger):
    """Fire when all lanes of an account are down for too long."""

    kind: Literal["link"]
    timeout_s: LinkTimeout = Field(alias="timeout", description=_DURATION)


class Pnl(Trigger):
    """Fire when the equity of its accounts, together, has fallen too far."""

    kind: Literal["pnl"]
    currency: Currency = Field(description=parsers.CURRENCY_HINT)
    rates: Mapping[Currency, Amount] = Field(default={}, description=_RATES)  # what one unit of another one is worth
    max_loss: Amount | None = None  # from the baseline at the reset
    max_drawdown: Amount | None = None  # from the peak since the reset
    floor: Amount | None = None  # equity must not fall to it
    reset: Annotated[parsers.WallTime, PlainValidator(parsers.wall_time)] = Field(description=parsers.WALL_TIME_HINT)
    confirm: int = Field(default=2, ge=1, le=100, description="expected a whole number of samples from 1 to 100")
    stale_after_s: StaleAfter = Field(default=30.0, alias="stale_after", description=_DURATION)
    on_blind: Literal["alarm", "fire"] = Field(description=_ON_BLIND)  # who watches money says what happens without it
    warn_at: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(default=(), description=_WARN_AT)
    source: Literal["accounts", "intake"] = "accounts"


class OrderRate(Trigger):
    """Fire when an algorithm runs away: too many new orders, or too many open ones, within a window."""

    kind: Literal["order-rate"]
    max_new: int | None = Field(default=None, ge=1, description=_COUNT)  # of each account, within the window
    max_open: int | None = Field(default=None, ge=1, description=_COUNT)  # of each account, all through the window
    window_s: Window = Field(default=10.0, alias="window", description=_DURATION)


AnyTrigger = Flag | Heartbeat | Schedule | Link | Pnl | OrderRate
KINDS: Mapping[str, type[AnyTrigger]] = {
    "flag": Flag,
    "heartbeat": Heartbeat,
    "schedule": Schedule,
    "link": Link,
    "pnl": Pnl,
    "order-rate": OrderRate,
}


class Intake(Table):
    """Where beats come in besides RUNTIME_DIR/intake.sock."""

    udp: Annotated[HostPort | None, PlainValidator(parsers.address)] = None  # HOST:PORT
    key: SecretStr | None = None  # of the senders' signatures; must be given beyond loopback


class Rearm(Table):
    """What a re-arm takes."""

    approvals: int = Field(default=1, ge=1, le=5, description="expected a whole number from 1 to 5")


class Drill(Table):
    """When harmless commands go through the order path of every lane by themselves."""

    cron: Annotated[str | None, PlainValidator(parsers.cron)] = None  # when, as in crontab(5); without it, never
    timezone: Annotated[str, PlainValidator(parsers.zone)] = "UTC"  # of those times


class Hooks(Table):
    """What else is done, beside the strike."""

    on_trip: tuple[Command, ...] = Field(default=(), description=_COMMANDS)
    timeout_s: HookTimeout = Field(default=10.0, alias="timeout", description=_DURATION)


class Ping(Table):
    """The outer dead man's switch: a monitor elsewhere that is called only while we could fire."""

    url: SecretStr | None = None  # whoever knows it can keep the monitor quiet
    every_s: PingEvery = Field(default=60.0, alias="every", description=_DURATION)


class Notify(Table):
    """Who is told."""

    urls: tuple[SecretStr, ...] = ()  # apprise's; they hold tokens
    command: Command | None = None  # gets the message on standard input


def directories(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the directories that systemd made for us; it may list several, of which the first is ours."""
    names = {"state_dir": "STATE_DIRECTORY", "runtime_dir": "RUNTIME_DIRECTORY"}
    return {key: first for key, name in names.items() if (first := environ.get(name, "").split(":")[0])}
