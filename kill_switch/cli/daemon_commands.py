"""The commands that set up and run the daemon: `init`, `check`, `run`.

`check` and `run` load the whole configuration, secrets included. Only `init` writes a file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kill_switch.cli.common import config_option, json_option, load, print_json, say
from kill_switch.errors import CannotCreate, ConfigError, Problem

if TYPE_CHECKING:
    from kill_switch.config.loader import Config

MAX_WAIT_S = 600.0


@click.command()
@config_option
def run(config: Path | None) -> None:
    """Run the daemon in the foreground, until SIGTERM.

    \b
    Examples:
      kill-switch run
      kill-switch run -c ./config.toml
    """
    from kill_switch import logging_setup
    from kill_switch.daemon import process

    logging_setup.set_up()
    process.run(load(config))


@click.command()
@config_option
@json_option
@click.option("--connect", is_flag=True, help="Log in to every account, drill the order path, show the round trips.")
@click.option("--wait", "wait_s", default=15.0, show_default=True, help="Seconds to wait for the accounts (--connect).")
def check(config: Path | None, as_json: bool, connect: bool, wait_s: float) -> None:
    """Validate the configuration and the secrets; start nothing.

    All problems are reported at once. The next three times of every schedule, drill and reset are printed, in their
    zone and in UTC. A line behind each account names the orders out of a kill's reach. Also reported is everything
    that would keep `run` from starting on this machine: directories, sockets, ports, the group.

    With --connect, two more questions are answered. Is every account ready? Does every lane carry a harmless command
    within the budget? The running daemon's connections are used; without a daemon, this command opens its own. Exit
    code 1: an account is not ready, a lane failed, or the budget was exceeded.

    \b
    Examples:
      kill-switch check
      kill-switch check --connect
      kill-switch check --connect --wait 30 --json
    """
    from kill_switch.cli import schedules
    from kill_switch.daemon import preflight

    try:
        loaded = load(config)
        _usable(loaded)
    except ConfigError as error:
        if as_json:
            problems = [{"path": p.path, "found": p.description, "hint": p.hint} for p in error.problems]
            print_json({"ok": False, "source": error.source, "problems": problems})
            sys.exit(error.exit_code)
        raise
    accounts = {name: account.venue for name, account in loaded.accounts.items()}
    answer: dict[str, object] = {"ok": True, "source": str(loaded.source), "accounts": accounts}
    answer["not_covered"] = {n: a.adapter_class.not_covered(a.options) for n, a in loaded.accounts.items()}
    answer["triggers"] = {name: trigger.kind for name, trigger in loaded.triggers.items()}
    times = schedules.upcoming(loaded, datetime.now(UTC))
    answer["schedules"] = times
    answer["notes"] = notes = list(preflight.notes(loaded))
    if not as_json:
        _print_check(loaded, notes)
        schedules.show(times)
    if connect:
        from kill_switch import unexpected
        from kill_switch.cli import check_connect

        unexpected.be_brief()
        result = check_connect.check(loaded, min(max(0.0, wait_s), MAX_WAIT_S) if wait_s == wait_s else 0.0)
        answer.update(ok=result["ok"], connect=result)
        if not as_json:
            from kill_switch.terminal import report_views

            click.echo()
            report_views.print_check(result)
    if as_json:
        print_json(answer)
    sys.exit(0 if answer["ok"] else 1)


def _usable(loaded: Config) -> None:
    """Raise `ConfigError` for anything that would keep `run` from starting, and for URLs that apprise cannot use."""
    from kill_switch.daemon import preflight
    from kill_switch.worker import main

    hint = "expected one of apprise's: see its list of services"
    problems = [
        Problem(f"notify.urls[{number}]", "not understood by apprise", hint)
        for number, url in enumerate(loaded.notify.urls)
        if not main.is_supported_url(url.get_secret_value())
    ]
    problems += preflight.problems(loaded)
    if problems:
        raise ConfigError(str(loaded.source), problems)


def _print_check(loaded: Config, notes: Sequence[str]) -> None:
    say(f"{loaded.source}: good; {len(loaded.accounts)} account(s), {len(loaded.triggers)} trigger(s)")
    for name, account in loaded.accounts.items():
        say(f"  account {name}: {account.venue}" + (f", tags {', '.join(account.tags)}" if account.tags else ""))
        if not_covered := account.adapter_class.not_covered(account.options):
            say(f"    a kill does not reach: {'; '.join(not_covered)}")
    for name, trigger in loaded.triggers.items():
        say(f"  trigger {name}: {trigger.kind}, for {', '.join(trigger.accounts)}")
    for note in notes:
        say(f"  note: {note}")


@click.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Write a commented configuration to DIRECTORY/config.toml.

    An existing file is never changed. The next three steps are printed.

    \b
    Examples:
      kill-switch init
      kill-switch init /etc/kill-switch
    """
    from importlib.resources import files

    path = directory / "config.toml"
    text = files("kill_switch.config").joinpath("example.toml").read_text("utf-8")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CannotCreate(f"{path} exists; nothing was changed") from None
    except OSError as error:
        raise CannotCreate(f"{path}: {error.strerror}") from None
    click.echo(f"wrote {path}\n")
    click.echo("1. Edit the file: name your accounts and where their keys are.")
    click.echo(f"2. kill-switch check -c {path}")
    click.echo(f"3. kill-switch run -c {path}        (or as a service: docs/guides/systemd.md)")
