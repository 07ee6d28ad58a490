"""Who an account is: what is on record of it, and which changes make it another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from kill_switch.core import identity
from kill_switch.core.identity import Login, StruckLogins, describe_difference, find_moved, find_shared, new_salt

KEY = "xrxk_public_part_of_a_key"
A = Login("roxom", "wss://ws.roxom.com/ws", "https://api.roxom.com", KEY, {"inst_types": ("spot", "btc")})
B = replace(A, key="another-key-0123456789")


def on_record(login: Login, salt: str = "5a17") -> Any:
    return orjson.loads(orjson.dumps(login.identity(salt)))


def test_an_identity_on_record_has_venue_account_and_a_short_salted_digest_of_the_key() -> None:
    told = on_record(A)
    assert {name: told[name] for name in ("venue", "host", "ws_host")} == {
        "venue": "roxom",
        "host": "api.roxom.com",
        "ws_host": "ws.roxom.com",
    }
    assert told["scope"] == {"inst_types": ["spot", "btc"]}
    assert len(told["key"]) == 16 and told["salt"] == "5a17"
    assert KEY not in repr(A) and not any(KEY[n : n + 8] in str(told) for n in range(len(KEY) - 8))
    assert told["key"] != on_record(A, new_salt())["key"] != on_record(A, new_salt())["key"]


@pytest.mark.parametrize("salt", ["", "5a17", "0123456789abcdef"])
def test_a_login_knows_its_own_record_whatever_the_salt(salt: str) -> None:
    assert A.covers(on_record(A, salt)) and A.is_same(on_record(A, salt))
    assert not B.covers(on_record(A, salt)) and not B.is_same(on_record(A, salt))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"venue": "oxfun"}, "its venue is oxfun, and was roxom"),
        ({"rest_url": "https://evil.test"}, "its host is evil.test, and was api.roxom.com"),
        ({"rest_url": "https://api.roxom.com:8443"}, "its host is api.roxom.com:8443, and was api.roxom.com"),
        ({"ws_url": "wss://evil.test/ws"}, "its WebSocket's host is evil.test, and was ws.roxom.com"),
        ({"scope": {"inst_types": ("btc",)}}, "inst_types no longer has spot"),
        ({"key": "another-key"}, "its key is another one"),
    ],
)
def test_another_address_or_key_is_another_account_and_the_difference_is_named(
    changed: dict[str, Any], words: str
) -> None:
    other = replace(A, **changed)
    assert not other.covers(on_record(A))
    assert describe_difference(other.identity("7"), on_record(A)) == words


@pytest.mark.parametrize(
    "changed",
    [
        {"rest_url": "https://API.roxom.com:443"},
        {"ws_url": "wss://ws.roxom.com:443/other"},
        {"scope": {"inst_types": ("btc", "spot", "index")}},
    ],
)
def test_another_spelling_and_more_of_it_is_that_account(changed: dict[str, Any]) -> None:
    assert replace(A, **changed).covers(on_record(A))


def test_an_account_that_another_adapter_serves_under_another_name_keeps_its_latch() -> None:
    native = Login("kraken", "wss://ws-auth.kraken.com/v2", "https://api.kraken.com", KEY)
    through_ccxt = Login("ccxt:kraken", "", "https://api.kraken.com", KEY, {"products": ("spot",)})
    for was, now in ((native, through_ccxt), (through_ccxt, native)):
        assert now.is_same(on_record(was)) and not now.covers(on_record(was))
        assert find_moved({"k1": [on_record(was)]}, {"k2": now}) == {"k1": "k2"}
    assert find_moved({"k1": [on_record(native)]}, {"k2": replace(through_ccxt, key="another-key")}) == {}


@pytest.mark.parametrize(
    ("before", "now", "fine"),
    [(True, False, False), (False, True, True), ("", "pro", False), ("pro", "pro", True), (("a",), ("b", "a"), True)],
)
def test_a_switch_may_be_turned_on_a_list_may_grow_and_a_text_may_not_change(
    before: object, now: object, fine: bool
) -> None:
    struck, login = (replace(A, scope={"x": value}) for value in (before, now))
    assert login.covers(on_record(struck)) is fine


def test_a_login_that_shares_no_part_of_the_scope_is_another_account() -> None:
    login, two = (replace(A, scope={"nt_accounts": (name,)}) for name in ("Sim101", "Live1"))
    assert not two.is_same(on_record(login))
    assert replace(A, scope={"nt_accounts": ("Live1", "Sim101")}).is_same(on_record(login))


# ── whose latch it is ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_latch_follows_its_account_to_another_name() -> None:
    known = {"a": [on_record(A)]}
    assert find_moved(known, {"a": A}) == find_moved(known, {"c": B}) == find_moved(known, {}) == {}
    assert find_moved(known, {"b": A}) == find_moved(known, {"a": B, "b": A}) == {"a": "b"}
    assert find_moved({"a": []}, {"b": A}) == {}


def test_accounts_that_have_swapped_their_names_swap_their_latches() -> None:
    known = {"a": [on_record(A)], "b": [on_record(B)]}
    assert find_moved(known, {"a": B, "b": A}) == {"a": "b", "b": "a"}


def test_accounts_of_one_login_keep_a_latch_each() -> None:
    known = {"a": [on_record(A)], "b": [on_record(A)]}
    assert find_moved(known, {"a": A, "b": A}) == find_moved(known, {"a": A}) == {}


def test_many_latched_accounts_that_have_other_keys_or_names_are_not_looked_for_in_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sockets are open, and a kill waits."""
    logins = {f"n{number}": replace(A, key=f"key {number}") for number in range(40)}
    known = {name: [on_record(login)] for name, login in logins.items()}
    others = {name: replace(login, key=f"new {login.key}") for name, login in logins.items()}
    digest, made = identity._digest, []

    def counted(key: str, salt: str) -> str:
        made.append(salt)
        return digest(key, salt)

    monkeypatch.setattr(identity, "_digest", counted)
    assert find_moved(known, others) == {}
    assert find_moved(known, {f"new {name}": login for name, login in logins.items()}) == {
        name: f"new {name}" for name in logins
    }
    assert len(made) < 10 * len(logins)


def test_an_account_that_takes_over_a_part_of_a_latched_one_shares_its_latch() -> None:
    whole = replace(A, scope={"nt_accounts": ("Sim101", "Live1")})
    login, two = (replace(A, scope={"nt_accounts": (name,)}) for name in ("Sim101", "Live1"))
    assert find_shared({"a": [on_record(whole)]}, {"a": login, "b": two}) == {"b": "a"}
    assert find_shared({"a": [on_record(whole)]}, {"b": login, "c": two}) == {"b": "a", "c": "a"}
    assert find_shared({"a": [on_record(whole)]}, {"a": whole, "b": two}) == {}


# ── what the journal says of it ───────────────────────────────────────────────────────────────────────────────────


def test_the_fold_keeps_each_of_those_that_were_struck_under_a_name_the_last_one_last() -> None:
    struck = StruckLogins()
    struck.on_reason(("a", "b"), {"a": on_record(A)})
    struck.on_reason(("a",), {"a": on_record(B)})
    struck.on_reason(("a",), {"a": on_record(A)})
    assert struck.struck_as("a") == (on_record(B), on_record(A))
    assert struck.struck_as("b") == struck.struck_as("c") == ()
    assert StruckLogins.from_json(orjson.loads(orjson.dumps(struck.to_json()))).to_json() == struck.to_json()
    struck.on_rearmed(("a", "c"))
    assert struck.struck_as("a") == ()


def test_who_is_another_one_now_has_to_be_proven_anew() -> None:
    struck = StruckLogins()
    struck.on_reason(("a",), {"a": on_record(A)})
    assert struck.on_identity({"a": [on_record(A)]}) == ()
    assert struck.on_identity({"a": [on_record(A), on_record(B)]}) == ("a",)
    assert struck.on_identity({"a": [on_record(B)]}) == ()


def test_latches_that_meet_under_one_name_keep_all_who_were_struck() -> None:
    struck = StruckLogins()
    struck.on_reason(("a", "b"), {"a": on_record(A), "b": on_record(B)})
    struck.on_renamed({"a": "b"})
    assert struck.struck_as("b") == (on_record(B), on_record(A)) or struck.struck_as("b") == (
        on_record(A),
        on_record(B),
    )
    assert struck.struck_as("a") == ()


@pytest.mark.parametrize(
    "wrong",
    [1, "a", [], {"a": 1}, {"a": {}}, {"a": ["x"]}, {"a": {**A.identity("1"), "salt": 1}}, {"a": {"venue": "x"}}],
)
def test_an_invalid_identity_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError):
        StruckLogins().on_reason(("a",), wrong)
    with pytest.raises(TypeError):
        StruckLogins.from_json(wrong)
