"""Kraken derivatives' settings of an account, and the reads of a client that starts (docs/venues/kraken.md §4.3).

None of it changes what a kill does: leverage and the currency of profits are kept, fees and queues are empty.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kraken_futures import payloads as wire

if TYPE_CHECKING:
    from kill_switch.sim.kraken_futures.venue import KrakenFutures

_API = "/derivatives/api/v3/"
_MOST_LEVERAGE = 50.0
_CURRENCIES = ("USD", "USDC", "USDT", "EUR", "GBP", "XBT", "ETH")


def setting_routes(venue: KrakenFutures) -> dict[tuple[str, str], RouteSpec]:
    """Return the routes of settings, and of the reads of a client that starts."""
    calls = SettingCalls(venue)
    gets = {
        "leveragepreferences": RouteSpec("other", "leverage", calls.leverage, 2),
        "pnlpreferences": RouteSpec("other", "pnl-currency", calls.pnl_currency, 2),
        "feeschedules": RouteSpec("other", "fees", lambda account, params: {"feeSchedules": [wire.FEES]}, public=True),
        "feeschedules/volumes": RouteSpec("other", "volumes", calls.volumes, 1),
        "unwindqueue": RouteSpec("other", "unwind-queue", lambda account, params: {"queue": []}, 200),
        "subaccounts": RouteSpec("other", "subaccounts", calls.subaccounts, 2),
        "history": RouteSpec("other", "trades", calls.trades, public=True),
        "instruments/{symbol}/status": RouteSpec("other", "status", calls.status, public=True),
    }
    puts = {
        "leveragepreferences": RouteSpec("other", "set-leverage", calls.set_leverage, 10),
        "pnlpreferences": RouteSpec("other", "set-pnl-currency", calls.set_pnl_currency, 10),
    }
    table = {("GET", _API + name): spec for name, spec in gets.items()}
    table |= {("PUT", _API + name): spec for name, spec in puts.items()}
    funding = RouteSpec("other", "funding-rates", calls.funding_rates, public=True)
    return table | {("GET", "/derivatives/api/v4/historicalfundingrates"): funding}


class SettingCalls:
    """The calls that read and change the settings."""

    def __init__(self, venue: KrakenFutures) -> None:
        self._venue = venue
        self._leverage: dict[tuple[str, str], float] = {}  # by account and contract, where it is isolated
        self._currency: dict[tuple[str, str], str] = {}

    def leverage(self, account: Account, params: Params) -> object:
        """Answer leveragepreferences: the contracts with isolated margin; a `symbol` alone, or all."""
        self._venue.permit_read()
        wanted = _symbol(params) if "symbol" in params else ""
        chosen = [
            {"symbol": symbol, "maxLeverage": most}
            for (name, symbol), most in self._leverage.items()
            if name == account.name and wanted in ("", symbol)
        ]
        return {"leveragePreferences": chosen}

    def set_leverage(self, account: Account, params: Params) -> object:
        """Set a contract's most leverage, isolated; without one its margin is crossed."""
        self._venue.permit_rest(account)
        key = account.name, _symbol(params)
        if "maxLeverage" not in params:
            self._leverage.pop(key, None)
            return {}
        most = _positive(params["maxLeverage"])
        if most > _MOST_LEVERAGE:
            raise Refused("invalidArgument")
        self._leverage[key] = most
        return {}

    def pnl_currency(self, account: Account, params: Params) -> object:
        """Answer pnlpreferences."""
        self._venue.permit_read()
        mine = {symbol: coin for (name, symbol), coin in self._currency.items() if name == account.name}
        return {"preferences": [{"symbol": symbol, "pnlCurrency": coin} for symbol, coin in mine.items()]}

    def set_pnl_currency(self, account: Account, params: Params) -> object:
        """Set the currency of a contract's profits."""
        self._venue.permit_rest(account)
        symbol, coin = _symbol(params), str(params.get("pnlPreference", "")).upper()
        if not coin:
            raise Refused("requiredArgumentMissing")
        if coin not in _CURRENCIES:
            raise Refused("invalidArgument")
        self._currency[account.name, symbol] = coin
        return {}

    def volumes(self, account: Account, params: Params) -> object:
        """Answer feeschedules/volumes."""
        self._venue.permit_read()
        return {"volumesByFeeSchedule": {str(wire.FEES["uid"]): 0.0}}

    def subaccounts(self, account: Account, params: Params) -> object:
        """Answer subaccounts: there are none."""
        self._venue.permit_read()
        return {"masterAccountUid": account.venue_id, "subaccounts": []}

    def trades(self, account: Account, params: Params) -> object:
        """Answer history: the last trades of a contract, the newest first."""
        symbol = _symbol(params)
        known = [order for each in self._venue.accounts.values() for order in each.closed.values() if order.filled]
        known = sorted((order for order in known if order.symbol == symbol), key=lambda order: -order.closed_ns)
        rows = [
            {"time": wire.iso_ms(order.closed_ns), "trade_id": number, "price": float(order.price),
             "size": float(order.filled), "side": order.side, "type": "fill", "uid": order.id}
            for number, order in enumerate(known[:100], 1)
        ]  # fmt: skip
        return {"history": rows}

    def status(self, account: Account, params: Params) -> object:
        """Answer instruments/{symbol}/status."""
        is_down = self._venue.mode == "maintenance"
        calm = {"isExperiencingDislocation": False, "isExperiencingExtremeVolatility": False}
        return {
            "tradeable": _symbol(params),
            "isSuspended": is_down,
            **calm,
            "extremeVolatilityInitialMarginMultiplier": 1,
        }

    def funding_rates(self, account: Account, params: Params) -> object:
        """Answer historicalfundingrates: none were paid."""
        _symbol(params)
        return {"rates": []}


def _symbol(params: Params) -> str:
    """Return the contract, which may be in any case. Raises `Refused`."""
    symbol = str(params.get("symbol", "")).upper()
    if not symbol:
        raise Refused("requiredArgumentMissing")
    if symbol not in wire.SYMBOLS:
        raise Refused("contractNotFound")
    return symbol


def _positive(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise Refused("invalidArgument")
    return number
