"""The commands that set up and run the daemon: `init`, `check`, `run`.

`check` and `run` load the whole configuration, secrets included. Only `init` writes a file.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kill_switch.cli.common import Seconds, config_option, json_option, load, print_json, say
from kill_switch.errors import CannotCreate, ConfigError, Problem

if TYPE_CHECKING:
    from kill_switch.config.loader import Config
    from kill_switch.venues.adapter import Adapter

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
    loaded = load(config)
    logging_setup.configure(loaded.daemon.log, loaded.daemon.log_level)
    process.run(loaded)


@click.command()
@config_option
@json_option
@click.option("--connect", is_flag=True, help="Log in to every account, drill the order path, show the round trips.")
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(),
    default=15.0,
    show_default=True,
    help="Seconds to wait for the accounts (--connect).",
)
@click.option("--explain", is_flag=True, help="With --connect: also say what each column and word means.")
def check(config: Path | None, as_json: bool, connect: bool, wait_s: float, explain: bool) -> None:
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
        try:
            loaded = load(config)
        except ConfigError as error:
            raise _with_directories(error, config) from None
        _usable(loaded)
    except ConfigError as error:
        if as_json:
            problems = [{"path": p.path, "found": p.description, "hint": p.hint, "at": p.place} for p in error.problems]
            print_json({"ok": False, "source": error.source, "problems": problems})
            sys.exit(error.exit_code)
        raise
    accounts = {name: account.venue for name, account in loaded.accounts.items()}
    answer: dict[str, object] = {"ok": True, "source": str(loaded.source), "accounts": accounts}
    answer["environments"] = {name: account.options.environment for name, account in loaded.accounts.items()}
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
        result = check_connect.check(loaded, min(wait_s, MAX_WAIT_S))
        answer.update(ok=result["ok"], connect=result)
        if not as_json:
            from kill_switch.terminal import report_views

            click.echo()
            report_views.print_check(result)
            if explain:
                from kill_switch.terminal import explain as words

                words.print_explanation(words.DRILL_COLUMNS, words.DRILL_WORDS)
    if as_json:
        print_json(answer)
    sys.exit(0 if answer["ok"] else 1)


def _usable(loaded: Config) -> None:
    """Raise `ConfigError` for anything that would keep `run` from starting, and for URLs that apprise cannot use."""
    from kill_switch.config.toml_lines import located
    from kill_switch.daemon import preflight
    from kill_switch.worker import main

    hint = "expected one of apprise's: see its list of services"
    problems = [
        Problem(f"notify.urls[{number}]", "not understood by apprise", hint)
        for number, url in enumerate(loaded.notify.urls)
        if not main.is_supported_url(url.get_secret_value())
    ]
    problems += preflight.problems(loaded.daemon)
    if problems:
        raise ConfigError(str(loaded.source), located(loaded.files, problems))


def _with_directories(error: ConfigError, path: Path | None) -> ConfigError:
    """Return the error with the problems of the daemon's directories, if these are known."""
    from kill_switch.config import loader
    from kill_switch.config.toml_lines import located
    from kill_switch.daemon import preflight

    try:
        daemon = loader.daemon_keys(path, "state_dir", "runtime_dir", as_daemon=True)
    except ConfigError:
        return error
    source = Path(error.source)
    return ConfigError(error.source, located([source], [*error.problems, *preflight.problems(daemon)]))


def _print_check(loaded: Config, notes: Sequence[str]) -> None:
    from kill_switch.cli import trigger_sentences

    say(f"{loaded.source}: good; {len(loaded.accounts)} account(s), {len(loaded.triggers)} trigger(s)")
    for name, account in loaded.accounts.items():
        is_test = account.options.environment == "testnet"
        venue = f"{account.venue} TESTNET at {account.options.rest_url}" if is_test else account.venue
        say(f"  account {name}: {venue}" + (f", tags {', '.join(account.tags)}" if account.tags else ""))
        if not_covered := account.adapter_class.not_covered(account.options):
            say(f"    a kill does not reach: {'; '.join(not_covered)}")
    for name, trigger in loaded.triggers.items():
        say(f"  trigger {trigger_sentences.sentence(name, trigger, tuple(loaded.accounts))}")
    for note in notes:
        say(f"  note: {note}")


def _adapter_classes(
    context: click.Context, parameter: click.Parameter, names: Sequence[str]
) -> Sequence[type[Adapter]]:
    """Return the adapter classes of venues, each once; raise click's `BadParameter` for an unknown name."""
    from kill_switch.config.messages import closest_match
    from kill_switch.venues import EVERY_VENUE, VENUES
    from kill_switch.venues.ccxt.adapter import why_not_offered

    for name in names:
        if why := why_not_offered(name):
            raise click.BadParameter(f"{name} is not offered: {why}")
        if name not in EVERY_VENUE:
            near = closest_match(name, EVERY_VENUE)
            hint = f"did you mean {near!r}? " if near else ""
            raise click.BadParameter(f"no venue {name!r}; {hint}known: {', '.join(VENUES)}, ccxt:ID")
    return [EVERY_VENUE[name] for name in dict.fromkeys(names)]


def _complete_venues(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from kill_switch.venues import EVERY_VENUE

    return [name for name in EVERY_VENUE if name.startswith(incomplete)]


@click.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@click.option(
    "--venue",
    "kinds",
    multiple=True,
    metavar="VENUE",
    callback=_adapter_classes,
    shell_complete=_complete_venues,
    help="Write an account of this venue, instead of the example's accounts; repeatable.",
)
@click.option(
    "--secrets",
    "places",
    type=click.Choice(["files", "credentials"]),
    help="Where secrets come from: files in DIRECTORY/secrets (default with --venue), or systemd credentials.",
)
def init(directory: Path, kinds: Sequence[type[Adapter]], places: str | None) -> None:
    """Write a commented configuration to DIRECTORY/config.toml.

    With --venue it has an account of each venue, with the venue's secrets and options. `check` accepts it once the
    secrets are in their places. An existing file is never changed. The next three steps are printed. For a user other
    than root, the daemon's directories are in DIRECTORY too.

    \b
    Examples:
      kill-switch init
      kill-switch init --venue roxom
      kill-switch init /etc/kill-switch --venue roxom --secrets credentials
    """
    from kill_switch.config import template

    path = directory.resolve() / "config.toml"
    text = template.with_accounts(template.example(), kinds) if kinds else template.example()
    names = template.secret_names(text)
    if uses_files := places == "files" or (places is None and bool(kinds)):
        text = template.with_files(text, path.parent / "secrets")
    if os.geteuid() and places != "credentials":
        text = template.with_directories(text, path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        check = f"kill-switch check -c {shlex.quote(str(path))}"
        raise CannotCreate(
            f"{path} exists; nothing was changed. Check it with {check}, or name another DIRECTORY"
        ) from None
    except OSError as error:
        raise CannotCreate(f"{path}: {error.strerror}") from None
    say(f"wrote {path}\n")
    for line in _next_steps(path, kinds, names, uses_files=uses_files):
        say(line)


def _next_steps(path: Path, kinds: Sequence[type[Adapter]], names: Sequence[str], *, uses_files: bool) -> Iterator[str]:
    """Yield the lines that lead from a new file to a daemon that runs: edit and secrets, check, run.

    `names` are those of the secrets. Without `kinds` the secrets are the example's, and are not named.
    """
    from kill_switch.config import template

    file = shlex.quote(str(path))
    if not kinds:
        yield "1. Edit the file: name your accounts and where their keys are."
        yield f"2. kill-switch check -c {file}"
        yield f"3. kill-switch run -c {file}        (or as a service: docs/guides/systemd.md)"
        return
    places = path.parent / "secrets" if uses_files else Path("/etc/kill-switch/credentials")
    edits = [
        f"[accounts.{template.account_name(kind)}] {key}" for kind in kinds for key in template.options_to_edit(kind)
    ]
    yield f"1. Edit the file: {'; '.join([*edits, 'the triggers'])}. Put each secret into its place, readable by"
    yield "   the daemon's user alone (paste, Enter, Ctrl-D):"
    for name in names:
        yield f"     install -D -m 0600 /dev/stdin {shlex.quote(str(places / name))}"
    if uses_files:
        yield f"2. kill-switch check -c {file}"
        yield f"3. kill-switch run -c {file}        (as a service: --secrets credentials, docs/guides/systemd.md)"
    else:
        loads = " ".join(f"-p LoadCredential={name}:{places / name}" for name in names)
        yield f"2. systemd-run --quiet --wait --pipe {loads} kill-switch check -c {file}"
        yield "3. systemctl enable --now kill-switch        (its unit, and a LoadCredential= line for each secret:"
        yield "   docs/guides/systemd.md)"
