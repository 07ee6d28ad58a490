"""Compose the configuration that `kill-switch init` writes: the example, with accounts of the chosen venues.

The keys of an account come from its adapter's class: secrets by the venue's own names, options with defaults and
descriptions. Nothing here reads or writes a secret.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, get_origin

if TYPE_CHECKING:
    from kill_switch.venues.adapter import Adapter

TAGS = ("desk:mm", "algo:quoter")  # those that the example's triggers select
_EXAMPLE_ACCOUNT = "mm1"  # the account that the example's triggers name
_CREDENTIAL = re.compile(r'(?m)^(#?\w+ *= )\{ credential = "([^"]+)" \}')
_WIDEST = 56  # characters of a line before its comment; a longer line does not shift the others' comments


def example() -> str:
    """Return the example configuration, which has every key; its secrets are credentials."""
    return files("kill_switch.config").joinpath("example.toml").read_text("utf-8")


def with_accounts(text: str, kinds: Sequence[type[Adapter]]) -> str:
    """Return the example with one account of each adapter class, named after the venue, instead of its own accounts."""
    first, behind = text.index("\n[accounts.") + 1, text.index("\n[triggers.") + 1
    accounts = "".join(f"{_account(kind)}\n" for kind in kinds)
    return text[:first] + accounts + text[behind:].replace(f'"{_EXAMPLE_ACCOUNT}"', f'"{account_name(kinds[0])}"')


def with_files(text: str, directory: Path) -> str:
    """Return the text with each credential replaced by the file of the same name in an absolute directory."""

    def as_file(line: re.Match[str]) -> str:
        return f"{line[1]}{{ file = {to_toml(str(directory / line[2]))} }}"

    return _CREDENTIAL.sub(as_file, text)


def with_directories(text: str, directory: Path) -> str:
    """Return the text with the daemon's directories and its flag in an absolute directory, for a user without root."""
    for key, name in (("state_dir", "state"), ("runtime_dir", "run")):
        written = to_toml(str(directory / name)).replace("\\", r"\\")  # because a replacement interprets backslashes
        text = re.sub(rf'(?m)^#({key} *= )"[^"]*"', rf"\1{written}", text)
    return text.replace('"/run/kill-switch/flag/KILL"', to_toml(str(directory / "run/flag/KILL")))


def secret_names(text: str) -> list[str]:
    """Return the names of the credentials that a text needs, in its order; those in comments are left out."""
    return [name for key, name in _CREDENTIAL.findall(text) if not key.startswith("#")]


def account_name(kind: type[Adapter]) -> str:
    """Return the name of the account that is written; a name has no colon."""
    return kind.NAME.replace(":", "-")


def options_to_edit(kind: type[Adapter]) -> list[str]:
    """Return the options that have no default; the account that is written has an example of each."""
    return [name for name, field in kind.Options.model_fields.items() if field.is_required()]


def _account(kind: type[Adapter]) -> str:
    """Return the table of an account: what it needs, then its options' defaults as comments."""
    rows: list[tuple[str, str, str]] = [
        ("venue", to_toml(kind.NAME), ""),
        ("tags", to_toml(TAGS), "names for groups of accounts, for triggers and --scope"),
        *((key, f'{{ credential = "{_file_name(kind, key)}" }}', note) for key, note in secret_notes(kind).items()),
        *_options(kind),
    ]
    width = max(len(key) for key, _, _ in rows)
    lines = [(f"{key:{width}} = {value}", comment) for key, value, comment in rows]
    lines.insert(0, (f"[accounts.{account_name(kind)}]", "one login at one venue; choose the name"))
    column = max(len(line) for line, _ in lines if len(line) <= _WIDEST)
    return "".join(f"{line:{column}}  # {comment}\n" if comment else f"{line}\n" for line, comment in lines)


def _file_name(kind: type[Adapter], key: str) -> str:
    return f"{account_name(kind)}-{key.lstrip('#').removeprefix('api_').replace('_', '-')}"


def secret_notes(kind: type[Adapter]) -> Mapping[str, str]:
    """Map the account's secrets to comments; a key that it can do without begins with "#"."""
    defaults = kind.Options.model_construct()
    plain = kind.secrets(defaults)
    notes: defaultdict[str, list[str]] = defaultdict(list)
    optional = [key for together in kind.optional_secrets(defaults) for key in together]
    for key, form in kind.SECRET_FORMS.items():
        notes[f"#{key}" if key in optional else key].append(form)
    for name, field in kind.Options.model_fields.items():
        for choice in get_args(field.annotation) if get_origin(field.annotation) is Literal else ():
            needed = kind.secrets(kind.Options.model_construct(**{name: choice}))
            for key in (key for key in plain if key not in needed):
                notes[key].append(f"not with {name} = {to_toml(choice)}")
            for key in (key for key in needed if key not in plain):
                notes[f"#{key}"].append(f"only with {name} = {to_toml(choice)}")
    for key, other in kind.alternatives(defaults).items():
        notes[key].append(f"or {other} instead")
    for together in kind.optional_secrets(defaults):
        for key in together:
            others = " and ".join(other for other in together if other != key)
            notes[f"#{key}"] += ["optional", *([f"only with {others}"] if others else [])]
    return {**{key: "; ".join(notes.pop(key, ())) for key in plain}, **{key: "; ".join(notes[key]) for key in notes}}


def _options(kind: type[Adapter]) -> Iterator[tuple[str, str, str]]:
    """Yield each option's key, value and comment; a key that has a default begins with "#"."""
    for required in (True, False):
        for name, field in kind.Options.model_fields.items():
            if field.is_required() is not required or (name == "environment" and not kind.Options.TESTNET):
                continue
            choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
            says = [kind.Options.describe(name), " or ".join(map(to_toml, choices))]
            value = field.get_default(call_default_factory=True)
            if required or value is None:
                value = field.examples[0] if field.examples else ""
                says.insert(0, "an example: edit it" if required else "no default")
            yield name if required else f"#{name}", to_toml(value), "; ".join(filter(None, says))


def to_toml(value: object) -> str:
    """Return a string, number, truth value, sequence or table of these as TOML; most has JSON's spelling."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {to_toml(each)}" for key, each in value.items()) + " }" if value else "{}"
    return json.dumps(value, ensure_ascii=False)
