"""The tables of the configuration file as pydantic models; a field's description is the hint for its key.

The loader validates the tables with these models. A new kind of trigger is a model here and an entry in `KINDS`. Values
are parsed in `config.parsers`, never here.
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
SilenceMax = Annotated[float, PlainValidator(parsers.duration("silence.max"))]
PingEvery = Annotated[float, PlainValidator(parsers.duration("ping.every"))]
AbsolutePath = Annotated[Path, PlainValidator(parsers.absolute_path)]
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


class ConfigTable(BaseModel):
    """A table with known keys; it cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DaemonConfig(ConfigTable):
    """The table [daemon]: settings of the process as a whole."""

    budget_s: Budget = Field(default=0.25, alias="budget")  # from a reason until every account has answered
    second_route_after_s: HedgeAfter = Field(
        default=0.06, alias="hedge_after"
    )  # time without an answer until the second route sends too; `second_route_after` is its other name
    state_dir: AbsolutePath = Path(STATE_DIR)  # the journal; default: $STATE_DIRECTORY, else this
    runtime_dir: AbsolutePath = Path(RUNTIME_DIR)  # the sockets; default: $RUNTIME_DIRECTORY, else this
    start: Literal["armed", "tripped"] = "armed"  # the accounts' state with an empty state_dir
    ready: Literal["all", "degraded"] = "all"  # READY is sent when all accounts are ready, or once triggers run
    group: str | None = Field(default=None, description=_GROUP)  # may use the sockets; default: the daemon's own group
    metrics: Annotated[HostPort | None, PlainValidator(parsers.address)] = None  # address for Prometheus and probes
    metrics_token_file: AbsolutePath | None = None  # file of the bearer token; required beyond loopback
    metrics_cert_file: AbsolutePath | None = None  # PEM file of the certificate for TLS, and those between
    metrics_key_file: AbsolutePath | None = None  # PEM file of the certificate's key
    metrics_plain: bool = Field(
        default=False, description="expected true or false"
    )  # plain HTTP, without a token, on a private address (RFC 1918, RFC 4193, link-local)
    log: Literal["text", "json"] = "text"  # form of the lines on standard error
    log_level: Literal["debug", "info", "warning", "error"] = "info"  # lines of lower levels are not written


class CommonConfig(ConfigTable):
    """The keys that every account has, whatever its venue."""

    tags: tuple[Tag, ...] = Field(default=(), description='expected an array of strings, such as ["desk:mm"]')


class TriggerConfig(ConfigTable):
    """The keys that every trigger has; `accounts` holds names once the file is loaded."""

    kind: str
    accounts: tuple[str, ...] = Field(default=(), min_length=1, description=_SELECTORS)
    on_blind: Literal["alarm", "fire"] = "alarm"  # blind (no usable input): notify only, or fire too


class FlagConfig(TriggerConfig):
    """Fire when a file exists."""

    kind: Literal["flag"]
    path: AbsolutePath = Field(description='expected an absolute path, such as "/run/kill-switch/flag/KILL"')


class HeartbeatConfig(TriggerConfig):
    """Fire when no beat has come for too long."""

    kind: Literal["heartbeat"]
    timeout_s: BeatTimeout = Field(alias="timeout", description=_DURATION)
    start: Literal["first-beat", "boot"] = "first-beat"  # the first timeout counts from here
    allow_bye: bool = Field(
        default=False, description="expected true or false"
    )  # a strategy may announce that it stops on purpose


class ScheduleConfig(TriggerConfig):
    """Fire at a time of the wall clock."""

    kind: Literal["schedule"]
    cron: Annotated[str, PlainValidator(parsers.cron)]  # as in crontab(5)
    timezone: Annotated[str, PlainValidator(parsers.zone)]  # zone of cron
    missed: Literal["fire", "skip"] = "fire"  # for a time that passed while the daemon was down


class LinkConfig(TriggerConfig):
    """Fire when all lanes of an account are down for too long."""

    kind: Literal["link"]
    timeout_s: LinkTimeout = Field(alias="timeout", description=_DURATION)


class PnlConfig(TriggerConfig):
    """Fire when the equity of the trigger's accounts together has fallen too far."""

    kind: Literal["pnl"]
    currency: Currency = Field(description=parsers.CURRENCY_HINT)
    rates: Mapping[Currency, Amount] = Field(default={}, description=_RATES)  # worth of one unit of another currency
    max_loss: Amount | None = None  # loss from the baseline at the reset
    max_drawdown: Amount | None = None  # loss from the peak since the reset
    floor: Amount | None = None  # it fires at this equity or below
    reset: Annotated[parsers.WallTime, PlainValidator(parsers.wall_time)] = Field(description=parsers.WALL_TIME_HINT)
    confirm: int = Field(default=2, ge=1, le=100, description="expected a whole number of samples from 1 to 100")
    stale_after_s: StaleAfter = Field(default=30.0, alias="stale_after", description=_DURATION)
    on_blind: Literal["alarm", "fire"] = Field(description=_ON_BLIND)  # no default: decide what missing figures mean
    warn_at: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(default=(), description=_WARN_AT)
    source: Literal["accounts", "intake"] = "accounts"


class OrderRateConfig(TriggerConfig):
    """Fire when there are too many new orders, or too many open ones, within a window."""

    kind: Literal["order-rate"]
    max_new: int | None = Field(default=None, ge=1, description=_COUNT)  # for each account, within the window
    max_open: int | None = Field(default=None, ge=1, description=_COUNT)  # for each account, during the whole window
    window_s: Window = Field(default=10.0, alias="window", description=_DURATION)


AnyTrigger = FlagConfig | HeartbeatConfig | ScheduleConfig | LinkConfig | PnlConfig | OrderRateConfig
KINDS: Mapping[str, type[AnyTrigger]] = {
    "flag": FlagConfig,
    "heartbeat": HeartbeatConfig,
    "schedule": ScheduleConfig,
    "link": LinkConfig,
    "pnl": PnlConfig,
    "order-rate": OrderRateConfig,
}


class IntakeConfig(ConfigTable):
    """The table [intake]: heartbeats over UDP, besides RUNTIME_DIR/intake.sock."""

    udp: Annotated[HostPort | None, PlainValidator(parsers.address)] = None  # HOST:PORT
    key: SecretStr | None = None  # key of the senders' signatures; required beyond loopback


class RearmConfig(ConfigTable):
    """The table [rearm]: what a re-arm requires."""

    approvals: int = Field(default=1, ge=1, le=5, description="expected a whole number from 1 to 5")


class SilenceConfig(ConfigTable):
    """The table [silence]: how long a person may hold back a trigger's reasons for planned work."""

    max_s: SilenceMax = Field(default=4 * 3600.0, alias="max", description=_DURATION)


class DrillConfig(ConfigTable):
    """The table [drill]: when every lane is drilled without a request."""

    cron: Annotated[str | None, PlainValidator(parsers.cron)] = None  # as in crontab(5); without it, none is scheduled
    timezone: Annotated[str, PlainValidator(parsers.zone)] = "UTC"  # zone of cron


class HooksConfig(ConfigTable):
    """The table [hooks]: commands that are run when an account trips."""

    on_trip: tuple[Command, ...] = Field(default=(), description=_COMMANDS)
    timeout_s: HookTimeout = Field(default=10.0, alias="timeout", description=_DURATION)


class PingConfig(ConfigTable):
    """The table [ping]: an outer dead man's switch.

    The monitor, elsewhere, is called only while the daemon could fire.
    """

    url: SecretStr | None = None  # secret: everyone who knows it can silence the monitor
    every_s: PingEvery = Field(default=60.0, alias="every", description=_DURATION)


class NotifyConfig(ConfigTable):
    """The table [notify]: the channels of notifications."""

    urls: tuple[SecretStr, ...] = ()  # apprise's URLs; they hold tokens
    command: Command | None = None  # gets each message on standard input
