"""What is heard of a kill has its effects after the strike has left, and not before."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from kill_switch.config.loader import Config, load
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.journal.journal import Journal
from kill_switch.journal.segments import ChainHead
from kill_switch.outbound.metrics import MeasuredParts
from kill_switch.outbound.services import WORDS_WITHIN_S, OutboundHub
from kill_switch.tasks import TaskSupervisor
from tests.harness.dispatch_doubles import Floor
from tests.harness.worker_double import Beside as Desk

TEXT = """
[daemon]
metrics = "127.0.0.1:9464"
[accounts.mm1]
venue = "oxfun"
api_key = { env = "KEY" }
api_secret = { env = "KEY" }
[hooks]
on_trip = ["/bin/true"]
[notify]
command = "/bin/true"
[ping]
url = "https://hc.example/x"
"""


class Record:
    """A journal of which only the trouble is asked for."""

    trouble = ""

    def displaced(self) -> bool:
        return False


def parts(floor: Floor, journal: Journal) -> MeasuredParts:
    """Return the parts of which the services use two; nothing is measured here."""
    nothing: Any = None
    return MeasuredParts(floor.dispatcher, journal, nothing, nothing, nothing, nothing)


def config(directory: Path, text: str = TEXT) -> Config:
    path = directory / "config.toml"
    path.write_text(text)
    return load(path, environ={"KEY": "a-key-that-is-long-enough"})


@pytest.mark.anyio
async def test_hooks_and_messages_begin_when_the_bytes_of_the_whole_strike_have_left(tmp_path: Path) -> None:
    floor = Floor(("mm1", "rx1"))
    announced: list[Announce] = []
    outbound_hub = OutboundHub(config(tmp_path), parts(floor, cast(Journal, Record())), announced.append)
    floor.announce = outbound_hub.on_announcement
    floor.fire()
    assert [line for line in floor.trace if "cancel-all" in line] == [
        "mm1 http POST /cancel-all",
        "rx1 http POST /cancel-all",
    ]
    assert outbound_hub._hooks._jobs == [] and outbound_hub._notifier._digest.compose() is None
    await anyio.sleep(2 * WORDS_WITHIN_S)
    (job,) = outbound_hub._hooks._jobs
    assert (job.argv, job.accounts, job.reason) == (("/bin/true",), ("mm1", "rx1"), "panic: touched")
    message = outbound_hub._notifier._digest.compose()
    assert message is not None and message.kill == job.kill


@pytest.mark.anyio
async def test_a_flags_text_found_at_once_is_in_hooks_and_messages(tmp_path: Path) -> None:
    floor = Floor(("mm1",))
    outbound_hub = OutboundHub(config(tmp_path), parts(floor, cast(Journal, Record())), lambda news: None)
    floor.announce = outbound_hub.on_announcement
    floor.fire()
    await anyio.sleep(WORDS_WITHIN_S / 2)
    outbound_hub.amend("panic: touched", "panic: the quoter went mad")
    await anyio.sleep(WORDS_WITHIN_S)
    (job,) = outbound_hub._hooks._jobs
    message = outbound_hub._notifier._digest.compose()
    assert job.reason == "panic: the quoter went mad"
    assert message is not None and "the quoter went mad" in message.text and "touched" not in message.text


@pytest.mark.anyio
async def test_a_process_beside_that_cannot_be_had_is_shown_and_keeps_no_strike_from_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    floor = Floor(("mm1",))
    announced: list[Announce] = []
    outbound_hub = OutboundHub(config(tmp_path), parts(floor, cast(Journal, Replayed())), announced.append)
    floor.announce = outbound_hub.on_announcement
    async with anyio.create_task_group() as group:
        tasks = TaskSupervisor(group)
        outbound_hub.start(tasks)
        await anyio.sleep(0.5)
        floor.fire()
        assert "mm1 http POST /cancel-all" in floor.trace
        await anyio.sleep(600)
        troubles = list(outbound_hub.troubles())
        for what in ("messages", "commands"):
            assert f"the process for {what} cannot be started: No such file or directory" in troubles
        assert outbound_hub.missing == "the process for messages cannot be started: No such file or directory"
        assert any(
            trouble.startswith("notify command: the process for commands was not running") for trouble in troubles
        )
        assert [news.text for news in announced if news.text.startswith("hook")] == [
            "hook /bin/true: the process for commands was not running for 8 s",
            "hook /bin/true waits to be run: the process for commands was not running for 13 s",
        ]
        outbound_hub.reconfigure(config(tmp_path, TEXT.partition("[hooks]")[0]), tasks)
        await anyio.sleep(60)
        assert troubles[0] in outbound_hub.troubles()
        assert not any(trouble.startswith("notify") for trouble in outbound_hub.troubles())
        await outbound_hub.finish()
        group.cancel_scope.cancel()


class Replayed(Record):
    """A journal that was empty at the start, and keeps what it is given."""

    head = ChainHead(7, "0f" * 32)

    contents = SimpleNamespace(entries=())

    def __init__(self) -> None:
        self.records: list[str] = []

    def append(self, kind: str, data: object, at: object) -> None:
        self.records.append(kind)

    def flush(self) -> bool:
        return True


@pytest.mark.anyio
async def test_a_trip_in_the_very_moment_of_the_stop_has_its_hooks_run_first(tmp_path: Path) -> None:
    floor, desk = Floor(("mm1",)), Desk()
    text = TEXT.partition("[notify]")[0]
    outbound_hub = OutboundHub(
        config(tmp_path, text),
        parts(floor, cast(Journal, Replayed())),
        lambda news: None,
    )
    outbound_hub._hooks._job_runner = desk
    floor.announce = outbound_hub.on_announcement
    async with anyio.create_task_group() as group:
        group.start_soon(outbound_hub._hooks.run)
        await anyio.sleep(1)
        floor.fire()
        await outbound_hub.finish()
        group.cancel_scope.cancel()
    assert [run.errand["argv"] for run in desk.of("run")] == [("/bin/true",)]
    assert outbound_hub._hooks.idle


@pytest.mark.anyio
async def test_metrics_that_cannot_be_served_are_announced_once_and_shown(tmp_path: Path) -> None:
    announced: list[Announce] = []
    hub = OutboundHub(config(tmp_path), parts(Floor(("mm1",)), cast(Journal, Record())), announced.append)
    exposure = hub._workers.messages._exposure
    assert exposure is not None
    for trouble in ("", "127.0.0.1:9464: in use", "127.0.0.1:9464: in use", "", ""):
        exposure.on_trouble(trouble)
        assert list(hub.troubles()) == ([f"metrics: {trouble}"] if trouble else [])
    assert [(news.level, news.text) for news in announced] == [
        (Severity.WARN, "metrics: 127.0.0.1:9464: in use"),
        (Severity.INFO, "metrics: served as before"),
    ]
