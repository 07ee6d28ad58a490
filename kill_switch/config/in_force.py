"""List the safety-relevant keys of a configuration, for the journal: which limits and approvals were in force.

The daemon, reloads and direct kills record this. It contains no secret, and no address of messages or of the outer
ping, because those hold tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from kill_switch.config.loader import Config
from kill_switch.config.messages import config_path

Values = Mapping[str, Any]  # path of a key → its value as JSON
APPROVALS = "rearm.approvals"
UNRELATED = ("daemon.log", "daemon.log_level")  # keys of these tables on which no kill depends


def in_force(config: Config) -> Values:
    """Return each key with its value, defaults included, by the path of the key, such as `triggers.loss.max_loss`."""
    values: dict[str, Any] = {}
    for name in ("daemon", "intake", "drill", "rearm", "silence", "hooks"):
        values.update(_keys(name, getattr(config, name)))
    for path in UNRELATED:
        del values[path]
    for name, trigger in config.triggers.items():
        values.update(_keys(config_path("triggers", name), trigger))
    for name, account in config.accounts.items():
        path = config_path("accounts", name)
        values |= {config_path(path, "venue"): account.venue, config_path(path, "tags"): list(account.tags)}
        values.update(_keys(path, account.options))
    return values


def changes(old: Values, new: Values) -> dict[str, list[Any]]:
    """Return the keys that differ: path → old and new value; null where the key is missing."""
    paths = dict.fromkeys((*old, *new))
    return {path: [old.get(path), new.get(path)] for path in paths if old.get(path) != new.get(path)}


def renamed(old: Values, new: Values) -> dict[str, str]:
    """Return the triggers whose name changed and nothing else: new name → old name.

    Of several equal triggers, the first new one is matched with the first old one.
    """
    before, after = _triggers(old), _triggers(new)
    gone = [name for name in before if name not in after]
    old_names: dict[str, str] = {}
    for name, keys in after.items():
        same = next((old_name for old_name in gone if before[old_name] == keys), None) if name not in before else None
        if same is not None:
            gone.remove(same)
            old_names[name] = same
    return old_names


def _triggers(values: Values) -> dict[str, dict[str, Any]]:
    """Return the triggers' keys by name, from paths `triggers.NAME.KEY`; a name in quotes is unquoted."""
    tables: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        table, _, name_and_key = path.partition(".")
        name, _, key = name_and_key.rpartition(".")
        if table == "triggers" and name:
            tables.setdefault(json.loads(name) if name.startswith('"') else name, {})[key] = value
    return tables


def _keys(path: str, table: BaseModel) -> Iterator[tuple[str, Any]]:
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, SecretStr):
            value = "set"
        yield config_path(path, field.alias or name), json.loads(json.dumps(value, default=str))
