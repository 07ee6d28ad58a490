"""Read the reason of a person's request, the same for a daemon that runs, starts or ends. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kill_switch import printable
from kill_switch.control.server import Caller, RequestRefused
from kill_switch.core.domain import without_reason

MAX_TEXT = 1000  # characters


def reason_text(request: Mapping[str, Any], caller: Caller) -> str:
    """Return the reason of a request; without one, who asked.

    Raises `RequestRefused` if the reason is no text.
    """
    text = request.get("reason", "")
    if not isinstance(text, str):
        raise RequestRefused("reason must be a text")
    return printable.line(text).strip()[:MAX_TEXT] or without_reason(caller.user)
