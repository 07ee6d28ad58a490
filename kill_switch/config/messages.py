"""Describe a wrong value: the path of its key, a description, and a hint.

All modules that read the configuration use this. A text of the document is repeated only if it cannot be a secret,
because one may have been pasted anywhere. Plain words and numbers are repeated, and words close to an expected word.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from kill_switch.errors import Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Raw = Mapping[str, Any]  # a table as the TOML parser returns it
M = TypeVar("M", bound=BaseModel)

# printed instead of the user's value, because a secret may have been pasted into the wrong key
UNSAFE_TO_SHOW = "something else"

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_MAX_SHOWN = 60  # characters of a wrong value
_MAX_SPACES = 2  # of a value that is shown, because a passphrase has more words
_BETWEEN = re.compile(r"[\s/:.,_\[\]-]+")
# the words of names, paths, addresses, amounts, durations and times; those of keys mix letters, digits and cases
_PLAIN = re.compile(
    r"[a-z]{0,14}|[A-Z][a-z]{0,13}|[A-Z]{1,10}|[0-9]{1,12}|[0-9]{1,9}[A-Za-z]{1,7}|[A-Za-z][a-z]{0,9}[0-9]{1,2}"
)
_RIGHT = {
    "string_type": "expected a string",
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "tuple_type": "expected an array",
    "list_type": "expected an array",
}
_DATE = {"": "a date or time"}  # represents a date in JSON, which has none; hardly any key accepts a table


class InvalidValue(ValueError):
    """Raised by a validator: a description of the wrong value, and a hint; neither text shows a secret."""

    def __init__(self, description: str, hint: str) -> None:
        super().__init__(f"{description}: {hint}")
        self.description = description
        self.hint = hint


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def config_path(path: str, *keys: str | int) -> str:
    """Append keys to a path, spelt as in the file."""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        else:
            word = key if len(key) <= 64 else key[:63] + "…"
            word = word if _BARE.fullmatch(word) else json.dumps(word).replace("\x7f", "\\u007f")
            path += f".{word}" if path else word
    return path


def closest_match(word: object, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant; None if none is similar."""
    if not isinstance(word, str):
        return None
    close = difflib.get_close_matches(word.lower(), known := list(known), 1, 0.65)
    return close[0] if close else next((candidate for candidate in known if candidate.lower() == word.lower()), None)


def make_hint(word: object, known: Iterable[str], noun: str) -> str:
    """Return a hint: "did you mean", and the list of known words."""
    near = closest_match(word, known := list(known))
    parts = ([f'did you mean "{near}"?'] if near else []) + ([f"{noun}: {', '.join(known)}"] if known else [])
    return " ".join(parts)


def safe_description(value: object, expected: Iterable[str] | None = None) -> str:
    """Return a value as it is unless it may be a secret, otherwise only its type.

    With `expected`, a string that is not almost one of these words becomes `OTHER`.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value) if -1e9 < value < 1e9 else "a number"
        case "":
            return "an empty string"
        case str():
            almost = value.isprintable() and closest_match(value, expected or ())
            if almost or not may_be_secret(value):
                return f'"{value}"'
            return UNSAFE_TO_SHOW if expected is not None else "a string"
        case dict():
            return "a date or time" if value == _DATE else "a table"
        case list():
            return "an array" if value else "an empty array"
        case _:
            return "a date or time"


def with_value(value: str, fault: str) -> str:
    """Return the fault of a text, behind the text unless that may be a secret."""
    return fault if not value or may_be_secret(value) else f'"{value}", {fault}'


def may_be_secret(text: str) -> bool:
    """Return whether a text may be a secret, or hold one, so that no message may repeat it.

    It may not if it is short, and consists of plain words and numbers only, as names, paths, addresses and times do.
    """
    if not text.isprintable() or len(text) > _MAX_SHOWN or text.count(" ") > _MAX_SPACES:
        return True
    return any(_PLAIN.fullmatch(word) is None for word in _BETWEEN.split(text))


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────


def keys_of(model: type[BaseModel]) -> dict[str, str]:
    """Map a model's keys, as the file spells them, to the hint for each."""
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


def unknown_keys(table: Raw, known: Iterable[str], path: str) -> list[Problem]:
    """Return a problem for each key that is not known."""
    known = list(known)
    problems = []
    for key in table:
        if key not in known:
            near = closest_match(key, known)
            hint = f'did you mean "{near}"?' if near else f"known keys: {', '.join(known)}"
            problems.append(Problem(config_path(path, key), "unknown key", hint))
    return problems


def validate(
    model: type[M], table: Raw, path: str, hints: Mapping[str, str] | None = None
) -> tuple[M | None, list[Problem], set[str]]:
    """Validate the keys that the model knows; return the model, or None, the problems and the keys at fault.

    The table is validated as JSON. Only there do strict types accept arrays, TOML's only sequence, for tuples. `hints`
    has the hints for keys; by default each field's description is the hint.
    """
    keys_known = keys_of(model)
    hints = keys_known if hints is None else hints
    known = {key: value for key, value in table.items() if key in keys_known}
    try:
        return model.model_validate_json(json.dumps(known, default=_date), strict=True), [], set()
    except ValidationError as error:
        lines = error.errors(include_url=False)
    problems: dict[str, Problem] = {}
    keys: set[str] = set()
    for line in lines:
        keys.update(str(key) for key in line["loc"][:1])
        problem = _problem(line, known, path, hints)
        problems.setdefault(problem.path, problem)  # because a union has an error for each of its members
    return None, list(problems.values()), keys


def _date(value: object) -> dict[str, str]:
    return _DATE


def _problem(line: ErrorDetails, table: Raw, path: str, hints: Mapping[str, str]) -> Problem:
    kind, context, loc = line["type"], line.get("ctx", {}), line["loc"]
    value: Any = table
    keys: list[str | int] = []
    for key in loc:  # as far as the file has keys; pydantic appends the names of its own branches
        inside = isinstance(value, Mapping) and key in value
        if not inside and not (isinstance(value, Sequence) and isinstance(key, int)):
            break
        value = value[key]
        keys.append(key)
    right = hints.get(str(loc[0]), "") if len(loc) == 1 else ""
    if kind == "missing":
        return Problem(config_path(path, *loc), "missing", right)
    where = config_path(path, *keys)
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        return Problem(where, safe_description(value, words), make_hint(value, words, "one of"))
    error = context.get("error")
    if isinstance(error, InvalidValue):
        return Problem(where, error.description, error.hint)
    if error is None and (right := right or _RIGHT.get(kind, "") or hints.get(str(loc[0]), "")):
        return Problem(where, safe_description(value), right)
    message = line["msg"] if error is None else str(error)
    if not loc:  # keys contradict each other; the name of an environment is no secret
        return Problem(path, redact(message, [value for key, value in table.items() if key != "environment"]), "")
    return Problem(where, safe_description(value), redact(message, value if isinstance(value, list) else [value]))


def redact(text: str, values: Iterable[object]) -> str:
    """Return another library's message on one line, or "not accepted" if it repeats one of the values."""
    parts = [part for value in values if isinstance(value, str) for part in value.split() if len(part) > 3]
    if any(part in text for part in parts):
        return "not accepted"
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"
