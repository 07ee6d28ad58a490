"""The wait for the first answers of a direct kill: which accounts may still answer, and until when.

`direct_kill` adds accounts as it strikes them. Nothing here sends or reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import anyio

from kill_switch.core.domain import Phase
from kill_switch.direct.direct_journal import DirectJournal
from kill_switch.dispatch.dispatcher import Dispatcher


class AnswerDeadlines:
    """The accounts that have been struck, each with the time until which its first answer is waited for."""

    def __init__(self, dispatcher: Dispatcher, journal: DirectJournal) -> None:
        self._dispatcher = dispatcher
        self._journal = journal
        self._answer_by_s: dict[str, float] = {}  # account → time of the event loop

    def add(self, names: Iterable[str], within_s: float) -> None:
        """Expect the answers of accounts that have just been struck within so many seconds."""
        self._answer_by_s.update(dict.fromkeys(names, asyncio.get_running_loop().time() + within_s))

    async def wait(self) -> None:
        """Return once every account has answered, or its time has passed."""
        while waiting := self.unanswered():
            with anyio.CancelScope(deadline=max(self._answer_by_s[name] for name in waiting)):
                await self._journal.changed.wait()

    def unanswered(self) -> list[str]:
        """Return the accounts that may still answer.

        Such an account's venue has neither accepted nor refused the strike, or has positions to close.
        """
        accounts, now_s = self._dispatcher.state.accounts, asyncio.get_running_loop().time()
        return [
            name
            for name, by_s in self._answer_by_s.items()
            if now_s < by_s
            and accounts[name].phase is not Phase.CLEAR
            and (name not in self._journal.answered or self._dispatcher.sessions[name].status.closes_positions)
        ]
