"""What is written twice and cannot be meant twice is refused, with both places; what only looks alike is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from kill_switch.config.loader import load
from kill_switch.config.rescue import rescue
from kill_switch.errors import ConfigError
from kill_switch.venues.ccxt import library

SECRET = "sEcReT-0123456789-aBcDeF"
ENVIRON = {
    **{"KEY": SECRET, "OTHER": SECRET + "-other", "SECRET": SECRET + "-secret"},
    "BASE64": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
}
needs_ccxt = pytest.mark.skipif(bool(library.why_unusable()), reason="needs the extra ccxt")
KEY, OTHER = '{ env = "KEY" }', '{ env = "OTHER" }'
LOGIN_HINT = (
    "expected one account for each login: its equity would count twice, and its orders be struck twice. "
    "Give each account a key of its own sub-account, or leave one out"
)


def ox(name: str, key: str = KEY, more: str = "") -> str:
    return f'[accounts.{name}]\nvenue = "oxfun"\napi_key = {key}\napi_secret = {{ env = "SECRET" }}\n{more}\n'


def rx(name: str, key: str = KEY, more: str = "") -> str:
    return f'[accounts.{name}]\nvenue = "roxom"\nauth = "api-key"\napi_key = {key}\n{more}\n'


def ku(name: str, more: str = "", key: str = KEY) -> str:
    return f'[accounts.{name}]\nvenue = "kuna"\napi_key = {key}\n{more}\n'


def ct(name: str, nt_accounts: str, more: str = "") -> str:
    return f'[accounts.{name}]\nvenue = "crosstrade"\ntoken = {KEY}\nnt_accounts = {nt_accounts}\n{more}\n'


def beat(accounts: str = "") -> str:
    return f'[triggers.beat]\nkind = "heartbeat"\ntimeout = "3s"\n{accounts}\n'


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    try:
        load(path, environ=ENVIRON)
    except ConfigError as error:
        refusal = error
    else:
        return []
    assert SECRET not in str(refusal)
    assert refusal.exit_code == 78
    return [str(problem) for problem in refusal.problems]


# ── logins ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(ox("a") + ox("b"), "b.api_key: the same key at the same venue as accounts.a.api_key", id="same"),
        pytest.param(
            ox("a") + ox("b", more='rest_url = "https://API.ox.fun:443/"'),
            "b.api_key: the same key at the same venue as accounts.a.api_key",
            id="address in another spelling",
        ),
        pytest.param(
            ox("a") + ox("b", more='rest_url = "https://mirror.example"'),
            "b.api_key: the same key at the same venue as accounts.a.api_key",
            id="one of two addresses the same",
        ),
        pytest.param(
            rx("a", more='inst_types = ["spot"]') + rx("b", more='inst_types = ["perpetual"]'),
            "b.api_key: the same key at the same venue as accounts.a.api_key",
            id="lists that are read back are no sub-accounts",
        ),
        pytest.param(
            ku("a")
            + '[accounts.b]\nvenue = "kuna"\nauth = "hmac"\nws_login = "api-key"\n'
            + f"api_key = {KEY}\npublic_key = {OTHER}\napi_secret = {KEY}\n",
            "b.api_key: the same key at the same venue as accounts.a.api_key",
            id="one login with two kinds of keys",
        ),
    ],
)
def test_one_key_at_one_venue_under_two_names_is_refused_with_both(tmp_path: Path, text: str, told: str) -> None:
    assert problems(tmp_path, text) == [f"accounts.{told}; {LOGIN_HINT}"]


def test_one_key_from_two_sources_is_one_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    (told,) = problems(tmp_path, ox("a") + ox("b", key=f'{{ file = "{file}" }}'))
    assert told.startswith("accounts.b.api_key: the same key at the same venue as accounts.a.api_key")


def test_each_further_account_of_one_login_is_a_problem_of_its_own(tmp_path: Path) -> None:
    told = problems(tmp_path, ox("a") + ox("b") + ox("c"))
    assert [line.split(":")[0] for line in told] == ["accounts.b.api_key", "accounts.c.api_key"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(ox("a") + ox("b", key=OTHER), id="two keys"),
        pytest.param(
            ox("a")
            + ox("b", more='rest_url = "https://stg.example:8443"\nws_url = "wss://stg.example:8443/v2/websocket"'),
            id="another system of the venue",
        ),
        pytest.param(ox("a") + rx("b"), id="two venues"),
        pytest.param(ku("a") + ku("b", more='account_type = "pro"'), id="the Pro account of a KUNA key"),
        pytest.param(ct("a", '["Sim101"]') + ct("b", '["APEX-1"]'), id="disjoint accounts of NinjaTrader"),
    ],
)
def test_similar_but_distinct_logins_are_accepted(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


def test_two_accounts_of_one_token_that_share_an_account_of_ninjatrader_are_refused_with_its_name(
    tmp_path: Path,
) -> None:
    (told,) = problems(tmp_path, ct("a", '["Sim101", "APEX-1"]') + ct("b", '["sim101", "APEX-2"]'))
    assert told == (
        "accounts.b.nt_accounts: sim101 is in accounts.a.nt_accounts too, with the same token; "
        "expected each of them in one account only: its equity would count twice, and its orders be struck twice"
    )


def account(name: str, venue: str, more: str = "", key: str = KEY) -> str:
    """Return an account whose key is named as its venue names it."""
    key_name, secret_name = ("client_id", "client_secret") if venue == "deribit" else ("api_key", "api_secret")
    return f'[accounts.{name}]\nvenue = "{venue}"\n{key_name} = {key}\n{secret_name} = {{ env = "BASE64" }}\n{more}\n'


def linear(name: str) -> str:
    return account(name, "ccxt:binance", 'products = ["linear"]')


@needs_ccxt
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("kraken", "ccxt:kraken"),
        ("ccxt:kraken", "kraken"),
        ("kraken-futures", "ccxt:krakenfutures"),
        ("deribit", "ccxt:deribit"),
        ("ccxt:deribit", "deribit"),
        ("binance-spot", "ccxt:binance"),
        ("binance-usdm", "ccxt:binanceusdm"),
        ("ccxt:binancecoinm", "binance-coinm"),
    ],
)
def test_one_key_at_one_venue_by_two_adapters_is_refused_with_both_accounts(
    tmp_path: Path, first: str, second: str
) -> None:
    (told,) = problems(tmp_path, account("a", first) + account("b", second))
    names = {venue: "client_id" if venue == "deribit" else "api_key" for venue in (first, second)}
    assert told.startswith(
        f"accounts.b.{names[second]}: the same key at the same venue as accounts.a.{names[first]}, "
        f'under venue = "{second}" and "{first}"; expected one account for each login: two adapters '
    )


@needs_ccxt
def test_one_product_of_two_ids_of_ccxt_or_of_an_id_and_an_adapter_is_one_login(tmp_path: Path) -> None:
    for other in ("ccxt:binanceusdm", "binance-usdm"):
        (told,) = problems(tmp_path, linear("a") + account("b", other))
        assert told.startswith("accounts.b.api_key: the same key at the same venue as accounts.a.api_key")


@needs_ccxt
def test_products_at_different_hosts_share_a_key(tmp_path: Path) -> None:
    assert problems(tmp_path, linear("a") + account("b", "ccxt:binance") + account("c", "binance-coinm")) == []


@pytest.mark.parametrize(
    "spot",
    [pytest.param("kraken", id="own adapter"), pytest.param("ccxt:kraken", id="ccxt", marks=needs_ccxt)],
)
@pytest.mark.parametrize("is_spot_first", [True, False])
def test_a_spot_key_that_also_fetches_the_tokens_of_derivatives_is_refused(
    tmp_path: Path, spot: str, is_spot_first: bool
) -> None:
    derivatives = f'unified_key = {KEY}\nunified_secret = {{ env = "BASE64" }}'
    both = [account("s", spot), account("d", "kraken-futures", derivatives, OTHER)]
    (told,) = problems(tmp_path, "".join(both if is_spot_first else reversed(both)))
    here, there = ("d.unified_key", "s.api_key") if is_spot_first else ("s.api_key", "d.unified_key")
    assert told.startswith(f"accounts.{here}: the same key at the same venue as accounts.{there}")
    apart = [account("s", spot), account("d", "kraken-futures", derivatives.replace("KEY", "OTHER"), OTHER)]
    assert problems(tmp_path, "".join(apart)) == []


def test_a_duplicate_keeps_no_account_from_being_killed_directly(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(ox("a") + ox("b"))
    rescued = rescue(path, environ=ENVIRON)
    assert set(rescued.config.accounts) == {"a", "b"}
    assert not rescued.left_out


def test_an_account_that_a_trigger_names_by_name_and_by_tags_is_its_account_once(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    tags = 'tags = ["desk:mm", "algo:q", "desk:mm"]'
    path.write_text(ox("a", more=tags) + beat('accounts = ["a", "desk:mm", "algo:q", "a"]'))
    assert load(path, environ=ENVIRON).triggers["beat"].accounts == ("a",)


# ── listening addresses ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("metrics", "udp"),
    [
        ("127.0.0.1:9464", "127.0.0.1:9464"),
        ("127.0.0.1:9464", "localhost:9464"),
        ("127.0.0.1:9464", "0.0.0.0:9464"),
        ("127.0.0.1:9464", "[::]:9464"),
        ("127.0.0.1:9464", "[::ffff:127.0.0.1]:9464"),
        ("[::1]:9464", "[0:0:0:0:0:0:0:1]:9464"),
        ("[::1]:9464", "[::]:9464"),
    ],
)
def test_one_listening_address_for_two_purposes_is_refused_with_both(tmp_path: Path, metrics: str, udp: str) -> None:
    text = ox("a") + f'[daemon]\nmetrics = "{metrics}"\n[intake]\nudp = "{udp}"\nkey = {KEY}\n'
    (told,) = problems(tmp_path, text)
    assert told.startswith("intake.udp: the same address as daemon.metrics")


@pytest.mark.parametrize(
    ("metrics", "udp"),
    [("127.0.0.1:9464", "127.0.0.1:9465"), ("127.0.0.1:9464", "127.0.0.2:9464"), ("[::1]:9464", "0.0.0.0:9464")],
)
def test_listening_addresses_that_differ_are_taken(tmp_path: Path, metrics: str, udp: str) -> None:
    assert (
        problems(tmp_path, ox("a") + f'[daemon]\nmetrics = "{metrics}"\n[intake]\nudp = "{udp}"\nkey = {KEY}\n') == []
    )


# ── what is done beside a strike ──────────────────────────────────────────────────────────────────────────────────


def test_a_command_that_a_trip_would_start_twice_is_refused_with_both(tmp_path: Path) -> None:
    text = ox("a") + '[hooks]\non_trip = ["flatten --all", "page desk", "flatten  \'--all\'"]\n'
    assert problems(tmp_path, text) == [
        "hooks.on_trip[2]: the same command as hooks.on_trip[0]; it would be started twice: leave one out"
    ]


def test_a_channel_that_would_hear_everything_twice_is_refused_with_both(tmp_path: Path) -> None:
    environ_url = '{ env = "URL" }'
    path = tmp_path / "config.toml"
    path.write_text(ox("a") + f'[notify]\nurls = ["json://h.example", {environ_url}]\n')
    with pytest.raises(ConfigError) as caught:
        load(path, environ={**ENVIRON, "URL": "json://h.example"})
    assert [str(problem) for problem in caught.value.problems] == [
        "notify.urls[1]: the same address as notify.urls[0]; each message would come twice: leave one out"
    ]
