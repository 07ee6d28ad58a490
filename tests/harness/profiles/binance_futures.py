"""State the profiles of Binance's futures, USD-M and COIN-M."""

from __future__ import annotations

from kill_switch.core.domain import CancelOutcome, SweepTiming
from kill_switch.venues.messages import Call
from tests.harness.profiles import binance
from tests.harness.profiles.venue_profile import SLOW, VenueProfile
from tests.harness.venue_playbook import payload


def _profile(product: str, symbol: str) -> VenueProfile:
    """Return the stand of USD-M (`fapi`) or COIN-M (`dapi`), with a symbol of it."""
    is_linear = product == "fapi"
    urls = {
        True: ("wss://fstream.binance.com/private/ws", "https://fapi.binance.com"),
        False: ("wss://dstream.binance.com/ws", "https://dapi.binance.com"),
    }

    def number(one: str) -> object:
        return int(one) if one.isascii() and one.isdigit() else one

    def listed(*ids: str, status: str) -> object:
        return [{"symbol": symbol, "orderId": number(one), "clientOrderId": "c", "status": status} for one in ids]

    def pushed(one: str, status: str) -> object:
        order = payload("binance/futures-order-update")["o"] | {
            "s": symbol,
            "i": number(one),
            "X": status,
            "x": "TRADE",
        }
        return {**payload("binance/futures-order-update"), "o": order}

    def found(one: str, status: str) -> object:
        return {"symbol": symbol, "orderId": number(one), "clientOrderId": "c", "status": status}

    def granted(call: Call) -> object:
        if call.request.target.endswith("/listenKey"):
            return payload("binance/futures-listen-key")
        if call.request.method == "DELETE":
            return binance.error(-2011, "Unknown order sent.")
        return {} if call.request.target.startswith("/sapi/") else None

    return VenueProfile(
        venue="binance-usdm" if is_linear else "binance-coinm",
        secrets=lambda: {"api_key": "binance-key-0123456789", "api_secret": "binance-secret-0123456789"},
        addresses=urls[is_linear],
        # §7: 2400 a minute for both products and all accounts of an address; §10: lists lag by up to 20 s
        timing=SweepTiming(
            clean_reads=2, read_after_s=0.25, read_gap_s=10.0, strike_gap_s=0.9, residue_after_s=45.0, list_lag_s=20.0
        ),
        refused_login=payload("binance/futures-listen-key-expired"),
        not_fatal=True,
        login_refusals=((payload("binance/futures-listen-key-expired"), "the listen key has expired", False),),
        accepted=(
            payload("binance/futures-cancelled-all"),
            {"code": "200", "msg": "The operation of cancel all conditional open order is done."},
        ),
        refused=(
            (400, binance.error(-1121, "Invalid symbol.")),
            (400, binance.error(-1102, "Mandatory parameter 'symbol' was not sent.")),
            (400, binance.error(-2011, "Order was not canceled due to cancel restrictions.")),
            (400, binance.error(-4120, "Order type not supported for this endpoint.")),
        ),
        unknown=(
            (429, binance.error(-1003, "Too many requests.")),
            (418, binance.error(-1003, "Way too much request weight used; IP banned until 1700000600000.")),
            (408, binance.error(-1007, "Timeout waiting for response from backend server.")),
            (503, binance.error(-1000, "Unknown error, please check your request or try again later.")),
            (200, {"data": {}}),
            (200, {"code": 0}),
        ),
        judged=(
            (200, payload("binance/futures-cancelled-all"), CancelOutcome.ACCEPTED, "2 commands: accepted"),
            (400, binance.error(-2011, "Unknown order sent."), CancelOutcome.ACCEPTED, "2 commands: accepted"),
            (400, binance.error(-1121, "Invalid symbol."), CancelOutcome.REFUSED, f"{symbol}: 400 -1121 Invalid sy"),
            (401, binance.error(-2015, "Invalid API-key."), CancelOutcome.REFUSED, "401 -2015 Invalid API-key."),
            (400, binance.error(-1022, "Signature for this"), CancelOutcome.REFUSED, "400 -1022 Signature"),
            (503, binance.error(-1000, "Service Unavailable."), CancelOutcome.REFUSED, "503 -1000 Service Unav"),
            (503, binance.error(-1008, "Server is overloaded"), CancelOutcome.REFUSED, "503 -1008 Server is"),
            (408, binance.error(-1007, "Timeout"), CancelOutcome.UNKNOWN, "408 -1007 Timeout"),
            (200, {"code": 0}, CancelOutcome.UNKNOWN, f"{symbol}: accepted, without code 200"),
        ),
        nothing=(*SLOW[:-1], (403, b"<html>"), (404, b"<html>"), (520, b"<html>"), (429, b"slow down")),
        key_refused=(401, binance.error(-2015, "Invalid API-key, IP, or permissions for action.")),
        probe_failures=(
            (401, binance.error(-2015, "Invalid API-key"), "401 -2015 Invalid API-key", True),
            (
                400,
                binance.error(-1000, "Not for a Portfolio Margin account."),
                "a portfolio-margin account: its",
                True,
            ),
            (400, binance.error(-1121, "Invalid symbol."), "400 -1121 Invalid symbol.", False),
            (200, {"orders": []}, "the open list cannot be read", False),
            (200, [7], "the open list cannot be read: 1 of 1 orders", False),
            (503, b"", "HTTP 503 proves nothing", False),
        ),
        worded=lambda words: binance.error(-1121, words),
        granted=granted,
        token=payload("binance/futures-listen-key")["listenKey"],
        target=binance.target,
        fans_out=symbol,
        asks=binance.asked_id,
        signed_ms=binance.signed_ms,
        listed=listed,
        pushed=pushed,
        found=found,
        forgotten=((400, binance.error(-2013, "Order does not exist.")),),
        ids=("88867740101", "88867740102"),
        live=("NEW", "PARTIALLY_FILLED"),
        gone="CANCELED",
        ends=("FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"),
        drilled=((400, binance.error(-2011, "Unknown order sent.")),),
        not_drilled=(
            (400, binance.error(-2011, "Order was not canceled due to cancel restrictions.")),
            (400, binance.error(-1121, "Invalid symbol.")),
            (200, {"orderId": 1, "symbol": symbol, "status": "CANCELED"}),
        ),
        worth=lambda call: payload("binance/futures-account"),
        equity={"USDT": "1238.2", "BNB": "0.5"},
    )


USDM, COINM = _profile("fapi", "BTCUSDT"), _profile("dapi", "BTCUSD_PERP")
