"""Play one cell: two accounts, one behind the fault and one healthy; a kill; and what became of both.

The product's own parts run here as a direct kill wires them (adapters, lanes, dispatcher, engine, journal), against
real sockets and TLS. What a cell may come to:

    cleared   the venue's own book is empty, and the verdict is CONFIRMED
    honest    not so within the deadline, and said: RESIDUE aloud, and a verdict that claims nothing. The fault is then
              ended, and the account must be cleared soon: the chase has not been given up
    FAIL      anything else: a claim that the book belies, silence, the other account kept waiting, a broken journal
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from kill_switch import clock, config, journal, recovery, wiring
from kill_switch.dispatch import Dispatcher
from kill_switch.domain import Pace, Phase, Reason, Verdict
from kill_switch.engine import Announce
from kill_switch.report import Reports
from kill_switch.transports.lane import LaneState

from .catalog import FAULTS, Fault
from .gauge import Gauge
from .world import HOST

ORDERS = 5
READY_WITHIN_S = 10.0
CLEAR_WITHIN_S = 5.0  # without a fault
OTHER_WITHIN_S = 3.0  # the healthy account, from the reason to its proof: 0.4 to 1 s if nothing else runs
OTHER_FLOODED_WITHIN_S = 8.0  # while the other venue floods us: its strike goes out at once, its reads take turns
SPOKEN_WITHIN_S = 4.0  # beyond the deadline of RESIDUE
HEALED_WITHIN_S = 25.0  # lanes wait up to 10 s before they come back, strikes up to 5
SETTLE_S = 0.2
BOTS = ("requote", "late_order")  # faults that place orders of their own after a clean read


@dataclass(slots=True)
class Outcome:
    """What a cell came to."""

    fault: str
    venue: str
    moment: str
    text: str
    ok: bool
    took_s: float
    said: list[str] = field(default_factory=list)  # what the product has announced, for a failure's sake
    stall_s: float = 0.0
    growth_mib: float = 0.0
    other_s: float = 0.0  # what the healthy account took
    late: bool = False  # it has failed by the clock alone


@dataclass(slots=True)
class Took:
    """How long the healthy account was on its way to its proof."""

    other_s: float | None = None


class Failed(Exception):
    """The cell did not hold what is promised."""


class Late(Failed):
    """It did not hold it in time, on this machine at that moment."""


class Link:
    """Command the venues of this cell."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()

    async def do(self, what: str, **more: object) -> Any:
        async with self._turn:
            self._writer.write(json.dumps({"do": what, **more}).encode() + b"\n")
            answer = json.loads(await self._reader.readline())
        if isinstance(answer, dict) and "error" in answer:
            raise Failed(f"{what}: {answer['error']}")
        return answer

    async def book(self) -> int:
        count: int = (await self.do("books"))["victim"]
        return count

    def close(self) -> None:
        self._writer.close()


class Resolver(asyncio.SelectorEventLoop):
    """An event loop whose name server knows one name, and can fail by port."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: dict[int, str] = {}

    async def getaddrinfo(self, host: Any, port: Any, **more: Any) -> Any:
        if host not in (HOST, HOST.encode()):
            return await super().getaddrinfo(host, port, **more)
        match self.trouble.get(int(port)):
            case "fail":
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            case "hang":
                await asyncio.Event().wait()
        return await super().getaddrinfo("127.0.0.1", port, **more)


class Product:
    """The product's parts, wired for two accounts."""

    def __init__(
        self, directory: Path, entries: dict[str, Any], venues: dict[str, str], residue_after_s: float
    ) -> None:
        self.config = config.load(_write_config(directory, entries, venues))
        adapters = {name: a.adapter(self.config.daemon.hedge_after_s) for name, a in self.config.accounts.items()}
        paces = {name: replace(adapter.PACE, residue_after_s=residue_after_s) for name, adapter in adapters.items()}
        self.pace: Pace = paces["victim"]
        self.reports = Reports(int(self.config.daemon.budget_s * 1e6))
        self.journal = journal.Journal(self.config.daemon.state_dir, self.config.daemon.runtime_dir)
        self.journal.on_entry = self.reports.take
        self.said: list[Announce] = []
        self.on_clear: Callable[[str], None] = lambda account: None
        state = recovery.rebuild((), paces)
        loop = asyncio.get_running_loop()
        self.dispatcher = Dispatcher(state, self.journal, clock.now, loop.call_later, self._announce)
        self._adapters = adapters

    def connect(self, group: anyio.abc.TaskGroup) -> None:
        for _, work in wiring.connect(self.dispatcher, self.config, self._adapters, group.start_soon):
            group.start_soon(self._keep, work)

    def fire(self) -> None:
        self.dispatcher.report(Reason("test", "the matrix", ("victim", "other"), clock.now()))

    def phase(self, name: str) -> Phase:
        return self.dispatcher.state.accounts[name].phase

    def report(self, name: str) -> dict[str, Any]:
        self.journal.flush()
        whole: Any = self.reports.get("last")
        account: dict[str, Any] = whole["accounts"][name]
        return account

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception as error:
                self.said.append(Announce("bug", f"a lane raised {error!r}"))
            await anyio.sleep(0.5)

    def _announce(self, news: Announce) -> None:
        self.said.append(news)
        if news.level == "clear" and news.account is not None:
            self.on_clear(news.account)


async def play(fault: str, venue: str, moment: str, world: str, residue_after_s: float, gauge: Gauge) -> Outcome:
    """Play a cell and say what it came to; nothing is raised."""
    began_s = time.monotonic()
    said: list[Announce] = []
    took, late = Took(), False
    try:
        async with asyncio.timeout(120):
            text = await _play(FAULTS[fault], venue, moment, world, residue_after_s, said, gauge, took)
        ok = True
    except Exception as error:
        first = _first(error)
        text, ok, late = f"FAIL {first}", False, isinstance(first, Late)
    lines = [f"{news.level}: {news.account or ''} {news.text}" for news in said]
    return Outcome(
        fault, venue, moment, text, ok, time.monotonic() - began_s, lines, other_s=took.other_s or 0.0, late=late
    )


def _first(error: BaseException) -> Failed:
    """Return what went wrong first, whatever it is wrapped in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Failed) else Failed(repr(error))


async def _play(
    fault: Fault,
    venue: str,
    moment: str,
    world: str,
    residue_after_s: float,
    said: list[Announce],
    gauge: Gauge,
    took: Took,
) -> str:
    link = Link(*await asyncio.open_unix_connection(world))
    venues = {"victim": venue, "other": "roxom" if venue == "oxfun" else "oxfun"}
    host = HOST if fault.names else "127.0.0.1"
    with tempfile.TemporaryDirectory(prefix="kill-switch-cell-") as scratch:
        proxied = fault.mode is not None
        entries = await link.do("open", **venues, host=host, proxy=proxied, options=dict(fault.options or {}))
        with gauge.aside():
            product = Product(Path(scratch), entries, venues, residue_after_s)
        product.said = said
        try:
            async with anyio.create_task_group() as group:
                with gauge.aside():
                    product.connect(group)
                text = await _Script(fault, moment, link, product, int(entries["victim"]["port"]), took).run()
                group.cancel_scope.cancel()
        finally:
            link.close()
            with gauge.aside():
                product.journal.close()
        replay = journal.read(product.journal.path)
        if replay.broken or replay.torn:
            raise Failed(f"the journal does not verify: {replay.broken}")
        if bugs := [news.text for news in said if news.level == "bug"]:
            raise Failed(bugs[0])
    return text


class _Script:
    """What happens in a cell, in order."""

    def __init__(self, fault: Fault, moment: str, link: Link, product: Product, port: int, took: Took) -> None:
        self._took = took
        self._fault, self._moment, self._link, self._product, self._port = fault, moment, link, product, port
        self._lies: list[str] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._fired_s = self._on_s = 0.0
        self._said_before = 0

    async def run(self) -> str:
        link, product = self._link, self._product
        await self._until(self._ready, READY_WITHIN_S, "the lanes never came up")
        for who in ("victim", "other"):
            await link.do("rest", who=who, count=ORDERS)
        product.on_clear = self._cleared
        if self._moment == "before":
            await self._on()
            await asyncio.sleep(SETTLE_S)
        self._fired_s = time.monotonic()
        product.fire()
        if self._moment == "during":
            await self._on()
            await link.do("rest", who="victim", count=3)  # a bot that quotes on
        elif self._moment == "after":
            await self._until(
                lambda: product.phase("victim") is Phase.CLEAR, CLEAR_WITHIN_S, "not clear without a fault"
            )
            await self._on()
            await link.do("rest", who="victim", count=3)
        try:
            return await self._judge()
        finally:
            self._names("")

    async def _on(self) -> None:
        self._names(self._fault.names)
        await self._link.do("on", fault=self._fault.name)
        self._on_s = time.monotonic()
        self._said_before = len(self._product.said) if self._moment == "after" else 0

    def _names(self, trouble: str) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(loop, Resolver):
            loop.trouble[self._port] = trouble

    async def _judge(self) -> str:
        product = self._product
        since_s = self._on_s if self._moment == "after" else self._fired_s
        spoken_s = product.pace.residue_after_s + SPOKEN_WITHIN_S + (self._blind_s if self._moment == "after" else 0)
        cleared = await self._settled(since_s + spoken_s, until_residue=True)
        bound_s = OTHER_FLOODED_WITHIN_S if self._fault.heavy else OTHER_WITHIN_S
        if self._took.other_s is None or self._took.other_s > bound_s:
            raise Late(f"the healthy account was cleared after {self._took.other_s} s")
        if cleared:
            self._check_verdict()
            return f"cleared {cleared - since_s:.2f} s"
        if product.phase("victim") is Phase.CLEAR:  # it has come to that just now
            cleared = await self._settled(time.monotonic() + self._blind_s + 1.0, until_residue=False)
            if cleared:
                self._check_verdict()
                return f"cleared {cleared - since_s:.2f} s"
        report = product.report("victim")
        if product.phase("victim") is Phase.CLEAR or report["verdict"] == Verdict.CONFIRMED:
            raise Failed(f"claims {report['verdict']} while {await self._link.book()} orders rest")
        if not self._alarmed():
            raise Failed(f"{product.phase('victim')} after {time.monotonic() - since_s:.1f} s, and nothing was said")
        what = f"honest: RESIDUE/{report['verdict']} + alarm {time.monotonic() - since_s:.1f} s"
        self._names("")
        await self._link.do("off")
        healed_s = time.monotonic()
        cleared = await self._settled(healed_s + HEALED_WITHIN_S, until_residue=False)
        if not cleared:
            left = await self._link.book()
            raise Failed(f"{what}; then {product.phase('victim')}, {left} left, {HEALED_WITHIN_S:g} s after the fault")
        self._check_verdict()
        return f"{what}, then cleared {cleared - healed_s:.1f} s"

    @property
    def _blind_s(self) -> float:
        """How long CLEAR may stand while nothing can be read."""
        pace = self._product.pace
        return 2 * pace.guard_every_s + 2 * pace.read_within_s + 1.0  # found when the next read fails, or is too late

    async def _settled(self, until_s: float, *, until_residue: bool) -> float:
        """Return since when the account has been clear with an empty book, or 0 if it is not to be."""
        product, since_s, lying_s = self._product, 0.0, 0.0
        while (now_s := time.monotonic()) < until_s:
            if self._lies:
                raise Failed(self._lies[0])
            waits_s = now_s - self._fired_s < OTHER_FLOODED_WITHIN_S and self._took.other_s is None
            book = await self._link.book()
            clear = product.phase("victim") is Phase.CLEAR
            since_s = (since_s or now_s) if clear and not book else 0.0
            lying_s = (lying_s or now_s) if clear and book else 0.0
            if since_s and now_s - since_s > 0.4 and not waits_s:
                return since_s
            if lying_s and now_s - lying_s > self._blind_s:
                raise Failed(f"CLEAR for {now_s - lying_s:.1f} s while {book} orders rest")
            if until_residue and not since_s and self._alarmed() and not waits_s:
                return 0.0
            await asyncio.sleep(0.1)
        return since_s

    def _alarmed(self) -> bool:
        said = self._product.said[self._said_before :]
        return any(news.level == "residue" and news.account == "victim" for news in said)

    def _check_verdict(self) -> None:
        report = self._product.report("victim")
        if report["verdict"] != Verdict.CONFIRMED or report["left"]:
            raise Failed(f"clear, and reported as {report['verdict']} with {report['left']} left")

    def _cleared(self, account: str) -> None:
        """Compare a claim with the venue's book at once; only a bot may have been quicker."""
        if account == "other":
            self._took.other_s = self._took.other_s or time.monotonic() - self._fired_s
            return

        async def compare() -> None:
            if (book := await self._link.book()) and not any(name in BOTS for name, _ in self._fault.sim):
                self._lies.append(f"said to be proven clear while {book} orders rest")

        if not (self._moment == "after" and not self._on_s):
            task = asyncio.get_running_loop().create_task(compare())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    def _ready(self) -> bool:
        sessions = self._product.dispatcher.sessions.values()
        return all(s.ws.state is LaneState.UP and s.http.state is LaneState.UP for s in sessions)

    async def _until(self, true: Callable[[], bool], within_s: float, otherwise: str) -> None:
        until_s = time.monotonic() + within_s
        while not true():
            if time.monotonic() > until_s:
                raise Late(otherwise)
            await asyncio.sleep(0.02)


def _write_config(directory: Path, entries: dict[str, Any], venues: dict[str, str]) -> Path:
    lines = ["[daemon]", f'state_dir = "{directory}/state"', f'runtime_dir = "{directory}/run"']
    for name, entry in entries.items():
        lines += [f"[accounts.{name}]", f'venue = "{venues[name]}"']
        for key in ("ws_url", "rest_url", "ca_file"):
            lines.append(f"{key} = {json.dumps(entry[key])}")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entry["options"].items()]
        for key, secret in entry["credentials"].items():
            path = directory / f"{name}-{key}"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(secret)
            lines.append(f'{key} = {{ file = "{path}" }}')
    for each in ("state", "run"):
        (directory / each).mkdir()
    path = directory / "config.toml"
    path.write_text("\n".join(lines) + '\n[triggers.never]\nkind = "flag"\n' + f'path = "{directory}/run/KILL"\n')
    return path
