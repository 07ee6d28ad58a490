"""Hold what real writers put into a journal against the table of records."""

from __future__ import annotations

from typing import Any

import orjson

from kill_switch.journal import records


def as_written(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry; fail if its record is none of the table, or would be told in another way."""
    record = records.from_json(entry)
    assert isinstance(record, records.Record), (entry["kind"], record, entry["data"])
    assert orjson.dumps(record.to_json()) == orjson.dumps(entry["data"]), entry["kind"]
    return entry
