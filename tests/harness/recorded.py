"""Hold what real writers put into a journal against the table of records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kill_switch.journal import records


def what_is_wrong(entry: Mapping[str, Any]) -> str:
    """Say why the entry is none of the table, or is told in another way than it was written; "" if all is well."""
    record = records.from_json(entry)
    if isinstance(record, records.Unreadable):
        return f"a record {record.kind}: {record.why}"
    if orjson.dumps(record.to_json()) != orjson.dumps(entry["data"]):
        return f"a record {entry['kind']} is told in another way than it was written"
    return ""


def must_be_as_written(entry: Mapping[str, Any]) -> None:
    """Fail if something is wrong with the record of an entry."""
    assert not (wrong := what_is_wrong(entry)), (wrong, entry["data"])
