"""Define the tables of the configuration file; a field's description says what would be right for its key.

A new kind of trigger is a model here and a line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SecretStr

from kill_switch.config import units

Duration = Annotated[float, PlainValidator(units.seconds)]
AbsolutePath = Annotated[Path, PlainValidator(units.absolute)]
Tag = Annotated[str, PlainValidator(units.tag)]

_DURATION = 'expected a duration with its unit, such as "3s"'
_GROUP = "expected the name of a unix group"
_SELECTORS = "expected an array with at least one account or tag; leave the key out for all accounts"


class Table(BaseModel):
    """A table that knows its keys and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Daemon(Table):
    """What concerns the process as a whole."""

    budget_s: Duration = Field(default=0.25, alias="budget")  # reason observed → every account has answered
    hedge_after_s: Duration = Field(
        default=0.06, alias="hedge_after"
    )  # no answer by then: the second route goes out too
    state_dir: AbsolutePath = Path("/var/lib/kill-switch")
    runtime_dir: AbsolutePath = Path("/run/kill-switch")
    start: Literal["armed", "tripped"] = "armed"  # with an empty state_dir
    ready: Literal["all", "degraded"] = "all"  # READY to systemd: once every account is ready, or once we listen
    group: str | None = Field(default=None, description=_GROUP)  # may use the sockets; None: the daemon's own group


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
    timeout_s: Duration = Field(alias="timeout", description=_DURATION)
    start: Literal["first-beat", "boot"] = "first-beat"  # what the first timeout counts from
    allow_bye: bool = Field(
        default=False, description="expected true or false"
    )  # a strategy may say that it stops on purpose


class Schedule(Trigger):
    """Fire at a wall time."""

    kind: Literal["schedule"]
    cron: Annotated[str, PlainValidator(units.cron)]
    timezone: Annotated[str, PlainValidator(units.zone)]
    missed: Literal["fire", "skip"] = "fire"  # a time that has passed while the daemon was down


class Link(Trigger):
    """Fire when all lanes of an account are down for too long."""

    kind: Literal["link"]
    timeout_s: Duration = Field(alias="timeout", description=_DURATION)


AnyTrigger = Flag | Heartbeat | Schedule | Link
KINDS: Mapping[str, type[AnyTrigger]] = {"flag": Flag, "heartbeat": Heartbeat, "schedule": Schedule, "link": Link}


class Intake(Table):
    """Where beats come in besides RUNTIME_DIR/intake.sock."""

    udp: Annotated[units.Address | None, PlainValidator(units.address)] = None
    key: SecretStr | None = None


class Rearm(Table):
    """What a re-arm takes."""

    approvals: int = Field(default=1, ge=1, le=5, description="expected a whole number from 1 to 5")


def directories(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the directories that systemd made for us; it may list several, of which the first is ours."""
    names = {"state_dir": "STATE_DIRECTORY", "runtime_dir": "RUNTIME_DIRECTORY"}
    return {key: first for key, name in names.items() if (first := environ.get(name, "").split(":")[0])}
