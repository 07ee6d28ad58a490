"""Share what several commands need: options, the way to the daemon, one form of output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kill_switch.config import Config

config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration; else $KILL_SWITCH_CONFIG, else /etc/kill-switch/config.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
scope_option = click.option("--scope", "scope", multiple=True, metavar="SEL", help="An account or a tag; repeatable.")


def load(path: Path | None) -> Config:
    from kill_switch import config

    return config.load(path)


def ask(path: Path | None, request: Mapping[str, object], *, timeout_s: float = 10.0, fail: bool = True) -> Any:
    """Ask the daemon; end with its exit code if it says no."""
    from kill_switch import client, config

    answer = client.ask(config.runtime_dir(path) / "control.sock", request, timeout_s)
    if fail and "error" in answer:
        click.echo(f"kill-switch: {answer['error']}", err=True)
        sys.exit(answer.get("exit", 1))
    return answer


def print_json(value: object) -> None:
    click.echo(json.dumps(value, default=str))
