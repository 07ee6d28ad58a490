"""Switches for the facts that a venue's documents leave open, set at start-up or at run time.

A venue declares a dataclass derived from `Options`. `--option venue.key=value` and `POST /options` set its fields by
name, as text or as JSON values. A fact that the documents state is code, never an option.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

_TRUE = {"true", "on", "yes", "1"}
_FALSE = {"false", "off", "no", "0"}


def option(
    default: Any, says: str, *choices: str, fixed: bool = False, kind: object = None, harsh: object = None
) -> Any:
    """Declare one option.

    `says` is its text for people. A `fixed` option decides credentials or URLs and can be set at start-up only. `kind`
    and `harsh` are its values if the fact is decided for or against the client; None is the default.
    """
    shown = {"says": says, "choices": choices, "fixed": fixed, "kind": kind, "harsh": harsh}
    return field(default=default, metadata=shown)


def unknown(subject: str, name: object, known: Iterable[str]) -> str:
    """Describe an unknown name in one line: the closest known name, and all known names."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {subject} {name!r}.{hint} Known: {', '.join(names)}."


@dataclass
class Options:
    """The options that every venue has.

    The option `unknown` sets many at once: `harsh` decides every such fact against the client, `kind` in its favour. An
    option that is set beside it wins.
    """

    unknown: str = option(
        "default", "how all facts that the documents leave open are decided", "default", "kind", "harsh"
    )
    engine_ms: float = option(0.0, "milliseconds from an accepted cancel until the engine has executed it", harsh=150.0)
    idle_s: float = option(0.0, "seconds of silence after which a WebSocket is closed; 0 is never", harsh=20.0)
    idle_close_code: int = option(1000, "close code after `idle_s`")
    life_s: float = option(0.0, "seconds after which a WebSocket is closed in any case; 0 is never", harsh=30.0)
    events: str = option("subscribed", "the sessions that get account events", "subscribed", "all", harsh="all")
    snapshot: bool = option(
        False, "a subscription to order events first sends the resting orders as events", harsh=True
    )

    def set(self, name: str, value: object, *, starting: bool = False) -> None:
        """Set one option. Raises `ValueError` with the allowed values."""
        known = {entry.name: entry for entry in fields(self)}
        entry = known.get(name)
        if entry is None:
            raise ValueError(unknown("option", name, known))
        if entry.metadata["fixed"] and not starting:
            raise ValueError(f"option {name!r} decides credentials or addresses: it can be set at start-up only")
        setattr(self, name, _parse(name, value, entry.default, entry.metadata["choices"]))
        if name == "unknown":
            for fact in self.unknowns():
                chosen = fact.metadata.get(self.unknown)
                setattr(self, fact.name, fact.default if chosen is None else chosen)

    def set_all(self, values: Mapping[str, object], *, starting: bool = False) -> None:
        """Set several options, `unknown` first. Raises `ValueError` with the allowed values."""
        for name in sorted(values, key=lambda name: name != "unknown"):
            self.set(name, values[name], starting=starting)

    @classmethod
    def unknowns(cls) -> list[Field[Any]]:
        """Return the options for the facts that `unknown` decides."""
        return [
            entry for entry in fields(cls) if entry.metadata["kind"] is not None or entry.metadata["harsh"] is not None
        ]

    def listing(self) -> dict[str, dict[str, object]]:
        """Return every option with its value, its default and its text."""
        return {
            entry.name: {
                "value": getattr(self, entry.name),
                "default": entry.default,
                "says": entry.metadata["says"],
                **({"choices": entry.metadata["choices"]} if entry.metadata["choices"] else {}),
                **({} if entry.metadata["harsh"] is None else {"harsh": entry.metadata["harsh"]}),
            }
            for entry in fields(self)
        }


def _parse(name: str, value: object, default: object, choices: tuple[str, ...]) -> object:
    text = str(value).strip()
    if isinstance(default, bool):
        if text.lower() in _TRUE or text.lower() in _FALSE:
            return text.lower() in _TRUE
        raise ValueError(f"option {name!r} is true or false, not {text!r}")
    if isinstance(default, int | float):
        try:
            number = int(text) if isinstance(default, int) else float(text)
        except ValueError:
            number = -1
        if number < 0 or not math.isfinite(number):
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise ValueError(f"option {name!r} is {kind}, 0 or more, not {text!r}")
        return number
    if choices and text not in choices:
        raise ValueError(unknown(f"value of option {name!r}:", text, choices))
    return text
