"""The outer ping: calls to a monitor on another host, while the daemon is ready to fire; see `health.readiness`.

A tripped daemon still calls, because it guards and can strike again. The monitor's patience should be a few times
`every`, because a lane that reconnects delays a call. The worker process makes the calls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import anyio

from kill_switch import __version__
from kill_switch.config.schema import PingConfig
from kill_switch.core.domain import Instant
from kill_switch.dispatch.repeat_filter import RepeatFilter
from kill_switch.worker.client import JobRunner

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0  # seconds until readiness is checked again
RETRY_S = 10.0  # seconds after a failed call
CALL_WITHIN_S = 15.0  # seconds


class HealthcheckPing:
    """The calls of the monitor; `why_not` returns why the daemon could not fire, or ""."""

    def __init__(
        self,
        jobs: JobRunner,
        why_not: Callable[[], str],
        clock: Callable[[], Instant],
        head: Callable[[], str] = lambda: "",
    ) -> None:
        """`head` returns the journal's newest record, which the monitor gets in each call's User-Agent."""
        self.sent = self.failures = 0
        self._jobs = jobs
        self._why_not = why_not
        self._clock = clock
        self._head = head
        self._trouble = ""
        self._repeats = RepeatFilter()
        self._config = PingConfig()

    def configure(self, config: PingConfig) -> None:
        """Use another address or interval; the caller must restart the task."""
        self._config = config
        self._trouble = ""

    async def run(self) -> None:
        """Call for ever; without an address, sleep."""
        url = self._config.url
        if url is None:
            await anyio.sleep_forever()
            return
        while True:
            began_ns = self._clock().mono_ns
            wait_s = await self._ping(url.get_secret_value())
            spent_s = (self._clock().mono_ns - began_ns) / 1e9
            await anyio.sleep(max(0.0, wait_s - spent_s))

    def troubles(self) -> Iterator[str]:
        if self._trouble:
            yield f"ping: {self._trouble}"

    async def _ping(self, url: str) -> float:
        """Call the monitor if the daemon could fire; return the seconds until the next look."""
        if why := self._why_not():
            self._set_trouble(f"withheld: {why}")
            return LOOK_AGAIN_S
        result = await self._jobs.run_job("call", CALL_WITHIN_S, url=url, agent=self._agent())
        if result.ok:
            self.sent += 1
            self._set_trouble("")
            return self._config.every_s
        self.failures += 1
        self._set_trouble(result.why)
        return min(RETRY_S, self._config.every_s)

    def _agent(self) -> str:
        seq, _, digest = self._head().partition(" ")
        return f"kill-switch/{__version__}" + (f" (record {seq}; {digest})" if digest else "")

    def _set_trouble(self, trouble: str) -> None:
        self._trouble = trouble
        if not trouble:
            if self._repeats.resolve():
                log.info("ping: sent again")
        elif line := self._repeats.next_line(trouble, self._clock().mono_ns):
            log.warning("ping: %s", line)
