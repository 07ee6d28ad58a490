"""A reload is compared and judged before anything of it takes effect."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from kill_switch.config.diff import ConfigDiff, diff_configs, reload_blockers
from kill_switch.config.loader import Config, load
from kill_switch.core import identity
from kill_switch.core.domain import Phase
from kill_switch.core.identity import Identity
from kill_switch.errors import ConfigError
from kill_switch.system.host_port import HostPort

ENVIRON = {"SECRET": "secret-of-the-account", "OTHER": "another-secret"}
ENVIRON |= {f"KEY_{name}": f"key-of-the-account-{name}" for name in "abcd"}
ACCOUNT = '[accounts.{name}]\nvenue = "oxfun"\napi_key = {{ env = "KEY_{name}" }}\n'
ACCOUNT += 'api_secret = {{ env = "{secret}" }}\n{more}\n'
A, B = (ACCOUNT.format(name=name, secret="SECRET", more="") for name in "ab")
BEAT = '[triggers.beat]\nkind = "heartbeat"\ntimeout = "{timeout}"\n'
FLAG = '[triggers.panic]\nkind = "flag"\npath = "/run/KILL"\n'
ARMED = {"a": Phase.ARMED, "b": Phase.ARMED}


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load(path, environ=ENVIRON)


def test_the_same_file_changes_nothing(tmp_path: Path) -> None:
    text = A + B + FLAG + BEAT.format(timeout="3s")
    change = diff_configs(config(tmp_path, text), config(tmp_path, text))
    assert not change
    assert change.describe() == "nothing changed"


def test_accounts_come_go_and_log_in_anew_and_a_tag_touches_no_lane(tmp_path: Path) -> None:
    old = config(tmp_path, A + B + ACCOUNT.format(name="c", secret="SECRET", more=""))
    tagged = ACCOUNT.format(name="a", secret="SECRET", more='tags = ["desk:mm"]')
    other = ACCOUNT.format(name="b", secret="OTHER", more="")
    new = config(tmp_path, ACCOUNT.format(name="d", secret="SECRET", more="") + tagged + other)
    assert diff_configs(old, new) == ConfigDiff(
        added=("d",), new_logins=("b",), removed=("c",), triggers_begun=(), triggers_ended=(), tables=()
    )
    assert diff_configs(old, new).describe() == "accounts added: d; accounts connected anew: b; accounts removed: c"


def test_a_trigger_of_another_name_that_is_the_same_otherwise_is_renamed(tmp_path: Path) -> None:
    other = BEAT.replace("triggers.beat", 'triggers."other.2"')
    old, new = (
        config(tmp_path, A + FLAG + BEAT.format(timeout="3s")),
        config(tmp_path, A + FLAG + other.format(timeout="3s")),
    )
    change = diff_configs(old, new)
    assert change.renamed == {"other.2": "beat"}
    assert change.describe().endswith("triggers ended: beat; triggers renamed: beat to other.2")
    assert not diff_configs(old, config(tmp_path, A + FLAG + other.format(timeout="4s"))).renamed
    assert not diff_configs(new, new).renamed


def test_of_triggers_that_are_alike_the_first_takes_the_place_of_the_first(tmp_path: Path) -> None:
    one, two, three, four = (
        BEAT.replace("triggers.beat", f"triggers.{name}").format(timeout="3s")
        for name in ("one", "two", "three", "four")
    )
    old = config(tmp_path, A + one + two + three)
    assert diff_configs(old, config(tmp_path, A + two + four)).renamed == {"four": "one"}
    assert diff_configs(old, config(tmp_path, A + four)).renamed == {"four": "one"}


def test_an_address_that_changes_connects_anew(tmp_path: Path) -> None:
    new = ACCOUNT.format(name="a", secret="SECRET", more='rest_url = "https://other.test"')
    assert diff_configs(config(tmp_path, A), config(tmp_path, new)).new_logins == ("a",)


def test_accounts_reconnect_when_their_ca_file_changes(tmp_path: Path) -> None:
    one, another = (trustme.CA().cert_pem.bytes() for _ in range(2))
    ca = tmp_path / "ca.pem"
    text = ACCOUNT.format(name="a", secret="SECRET", more=f'ca_file = "{ca}"') + B
    ca.write_bytes(one)
    old = config(tmp_path, text)
    ca.write_bytes(one)  # written anew, and the same
    assert not diff_configs(old, config(tmp_path, text))
    ca.write_bytes(another)
    assert diff_configs(old, config(tmp_path, text)).describe() == "accounts connected anew: a"


def test_an_invalid_ca_file_is_refused_by_name_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    text = ACCOUNT.format(name="a", secret="SECRET", more=f'ca_file = "{ca}"')
    refused = r"accounts\.a\.ca_file: .*expected a file with PEM certificates"
    with pytest.raises(ConfigError, match=refused):
        config(tmp_path, text)
    ca.write_text("none")
    with pytest.raises(ConfigError, match=refused):
        config(tmp_path, text)
    ca.unlink()
    os.mkfifo(ca)
    with pytest.raises(ConfigError, match=refused):
        config(tmp_path, text)


def test_a_trigger_that_stays_the_same_goes_on_even_if_it_has_other_accounts_now(tmp_path: Path) -> None:
    old = config(tmp_path, A + FLAG + BEAT.format(timeout="3s"))
    new = config(tmp_path, A + B + FLAG + BEAT.format(timeout="5s"))
    change = diff_configs(old, new)
    assert (change.triggers_begun, change.triggers_ended) == (("beat",), ("beat",))
    assert new.triggers["panic"].accounts == ("a", "b") != old.triggers["panic"].accounts


def test_figures_of_other_accounts_are_new_figures(tmp_path: Path) -> None:
    pnl = (
        '[triggers.loss]\nkind = "pnl"\ncurrency = "OX"\nmax_loss = "5"\n'
        'reset = "17:00 UTC"\non_blind = "alarm"\nsource = "intake"\n'
    )
    old, new = config(tmp_path, A + pnl), config(tmp_path, A + B + pnl)
    assert diff_configs(old, new).triggers_begun == ("loss",)


def test_figures_of_the_same_accounts_in_another_order_or_with_limits_in_other_words_go_on(tmp_path: Path) -> None:
    pnl = '[triggers.loss]\nkind = "pnl"\ncurrency = "OX"\nmax_loss = "{}"\nreset = "17:00 UTC"\non_blind = "alarm"\n'
    old, new = config(tmp_path, A + B + pnl.format("50000")), config(tmp_path, B + A + pnl.format("50000.0"))
    assert diff_configs(old, new).triggers_begun == ()


def test_tables_that_change_are_named(tmp_path: Path) -> None:
    change = diff_configs(
        config(tmp_path, A), config(tmp_path, A + '[daemon]\nbudget = "1s"\n[rearm]\napprovals = 2\n')
    )
    assert change.describe() == "tables changed: daemon, rearm"


@pytest.mark.parametrize("phase", [Phase.STRIKING, Phase.CONFIRMING, Phase.RESIDUE, Phase.CLEAR])
def test_a_tripped_account_cannot_be_taken_away(tmp_path: Path, phase: Phase) -> None:
    problems = reload_blockers(config(tmp_path, A + B), config(tmp_path, A), {**ARMED, "b": phase})
    assert list(map(str, problems)) == [f"accounts.b: removed, and it is {phase}; re-arm it first"]
    assert reload_blockers(config(tmp_path, A + B), config(tmp_path, A), {**ARMED, "a": phase}) == []


@pytest.mark.parametrize(
    ("phase", "fine"), [(Phase.STRIKING, False), (Phase.CONFIRMING, False), (Phase.RESIDUE, True), (Phase.CLEAR, True)]
)
def test_a_kill_under_way_keeps_its_session_and_a_wrong_key_can_be_put_right_after_it(
    tmp_path: Path, phase: Phase, fine: bool
) -> None:
    new = config(tmp_path, A + ACCOUNT.format(name="b", secret="OTHER", more=""))
    problems = reload_blockers(config(tmp_path, A + B), new, {**ARMED, "b": phase})
    assert (
        not problems
        if fine
        else list(map(str, problems)) == [f"accounts.b: changed, and it is {phase}; wait until its kill is over"]
    )


def test_a_key_that_other_processes_rely_on_takes_a_restart(tmp_path: Path) -> None:
    old = config(tmp_path, A)
    moved = old.daemon.model_copy(update={"state_dir": Path("/a"), "runtime_dir": Path("/b")})
    problems = reload_blockers(old, dataclasses.replace(old, daemon=moved), ARMED)
    assert list(map(str, problems)) == [
        "daemon.state_dir: changed; only a restart can change it",
        "daemon.runtime_dir: changed; only a restart can change it",
    ]


def test_each_key_about_the_metrics_takes_a_restart(tmp_path: Path) -> None:
    old = config(tmp_path, A)
    values = {"metrics": HostPort("10.0.0.5", 1), "metrics_plain": True}
    values |= {f"metrics_{name}_file": Path("/x") for name in ("token", "cert", "key")}
    moved = old.daemon.model_copy(update=values)
    problems = reload_blockers(old, dataclasses.replace(old, daemon=moved), ARMED)
    assert {problem.path for problem in problems} == {f"daemon.{key}" for key in values}


# ── whose account it is ───────────────────────────────────────────────────────────────────────────────────────────

TRIPPED = [Phase.RESIDUE, Phase.CLEAR]
CROSSTRADE = (
    '[accounts.b]\nvenue = "crosstrade"\ntoken = {{ env = "KEY_b" }}\nnt_accounts = {names}\nflatten = {flatten}\n'
)


def crosstrade(names: str = '["Sim101", "Live1"]', flatten: str = "true") -> str:
    return CROSSTRADE.format(names=names, flatten=flatten)


def said(old: Config, new: Config, phase: Phase, owed: Sequence[Identity] = ()) -> list[str]:
    return list(map(str, reload_blockers(old, new, {**ARMED, "b": phase}, {"b": owed})))


@pytest.mark.parametrize("phase", TRIPPED)
@pytest.mark.parametrize(
    ("new", "words"),
    [
        ('rest_url = "https://other.test"', "its host is other.test, and was api.ox.fun"),
        ('ws_url = "wss://other.test/ws"', "its WebSocket's host is other.test, and was api.ox.fun"),
    ],
)
def test_a_tripped_account_does_not_go_to_another_host(tmp_path: Path, phase: Phase, new: str, words: str) -> None:
    other = config(tmp_path, A + ACCOUNT.format(name="b", secret="SECRET", more=new))
    old = config(tmp_path, A + B)
    assert said(old, other, phase) == [f"accounts.b: {words}, and it is {phase}; re-arm it first"]
    assert said(old, other, Phase.ARMED) == []


@pytest.mark.parametrize("phase", TRIPPED)
def test_a_tripped_account_does_not_go_to_another_venue(tmp_path: Path, phase: Phase) -> None:
    [problem] = said(config(tmp_path, A + B), config(tmp_path, A + crosstrade()), phase)
    assert problem.startswith("accounts.b: its venue is crosstrade, and was oxfun; its host is")
    assert problem.endswith(f"and it is {phase}; re-arm it first")


@pytest.mark.parametrize("phase", TRIPPED)
@pytest.mark.parametrize(
    ("new", "words"),
    [
        (crosstrade(names='["Sim101"]'), "nt_accounts no longer has Live1"),
        (crosstrade(names='["Live1", "Live2"]'), "nt_accounts no longer has Sim101"),
        (crosstrade(flatten="false"), "flatten is off, and was on"),
    ],
)
def test_a_tripped_account_shows_no_less_of_itself(tmp_path: Path, phase: Phase, new: str, words: str) -> None:
    old = config(tmp_path, A + crosstrade())
    assert said(old, config(tmp_path, A + new), phase) == [f"accounts.b: {words}, and it is {phase}; re-arm it first"]
    wider = config(tmp_path, A + crosstrade(names='["Live2", "Live1", "Sim101"]'))
    assert said(old, wider, phase) == []


@pytest.mark.parametrize("phase", TRIPPED)
def test_a_tripped_account_may_have_another_key_and_may_become_again_who_was_struck(
    tmp_path: Path, phase: Phase
) -> None:
    rekeyed = B.replace('"KEY_b"', '"OTHER"')
    assert said(config(tmp_path, A + B), config(tmp_path, A + rekeyed), phase) == []
    astray = config(tmp_path, A + ACCOUNT.format(name="b", secret="SECRET", more='rest_url = "https://other.test"'))
    right = config(tmp_path, A + B)
    assert said(astray, right, phase) != []
    assert said(astray, right, phase, [right.accounts["b"].login.identity("salt")]) == []


@pytest.mark.parametrize("phase", [*TRIPPED, Phase.STRIKING])
def test_no_other_account_gets_the_login_that_a_tripped_one_gives_up(tmp_path: Path, phase: Phase) -> None:
    mine, other = B.replace('"KEY_b"', '"OTHER"'), B.replace('"KEY_b"', '"SECRET"')
    old = config(tmp_path, A + mine)
    taken = f"has the login of b, which is {phase}; re-arm b first"
    renamed = config(tmp_path, A + mine.replace("accounts.b", "accounts.c"))
    assert f"accounts.c: {taken}" in said(old, renamed, phase)
    moved = config(tmp_path, A + other + mine.replace("accounts.b", "accounts.c"))
    assert f"accounts.c: {taken}" in said(old, moved, phase)
    swapped = config(tmp_path, A.replace('"KEY_a"', '"OTHER"') + B)
    assert f"accounts.a: {taken}" in said(old, swapped, phase)
    assert said(old, moved, Phase.ARMED) == []


def test_other_keys_for_all_of_many_tripped_accounts_are_not_compared_in_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop waits for it, and after an incident all keys are replaced."""
    names = [f"n{number}" for number in range(40)]
    text = "".join(ACCOUNT.format(name=name, secret="SECRET", more="") for name in names)
    (path := tmp_path / "config.toml").write_text(text)
    old, new = (load(path, environ=ENVIRON | {f"KEY_{name}": f"{name}-{age}" for name in names}) for age in "12")
    owed = {name: [old.accounts[name].login.identity("salt")] for name in names}
    digest, made = identity._digest, []

    def counted(key: str, salt: str) -> str:
        made.append(salt)
        return digest(key, salt)

    monkeypatch.setattr(identity, "_digest", counted)
    assert reload_blockers(old, new, dict.fromkeys(names, Phase.CLEAR), owed) == []
    assert len(made) < 10 * len(names)


def test_another_sub_account_of_a_login_that_stays_tripped_under_its_own_name_is_no_matter(tmp_path: Path) -> None:
    mine = '[accounts.b]\nvenue = "kuna"\napi_key = { env = "KEY_b" }\n'
    other = mine.replace("s.b", "s.c") + 'account_type = "pro"\n'
    assert said(config(tmp_path, A + mine), config(tmp_path, A + mine + other), Phase.CLEAR) == []
