"""Which accounts the demo has, and what it says where it cannot have one."""

from __future__ import annotations

import importlib.metadata
from collections import Counter

import pytest
from click.testing import CliRunner

from kill_switch.cli import main
from kill_switch.testbed import demo
from kill_switch.testbed.config_files import THROUGH_CCXT, logins_for, simulator_of


def test_a_venue_that_no_simulator_plays_is_refused_with_those_that_one_plays() -> None:
    done = CliRunner().invoke(main, ["demo", "--venue", "kraken", "--venue", "ccxt:bitvavo"])

    assert done.exit_code == 2
    assert "no simulator plays venue 'ccxt:bitvavo'" in done.output
    assert all(venue in done.output for venue in (*demo.DEFAULT_VENUES, *THROUGH_CCXT.values()))


@pytest.mark.parametrize("words", [["--ccxt"], ["--venue", "kraken", "--venue", "ccxt:binance"]], ids=" ".join)
def test_a_demo_through_ccxt_says_in_one_line_that_ccxt_is_not_installed(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)

    done = CliRunner().invoke(main, ["demo", *words])

    said = "ccxt:binance cannot be used here: ccxt is not installed; in the checkout: pip install '.[ccxt]'"
    assert (done.exit_code, said in str(done.exception) + done.output) == (1, True)


def test_each_account_of_a_demo_has_a_name_and_a_login_of_its_own() -> None:
    keys = [{"api_key": f"key-{number}", "api_secret": "secret"} for number in range(3)]
    first, *more = [{"name": f"account-{n}", "credentials": key, "options": {}} for n, key in enumerate(keys, 1)]
    ready = {"venues": {"kraken": {**first, "rest_url": "https://here", "ws_url": "wss://here", "accounts": more}}}

    logins = list(logins_for(ready, ["ccxt:kraken", "kraken", "ccxt:kraken"]))

    assert [(name, venue, login["name"], login["credentials"]["api_key"]) for name, venue, login in logins] == [
        ("ccxt-kraken1", "ccxt:kraken", "account-1", "key-0"),
        ("kraken", "kraken", "account-2", "key-1"),
        ("ccxt-kraken2", "ccxt:kraken", "account-3", "key-2"),
    ]


def test_the_demo_through_ccxt_has_ten_such_accounts_and_six_others() -> None:
    through = [venue for venue in demo.CCXT_BESIDE_OWN if venue.startswith("ccxt:")]

    assert (len(through), len(set(demo.CCXT_BESIDE_OWN) - set(through))) == (10, 6)
    assert max(Counter(map(simulator_of, demo.CCXT_BESIDE_OWN)).values()) == 4
