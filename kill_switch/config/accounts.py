"""Read an account: the keys that all venues share, those of its own venue, and its secrets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kill_switch.config import authorities, secrets
from kill_switch.config.messages import Raw, Wrong, at, describe, hint_for, keys_of, unknown_keys, validate, without
from kill_switch.config.schema import Common
from kill_switch.core.identity import Login
from kill_switch.errors import Problem

if TYPE_CHECKING:  # a venue's module is costly to import; whoever wants one brings it in
    from kill_switch.venues.adapter import Adapter
    from kill_switch.venues.options import VenueOptions

Tags = Mapping[str, Sequence[str]]  # of every account, by name, in the file's order


@dataclass(frozen=True, slots=True)
class Account:
    """One login at one venue."""

    name: str
    venue: str
    tags: tuple[str, ...]
    options: VenueOptions
    secrets: secrets.Secrets
    kind: type[Adapter] = field(repr=False)
    ca_digest: str = ""  # of what stands in `ca_file`: the file may change under its name

    @property
    def login(self) -> Login:
        """Say who it is, whatever it is called."""
        kind, options = self.kind, self.options
        scope = {name: getattr(options, name) for name in kind.SCOPE}
        return Login(self.venue, options.ws_url, options.rest_url, self.secrets[kind.key_name(options)], scope)

    def adapter(self, hedge_after_s: float) -> Adapter:
        """Build a new adapter; raise ValueError for a secret that the venue cannot use."""
        return self.kind(self.options, self.secrets, hedge_after_s)


def read_account(
    name: str,
    table: Raw,
    venues: Mapping[str, type[Adapter]],
    hedge_after_s: float,
    environ: Mapping[str, str],
    *,
    strict: bool = True,
) -> tuple[Account | None, list[Problem]]:
    """Read one account; return it, or all that is wrong with it.

    `strict` is as in `secrets.resolve`; without it, a secret is taken however unlikely it looks: a kill is to be tried.
    """
    path = at("accounts", name)
    common, problems, _ = validate(Common, table, path)
    venue = table.get("venue")
    kind = venues.get(venue) if isinstance(venue, str) else None
    if kind is None:  # then nobody knows which other keys are right
        found = "missing" if venue is None else describe(venue, venues)
        return None, [Problem(at(path, "venue"), found, hint_for(venue, venues, "venues")), *problems]

    options, wrong, at_fault = validate(kind.Options, table, path)
    problems += wrong
    sure = options is not None  # which secrets are needed may depend on the options
    if options is None:
        options, _, _ = validate(kind.Options, {k: v for k, v in table.items() if k not in at_fault}, path)
    names = kind.secrets(options) if options is not None else ()
    known = ["venue", *keys_of(Common), *names, *keys_of(kind.Options)]
    maybe = [] if sure else [key for key, value in table.items() if isinstance(value, dict)]
    problems += unknown_keys({key: value for key, value in table.items() if key not in maybe}, known, path)

    values = {}
    for key in names:
        if key in table:
            try:
                values[key] = secrets.resolve(table[key], environ, strict=strict)
                if strict:
                    secrets.refuse_unlikely(values[key], table[key], is_typed=key == "passphrase")
            except Wrong as error:
                problems.append(Problem(at(path, key), error.found, error.hint))
        elif sure:
            problems.append(Problem(at(path, key), "missing", secrets.WHERE))
    if options is not None and options.ca_file:
        try:
            authorities.examine(options.ca_file)
        except Wrong as error:
            problems.append(Problem(at(path, "ca_file"), error.found, error.hint))
    if problems or common is None or options is None:
        return None, problems

    tags, held = tuple(dict.fromkeys(common.tags)), secrets.Secrets(values)
    account = Account(name, str(venue), tags, options, held, kind, _digest(options.ca_file))
    try:
        account.adapter(hedge_after_s)
    except ValueError as error:
        return None, [_unusable(path, str(error), values)]
    return account, []


def _digest(ca_file: str | None) -> str:
    """Return the digest of a file's content; nothing for one that cannot be read, which whoever connects finds out."""
    try:
        file = Path(ca_file or "")
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""  # a pipe would have us wait
    except (OSError, ValueError):
        return ""


def _unusable(path: str, said: str, values: Mapping[str, str]) -> Problem:
    """Report what the venue's module says of a secret, at the key that it begins with."""
    said = without(said, values.values())
    key, _, rest = said.partition(" ")
    return Problem(at(path, key), rest, "") if key in values else Problem(path, said, "")


def pick(selectors: Sequence[str], tags: Tags) -> tuple[str, ...]:
    """Return the accounts that names and tags stand for, in the file's order; all of them for none."""
    wanted = set(selectors)
    return tuple(name for name in tags if not wanted or name in wanted or wanted.intersection(tags[name]))


def selectable(tags: Tags) -> list[str]:
    """Return everything that selects something: names, then tags."""
    return list(dict.fromkeys([*tags, *(tag for some in tags.values() for tag in some)]))
