"""Load what a direct kill can use of a configuration that may have faults: the usable accounts, and why others are not.

`fire --direct` uses it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kill_switch.config import document, second_route, secret_tables, toml_file
from kill_switch.config.accounts import AccountConfig, Tags, read_account, resolve_selectors, selector_names
from kill_switch.config.defaults import own_environment, systemd_directories
from kill_switch.config.loader import Config
from kill_switch.config.messages import Raw, config_path, safe_description, validate
from kill_switch.config.parsers import is_name
from kill_switch.config.schema import (
    DaemonConfig,
    DrillConfig,
    HooksConfig,
    IntakeConfig,
    NotifyConfig,
    PingConfig,
    RearmConfig,
    SilenceConfig,
)
from kill_switch.config.toml_lines import located
from kill_switch.errors import ConfigError, Problem

if TYPE_CHECKING:
    from kill_switch.venues.adapter import Adapter

# replaces a directory that a kill must not guess, because nothing can be opened there
NOWHERE = Path("/dev/null/unclear")


@dataclass(frozen=True, slots=True)
class RescuedConfig:
    """The usable accounts of a configuration that may have faults, for a direct kill."""

    config: Config  # has no triggers
    left_out: Mapping[str, tuple[Problem, ...]]  # account → why it cannot be used
    problems: tuple[Problem, ...]  # problems that keep no account from being used
    tags: Tags  # account that was left out → its tags, where they are known
    unread: Mapping[str, str]  # file or table that may have further accounts → why it is not used

    def select(self, selectors: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return the selected accounts, the selected accounts that were left out, and the unknown selectors.

        If the tags of an account that was left out are not known, each selector that is not another account's name
        selects it.
        """
        usable: Tags = {name: account.tags for name, account in self.config.accounts.items()}
        wanted = set(selectors)
        perhaps_tags = wanted - usable.keys() - self.left_out.keys()

        def meant(name: str) -> bool:
            if not wanted or name in wanted:
                return True
            return bool(wanted.intersection(self.tags[name]) if name in self.tags else perhaps_tags)

        left_out = tuple(filter(meant, self.left_out))
        known = {*selector_names(usable), *selector_names(self.tags), *self.left_out}
        return (
            resolve_selectors(selectors, usable),
            left_out,
            tuple(selector for selector in selectors if selector not in known),
        )


def rescue(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    venues: Mapping[str, type[Adapter]] | None = None,
) -> RescuedConfig:
    """Load the accounts that a direct kill can use; raise `ConfigError` if there is none.

    An account is used as a whole or not at all. Tables that only the daemon needs (triggers, sockets, hooks) are not
    read.
    """
    if venues is None:
        from kill_switch.venues import EVERY_VENUE

        venues = EVERY_VENUE
    source = toml_file.find(path, environ)
    parsed, files, problems, lost, unread, _ = document.read_parts(source)
    daemon = _usable_daemon(parsed.get("daemon", {}), environ, problems)
    defaults = toml_file.table_of(parsed, "defaults", problems)
    tables = toml_file.table_of(parsed, "accounts", problems)
    tables = document.with_defaults({"accounts": tables, "defaults": defaults})
    left_out: dict[str, tuple[Problem, ...]] = {
        name: (Problem(config_path("accounts", name), f"not understood: {where}", ""),) for name, where in lost.items()
    }
    accounts = {}
    for name, table in tables.items():
        account, wrong = _account(name, table, venues, daemon.second_route_after_s, environ)
        if account is not None:
            accounts[name] = account
            problems += wrong
        else:
            left_out[name] = tuple(wrong)
    notify = secret_tables.notify(toml_file.table_of(parsed, "notify", problems), environ, problems) or NotifyConfig()
    if not accounts:
        wrong = [problem for problems in left_out.values() for problem in problems]
        none = [] if wrong else [Problem("accounts", "no account", "expected at least one table [accounts.NAME]")]
        raise ConfigError(str(source), located(files, [*problems, *wrong, *none]))
    left_tables = {name: tables[name] for name in left_out if isinstance(tables.get(name), dict)}
    written = {name: table.get("tags", []) for name, table in left_tables.items()}
    tags = {name: some for name, some in written.items() if _is_list_of_strings(some)}
    config = Config(
        source,
        daemon,
        accounts,
        {},
        IntakeConfig(),
        DrillConfig(),
        RearmConfig(),
        SilenceConfig(),
        HooksConfig(),
        notify,
        PingConfig(),
    )
    return RescuedConfig(config, left_out, tuple(located(files, problems)), tags, unread)


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


def _account(
    name: str,
    table: object,
    venues: Mapping[str, type[Adapter]],
    second_route_after_s: float,
    environ: Mapping[str, str],
) -> tuple[AccountConfig | None, list[Problem]]:
    """Read an account even if its table has faults; no exception leaves this function, so that other accounts are read.

    If the account's only faults are keys that everyone can read, it is returned together with these problems.
    """
    if not isinstance(table, dict) or not is_name(name):
        wrong: list[Problem] = []
        toml_file.named({name: table}, "accounts", wrong)
        return None, wrong
    try:
        json.dumps(table, default=str, ensure_ascii=False).encode()
        account, wrong = read_account(name, table, venues, second_route_after_s, environ)
        if account is None:
            account, _ = read_account(name, table, venues, second_route_after_s, environ, strict=False)
        return account, wrong
    except UnicodeEncodeError:
        return None, [Problem(config_path("accounts", name), "not UTF-8", "save the file as UTF-8")]
    except Exception as error:
        return None, [Problem(config_path("accounts", name), f"internal error: {type(error).__name__}", "")]


def _usable_daemon(table: object, environ: Mapping[str, str], problems: list[Problem]) -> DaemonConfig:
    """Read the valid keys of [daemon]; a directory that is not valid becomes `NOWHERE`, where no file can be made."""
    nowhere = dict.fromkeys(("state_dir", "runtime_dir"), str(NOWHERE))
    key = second_route.KEY
    if not isinstance(table, dict):
        whole: Raw = nowhere
        problems.append(Problem("daemon", safe_description(table), "expected a table [daemon]"))
    else:
        table, key = second_route.under_one_name(table, problems)
        whole = systemd_directories(own_environment(environ)) | dict(table)
    daemon, wrong, at_fault = validate(DaemonConfig, whole, "daemon")
    problems += second_route.as_written(wrong, key)
    if daemon is None:
        left = {key: value for key, value in whole.items() if key not in at_fault}
        left |= {key: value for key, value in nowhere.items() if key in at_fault}
        daemon, _, _ = validate(DaemonConfig, left, "daemon")
    return daemon or DaemonConfig(state_dir=NOWHERE, runtime_dir=NOWHERE)
