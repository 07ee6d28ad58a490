"""What triggers on money and on orders may say; every message word for word."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from kill_switch.config.loader import load
from kill_switch.config.parsers import WallTime
from kill_switch.config.schema import OrderRateConfig, PnlConfig
from kill_switch.errors import ConfigError

ENVIRON = {"KEY": "a-key-of-the-account", "SECRET": "a-secret-of-the-account"}
ENVIRON |= {f"KEY{number}": f"a-key-of-account-{number}-of-many" for number in range(19)}
KEYS = 'api_key = { env = "KEY" }\napi_secret = { env = "SECRET" }\n'
OX = f'[accounts.ox]\nvenue = "oxfun"\n{KEYS}'
RX = '[accounts.rx]\nvenue = "roxom"\nauth = "api-key"\napi_key = { env = "KEY" }\n'
KU = '[accounts.ku]\nvenue = "kuna"\nauth = "api-key"\napi_key = { env = "KEY" }\n'
CT = '[accounts.ct]\nvenue = "crosstrade"\nnt_accounts = ["Sim101"]\ntoken = { env = "KEY" }\n'
ACCOUNTS = OX + RX + KU + CT
LOSS = 'currency = "USD"\nmax_loss = "5"\nreset = "17:00 America/New_York"\non_blind = "alarm"\n'
AMOUNT = 'expected an amount as a string, such as "5000" or "0.25"'
CURRENCY = 'expected a currency in capital letters, such as "USD" or "BTC"'
WALL = 'expected a time and its zone, such as "17:00 America/New_York"'
PNL_KEYS = (
    "kind, accounts, on_blind, currency, rates, max_loss, max_drawdown, floor, reset, confirm, stale_after, warn_at, "
    "source"
)


def pnl(text: str, accounts: str = "ox", rates: str = '{ OX = "0.5" }') -> str:
    """Write a trigger on these accounts."""
    names = ", ".join(f'"{name}"' for name in accounts.split())
    given = f"rates = {rates}\n" if rates else ""
    return f'[triggers.x]\nkind = "pnl"\naccounts = [{names}]\n{given}{text}'


def rate(text: str, accounts: str = "ox") -> str:
    names = ", ".join(f'"{name}"' for name in accounts.split())
    return f'[triggers.x]\nkind = "order-rate"\naccounts = [{names}]\n{text}'


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(ACCOUNTS + text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ=ENVIRON)
    return [str(problem) for problem in caught.value.problems]


def test_every_key_of_a_pnl_trigger_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        ACCOUNTS
        + pnl(
            'currency = "EUR"\nmax_loss = "5000"\nmax_drawdown = "0.25"\nfloor = "100000"\n'
            'reset = "09:05 Europe/Paris"\n'
            'confirm = 3\nstale_after = "1m"\non_blind = "fire"\nwarn_at = [50, 75]\nsource = "accounts"\n',
            rates='{ OX = "0.5", BTC = "90000" }',
            accounts="ox rx",
        )
    )
    trigger_config = load(path, environ=ENVIRON).triggers["x"]
    assert isinstance(trigger_config, PnlConfig)
    assert trigger_config.model_dump() == {
        "kind": "pnl",
        "accounts": ("ox", "rx"),
        "on_blind": "fire",
        "currency": "EUR",
        "rates": {"OX": Decimal("0.5"), "BTC": Decimal(90000)},
        "max_loss": Decimal(5000),
        "max_drawdown": Decimal("0.25"),
        "floor": Decimal(100000),
        "reset": WallTime(9, 5, "Europe/Paris"),
        "confirm": 3,
        "stale_after_s": 60.0,
        "warn_at": (50, 75),
        "source": "accounts",
    }


@pytest.mark.parametrize(
    "text",
    [
        pnl(LOSS),
        pnl(LOSS + 'stale_after = "15s"'),
        pnl(LOSS.replace("USD", "OX"), rates=""),
        pnl(LOSS, "ku", rates=""),  # which currencies it has, only the venue knows
        pnl(LOSS, "ct", rates=""),
        pnl(LOSS + 'source = "intake"\nstale_after = "1s"', rates=""),
        rate("max_new = 5"),
        rate('max_open = 5\nwindow = "1ms"', "ox rx"),
    ],
)
def test_triggers_that_go_together_are_accepted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(ACCOUNTS + text)
    assert load(path, environ=ENVIRON).triggers["x"]


def test_every_key_of_an_order_rate_trigger_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(ACCOUNTS + rate('max_new = 50\nmax_open = 500\nwindow = "2s"', "ox rx"))
    trigger_config = load(path, environ=ENVIRON).triggers["x"]
    assert isinstance(trigger_config, OrderRateConfig)
    assert (trigger_config.accounts, trigger_config.max_new, trigger_config.max_open, trigger_config.window_s) == (
        ("ox", "rx"),
        50,
        500,
        2.0,
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # what does not go together
        (
            pnl(LOSS.replace('max_loss = "5"\n', "")),
            ["triggers.x: no limit; expected at least one of max_loss, max_drawdown, floor"],
        ),
        (
            pnl(LOSS, rates='{ OX = "1", USD = "1" }'),
            ["triggers.x.rates.USD: the currency of the trigger itself; leave it out"],
        ),
        (
            pnl(LOSS, "ox rx", rates=""),
            [
                "triggers.x.rates: no rate for BTC, in which rx at roxom is measured; "
                'expected BTC = "…": what one BTC is worth in USD',
                "triggers.x.rates: no rate for OX, in which ox at oxfun is measured; "
                'expected OX = "…": what one OX is worth in USD',
            ],
        ),
        (
            pnl(LOSS + 'source = "intake"'),
            ['triggers.x.rates: given, with source = "intake"; leave it out: figures from outside are in USD'],
        ),
        (
            pnl(LOSS + 'stale_after = "14.9s"'),
            ["triggers.x.stale_after: 14.9s; expected 15s or more: ox is measured every 5s"],
        ),
        (
            "".join(OX.replace(".ox]", f".ox{n}]").replace('"KEY"', f'"KEY{n}"') for n in range(19))
            + pnl(LOSS + 'stale_after = "25s"'),
            [
                "triggers.x.stale_after: 25s; expected 27s or more: ox is measured every 9s, "
                "because of its venue's limits"
            ],
        ),
        (
            rate('window = "1s"'),
            ["triggers.x: no limit; expected at least one of max_new, max_open"],
        ),
        (
            rate("max_new = 5", "ox ku ct"),
            [
                "triggers.x.accounts: ct at crosstrade does not report new orders; "
                "leave the account out: the trigger would not see its orders"
            ],
        ),
        # what is wrong alone
        (
            '[triggers.x]\nkind = "pnl"\naccounts = ["ox"]',
            [
                "triggers.x.on_blind: missing; one of: alarm, fire",
                f"triggers.x.currency: missing; {CURRENCY}",
                f"triggers.x.reset: missing; {WALL}",
            ],
        ),
        (pnl(LOSS + "limit = 5"), [f"triggers.x.limit: unknown key; known keys: {PNL_KEYS}"]),
        (pnl(LOSS + 'max_los = "5"'), ['triggers.x.max_los: unknown key; did you mean "max_loss"?']),
        (pnl(LOSS + "floor = 5"), [f"triggers.x.floor: 5; {AMOUNT}"]),
        (pnl(LOSS + "floor = 5.5"), [f"triggers.x.floor: 5.5; {AMOUNT}"]),
        (pnl(LOSS + 'floor = "-5"'), [f'triggers.x.floor: "-5", not an amount; {AMOUNT}']),
        (pnl(LOSS + 'floor = "1e5"'), [f"triggers.x.floor: not an amount; {AMOUNT}"]),
        (pnl(LOSS + 'floor = "5,000"'), [f'triggers.x.floor: "5,000", not an amount; {AMOUNT}']),
        (pnl(LOSS + 'floor = "0.00"'), ["triggers.x.floor: zero; it must be more than zero"]),
        (pnl(LOSS.replace("USD", "usd")), [f'triggers.x.currency: "usd", not a currency; {CURRENCY}']),
        (pnl(LOSS.replace('"USD"', "5")), [f"triggers.x.currency: 5; {CURRENCY}"]),
        (pnl(LOSS, rates='{ OX = "0" }'), ["triggers.x.rates.OX: zero; it must be more than zero"]),
        (pnl(LOSS, rates="{ OX = 1 }"), [f"triggers.x.rates.OX: 1; {AMOUNT}"]),
        (
            pnl(LOSS, rates="[]"),
            [
                'triggers.x.rates: an empty array; expected a table such as { EUR = "1.08" }: '
                "what one unit is worth in `currency`"
            ],
        ),
        (
            pnl(LOSS.replace("17:00 ", "5pm ")),
            [f'triggers.x.reset: "5pm America/New_York", not a time of the day; {WALL}'],
        ),
        (pnl(LOSS.replace(" America/New_York", "")), [f'triggers.x.reset: "17:00", not a time of the day; {WALL}']),
        (
            pnl(LOSS.replace("New_York", "Nowhere")),
            [
                'triggers.x.reset: "America/Nowhere", not a time zone; '
                'expected the name of a time zone, such as "America/New_York" or "UTC"'
            ],
        ),
        (pnl(LOSS + "confirm = 0"), ["triggers.x.confirm: 0; expected a whole number of samples from 1 to 100"]),
        (pnl(LOSS + "confirm = 101"), ["triggers.x.confirm: 101; expected a whole number of samples from 1 to 100"]),
        (
            pnl(LOSS + "warn_at = [0]"),
            ["triggers.x.warn_at[0]: 0; expected per cents of a limit, such as [50, 75, 90]"],
        ),
        (
            pnl(LOSS + "warn_at = [50, 100]"),
            ["triggers.x.warn_at[1]: 100; expected per cents of a limit, such as [50, 75, 90]"],
        ),
        (
            pnl(LOSS + 'source = "account"'),
            ['triggers.x.source: "account"; did you mean "accounts"? one of: accounts, intake'],
        ),
        (
            pnl(LOSS.replace("alarm", "alarms")),
            ['triggers.x.on_blind: "alarms"; did you mean "alarm"? one of: alarm, fire'],
        ),
        (rate("max_new = 0"), ["triggers.x.max_new: 0; expected a whole number, 1 or more"]),
        (rate("max_open = 1.5"), ["triggers.x.max_open: 1.5; expected a whole number, 1 or more"]),
        (
            rate("max_new = 5\nwindow = 10"),
            [
                "triggers.x.window: 10, a number without a unit; "
                'expected a duration with its unit, such as "250ms", "3s", "5m" or "1h"'
            ],
        ),
        (
            rate("max_new = 1\nmax = 5"),
            ["triggers.x.max: unknown key; known keys: kind, accounts, on_blind, max_new, max_open, window"],
        ),
    ],
)
def test_an_invalid_trigger_is_reported_with_its_place_and_a_valid_value(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    assert problems(tmp_path, text) == told
