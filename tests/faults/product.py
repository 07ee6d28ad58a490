"""Wire the product's own parts for the two accounts of a cell, as a direct kill does."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from kill_switch import clock, config, journal, recovery, wiring
from kill_switch.dispatch import Dispatcher
from kill_switch.domain import Pace, Phase, Reason
from kill_switch.engine import Announce
from kill_switch.report import Reports

from .world import HOST


class Product:
    """The product's parts, wired for two accounts."""

    def __init__(self, directory: Path, entries: dict[str, Any], venues: dict[str, str]) -> None:
        self.config = config.load(_write_config(directory, entries, venues))
        adapters = {name: a.adapter(self.config.daemon.hedge_after_s) for name, a in self.config.accounts.items()}
        paces = {name: hurried(adapter.PACE) for name, adapter in adapters.items()}
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


def hurried(pace: Pace) -> Pace:
    """Wait less than in earnest (10 s, 2 s, up to 4 s, and 5 s): the matrix would take twice the time."""
    return replace(pace, residue_after_s=3.0, guard_every_s=1.0, read_within_s=2.0, gap_cap_s=2.0)


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
