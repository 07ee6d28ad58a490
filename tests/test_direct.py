"""A direct kill lets no account feel another's failure, and no journal keep it from trying."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kill_switch import config, direct, journal, recovery, wiring
from kill_switch.domain import Pace
from kill_switch.stage import Stage

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.timeout(60)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def left_a_latch(stage: Stage) -> bool:
    return (stage.state_dir / "latch.jsonl").exists()


async def kill(stage: Stage) -> dict[str, Any]:
    loaded = config.load(stage.config)
    return await direct.fire(loaded, "test", tuple(loaded.accounts), 8.0, {})


async def test_who_was_struck_is_on_record_and_another_login_under_the_name_starts_tripped_and_owes_it() -> None:
    with Stage(["roxom", "oxfun"]) as stage:
        stage.write_config()
        stage.state_dir.mkdir()
        await kill(stage)
        entries = journal.read(stage.state_dir / journal.NAME).entries
        [identities] = [entry["data"]["identities"] for entry in entries if entry["kind"] == "reason"]
        logins = {name: account.login for name, account in config.load(stage.config).accounts.items()}
    assert all(logins[name].covers(identity) for name, identity in identities.items())
    swapped = {"roxom": logins["oxfun"], "new": logins["roxom"]}
    state = recovery.rebuild(entries, dict.fromkeys(swapped, Pace()), 1, swapped, "5a17")
    assert set(state.tripped) == {"roxom", "new"}
    assert state.moved == {"roxom": "new", "oxfun": "roxom"}


async def test_a_lane_that_fails_is_not_felt_by_another_account(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = wiring.connect

    async def fail() -> None:
        raise RuntimeError("a bug in one account's lane")

    def one_fails(*words: Any) -> list[tuple[str, Any]]:
        return [(name, fail if name == "oxfun ws" else work) for name, work in connect(*words)]

    with Stage(["oxfun", "roxom"]) as stage:
        stage.write_config()
        for venue in stage.venues:
            stage.rest(venue, 5)
        monkeypatch.setattr(wiring, "connect", one_fails)
        report = await kill(stage)
        assert {venue: stage.book(venue) for venue in stage.venues} == {"oxfun": 0, "roxom": 0}
    assert {account["verdict"] for account in report["accounts"].values()} == {"CONFIRMED"}


async def test_a_record_that_cannot_be_understood_does_not_keep_it_from_killing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rebuild: Callable[..., Any] = recovery.rebuild

    def once(entries: Any, *words: Any) -> Any:
        if entries:
            raise KeyError("accounts")
        return rebuild(entries, *words)

    with Stage(["roxom"]) as stage:
        stage.write_config()
        stage.state_dir.mkdir()
        await kill(stage)  # leaves a record
        stage.rest("roxom", 5)
        monkeypatch.setattr(recovery, "rebuild", once)
        report = await kill(stage)
        assert stage.book("roxom") == 0
        assert left_a_latch(stage)
    assert report["accounts"]["roxom"]["verdict"] == "CONFIRMED"
