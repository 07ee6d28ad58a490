"""Offer what sets the daemon up: init, check, run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kill_switch.cli.common import config_option, json_option, load, print_json
from kill_switch.errors import CannotCreate, ConfigError


@click.command()
@config_option
def run(config: Path | None) -> None:
    """Run the daemon in the foreground, until SIGTERM."""
    from kill_switch import daemon, logs

    logs.set_up()
    daemon.run(load(config))


@click.command()
@config_option
@json_option
def check(config: Path | None, as_json: bool) -> None:
    """Validate the configuration, all of it at once, secrets included; nothing is started."""
    try:
        loaded = load(config)
    except ConfigError as error:
        if as_json:
            problems = [{"path": p.path, "found": p.found, "hint": p.hint} for p in error.problems]
            print_json({"ok": False, "source": error.source, "problems": problems})
            sys.exit(error.exit_code)
        raise
    if as_json:
        accounts = {name: account.venue for name, account in loaded.accounts.items()}
        triggers = {name: trigger.kind for name, trigger in loaded.triggers.items()}
        print_json({"ok": True, "source": str(loaded.source), "accounts": accounts, "triggers": triggers})
        return
    click.echo(f"{loaded.source}: good; {len(loaded.accounts)} account(s), {len(loaded.triggers)} trigger(s)")
    for name, account in loaded.accounts.items():
        click.echo(f"  account {name}: {account.venue}" + (f", tags {', '.join(account.tags)}" if account.tags else ""))
    for name, trigger in loaded.triggers.items():
        click.echo(f"  trigger {name}: {trigger.kind}, for {', '.join(trigger.accounts)}")


@click.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Write a commented configuration to DIRECTORY/config.toml and say the next three steps."""
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
    click.echo("1. Name your accounts and where their keys are: edit the file.")
    click.echo(f"2. kill-switch check -c {path}")
    click.echo(f"3. kill-switch run -c {path}        (or as a service: systemd/README.md)")
