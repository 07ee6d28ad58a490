"""Calls of `/sapi/v1`: what a key may do, the state of the account and of the system, money that moved, TWAPs.

§ numbers are those of docs/venues/binance.md: §3.7, §8, §9. The calls are not in the pools of the orders' API.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.params import known_symbol, missing, number, order_side
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.tables import Params, RouteSpec

if TYPE_CHECKING:
    from kill_switch.sim.binance.venue import Binance

_API = "/sapi/v1/"
_CHILD_S = 1.0  # between two orders of a TWAP
_COINS = ("BTC", "ETH", "BNB", "USDT")


class Transfer(NamedTuple):
    """Money that was moved in, or out if negative."""

    amount: Decimal
    at_ms: int


def routes(venue: Binance) -> dict[tuple[str, str], RouteSpec]:
    """Return the routes; each costs 1 of its endpoint's pool (§7)."""
    calls, twaps = WalletCalls(venue), Twaps(venue)
    table = {
        ("GET", "account/apiRestrictions"): RouteSpec("read", "key", calls.key_rights),
        ("GET", "account/apiTradingStatus"): RouteSpec("read", "lock", calls.trading_status),
        ("GET", "account/status"): RouteSpec("other", "account-state", lambda account, params: {"data": "Normal"}),
        ("GET", "asset/tradeFee"): RouteSpec("other", "fees", calls.fees),
        ("GET", "asset/wallet/balance"): RouteSpec("read", "wallet", calls.balances),
        ("GET", "capital/config/getall"): RouteSpec("other", "coins", calls.coins),
        ("GET", "capital/deposit/hisrec"): RouteSpec("read", "deposits", calls.deposits),
        ("GET", "capital/withdraw/history"): RouteSpec("read", "withdrawals", calls.withdrawals),
        ("GET", "margin/allPairs"): RouteSpec("other", "margin-pairs", lambda account, params: []),
        ("GET", "margin/isolated/allPairs"): RouteSpec("other", "margin-pairs", lambda account, params: []),
        ("GET", "system/status"): RouteSpec("other", "status", calls.system_status, public=True),
    }
    for space in ("spot", "futures"):
        table |= {
            ("POST", f"algo/{space}/newOrderTwap"): RouteSpec("other", "place-twap", twaps.place),
            ("GET", f"algo/{space}/openOrders"): RouteSpec("read", "twaps", twaps.listed),
            ("DELETE", f"algo/{space}/order"): RouteSpec("cancel", "cancel-twap", twaps.stop),
        }
    return {(method, _API + path): spec for (method, path), spec in table.items()}


class WalletCalls:
    """The calls that read."""

    def __init__(self, venue: Binance) -> None:
        self._venue = venue

    def key_rights(self, account: Account, params: Params) -> object:
        """Answer account/apiRestrictions (§9)."""
        rights = self._venue.options.key_rights.split(",")
        trades = "trade" in rights and self._venue.faults.on("read_only_key", account.name) is None
        is_futures = self._venue.name != "binance-spot"
        return {
            "ipRestrict": "ip" in rights, "createTime": 1_623_840_271_000, "enableReading": True,
            "enableWithdrawals": "withdraw" in rights, "enableInternalTransfer": False, "enableMargin": False,
            "enableFutures": trades and is_futures, "permitsUniversalTransfer": False, "enableVanillaOptions": False,
            "enableFixApiTrade": False, "enableFixReadOnly": False,
            "enableSpotAndMarginTrading": trades and not is_futures, "enablePortfolioMarginTrading": False,
        }  # fmt: skip

    def trading_status(self, account: Account, params: Params) -> object:
        """Answer account/apiTradingStatus."""
        shown = {"isLocked": False, "plannedRecoverTime": 0, "triggerCondition": {}, "updateTime": 0}
        return {"data": shown}

    def fees(self, account: Account, params: Params) -> object:
        """Answer asset/tradeFee."""
        symbol = known_symbol(self._venue.symbols, params, needed=False)
        names = [name for name in self._venue.symbols if symbol in ("", name)]
        return [{"symbol": name, "makerCommission": "0.0015", "takerCommission": "0.0015"} for name in names]

    def balances(self, account: Account, params: Params) -> object:
        """Answer asset/wallet/balance, in the quote asset."""
        wallets = {"binance-spot": "Spot", "binance-usdm": "USDⓈ-M Futures", "binance-coinm": "COIN-M Futures"}
        name = wallets[self._venue.name]
        return [{"activate": True, "balance": str(account.equity), "walletName": name}]

    def coins(self, account: Account, params: Params) -> object:
        """Answer capital/config/getall."""
        shown = {"free": "0", "locked": "0", "depositAllEnable": True, "withdrawAllEnable": True, "networkList": []}
        return [{"coin": coin, "name": coin, **shown} for coin in _COINS]

    def deposits(self, account: Account, params: Params) -> object:
        """Answer capital/deposit/hisrec."""
        return [
            {"id": f"d{nth}", "amount": str(move.amount), "coin": "USDT", "network": "ETH", "status": 1,
             "walletType": 0, "transferType": 0, "insertTime": move.at_ms, "completeTime": move.at_ms}
            for nth, move in self._moves(account, params) if move.amount > 0
        ]  # fmt: skip

    def withdrawals(self, account: Account, params: Params) -> object:
        """Answer capital/withdraw/history."""
        return [
            {"id": f"w{nth}", "amount": str(-move.amount), "transactionFee": "0", "coin": "USDT", "network": "ETH",
             "status": 6, "walletType": 0, "transferType": 0, "applyTime": _utc(move.at_ms),
             "completeTime": _utc(move.at_ms)}
            for nth, move in self._moves(account, params) if move.amount < 0
        ]  # fmt: skip

    def _moves(self, account: Account, params: Params) -> list[tuple[int, Transfer]]:
        """Return the transfers from `startTime` on, each with its number."""
        since_ms = int(number(params, "startTime")) if "startTime" in params else 0
        moves = enumerate(self._venue.transfers.get(account.name, []), 1)
        return [(nth, move) for nth, move in moves if move.at_ms >= since_ms]

    def system_status(self, account: Account, params: Params) -> object:
        """Answer system/status (§8)."""
        is_down = self._venue.faults.peek("maintenance") is not None
        return {"status": 1, "msg": "system maintenance"} if is_down else {"status": 0, "msg": "normal"}


def _utc(at_ms: int) -> str:
    """Format a time as the history of withdrawals does (§9)."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


class Twaps:
    """Algos that go on placing orders, whatever is cancelled, until they are stopped (§3.7)."""

    def __init__(self, venue: Binance) -> None:
        self._venue = venue
        self._running: dict[str, tuple[Account, str, str]] = {}  # owner, symbol and side, by algoId

    def place(self, account: Account, params: Params) -> object:
        """Answer newOrderTwap; the first child comes at once."""
        self._venue.permit_trade(account)
        symbol, side = known_symbol(self._venue.symbols, params), order_side(params)
        algo_id = self._venue.new_id(14_500)
        self._running[algo_id] = (account, symbol, side)
        self._child(algo_id)
        return {"clientAlgoId": str(params.get("clientAlgoId", "")), "success": True, "code": 0, "msg": "OK"}

    def _child(self, algo_id: str) -> None:
        if algo_id in self._running:
            account, symbol, _ = self._running[algo_id]
            self._venue.rest(account, 1, symbol, "limit")
            self._venue.later(_CHILD_S, self._child, algo_id)

    def listed(self, account: Account, params: Params) -> object:
        """Answer openOrders of the algos."""
        mine = [(algo_id, symbol, side) for algo_id, (owner, symbol, side) in self._running.items() if owner is account]
        return {
            "total": len(mine),
            "orders": [
                {"algoId": int(algo_id), "symbol": symbol, "side": side.upper(), "algoStatus": "WORKING",
                 "algoType": "TWAP"}
                for algo_id, symbol, side in mine
            ],
        }  # fmt: skip

    def stop(self, account: Account, params: Params) -> object:
        """Answer DELETE order of the algos."""
        self._venue.permit_trade(account)
        algo_id = str(params.get("algoId", ""))
        if not algo_id:
            raise refusal("-1102", missing("algoId"))
        if self._running.get(algo_id, (None,))[0] is not account:
            raise refusal("-2013")
        del self._running[algo_id]
        return {"algoId": int(algo_id), "success": True, "code": 0, "msg": "OK"}
