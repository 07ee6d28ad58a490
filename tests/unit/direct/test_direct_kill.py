"""A direct kill strikes before it reads, lets no account feel another's failure, and is cut short by nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from kill_switch import clock
from kill_switch.config import loader
from kill_switch.core import recovery
from kill_switch.core.domain import Reason, SweepTiming
from kill_switch.direct import direct_kill
from kill_switch.dispatch import connect
from kill_switch.journal import journal, latch_file
from kill_switch.journal.journal import Journal
from kill_switch.journal.latch_lines import parse_latch
from kill_switch.testbed.testbed import LocalTestbed
from tests.harness.recovered import tripped_accounts

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.timeout(60)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def stage() -> Iterator[LocalTestbed]:
    """Two venues, orders at both, and directories that no daemon holds."""
    with LocalTestbed(["oxfun", "roxom"]) as testbed:
        testbed.write_config()
        testbed.state_dir.mkdir()
        for venue in testbed.venues:
            testbed.rest(venue, 5)
        yield testbed


def left_a_latch(stage: LocalTestbed) -> bool:
    return any((directory / latch_file.LATCH_NAME).exists() for directory in (stage.state_dir, stage.runtime_dir))


def books(stage: LocalTestbed) -> dict[str, int]:
    return {venue: stage.book(venue) for venue in stage.venues}


def cancels(stage: LocalTestbed) -> list[dict[str, Any]]:
    return [request for request in stage.admin("GET", "/requests") if request["what"].startswith("cancel")]


def records(stage: LocalTestbed, kind: str) -> list[Any]:
    replay = journal.read_journal(stage.state_dir / journal.NAME)
    assert replay.broken is None
    return [entry["data"] for entry in replay.entries if entry["kind"] == kind]


def begin_journal(stage: LocalTestbed, state_dir: Path | None = None) -> None:
    """Write the journal of a daemon that has started."""
    begun = Journal(state_dir or stage.state_dir, stage.runtime_dir)
    begun.append("start", {}, clock.now())
    begun.close()


async def kill(stage: LocalTestbed, *accounts: str, wait_s: float = 8.0) -> dict[str, Any]:
    loaded = loader.load(stage.config)
    report, failed = await direct_kill.fire(loaded, "test", accounts or tuple(loaded.accounts), wait_s, {})
    assert failed == {}
    return report


async def test_who_was_struck_is_on_record_and_another_login_under_the_name_starts_tripped_and_owes_it() -> None:
    with LocalTestbed(["roxom", "oxfun"]) as stage:
        stage.write_config()
        stage.state_dir.mkdir()
        await kill(stage)
        entries = journal.read_journal(stage.state_dir / journal.NAME).entries
        [identities] = [entry["data"]["identities"] for entry in entries if entry["kind"] == "reason"]
        logins = {name: account.login for name, account in loader.load(stage.config).accounts.items()}
    assert all(logins[name].covers(identity) for name, identity in identities.items())
    swapped = {"roxom": logins["oxfun"], "new": logins["roxom"]}
    state = recovery.rebuild(entries, dict.fromkeys(swapped, SweepTiming()), 1, swapped, "5a17")
    assert set(state.tripped) == {"roxom", "new"}
    assert state.renamed == {"roxom": "new", "oxfun": "roxom"}


async def test_a_lane_that_fails_is_not_felt_by_another_account(
    stage: LocalTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = connect.connect_account

    async def fail() -> None:
        raise RuntimeError("a bug in one account's lane")

    def one_fails(*words: Any) -> Any:
        session, lanes = line(*words)
        return session, [(name, fail if name == "oxfun ws" else work) for name, work in lanes]

    monkeypatch.setattr(connect, "connect_account", one_fails)
    report = await kill(stage)
    assert books(stage) == {"oxfun": 0, "roxom": 0}
    assert {account["verdict"] for account in report["accounts"].values()} == {"CONFIRMED"}


async def test_a_record_that_cannot_be_understood_does_not_keep_it_from_killing(
    stage: LocalTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild: Callable[..., Any] = recovery.rebuild

    def once(entries: Any, *words: Any) -> Any:
        if entries:
            raise KeyError("accounts")
        return rebuild(entries, *words)

    await kill(stage)  # leaves a record
    stage.rest("roxom", 5)
    monkeypatch.setattr(recovery, "rebuild", once)
    report = await kill(stage)
    assert stage.book("roxom") == 0
    assert left_a_latch(stage)
    assert report["accounts"]["roxom"]["verdict"] == "CONFIRMED"


# ── what bounds it ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_waiting_for_the_proof_every_account_is_struck_and_has_answered(stage: LocalTestbed) -> None:
    report = await kill(stage, wait_s=0.0)
    assert books(stage) == {"oxfun": 0, "roxom": 0}
    assert all(account["answered_us"] is not None for account in report["accounts"].values())


async def test_a_wait_shorter_than_the_way_to_the_venue_shortens_only_the_proof(stage: LocalTestbed) -> None:
    for venue in stage.venues:
        stage.admin("POST", "/faults", venue=venue, fault="delay", ms=400)
    await kill(stage, wait_s=0.3)
    assert books(stage) == {"oxfun": 0, "roxom": 0}


async def test_an_account_that_does_not_answer_is_given_up_after_the_transports_own_bound(
    stage: LocalTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_kill, "STRIKE_WITHIN_S", 1.5)
    stage.admin("POST", "/faults", venue="oxfun", fault="half_open")
    began_s = time.monotonic()
    report = await kill(stage, wait_s=0.0)
    assert 1.5 <= time.monotonic() - began_s < 5.0
    assert report["accounts"]["oxfun"]["verdict"] in ("UNKNOWN", "UNSENT")
    assert stage.book("roxom") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
async def test_a_signal_in_the_middle_lets_every_account_answer_first(stage: LocalTestbed, number: int) -> None:
    for venue in stage.venues:
        stage.admin("POST", "/faults", venue=venue, fault="delay", ms=300)
    async with anyio.create_task_group() as group:
        group.start_soon(kill, stage)
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), number)
    assert books(stage) == {"oxfun": 0, "roxom": 0}


async def test_the_second_interrupt_ends_it(stage: LocalTestbed) -> None:
    stage.admin("POST", "/faults", venue="oxfun", fault="half_open")
    began_s = time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(kill, stage)
        while stage.book("roxom"):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
    assert time.monotonic() - began_s < direct_kill.STRIKE_WITHIN_S
    assert records(stage, "reason") or left_a_latch(stage)


# ── the record ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_bytes_leave_before_the_record_is_read_and_after_a_latch_file_is_written(
    stage: LocalTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_journal(stage)
    read = threading.Event()
    left_ns: list[int] = []
    real, leave = Journal, latch_file.append_to_first

    def slow(*directories: Path) -> Journal:
        assert read.wait(10.0)
        return real(directories[0], directories[1])

    def noted(paths: list[Path], line: bytes) -> list[str]:
        time.sleep(0.1)  # connections are up meanwhile
        left = leave(paths, line)
        left_ns.append(time.monotonic_ns())
        return left

    monkeypatch.setattr(direct_kill, "Journal", slow)
    monkeypatch.setattr(latch_file, "append_to_first", noted)
    async with anyio.create_task_group() as group:
        group.start_soon(kill, stage)
        while any(books(stage).values()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        assert left_a_latch(stage)
        assert min(request["t_ns"] for request in cancels(stage)) > left_ns[0]
        assert not records(stage, "reason")
        read.set()
    assert not left_a_latch(stage)  # the record has it now
    assert [data["accounts"] for data in records(stage, "reason")] == [["oxfun", "roxom"]]
    assert {data["account"] for data in records(stage, "clear")} == {"oxfun", "roxom"}


async def test_a_record_that_cannot_be_had_in_time_leaves_the_latch(
    stage: LocalTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def hangs(*directories: Path) -> Journal:
        ended.wait(20.0)
        raise OSError

    monkeypatch.setattr(direct_kill, "Journal", hangs)
    monkeypatch.setattr(direct_kill, "RECORD_WITHIN_S", 0.2)
    report = await kill(stage)
    ended.set()
    assert {account["verdict"] for account in report["accounts"].values()} == {"CONFIRMED"}
    assert left_a_latch(stage)


async def test_a_kill_on_the_journal_beneath_a_failed_mount_trips_the_daemon_with_the_real_one_once(
    stage: LocalTestbed, tmp_path: Path
) -> None:
    for _ in range(2):  # the second kill finds the first one's journal there
        await kill(stage, "roxom")
    assert len(records(stage, "reason")) == 2
    real = tmp_path / "real"
    real.mkdir()
    begin_journal(stage, real)
    opened = Journal(real, stage.runtime_dir)
    try:
        lines = opened.foreign_latch() or ""
        assert parse_latch(lines, stage.venues).accounts == ("roxom",)
        opened.append("reason", {"kill": "k1"}, clock.now())
        opened.adopt_latch(lines)
        opened.sync()
    finally:
        opened.close()
    assert not (stage.runtime_dir / latch_file.LATCH_NAME).exists()


async def test_a_state_directory_that_hangs_keeps_no_kill_from_leaving_and_the_latch_is_in_the_other(
    stage: LocalTestbed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended, leave = threading.Event(), latch_file.append_to_first

    def hangs(*directories: Path) -> Journal:
        ended.wait(20.0)
        raise OSError

    def hangs_there(paths: list[Path], line: bytes) -> list[str]:
        if paths[0].parent == stage.state_dir:
            ended.wait(20.0)
        return leave(paths, line)

    monkeypatch.setattr(latch_file, "append_to_first", hangs_there)
    monkeypatch.setattr(latch_file, "sync_latch", hangs)
    monkeypatch.setattr(direct_kill, "Journal", hangs)
    monkeypatch.setattr(direct_kill, "RECORD_WITHIN_S", 0.2)
    report = await kill(stage)
    there = (stage.state_dir / latch_file.LATCH_NAME).exists(), (stage.runtime_dir / latch_file.LATCH_NAME).exists()
    ended.set()
    assert there == (False, True)
    assert {account["verdict"] for account in report["accounts"].values()} == {"CONFIRMED"}
    assert f"{stage.state_dir} does not answer" in caplog.text


async def test_where_no_latch_can_be_left_the_kill_goes_out_and_says_so(
    stage: LocalTestbed, caplog: pytest.LogCaptureFixture
) -> None:
    for directory in (stage.state_dir, stage.runtime_dir):
        (directory / latch_file.LATCH_NAME).mkdir()
    await kill(stage)
    assert books(stage) == {"oxfun": 0, "roxom": 0}
    assert "no latch can be left for the daemon" in caplog.text


async def test_a_direct_kill_joins_an_unfinished_kill_on_record_and_strikes_its_remaining_accounts(
    stage: LocalTestbed,
) -> None:
    state, run = stage.state_dir, stage.runtime_dir
    first = Journal(state, run)
    began = clock.now()
    reason = {"kill": "k7-1", "trigger": "panic", "text": "touched", "accounts": ["oxfun", "roxom"], "evidence": {}}
    first.append("reason", {**reason, "observed_mono_ns": began.mono_ns, "observed_wall_ns": began.wall_ns}, began)
    sent = {"kill": "k7-1", "account": "oxfun", "strike": 3, "routes": ["ws"], "mono_ns": began.mono_ns}
    first.append("strike", {"sent": [sent]}, began)
    first.close()
    report = await kill(stage, "oxfun")
    assert books(stage) == {"oxfun": 0, "roxom": 0}
    assert report["id"] == "k7-1"
    assert [reason["trigger"] for reason in report["reasons"]] == ["panic", "direct"]
    assert report["accounts"]["oxfun"]["strikes"] == 2  # the one that was, and ours
    replay = journal.read_journal(state / journal.NAME)
    assert recovery.rebuild(replay.entries, {}).kill is not None
    assert "oxfun" in tripped_accounts(replay.entries)


async def test_an_answer_that_comes_behind_the_record_is_that_of_the_strike_of_this_kill(stage: LocalTestbed) -> None:
    await kill(stage, "roxom")
    stage.rest("roxom", 5)
    stage.admin("POST", "/faults", venue="roxom", fault="delay", ms=1000 * (direct_kill.READ_AFTER_S + 0.5))
    report = await kill(stage, "roxom", wait_s=0.0)
    account = report["accounts"]["roxom"]
    assert (account["attempts"][0]["strike"], account["attempts"][0]["answer"]) == (1, "ACCEPTED")
    assert account["sent_us"] is not None and account["answered_us"] >= 1_000_000


async def test_accounts_out_of_scope_are_neither_struck_nor_connected_to(stage: LocalTestbed) -> None:
    await kill(stage, "roxom")
    assert books(stage) == {"oxfun": 5, "roxom": 0}
    assert {request["venue"] for request in stage.admin("GET", "/requests") if "venue" in request} <= {"roxom"}


async def test_a_latch_of_another_process_is_kept_for_the_daemon(stage: LocalTestbed) -> None:
    latch_file.leave_latch(stage.state_dir, stage.runtime_dir, Reason("direct", "another", ("oxfun",), clock.now()))
    await kill(stage, "roxom")
    assert "another" in (stage.state_dir / latch_file.LATCH_NAME).read_text()


# ── what it counts, and what it is called ─────────────────────────────────────────────────────────────────────────


async def test_it_counts_the_orders_that_it_has_cancelled_where_it_knew_of_none_before(stage: LocalTestbed) -> None:
    stage.admin("POST", "/faults", venue="oxfun", fault="pending", ms=300)  # the list is seen before they are gone
    report = await kill(stage)
    for name, account in report["accounts"].items():
        assert (account["cancelled"], len(account["cancelled_ids"])) == (5, 5), (name, account)


async def test_direct_kills_go_on_counting_where_the_record_ends_and_their_first_id_finds_them(
    stage: LocalTestbed,
) -> None:
    ids = [(await kill(stage))["id"] for _ in range(2)]
    assert [one.partition("-")[0] for one in ids] == ["k1", "k2"]
    known_as = [data["known_as"] for data in records(stage, "reason")]
    assert len(set(known_as)) == 2 and all(one.startswith("direct-") for one in known_as)


async def test_a_kill_that_is_on_no_record_has_an_id_that_no_other_has(stage: LocalTestbed) -> None:
    holder = Journal(stage.state_dir, stage.runtime_dir)
    try:
        ids = [(await kill(stage, "roxom", wait_s=0.0))["id"] for _ in range(2)]
    finally:
        holder.close()
    assert len(set(ids)) == 2 and all(order_id.startswith("direct-") for order_id in ids)


async def test_a_kill_that_joins_one_on_record_counts_the_orders_of_both_once(stage: LocalTestbed) -> None:
    stage.admin("POST", "/faults", venue="roxom", fault="partial", keep=2, times=1)
    first = await kill(stage, "roxom", wait_s=0.0)
    stage.admin("DELETE", "/faults?venue=roxom")
    report = await kill(stage)
    assert report["id"] == first["id"]
    assert report["accounts"]["roxom"]["cancelled"] == 5


async def test_a_message_that_is_not_sent_in_time_is_named_in_the_answer(
    stage: LocalTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that loads for longer than the kill waits: the kill is whole, and nobody believes that people know."""
    monkeypatch.setattr(direct_kill, "TELL_WITHIN_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stage.write_config(f'[notify]\nurls = ["json://127.0.0.1:{silent.getsockname()[1]}/s3cret"]\n')
        report = await kill(stage)
    assert books(stage) == {"oxfun": 0, "roxom": 0}
    [problem] = report["problems"]
    assert "urls[0] json" in problem["text"] and "s3cret" not in problem["text"]
    assert problem["note"]  # the kill itself is as good as any: exit code 0
