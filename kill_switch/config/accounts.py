"""Read an account: the keys that all venues share, those of its own venue, and its secrets.

The loader calls `read_account` for each account. A fault in one account is returned as a list of problems and never
stops the others. No text here shows a secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kill_switch.config import authorities, secrets
from kill_switch.config.messages import (
    InvalidValue,
    Raw,
    config_path,
    keys_of,
    make_hint,
    redact,
    safe_description,
    unknown_keys,
    validate,
)
from kill_switch.config.schema import CommonConfig
from kill_switch.core.identity import Login
from kill_switch.errors import Problem

if TYPE_CHECKING:  # because a venue's module is slow to import, only its users import it
    from kill_switch.venues.adapter import Adapter
    from kill_switch.venues.options import HttpOptions
    from kill_switch.venues.sharing import Member

NO_HINTS: Mapping[str, str] = {}  # because the description of a venue's option is its meaning
Tags = Mapping[str, Sequence[str]]  # account → its tags, in the file's order


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """A login at a venue, as the configuration defines it."""

    name: str
    venue: str
    tags: tuple[str, ...]
    options: HttpOptions
    secrets: secrets.Secrets
    adapter_class: type[Adapter] = field(repr=False)
    ca_digest: str = ""  # SHA-256 of the content of `ca_file`, because the content may change under the same name

    @property
    def login(self) -> Login:
        """Return the login at the venue, which does not depend on the account's name."""
        from kill_switch.venues.options import ws_url_of

        kind, options = self.adapter_class, self.options
        scope = {name: getattr(options, name) for name in kind.SCOPE}
        return Login(self.venue, ws_url_of(options), options.rest_url, self.secrets[kind.key_name(options)], scope)

    @property
    def member(self) -> Member:
        """Return the account as its venue's limits see it."""
        from kill_switch.venues.sharing import Member

        kind = self.adapter_class
        key = self.secrets[kind.key_name(self.options)] if kind.secrets(self.options) else ""
        return Member(kind, self.options, key)

    def build_adapter(self, second_route_after_s: float) -> Adapter:
        """Build a new adapter; raise `ValueError` for a secret that the venue cannot use."""
        return self.adapter_class(self.options, self.secrets, second_route_after_s)


def read_account(
    name: str,
    table: Raw,
    venues: Mapping[str, type[Adapter]],
    second_route_after_s: float,
    environ: Mapping[str, str],
    *,
    strict: bool = True,
) -> tuple[AccountConfig | None, list[Problem]]:
    """Read one account's table; return the account, or None and all problems with it.

    `strict` is as in `secrets.resolve`. Without it, a secret is accepted even if it looks unlikely, because a kill
    should try it.
    """
    path = config_path("accounts", name)
    common, problems, _ = validate(CommonConfig, table, path)
    venue = table.get("venue")
    kind = venues.get(venue) if isinstance(venue, str) else None
    if kind is None or kind.why_unusable()[0]:  # because it is not known then which other keys are right
        return None, [unusable_venue(config_path(path, "venue"), venue, venues), *problems]

    options, wrong, at_fault = validate(kind.Options, table, path, NO_HINTS)
    problems += wrong
    sure = options is not None  # because the options may decide which secrets are needed
    if options is None:
        options, _, _ = validate(kind.Options, {k: v for k, v in table.items() if k not in at_fault}, path)
    needed, optional = (kind.secrets(options), kind.optional_secrets(options)) if options is not None else ((), ())
    instead = kind.alternatives(options) if options is not None else {}
    names = (*needed, *instead.values(), *(name for together in optional for name in together))
    known = ["venue", *keys_of(CommonConfig), *names, *keys_of(kind.Options)]
    maybe = [] if sure else [key for key, value in table.items() if isinstance(value, dict)]
    problems += unknown_keys({key: value for key, value in table.items() if key not in maybe}, known, path)

    values = {}
    for key in names:
        if key in table:
            try:
                values[key] = secrets.resolve(table[key], environ, strict=strict)
                if strict:
                    secrets.refuse_unlikely(values[key], table[key], is_typed=key == "passphrase")
            except InvalidValue as error:
                problems.append(Problem(config_path(path, key), error.description, error.hint))
        elif sure and (why := _why_missing(key, needed, instead, optional, table)):
            problems.append(Problem(config_path(path, key), why, secrets.WHERE))
    if options is not None and options.ca_file:
        try:
            authorities.examine(options.ca_file)
        except InvalidValue as error:
            problems.append(Problem(config_path(path, "ca_file"), error.description, error.hint))
    if problems or common is None or options is None:
        return None, problems

    tags, held = tuple(dict.fromkeys(common.tags)), secrets.Secrets(values)
    account = AccountConfig(name, str(venue), tags, options, held, kind, _digest(options.ca_file))
    try:
        account.build_adapter(second_route_after_s)
    except ValueError as error:
        return None, [_unusable(path, str(error), values)]
    return account, []


def unusable_venue(path: str, name: object, venues: Mapping[str, type[Adapter]]) -> Problem:
    """Return the problem with a venue that cannot be used, or that is none; the hint lists those without ccxt."""
    from kill_switch.venues.ccxt.adapter import PREFIX, why_not_offered

    if isinstance(name, str) and name in venues:
        return Problem(path, *venues[name].why_unusable())
    if isinstance(name, str) and (why := why_not_offered(name)):
        return Problem(path, f'"{name}" is not offered', why)
    description = "missing" if name is None else safe_description(name, venues)
    if isinstance(name, str) and name.startswith(PREFIX):
        return Problem(path, description, make_hint(name, [each for each in venues if each.startswith(PREFIX)], "ids"))
    own = [each for each in venues if not each.startswith(PREFIX)]
    return Problem(path, description, make_hint(name, own, "venues"))


def _why_missing(
    key: str, needed: Sequence[str], instead: Mapping[str, str], optional: Sequence[Sequence[str]], table: Raw
) -> str:
    """Return what is wrong with a secret that the table does not have; "" if the account can do without."""
    if key in needed:
        other = instead.get(key, "")
        if other in table:
            return ""
        return f"missing, and no {other} is given instead" if other else "missing"
    other = next((name for together in optional if key in together for name in together if name in table), "")
    return f"missing, although {other} is given" if other else ""


def _digest(ca_file: str | None) -> str:
    """Return the SHA-256 of a file's content, or "" if it cannot be read; the lane that connects reports that."""
    try:
        file = Path(ca_file or "")
        # because reading a pipe would block
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    except (OSError, ValueError):
        return ""


def _unusable(path: str, message: str, values: Mapping[str, str]) -> Problem:
    """Return the adapter's complaint about a secret as a problem, at the key that the complaint begins with."""
    message = redact(message, values.values())
    key, _, fault = message.partition(" ")
    return Problem(config_path(path, key), fault, "") if key in values else Problem(path, message, "")


def resolve_selectors(selectors: Sequence[str], tags: Tags) -> tuple[str, ...]:
    """Return the accounts that names and tags select, in the file's order; without selectors, all accounts."""
    wanted = set(selectors)
    return tuple(name for name in tags if not wanted or name in wanted or wanted.intersection(tags[name]))


def selector_names(tags: Tags) -> list[str]:
    """Return all selectors: the accounts' names, then their tags."""
    return list(dict.fromkeys([*tags, *(tag for some in tags.values() for tag in some)]))
