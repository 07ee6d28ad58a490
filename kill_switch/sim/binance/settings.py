"""The settings of a futures account: position mode, leverage, margin type, fees.

Clients read or set it before they trade. No setting changes what the simulated account does with its orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.params import known_symbol, missing
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.tables import Params, RouteSpec

if TYPE_CHECKING:
    from kill_switch.sim.binance.futures import BinanceFutures

_LEVERAGE, _MOST_LEVERAGE = 20, 125
_MARGIN_TYPES = ("CROSSED", "ISOLATED")


def routes(venue: BinanceFutures) -> dict[tuple[str, str], RouteSpec]:
    """Return the routes."""
    calls = SettingsCalls(venue)
    table = {
        ("GET", "positionSide/dual"): RouteSpec("other", "position-mode", calls.position_mode, 30),
        ("POST", "positionSide/dual"): RouteSpec("other", "set-position-mode", calls.set_position_mode),
        ("GET", "positionMargin/history"): RouteSpec("other", "margin-changes", calls.margin_changes),
        ("GET", "forceOrders"): RouteSpec("other", "forced-orders", calls.forced, 20),
        ("GET", "adlQuantile"): RouteSpec("other", "deleveraging", calls.deleveraging, 5),
        ("GET", "commissionRate"): RouteSpec("other", "fees", calls.fees, 20),
        ("GET", "leverageBracket"): RouteSpec("other", "brackets", calls.brackets),
        ("POST", "leverage"): RouteSpec("other", "set-leverage", calls.set_leverage),
        ("POST", "marginType"): RouteSpec("other", "set-margin-type", calls.set_margin_type),
    }
    if venue.product.is_linear:
        table |= {
            ("GET", "multiAssetsMargin"): RouteSpec("other", "assets-mode", calls.assets_mode, 30),
            ("GET", "accountConfig"): RouteSpec("other", "account-settings", calls.account, 5),
            ("GET", "symbolConfig"): RouteSpec("other", "symbol-settings", calls.symbols, 5),
        }
    rows = {(method, f"{venue.product.api}/v1/{path}"): spec for (method, path), spec in table.items()}
    if not venue.product.is_linear:  # by symbol, where the first version is by pair
        rows["GET", f"{venue.product.api}/v2/leverageBracket"] = table["GET", "leverageBracket"]
    return rows


class SettingsCalls:
    """The calls that read or set."""

    def __init__(self, venue: BinanceFutures) -> None:
        self._venue = venue
        self._leverage: dict[tuple[str, str], int] = {}  # by account and symbol
        self._margin: dict[tuple[str, str], str] = {}

    def position_mode(self, account: Account, params: Params) -> object:
        """Answer GET positionSide/dual: one-way."""
        return {"dualSidePosition": False}

    def set_position_mode(self, account: Account, params: Params) -> object:
        """Answer POST positionSide/dual: the account stays one-way, and hedge mode is refused."""
        self._venue.permit_command(account)
        text = str(params.get("dualSidePosition", "")).lower()
        if text not in ("true", "false"):
            raise refusal("-1102", missing("dualSidePosition"))
        if text == "false":
            raise refusal("-4059", "No need to change position side.")
        if account.open:
            raise refusal("-4067", "Position side cannot be changed if there exists open orders.")
        if account.positions:
            raise refusal("-4068", "Position side cannot be changed if there exists position.")
        raise refusal("-4084", "Method is not allowed currently. Upcoming soon.")

    def margin_changes(self, account: Account, params: Params) -> object:
        """Answer positionMargin/history: no margin was moved."""
        known_symbol(self._venue.symbols, params)
        return []

    def forced(self, account: Account, params: Params) -> object:
        """Answer forceOrders: nothing was liquidated."""
        known_symbol(self._venue.symbols, params, needed=False)
        return []

    def deleveraging(self, account: Account, params: Params) -> object:
        """Answer adlQuantile: each position is last in the queue."""
        symbol = known_symbol(self._venue.symbols, params, needed=False)
        names = dict.fromkeys(held.symbol for held in account.positions.values() if symbol in ("", held.symbol))
        return [{"symbol": name, "adlQuantile": {"LONG": 0, "SHORT": 0, "BOTH": 0}} for name in names]

    def assets_mode(self, account: Account, params: Params) -> object:
        """Answer GET multiAssetsMargin: each asset is its own margin."""
        return {"multiAssetsMargin": False}

    def fees(self, account: Account, params: Params) -> object:
        """Answer commissionRate."""
        symbol = known_symbol(self._venue.symbols, params)
        return {"symbol": symbol, "makerCommissionRate": "0.000200", "takerCommissionRate": "0.000400"}

    def brackets(self, account: Account, params: Params) -> object:
        """Answer leverageBracket, with one bracket."""
        symbol = known_symbol(self._venue.symbols, params, needed=False)
        rows = [
            {"bracket": 1, "initialLeverage": _MOST_LEVERAGE, "notionalCap": 50_000, "notionalFloor": 0,
             "maintMarginRatio": 0.004, "cum": 0.0}
        ]  # fmt: skip
        return [{"symbol": name, "brackets": rows} for name in self._venue.symbols if symbol in ("", name)]

    def account(self, account: Account, params: Params) -> object:
        """Answer accountConfig."""
        return {
            "feeTier": 0, "canTrade": True, "canDeposit": True, "canWithdraw": True, "dualSidePosition": False,
            "updateTime": 0, "multiAssetsMargin": False, "tradeGroupId": -1,
        }  # fmt: skip

    def symbols(self, account: Account, params: Params) -> object:
        """Answer symbolConfig."""
        symbol = known_symbol(self._venue.symbols, params, needed=False)
        return [
            {"symbol": name, "marginType": self._margin.get((account.name, name), "CROSSED"), "isAutoAddMargin": False,
             "leverage": self._leverage.get((account.name, name), _LEVERAGE), "maxNotionalValue": "1000000"}
            for name in self._venue.symbols
            if symbol in ("", name)
        ]  # fmt: skip

    def set_leverage(self, account: Account, params: Params) -> object:
        """Answer POST leverage."""
        self._venue.permit_command(account)
        symbol, text = known_symbol(self._venue.symbols, params), str(params.get("leverage", ""))
        if not text:
            raise refusal("-1102", missing("leverage"))
        if not text.isdigit() or not 0 < int(text) <= _MOST_LEVERAGE:
            raise refusal("-4028", f"Leverage {text} is not valid")
        self._leverage[account.name, symbol] = int(text)
        most = {"maxNotionalValue": "1000000"} if self._venue.product.is_linear else {"maxQty": "1000"}
        return {"symbol": symbol, "leverage": int(text), **most}

    def set_margin_type(self, account: Account, params: Params) -> object:
        """Answer POST marginType; the present type is an error."""
        self._venue.permit_command(account)
        symbol, margin = known_symbol(self._venue.symbols, params), str(params.get("marginType", ""))
        if margin not in _MARGIN_TYPES:
            raise refusal("-1102", missing("marginType"))
        if margin == self._margin.get((account.name, symbol), "CROSSED"):
            raise refusal("-4046", "No need to change margin type.")
        self._margin[account.name, symbol] = margin
        return {"code": 200, "msg": "success"}
