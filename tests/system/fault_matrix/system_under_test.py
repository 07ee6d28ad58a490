"""Wire the product's own parts for the two accounts of a cell, as a direct kill does."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from kill_switch import clock
from kill_switch.config import loader
from kill_switch.core import recovery
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Phase, Reason, Severity, SweepTiming
from kill_switch.dispatch import connect as wiring
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.journal import journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.transports.network import Network

from .venue_process import HOST

DEAD = "127.0.0.77"  # an address of this host where no venue listens
SLOW_S = 5.0  # what a resolver takes whose first server is gone


class Product:
    """The product's parts, wired for two accounts."""

    def __init__(self, directory: Path, entries: dict[str, Any], venues: dict[str, str]) -> None:
        self.names = NameServer(int(entries["victim"]["port"]))
        self._ca_file = directory / "victim.pem"
        self._other_ca_file = entries["victim"]["other_ca_file"]
        shutil.copy(entries["victim"]["ca_file"], self._ca_file)
        entries = {**entries, "victim": {**entries["victim"], "ca_file": str(self._ca_file)}}
        self.config = loader.load(_write_config(directory, entries, venues))
        adapters = wiring.build_adapters(self.config)
        paces = {name: hurried(adapter.TIMING) for name, adapter in adapters.items()}
        self.pace: SweepTiming = paces["victim"]
        pools = [count.pool for count in adapters["victim"].budget.counts.values()]
        self.window_s = max((pool.window_s for pool in pools), default=0.0)  # of the victim's limits
        self.reports = ReportBuilder(int(self.config.daemon.budget_s * 1e6))
        self.journal = journal.Journal(self.config.daemon.state_dir, self.config.daemon.runtime_dir)
        self.journal.deliver_to(self.reports.take)
        self.said: list[Announce] = []
        self.on_clear: Callable[[str], None] = lambda account: None
        state = recovery.rebuild((), paces)
        loop = asyncio.get_running_loop()
        self.dispatcher = Dispatcher(state, self.journal, clock.now, loop.call_later, self._announce)
        self._adapters = adapters

    def connect(self, group: anyio.abc.TaskGroup) -> None:
        network = Network(self.names)
        for _, work in wiring.connect_accounts(self.dispatcher, self.config, self._adapters, group.start_soon, network):
            group.start_soon(self._keep, work)

    def change_authorities(self) -> None:
        """Have the victim's file name another authority, as an update of the system's would."""
        new = self._ca_file.with_suffix(".new")
        shutil.copy(self._other_ca_file, new)
        new.rename(self._ca_file)

    def fire(self) -> None:
        self.dispatcher.fire(Reason("test", "the matrix", ("victim", "other"), clock.now()))

    def phase(self, name: str) -> Phase:
        return self.dispatcher.state.accounts[name].phase

    def report(self, name: str) -> dict[str, Any]:
        self.journal.flush()
        whole: Any = self.reports.render("last")
        account: dict[str, Any] = whole["accounts"][name]
        return account

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception as error:
                self.said.append(Announce(Severity.WARN, f"a lane raised {error!r}"))
            await anyio.sleep(0.5)

    def _announce(self, news: Announce) -> None:
        self.said.append(news)
        if news.level is Severity.CLEAR and news.account is not None:
            self.on_clear(news.account)


class NameServer:
    """Answer for one name as the system's resolver would, in whatever thread asks; it can fail in all its ways."""

    def __init__(self, port: int) -> None:
        self.trouble = ""
        self._port = port
        self._over = threading.Event()
        self._dead: list[socket.socket] = []

    def __call__(self, host: str) -> list[tuple[Any, ...]]:
        if host != HOST:
            return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        match self.trouble:
            case "fail":
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            case "hang":
                self._over.wait()
            case "slow":
                self._over.wait(SLOW_S)
            case "nothing":
                return []
            case "lie":
                return _answer(DEAD)
            case "refuses" | "drops" | "says nothing":
                return _answer(DEAD, "127.0.0.1")
        return _answer("127.0.0.1")

    def begin(self, trouble: str) -> None:
        """Fail in this way; "": not at all."""
        self.trouble = trouble
        if trouble in ("drops", "says nothing"):
            self._dead = [socket.socket()]
            self._dead[0].bind((DEAD, self._port))
            self._dead[0].listen(0 if trouble == "drops" else 128)
            for _ in range(3 if trouble == "drops" else 0):  # two fill the queue; further SYNs are dropped
                self._dead.append(socket.socket())
                self._dead[-1].setblocking(False)
                self._dead[-1].connect_ex((DEAD, self._port))

    def close(self) -> None:
        """Let go of every thread and socket."""
        self.trouble = ""
        self._over.set()
        for sock in self._dead:
            sock.close()


def _answer(*addresses: str) -> list[tuple[Any, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


def hurried(pace: SweepTiming) -> SweepTiming:
    """Wait less than in earnest (10 s, 2 s, up to 4 s, and 5 s): the matrix would take twice the time.

    A bot's orders beside a strike need another one, and reads behind it: the gaps between these are the venue's own
    (its rate limit), and stay as they are, and so does the lag of its lists. So RESIDUE comes 2 s later than they alone
    would have it.
    """
    gaps_s = pace.strike_gap_s + pace.clean_reads * pace.read_gap_s + pace.list_lag_s
    return replace(pace, residue_after_s=2.0 + gaps_s, guard_every_s=1.0, read_within_s=2.0, gap_cap_s=2.0)


def _write_config(directory: Path, entries: dict[str, Any], venues: dict[str, str]) -> Path:
    lines = ["[daemon]", f'state_dir = "{directory}/state"', f'runtime_dir = "{directory}/run"']
    for name, entry in entries.items():
        lines += [f"[accounts.{name}]", f'venue = "{venues[name]}"']
        for key in (*(name for name in entry if name.endswith("_url")), "ca_file"):
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
