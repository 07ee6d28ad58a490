"""Load the configuration: one TOML file, strict, with all of its problems reported at once.

`run` and `check` use `load`; commands that only talk to the daemon use `daemon_keys`. A direct kill uses `rescue.py`.
Nothing here connects to a venue.
"""

from __future__ import annotations

import grp
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from kill_switch.config import (
    cross_checks,
    document,
    duplicates,
    flag_paths,
    metrics_access,
    second_route,
    secret_tables,
    syntax_errors,
    toml_file,
)
from kill_switch.config.accounts import (
    AccountConfig,
    Tags,
    read_account,
    resolve_selectors,
    selector_names,
    unusable_venue,
)
from kill_switch.config.defaults import own_environment, systemd_directories
from kill_switch.config.messages import (
    UNSAFE_TO_SHOW,
    Raw,
    closest_match,
    config_path,
    keys_of,
    make_hint,
    safe_description,
    unknown_keys,
    validate,
)
from kill_switch.config.parsers import format_duration, is_name, is_tag
from kill_switch.config.schema import (
    KINDS,
    AnyTrigger,
    DaemonConfig,
    DrillConfig,
    HooksConfig,
    IntakeConfig,
    NotifyConfig,
    PingConfig,
    RearmConfig,
    SilenceConfig,
    TriggerConfig,
)
from kill_switch.config.toml_lines import located
from kill_switch.errors import ConfigError, Problem

if TYPE_CHECKING:
    from kill_switch.venues.adapter import Adapter

TABLES = (
    "daemon",
    "defaults",
    "accounts",
    "triggers",
    "intake",
    "drill",
    "rearm",
    "silence",
    "hooks",
    "notify",
    "ping",
)


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without faults."""

    source: Path
    daemon: DaemonConfig
    accounts: Mapping[str, AccountConfig]
    triggers: Mapping[str, AnyTrigger]
    intake: IntakeConfig
    drill: DrillConfig
    rearm: RearmConfig
    silence: SilenceConfig
    hooks: HooksConfig
    notify: NotifyConfig
    ping: PingConfig
    files: Sequence[Path] = ()  # `source`, and the files that it includes

    @property
    def measured(self) -> frozenset[str]:
        """The accounts whose equity a trigger needs from their venues."""
        return cross_checks.measured(self.triggers)

    def select(self, selectors: Sequence[str]) -> tuple[str, ...]:
        """Return the accounts that names or tags select, all for none; raise `ValueError` for an unknown selector."""
        tags = {name: account.tags for name, account in self.accounts.items()}
        for selector in selectors:
            if selector not in selector_names(tags):
                hint = make_hint(selector, selector_names(tags), "known")
                raise ValueError(f"no account and no tag is called {json.dumps(selector[:64])}; {hint}")
        return resolve_selectors(selectors, tags)


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    venues: Mapping[str, type[Adapter]] | None = None,
) -> Config:
    """Load the file; raise `ConfigError` with all of its problems.

    `venues` default to `kill_switch.venues.EVERY_VENUE`.
    """
    if venues is None:
        # imported here, because `runtime_dir` does not need the venues and must be fast
        from kill_switch.venues import EVERY_VENUE

        venues = EVERY_VENUE
    source = toml_file.find(path, environ)
    whole_document = document.read(source)
    parsed, files = whole_document.tables, whole_document.files
    problems = unknown_keys(parsed, (*TABLES, document.INCLUDE), "")
    tables = {name: toml_file.table_of(parsed, name, problems) for name in TABLES}

    daemon = _daemon(tables["daemon"], environ, problems)
    accounts = _accounts(tables["accounts"], tables["defaults"], venues, daemon or DaemonConfig(), environ, problems)
    parsed = {**parsed, "accounts": document.with_defaults(tables)}
    triggers = _triggers(tables["triggers"], _tags(parsed["accounts"]), problems)
    problems += cross_checks.problems(triggers, accounts, (daemon or DaemonConfig()).second_route_after_s)
    intake = secret_tables.intake(tables["intake"], environ, problems)
    drill = secret_tables.plain(DrillConfig, tables["drill"], "drill", problems)
    rearm = secret_tables.plain(RearmConfig, tables["rearm"], "rearm", problems)
    silence = secret_tables.plain(SilenceConfig, tables["silence"], "silence", problems)
    hooks = secret_tables.plain(HooksConfig, tables["hooks"], "hooks", problems)
    notify = secret_tables.notify(tables["notify"], environ, problems)
    ping = secret_tables.ping(tables["ping"], environ, problems)
    problems += flag_paths.problems(files, daemon, parsed, environ)
    for name, account in accounts.items():
        if account.options.ca_file:
            problems += toml_file.exposed(Path(account.options.ca_file), config_path("accounts", name, "ca_file"))
    problems += duplicates.duplicate_logins(accounts)
    problems += metrics_access.problems(daemon) if daemon else ()
    listening = {"daemon.metrics": daemon.metrics if daemon else None, "intake.udp": intake.udp if intake else None}
    problems += duplicates.duplicate_addresses(listening)
    problems += duplicates.duplicate_commands(hooks.on_trip if hooks else ())

    problems = [*whole_document.problems, *syntax_errors.still_true(problems, whole_document.faulty)]
    if problems or not (daemon and intake and drill and rearm and silence and hooks and notify and ping):
        raise ConfigError(str(source), located(files, problems))
    whole = MappingProxyType(accounts), MappingProxyType(triggers)
    return Config(source, daemon, *whole, intake, drill, rearm, silence, hooks, notify, ping, tuple(files))


def daemon_keys(
    path: Path | None,
    *keys: str,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], object] = lambda line: None,
    as_daemon: bool = False,
) -> DaemonConfig:
    """Return the given keys of the table [daemon], the others at their defaults; raise `ConfigError`.

    For commands that talk to the daemon or read its journal: a fault elsewhere in the file must not prevent `fire`. Nor
    must a caller fail who may not read the secrets. If no file was named and the default file cannot be read, the
    defaults are returned. For each part of the file that cannot be parsed, `say` gets a line for people. `as_daemon`
    takes the directories of any unit, as `load` does.
    """
    source = toml_file.find(path, environ)
    table: Raw = {}
    problems: list[Problem] = []
    if path is not None or environ.get("KILL_SWITCH_CONFIG") or os.access(source, os.R_OK):
        parsed, _, syntax = toml_file.parse_parts(source)
        table = toml_file.table_of(parsed, "daemon", problems)
        for problem in syntax:
            say(f"{source}: {problem}")
    directories = systemd_directories(environ if as_daemon else own_environment(environ))
    only = {key: value for key, value in (directories | dict(table)).items() if key in keys}
    daemon, wrong, _ = validate(DaemonConfig, only, "daemon")
    if daemon is None or problems:
        raise ConfigError(str(source), problems + wrong)
    return daemon


def notify_table(path: Path | None, *, environ: Mapping[str, str] = os.environ) -> NotifyConfig:
    """Return the table [notify], whatever other tables say; raise `ConfigError`, also for errors of the TOML syntax."""
    source = toml_file.find(path, environ)
    parsed = toml_file.parse(source)
    problems = [*parsed.problems]
    table = toml_file.table_of(parsed.tables, "notify", problems)
    channels = secret_tables.notify(table, environ, problems)
    if problems or channels is None:
        raise ConfigError(str(source), located([source], problems))
    return channels


def runtime_dir(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the daemon's sockets, whatever faults other keys have; raise `ConfigError`."""
    return daemon_keys(path, "runtime_dir", environ=environ).runtime_dir


# ── its tables ────────────────────────────────────────────────────────────────────────────────────────────────────


def _daemon(table: Raw, environ: Mapping[str, str], problems: list[Problem]) -> DaemonConfig | None:
    table, key = second_route.under_one_name(table, problems)
    problems += unknown_keys(table, [*keys_of(DaemonConfig), second_route.OTHER], "daemon")
    daemon, wrong, _ = validate(DaemonConfig, systemd_directories(environ) | dict(table), "daemon")
    problems += second_route.as_written(wrong, key)
    if daemon is None:
        return None
    budget, hedge = format_duration(daemon.budget_s), format_duration(daemon.second_route_after_s)
    if daemon.budget_s <= daemon.second_route_after_s:
        hint = "the second route must have time to answer within the budget"
        problems.append(Problem("daemon.budget", f"{budget}, not longer than {key} = {hedge}", hint))
    if daemon.group is not None:
        from kill_switch.system import users  # imported here, because most configurations have no group

        try:
            users.group_number(daemon.group)
        except (KeyError, ValueError):  # no such group, or not a name at all
            # because a directory service may hide groups, this list may be incomplete
            groups = [group.gr_name for group in grp.getgrall()]
            near = closest_match(daemon.group, groups)
            hint = f'did you mean "{near}"?' if near else "expected the name of a unix group of this machine"
            problems.append(Problem("daemon.group", safe_description(daemon.group, groups), hint))
    return daemon


def _accounts(
    tables: Raw,
    defaults: Raw,
    venues: Mapping[str, type[Adapter]],
    daemon: DaemonConfig,
    environ: Mapping[str, str],
    problems: list[Problem],
) -> dict[str, AccountConfig]:
    if not tables and not any(problem.path == "accounts" for problem in problems):
        problems.append(Problem("accounts", "no account", "expected at least one table [accounts.NAME]"))
    accounts = {}
    problems += document.wrong_defaults(defaults, venues, lambda path, name: unusable_venue(path, name, venues))
    for name, own in toml_file.named(tables, "accounts", problems).items():
        table = {**document.defaults_of(defaults, own), **own}
        account, wrong = read_account(name, table, venues, daemon.second_route_after_s, environ)
        problems += [document.at_default(problem, name, own, defaults) for problem in wrong]
        written = table.get("tags")
        for index, tag in enumerate(written if isinstance(written, list) else []):
            if isinstance(tag, str) and tag in tables:
                description = f'"{tag}", which is an account\'s name'
                problems.append(
                    Problem(config_path("accounts", name, "tags", index), description, "call the tag something else")
                )
        if account is not None:
            accounts[name] = account
    return accounts


def _tags(tables: Raw) -> Tags:
    """Return every account's tags as they are written, so that one mistake is not reported twice."""
    written = {name: table.get("tags") if isinstance(table, dict) else None for name, table in tables.items()}
    return {
        name: [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
        for name, tags in written.items()
    }


def _triggers(tables: Raw, tags: Tags, problems: list[Problem]) -> dict[str, AnyTrigger]:
    triggers: dict[str, AnyTrigger] = {}
    for name, table in toml_file.named(tables, "triggers", problems).items():
        trigger = _trigger(config_path("triggers", name), table, tags, problems)
        if trigger is not None:
            triggers[name] = trigger
    return triggers


def _trigger(path: str, table: Raw, tags: Tags, problems: list[Problem]) -> AnyTrigger | None:
    kind = table.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    trigger = None
    if model is None:  # because without a kind, only `accounts` is a known key
        description = "missing" if kind is None else safe_description(kind, KINDS)
        problems.append(Problem(config_path(path, "kind"), description, make_hint(kind, KINDS, "kinds")))
        problems += validate(TriggerConfig, {**table, "kind": ""}, path)[1]
    else:
        problems += unknown_keys(table, keys_of(model), path)
        trigger, wrong, _ = validate(model, table, path)
        problems += wrong
    selectors = table.get("accounts")
    for index, selector in enumerate(selectors if isinstance(selectors, list) else []):
        if isinstance(selector, str) and selector not in selector_names(tags):
            proper = [
                selector_name
                for selector_name in selector_names(tags)
                if is_name(selector_name) or is_tag(selector_name)
            ]
            shown = safe_description(selector, proper)
            description = "no account and no tag" if shown == UNSAFE_TO_SHOW else f"{shown}, no account and no tag"
            near = closest_match(selector, proper)
            hint = f'did you mean "{near}"?' if near else f"accounts: {', '.join(filter(is_name, tags))}"
            problems.append(Problem(config_path(path, "accounts", index), description, hint))
    return trigger and trigger.model_copy(update={"accounts": resolve_selectors(trigger.accounts, tags)})
