"""Accounts of ccxt ids: their keys are checked against the id, and what cannot be is refused with the reason."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

import pytest

from kill_switch.config.loader import Config, load
from kill_switch.daemon import preflight
from kill_switch.errors import ConfigError
from kill_switch.venues.ccxt import library
from kill_switch.venues.ccxt.offered import OFFERED

ENVIRONMENT = {"KEY": "account-0123456789abcdef", "SECRET": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
needs_ccxt = pytest.mark.skipif(bool(library.why_unusable()), reason="needs the extra ccxt")


def loaded(tmp_path: Path, venue: str, more: str = "", environ: Mapping[str, str] = ENVIRONMENT) -> Config:
    path = tmp_path / "config.toml"
    keys = 'api_key = { env = "KEY" }\napi_secret = { env = "SECRET" }\n'
    trigger = f'[triggers.panic]\nkind = "flag"\npath = "{tmp_path}/KILL"\n'
    path.write_text(f'[accounts.one]\nvenue = "{venue}"\n{keys}{more}\n{trigger}')
    directories = {"RUNTIME_DIRECTORY": str(tmp_path / "run"), "STATE_DIRECTORY": str(tmp_path / "state")}
    return load(path, environ={**environ, **directories})


def problem(tmp_path: Path, venue: str, more: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, venue, more)
    assert caught.value.exit_code == 78
    (one,) = caught.value.problems
    return str(one)


@needs_ccxt
def test_an_account_needs_its_keys_and_covers_the_products_of_the_ids_first_host(tmp_path: Path) -> None:
    account = loaded(tmp_path, "ccxt:binance").accounts["one"]

    assert (account.venue, account.options.rest_url) == ("ccxt:binance", "https://api.binance.com")
    assert account.adapter_class.not_covered(account.options)[:2] == (
        "linear orders: not in products",
        "inverse orders: not in products",
    )
    assert account.login.scope == {"products": ("spot",)}


@needs_ccxt
def test_products_choose_the_host_that_is_not_given(tmp_path: Path) -> None:
    linear = loaded(tmp_path, "ccxt:binance", 'products = ["linear"]').accounts["one"]
    proxied = loaded(tmp_path, "ccxt:binance", 'products = ["linear"]\nrest_url = "https://h:1"').accounts["one"]

    assert linear.options.rest_url == "https://fapi.binance.com"
    assert proxied.options.rest_url == "https://h:1"


@needs_ccxt
@pytest.mark.parametrize(
    ("venue", "more", "words"),
    [
        ("ccxt:binance", 'products = ["spot", "linear"]', "products at different hosts need an account each"),
        ("ccxt:binance", 'products = ["margin"]', "expected some of spot, linear, inverse"),
        ("ccxt:binance", 'products = ["spot", "spot"]', "a product is named twice"),
        ("ccxt:binance", "products = []", "accounts.one.products"),
        ("ccxt:bitvavo", "", "accounts.one.options: missing"),
        ("ccxt:bitvavo", 'options = { operatorId = "7" }', "operatorId is not a whole number"),
        ("ccxt:bitvavo", "options = { operatorId = 7, fee = 1 }", "no option 'fee'; known: operatorId"),
        ("ccxt:kraken", "options = { recvWindow = 1 }", "no option 'recvWindow'; ccxt:kraken has none"),
        ("ccxt:kraken", 'ws_url = "wss://h"', "accounts.one.ws_url: unknown key"),
        ("ccxt:kraken", 'uid = { env = "KEY" }', "accounts.one.uid: unknown key"),
        ("ccxt:coinbaseexchange", "", "accounts.one.passphrase: missing"),
        ("ccxt:krakn", "", 'did you mean "ccxt:kraken"?'),
        ("ccxt:hyperliquid", "", "is not offered; a signature takes over a millisecond"),
        ("ccxt:paymium", "", "is not offered; its open orders cannot be read"),
    ],
)
def test_a_key_that_does_not_fit_the_id_is_a_problem_that_names_it(
    tmp_path: Path, venue: str, more: str, words: str
) -> None:
    assert words in problem(tmp_path, venue, more)


@needs_ccxt
def test_a_secret_that_cannot_sign_is_a_problem_that_does_not_show_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "ccxt:kraken", environ={**ENVIRONMENT, "SECRET": "not-base64-0123456789"})

    (one,) = caught.value.problems
    assert (one.path, one.description) == ("accounts.one.api_secret", "is not base64")
    assert "not-base64" not in str(caught.value)


@needs_ccxt
@pytest.mark.parametrize(
    ("venue", "wrong", "words"),
    [
        ("gemini", {"KEY": "master-0123456789abcdef"}, "api_key: is not a key of one account (account-…)"),
        ("gemini", {"KEY": "0123456789abcdef"}, "api_key: is not a key of one account (account-…)"),
        ("backpack", {"SECRET": 64 * "0a"}, "api_secret: is not an Ed25519 seed: 32 bytes in base64"),
        ("backpack", {"SECRET": "c2hvcnQ="}, "api_secret: is not an Ed25519 seed: 32 bytes in base64"),
        ("krakenfutures", {"SECRET": "with*stars"}, "api_secret: is not base64"),
        ("coinbaseexchange", {"SECRET": "with*stars"}, "api_secret: is not base64"),
    ],
)
def test_a_secret_of_another_form_is_a_problem_that_names_the_secret_and_its_form(
    tmp_path: Path, venue: str, wrong: Mapping[str, str], words: str
) -> None:
    more = 'passphrase = { env = "KEY" }' if venue == "coinbaseexchange" else ""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"ccxt:{venue}", more, environ={**ENVIRONMENT, **wrong})

    (one,) = caught.value.problems
    assert str(one).endswith(f"accounts.one.{words}")


@needs_ccxt
def test_a_key_whose_signatures_are_slow_is_refused(tmp_path: Path) -> None:
    pem = "-----BEGIN PRIVATE KEY-----" + "A" * 1600 + "-----END PRIVATE KEY-----"

    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "ccxt:binance", environ={**ENVIRONMENT, "SECRET": pem})

    assert "accounts.one.api_secret: is an RSA key" in str(caught.value) and "AAAA" not in str(caught.value)


@needs_ccxt
def test_a_pnl_trigger_cannot_watch_an_account_without_equity(tmp_path: Path) -> None:
    pnl = (
        '[triggers.loss]\nkind = "pnl"\ncurrency = "USD"\nmax_loss = "5"\naccounts = ["one"]\n'
        'on_blind = "alarm"\nreset = "00:00 UTC"\n'
    )

    assert "one at ccxt:kraken does not report its equity" in problem(tmp_path, "ccxt:kraken", pnl)


@needs_ccxt
def test_check_names_the_adapter_that_serves_the_same_account_without_ccxt(tmp_path: Path) -> None:
    own = "accounts.one: ccxt:kraken is served without ccxt too, as kraken: "

    assert any(note.startswith(own) for note in preflight.notes(loaded(tmp_path, "ccxt:kraken")))
    assert not any("without ccxt" in note for note in preflight.notes(loaded(tmp_path, "ccxt:bitso")))


def test_without_ccxt_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)

    assert problem(tmp_path, "ccxt:kraken") == (
        "accounts.one.venue: ccxt is not installed; in the checkout: pip install '.[ccxt]'"
    )


def test_another_version_of_ccxt_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.5.91")

    assert "ccxt 4.5.91 is installed, where 4.5.90 is needed" in problem(tmp_path, "ccxt:kraken")


def test_every_id_has_commands_and_lists_for_each_product() -> None:
    for profile in OFFERED.values():
        assert profile.covered and profile.products
        assert all(part.cancels and part.lists for part in profile.products.values())
