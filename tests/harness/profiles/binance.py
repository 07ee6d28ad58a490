"""Read the requests of Binance's products, and make their errors, for their profiles."""

from __future__ import annotations

from kill_switch.venues.messages import Call
from kill_switch.venues.request import Request

_SIGNED = frozenset({"recvWindow", "timestamp", "signature"})


def target(target: str) -> str:
    """Return a target without what differs from copy to copy: the window, the time and the signature."""
    path, _, query = target.partition("?")
    values = [value for value in query.split("&") if value.partition("=")[0] not in _SIGNED and value]
    return f"{path}?{'&'.join(values)}" if values else path


def asked_id(call: Call) -> str:
    values = dict(value.split("=", 1) for value in call.request.target.partition("?")[2].split("&"))
    return values["orderId"] if "orderId" in values else f"algo:{values['algoId']}"


def signed_ms(request: Request) -> int:
    return int(dict(value.split("=", 1) for value in request.target.partition("?")[2].split("&"))["timestamp"])


def error(code: int, text: str) -> dict[str, object]:
    return {"code": code, "msg": text}
