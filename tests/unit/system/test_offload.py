"""Blocking calls happen in a thread: the event loop never waits, what hangs is said, and no other thread is held up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from kill_switch.system import offload
from kill_switch.system.offload import OffloadThread

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "anyio_backend",
        [
            pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
            pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        ],
    ),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "HANGS_AFTER_S", 0.08)


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(5):
        while not true():  # noqa: ASYNC110 - a thread
            await anyio.sleep(0.002)


async def test_a_call_returns_its_result_from_another_thread() -> None:
    files = OffloadThread("the disk")
    assert await files.run(threading.current_thread) is not threading.main_thread()
    assert not files.busy
    files.close()


async def test_a_call_raises_the_exception_of_its_function() -> None:
    files = OffloadThread("the disk")
    with pytest.raises(ValueError, match="invalid literal"):
        await files.run(int, "x")
    files.close()


async def test_a_call_that_hangs_is_trouble_until_it_answers() -> None:
    files, over = OffloadThread("the disk"), threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(files.run, over.wait)
        await until(lambda: files.trouble == "the disk does not answer")
        over.set()
    assert (files.trouble, files.hangs) == ("", False)
    files.close()


async def test_an_abandoned_call_that_hangs_is_trouble_too_and_one_behind_it_is_left_out_if_abandoned() -> None:
    files, over, begun, called = OffloadThread("the disk"), threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        over.wait(10)

    async with anyio.create_task_group() as group:
        group.start_soon(files.run, hang)
        await until(begun.is_set)
        group.start_soon(files.run, called.set)
        await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert files.busy
    await until(lambda: files.hangs)
    over.set()
    await until(lambda: not files.busy)
    assert not files.hangs
    assert not called.is_set()
    files.close()


async def test_the_result_of_an_abandoned_call_is_dropped_and_one_that_arrives_is_not() -> None:
    files, over, begun, dropped = OffloadThread("the disk"), threading.Event(), threading.Event(), list[int]()

    def hang() -> int:
        begun.set()
        over.wait(10)
        return 7

    async with anyio.create_task_group() as group:
        group.start_soon(partial(files.run, hang, drop=dropped.append))
        await until(begun.is_set)
        group.cancel_scope.cancel()
    over.set()
    await until(lambda: dropped == [7])
    assert await files.run(abs, -8, drop=dropped.append) == 8
    files.close(5.0)
    assert dropped == [7]


async def test_a_process_that_was_stopped_finds_nothing_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    files, over = OffloadThread("the disk"), threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(files.run, over.wait)
        await anyio.sleep(0.01)
        over.wait(0.4)  # the loop stands still for much longer than a call may take
        await anyio.lowlevel.checkpoint()
        assert not files.hangs
        over.set()
    files.close()


async def test_one_that_hangs_holds_up_no_other() -> None:
    sick, sound, over = OffloadThread("a server"), OffloadThread("the disk"), threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(sick.run, over.wait)
        with anyio.fail_after(2):
            assert await sound.run(abs, -1) == 1
        over.set()
    sick.close()
    sound.close()


async def test_closing_waits_for_a_thread_that_hangs_no_longer_than_the_bound() -> None:
    files, over = OffloadThread("the disk"), threading.Event()
    files.post(over.wait)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    files.close(0.05)
    assert loop.time() - began_s < 2.0
    assert await files.run(abs, -1) == 1  # in a new thread
    over.set()
    files.close()


async def test_posted_work_is_done_before_the_end_and_its_failure_is_contained(tmp_path_factory: object) -> None:
    files, done = OffloadThread("the disk"), threading.Event()

    def fail() -> None:
        raise OSError(5, "Input/output error")

    files.post(fail)
    files.post(done.set)
    files.close(5.0)
    assert done.is_set()
