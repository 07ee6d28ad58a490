"""Who is woken by what, and what is announced once."""

from __future__ import annotations

import anyio
import pytest

from kill_switch.core.on_change import Change, OnChange
from kill_switch.tasks import run_isolated
from kill_switch.wakeup import AutoResetEvent, Signal

pytestmark = pytest.mark.anyio


async def returns(wait: AutoResetEvent | Signal) -> bool:
    """Return whether a wait that begins now returns without a further notification."""
    with anyio.move_on_after(0) as scope:
        await wait.wait()
    return not scope.cancelled_caught


async def test_a_signal_wakes_present_waiters_and_no_later_one() -> None:
    signal, woken = Signal(), []

    async def waiter(name: str) -> None:
        await signal.wait()
        woken.append(name)

    signal.notify()  # nobody waits: it is forgotten
    assert not await returns(signal)
    async with anyio.create_task_group() as group:
        for name in ("a", "b"):
            group.start_soon(waiter, name)
        await anyio.wait_all_tasks_blocked()
        signal.notify()
    assert sorted(woken) == ["a", "b"]
    assert not await returns(signal)


async def test_an_auto_reset_event_is_remembered_for_one_wait() -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    await event.wait()
    assert not await returns(event)


async def test_a_cancelled_wait_leaves_an_auto_reset_event_set() -> None:
    event = AutoResetEvent()
    event.set()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await event.wait()
    await event.wait()


async def test_a_lasting_condition_is_reported_once_until_it_ends() -> None:
    seen = OnChange()
    assert seen.update(["b", "a"]) == Change(["a", "b"], [])
    assert seen.update(["a", "b"]) == Change([], [])
    assert seen.update(["b"]) == Change([], ["a"])
    assert seen.update(["a", "b"]) == Change(["a"], [])
    seen.retain(["a"])
    assert seen.update(["a", "b"]) == Change(["b"], [])
    seen.retain(["a"])
    assert seen.update(["a"]) == Change([], [])


async def test_the_failure_of_an_isolated_task_is_logged_and_its_group_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails() -> None:
        raise ValueError("broken")

    async with anyio.create_task_group() as group:
        group.start_soon(run_isolated, "a ws", fails)
    assert (
        "task a ws failed" in caplog.text and "ValueError" in caplog.text
    )  # another test may have set the logging up for single lines
