"""A dry run shows what a kill would hit, and touches nothing: no strike, no state, no kill kept waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from kill_switch.core.domain import Phase
from kill_switch.health.dry_run import GAP_S, WITHIN_S, DryRun
from kill_switch.venues.messages import Call, CallLost, OrdersRead, Outputs
from tests.harness.dispatcher_harness import DispatcherHarness
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio


async def shown(desk: DispatcherHarness, body: bytes | None = b"o1 o2", after_s: float = 0.02) -> Mapping[str, Any]:
    """Make a dry run of account a, whose venue answers with these orders; None: it does not."""
    found: list[Mapping[str, Any]] = []

    async def look() -> None:
        found.append((await DryRun(desk.dispatcher).list_targets(("a",)))["a"])

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await anyio.sleep(after_s)
        if body is not None:
            desk.answer(body)
    return found[0]


async def test_an_armed_accounts_orders_are_read_at_that_moment() -> None:
    desk = DispatcherHarness("a", "b")
    orders = [{"id": one, "symbol": "BTC", "status": "open"} for one in ("o1", "o2")]
    found = await shown(desk)
    assert found == {"orders": orders, "orders_known": True, "orders_why": None, "would_send": []}
    assert desk.trace == ["a http GET /orders"]


async def test_it_changes_nothing() -> None:
    desk = DispatcherHarness("a")
    before = desk.dispatcher.state
    await shown(desk)
    assert desk.dispatcher.state is before
    assert desk.recorder.records == []
    assert desk.announced == []


async def test_a_dry_runs_read_waits_for_everything_urgent() -> None:
    desk = DispatcherHarness("a")
    hurry = desk.venues["a"].read
    desk.venues["a"].read = lambda now: tuple(  # type: ignore[method-assign]
        output._replace(urgent=True) for output in hurry(now) if isinstance(output, Call)
    )
    desk.lanes["a"].holds = True
    async with anyio.create_task_group() as group:
        group.start_soon(DryRun(desk.dispatcher).list_targets, ("a",))
        await anyio.sleep(0.01)
        (call,) = desk.lanes["a"].calls
        assert call.urgent is False
        group.cancel_scope.cancel()


async def test_the_command_is_shown_in_the_venues_words() -> None:
    desk = DispatcherHarness("a")
    desk.venues["a"].describe_strike = lambda: ("POST /cancel-all {}",)  # type: ignore[method-assign]
    assert (await shown(desk))["would_send"] == ["POST /cancel-all {}"]


async def test_a_venue_that_cannot_preview_its_command_is_reported() -> None:
    def fails() -> tuple[str, ...]:
        raise RuntimeError("a bug that names a-secret")

    desk = DispatcherHarness("a")
    desk.venues["a"].describe_strike = fails  # type: ignore[method-assign]
    found = await shown(desk)
    assert found["would_send"] == ["internal error: RuntimeError"]
    assert found["orders_known"]


async def test_without_an_answer_the_known_orders_are_shown_with_the_reason() -> None:
    desk = DispatcherHarness("a")
    await shown(desk)
    await anyio.sleep(GAP_S)
    desk.lanes["a"].trouble = "connection reset"
    began_s = anyio.current_time()
    found = await shown(desk, None)
    assert anyio.current_time() - began_s == pytest.approx(WITHIN_S, abs=0.1)
    assert [order["id"] for order in found["orders"]] == ["o1", "o2"]
    assert found["orders_known"] is False
    assert found["orders_why"] == f"no answer within {WITHIN_S:g} s; http: connection reset"


async def test_a_read_that_fails_is_no_proof_of_an_empty_account() -> None:
    desk = DispatcherHarness("a")

    async with anyio.create_task_group() as group:

        async def fail() -> None:
            await anyio.sleep(0.01)
            desk.dispatcher.sessions["a"].on_lane_event(
                CallLost(desk.lanes["a"].calls[-1].tag, True, "no answer in time")
            )

        group.start_soon(fail)
        found = (await DryRun(desk.dispatcher).list_targets(("a",)))["a"]
    assert (found["orders"], found["orders_known"]) == ([], False)
    assert found["orders_why"] == "no answer in time"


async def test_a_read_that_is_a_moment_old_is_not_taken_for_one_of_now() -> None:
    desk = DispatcherHarness("a")
    await shown(desk, b"")
    found = await shown(desk, b"o1", after_s=GAP_S + 0.01)
    assert [order["id"] for order in found["orders"]] == ["o1"]


async def test_dry_runs_in_a_loop_do_not_use_up_the_venues_rate_limit() -> None:
    desk = DispatcherHarness("a")
    previews = DryRun(desk.dispatcher)
    began_s = anyio.current_time()

    async def loop() -> None:
        while True:
            await previews.list_targets(("a",))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(loop)
        while anyio.current_time() < began_s + 10:
            desk.answer()
            await anyio.sleep(0.005)
        group.cancel_scope.cancel()
    assert desk.trace.count("a http GET /orders") <= 11


async def test_a_waiting_dry_run_uses_the_read_of_the_one_before_it() -> None:
    desk = DispatcherHarness("a")
    previews = DryRun(desk.dispatcher)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(previews.list_targets, ("a",))
        await anyio.sleep(0.01)
        desk.answer()
    assert desk.trace == ["a http GET /orders"]


async def test_during_a_kill_a_dry_run_reads_nothing_and_says_why() -> None:
    desk = DispatcherHarness("a")
    desk.fire()
    before = list(desk.trace)
    found = await shown(desk, None)
    assert [done for done in desk.trace if done != "sync"] == before
    assert (found["orders_known"], found["orders_why"]) == (False, "a kill is under way: STRIKING")


async def test_a_tripped_account_shows_its_guards_last_read() -> None:
    desk = DispatcherHarness("a")
    await desk.kill()
    before, reads = desk.dispatcher.state, len(desk.trace)
    await anyio.sleep(0.5)
    found = await shown(desk, None, after_s=0.0)
    assert len(desk.trace) == reads
    assert desk.dispatcher.state is before
    assert (found["orders"], found["orders_known"]) == ([], True)
    assert found["orders_why"].startswith("tripped: as its guard has read it 0.")


async def test_an_account_that_was_recovered_as_tripped_and_not_read_yet_is_unknown() -> None:
    desk = DispatcherHarness("a")
    await desk.kill()
    desk.dispatcher.sessions["a"].status.last_read = None
    found = await shown(desk, None, after_s=0.0)
    assert (found["orders_known"], found["orders_why"]) == (False, "tripped, and not read yet")


async def test_a_kill_that_comes_meanwhile_is_not_mistaken_for_the_answer() -> None:
    desk = DispatcherHarness("a")
    running().call_later(0.005, desk.fire)
    found = await shown(desk, None)
    assert found["orders_why"].startswith("a kill is under way: ")
    assert not found["orders_known"]


async def test_an_account_that_is_struck_before_its_turn_comes_is_not_read_any_more() -> None:
    desk = DispatcherHarness("a")
    await shown(desk)
    reads = desk.trace.count("a http GET /orders")
    running().call_later(0.5, desk.fire)  # while it keeps its distance from the read before
    running().call_later(0.6, desk.dispatcher.sessions["a"].retire)
    found = await shown(desk, None)
    assert found["orders_why"] == "a kill is under way: STRIKING"
    assert desk.trace.count("a http GET /orders") == reads


async def test_the_read_of_a_dry_run_that_comes_in_during_a_kill_proves_nothing_for_it() -> None:
    desk = DispatcherHarness("a")
    asked: list[int] = []

    def read(now: Any) -> Outputs:
        asked.append(now.mono_ns)
        return ()

    desk.venues["a"].read = read  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:
        group.start_soon(DryRun(desk.dispatcher).list_targets, ("a",))
        await anyio.sleep(0.01)
        desk.fire()
        desk.venues["a"].will(OrdersRead((), True, asked[0]))
        for _ in range(3):
            session = desk.dispatcher.sessions["a"]
            session._carry_out((OrdersRead((), True, asked[0]),), desk.dispatcher.clock())
    assert desk.dispatcher.state.accounts["a"].phase is not Phase.CLEAR
