"""Offer what needs no venue: simulators, the demo, the benchmark."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import click

from kill_switch.cli.common import json_option
from kill_switch.errors import KillSwitchError


@click.command()
@click.option("--venue", "venues", multiple=True, required=True, help="A venue to simulate; repeatable.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--tls-dir", type=click.Path(path_type=Path), help="Where the throw-away CA goes; default: temporary.")
@click.option("--accounts", default=1, show_default=True, help="Accounts at each venue.")
@click.option("--option", "options", multiple=True, metavar="VENUE.KEY=VALUE", help="A switch of a simulator.")
def sim(venues: Sequence[str], host: str, tls_dir: Path | None, accounts: int, options: Sequence[str]) -> None:
    """Simulate venues on this machine, over real TLS, with an admin API for orders and faults.

    \b
    kill-switch sim --venue oxfun --venue roxom
    kill-switch sim --venue roxom --option roxom.auth=api-key
    """
    simulators = _simulators()
    try:
        switches = simulators.read_options(options)
        sys.exit(simulators.run(venues, host=host, tls_dir=tls_dir, accounts=accounts, options=switches))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@click.command()
@json_option
@click.option("--orders", default=50, show_default=True, help="Resting orders at each venue.")
def demo(as_json: bool, orders: int) -> None:
    """Show it all on this machine: simulators, daemon, resting orders, a quoting bot, the flag, the kill, the proof."""
    _simulators()
    from kill_switch import demo as show

    sys.exit(show.run(as_json=as_json, orders=orders))


@click.command()
@json_option
@click.option("--accounts", default="1,4,16", show_default=True, help="Sizes to measure.")
@click.option("--rounds", default=30, show_default=True, help="Kills a size; the median counts.")
def bench(as_json: bool, accounts: str, rounds: int) -> None:
    """Measure the kill on this machine, against the least that sockets can do, in one run."""
    _simulators()
    from kill_switch import bench as measure

    try:
        sizes = tuple(int(size) for size in accounts.split(","))
    except ValueError:
        raise click.BadParameter(f"{accounts!r} is not a list of numbers", param_hint="--accounts") from None
    sys.exit(measure.run(sizes, rounds, as_json=as_json))


def _simulators() -> ModuleType:
    try:
        from kill_switch.sim import main as simulators
    except ImportError as error:
        raise KillSwitchError(f"the simulators need the extra: pip install 'kill-switch[sim]' ({error})") from None
    return simulators
