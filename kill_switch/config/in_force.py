"""List what a configuration says about safety, for the record: which limits and whose approval were in force.

No secret is in it, nor the addresses of messages and of the outer ping, which hold tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from kill_switch.config.loader import Config
from kill_switch.config.messages import at

Values = Mapping[str, Any]  # path of a key → what JSON tells of its value
APPROVALS = "rearm.approvals"


def in_force(config: Config) -> Values:
    """Return each key of the configuration with its value, defaults too, by its path: `triggers.loss.max_loss`."""
    found: dict[str, Any] = {}
    for name in ("daemon", "intake", "drill", "rearm", "hooks"):
        found.update(_keys(name, getattr(config, name)))
    for name, trigger in config.triggers.items():
        found.update(_keys(at("triggers", name), trigger))
    for name, account in config.accounts.items():
        path = at("accounts", name)
        found |= {at(path, "venue"): account.venue, at(path, "tags"): list(account.tags)}
        found.update(_keys(path, account.options))
    return found


def changes(old: Values, new: Values) -> dict[str, list[Any]]:
    """Return what differs: path → old and new value, null where there is no such key."""
    paths = dict.fromkeys((*old, *new))
    return {path: [old.get(path), new.get(path)] for path in paths if old.get(path) != new.get(path)}


def renamed(old: Values, new: Values) -> dict[str, str]:
    """Return the triggers that have another name than before and are the same otherwise: new name → old name.

    Of several that are alike, the first takes the place of the first.
    """
    before, after = _triggers(old), _triggers(new)
    gone = [name for name in before if name not in after]
    found: dict[str, str] = {}
    for name, keys in after.items():
        same = next((one for one in gone if before[one] == keys), None) if name not in before else None
        if same is not None:
            gone.remove(same)
            found[name] = same
    return found


def _triggers(values: Values) -> dict[str, dict[str, Any]]:
    """Return the triggers' keys, by name: a path is `triggers.NAME.KEY`, the name in quotes where it needs them."""
    found: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        table, _, rest = path.partition(".")
        name, _, key = rest.rpartition(".")
        if table == "triggers" and name:
            found.setdefault(json.loads(name) if name.startswith('"') else name, {})[key] = value
    return found


def _keys(path: str, table: BaseModel) -> Iterator[tuple[str, Any]]:
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, SecretStr):
            value = "set"
        yield at(path, field.alias or name), json.loads(json.dumps(value, default=str))
