"""Binance's error codes with their usual texts and HTTP statuses (docs/venues/binance.md §8)."""

from __future__ import annotations

from collections.abc import Mapping

from kill_switch.sim.kit.tables import Refused

TEXTS: Mapping[str, str] = {
    "-1000": "An unknown error occurred while processing the request.",
    "-1001": "Internal error; unable to process your request. Please try again.",
    "-1003": "Too many requests; please use the websocket for live updates to avoid polling the API.",
    "-1007": "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    "-1008": "Server is currently overloaded with other requests. Please try again in a few minutes.",
    "-1013": "Filter failure: LOT_SIZE",
    "-1016": "This service is no longer available.",
    "-1021": "Timestamp for this request is outside of the recvWindow.",
    "-1022": "Signature for this request is not valid.",
    "-1034": "Too many connection attempts.",
    "-1100": "Illegal characters found in a parameter.",
    "-1104": "Not all sent parameters were read.",
    "-1116": "Invalid orderType.",
    "-1117": "Invalid side.",
    "-1121": "Invalid symbol.",
    "-1125": "This listenKey does not exist.",
    "-1128": "Combination of optional parameters invalid.",
    "-1131": "recvWindow must be less than 60000.",
    "-1135": "Invalid JSON Request",
    "-2011": "Unknown order sent.",
    "-2013": "Order does not exist.",
    "-2014": "API-key format invalid.",
    "-2015": "Invalid API-key, IP, or permissions for action.",
    "-2035": "User Data Stream subscription is already active.",
    "-4109": "This account is inactive. Please activate it before trading.",
    "-4120": "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    "-5000": "Path or method is invalid.",
}
STATUSES: Mapping[str, int] = {  # of the codes that are not 400
    "-1000": 500,
    "-1001": 500,
    "-1002": 401,
    "-1003": 429,
    "-1007": 408,
    "-1008": 503,
    "-1015": 429,
    "-1016": 503,
    "-1034": 429,
    "-2014": 401,
    "-2015": 401,
    "-5000": 404,
}
BY_STATUS: Mapping[int, str] = {  # for the statuses that the kit's faults speak in
    400: "-1100",
    401: "-2015",
    403: "-2015",  # a key that may only read and an address that is not allowed are not told apart
    404: "-5000",
    408: "-1007",
    418: "-1003",
    429: "-1003",
    503: "-1016",
    0: "-1000",
}


def refusal(code: str, text: str = "") -> Refused:
    """Return the exception for a code; an empty text stands for the usual one."""
    return Refused(code, STATUSES.get(code, 400), text)
