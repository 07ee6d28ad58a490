"""A latch belongs to the account that was struck, and not to its name: logins that change, at a reload and at a start.

The daemon is the real one; its venues refuse every connection, and what they would have shown is told to the engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from kill_switch.clock import now
from kill_switch.core import sweep
from kill_switch.core.commands import RearmGranted, RearmRefused
from kill_switch.core.domain import Instant, Phase
from kill_switch.core.events import Progress
from kill_switch.daemon.daemon import Daemon
from kill_switch.errors import ConfigError
from tests.unit.daemon.test_reload import Play

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

KEYS = {f"KEY_{name}": f"7f3a9c1e5d2b8{name}4q6w" for name in "XYZ"}
HERE, THERE = "127.0.0.1:1", "127.0.0.1:2"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Desk(Play):
    """A daemon whose accounts log in as the test says: the letter of a key, or that and a host."""

    def logins(self, more: str = "", **accounts: str) -> None:
        text = f'[daemon]\nstate_dir = "{self.state_dir}"\nruntime_dir = "{self.runtime_dir}"\nready = "degraded"\n'
        for name, login in accounts.items():
            key, _, host = login.partition("@")
            host = host or HERE
            text += f'[accounts.{name}]\nvenue = "oxfun"\napi_key = {{ env = "KEY_{key}" }}\n'
            text += 'api_secret = { env = "SECRET" }\n'
            text += f'ws_url = "wss://{host}/ws"\nrest_url = "https://{host}"\n'
        self.source.write_text(text + more)

    def prove(self, *names: str) -> None:
        """Let the venue show nothing, twice: the account is proven clear, and that is on record."""
        for name in names:
            for after_s in (0.01, 1.0):
                at_ns = now().mono_ns + int(after_s * 1e9)
                read_counted = sweep.ReadCounted(at_ns, at_ns, 0, 0, True)
                self.daemon.dispatcher.handle(Progress(name, read_counted, Instant(at_ns, now().wall_ns)))
            assert self.phase(name) is Phase.CLEAR

    def leave(self, name: str, orders: int = 4) -> None:
        """Let the deadline pass with so many orders left."""
        state = self.daemon.dispatcher.state
        account = state.accounts[name]
        assert account.sweep is not None
        left = account._replace(sweep=account.sweep._replace(phase=Phase.RESIDUE, orders_left=orders))
        self.daemon.dispatcher.state = state._replace(accounts={**state.accounts, name: left})

    def phase(self, name: str = "a") -> Phase:
        return self.daemon.dispatcher.state.accounts[name].phase

    def rearm(self, *names: str, force: bool = False) -> object:
        return self.daemon.dispatcher.rearm(self.asked(1, *names)._replace(force=force))

    def refused(self, *names: str) -> str:
        verdict = self.rearm(*names)
        assert isinstance(verdict, RearmRefused)
        return "; ".join(verdict.reasons)

    def trouble(self) -> list[str]:
        status: Any = self.daemon.handlers.status()
        return [line for line in status["trouble"] if "not the account" in line]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name, key in (*KEYS.items(), ("SECRET", "secret-of-the-account")):
        monkeypatch.setenv(name, key)
    return Desk(tmp_path)


def strikes(daemon: Daemon, name: str = "a") -> int:
    at = daemon.dispatcher.state.accounts[name].sweep
    return 0 if at is None else at.strikes


# ── at a reload ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_another_key_of_an_account_that_was_clear_begins_its_proof_anew_and_nothing_is_owed(desk: Desk) -> None:
    desk.logins(a="X")
    async with desk.running() as daemon:
        desk.fire("a")
        desk.prove("a")
        struck = strikes(daemon)
        desk.logins(a="Y")
        await daemon.reloader.reload()
        assert desk.phase() is not Phase.CLEAR and strikes(daemon) > struck
        assert "STRIKING" in desk.refused("a") or "CONFIRMING" in desk.refused("a")
        desk.prove("a")
        assert desk.trouble() == []
        assert desk.rearm("a") == RearmGranted(("a",))


async def test_another_key_of_an_account_with_orders_left_owes_these_until_a_re_arm_by_force(desk: Desk) -> None:
    desk.logins(a="X")
    async with desk.running() as daemon:
        desk.fire("a")
        desk.leave("a")
        desk.logins(a="Y")
        await daemon.reloader.reload()
        desk.prove("a")
        why = "not the account that was struck: its key is another one"
        assert f"a is {why}: look for orders there, then use --force" in desk.refused("a")
        assert desk.trouble() == [f"account a: {why}: only rearm --force arms it"]
        assert any(why in text for text in desk.announced)
    async with desk.running() as daemon:  # a restart forgets nothing of it
        assert desk.phase() is Phase.CLEAR
        assert why in desk.refused("a")
        desk.fire("a")  # nor does another reason
        desk.prove("a")
        assert why in desk.refused("a")
        assert desk.rearm("a", force=True) == RearmGranted(("a",))
        assert desk.trouble() == []
    async with desk.running() as daemon:
        assert desk.tripped() == ()
        assert daemon.dispatcher.state.accounts["a"].unproven_identities == ()


async def test_a_tripped_account_stays_where_it_is_and_so_does_its_proof(desk: Desk) -> None:
    desk.logins(a="X", b="Y")
    async with desk.running() as daemon:
        desk.fire("a")
        desk.prove("a")
        for accounts, words in (
            ({"a": f"X@{THERE}", "b": "Y"}, f"accounts.a: its host is {THERE}, and was {HERE}"),
            ({"c": "X", "b": "Y"}, "accounts.a: removed, and it is CLEAR"),
            ({"a": "Y", "b": "X"}, "accounts.b: has the login of a, which is CLEAR; re-arm a first"),
        ):
            desk.logins(**accounts)
            with pytest.raises(ConfigError, match="re-arm") as refused:
                await daemon.reloader.reload()
            assert words in str(refused.value)
            assert desk.phase() is Phase.CLEAR and desk.tripped() == ("a",)
        assert desk.rearm("a") == RearmGranted(("a",))
        desk.logins(a=f"X@{THERE}", b="Y")
        await daemon.reloader.reload()


async def test_no_other_account_gets_the_login_of_orders_that_a_tripped_one_owes(desk: Desk) -> None:
    desk.logins(a="X", b="Z")
    async with desk.running() as daemon:
        desk.fire("a")
        desk.leave("a")
        desk.logins(a="Y", b="Z")
        await daemon.reloader.reload()
        for accounts in ({"a": "Y", "b": "X"}, {"a": "Y", "b": "Z", "c": "X"}):
            desk.logins(**accounts)
            with pytest.raises(ConfigError, match=r"accounts\.[bc]: has the login of a, which is") as refused:
                await daemon.reloader.reload()
            assert "re-arm a first" in str(refused.value)
            assert desk.tripped() == ("a",)
        desk.prove("a")
        assert "its key is another one" in desk.refused("a")
        desk.logins(a="X", b="Z")  # it goes back to where it was
        await daemon.reloader.reload()
        desk.prove("a")
        assert desk.rearm("a") == RearmGranted(("a",))


# ── at a start ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("login", "words"),
    [("Y", "its key is another one"), (f"X@{THERE}", f"its host is {THERE}, and was {HERE}")],
)
async def test_a_start_that_finds_another_login_says_so_strikes_it_and_owes_the_old_one(
    desk: Desk, login: str, words: str
) -> None:
    desk.logins(a="X")
    async with desk.running():
        desk.fire("a")
        desk.prove("a")
    desk.logins(a=login)
    why = f"not the account that was struck: {words}"
    for _ in range(2):
        async with desk.running() as daemon:
            assert desk.tripped() == ("a",)
            assert any(why in text for text in desk.announced)
            assert [entry["identities"]["a"][-1]["host"] for entry in desk.entries("resume")[-1:]] == [
                login.partition("@")[2] or HERE
            ]
            assert desk.phase() is not Phase.CLEAR or strikes(daemon) > 1
            desk.prove("a")
            assert why in desk.refused("a")
            assert desk.trouble() == [f"account a: {why}: only rearm --force arms it"]


async def test_a_login_that_was_astray_goes_back_to_the_account_that_was_struck(desk: Desk) -> None:
    desk.logins(a="X")
    async with desk.running():
        desk.fire("a")
    desk.logins(a=f"Y@{THERE}")
    async with desk.running() as daemon:
        desk.prove("a")
        desk.logins(a="X")
        await daemon.reloader.reload()
        assert desk.phase() is not Phase.CLEAR
        desk.prove("a")
        assert desk.trouble() == []  # the one astray was proven clear as well
        assert desk.rearm("a") == RearmGranted(("a",))


async def test_a_latched_account_that_has_another_name_now_is_tripped_under_that(desk: Desk) -> None:
    desk.logins(a="X", b="Y")
    async with desk.running():
        desk.fire("a")
        desk.prove("a")
    desk.logins(b="Y", new="X")
    async with desk.running() as daemon:
        assert desk.tripped() == ("new",)
        assert desk.phase("new") is Phase.CLEAR  # it is guarded, as it was
        assert any("new was struck as a" in text for text in desk.announced)
        assert daemon.reloader.tripped_unconfigured == {}
        daemon.journal.flush()
        report: Any = daemon.reports.render("last")
        assert set(report["accounts"]) == {"new"}
    async with desk.running():
        assert desk.tripped() == ("new",)
        desk.prove("new")
        assert desk.rearm("new") == RearmGranted(("new",))
    async with desk.running():
        assert desk.tripped() == ()
    desk.logins(a="Z", b="Y", new="X")
    async with desk.running():
        assert desk.tripped() == ()  # and the old name is free


async def test_accounts_with_swapped_names_keep_their_own_latches(desk: Desk) -> None:
    desk.logins(a="X", b="Y")
    async with desk.running():
        desk.fire("a")
    desk.logins(a="Y", b="X")
    async with desk.running():
        assert desk.tripped() == ("b",)
        assert desk.trouble() == []
    desk.logins(a="X", b="Y")
    async with desk.running():
        assert desk.tripped() == ("a",)


async def test_a_reused_name_stays_tripped_while_no_other_account_has_the_old_login(
    desk: Desk,
) -> None:
    desk.logins(a="X")
    async with desk.running():
        desk.fire("a")
    desk.logins(a="Y", b="Z")
    async with desk.running():
        assert desk.tripped() == ("a",)
    desk.logins(a="Y", b="X")  # there it is
    async with desk.running():
        assert set(desk.tripped()) == {"a", "b"}


@pytest.mark.parametrize("name", ["a", "new"])
async def test_an_account_that_left_tripped_comes_back_tripped_under_any_name(desk: Desk, name: str) -> None:
    desk.logins(a="X", b="Y")
    async with desk.running():
        desk.fire("a")
    desk.logins(b="Y")
    async with desk.running() as daemon:
        assert desk.tripped() == () and set(daemon.reloader.tripped_unconfigured) == {"a"}
        desk.logins(b="Y", **{name: "X"})
        await daemon.reloader.reload()
        assert desk.tripped() == (name,)
        assert daemon.reloader.tripped_unconfigured == {}
        desk.prove(name)
        assert desk.rearm(name) == RearmGranted((name,))
    async with desk.running():
        assert desk.tripped() == ()


async def test_an_account_that_gets_the_login_of_one_that_left_tripped_is_tripped(desk: Desk) -> None:
    desk.logins(a="X", b="Y")
    async with desk.running():
        desk.fire("a")
    desk.logins(b="Y")
    async with desk.running() as daemon:
        desk.logins(b="X")
        await daemon.reloader.reload()
        assert desk.tripped() == ("b",) and daemon.reloader.tripped_unconfigured == {}
    async with desk.running():
        assert desk.tripped() == ("b",)
        desk.prove("b")
        assert desk.rearm("b") == RearmGranted(("b",))
    async with desk.running():
        assert desk.tripped() == ()


async def test_a_tripped_account_that_gets_the_login_of_one_that_left_tripped_owes_its_own(desk: Desk) -> None:
    desk.logins(a="X", b="Y")
    async with desk.running():
        desk.fire("a")
    desk.logins(b="Y")
    async with desk.running() as daemon:
        desk.fire("b")
        desk.leave("b")
        desk.logins(b="X")
        await daemon.reloader.reload()
        assert desk.tripped() == ("b",) and daemon.reloader.tripped_unconfigured == {}
        desk.prove("b")
        assert "b is not the account that was struck: its key is another one" in desk.refused("b")


async def test_a_login_that_an_account_that_left_tripped_owes_comes_back_tripped(desk: Desk) -> None:
    desk.logins(a="X", b="Z")
    async with desk.running() as daemon:
        desk.fire("a")
        desk.leave("a")
        desk.logins(a="Y", b="Z")
        await daemon.reloader.reload()
    desk.logins(b="Z")
    async with desk.running() as daemon:
        desk.logins(b="Z", c="X")
        await daemon.reloader.reload()
        assert desk.tripped() == ("c",)
        desk.prove("c")
        assert "c is not the account that was struck: its key is another one" in desk.refused("c")


async def test_a_name_that_returns_with_another_login_is_tripped_for_the_old_one(desk: Desk) -> None:
    desk.logins(a="X", b="Y")
    async with desk.running():
        desk.fire("a")
    desk.logins(b="Y")
    async with desk.running() as daemon:
        desk.logins(b="Y", a="Z")
        await daemon.reloader.reload()
        assert desk.tripped() == ("a",)
        desk.prove("a")
        assert "a is not the account that was struck: its key is another one" in desk.refused("a")


async def test_a_journal_without_identities_goes_by_names_as_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.logins(a="X")
    async with desk.running() as daemon:
        accounts = daemon.dispatcher.state.accounts
        old = {name: account._replace(identity=None) for name, account in accounts.items()}
        daemon.dispatcher.state = daemon.dispatcher.state._replace(accounts=old)
        desk.fire("a")
        assert desk.entries("reason")[-1]["identities"] == {}
    desk.logins(a="Y")
    async with desk.running():
        assert desk.tripped() == ("a",) and desk.trouble() == []


async def test_no_key_is_on_record_and_no_digest_is_the_same_in_two_processes(desk: Desk) -> None:
    desk.logins(a="X", b="Y")
    digests = set()
    for _ in range(2):
        async with desk.running():
            desk.fire("a")
            digests.add(desk.entries("reason")[-1]["identities"]["a"]["key"])
            desk.prove("a")
            desk.rearm("a", force=True)
            raw = desk.daemon.journal.path.read_text() + orjson.dumps(desk.daemon.handlers.status()).decode()
        assert [key[n : n + 9] for key in KEYS.values() for n in range(len(key) - 9) if key[n : n + 9] in raw] == []
    assert len(digests) == 2
