"""Read a record's dataclass from JSON's plain values, and tell it in them, by the types of its fields. Pure.

A field with a default takes it where its value is missing or of another type. A field without one, or one marked
`STRICT`, makes the whole record unfit. Fields that the type does not have are left out.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Reader = Callable[[Any], Any]  # returns the value, or raises `TypeError` or `ValueError`


class FieldMark(Enum):
    """What a field's annotation may say besides its meaning."""

    STRICT = "a value of another type makes the record unfit, although the field has a default"
    OMITTED = "is not written if it is None"


class UnfitValue(ValueError):
    """The values are none of this type; the text says which field is why."""


class Field(NamedTuple):
    """One field of a record."""

    name: str
    hint: Any  # its type
    reads: Reader
    required: bool
    strict: bool
    omitted: bool
    by_type: bool  # a value's own type says whether it fits
    meaning: str


class _Plan:
    """How one type is read: its fields, and the types of values that were found to fit it."""

    def __init__(self, record: type[Any]) -> None:
        self.fields = _fields(record)
        self.names = tuple(one.name for one in self.fields)
        self.steps = tuple((one.name, one.reads, one.required, one.required or one.strict) for one in self.fields)
        self.fitting: set[tuple[type, ...]] = set()
        self.by_type = all(one.by_type for one in self.fields)  # the values' types alone say whether they fit
        # the slots' own setters, which a frozen type does not guard: half the time of its `__init__`
        self.setters = tuple(record.__dict__[name].__set__ for name in self.names)


def fields_of(record: type[Any]) -> tuple[Field, ...]:
    """Return the fields of a record's type, in their order."""
    return _plan(record).fields


def _fields(record: type[Any]) -> tuple[Field, ...]:
    hints = get_type_hints(record, include_extras=True)
    return tuple(
        _field(one.name, hints[one.name], one.default is MISSING and one.default_factory is MISSING)
        for one in fields(record)
    )


_PLANS: dict[type[Any], _Plan] = {}


def _plan(record: type[Any]) -> _Plan:
    plan = _PLANS.get(record)
    if plan is None:
        plan = _PLANS[record] = _Plan(record)
    return plan


def decode(record: type[T], data: object) -> T:
    """Return the record that `data` tells; raise `UnfitValue` if it tells none."""
    plan = _plan(record)
    if type(data) is not dict and not isinstance(data, Mapping):
        raise UnfitValue("no object")
    if plan.by_type:  # most records of a kill are alike, and the event loop reads them
        found = [*map(data.get, plan.names)]
        key = (*map(type, found),)
        if key in plan.fitting:
            made = object.__new__(record)
            for put, value in zip(plan.setters, found, strict=True):
                put(made, value)
            return made
        made = _decode(plan, record, data)
        if all(getattr(made, name) is value for name, value in zip(plan.names, found, strict=True)):
            plan.fitting.add(key)
        return made
    return _decode(plan, record, data)


def _decode(plan: _Plan, record: type[T], data: Mapping[str, Any]) -> T:
    values: dict[str, Any] = {}
    for name, reads, required, strict in plan.steps:
        try:
            values[name] = reads(data[name])
        except KeyError:
            if required:
                raise UnfitValue(f"{name} is missing") from None
        except (TypeError, ValueError):
            if strict:
                raise UnfitValue(f"{name} is of another type") from None
    return record(**values)


def encode(record: object) -> dict[str, Any]:
    """Return a record's fields in JSON's plain values, in their order."""
    return dict(_values(record))


def _values(record: object) -> Iterator[tuple[str, Any]]:
    for one in fields_of(type(record)):
        value = getattr(record, one.name)
        if value is not None or not one.omitted:
            yield one.name, _plain(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return encode(value)
    if isinstance(value, tuple):
        return [*map(_plain, value)]
    if isinstance(value, Mapping) and any(is_dataclass(one) or isinstance(one, tuple) for one in value.values()):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, Mapping):  # JSON's serialiser takes no other mapping than a dict
        return dict(value)
    return value


def _field(name: str, hint: Any, required: bool) -> Field:
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        marks = tuple(extras)
    reads = _reader(hint)
    checks = [one for one in marks if callable(one)]
    for check in checks:
        reads = _checking(reads, check)
    meaning = next((one for one in marks if isinstance(one, str)), "")
    by_type = not checks and _is_by_type(hint)
    return Field(name, hint, reads, required, FieldMark.STRICT in marks, FieldMark.OMITTED in marks, by_type, meaning)


def _is_by_type(hint: Any) -> bool:
    args = [one for one in get_args(hint) if one is not type(None)]
    if get_origin(hint) in (Union, types.UnionType):
        return all(map(_is_by_type, args))
    if _is_mapping(get_origin(hint)):
        return args[1] is Any
    return hint in _PLAIN or (isinstance(hint, type) and issubclass(hint, Enum))


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _checking(reads: Reader, check: Reader) -> Reader:
    def reader(value: Any) -> Any:
        read = reads(value)
        check(read)
        return read

    return reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of the journal. A field with a default may be missing, as in journals of earlier versions."""

    kind: ClassVar[str] = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record's data in JSON's plain values."""
        return encode(self)


class Unreadable(NamedTuple):
    """A record that this version does not understand: of an unknown kind, or with a field that is missing or wrong."""

    kind: str
    why: str


class KindTable:
    """Read entries of some kinds."""

    def __init__(self, records: Iterable[type[Record]]) -> None:
        self.types: Mapping[str, type[Record]] = {one.kind: one for one in records}

    def from_json(self, entry: Mapping[str, Any]) -> Record | Unreadable:
        """Return the record of one entry of the journal; never raises."""
        return self.read(entry.get("kind"), entry.get("data"))

    def read(self, kind: object, data: object) -> Record | Unreadable:
        """Return a record by its kind and its data; never raises."""
        record = self.types.get(kind) if isinstance(kind, str) else None
        if record is None:
            return Unreadable(str(kind), "a kind that this version does not know")
        try:
            return decode(record, data)
        except UnfitValue as unfit:
            return Unreadable(str(kind), str(unfit))


# ── one reader a type ─────────────────────────────────────────────────────────────────────────────────────────────


def _reader(hint: Any) -> Reader:
    origin, args = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin in (Union, types.UnionType) and type(None) in args and len(args) == 2:
        return _or_none(_reader(next(one for one in args if one is not type(None))))
    if origin is tuple:
        return _list(_reader(args[0])) if args[-1] is Ellipsis else _row(tuple(map(_reader, args)))
    if _is_mapping(origin):
        return _object if args[1] is Any else _objects(_reader(args[1]))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda value: decode(hint, value)
    raise TypeError(f"no record has a field of type {hint}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    raise TypeError


def _switch(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise TypeError


def _anything(value: Any) -> Any:
    return value


def _object(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise TypeError


def _or_none(reads: Reader) -> Reader:
    return lambda value: None if value is None else reads(value)


def _list(reads: Reader) -> Reader:
    return lambda value: tuple([reads(one) for one in _items(value)])


def _row(readers: tuple[Reader, ...]) -> Reader:
    return lambda value: tuple(reads(one) for reads, one in zip(readers, _items(value), strict=True))


def _objects(reads: Reader) -> Reader:
    return lambda value: {_text(name): reads(one) for name, one in _object(value).items()}


def _items(value: Any) -> list[Any] | tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return value
    raise TypeError


_PLAIN: Mapping[Any, Reader] = {str: _text, int: _integer, bool: _switch, Any: _anything}
