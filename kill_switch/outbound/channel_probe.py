"""Send one test message over every configured channel; the command `notify --test` uses this, without a daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import anyio

from kill_switch import clock
from kill_switch.config.schema import NotifyConfig
from kill_switch.core.domain import Severity
from kill_switch.outbound.digest import Message
from kill_switch.outbound.targets import CommandTarget, UrlTarget, host_name
from kill_switch.worker.client import JobResult, JobRunner, WorkerPool


class ChannelResult(NamedTuple):
    """The outcome of a channel's test; it shows no secret."""

    channel: str  # the key of the configuration: "urls[0]", "command"
    to: str
    ok: bool
    why: str
    ms: int  # from the start of the test on, the start of the worker process included

    def line(self) -> str:
        """Return the result as a line for people."""
        outcome = f"accepted after {self.ms} ms" if self.ok else f"FAILED: {self.why}"
        return f"{self.channel} {self.to}: {outcome}"


async def run(config: NotifyConfig, user: str, on_result: Callable[[ChannelResult], object]) -> list[ChannelResult]:
    """Test every channel at the same time, with worker processes of its own; return the results in their order.

    `on_result` gets each result as soon as it is known. A channel that hangs delays no other one.
    """
    workers = WorkerPool()
    async with anyio.create_task_group() as group:
        for worker in workers.clients():
            group.start_soon(worker.run)
        results = await probe_channels(config, workers, _message(user), on_result)
        group.cancel_scope.cancel()
    return results


async def probe_channels(
    config: NotifyConfig, jobs: JobRunner, message: Message, on_result: Callable[[ChannelResult], object]
) -> list[ChannelResult]:
    """Send a message over every channel; see `run`."""
    targets: list[tuple[str, UrlTarget | CommandTarget]] = [
        (f"urls[{number}]", UrlTarget(jobs, url.get_secret_value())) for number, url in enumerate(config.urls)
    ]
    if config.command:
        targets.append(("command", CommandTarget(jobs, config.command)))
    results: dict[str, ChannelResult] = {}
    began_s = time.monotonic()

    async def probe(channel: str, target: UrlTarget | CommandTarget) -> None:
        done: JobResult = await target.send(message)
        ms = round((time.monotonic() - began_s) * 1e3)
        results[channel] = result = ChannelResult(channel, target.name, done.ok, "" if done.ok else done.why, ms)
        on_result(result)

    async with anyio.create_task_group() as group:
        for channel, target in targets:
            group.start_soon(probe, channel, target)
    return [results[channel] for channel, _ in targets]


def _message(user: str) -> Message:
    host, now = host_name(), clock.now()
    subject = f"kill-switch {host}: TEST: {user} tests the channels of messages"
    text = (
        f"TEST: {user} tests the channels of messages: nothing has happened\n"
        "  do: nothing\n\n"
        f"more: kill-switch status\n{host}, {clock.iso(now.wall_ns)}"
    )
    id = f"{now.wall_ms:x}-test"
    return Message(Severity.TEST, subject, f"{text}\nmessage: {id}", "", id, host)


def in_json(results: Sequence[ChannelResult]) -> dict[str, object]:
    """Return what `notify --test --json` prints."""
    return {"ok": all(result.ok for result in results), "channels": [result._asdict() for result in results]}
