"""An order at a symbol that nobody knew, whose push is lost: it is gone soon after a list that lags can show it."""

from __future__ import annotations

import math

import pytest

from tests.harness.shared_address import Address

GONE_WITHIN_S = 3.0  # from the kill on, or from when a list can show the order, if it lags by more than 2 s
BEFORE_S = 0.05  # the order is placed so long before the kill
CASES = [  # venue, kind of the orders, seconds by which its lists lag
    *(
        ("binance-usdm", kind, lag_s)
        for kind, lag_s in (("limit", 2.0), ("stop", 5.0), ("algo", 18.0), ("limit", 11.0))
    ),
    *(("binance-coinm", kind, lag_s) for kind, lag_s in (("limit", 0.0), ("algo", 2.0), ("stop", 13.0))),
    *(("binance-spot", kind, lag_s) for kind, lag_s in (("limit", 2.0), ("oco", 2.0), ("oto", 7.0), ("stop", 17.0))),
]


def gone_after_s(address: Address, name: str, kind: str, lag_s: float) -> float:
    """Kill an account with a known symbol; return how long orders at an unknown one live from the kill on."""
    venue = address.venues[name]
    account = next(iter(venue.accounts.values()))
    address.rest(1)
    address.run(60)
    venue.options.lag_s = lag_s
    address.run(math.ceil(lag_s))
    venue.rest(account, 2, venue.symbols[7], kind)
    address.time.advance(BEFORE_S * 1000)
    address.fire()
    for tenth in range(400):
        if not account.open:
            return tenth / 10
        address.time.advance(100.0)
    raise AssertionError(f"{len(account.open)} orders rest")


@pytest.mark.parametrize(("name", "kind", "lag_s"), CASES)
def test_orders_at_an_unknown_symbol_are_gone_soon_after_a_list_can_show_them(
    name: str, kind: str, lag_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = Address(name, 1, monkeypatch)
    shown_s = 0.0 if lag_s <= 2 else lag_s - BEFORE_S
    assert gone_after_s(address, name, kind, lag_s) <= shown_s + GONE_WITHIN_S
    assert address.refused == 0


@pytest.mark.parametrize("name", ["binance-spot", "binance-usdm", "binance-coinm"])
@pytest.mark.parametrize("outage_s", [8, 40, 60])
def test_orders_at_unknown_symbols_are_gone_soon_after_an_outage_of_the_lists(
    name: str, outage_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a list the account has nothing to cancel by, so the part of the limit that cancels need is of no use."""
    address = Address(name, 1, monkeypatch)
    address.run(30)
    address.fault("refuse", {"status": 503, "on": "read"})
    address.fire()
    address.rest(3, symbols=3)
    address.run(outage_s)
    assert address.open
    address.clear_faults()
    address.run(6)
    assert (address.open, address.refused) == (0, 0)
    assert address.most_weight(60) <= 0.8 * address.venues[name].options.pool
