"""Offer the commands. What a command needs is imported when it runs, so that `fire` starts fast."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from kill_switch import __version__
from kill_switch.errors import CannotCreate, ConfigError, KillSwitchError, NotAllowed, Unreachable

if TYPE_CHECKING:
    from kill_switch.config import Config

EXIT_CODES = """
\b
Exit codes: 0 done, or armed · 1 something is left, refused or failed · 2 wrong usage · 3 tripped or firing
69 no daemon answers · 73 cannot create · 75 try again, or waits for the second person · 77 not allowed · 78 bad config
"""


class Commands(click.Group):
    """A group whose errors are one clear line and the documented exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KillSwitchError as error:
            click.echo(f"kill-switch: {error}" if not isinstance(error, ConfigError) else str(error), err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="kill-switch")
def main() -> None:
    """Cancel every resting order on every venue, at once, with proof, and stay tripped until a person re-arms."""


config_option = click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="Configuration; else $KILL_SWITCH_CONFIG, else /etc/kill-switch."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
scope_option = click.option("--scope", "scope", multiple=True, metavar="SEL", help="An account or a tag; repeatable.")


@main.command()
@config_option
def run(config: Path | None) -> None:
    """Run the daemon in the foreground, until SIGTERM."""
    from kill_switch import daemon, logs

    logs.set_up()
    daemon.run(_load(config))


@main.command()
@config_option
@json_option
def check(config: Path | None, as_json: bool) -> None:
    """Validate the configuration, all of it at once, secrets included; nothing is started."""
    try:
        loaded = _load(config)
    except ConfigError as error:
        if as_json:
            problems = [{"path": p.path, "found": p.found, "hint": p.hint} for p in error.problems]
            _print_json({"ok": False, "source": error.source, "problems": problems})
            sys.exit(error.exit_code)
        raise
    if as_json:
        accounts = {name: account.venue for name, account in loaded.accounts.items()}
        triggers = {name: trigger.kind for name, trigger in loaded.triggers.items()}
        _print_json({"ok": True, "source": str(loaded.source), "accounts": accounts, "triggers": triggers})
        return
    click.echo(f"{loaded.source}: good; {len(loaded.accounts)} account(s), {len(loaded.triggers)} trigger(s)")
    for name, account in loaded.accounts.items():
        click.echo(f"  account {name}: {account.venue}" + (f", tags {', '.join(account.tags)}" if account.tags else ""))
    for name, trigger in loaded.triggers.items():
        click.echo(f"  trigger {name}: {trigger.kind}, for {', '.join(trigger.accounts)}")


@main.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Redraw twice a second, until interrupted.")
def status(config: Path | None, as_json: bool, watch: bool) -> None:
    """Show what is armed, warm, tripped, blind. Exit code 0: armed; 3: tripped or firing; 69: no daemon."""
    if watch and not as_json:
        from kill_switch import views

        views.watch_status(lambda: _ask(config, {"cmd": "status"}))
        return
    answer = _ask(config, {"cmd": "status"})
    if as_json:
        _print_json(answer)
    else:
        from kill_switch import views

        views.print_status(answer)
    sys.exit(0 if answer["state"] == "ARMED" else 3)


@main.command()
@config_option
@json_option
@scope_option
@click.option("--reason", required=True, help="Why; it goes into the record.")
@click.option("--wait", "wait_s", default=10.0, show_default=True, help="Seconds to wait for the proof; 0: do not.")
@click.option("--direct", is_flag=True, help="Kill from this process, without the daemon.")
@click.option("--dry-run", is_flag=True, help="Only list what would be hit.")
def fire(
    config: Path | None, reason: str, scope: Sequence[str], wait_s: float, direct: bool, dry_run: bool, as_json: bool
) -> None:
    """Kill: cancel every order in scope, prove it, stay tripped.

    \b
    kill-switch fire --reason "runaway quoter"
    kill-switch fire --reason "desk closed" --scope desk:mm --wait 30
    """
    if direct:
        report = _fire_directly(config, reason, scope, wait_s, dry_run)
    else:
        request = {"cmd": "fire", "reason": reason, "scope": list(scope), "wait_s": wait_s, "dry_run": dry_run}
        try:
            report = _ask(config, request, timeout_s=wait_s + 10)
        except Unreachable as error:
            raise Unreachable(f"{error}\nTo kill without the daemon: kill-switch fire --direct --reason …") from None
    _show(report, as_json, dry_run)
    if not dry_run:
        verdicts = [report["accounts"][name] for name in report["accounts"]]
        sys.exit(0 if all(v["state"] == "CLEAR" for v in verdicts) else 1)


@main.command()
@config_option
@json_option
@scope_option
@click.option("--reason", required=True, help="Why it is safe to trade again; it goes into the record.")
@click.option("--force", is_flag=True, help="Also accounts in RESIDUE: what is left there is now your business.")
def rearm(config: Path | None, reason: str, scope: Sequence[str], force: bool, as_json: bool) -> None:
    """Arm again what is tripped and proven clear; if the gate does not hold, say every reason why not."""
    answer = _ask(config, {"cmd": "rearm", "reason": reason, "scope": list(scope), "force": force}, fail=False)
    if as_json:
        _print_json(answer)
    elif "error" in answer:
        click.echo("not re-armed:" if "why" in answer else answer["error"], err=True)
        for why in answer.get("why", ()):
            click.echo(f"  - {why}", err=True)
    else:
        click.echo(f"re-armed: {', '.join(answer['rearmed'])}")
    sys.exit(answer.get("exit", 0))


@main.command()
@config_option
@json_option
@click.argument("kill", default="last")
def report(config: Path | None, kill: str, as_json: bool) -> None:
    """Show what a kill did: the last one, or the one of that id. Reads the journal; no daemon is needed."""
    from kill_switch import journal, views
    from kill_switch.report import Reports

    loaded_budget_us, state_dir = _record_of(config)
    try:
        replay = journal.read(state_dir / journal.NAME)
    except OSError as error:
        raise NotAllowed(f"{state_dir / journal.NAME}: {error.strerror}") from None
    reports = Reports(loaded_budget_us, replay.entries)
    found = reports.get(kill)
    if found is None:
        known = ", ".join(reports.ids()[-5:]) or "none at all"
        raise KillSwitchError(f"there is no kill {kill!r} on record; the latest: {known}")
    if as_json:
        _print_json(found)
    else:
        views.print_report(found)


@main.command()
@config_option
@json_option
@click.option("--verify", is_flag=True, help="Check every number, hash and link; exit code 1 if one does not hold.")
@click.option("--follow", is_flag=True, help="Go on with what comes.")
def journal(config: Path | None, verify: bool, follow: bool, as_json: bool) -> None:
    """Show the audit record."""
    from kill_switch import journal as record
    from kill_switch import views

    path = _record_of(config)[1] / record.NAME
    try:
        if follow:
            views.follow_journal(path, as_json)
            return
        replay = record.read(path)
    except OSError as error:
        raise NotAllowed(f"{path}: {error.strerror}") from None
    if verify:
        _print_verification(path, replay, as_json)
        return
    if as_json:
        _print_json({"entries": replay.entries, "broken": str(replay.broken) if replay.broken else None})
    else:
        for entry in replay.entries:
            click.echo(views.entry_line(entry))
    if replay.broken:
        raise replay.broken


@main.command()
@config_option
@click.argument("name")
@click.option("--every", "every", metavar="DURATION", help="Go on, a beat every DURATION (250ms, 1s), until stopped.")
@click.option("--bye", is_flag=True, help="Say an orderly goodbye instead of a beat.")
def beat(config: Path | None, name: str, every: str | None, bye: bool) -> None:
    """Send the heartbeat that a trigger of that NAME waits for.

    \b
    kill-switch beat quoter-alive
    kill-switch beat quoter-alive --every 1s
    """
    from kill_switch import beats, config as configuration
    from kill_switch.config.units import seconds

    try:
        period_s = seconds(every) if every else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--every") from None
    beats.send(configuration.runtime_dir(config) / "intake.sock", name, period_s, bye=bye)


@main.command()
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


@main.command()
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


@main.command()
@json_option
@click.option("--orders", default=50, show_default=True, help="Resting orders at each venue.")
def demo(as_json: bool, orders: int) -> None:
    """Show it all on this machine: simulators, daemon, resting orders, a quoting bot, the flag, the kill, the proof."""
    _simulators()
    from kill_switch import demo as show

    sys.exit(show.run(as_json=as_json, orders=orders))


@main.command()
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


# ── shared ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _load(path: Path | None) -> Config:
    from kill_switch import config

    return config.load(path)


def _ask(path: Path | None, request: Mapping[str, object], *, timeout_s: float = 10.0, fail: bool = True) -> Any:
    """Ask the daemon; end with its exit code if it says no."""
    from kill_switch import client, config

    answer = client.ask(config.runtime_dir(path) / "control.sock", request, timeout_s)
    if fail and "error" in answer:
        click.echo(f"kill-switch: {answer['error']}", err=True)
        sys.exit(answer.get("exit", 1))
    return answer


def _fire_directly(path: Path | None, reason: str, scope: Sequence[str], wait_s: float, dry_run: bool) -> Any:
    import os

    import anyio

    from kill_switch import direct, logs

    logs.set_up()
    loaded = _load(path)
    try:
        accounts = loaded.select(scope)
    except ValueError as error:
        raise KillSwitchError(str(error)) from None
    if dry_run:
        return {"dry_run": True, "accounts": {name: {"venue": loaded.accounts[name].venue} for name in accounts}}
    evidence = {"uid": os.getuid(), "pid": os.getpid()}
    return anyio.run(direct.fire, loaded, reason, accounts, wait_s, evidence)


def _show(report: Mapping[str, Any], as_json: bool, dry_run: bool) -> None:
    if as_json:
        _print_json(report)
        return
    from kill_switch import views

    if dry_run:
        views.print_dry_run(report)
    else:
        views.print_report(report)


def _record_of(path: Path | None) -> tuple[int, Path]:
    """Return the budget in microseconds and the state directory: reading the record needs no secret."""
    from kill_switch import config

    daemon = config.daemon_keys(path, "state_dir", "budget")
    return int(daemon.budget_s * 1e6), daemon.state_dir


def _print_verification(path: Path, replay: Any, as_json: bool) -> NoReturn:
    broken, torn = replay.broken, len(replay.torn)
    if as_json:
        why = None if broken is None else {"line": broken.line, "why": broken.why}
        _print_json({"path": str(path), "records": len(replay.entries), "torn_bytes": torn, "broken": why})
    elif broken is not None:
        click.echo(f"{path}: BROKEN at line {broken.line}: {broken.why}; {len(replay.entries)} records before it hold")
    else:
        click.echo(f"{path}: {len(replay.entries)} records, every number, hash and link holds")
        if torn:
            click.echo(f"  {torn} bytes after the last record: a write that was cut off; the next start notes it")
    sys.exit(0 if broken is None else 1)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, default=str))


def _simulators() -> Any:
    try:
        from kill_switch import sim
        from kill_switch.sim import main as simulators
    except ImportError as error:
        raise KillSwitchError(f"the simulators need the extra `sim`: pip install 'kill-switch[sim]' ({error})") from None
    del sim
    return simulators
