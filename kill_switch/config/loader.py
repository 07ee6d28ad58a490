"""Load the configuration: one TOML file, strict, with everything that is wrong reported at once.

`load` is what `run` and `check` share. It reads secrets and builds every adapter, so that what it returns can be used
as it is. `rescue` is for `fire --direct`, and returns what can be used. `daemon_keys` is for commands that only talk to
the daemon: it reads no secret.
"""

from __future__ import annotations

import grp
import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from kill_switch.config import cross_checks, duplicates, flag_paths, secrets, toml_file
from kill_switch.config.accounts import Account, Tags, pick, read_account, selectable
from kill_switch.config.messages import (
    OTHER,
    Raw,
    Wrong,
    at,
    describe,
    hint_for,
    keys_of,
    nearest,
    unknown_keys,
    validate,
)
from kill_switch.config.parsers import in_words, is_name, is_tag
from kill_switch.config.schema import (
    KINDS,
    AnyTrigger,
    Daemon,
    Drill,
    Hooks,
    Intake,
    Notify,
    Ping,
    Rearm,
    Table,
    Trigger,
    directories,
)
from kill_switch.errors import ConfigError, Problem

if TYPE_CHECKING:
    from kill_switch.venues.adapter import Adapter

T = TypeVar("T", bound=Table)
_SECRET = secrets.WHERE.removeprefix("expected ")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S.*")
NOWHERE = Path("/dev/null/unclear")  # stands for a directory that a kill must not guess: whatever is opened there fails
TABLES = ("daemon", "accounts", "triggers", "intake", "drill", "rearm", "hooks", "notify", "ping")


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that holds together."""

    source: Path
    daemon: Daemon
    accounts: Mapping[str, Account]
    triggers: Mapping[str, AnyTrigger]
    intake: Intake
    drill: Drill
    rearm: Rearm
    hooks: Hooks
    notify: Notify
    ping: Ping

    def select(self, selectors: Sequence[str]) -> tuple[str, ...]:
        """Return the accounts that names or tags stand for, all for none; raise ValueError for an unknown one."""
        tags = {name: account.tags for name, account in self.accounts.items()}
        for selector in selectors:
            if selector not in selectable(tags):
                hint = hint_for(selector, selectable(tags), "known")
                raise ValueError(f"no account and no tag is called {json.dumps(selector[:64])}; {hint}")
        return pick(selectors, tags)


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    venues: Mapping[str, type[Adapter]] | None = None,
) -> Config:
    """Load the file, or raise `ConfigError` with all that is wrong; `venues` default to `kill_switch.venues.VENUES`."""
    if venues is None:
        from kill_switch.venues import VENUES  # here, since `runtime_dir` does without and must be fast

        venues = VENUES
    source = toml_file.find(path, environ)
    parsed = toml_file.parse(source)
    problems = [*toml_file.exposed(source), *unknown_keys(parsed, TABLES, "")]
    tables = {name: toml_file.table_of(parsed, name, problems) for name in TABLES}

    daemon = _daemon(tables["daemon"], environ, problems)
    accounts = _accounts(tables["accounts"], venues, daemon or Daemon(), environ, problems)
    triggers = _triggers(tables["triggers"], _tags(tables["accounts"]), problems)
    problems += cross_checks.problems(triggers, accounts, (daemon or Daemon()).hedge_after_s)
    intake = _intake(tables["intake"], environ, problems)
    drill = _plain(Drill, tables["drill"], "drill", problems)
    rearm = _plain(Rearm, tables["rearm"], "rearm", problems)
    hooks = _plain(Hooks, tables["hooks"], "hooks", problems)
    notify = _notify(tables["notify"], environ, problems)
    ping = _ping(tables["ping"], environ, problems)
    problems += flag_paths.problems(source, daemon, parsed, environ)
    for name, account in accounts.items():
        if account.options.ca_file:
            problems += toml_file.exposed(Path(account.options.ca_file), at("accounts", name, "ca_file"))
    problems += duplicates.logins(accounts)
    listening = {"daemon.metrics": daemon.metrics if daemon else None, "intake.udp": intake.udp if intake else None}
    problems += duplicates.addresses(listening)
    problems += duplicates.commands(hooks.on_trip if hooks else ())

    if problems or not (daemon and intake and drill and rearm and hooks and notify and ping):
        raise ConfigError(str(source), problems)
    whole = MappingProxyType(accounts), MappingProxyType(triggers)
    return Config(source, daemon, *whole, intake, drill, rearm, hooks, notify, ping)


@dataclass(frozen=True, slots=True)
class Rescue:
    """What can be used of a configuration that need not be right, for a kill."""

    config: Config  # without triggers
    left_out: Mapping[str, tuple[Problem, ...]]  # account → why it cannot be used
    problems: tuple[Problem, ...]  # that keep no account from being used
    tags: Tags  # of the accounts left out, as far as they are known

    def select(self, selectors: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return the accounts meant that can be used, those left out that are or may be meant, and unknown selectors.

        An account left out whose tags are not known may be meant by any selector that is not another account's name.
        """
        usable: Tags = {name: account.tags for name, account in self.config.accounts.items()}
        wanted = set(selectors)
        perhaps_tags = wanted - usable.keys() - self.left_out.keys()

        def meant(name: str) -> bool:
            if not wanted or name in wanted:
                return True
            return bool(wanted.intersection(self.tags[name]) if name in self.tags else perhaps_tags)

        left_out = tuple(filter(meant, self.left_out))
        known = {*selectable(usable), *selectable(self.tags), *self.left_out}
        return pick(selectors, usable), left_out, tuple(one for one in selectors if one not in known)


def rescue(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    venues: Mapping[str, type[Adapter]] | None = None,
) -> Rescue:
    """Load what a kill can use of the file; raise `ConfigError` if there is no account that it can use.

    An account is used whole or not at all. What only the daemon needs (triggers, sockets, hooks) is not read.
    """
    if venues is None:
        from kill_switch.venues import VENUES

        venues = VENUES
    source = toml_file.find(path, environ)
    parsed, lost, problems = toml_file.parse_parts(source)
    daemon = _usable_daemon(parsed.get("daemon", {}), environ, problems)
    tables = toml_file.table_of(parsed, "accounts", problems)
    left_out: dict[str, tuple[Problem, ...]] = {
        name: (Problem(at("accounts", name), f"not understood: {where}", ""),) for name, where in lost.items()
    }
    accounts = {}
    for name, table in tables.items():
        made, wrong = _account(name, table, venues, daemon.hedge_after_s, environ)
        if made is not None:
            accounts[name] = made
            problems += wrong
        else:
            left_out[name] = tuple(wrong)
    notify = _notify(toml_file.table_of(parsed, "notify", problems), environ, problems) or Notify()
    if not accounts:
        wrong = [problem for problems in left_out.values() for problem in problems]
        none = [] if wrong else [Problem("accounts", "no account", "expected at least one table [accounts.NAME]")]
        raise ConfigError(str(source), [*problems, *wrong, *none])
    left_tables = {name: tables[name] for name in left_out if isinstance(tables.get(name), dict)}
    written = {name: table.get("tags", []) for name, table in left_tables.items()}
    tags = {name: some for name, some in written.items() if _is_list_of_strings(some)}
    config = Config(source, daemon, accounts, {}, Intake(), Drill(), Rearm(), Hooks(), notify, Ping())
    return Rescue(config, left_out, tuple(problems), tags)


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _account(
    name: str, table: object, venues: Mapping[str, type[Adapter]], hedge_after_s: float, environ: Mapping[str, str]
) -> tuple[Account | None, list[Problem]]:
    """Read an account whatever is in its table: what this fails on is no other account's business.

    One that has nothing against it but keys that everyone can read is returned, with what is wrong.
    """
    if not isinstance(table, dict) or not is_name(name):
        wrong: list[Problem] = []
        toml_file.named({name: table}, "accounts", wrong)
        return None, wrong
    try:
        json.dumps(table, default=str, ensure_ascii=False).encode()
        made, wrong = read_account(name, table, venues, hedge_after_s, environ)
        if made is None:
            made, _ = read_account(name, table, venues, hedge_after_s, environ, strict=False)
        return made, wrong
    except UnicodeEncodeError:
        return None, [Problem(at("accounts", name), "not UTF-8", "save the file as UTF-8")]
    except Exception as error:
        return None, [Problem(at("accounts", name), f"internal error: {type(error).__name__}", "")]


def _usable_daemon(table: object, environ: Mapping[str, str], problems: list[Problem]) -> Daemon:
    """Read the keys of [daemon] that are right; a directory that is not stands where nothing can be made."""
    nowhere = dict.fromkeys(("state_dir", "runtime_dir"), str(NOWHERE))
    if not isinstance(table, dict):
        whole: Raw = nowhere
        problems.append(Problem("daemon", describe(table), "expected a table [daemon]"))
    else:
        whole = directories(environ) | table
    daemon, wrong, at_fault = validate(Daemon, whole, "daemon")
    problems += wrong
    if daemon is None:
        left = {key: value for key, value in whole.items() if key not in at_fault}
        left |= {key: value for key, value in nowhere.items() if key in at_fault}
        daemon, _, _ = validate(Daemon, left, "daemon")
    return daemon or Daemon(state_dir=NOWHERE, runtime_dir=NOWHERE)


def daemon_keys(
    path: Path | None,
    *keys: str,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], object] = lambda line: None,
) -> Daemon:
    """Return some keys of the table [daemon], the others at their defaults; raise `ConfigError`.

    For commands that talk to the daemon or read its record: a typo elsewhere must not keep `fire` from working, nor a
    caller who may not read the keys. A file that nobody named and that cannot be read leaves the defaults. `say` takes
    a line for a person for each part of the file that cannot be parsed.
    """
    source = toml_file.find(path, environ)
    table: Raw = {}
    problems: list[Problem] = []
    if path is not None or environ.get("KILL_SWITCH_CONFIG") or os.access(source, os.R_OK):
        parsed, _, syntax = toml_file.parse_parts(source)
        table = toml_file.table_of(parsed, "daemon", problems)
        for problem in syntax:
            say(f"{source}: {problem}")
    only = {key: value for key, value in (directories(environ) | dict(table)).items() if key in keys}
    daemon, wrong, _ = validate(Daemon, only, "daemon")
    if daemon is None or problems:
        raise ConfigError(str(source), problems + wrong)
    return daemon


def runtime_dir(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the daemon's sockets are, whatever else the file says; raise `ConfigError`."""
    return daemon_keys(path, "runtime_dir", environ=environ).runtime_dir


# ── its tables ────────────────────────────────────────────────────────────────────────────────────────────────────


def _daemon(table: Raw, environ: Mapping[str, str], problems: list[Problem]) -> Daemon | None:
    problems += unknown_keys(table, keys_of(Daemon), "daemon")
    daemon, wrong, _ = validate(Daemon, directories(environ) | dict(table), "daemon")
    problems += wrong
    if daemon is None:
        return None
    budget, hedge = in_words(daemon.budget_s), in_words(daemon.hedge_after_s)
    if daemon.budget_s <= daemon.hedge_after_s:
        hint = "the second route must have time to answer within the budget"
        problems.append(Problem("daemon.budget", f"{budget}, not longer than hedge_after = {hedge}", hint))
    if daemon.group is not None:
        from kill_switch.system import users  # here: most configurations have no group

        try:
            users.group_number(daemon.group)
        except (KeyError, ValueError):  # not there, or not a name at all
            groups = [group.gr_name for group in grp.getgrall()]  # a directory service may hide some of them here
            near = nearest(daemon.group, groups)
            hint = f'did you mean "{near}"?' if near else "expected the name of a unix group of this machine"
            problems.append(Problem("daemon.group", describe(daemon.group, groups), hint))
    return daemon


def _accounts(
    tables: Raw,
    venues: Mapping[str, type[Adapter]],
    daemon: Daemon,
    environ: Mapping[str, str],
    problems: list[Problem],
) -> dict[str, Account]:
    if not tables and not any(problem.path == "accounts" for problem in problems):
        problems.append(Problem("accounts", "no account", "expected at least one table [accounts.NAME]"))
    made = {}
    for name, table in toml_file.named(tables, "accounts", problems).items():
        account, wrong = read_account(name, table, venues, daemon.hedge_after_s, environ)
        problems += wrong
        written = table.get("tags")
        for index, tag in enumerate(written if isinstance(written, list) else []):
            if isinstance(tag, str) and tag in tables:
                found = f'"{tag}", which is an account\'s name'
                problems.append(Problem(at("accounts", name, "tags", index), found, "call the tag something else"))
        if account is not None:
            made[name] = account
    return made


def _tags(tables: Raw) -> Tags:
    """Return every account's tags as they are written, so that one mistake is not reported as two."""
    written = {name: table.get("tags") if isinstance(table, dict) else None for name, table in tables.items()}
    return {
        name: [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
        for name, tags in written.items()
    }


def _triggers(tables: Raw, tags: Tags, problems: list[Problem]) -> dict[str, AnyTrigger]:
    made: dict[str, AnyTrigger] = {}
    for name, table in toml_file.named(tables, "triggers", problems).items():
        trigger = _trigger(at("triggers", name), table, tags, problems)
        if trigger is not None:
            made[name] = trigger
    return made


def _trigger(path: str, table: Raw, tags: Tags, problems: list[Problem]) -> AnyTrigger | None:
    kind = table.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    trigger = None
    if model is None:  # then only `accounts` is sure to be a key
        found = "missing" if kind is None else describe(kind, KINDS)
        problems.append(Problem(at(path, "kind"), found, hint_for(kind, KINDS, "kinds")))
        problems += validate(Trigger, {**table, "kind": ""}, path)[1]
    else:
        problems += unknown_keys(table, keys_of(model), path)
        trigger, wrong, _ = validate(model, table, path)
        problems += wrong
    selectors = table.get("accounts")
    for index, selector in enumerate(selectors if isinstance(selectors, list) else []):
        if isinstance(selector, str) and selector not in selectable(tags):
            proper = [one for one in selectable(tags) if is_name(one) or is_tag(one)]
            shown = describe(selector, proper)
            found = "no account and no tag" if shown == OTHER else f"{shown}, no account and no tag"
            near = nearest(selector, proper)
            hint = f'did you mean "{near}"?' if near else f"accounts: {', '.join(filter(is_name, tags))}"
            problems.append(Problem(at(path, "accounts", index), found, hint))
    return trigger and trigger.model_copy(update={"accounts": pick(trigger.accounts, tags)})


def _plain(model: type[T], table: Raw, name: str, problems: list[Problem]) -> T | None:
    """Read a table that is nothing but its model."""
    problems += unknown_keys(table, keys_of(model), name)
    made, wrong, _ = validate(model, table, name)
    problems += wrong
    return made


def _notify(table: Raw, environ: Mapping[str, str], problems: list[Problem]) -> Notify | None:
    notify = _plain(Notify, {key: value for key, value in table.items() if key != "urls"}, "notify", problems)
    written = table.get("urls", [])
    if not isinstance(written, list):
        problems.append(Problem("notify.urls", describe(written), f"expected an array of URLs; each may be {_SECRET}"))
        return notify
    urls = [_url(url, at("notify.urls", n), environ, problems) for n, url in enumerate(written)]
    for number, url in enumerate(urls):
        if url is not None and _URL.fullmatch(url.get_secret_value()) is None:
            problems.append(
                Problem(at("notify.urls", number), "not a URL", 'expected one of apprise\'s: "SERVICE://…"')
            )
    problems += duplicates.channels(urls)
    if urls and importlib.util.find_spec("apprise") is None:
        hint = "in the checkout: pip install '.[notify]'; or use command"
        problems.append(Problem("notify.urls", "given, but apprise is not installed", hint))
    return notify and notify.model_copy(update={"urls": tuple(filter(None, urls))})


def _ping(table: Raw, environ: Mapping[str, str], problems: list[Problem]) -> Ping | None:
    ping = _plain(Ping, {key: value for key, value in table.items() if key != "url"}, "ping", problems)
    if "url" not in table:
        if "every" in table:
            problems.append(Problem("ping.url", "missing, with every given", "say whom to call, or leave both out"))
        return ping
    url = _url(table["url"], "ping.url", environ, problems)
    if url is not None and not _safe(url.get_secret_value()):
        problems.append(Problem("ping.url", "not a https:// address", "only one on this machine may be http://"))
    return ping and ping.model_copy(update={"url": url})


def _url(value: object, path: str, environ: Mapping[str, str], problems: list[Problem]) -> SecretStr | None:
    """Read a URL that is written as it is, or is kept where secrets are."""
    try:
        if not isinstance(value, str | dict):
            raise Wrong(describe(value), f"expected a URL, or {_SECRET}")
        if isinstance(value, str):
            return SecretStr(value)
        url = secrets.resolve(value, environ)
        secrets.refuse_unlikely(url, value, is_url=True)
        return SecretStr(url)
    except Wrong as error:
        problems.append(Problem(path, error.found, error.hint))
        return None


def _safe(url: str) -> bool:
    """Tell whether nobody on the way can read a URL."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if not url.isprintable() or " " in url or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1"))


def _intake(table: Raw, environ: Mapping[str, str], problems: list[Problem]) -> Intake | None:
    problems += unknown_keys(table, keys_of(Intake), "intake")
    intake, wrong, _ = validate(Intake, {key: value for key, value in table.items() if key != "key"}, "intake")
    problems += wrong
    if "key" in table:
        try:
            key = SecretStr(secrets.resolve(table["key"], environ))
            secrets.refuse_unlikely(key.get_secret_value(), table["key"], is_typed=True)
        except Wrong as error:
            problems.append(Problem("intake.key", error.found, error.hint))
        else:
            return intake and intake.model_copy(update={"key": key})
    elif intake and intake.udp and not intake.udp.loopback:
        hint = "set key, or listen on 127.0.0.1"
        problems.append(Problem("intake.udp", "an address that other hosts can reach, without a key", hint))
    return intake
