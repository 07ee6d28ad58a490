"""Simulators in a thread of their own, for clients that block."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from kill_switch.sim import serve
from kill_switch.sim.main import Entry, Options, Ready


class Stage:
    """Serve venues until the process ends."""

    ready: Ready

    def __init__(self, *venues: str, options: Options) -> None:
        self._venues = venues
        self._options = options
        self._serves = threading.Event()

    def start(self) -> None:
        """Start to serve, and return once every venue listens."""
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        assert self._serves.wait(10)

    async def _serve(self) -> None:
        async with serve(self._venues, options=self._options) as self.ready:
            self._serves.set()
            await asyncio.Event().wait()

    def venue(self, name: str) -> Entry:
        return self.ready["venues"][name]

    def rest(self, venue: str, count: int = 1, **more: object) -> list[str]:
        """Rest orders; return their ids."""
        ids: list[str] = self._admin("POST", "/orders", {"venue": venue, "count": count, **more})["ids"]
        return ids

    def open(self, venue: str) -> int:
        """Return how many orders rest."""
        count: int = self._admin("GET", f"/orders?venue={venue}")["open"]
        return count

    def _admin(self, method: str, path: str, body: object = None) -> Any:
        answer = httpx.request(method, self.ready["admin"] + path, json=body, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()


def until(is_reached: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 5
    while not is_reached():
        assert time.monotonic() < end_s
        time.sleep(0.01)
