"""Serialise lines of JSON for other processes, whatever is in them: the control socket's answers, the workers' errands.

The journal does not use this: `journal/plain_json.py` keeps such values readable in a record.
"""

from __future__ import annotations

import json
import re

import orjson

from kill_switch.printable import REPLACED

_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte of a path, argument or variable that is not UTF-8


def to_json_line(value: object) -> bytes:
    """Return a value as a line of JSON in UTF-8, with its newline; text that is no Unicode becomes U+FFFD.

    A value that JSON does not have becomes its `str`.
    """
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # slower, but takes every text and every number
        text = json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":"))
        return _SURROGATE.sub(REPLACED, text).encode() + b"\n"
