"""Call a monitor elsewhere, again and again, for as long as the daemon could fire: it raises the alarm at our silence.

"Could fire" means that a reason now would become a kill: the engine turns, its record is written, no trigger is blind,
and the accounts are ready (all of them, or one at least, just as `[daemon] ready` says). A daemon that is tripped still
calls: it guards, and could strike again. The monitor's patience should be a few times `every`: a lane that is made anew
takes a moment, and the call that was due is made as soon as it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

import anyio

from kill_switch import __version__
from kill_switch.config.schema import Ping as Table
from kill_switch.core.domain import Now
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.repeats import Repeats
from kill_switch.journal.journal import Journal
from kill_switch.triggers.supervisor import Watch
from kill_switch.worker.client import Errands

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
RETRY_S = 10.0
CALL_WITHIN_S = 15.0
PULSE_S = 5.0  # an engine that has not answered for so long does not turn


def unable(dispatcher: Dispatcher, journal: Journal, watch: Watch, ready: str, now: Now) -> str:
    """Say why a reason now would not become a kill, "" if it would; `ready` is `[daemon] ready`."""
    waiting = [name for name, session in dispatcher.sessions.items() if not session.status.is_ready]
    if waiting and (ready == "all" or len(waiting) == len(dispatcher.sessions)):
        return f"not ready: {', '.join(_unready(name, dispatcher) for name in waiting)}"
    if now.mono_ns - dispatcher.alive_ns > PULSE_S * 1e9:
        return "the engine does not answer"
    if journal.trouble or journal.displaced():
        return "the journal is not written"
    if blind := watch.blind():
        return f"{blind} trigger(s) are blind"
    return ""


def _unready(name: str, dispatcher: Dispatcher) -> str:
    """Name an account that is not ready, with what is wrong with its lanes."""
    troubles = dispatcher.sessions[name].status.troubles()
    why = "; ".join(f"{route}: {trouble}" for route, trouble in troubles.items())
    return f"{name} ({why})" if why else name


class Ping:
    """Make the calls; `why_not` says why the daemon could not fire, if so."""

    def __init__(
        self,
        errands: Errands,
        why_not: Callable[[], str],
        clock: Callable[[], Now],
        head: Callable[[], str] = lambda: "",
    ) -> None:
        """`head` returns the journal's newest record: the monitor sees it in each call's User-Agent."""
        self.sent = self.failures = 0
        self._errands = errands
        self._why_not = why_not
        self._clock = clock
        self._head = head
        self._trouble = ""
        self._repeats = Repeats()
        self._table = Table()

    def configure(self, table: Table) -> None:
        """Take another address or pace; the task is to be begun anew."""
        self._table = table
        self._trouble = ""

    async def run(self) -> None:
        """Call for ever; sleep where there is nobody to call."""
        url = self._table.url
        if url is None:
            await anyio.sleep_forever()
            return
        while True:
            began_ns = self._clock().mono_ns
            wait_s = await self._once(url.get_secret_value())
            spent_s = (self._clock().mono_ns - began_ns) / 1e9
            await anyio.sleep(max(0.0, wait_s - spent_s))

    def troubles(self) -> Iterator[str]:
        if self._trouble:
            yield f"ping: {self._trouble}"

    def counts(self) -> Mapping[str, int]:
        return {"pings_sent_total": self.sent, "ping_failures_total": self.failures}

    async def _once(self, url: str) -> float:
        """Call, if that would be true; return after how long to look again."""
        if why := self._why_not():
            self._tell(f"withheld: {why}")
            return LOOK_AGAIN_S
        done = await self._errands.do("call", CALL_WITHIN_S, url=url, agent=self._agent())
        if done.ok:
            self.sent += 1
            self._tell("")
            return self._table.every_s
        self.failures += 1
        self._tell(done.why)
        return min(RETRY_S, self._table.every_s)

    def _agent(self) -> str:
        seq, _, digest = self._head().partition(" ")
        return f"kill-switch/{__version__}" + (f" (record {seq}; {digest})" if digest else "")

    def _tell(self, trouble: str) -> None:
        self._trouble = trouble
        if not trouble:
            if self._repeats.over():
                log.info("ping: sent again")
        elif line := self._repeats.line(trouble, self._clock().mono_ns):
            log.warning("ping: %s", line)
