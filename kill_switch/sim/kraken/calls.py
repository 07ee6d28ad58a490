"""Kraken's REST calls (docs/venues/kraken.md §3, §4, §9): the table of routes, and their handlers."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.table_venue import text_ids
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kraken import payloads as wire
from kill_switch.sim.kraken.desk import UNKNOWN_ORDER
from kill_switch.sim.kraken.placing import PlaceCalls
from kill_switch.sim.kraken.records import PastPrices, RecordCalls
from kill_switch.sim.kraken.v2 import check_known, find_order, is_name

if TYPE_CHECKING:
    from kill_switch.sim.kraken.venue import Kraken

PRIVATE = "/0/private/"
_PUBLIC = "/0/public/"
_MOST_IDS = 50
_ALWAYS = ("nonce", "otp")


def routes(venue: Kraken) -> dict[tuple[str, str], RouteSpec]:
    """Return the routes of the venue."""
    cancels, reads, public = CancelCalls(venue), ReadCalls(venue), PublicCalls(venue)
    private = {
        "CancelAll": RouteSpec("cancel", "cancel-all", cancels.cancel_all),
        "CancelOrder": RouteSpec("cancel", "cancel", cancels.cancel_order, weight=0),
        "CancelOrderBatch": RouteSpec("cancel", "cancel-batch", cancels.cancel_order_batch),
        "CancelAllOrdersAfter": RouteSpec("other", "dead-man", cancels.cancel_after),
        "OpenOrders": RouteSpec("read", "orders", reads.open_orders),
        "QueryOrders": RouteSpec("read", "order", reads.query_orders),
        "ClosedOrders": RouteSpec("read", "closed", reads.closed_orders),
        "TradeBalance": RouteSpec("read", "balance", reads.trade_balance),
        "Balance": RouteSpec("read", "balances", reads.balance),
        "BalanceEx": RouteSpec("read", "balances", reads.balance_with_holds),
        "OpenPositions": RouteSpec("other", "positions", reads.no_positions),
        "DepositStatus": RouteSpec("other", "deposits", reads.no_moves),
        "WithdrawStatus": RouteSpec("other", "withdrawals", reads.no_moves),
        "TradeVolume": RouteSpec("other", "volume", reads.volume),
        "GetApiKeyInfo": RouteSpec("read", "key", reads.key_info),
        "GetWebSocketsToken": RouteSpec("login", "token", reads.token),
    }
    private |= PlaceCalls(venue).routes() | RecordCalls(venue).routes()
    anyone = {
        "Time": RouteSpec("other", "time", public.time, 0, public=True),
        "SystemStatus": RouteSpec("other", "status", public.system_status, 0, public=True),
        "AssetPairs": RouteSpec("other", "pairs", public.asset_pairs, 0, public=True),
        "Assets": RouteSpec("other", "assets", public.assets, 0, public=True),
        "Ticker": RouteSpec("other", "ticker", public.ticker, 0, public=True),
        "Depth": RouteSpec("other", "depth", public.depth, 0, public=True),
    }
    anyone |= PastPrices(venue).routes()
    table = {("POST", PRIVATE + name): spec for name, spec in private.items()}
    return table | {("GET", _PUBLIC + name): spec for name, spec in anyone.items()}


class CancelCalls:
    """The calls that cancel."""

    def __init__(self, venue: Kraken) -> None:
        self._desk = venue.desk
        self._venue = venue

    def cancel_all(self, account: Account, params: Params) -> object:
        """Answer CancelAll."""
        self._desk.permit(account, "cancel-all")
        check_known(params, _ALWAYS)
        return self._cancelled(self._desk.cancel_every(account))

    def cancel_order(self, account: Account, params: Params) -> object:
        """Answer CancelOrder: one order by `txid` or `cl_ord_id`, or all of a `userref`."""
        self._desk.permit(account, "cancel")
        check_known(params, (*_ALWAYS, "txid", "cl_ord_id"))
        if "txid" in params and "cl_ord_id" in params:  # over the WebSocket they cannot be combined (§3.1)
            raise Refused("EGeneral:Invalid arguments:cl_ord_id")
        key = "cl_ord_id" if "cl_ord_id" in params else "txid"
        name = str(params.get(key, ""))
        if not name or (key == "txid" and not (name.isdigit() or self._venue.id_format(name))):
            raise Refused(f"EGeneral:Invalid arguments:{key}")
        orders: list[Order | None] = [find_order(account, key, name)]
        if key == "txid" and name.isdigit():
            orders = [order for order in account.open.values() if order.category == name] or [None]
        codes = self._desk.cancel_named(account, orders)
        if None not in codes:
            raise Refused(codes[0] or UNKNOWN_ORDER)
        return self._cancelled(codes.count(None))

    def cancel_order_batch(self, account: Account, params: Params) -> object:
        """Answer CancelOrderBatch, which takes JSON lists only (§3.2)."""
        self._desk.permit(account, "cancel-batch")
        check_known(params, (*_ALWAYS, "orders", "cl_ord_ids"))
        names: list[tuple[str, object]] = []
        for argument, key in (("orders", "orders"), ("cl_ord_ids", "cl_ord_id")):
            listed = params.get(argument, [])
            if not isinstance(listed, list):
                raise Refused(f"EGeneral:Invalid arguments:{argument}")
            names += [(key, name) for name in listed]
        if not 1 <= len(names) <= _MOST_IDS or not all(is_name(key, name) for key, name in names):
            raise Refused("EGeneral:Invalid arguments:orders")
        orders = [find_order(account, key, name) for key, name in names]
        return self._cancelled(self._desk.cancel_batch(account, orders))

    def cancel_after(self, account: Account, params: Params) -> object:
        """Answer CancelAllOrdersAfter."""
        self._desk.permit(account, "dead-man")
        check_known(params, (*_ALWAYS, "timeout"))
        return self._desk.set_countdown(account, params.get("timeout"))

    def _cancelled(self, count: int) -> dict[str, object]:
        return {"count": count, "pending": True} if self._desk.holds_up and count else {"count": count}


class ReadCalls:
    """The calls that read, and the call that hands out tokens."""

    def __init__(self, venue: Kraken) -> None:
        self._desk = venue.desk
        self._venue = venue

    def open_orders(self, account: Account, params: Params) -> object:
        """Answer OpenOrders: one page (§4.1)."""
        self._desk.permit(account, "orders")
        orders = self._venue.listed(account, "orders")
        userref, client = params.get("userref"), params.get("cl_ord_id")
        shown = [order for order in orders if userref is None or order.category == str(userref)]
        return {"open": {order.id: wire.listed(order) for order in shown if client in (None, order.client_id)}}

    def query_orders(self, account: Account, params: Params) -> object:
        """Answer QueryOrders, for at most 50 ids."""
        self._desk.permit(account, "order")
        ids = [str(order_id) for order_id in text_ids(params.get("txid"))]
        if not 1 <= len(ids) <= _MOST_IDS or not all(map(self._venue.id_format, ids)):
            raise Refused("EGeneral:Invalid arguments:txid")
        known = account.closed | account.open
        orders = {order_id: wire.listed(known[order_id]) for order_id in ids if order_id in known}
        if not orders:
            raise Refused(UNKNOWN_ORDER)
        return orders

    def closed_orders(self, account: Account, params: Params) -> object:
        """Answer ClosedOrders, paged by 50."""
        self._desk.permit(account, "closed")
        orders = [*account.closed.values()][::-1]
        start = int(params["ofs"]) if str(params.get("ofs", "")).isdigit() else 0
        page = orders[start : start + _MOST_IDS]
        return {"closed": {order.id: wire.listed(order) for order in page}, "count": len(orders)}

    def trade_balance(self, account: Account, params: Params) -> object:
        """Answer TradeBalance (§9)."""
        self._desk.permit(account, "balance")
        if params.get("asset", "ZUSD") not in (*wire.ASSETS, *wire.ASSETS.values()):
            raise Refused("EQuery:Unknown asset")
        return wire.trade_balance(account)

    def balance(self, account: Account, params: Params) -> object:
        """Answer Balance."""
        self._desk.permit(account, "balances")
        return {"ZUSD": f"{account.cash:.4f}"}

    def balance_with_holds(self, account: Account, params: Params) -> object:
        """Answer BalanceEx."""
        self._desk.permit(account, "balances")
        return {"ZUSD": {"balance": f"{account.cash:.4f}", "hold_trade": "0.0000"}}

    def no_positions(self, account: Account, params: Params) -> object:
        """Answer OpenPositions: an account without margin has none. Those that are consolidated are a list."""
        self._desk.permit(account, "trades")
        return [] if params.get("consolidation") == "market" else {}

    def no_moves(self, account: Account, params: Params) -> object:
        """Answer DepositStatus and WithdrawStatus: nothing was moved."""
        self._desk.permit(account, "balances")
        return []

    def volume(self, account: Account, params: Params) -> object:
        """Answer TradeVolume."""
        self._desk.permit(account, "balances")
        return {"currency": "ZUSD", "volume": "0.0000"}

    def key_info(self, account: Account, params: Params) -> object:
        """Answer GetApiKeyInfo, which needs no right (§9)."""
        self._desk.permit(account, "key")
        now = str(int(self._venue.now()))
        return {
            "api_key_name": account.name, "api_key": account.credentials["api_key"], "nonce": str(params["nonce"]),
            "nonce_window": str(self._venue.options.nonce_window), "permissions": self._desk.rights(account),
            "valid_until": "0", "query_from": "0", "query_to": "0", "created_time": now, "modified_time": now,
            "ip_allowlist": [""], "last_used": now,
        }  # fmt: skip

    def token(self, account: Account, params: Params) -> object:
        """Answer GetWebSocketsToken (§2.2)."""
        self._desk.permit(account, "token")
        if self._venue.options.token_single:
            self._venue.tokens.revoke(account)
        return {"token": self._venue.tokens.issue(account), "expires": int(self._venue.options.token_s)}


class PublicCalls:
    """The calls that need no key."""

    def __init__(self, venue: Kraken) -> None:
        self._venue = venue

    def time(self, account: Account, params: Params) -> object:
        """Answer Time, in seconds (§9)."""
        now = self._venue.now()
        return {"unixtime": int(now), "rfc1123": formatdate(now, usegmt=True)}

    def system_status(self, account: Account, params: Params) -> object:
        """Answer SystemStatus (§8)."""
        return {"status": self._venue.mode, "timestamp": wire.iso_s(self._venue.now_ns())}

    def asset_pairs(self, account: Account, params: Params) -> object:
        """Answer AssetPairs."""
        return wire.asset_pairs(self._venue.mode)

    def assets(self, account: Account, params: Params) -> object:
        """Answer Assets."""
        return wire.assets()

    def depth(self, account: Account, params: Params) -> object:
        """Answer Depth, of one pair: a price on each side."""
        pair = wire.BY_NAME.get(str(params.get("pair")))
        if pair is None:
            raise Refused("EQuery:Unknown asset pair")
        row = ["30000.00000", "1.000", int(self._venue.now())]
        return {pair.code: {"bids": [row], "asks": [row]}}

    def ticker(self, account: Account, params: Params) -> object:
        """Answer Ticker, of some pairs or all."""
        names = text_ids(params.get("pair")) or [pair.code for pair in wire.PAIRS]
        if unknown := [name for name in names if name not in wire.BY_NAME]:
            raise Refused(f"EQuery:Unknown asset pair:{unknown[0]}")
        return {wire.BY_NAME[name].code: wire.ticker(wire.BY_NAME[name]) for name in names}
