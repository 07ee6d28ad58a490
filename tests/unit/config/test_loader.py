"""Assert every message of the configuration word for word, and that none of them shows a secret."""

from __future__ import annotations

import base64
import grp
import os
import re
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import BaseModel, field_validator, model_validator

from kill_switch import venues
from kill_switch.config import loader, toml_file
from kill_switch.config.in_force import in_force
from kill_switch.config.loader import TABLES, Config, daemon_keys, load, runtime_dir
from kill_switch.config.messages import keys_of
from kill_switch.config.parsers import format_duration, seconds
from kill_switch.config.rescue import rescue
from kill_switch.config.schema import (
    KINDS,
    DaemonConfig,
    DrillConfig,
    FlagConfig,
    HeartbeatConfig,
    HooksConfig,
    IntakeConfig,
    NotifyConfig,
    PingConfig,
    RearmConfig,
    ScheduleConfig,
    SilenceConfig,
)
from kill_switch.core.domain import Instant, Route
from kill_switch.errors import ConfigError
from kill_switch.system.host_port import HostPort
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.messages import Outputs, Replied
from kill_switch.venues.options import VenueOptions, ws_url_of

SECRET = "sEcReT-0123456789-aBcDeF"
ENVIRON = {"KEY": SECRET, "SECRET": SECRET + "2", "BAD": f"bad-{SECRET}"}
DURATION = 'expected a duration with its unit, such as "250ms", "3s", "5m" or "1h"'
SOURCE = 'expected { credential = "NAME" }, { file = "/PATH" } or { env = "NAME" }'
OXFUN_KEYS = "venue, tags, api_key, api_secret, ws_url, environment, rest_url, ca_file, max_connections"
NAME = 'expected letters, digits, ".", "_" and "-", a letter or digit first, 64 at most'


# ── venues of the tests' own ──────────────────────────────────────────────────────────────────────────────────────


class Desk(Adapter):
    """An adapter that only takes its secrets."""

    NAME = "oxfun"

    class Options(VenueOptions):
        ws_url: str = "wss://venue.test/ws"
        rest_url: str = "https://venue.test"

    def __init__(self, options: VenueOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        self.held = dict(secrets)

    @classmethod
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        return ("api_key", "api_secret")

    def strike(self, now: Instant, number: int) -> Outputs:
        return ()

    def read(self, now: Instant) -> Outputs:
        return ()

    def keep_warm(self, now: Instant) -> Outputs:
        return ()

    def on_reply(self, ask: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        return ()

    def on_loss(self, ask: PendingCall, why: str, now: Instant) -> Outputs:
        return ()

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        return ()

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        return ()

    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        return ()


class Sparing(Desk):
    """A venue whose accounts can do without some secrets."""

    @classmethod
    def optional_secrets(cls, options: VenueOptions) -> tuple[tuple[str, ...], ...]:
        return (("spot_key", "spot_secret"), ("word",))


class Choosing(Desk):
    """A venue whose accounts sign with one of two secrets."""

    @classmethod
    def alternatives(cls, options: VenueOptions) -> dict[str, str]:
        return {"api_secret": "private_key"}


class Signer(Desk):
    """A venue whose secrets depend on its options, and whose module is careless with what it says."""

    NAME = "roxom"

    class Options(VenueOptions):
        ws_url: str = "wss://signer.test/ws"
        rest_url: str = "https://signer.test"
        auth: Literal["rsa", "api-key"] = "rsa"
        types: tuple[Literal["spot", "perp"], ...] = ("spot", "perp")
        depth: int | list[int] = 5
        burst: int = 5
        share: float = 0.5
        cold: bool = False
        note: str = ""

        @field_validator("note")
        @classmethod
        def _note(cls, note: str) -> str:
            if note:
                raise ValueError(f"cannot use {note}")
            return note

        @model_validator(mode="after")
        def _together(self) -> Signer.Options:
            if self.cold and self.burst > 5:
                raise ValueError("a cold account takes no burst above 5")
            return self

    @classmethod
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        return ("api_key", "private_key") if getattr(options, "auth", "rsa") == "rsa" else ("api_key",)

    def __init__(self, options: VenueOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        if secrets["api_key"].startswith("bad"):
            raise ValueError(f"no use for {secrets['api_key']}")
        if secrets.get("private_key", "").startswith("bad"):
            raise ValueError("private_key is not an RSA key")
        if second_route_after_s > 60:
            raise ValueError("no venue of this kind waits\nthat long")


VENUES: dict[str, type[Adapter]] = {"oxfun": Desk, "roxom": Signer}

# ── texts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

MM1 = """
[accounts.mm1]
venue      = "oxfun"
tags       = ["desk:mm", "algo:quoter"]
api_key    = { env = "KEY" }
api_secret = { env = "SECRET" }
"""
RX1 = """
[accounts.rx1]
venue       = "roxom"
tags        = ["desk:mm", "desk:mm"]
api_key     = { env = "KEY" }
private_key = { env = "SECRET" }
"""
BOTH = MM1 + RX1
FLAG = """
[triggers.panic]
kind = "flag"
path = "/run/KILL"
"""


def loaded(tmp_path: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ=environ, venues=VENUES)


def refusal(tmp_path: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, environ)
    return caught.value


def lines(error: ConfigError) -> list[str]:
    return [str(problem) for problem in error.problems]


# ── secrets that an account can do without ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sparing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VENUES, "oxfun", Sparing)


@pytest.mark.usefixtures("sparing")
def test_secrets_that_an_account_can_do_without_are_read_where_they_are_given(tmp_path: Path) -> None:
    more = 'spot_key = { env = "KEY" }\nspot_secret = { env = "SECRET" }\n'
    account = loaded(tmp_path, MM1 + more).accounts["mm1"]
    assert set(account.secrets) == {"api_key", "api_secret", "spot_key", "spot_secret"}
    adapter = account.build_adapter(0.06)
    assert isinstance(adapter, Desk) and set(adapter.held) == set(account.secrets)
    assert set(loaded(tmp_path, MM1 + 'word = { env = "KEY" }\n').accounts["mm1"].secrets) >= {"word"}
    assert account.login == loaded(tmp_path, MM1).accounts["mm1"].login


@pytest.mark.usefixtures("sparing")
def test_a_part_of_secrets_that_belong_together_is_refused_and_the_other_part_is_named(tmp_path: Path) -> None:
    for given, missing in (("spot_key", "spot_secret"), ("spot_secret", "spot_key")):
        [line] = lines(refusal(tmp_path, MM1 + f'{given} = {{ env = "KEY" }}\n'))
        assert line.startswith(f"accounts.mm1.{missing}: missing, although {given} is given")


@pytest.mark.usefixtures("sparing")
def test_a_secret_that_the_venue_does_not_know_is_refused_beside_optional_ones(tmp_path: Path) -> None:
    [line] = lines(refusal(tmp_path, MM1 + 'spot_word = { env = "KEY" }\n'))
    assert line.startswith("accounts.mm1.spot_word: ")


def test_a_secret_may_be_given_instead_of_another_and_without_both_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VENUES, "oxfun", Choosing)
    other = MM1.replace("api_secret", "private_key")
    assert set(loaded(tmp_path, other).accounts["mm1"].secrets) == {"api_key", "private_key"}
    assert set(loaded(tmp_path, MM1).accounts["mm1"].secrets) == {"api_key", "api_secret"}
    neither = "\n".join(line for line in MM1.splitlines() if not line.startswith("api_secret")) + "\n"
    [line] = lines(refusal(tmp_path, neither))
    assert line.startswith("accounts.mm1.api_secret: missing, and no private_key is given instead")


# ── what is right ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_account_is_enough(tmp_path: Path) -> None:
    config = loaded(tmp_path, MM1)
    assert config.source == tmp_path / "config.toml"
    assert config.daemon == DaemonConfig()
    assert config.triggers == {}
    assert config.intake == IntakeConfig()
    assert config.rearm == RearmConfig()
    account = config.accounts["mm1"]
    assert (account.name, account.venue, account.tags) == ("mm1", "oxfun", ("desk:mm", "algo:quoter"))
    assert ws_url_of(account.options) == "wss://venue.test/ws"
    assert dict(account.secrets) == {"api_key": SECRET, "api_secret": SECRET + "2"}


def test_the_defaults_are_those_of_the_manual() -> None:
    daemon = DaemonConfig()
    assert (daemon.budget_s, daemon.second_route_after_s) == (0.25, 0.06)
    assert (daemon.state_dir, daemon.runtime_dir) == (Path("/var/lib/kill-switch"), Path("/run/kill-switch"))
    assert (daemon.start, daemon.ready, daemon.group) == ("armed", "all", None)
    assert (IntakeConfig().udp, IntakeConfig().key, RearmConfig().approvals) == (None, None, 1)


def test_every_key_can_be_set(tmp_path: Path) -> None:
    group = grp.getgrall()[0].gr_name
    text = f"""
    [daemon]
    budget = "1.5s"
    hedge_after = "250ms"
    state_dir = "/s"
    runtime_dir = "/r"
    start = "tripped"
    ready = "degraded"
    group = "{group}"
    {RX1}
    auth = "rsa"
    types = ["perp"]
    depth = [1, 2]
    share = 1
    [triggers.alive]
    kind = "heartbeat"
    timeout = "5m"
    start = "boot"
    allow_bye = true
    [intake]
    udp = "0.0.0.0:9465"
    key = {{ env = "KEY" }}
    [rearm]
    approvals = 2
    """
    config = loaded(tmp_path, text)
    daemon = config.daemon
    assert (daemon.budget_s, daemon.second_route_after_s) == (1.5, 0.25)
    assert (daemon.state_dir, daemon.runtime_dir) == (Path("/s"), Path("/r"))
    assert (daemon.start, daemon.ready, daemon.group) == ("tripped", "degraded", group)
    options = config.accounts["rx1"].options
    assert isinstance(options, Signer.Options)
    assert (options.types, options.depth, options.share) == (("perp",), [1, 2], 1.0)
    alive = config.triggers["alive"]
    assert isinstance(alive, HeartbeatConfig)
    assert (alive.timeout_s, alive.start, alive.allow_bye) == (300.0, "boot", True)
    assert config.intake.udp == HostPort("0.0.0.0", 9465)
    assert config.intake.key is not None
    assert config.intake.key.get_secret_value() == SECRET
    assert config.rearm.approvals == 2


def test_an_account_builds_a_new_adapter_each_time(tmp_path: Path) -> None:
    account = loaded(tmp_path, MM1).accounts["mm1"]
    adapter, two = account.build_adapter(0.5), account.build_adapter(0.5)
    assert adapter is not two
    assert isinstance(adapter, Desk)
    assert adapter.held == {"api_key": SECRET, "api_secret": SECRET + "2"}
    assert adapter.second_route.cancel_s == 0.5


def test_the_secrets_that_an_account_needs_follow_from_its_options(tmp_path: Path) -> None:
    text = '[accounts.a]\nvenue = "roxom"\nauth = "api-key"\napi_key = { env = "KEY" }\n'
    assert list(loaded(tmp_path, text).accounts["a"].secrets) == ["api_key"]


@pytest.mark.parametrize(
    ("selectors", "accounts"),
    [
        ("", ("mm1", "rx1")),
        ('accounts = ["rx1"]', ("rx1",)),
        ('accounts = ["rx1", "mm1", "rx1"]', ("mm1", "rx1")),
        ('accounts = ["desk:mm"]', ("mm1", "rx1")),
        ('accounts = ["rx1", "algo:quoter"]', ("mm1", "rx1")),
    ],
)
def test_a_trigger_names_its_accounts_once_and_in_the_files_order(
    tmp_path: Path, selectors: str, accounts: tuple[str, ...]
) -> None:
    panic = loaded(tmp_path, BOTH + FLAG + selectors).triggers["panic"]
    assert isinstance(panic, FlagConfig)
    assert panic.path == Path("/run/KILL")
    assert panic.accounts == accounts


def test_names_and_tags_select_accounts(tmp_path: Path) -> None:
    config = loaded(tmp_path, BOTH)
    assert config.select([]) == ("mm1", "rx1")
    assert config.select(["rx1"]) == ("rx1",)
    assert config.select(("rx1", "desk:mm")) == ("mm1", "rx1")


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("mm2", '"mm2"; did you mean "mm1"? known: mm1, rx1, desk:mm, algo:quoter'),
        ("DESK:MM", '"DESK:MM"; did you mean "desk:mm"? known: mm1, rx1, desk:mm, algo:quoter'),
        ("zz\n", '"zz\\n"; known: mm1, rx1, desk:mm, algo:quoter'),
    ],
)
def test_an_unknown_selector_is_refused_in_one_line(tmp_path: Path, selector: str, said: str) -> None:
    with pytest.raises(ValueError, match="no account and no tag is called") as caught:
        loaded(tmp_path, BOTH).select(["mm1", selector])
    assert str(caught.value) == f"no account and no tag is called {said}"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/s", "RUNTIME_DIRECTORY": "/r"}, ("/s", "/r")),
        ({"STATE_DIRECTORY": "/s:/t", "RUNTIME_DIRECTORY": "/r:/q"}, ("/s", "/r")),
        ({"STATE_DIRECTORY": "", "RUNTIME_DIRECTORY": ""}, ("/var/lib/kill-switch", "/run/kill-switch")),
    ],
)
def test_systemds_directories_are_the_defaults(
    tmp_path: Path, environ: dict[str, str], expected: tuple[str, str]
) -> None:
    daemon = loaded(tmp_path, MM1, ENVIRON | environ).daemon
    assert (str(daemon.state_dir), str(daemon.runtime_dir)) == expected


def test_a_command_takes_systemds_directories_only_in_our_unit_or_with_the_daemons_socket(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(MM1)
    ours = {"STATE_DIRECTORY": "/s", "RUNTIME_DIRECTORY": "/r", "KILL_SWITCH_UNIT": "yes"}
    theirs = {"STATE_DIRECTORY": "/var/lib/quoter", "RUNTIME_DIRECTORY": "/run/quoter"}

    def directories(environ: dict[str, str]) -> set[tuple[str, str]]:
        """Return the directories that a direct kill uses, and those of a command that asks the daemon."""
        direct = rescue(path, environ=ENVIRON | environ).config.daemon
        asking = daemon_keys(path, "state_dir", "runtime_dir", environ=environ)
        return {(str(daemon.state_dir), str(daemon.runtime_dir)) for daemon in (direct, asking)}

    assert directories(theirs) == {("/var/lib/kill-switch", "/run/kill-switch")}
    assert directories(ours) == {("/s", "/r")}

    filled = {"STATE_DIRECTORY": str(tmp_path / "state"), "RUNTIME_DIRECTORY": str(tmp_path / "run")}
    (tmp_path / "run").mkdir()
    assert directories(filled) == directories(theirs)
    (tmp_path / "run/control.sock").touch()
    assert directories(filled) == {(filled["STATE_DIRECTORY"], filled["RUNTIME_DIRECTORY"])}


def test_the_file_overrules_systemds_directories(tmp_path: Path) -> None:
    environ = ENVIRON | {"STATE_DIRECTORY": "relative", "RUNTIME_DIRECTORY": "/r"}
    daemon = loaded(tmp_path, MM1 + '[daemon]\nstate_dir = "/mine"', environ).daemon
    assert (str(daemon.state_dir), str(daemon.runtime_dir)) == ("/mine", "/r")


@pytest.mark.parametrize(
    ("written", "duration_s"),
    [("250ms", 0.25), ("3s", 3.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("0.5ms", 0.0005)],
)
def test_a_duration_has_a_unit(written: str, duration_s: float) -> None:
    assert seconds(written) == pytest.approx(duration_s)


def test_a_duration_is_written_the_way_it_is_read() -> None:
    assert [format_duration(seconds(text)) for text in ("250ms", "1.5s", "5m")] == ["250ms", "1.5s", "300s"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("127.0.0.1:9465", ("127.0.0.1", 9465)),
        ("localhost:1", ("127.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_on_loopback_needs_no_key(tmp_path: Path, written: str, expected: tuple[str, int]) -> None:
    assert loaded(tmp_path, f'{MM1}[intake]\nudp = "{written}"').intake.udp == expected


# ── where the file is ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_file_given_goes_before_the_environments(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(RX1)
    environ = ENVIRON | {"KILL_SWITCH_CONFIG": str(tmp_path / "other.toml")}
    assert list(loaded(tmp_path, MM1, environ).accounts) == ["mm1"]
    assert list(load(environ=environ, venues=VENUES).accounts) == ["rx1"]


@pytest.mark.parametrize("environ", [{}, {"KILL_SWITCH_CONFIG": ""}])
def test_the_systems_file_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    monkeypatch.setattr(toml_file, "DEFAULT", tmp_path / "etc.toml")
    (tmp_path / "etc.toml").write_text(MM1)
    assert load(environ=ENVIRON | environ, venues=VENUES).source == tmp_path / "etc.toml"


HINT_FILE = "`kill-switch init` writes a file; -c FILE or $KILL_SWITCH_CONFIG names another"


@pytest.mark.parametrize(
    ("name", "found"),
    [("missing.toml", "no such file or directory"), (".", "is a directory"), ("a\0b", "not a path")],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, found: str) -> None:
    path = tmp_path / name
    with pytest.raises(ConfigError) as caught:
        load(path, environ={}, venues=VENUES)
    assert str(caught.value) == f"{path}: file: {found}; {HINT_FILE}"
    assert caught.value.exit_code == 78


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_file_that_this_user_may_not_read_is_not_taken_for_one_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError) as caught:
            load(path, environ={}, venues=VENUES)
    finally:
        os.seteuid(0)
    right = "run as the daemon's user, or ask for the right to read it; it holds no secrets"
    assert str(caught.value) == f"{path}: file: permission denied; {right}"


TOML = 'expected TOML: key = "value", with strings in quotes'


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (f"[a]\nb = {SECRET}", f"line 2, column 5: invalid value; {TOML}"),
        (f'[a]\nb = "{SECRET}', f"end of document: unterminated string; {TOML}"),
        (f"[a]\n[a]\nb = '{SECRET}'", f"line 2, column 3: cannot declare ('a',) twice; {TOML}"),
        (
            f"[{'a' * 5000}]\n" * 2,
            f"line 2, column 5002: cannot declare ('{'a' * 63}…{'a' * 71}',) twice; {TOML}",
        ),
        ("a = 1\n\xff", "line 2: not UTF-8; save the file as UTF-8"),
        ("a = " + "[" * 5000, "file: nested too deeply; expected tables as in the file that `kill-switch init` writes"),
        ("a = 1" + "0" * 5000, "file: a number with too many digits; expected a smaller one"),
        ("a = 0x1" + "0" * 5000, "file: a number with too many digits; expected a smaller one"),
    ],
)
def test_a_file_that_is_not_toml_is_one_line(tmp_path: Path, content: str, line: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load(path, environ={}, venues=VENUES)
    assert str(caught.value) == f"{path}: {line}"
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_byte_order_mark_is_not_in_the_way(tmp_path: Path) -> None:
    assert list(loaded(tmp_path, "\ufeff" + MM1).accounts) == ["mm1"]


# ── what is wrong ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the file
        ("", ["accounts: no account; expected at least one table [accounts.NAME]"]),
        ("accounts = 5", ["accounts: 5; expected a table [accounts.NAME]"]),
        (BOTH + "[deamon]", ['deamon: unknown key; did you mean "daemon"?']),
        (BOTH + "[x]", [f"x: unknown key; known keys: {', '.join((*TABLES, 'include'))}"]),
        ("rearm = 2020-01-01" + BOTH, ["rearm: a date or time; expected a table [rearm]"]),
        ("triggers = []" + BOTH, ["triggers: an empty array; expected a table [triggers.NAME]"]),
        # names
        ("[accounts]\nmm1 = 5", ["accounts.mm1: 5; expected a table [accounts.mm1]"]),
        (MM1.replace("mm1", '"a b"'), [f'accounts."a b": not a name; {NAME}']),
        (MM1.replace("mm1", '"a\\n\\u007f"'), [f'accounts."a\\n\\u007f": not a name; {NAME}']),
        (MM1.replace("mm1", "a" * 65), [f'accounts."{"a" * 63}\\u2026": not a name; {NAME}']),
        (MM1 + FLAG.replace("panic", "-x"), [f"triggers.-x: not a name; {NAME}"]),
        (MM1 + "[triggers]\nx = true", ["triggers.x: true; expected a table [triggers.x]"]),
        # [daemon]
        (MM1 + '[daemon]\nhedge_afer = "1s"', ['daemon.hedge_afer: unknown key; did you mean "hedge_after"?']),
        (MM1 + '[daemon]\nbudget_s = "1s"', ['daemon.budget_s: unknown key; did you mean "budget"?']),
        (
            MM1 + "[daemon]\nx = 1",
            [f"daemon.x: unknown key; known keys: {', '.join(keys_of(DaemonConfig))}, second_route_after"],
        ),
        (
            MM1 + "[daemon]\nsecond_route_after = 5",
            [f"daemon.second_route_after: 5, a number without a unit; {DURATION}"],
        ),
        (
            MM1 + '[daemon]\nsecond_route_aftr = "1s"',
            ['daemon.second_route_aftr: unknown key; did you mean "second_route_after"?'],
        ),
        (
            MM1 + '[daemon]\nhedge_after = "50ms"\nsecond_route_after = "50ms"',
            [
                "daemon.second_route_after: given beside hedge_after, which is another name of the same key; "
                "keep one of the two"
            ],
        ),
        (
            MM1 + '[daemon]\nsecond_route_after = "250ms"',
            [
                "daemon.budget: 250ms, not longer than second_route_after = 250ms; "
                "the second route must have time to answer within the budget"
            ],
        ),
        (MM1 + "[daemon]\nbudget = 250", [f"daemon.budget: 250, a number without a unit; {DURATION}"]),
        (MM1 + "[daemon]\nbudget = 0.25", [f"daemon.budget: 0.25, a number without a unit; {DURATION}"]),
        (MM1 + "[daemon]\nbudget = 1e99", [f"daemon.budget: a number, a number without a unit; {DURATION}"]),
        (MM1 + '[daemon]\nbudget = "250"', [f'daemon.budget: "250"; {DURATION}']),
        (MM1 + '[daemon]\nbudget = "-1s"', [f'daemon.budget: "-1s"; {DURATION}']),
        (MM1 + '[daemon]\nbudget = "2 days"', [f'daemon.budget: "2 days"; {DURATION}']),
        (MM1 + '[daemon]\nbudget = "0s"', ['daemon.budget: "0s"; it must be longer than zero']),
        (MM1 + '[daemon]\nbudget = ""', [f"daemon.budget: an empty string; {DURATION}"]),
        (MM1 + "[daemon]\nbudget = true", [f"daemon.budget: true; {DURATION}"]),
        (MM1 + "[daemon]\nbudget = {}", [f"daemon.budget: a table; {DURATION}"]),
        (MM1 + "[daemon]\nbudget = 2020-01-01", [f"daemon.budget: a date or time; {DURATION}"]),
        (
            MM1 + '[daemon]\nbudget = "60ms"',
            [
                "daemon.budget: 60ms, not longer than hedge_after = 60ms; "
                "the second route must have time to answer within the budget"
            ],
        ),
        (MM1 + '[daemon]\nstart = "armd"', ['daemon.start: "armd"; did you mean "armed"? one of: armed, tripped']),
        (MM1 + '[daemon]\nstart = "ARMED"', ['daemon.start: "ARMED"; did you mean "armed"? one of: armed, tripped']),
        (MM1 + "[daemon]\nready = true", ["daemon.ready: true; one of: all, degraded"]),
        (
            MM1 + '[daemon]\nstate_dir = "lib"',
            ['daemon.state_dir: "lib", not an absolute path; it must begin with "/"'],
        ),
        (
            MM1 + "[daemon]\nstate_dir = 5",
            ['daemon.state_dir: 5; expected an absolute path, such as "/run/kill-switch/flag/KILL"'],
        ),
        (
            MM1 + '[daemon]\nstate_dir = "/a\\u0000"',
            ["daemon.state_dir: a path with control characters; leave them out"],
        ),
        (
            MM1 + '[daemon]\nstate_dir = "/r/s"\nruntime_dir = "/r"',
            [
                "daemon.state_dir: inside of runtime_dir; "
                "systemd empties runtime_dir at every stop, and the latch must outlive that"
            ],
        ),
        (MM1 + "[daemon]\ngroup = 5", ["daemon.group: 5; expected the name of a unix group"]),
        (MM1 + '[daemon]\ngroup = "rooot"', ['daemon.group: "rooot"; did you mean "root"?']),
        (
            MM1 + '[daemon]\ngroup = "Zz9-none"',
            ['daemon.group: "Zz9-none"; expected the name of a unix group of this machine'],
        ),
        (
            MM1 + '[daemon]\ngroup = "a\\u0000b"',
            ["daemon.group: something else; expected the name of a unix group of this machine"],
        ),
        # [accounts.NAME]
        ("[accounts.a]", ["accounts.a.venue: missing; venues: oxfun, roxom"]),
        ("[accounts.a]\nvenue = 5", ["accounts.a.venue: 5; venues: oxfun, roxom"]),
        (
            '[accounts.a]\nvenue = "ox-fun"',
            ['accounts.a.venue: "ox-fun"; did you mean "oxfun"? venues: oxfun, roxom'],
        ),
        ('[accounts.a]\nvenue = "kraken"', ['accounts.a.venue: "kraken"; venues: oxfun, roxom']),
        (
            '[accounts.a]\nvenue = "oxfun"',
            [f"accounts.a.api_key: missing; {SOURCE}", f"accounts.a.api_secret: missing; {SOURCE}"],
        ),
        (MM1 + "api_keys = 5", ['accounts.mm1.api_keys: unknown key; did you mean "api_key"?']),
        (MM1 + "zz = 5", [f"accounts.mm1.zz: unknown key; known keys: {OXFUN_KEYS}"]),
        (MM1 + "ca_file = 2020-01-01", ["accounts.mm1.ca_file: a date or time; expected a string"]),
        (
            MM1 + 'ws_url = "ws://venue.test"',
            [
                'accounts.mm1.ws_url: "ws://venue.test"; must be wss://HOST[:PORT][/PATH]: '
                "keys travel over verified TLS only"
            ],
        ),
        (RX1 + 'auth = "api_key"', ['accounts.rx1.auth: "api_key"; did you mean "api-key"? one of: rsa, api-key']),
        (
            RX1 + 'auth = "no"\nburst = "5"\nshare = "1"\ncold = 1\ntypes = "spot"\n',
            [
                'accounts.rx1.auth: "no"; one of: rsa, api-key',
                'accounts.rx1.types: "spot"; expected an array',
                'accounts.rx1.burst: "5"; expected a whole number',
                'accounts.rx1.share: "1"; expected a number',
                "accounts.rx1.cold: 1; expected true or false",
            ],
        ),
        (RX1 + "depth = true", ["accounts.rx1.depth: true; expected a whole number"]),
        (
            RX1 + 'types = ["spot", "prep"]',
            ['accounts.rx1.types[1]: "prep"; did you mean "perp"? one of: spot, perp'],
        ),
        (RX1 + "cold = true\nburst = 6", ["accounts.rx1: a cold account takes no burst above 5"]),
        (
            RX1 + 'auth = "api-key"',
            [
                "accounts.rx1.private_key: unknown key; known keys: venue, tags, api_key, ws_url, environment, "
                "rest_url, ca_file, max_connections, auth, types, depth, burst, share, cold, note"
            ],
        ),
        (
            '[accounts.a]\nvenue = "roxom"\nauth = "rsq"\napi_key = { env = "KEY" }\npass = { env = "KEY" }',
            ['accounts.a.auth: "rsq"; did you mean "rsa"? one of: rsa, api-key'],
        ),
        (
            RX1.replace('"KEY"', '"BAD"'),
            ["accounts.rx1: not accepted"],
        ),
        (RX1.replace('"SECRET"', '"BAD"'), ["accounts.rx1.private_key: is not an RSA key"]),
        (
            RX1 + '[daemon]\nbudget = "5m"\nhedge_after = "2m"',
            ["accounts.rx1: no venue of this kind waits that long"],
        ),
        # tags
        (
            MM1.replace("[", '["a b", 5, ', 2).replace('["a b", 5, ', "[", 1),
            [
                'accounts.mm1.tags[0]: "a b", not a tag; expected letters, digits, ".", "_", ":" and "-", '
                "a letter or digit first, 64 at most",
                "accounts.mm1.tags[1]: 5; expected a string",
            ],
        ),
        (
            MM1.replace('["desk:mm", "algo:quoter"]', '"desk"'),
            ['accounts.mm1.tags: "desk"; expected an array of strings, such as ["desk:mm"]'],
        ),
        (
            MM1 + RX1.replace('"desk:mm"]', '"mm1"]'),
            ['accounts.rx1.tags[1]: "mm1", which is an account\'s name; call the tag something else'],
        ),
        # secrets
        (
            MM1.replace('{ env = "KEY" }', f'"{SECRET}"'),
            [f"accounts.mm1.api_key: a literal string, where no secret belongs; {SOURCE}"],
        ),
        (
            MM1.replace('"KEY"', '"NONE"'),
            ["accounts.mm1.api_key: its variable is not set; set it in the environment of this process"],
        ),
        # [triggers.NAME]
        (MM1 + "[triggers.x]", ["triggers.x.kind: missing; kinds: flag, heartbeat, schedule, link, pnl, order-rate"]),
        (
            MM1 + '[triggers.x]\nkind = "flags"',
            ['triggers.x.kind: "flags"; did you mean "flag"? kinds: flag, heartbeat, schedule, link, pnl, order-rate'],
        ),
        (
            MM1 + '[triggers.x]\nkind = "loss"\nmax_loss = 5\naccounts = ["zz", 5]',
            [
                'triggers.x.kind: "loss"; kinds: flag, heartbeat, schedule, link, pnl, order-rate',
                "triggers.x.accounts[1]: 5; expected a string",
                'triggers.x.accounts[0]: "zz", no account and no tag; accounts: mm1',
            ],
        ),
        (
            MM1 + "[triggers.x]\nkind = 5",
            [f"triggers.x.kind: 5; kinds: {', '.join(KINDS)}"],
        ),
        (
            MM1 + '[triggers.x]\nkind = "flag"',
            ['triggers.x.path: missing; expected an absolute path, such as "/run/kill-switch/flag/KILL"'],
        ),
        (
            MM1 + FLAG.replace("/run/", ""),
            ['triggers.panic.path: "KILL", not an absolute path; it must begin with "/"'],
        ),
        (
            MM1 + FLAG + 'timeout = "1s"',
            ["triggers.panic.timeout: unknown key; known keys: kind, accounts, on_blind, path"],
        ),
        (
            MM1 + FLAG + FLAG.replace("panic", "other").replace("/KILL", "/./KILL"),
            ["triggers.other.path: the same file as triggers.panic.path; expected one trigger a file"],
        ),
        (
            MM1 + FLAG + "accounts = []",
            [
                "triggers.panic.accounts: an empty array; "
                "expected an array with at least one account or tag; leave the key out for all accounts"
            ],
        ),
        (
            MM1 + FLAG + 'accounts = "mm1"',
            [
                'triggers.panic.accounts: "mm1"; '
                "expected an array with at least one account or tag; leave the key out for all accounts"
            ],
        ),
        (
            MM1.replace("desk:mm", r"desk\tmm") + FLAG + 'accounts = ["desk:mm"]',
            [
                'accounts.mm1.tags[0]: not a tag; expected letters, digits, ".", "_", ":" and "-", '
                "a letter or digit first, 64 at most",
                'triggers.panic.accounts[0]: "desk:mm", no account and no tag; accounts: mm1',
            ],
        ),
        (
            BOTH + FLAG + f'accounts = ["mm1", "desk:mn", "{SECRET}"]',
            [
                'triggers.panic.accounts[1]: "desk:mn", no account and no tag; did you mean "desk:mm"?',
                "triggers.panic.accounts[2]: no account and no tag; accounts: mm1, rx1",
            ],
        ),
        (
            MM1 + '[triggers.daily-loss]\nkind = "heartbeat"\ntimeout = 3\nstart = "bot"\nallow_bye = "yes"',
            [
                f"triggers.daily-loss.timeout: 3, a number without a unit; {DURATION}",
                'triggers.daily-loss.start: "bot"; did you mean "boot"? one of: first-beat, boot',
                'triggers.daily-loss.allow_bye: "yes"; expected true or false',
            ],
        ),
        (
            MM1 + '[triggers.x]\nkind = "heartbeat"',
            ['triggers.x.timeout: missing; expected a duration with its unit, such as "3s"'],
        ),
        # [intake]
        (
            MM1 + '[intake]\nudp = "0.0.0.0:9465"',
            [
                "intake.udp: an address that other hosts can reach, without a key; set key, or listen on 127.0.0.1",
            ],
        ),
        (
            MM1 + f'[intake]\nudp = "0.0.0.0:9465"\nkey = "{SECRET}"',
            [f"intake.key: a literal string, where no secret belongs; {SOURCE}"],
        ),
        (MM1 + "[intake]\nupd = 1", ['intake.upd: unknown key; did you mean "udp"?']),
        *(
            (
                MM1 + f"[intake]\nudp = {written}",
                [f'intake.udp: {found}; expected an IP address and a port, such as "127.0.0.1:9465" or "[::1]:9465"'],
            )
            for written, found in [
                ("9465", "9465"),
                ('"9465"', '"9465", not an address'),
                ('"::1:9465"', '"::1:9465", not an address'),
                ('"127.0.0.1:0"', '"127.0.0.1:0", not an address'),
                ('"127.0.0.1:65536"', '"127.0.0.1:65536", not an address'),
                ('"example.com:9465"', '"example.com:9465", not an address'),
            ]
        ),
        # [rearm]
        (MM1 + "[rearm]\napprovals = 0", ["rearm.approvals: 0; expected a whole number from 1 to 5"]),
        (MM1 + "[rearm]\napprovals = 6", ["rearm.approvals: 6; expected a whole number from 1 to 5"]),
        (MM1 + '[rearm]\napprovals = "2"', ['rearm.approvals: "2"; expected a whole number from 1 to 5']),
        (MM1 + "[rearm]\napproval = 2", ['rearm.approval: unknown key; did you mean "approvals"?']),
    ],
)
def test_a_problem_has_its_place_its_fault_and_a_valid_value(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert lines(refusal(tmp_path, text)) == expected


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = (
        MM1 + FLAG + "[daemon]\nbudget = 1\n[x]\n[accounts.b]\n[triggers.c]\n[intake]\nudp = 1\n[rearm]\napprovals = 9"
    )
    error = refusal(tmp_path, text + "\n[accounts.d]\nvenue = 'oxfun'\napi_key = 'x'\nzz = 1")
    assert [problem.path for problem in error.problems] == [
        "x",
        "daemon.budget",
        "accounts.b.venue",
        "accounts.d.zz",
        "accounts.d.api_key",
        "accounts.d.api_secret",
        "triggers.c.kind",
        "intake.udp",
        "rearm.approvals",
    ]
    assert error.source == str(tmp_path / "config.toml")
    assert str(error).splitlines()[0].startswith(f"{tmp_path}/config.toml:13: x: unknown key")


def test_a_mistake_in_an_account_is_not_reported_again_by_its_references(tmp_path: Path) -> None:
    text = MM1.replace("oxfun", "oxfum") + FLAG + 'accounts = ["mm1", "algo:quoter"]'
    assert [problem.path for problem in refusal(tmp_path, text).problems] == ["accounts.mm1.venue"]


# ── nothing secret is shown ───────────────────────────────────────────────────────────────────────────────────────

LITERAL = f'"{SECRET}"'


@pytest.mark.parametrize("secret", [SECRET, "hunter2!", "Tr0ub4dor&3", "x" * 300, "a\\nb-Secret\\u0000"])
@pytest.mark.parametrize(
    "text",
    [
        *(
            BOTH.replace('{ env = "KEY" }', value)
            for value in (
                LITERAL,
                f"[{LITERAL}]",
                f"{{ env = {LITERAL} }}",
                f"{{ file = {LITERAL} }}",
                f"{{ credential = {LITERAL} }}",
                f"{{ value = {LITERAL} }}",
                f"{{ {LITERAL} = 1 }}",
                f"{{ env = {LITERAL}, file = {LITERAL} }}",
                f"{{ env = [{LITERAL}] }}",
                f"{{ env = {{ {LITERAL} = {LITERAL} }} }}",
            )
        ),
        *(
            f"{RX1}{key} = {value}\n"
            for key in ("secret", "ws_url", "rest_url", "ca_file", "auth", "types", "depth", "burst", "cold", "note")
            for value in (LITERAL, f"[{LITERAL}]", f"{{ {LITERAL} = {LITERAL} }}")
            if (key, value) != ("ca_file", LITERAL)  # any string is right there
        ),
        f'{RX1}ws_url = "wss://user:{SECRET}@venue.test"\n',
        f'{RX1}rest_url = "https://venue.test?key={SECRET}"\n',
        BOTH.replace('"oxfun"', LITERAL),
        BOTH.replace('"oxfun"', f"[{LITERAL}]"),
        BOTH.replace('["desk:mm", "algo:quoter"]', LITERAL),
        BOTH.replace('["desk:mm", "algo:quoter"]', f'["mm1", "{SECRET} "]'),
        f"top = {LITERAL}{BOTH}",
        f"rearm = {LITERAL}{BOTH}",
        f"{BOTH}[daemon]\n{{}} = 1".replace("{}", f"secret = {LITERAL}\nx"),
        *(
            f"{BOTH}[daemon]\n{key} = {LITERAL}\n"
            for key in ("budget", "hedge_after", "state_dir", "runtime_dir", "start", "ready", "group")
        ),
        *(f"{BOTH}{FLAG}{key} = {LITERAL}\n" for key in ("accounts", "secret")),
        f"{BOTH}{FLAG}accounts = [{LITERAL}]",
        f"{BOTH}{FLAG}".replace('"flag"', LITERAL),
        f"{BOTH}{FLAG}".replace('"/run/KILL"', LITERAL),
        f'{BOTH}[triggers.x]\nkind = "heartbeat"\ntimeout = {LITERAL}\nstart = {LITERAL}\nallow_bye = {LITERAL}',
        *(f"{BOTH}[intake]\n{key} = {LITERAL}\n" for key in ("udp", "key", "keys")),
        f"{BOTH}[intake]\nkey = {{ file = {LITERAL} }}",
        f"{BOTH}[rearm]\napprovals = {LITERAL}\n",
        f'{BOTH}zz = "{SECRET}',
        f"{BOTH}zz = {SECRET}",
    ],
)
def test_a_secret_in_a_wrong_place_is_not_shown(tmp_path: Path, text: str, secret: str) -> None:
    error = refusal(tmp_path, text.replace(SECRET, secret))
    shown = str(error) + repr(error) + repr(error.problems) + "".join(traceback.format_exception(error))
    for part in re.split(r"\\n|\\u0000", secret):
        assert len(part) < 4 or part not in shown
    assert "input_value" not in shown
    assert len(str(error).splitlines()) == len(error.problems)


def test_a_secret_that_a_venue_refuses_is_not_shown(tmp_path: Path) -> None:
    for name in ("KEY", "SECRET"):
        error = refusal(tmp_path, RX1.replace(f'"{name}"', '"BAD"'))
        assert SECRET not in "".join(traceback.format_exception(error))


def test_a_secret_that_a_venues_option_repeats_is_not_shown(tmp_path: Path) -> None:
    assert lines(refusal(tmp_path, f"{RX1}note = {LITERAL}")) == ["accounts.rx1.note: a string; not accepted"]


def test_a_loaded_configuration_shows_no_secret(tmp_path: Path) -> None:
    config = loaded(tmp_path, BOTH + FLAG + '[intake]\nkey = { env = "KEY" }')
    account = config.accounts["rx1"]
    for thing in (config, config.accounts, account, account.secrets, account.options, config.intake, config.intake.key):
        assert SECRET not in repr(thing) + str(thing) + f"{thing}"
    assert "api_key, private_key" in repr(config)


def test_a_loaded_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = loaded(tmp_path, MM1)
    for thing, name in ((config, "rearm"), (config.accounts["mm1"], "venue"), (config.daemon, "budget_s")):
        with pytest.raises((AttributeError, ValueError)):
            setattr(thing, name, None)
    assert not hasattr(config.accounts, "__setitem__")


# ── where the sockets are ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_sockets_are_found_whatever_else_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[daemon]\nruntime_dir = "/r"\nbudget = 5\nx = 1\n[accounts.a]\nvenue = 5')
    assert runtime_dir(path, environ={"RUNTIME_DIRECTORY": "/other"}) == Path("/r")


def test_the_sockets_are_where_they_are_by_default_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toml_file, "DEFAULT", tmp_path / "missing.toml")
    assert runtime_dir(environ={}) == Path("/run/kill-switch")
    assert runtime_dir(environ={"RUNTIME_DIRECTORY": "/r:/q", "KILL_SWITCH_UNIT": "yes"}) == Path("/r")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("daemon = 5", "daemon: 5; expected a table [daemon]"),
        ('[daemon]\nruntime_dir = "r"', 'daemon.runtime_dir: "r", not an absolute path; it must begin with "/"'),
    ],
)
def test_sockets_that_cannot_be_found_are_a_problem(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        runtime_dir(environ={"KILL_SWITCH_CONFIG": str(path)})
    assert lines(caught.value) == [line]


def test_a_file_that_was_named_must_be_there_for_the_sockets_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or directory"):
        runtime_dir(tmp_path / "missing.toml", environ={})


# ── the example and the package ───────────────────────────────────────────────────────────────────────────────────

EXAMPLE = Path(loader.__file__).with_name("example.toml")


@pytest.fixture
def credentials(tmp_path: Path) -> dict[str, str]:
    """What the example's LoadCredential lines would bring."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for name in re.findall(r'credential = "([a-z-]+)"', EXAMPLE.read_text()):
        secret = f"{SECRET}-{name}"
        is_base64 = name.startswith("kraken")
        (tmp_path / name).write_text((base64.b64encode(secret.encode()).decode() if is_base64 else secret) + "\n")
    (tmp_path / "roxom-private-key").write_text(pem)
    return {"CREDENTIALS_DIRECTORY": str(tmp_path)}


def test_the_example_configuration_is_valid_unchanged(credentials: dict[str, str]) -> None:
    config = load(EXAMPLE, environ=credentials)
    assert {name: account.venue for name, account in config.accounts.items()} == {"mm1": "kraken", "rx1": "roxom"}
    assert {name: trigger.accounts for name, trigger in config.triggers.items()} == {
        "panic": ("mm1", "rx1"),
        "quoter-alive": ("mm1",),
    }
    assert (config.daemon, config.intake, config.rearm) == (DaemonConfig(), IntakeConfig(), RearmConfig())
    assert all(isinstance(a.build_adapter(0.06), venues.VENUES[a.venue]) for a in config.accounts.values())


def test_the_examples_commented_keys_are_valid_and_state_the_defaults(
    tmp_path: Path, credentials: dict[str, str]
) -> None:
    group = grp.getgrall()[0].gr_name
    text = re.sub(r"(?m)^#(?=[a-z_]+ +=|\[)", "", EXAMPLE.read_text()).replace('"traders"', f'"{group}"')
    path = tmp_path / "all.toml"
    path.write_text(re.sub(r"(?m)^metrics_\w+_file +=.*$", "", text))  # this machine lacks the files
    config, plain = load(path, environ=credentials), load(EXAMPLE, environ=credentials)
    assert config.daemon == DaemonConfig().model_copy(update={"group": group, "metrics": HostPort("127.0.0.1", 9464)})
    assert (config.rearm, config.drill.timezone, config.hooks.timeout_s) == (
        RearmConfig(),
        DrillConfig().timezone,
        HooksConfig().timeout_s,
    )
    assert {name: config.triggers[name] for name in plain.triggers} == plain.triggers
    for name, account in plain.accounts.items():
        assert config.accounts[name].options.model_copy(update={"ca_file": None}) == account.options
    assert {account.venue for account in config.accounts.values()} == {*venues.VENUES, "ccxt:bitvavo"}


def test_the_example_names_every_key_that_there_is() -> None:
    text = re.sub(r"(?m)^#(?=[a-z_]+ +=|\[)", "", EXAMPLE.read_text())
    parsed = tomllib.loads(text)
    tables: dict[str, type[BaseModel]] = {
        "daemon": DaemonConfig,
        "intake": IntakeConfig,
        "drill": DrillConfig,
        "rearm": RearmConfig,
        "silence": SilenceConfig,
        "hooks": HooksConfig,
        "notify": NotifyConfig,
        "ping": PingConfig,
    }
    assert {"accounts", "defaults", "triggers", *tables} == set(TABLES) == set(parsed) - {"include"}
    for table, model in tables.items():
        assert set(parsed[table]) == set(keys_of(model)), table
    assert {trigger["kind"] for trigger in parsed["triggers"].values()} == set(KINDS)
    shown_once = {"on_blind", "accounts"}
    for trigger in parsed["triggers"].values():
        assert set(trigger) | shown_once == set(keys_of(KINDS[trigger["kind"]])), trigger["kind"]
    assert set(parsed["triggers"]["panic"]) >= shown_once
    for account in parsed["accounts"].values():
        adapter = venues.EVERY_VENUE[account["venue"]]
        options = adapter.Options.model_construct(**account)
        secrets = (
            *adapter.secrets(options),
            *(each for group in adapter.optional_secrets(options) for each in group),
        )
        keys = {"venue", "tags", *keys_of(adapter.Options), *secrets}
        assert set(account) - keys == set()
        shown_once = {"environment", "ws_url", "rest_url", "ca_file", "max_connections"}  # at the first account
        assert keys - set(account) <= shown_once


def test_importing_the_configuration_brings_no_network_and_no_venue() -> None:
    heavy = "{'anyio', 'httpx', 'websockets', 'cryptography', 'kill_switch.venues'}"
    code = f"import sys, kill_switch.config.loader; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


SCHEDULE = """
[triggers.x]
kind = "schedule"
cron = {cron}
timezone = {zone}
"""


@pytest.mark.parametrize(
    ("cron", "zone", "line"),
    [
        ('"55 16 * *"', '"UTC"', "cron: not a cron expression; expected minute, hour, day, month and day of the week"),
        ('"61 16 * * fri"', '"UTC"', "cron: not a cron expression"),
        ('"0 0 * * sat-sun"', '"UTC"', "cron: not a cron expression; days of the week count from sunday to saturday"),
        ('"0 0 31 2 *"', '"UTC"', "cron: a cron expression whose time never comes; expected a day that its month has"),
        ('"0 55 16 * * fri"', '"UTC"', "cron: a cron expression of 6 fields; expected five of them"),
        ('"@daily"', '"UTC"', 'cron: a shorthand; write "0 0 * * *" instead'),
        ('"@reboot"', '"UTC"', "cron: a shorthand; expected minute, hour, day, month and day of the week"),
        ('"*/90 * * * *"', '"UTC"', "cron: a step of more than 60 in the minute; a step counts within the field"),
        ('"0 0 * * fri/2"', '"UTC"', "cron: a step behind a single day of the week; expected a list or a range"),
        ('"0 0 L/2 * *"', '"UTC"', "cron: a step behind the last day of the month; leave it out"),
        ("5", '"UTC"', "cron: 5; expected minute"),
        (
            '"55 16 * * fri"',
            '"Mars/Olympus"',
            'timezone: "Mars/Olympus", not a time zone; expected the name of a time zone',
        ),
        ('"55 16 * * fri"', '"America/NewYork"', 'timezone: not a time zone; did you mean "America/New_York"?'),
        (
            '"55 16 * * fri"',
            '"Lord Howe"',
            'timezone: "Lord Howe", not a time zone; did you mean "Australia/Lord_Howe"?',
        ),
        ('"55 16 * * fri"', '"GMT+3"', "timezone: not a time zone; expected the name of a time zone"),
        ('"55 16 * * fri"', "5", "timezone: 5; expected the name of a time zone"),
    ],
)
def test_a_schedule_that_cannot_be_is_a_problem(
    tmp_path: Path, credentials: dict[str, str], cron: str, zone: str, line: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(EXAMPLE.read_text() + SCHEDULE.format(cron=cron, zone=zone))
    with pytest.raises(ConfigError) as caught:
        load(path, environ=credentials)
    assert [str(problem).startswith(f"triggers.x.{line}") for problem in caught.value.problems] == [True]


def test_a_schedule_and_a_link_are_read(tmp_path: Path, credentials: dict[str, str]) -> None:
    path = tmp_path / "config.toml"
    link = '[triggers.y]\nkind = "link"\ntimeout = "10s"\non_blind = "fire"\n'
    path.write_text(EXAMPLE.read_text() + SCHEDULE.format(cron='"*/5 16 * * mon-fri"', zone='"UTC"') + link)
    triggers = load(path, environ=credentials).triggers
    assert triggers["x"] == ScheduleConfig(
        kind="schedule", cron="*/5 16 * * mon-fri", timezone="UTC", accounts=("mm1", "rx1")
    )
    assert (triggers["y"].kind, triggers["y"].on_blind) == ("link", "fire")


def test_second_route_after_is_another_name_of_hedge_after(tmp_path: Path) -> None:
    old = loaded(tmp_path, MM1 + '[daemon]\nhedge_after = "50ms"\n')
    new = loaded(tmp_path, MM1 + '[daemon]\nsecond_route_after = "50ms"\n')
    assert new.daemon.second_route_after_s == 0.05
    assert in_force(new) == in_force(old)  # a record of the configuration does not show which name the file uses
