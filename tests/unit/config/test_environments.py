"""`environment`: the addresses of a venue's test environment, never mixed with those of its production."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kill_switch.config.accounts import read_account
from kill_switch.config.diff import diff_configs
from kill_switch.config.loader import Config, load
from kill_switch.venues import VENUES
from kill_switch.venues.sharing import Member
from tests.harness.venue_profiles import STANDS

WITH_TESTNET = [name for name, kind in VENUES.items() if kind.Options.TESTNET]
WITHOUT = [name for name in VENUES if name not in WITH_TESTNET]
ENVIRON = {"A": "sEcReT-0123456789-aBcDeF", "B": "sEcReT-9876543210-aBcDeF"}


def account(venue: str, **keys: Any) -> tuple[Any, list[str]]:
    """Read an account of this venue with its usual secrets; return its options, or None, and the problems' lines."""
    kind = VENUES[venue]
    secrets = {name: None for name in kind.secrets(kind.Options.model_construct())}
    environ = {f"K_{name}": value for name, value in STANDS[venue].secrets().items()}
    table = {"venue": venue, **{name: {"env": f"K_{name}"} for name in secrets}, **keys}
    read, problems = read_account("a", table, VENUES, 0.06, environ)
    return (None if read is None else read.options), [str(problem) for problem in problems]


def oxfun(tmp_path: Path, more: str = "") -> Config:
    file = tmp_path / "config.toml"
    table = '[accounts.a]\nvenue = "oxfun"\napi_key = { env = "A" }\napi_secret = { env = "B" }\n'
    file.write_text(table + more + '\n[triggers.panic]\nkind = "flag"\npath = "/run/kill-switch/flag/KILL"\n')
    return load(file, environ=ENVIRON)


def test_the_venues_whose_documents_name_a_test_environment_have_one() -> None:
    assert WITH_TESTNET == ["binance-coinm", "binance-spot", "binance-usdm", "deribit", "oxfun"]


@pytest.mark.parametrize("venue", WITH_TESTNET)
def test_testnet_means_the_test_addresses_of_the_venue_and_none_of_its_production(venue: str) -> None:
    production, _ = account(venue)
    options, problems = account(venue, environment="testnet")
    assert problems == []
    assert production.environment == "production" and options.environment == "testnet"
    assert {"ws_url", "rest_url"} <= VENUES[venue].Options.TESTNET.keys()
    for name, url in VENUES[venue].Options.TESTNET.items():
        assert getattr(options, name) == url != getattr(production, name)


@pytest.mark.parametrize("venue", WITHOUT)
def test_a_venue_without_a_test_environment_refuses_the_key_in_one_line(venue: str) -> None:
    more = {"nt_accounts": ["Sim101"]} if venue == "crosstrade" else {}
    assert account(venue, environment="production", **more)[1] == []
    _, problems = account(venue, environment="testnet", **more)
    assert problems == [
        'accounts.a.environment: "testnet"; no test environment of this venue is known: leave the key out'
    ]


@pytest.mark.parametrize("venue", WITH_TESTNET)
def test_an_address_that_is_given_overrides_the_test_address(venue: str) -> None:
    options, problems = account(venue, environment="testnet", rest_url="https://127.0.0.1:4443")
    assert problems == []
    assert options.rest_url == "https://127.0.0.1:4443"
    assert options.ws_url == VENUES[venue].Options.TESTNET["ws_url"]


@pytest.mark.parametrize("venue", WITH_TESTNET)
@pytest.mark.parametrize("key", ["rest_url", "ws_url"])
def test_an_account_never_has_addresses_of_both_environments(venue: str, key: str) -> None:
    """An account that is shown as a test, and kills production orders, costs real money; so does the reverse."""
    kind = VENUES[venue].Options
    production, test = kind.model_fields[key].default, kind.TESTNET[key]
    (other,) = {"rest_url", "ws_url"} - {key}
    for keys, words in (
        ({"environment": "testnet", key: production}, f'{key} is the production address, and environment = "testnet"'),
        ({"environment": "production", key: test}, f'{key} is the test address, and environment = "production"'),
        (
            {key: test, other: kind.model_fields[other].default},
            f"{key} is the test address, and {other} the production one",
        ),
    ):
        assert account(venue, **keys) == (None, [f"accounts.a: {words}"])


@pytest.mark.parametrize("venue", WITH_TESTNET)
@pytest.mark.parametrize("key", ["rest_url", "ws_url"])
def test_a_test_address_that_is_given_alone_implies_the_whole_test_environment(venue: str, key: str) -> None:
    options, problems = account(venue, **{key: VENUES[venue].Options.TESTNET[key]})
    assert problems == []
    assert options == account(venue, environment="testnet")[0]


def test_a_wrong_environment_is_named_with_the_choices() -> None:
    _, problems = account("oxfun", environment="testnt")
    assert problems == ['accounts.a.environment: "testnt"; did you mean "testnet"? one of: production, testnet']


def test_a_reload_connects_an_account_anew_whose_environment_has_changed(tmp_path: Path) -> None:
    old, new = oxfun(tmp_path), oxfun(tmp_path, 'environment = "testnet"\n')
    assert diff_configs(old, new).new_logins == ("a",)
    assert old.accounts["a"].login.describe_mismatch(new.accounts["a"].login.identity(""))  # as a changed address


def test_accounts_of_two_environments_share_no_limit() -> None:
    def pool(venue: str, environment: str) -> object:
        kind = VENUES[venue]
        return Member(kind, kind.Options.model_validate({"environment": environment}), 0).pool_keys()["weight"]

    for environment in ("production", "testnet"):
        assert pool("binance-usdm", environment) == pool("binance-coinm", environment)
    assert pool("binance-usdm", "production") != pool("binance-usdm", "testnet")
