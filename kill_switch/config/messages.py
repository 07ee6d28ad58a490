"""Say what is wrong with a value: where it stands, what was found, what would be right.

Nothing here repeats a document's text, except a plain word, a number, or what is almost a word that was expected: a
secret may have been pasted anywhere. That is why pydantic's own texts, which print values, are not used as they are.
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

Raw = Mapping[str, Any]  # a table as TOML gives it
M = TypeVar("M", bound=BaseModel)

OTHER = "something else"  # a string that may be a secret, where one of a few words is expected

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HARMLESS = re.compile(r"[a-z]{1,12}(-[a-z]{1,12})?|-?[0-9][0-9.,]{0,8} ?[A-Za-z]{0,5}")
_RIGHT = {
    "string_type": "expected a string",
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "tuple_type": "expected an array",
    "list_type": "expected an array",
}
_DATE = {"": "a date or time"}  # as JSON, which has none; a table is what hardly a key takes


class Wrong(ValueError):
    """What a validator raises: what was found, and what would be right; neither shows anything secret."""

    def __init__(self, found: str, hint: str) -> None:
        super().__init__(found)
        self.found = found
        self.hint = hint


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def at(path: str, *keys: str | int) -> str:
    """Extend a path the way that a user would write it."""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        else:
            word = key if len(key) <= 64 else key[:63] + "…"
            word = word if _BARE.fullmatch(word) else json.dumps(word).replace("\x7f", "\\u007f")
            path += f".{word}" if path else word
    return path


def nearest(word: object, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    if not isinstance(word, str):
        return None
    close = difflib.get_close_matches(word.lower(), known := list(known), 1, 0.65)
    return close[0] if close else next((one for one in known if one.lower() == word.lower()), None)


def hint_for(word: object, known: Iterable[str], noun: str) -> str:
    """Write "did you mean", and what there is."""
    near = nearest(word, known := list(known))
    parts = ([f'did you mean "{near}"?'] if near else []) + ([f"{noun}: {', '.join(known)}"] if known else [])
    return " ".join(parts)


def describe(value: object, expected: Iterable[str] | None = None) -> str:
    """Show a harmless value; name only the type of what might be anything, or say that it is not what was expected."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value) if -1e9 < value < 1e9 else "a number"
        case "":
            return "an empty string"
        case str():
            almost = value.isprintable() and nearest(value, expected or ())
            return (
                f'"{value}"' if almost or _HARMLESS.fullmatch(value) else OTHER if expected is not None else "a string"
            )
        case dict():
            return "a date or time" if value == _DATE else "a table"
        case list():
            return "an array" if value else "an empty array"
        case _:
            return "a date or time"


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────


def keys_of(model: type[BaseModel]) -> dict[str, str]:
    """Map a model's keys, as the file spells them, to what would be right for each."""
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


def unknown_keys(table: Raw, known: Iterable[str], path: str) -> list[Problem]:
    """Report keys that nothing reads."""
    known = list(known)
    found = []
    for key in table:
        if key not in known:
            near = nearest(key, known)
            hint = f'did you mean "{near}"?' if near else f"known keys: {', '.join(known)}"
            found.append(Problem(at(path, key), "unknown key", hint))
    return found


def validate(model: type[M], table: Raw, path: str) -> tuple[M | None, list[Problem], set[str]]:
    """Validate the keys that the model knows; return it, or what is wrong and the keys at fault.

    Validated as JSON, because strict types and TOML's only sequence, the array, go together only there.
    """
    hints = keys_of(model)
    known = {key: value for key, value in table.items() if key in hints}
    try:
        return model.model_validate_json(json.dumps(known, default=_date), strict=True), [], set()
    except ValidationError as error:
        lines = error.errors(include_url=False)
    problems: dict[str, Problem] = {}
    keys: set[str] = set()
    for line in lines:
        keys.update(str(key) for key in line["loc"][:1])
        problem = _problem(line, known, path, hints)
        problems.setdefault(problem.path, problem)  # a union has a line for each of its members
    return None, list(problems.values()), keys


def _date(value: object) -> dict[str, str]:
    return _DATE


def _problem(line: ErrorDetails, table: Raw, path: str, hints: Mapping[str, str]) -> Problem:
    kind, context, loc = line["type"], line.get("ctx", {}), line["loc"]
    value: Any = table
    keys: list[str | int] = []
    for key in loc:  # as far as the file goes; pydantic adds the names of its own branches
        inside = isinstance(value, Mapping) and key in value
        if not inside and not (isinstance(value, Sequence) and isinstance(key, int)):
            break
        value = value[key]
        keys.append(key)
    right = hints.get(str(loc[0]), "") if len(loc) == 1 else ""
    if kind == "missing":
        return Problem(at(path, *loc), "missing", right)
    where = at(path, *keys)
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        return Problem(where, describe(value, words), hint_for(value, words, "one of"))
    error = context.get("error")
    if isinstance(error, Wrong):
        return Problem(where, error.found, error.hint)
    if error is None and (right := right or _RIGHT.get(kind, "") or hints.get(str(loc[0]), "")):
        return Problem(where, describe(value), right)
    said = line["msg"] if error is None else str(error)
    return Problem(where, describe(value), without(said, value if isinstance(value, list) else [value]))


def without(text: str, values: Iterable[object]) -> str:
    """Return a text by another hand on one line, or nothing of it if it repeats a value."""
    parts = [part for value in values if isinstance(value, str) for part in value.split() if len(part) > 3]
    if any(part in text for part in parts):
        return "not accepted"
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"
