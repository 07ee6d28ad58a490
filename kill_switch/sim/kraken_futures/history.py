"""Kraken derivatives' history API: the account log, and the events of orders (docs/venues/kraken.md §4.3).

Its answers have no envelope of REST v3, and its limit is a pool of its own (§7). Both versions answer alike.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request, SimAnswer, json_answer
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kraken_futures import payloads as wire
from kill_switch.sim.kraken_futures.past import Past, PastEvent

if TYPE_CHECKING:
    from kill_switch.sim.kraken_futures.venue import KrakenFutures

T = TypeVar("T")
HISTORY = "/api/history/"
_VERSIONS = ("v2/", "v3/")
_USUAL_ROWS, _USUAL_EVENTS, _MOST_EVENTS = 500, 100, 1000
_ROW_COSTS = ((25, 1), (50, 2), (1000, 3), (5000, 6), (100_000, 10))  # of the log, by `count`
_KINDS_OF_ENTRY = frozenset({
    "futures trade", "futures liquidation", "futures assignor", "futures assignee", "futures unwind counterparty",
    "futures unwind bankrupt", "covered liquidation", "funding rate change", "conversion", "interest payment",
    "transfer", "cross-exchange transfer", "kfee applied", "subaccount transfer", "settlement", "admin transfer",
    "tax withheld", "tax refund",
})  # fmt: skip


def history_routes(venue: KrakenFutures) -> dict[tuple[str, str], RouteSpec]:
    """Return the routes of the history API; `history_cost` has what they cost."""
    calls = HistoryCalls(venue)
    table = {
        "account-log": RouteSpec("read", "account-log", calls.account_log),
        "orders": RouteSpec("other", "order-events", calls.events(lambda past: past.orders)),
        "triggers": RouteSpec("other", "trigger-events", calls.events(lambda past: past.triggers)),
        "executions": RouteSpec("other", "execution-events", calls.events(lambda past: past.executions)),
        "market/{symbol}/executions": RouteSpec("other", "market-executions", calls.market, public=True),
    }
    return {("GET", HISTORY + version + name): spec for version in _VERSIONS for name, spec in table.items()}


def history_cost(request: Request) -> float:
    """Return what a private request costs in the pool of the history API (§7)."""
    if not request.path.endswith("/account-log"):
        return 1
    count = request.parameters().get("count", "")
    rows = int(count) if count.isascii() and count.isdigit() else _USUAL_ROWS
    return next((cost for most, cost in _ROW_COSTS if rows <= most), _ROW_COSTS[-1][1])


def limited(frees_s: float) -> SimAnswer:
    """Return the refusal of a request for which the pool has no room: plain text, and when it has (§7)."""
    return SimAnswer((b"Rate limited",), 429, ok=False, headers={"rate-limit-reset": f"{frees_s:.0f}"})


class HistoryCalls:
    """The calls that read what was."""

    def __init__(self, venue: KrakenFutures) -> None:
        self._venue = venue

    def account_log(self, account: Account, params: Params) -> SimAnswer:
        """Answer account-log: rows between two times and two numbers, the newest first if `sort` does not say other."""
        self._venue.permit_read()
        kinds = params.get("info", [])
        first, last = _whole(params, "from", 1, least=1), _whole(params, "to", 2**63, least=1)
        since, before = _whole(params, "since", 0), _whole(params, "before", 2**63)
        if not _KINDS_OF_ENTRY.issuperset(kinds) or params.get("conversion_details", "false") not in ("true", "false"):
            raise Refused("invalidArgument")
        rows = [
            row
            for row in self._venue.past(account).log
            if first <= _number(row) <= last and since <= _at_ms(row) <= before and (not kinds or row["info"] in kinds)
        ]
        count = _whole(params, "count", _USUAL_ROWS, least=1)
        return json_answer({"accountUid": account.venue_id, "logs": _sorted(rows, params)[:count]})

    def events(self, choose: Callable[[Past], Iterable[PastEvent]]) -> Callable[[Account, Params], SimAnswer]:
        """Return the handler for one kind of event, in pages."""

        def answer(account: Account, params: Params) -> SimAnswer:
            self._venue.permit_read()
            page = self._page(choose(self._venue.past(account)), params)
            return json_answer({"accountUid": account.venue_id, **page})

        return answer

    def market(self, account: Account, params: Params) -> SimAnswer:
        """Answer the public executions of a contract: those of the simulated accounts, without their names."""
        symbol = str(params["symbol"]).upper()
        if symbol not in wire.SYMBOLS:
            raise Refused("contractNotFound")
        known = [event for each in self._venue.accounts.values() for event in self._venue.past(each).executions]
        known.sort(key=lambda event: event.at_ms)
        page = self._page(known, {**params, "tradeable": symbol})
        return json_answer(page | {"elements": [_anonymous(row) for row in page["elements"]]})

    def _page(self, known: Iterable[PastEvent], params: Params) -> dict[str, Any]:
        since, before = _whole(params, "since", 0), _whole(params, "before", 2**63)
        count = min(_MOST_EVENTS, _whole(params, "count", _USUAL_EVENTS, least=1))
        symbol, unwanted = str(params.get("tradeable", "")).upper(), _unwanted(params)
        events = [
            event
            for event in known
            if since <= event.at_ms <= before and symbol in ("", event.symbol) and event.phase not in unwanted
        ]
        start = _start(params)
        chosen = _sorted(events, params)
        page: dict[str, Any] = {
            "elements": [event.row() for event in chosen[start : start + count]],
            "len": len(chosen[start : start + count]), "serverTime": wire.iso_ms(self._venue.now_ns()),
        }  # fmt: skip
        if len(chosen) > start + count:
            page["continuationToken"] = base64.b64encode(f"{_order(params)}/{start + count}".encode()).decode()
        return page


def _unwanted(params: Params) -> set[str]:
    phases = {"opened": "placed", "closed": "ended"}
    for name in phases:
        if params.get(name, "true") not in ("true", "false"):
            raise Refused("invalidArgument")
    return {phase for name, phase in phases.items() if params.get(name) == "false"}


def _start(params: Params) -> int:
    """Return where a page begins, by the token of the page before it. Raises `Refused`."""
    token = str(params.get("continuation_token", params.get("continuationToken", "")))
    if not token:
        return 0
    try:
        order, _, start = base64.b64decode(token, validate=True).decode().partition("/")
        if order != _order(params):
            raise ValueError("another order than that of the page before")
        return int(start)
    except ValueError:
        raise Refused("invalidArgument") from None


def _order(params: Params) -> str:
    order = str(params.get("sort", "desc"))
    if order not in ("asc", "desc"):
        raise Refused("invalidArgument")
    return order


def _sorted(oldest_first: Sequence[T], params: Params) -> Sequence[T]:
    return oldest_first if _order(params) == "asc" else oldest_first[::-1]


def _whole(params: Params, name: str, default: int, *, least: int = 0) -> int:
    """Return a parameter that is a whole number. Raises `Refused`."""
    text = str(params.get(name, default))
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise Refused("invalidArgument")
    return int(text)


def _number(row: Mapping[str, object]) -> int:
    return int(str(row["id"]))


def _at_ms(row: Mapping[str, object]) -> int:
    return wire.ms_of(str(row["date"]))


def _anonymous(row: Mapping[str, Any]) -> dict[str, Any]:
    trade = dict(row["event"]["Execution"]["execution"])
    order = {name: value for name, value in trade.pop("order").items() if name not in ("accountUid", "clientId")}
    kind = trade.pop("executionType")
    other = order | {"uid": row["uid"], "direction": "Sell" if order["direction"] == "Buy" else "Buy"}
    sides = (
        {"makerOrder": order, "takerOrder": other} if kind == "maker" else {"makerOrder": other, "takerOrder": order}
    )
    event = {"Execution": {"execution": trade | sides, "takerReducedQuantity": ""}}
    return {"uid": row["uid"], "timestamp": row["timestamp"], "event": event}
