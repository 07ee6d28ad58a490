"""Convert the journal's records between dataclasses and JSON's plain values, by the types of their fields.

A missing value, or a value of another type, is replaced by the field's default. Without a default, or if the field is
`STRICT`, the whole record is unfit. Values of unknown fields are dropped.
"""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Reader = Callable[[Any], Any]  # converts a value, or raises `TypeError` or `ValueError`
MAX_FITTING = 64  # combinations of types that are remembered for each record type: a kill has fewer than ten


class FieldMark(Enum):
    """Mark of a field, in its annotation."""

    STRICT = "a value of another type makes the record unfit, although the field has a default"
    OMITTED = "is not written if it is None"


class UnfitValue(ValueError):
    """The values do not fit the record type; the text names the field."""


class Field(NamedTuple):
    """A field of a record type."""

    name: str
    hint: Any  # its type
    reads: Reader
    required: bool
    strict: bool
    omitted: bool
    fit: Fit
    meaning: str


class Fit(Enum):
    """Which types decide whether a field's value fits."""

    BY_TYPE = "the type of the value"
    BY_ITEMS = "the type of the value and, of a tuple, the types of its items"
    BY_VALUE = "none: the reader has to look at the value itself"


class _Plan:
    """How to read one record type: its fields, and a fast reader for values of types that are known to fit."""

    def __init__(self, record: type[Any]) -> None:
        self.fields = _fields(record)
        self._record = record
        self._steps = tuple(
            (field.name, field.reads, field.required, field.required or field.strict) for field in self.fields
        )
        self._fitting: set[tuple[object, ...]] = set()
        self._read_fast = _compile_fast_reader(record, self.fields, self._fitting)

    def read(self, data: object) -> Any:
        """Return the record that `data` holds; raise `UnfitValue` if `data` does not fit the type."""
        if type(data) is not dict and not isinstance(data, Mapping):
            raise UnfitValue("no object")
        if self._read_fast is None:
            return self._read_each(data)
        known = self._read_fast(data)
        if known is not None:
            return known
        record = self._read_each(data)
        self._remember_fit(record, data)
        return record

    def _read_each(self, data: Mapping[str, Any]) -> Any:
        values: dict[str, Any] = {}
        for name, reads, required, strict in self._steps:
            try:
                values[name] = reads(data[name])
            except KeyError:
                if required:
                    raise UnfitValue(f"{name} is missing") from None
            except (TypeError, ValueError):
                if strict:
                    raise UnfitValue(f"{name} is of another type") from None
        return self._record(**values)

    def _remember_fit(self, record: object, data: Mapping[str, Any]) -> None:
        """Add the values' types to those that the fast reader accepts, if reading has changed none of the values."""
        if len(self._fitting) < MAX_FITTING:
            pairs = [(field, data.get(field.name)) for field in self.fields]
            if all(_is_unchanged(getattr(record, field.name), value) for field, value in pairs):
                self._fitting.add(tuple(_type_key(field, value) for field, value in pairs))


def _type_key(field: Field, value: Any) -> object:
    if field.fit is Fit.BY_ITEMS and type(value) is tuple:
        return tuple(map(type, value))
    return type(value)


def _is_unchanged(read: Any, value: Any) -> bool:
    if type(read) is tuple and type(value) is tuple:
        return len(read) == len(value) and all(map(operator.is_, read, value))
    return read is value


def _compile_fast_reader(
    record: type[T], record_fields: Sequence[Field], fitting: set[tuple[object, ...]]
) -> Callable[[Mapping[str, Any]], T | None] | None:
    """Return a function that reads `record` from values whose types are in `fitting`, and returns None for others.

    None: some field's types do not decide. The source is generated, as `dataclasses` generates `__init__`.
    A loop over the fields takes twice as long, and the event loop reads six records an account in each kill.
    The setters are those of the slots, which a frozen type does not guard.
    """
    if any(field.fit is Fit.BY_VALUE for field in record_fields):
        return None
    names = [field.name for field in record_fields]
    if not all(name.isidentifier() for name in names):
        raise TypeError(f"{record.__name__} has a field that is no identifier")
    lines, keys = [], []
    for field in record_fields:
        lines.append(f"v_{field.name} = " + (f"data[{field.name!r}]" if field.required else f"get({field.name!r})"))
        key = f"type(v_{field.name})"
        by_items = field.fit is Fit.BY_ITEMS
        keys.append(f"(tuple(map(type, v_{field.name})) if {key} is tuple else {key})" if by_items else key)
    source = [
        "def read_fast(data):",
        " get = data.get",
        " try:",
        *(f"  {line}" for line in lines),
        " except KeyError:",
        "  return None",
        f" if ({''.join(f'{key}, ' for key in keys)}) not in fitting:",
        "  return None",
        " record = new(record_type)",
        *(f" set_{name}(record, v_{name})" for name in names),
        " return record",
    ]
    scope: dict[str, Any] = {f"set_{name}": record.__dict__[name].__set__ for name in names}
    scope |= {"new": object.__new__, "record_type": record, "fitting": fitting}
    exec("\n".join(source), scope)  # noqa: S102 - the source has nothing but the names of the type's own fields
    reader: Callable[[Mapping[str, Any]], T | None] = scope["read_fast"]
    return reader


def fields_of(record: type[Any]) -> tuple[Field, ...]:
    """Return the fields of a record type, in their order."""
    return _plan(record).fields


def _fields(record: type[Any]) -> tuple[Field, ...]:
    hints = get_type_hints(record, include_extras=True)
    return tuple(
        _field(each.name, hints[each.name], each.default is MISSING and each.default_factory is MISSING)
        for each in fields(record)
    )


_PLANS: dict[type[Any], _Plan] = {}


def _plan(record: type[Any]) -> _Plan:
    plan = _PLANS.get(record)
    if plan is None:
        plan = _PLANS[record] = _Plan(record)
    return plan


def decode(record: type[T], data: object) -> T:
    """Return the record of this type that `data` holds; raise `UnfitValue` if `data` does not fit the type."""
    read: T = _plan(record).read(data)
    return read


def encode(record: object) -> dict[str, Any]:
    """Return a record's fields in JSON's plain values, in their order."""
    return dict(_values(record))


def _values(record: object) -> Iterator[tuple[str, Any]]:
    for field in fields_of(type(record)):
        value = getattr(record, field.name)
        if value is not None or not field.omitted:
            yield field.name, _plain(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return encode(value)
    if isinstance(value, tuple):
        return [*map(_plain, value)]
    if isinstance(value, Mapping) and any(is_dataclass(item) or isinstance(item, tuple) for item in value.values()):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Mapping):  # JSON's serialiser takes no other mapping than a dict
        return dict(value)
    return value


def _field(name: str, hint: Any, required: bool) -> Field:
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        marks = tuple(extras)
    reads = _reader(hint)
    checks = [mark for mark in marks if callable(mark)]
    for check in checks:
        reads = _checking(reads, check)
    meaning = next((mark for mark in marks if isinstance(mark, str)), "")
    fit = Fit.BY_VALUE if checks else _fit(hint)
    return Field(name, hint, reads, required, FieldMark.STRICT in marks, FieldMark.OMITTED in marks, fit, meaning)


def _fit(hint: Any) -> Fit:
    args = [arg for arg in get_args(hint) if arg is not type(None)]
    if get_origin(hint) in (Union, types.UnionType):
        fits = {_fit(arg) for arg in args}
        return fits.pop() if len(fits) == 1 else Fit.BY_VALUE
    if _is_mapping(get_origin(hint)):
        return Fit.BY_TYPE if args[1] is Any else Fit.BY_VALUE
    if get_origin(hint) is tuple and args[-1] is Ellipsis:
        return Fit.BY_ITEMS if args[0] in (str, int, bool) else Fit.BY_VALUE
    return Fit.BY_TYPE if hint in _PLAIN or (isinstance(hint, type) and issubclass(hint, Enum)) else Fit.BY_VALUE


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
    """A record of the journal. A field with a default may be missing, as in journals of earlier versions."""

    kind: ClassVar[str] = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record's data in JSON's plain values."""
        return encode(self)


class Unreadable(NamedTuple):
    """A record that this version does not understand: of an unknown kind, or with a missing or wrong field."""

    kind: str
    why: str


class KindTable:
    """The record types of some kinds. Its methods read the journal's records of these kinds."""

    def __init__(self, records: Iterable[type[Record]]) -> None:
        self.types: Mapping[str, type[Record]] = {record.kind: record for record in records}
        self._plans = {kind: _plan(record) for kind, record in self.types.items()}

    def from_json(self, entry: Mapping[str, Any]) -> Record | Unreadable:
        """Return the record of one journal entry; never raises."""
        return self.read(entry.get("kind"), entry.get("data"))

    def read(self, kind: object, data: object) -> Record | Unreadable:
        """Return the record of this kind with this data; never raises."""
        plan = self._plans.get(kind) if isinstance(kind, str) else None
        if plan is None:
            return Unreadable(str(kind), "a kind that this version does not know")
        try:
            record: Record = plan.read(data)
        except UnfitValue as unfit:
            return Unreadable(str(kind), str(unfit))
        return record


# ── readers of field types ────────────────────────────────────────────────────────────────────────────────────────────


def _reader(hint: Any) -> Reader:
    origin, args = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin in (Union, types.UnionType) and type(None) in args and len(args) == 2:
        return _or_none(_reader(next(arg for arg in args if arg is not type(None))))
    if origin is tuple:
        return _list(_reader(args[0])) if args[-1] is Ellipsis else _row(tuple(map(_reader, args)))
    if _is_mapping(origin):
        return _object if args[1] is Any else _objects(_reader(args[1]))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if isinstance(hint, type) and is_dataclass(hint):
        return _plan(hint).read
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
    return lambda value: tuple([reads(item) for item in _items(value)])


def _row(readers: tuple[Reader, ...]) -> Reader:
    return lambda value: tuple(reads(item) for reads, item in zip(readers, _items(value), strict=True))


def _objects(reads: Reader) -> Reader:
    return lambda value: {_text(name): reads(item) for name, item in _object(value).items()}


def _items(value: Any) -> list[Any] | tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return value
    raise TypeError


_PLAIN: Mapping[Any, Reader] = {str: _text, int: _integer, bool: _switch, Any: _anything}
