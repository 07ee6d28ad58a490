"""Measure the kill on this machine, beside the least that sockets can do and what people would write instead.

All rows of a run talk to the same simulator process, over TLS on loopback, half of the accounts at each venue. The row
`kill-switch` is the product: engine, journal on disk, adapters, warm lanes, answers parsed. The row `limit` writes
bytes that were made beforehand to open connections and counts answers without reading them. `httpx` is `gather` over
one warm client an account. `received` is stamped by the simulator when the last byte of the last account's command has
arrived, `answered` here, when the last account's answer has; both count from the moment of the reason. Only ratios
within one run mean anything.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import httpx
import uvloop
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

from kill_switch import clock, config, recovery, wiring
from kill_switch.dispatch import Dispatcher
from kill_switch.domain import Reason
from kill_switch.engine import Event, Progress, RearmAsked
from kill_switch.errors import KillSwitchError
from kill_switch.journal import Journal
from kill_switch.stage import Stage
from kill_switch.sweep import Answered
from kill_switch.transports.lane import Address, tls_context
from kill_switch.venues.base import Adapter, Call, Request

READY_WITHIN_S = 60.0
ROUND_WITHIN_S = 15.0


_KEEP = httpx.Limits(keepalive_expiry=None)


class Round(NamedTuple):
    """One kill: microseconds from the reason."""

    received_us: float
    answered_us: float


Strike = Callable[[], Awaitable[tuple[int, int]]]  # fires once; returns (reason, last answer) in monotonic ns


def run(sizes: Iterable[int], rounds: int, *, as_json: bool) -> int:
    """Measure each size, print a row a system and size, and return 0."""
    rows: list[dict[str, object]] = []
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=as_json) as progress:
        for size in sizes:
            task = progress.add_task(f"{size} account(s)", total=rounds)
            measured = _measure(size, rounds, lambda task=task: progress.advance(task))  # type: ignore[misc]
            for system, results in measured.items():
                received = _percentiles([r.received_us for r in results])
                answered = _percentiles([r.answered_us for r in results])
                rows.append({"system": system, "accounts": size, "received_us": received, "answered_us": answered})
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    if as_json:
        sys.stdout.write(json.dumps({"machine": machine, "rows": rows}) + "\n")
    else:
        Console().print(_table(rows))
    return 0


def _measure(size: int, rounds: int, advance: Callable[[], None]) -> dict[str, list[Round]]:
    venues = ["oxfun", "roxom"] if size > 1 else ["roxom"]
    with Stage(venues, accounts=max(1, size // len(venues)), options=["oxfun.limits=off"][: size - 1]) as stage:
        _pin(0)
        stage.write_config()
        return uvloop.run(_all(stage, rounds, advance))


def _pin(core: int) -> None:
    """Keep this process off the simulators' core, where there is more than one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core]})


async def _all(stage: Stage, rounds: int, advance: Callable[[], None]) -> dict[str, list[Round]]:
    loaded = config.load(stage.config)
    bench = _Bench(stage, loaded)
    async with asyncio.TaskGroup() as group:
        systems: dict[str, Strike] = {
            "limit": await bench.limit(),
            "kill-switch": await bench.product(group),
            "httpx": await bench.httpx(),
        }
        results: dict[str, list[Round]] = {name: [] for name in systems}
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            for number in range(rounds + 3):
                for name, strike in systems.items():
                    result = await bench.round(strike)
                    if number >= 3:  # the first ones warm caches on both sides
                        results[name].append(result)
                gc.collect()
                if number >= 3:
                    advance()
        finally:
            gc.enable()
        await bench.close()
    return results


class _Bench:
    """The accounts of one run, and the systems that strike them."""

    def __init__(self, stage: Stage, loaded: config.Config) -> None:
        self._stage = stage
        self._config = loaded
        self._admin = httpx.AsyncClient(base_url=stage.ready["admin"], trust_env=False, timeout=30.0)
        self._tls = tls_context(stage.ready["ca_file"])
        self._closing: list[Callable[[], Awaitable[None]]] = [self._admin.aclose]

    async def close(self) -> None:
        for close in reversed(self._closing):
            await close()

    async def round(self, strike: Strike) -> Round:
        """Fire once; stamp what the simulator saw."""
        await self._admin.delete("/requests")
        await asyncio.sleep(0.02)
        async with asyncio.timeout(ROUND_WITHIN_S):
            began_ns, answered_ns = await strike()
        requests = (await self._admin.get("/requests")).json()
        received = [request["t_ns"] for request in requests if request["what"].startswith("cancel")]
        if len(received) < len(self._config.accounts):
            raise KillSwitchError(f"only {len(received)} of {len(self._config.accounts)} cancels arrived")
        return Round((max(received) - began_ns) / 1000, (answered_ns - began_ns) / 1000)

    def _adapters(self) -> dict[str, Adapter]:
        hedge_s = ROUND_WITHIN_S  # no hedges: they would be measured as commands
        return {name: account.adapter(hedge_s) for name, account in self._config.accounts.items()}

    async def limit(self) -> Strike:
        """Raw protocols on open connections, bytes made beforehand, answers counted and not read."""
        loop = asyncio.get_running_loop()
        adapters = self._adapters()
        answers = _Answers()
        wires: list[_Raw] = []
        for account in self._config.accounts.values():
            address = Address.of(account.options.rest_url)
            _, raw = await loop.create_connection(
                lambda: _Raw(answers), address.host, address.port, ssl=self._tls, server_hostname=address.host
            )
            wires.append(raw)

        async def strike() -> tuple[int, int]:
            made = [_cancel_all(adapter).wire for adapter in adapters.values()]
            done = answers.expect(len(wires))
            began_ns = time.monotonic_ns()
            for raw, wire in zip(wires, made, strict=True):
                raw.transport.write(wire)
            return began_ns, await done

        return strike

    async def httpx(self) -> Strike:
        """What most people write: one warm client an account, `gather`, answers checked."""
        adapters = self._adapters()
        clients = [
            httpx.AsyncClient(base_url=account.options.rest_url, verify=self._tls, trust_env=False, limits=_KEEP)
            for account in self._config.accounts.values()
        ]
        self._closing += [client.aclose for client in clients]

        async def one(client: httpx.AsyncClient, adapter: Adapter) -> None:
            request = _cancel_all(adapter)
            answer = await client.request(
                request.method, request.target, headers=dict(request.headers), content=request.body
            )
            answer.raise_for_status().json()

        async def strike() -> tuple[int, int]:
            began_ns = time.monotonic_ns()
            await asyncio.gather(*(one(c, a) for c, a in zip(clients, adapters.values(), strict=True)))
            return began_ns, time.monotonic_ns()

        return strike

    async def product(self, group: asyncio.TaskGroup) -> Strike:
        """The product, in this process: a reason in, every account's answer out."""
        adapters = self._adapters()
        state = recovery.rebuild((), {name: adapter.PACE for name, adapter in adapters.items()})
        self._stage.state_dir.mkdir(exist_ok=True)
        journal = Journal(self._stage.state_dir, self._stage.runtime_dir)
        loop = asyncio.get_running_loop()
        dispatcher = Dispatcher(state, journal, clock.now, loop.call_later, lambda said: None)
        tasks = []

        def spawn(work: wiring.Work) -> None:
            tasks.append(group.create_task(work()))

        for _, work in wiring.connect(dispatcher, self._config, adapters, spawn):
            tasks.append(group.create_task(work()))
        await _until(lambda: all(session.ready for session in dispatcher.sessions.values()), READY_WITHIN_S)
        names = tuple(self._config.accounts)
        watch = _Watch(dispatcher)

        async def strike() -> tuple[int, int]:
            done = watch.expect(names)
            began = clock.now()
            dispatcher.report(Reason("bench", "measured", names, began))
            answered_ns = await done
            await _until(lambda: not dispatcher.striking, ROUND_WITHIN_S)
            dispatcher.rearm(RearmAsked(0, "bench", "next round", names, False, (), clock.now()))
            return began.mono_ns, answered_ns

        async def close() -> None:
            for task in tasks:
                task.cancel()
            journal.close()

        self._closing.append(close)
        return strike


class _Answers:
    """Count answers, and say when the last one came."""

    def __init__(self) -> None:
        self._missing = 0
        self._done: asyncio.Future[int] | None = None

    def expect(self, count: int) -> asyncio.Future[int]:
        self._missing = count
        self._done = asyncio.get_running_loop().create_future()
        return self._done

    def count(self) -> None:
        self._missing -= 1
        if self._missing == 0 and self._done is not None:
            self._done.set_result(time.monotonic_ns())


class _Raw(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._answers.count()


class _Watch:
    """Stand between the sessions and the engine, and say when every account's answer has been taken in."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._handle = dispatcher.handle
        self._missing: set[str] = set()
        self._done: asyncio.Future[int] | None = None
        dispatcher.handle = self._watch  # type: ignore[method-assign]

    def expect(self, names: Iterable[str]) -> asyncio.Future[int]:
        self._missing = set(names)
        self._done = asyncio.get_running_loop().create_future()
        return self._done

    def _watch(self, event: Event) -> None:
        self._handle(event)
        if isinstance(event, Progress) and isinstance(event.event, Answered) and self._missing:
            self._missing.discard(event.account)
            if not self._missing and self._done is not None:
                self._done.set_result(time.monotonic_ns())


def _cancel_all(adapter: Adapter) -> Request:
    """Return the account-wide command of an adapter's strike."""
    calls = [output for output in adapter.kill(clock.now()) if isinstance(output, Call)]
    return calls[0].request


async def _until(true: Callable[[], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - nothing that could be waited for says so
            await asyncio.sleep(0.005)


def _percentiles(figures: list[float]) -> dict[str, float]:
    ordered = sorted(figures)
    last = len(ordered) - 1
    p90, p99 = (ordered[min(last, int(share * len(ordered)))] for share in (0.9, 0.99))
    return {"p50": round(statistics.median(ordered), 1), "p90": round(p90, 1), "p99": round(p99, 1)}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("accounts", "system", "received p50", "× limit", "answered p50", "× limit", "p99"):
        table.add_column(column, justify="left" if column == "system" else "right")
    limits: Mapping[int, Any] = {row["accounts"]: row for row in rows if row["system"] == "limit"}
    for row in rows:
        limit = limits[row["accounts"]]
        received, answered = row["received_us"], row["answered_us"]
        table.add_row(
            str(row["accounts"]),
            row["system"],
            f"{received['p50']:,.0f} µs",
            f"{received['p50'] / limit['received_us']['p50']:.2f}",
            f"{answered['p50']:,.0f} µs",
            f"{answered['p50'] / limit['answered_us']['p50']:.2f}",
            f"{answered['p99']:,.0f} µs",
        )
    return table
