"""Kill without the daemon: connect, strike, read back, in a process of its own.

The first bytes leave before anything is read. A latch goes into a file first, so that the next daemon knows of the
kill whatever becomes of this process. The record is opened beside, in a thread: it may be long, on a disk that hangs,
or held by a daemon. If it can be had, it takes all that was done, and what it shows unfinished is struck too. If a
daemon holds it (one that hangs, perhaps), the latch file stays, and the daemon takes it over as soon as it can.

Two bounds: until every account has answered the transports' own, `STRIKE_WITHIN_S`; from there on the caller's, for
the proof. Neither a disk nor a signal shortens the first.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import anyio

from kill_switch import clock, printable
from kill_switch.config.in_force import Values, in_force
from kill_switch.config.loader import Config, load
from kill_switch.control import client, paths
from kill_switch.core import order_tracker, outcome, recovery
from kill_switch.core.domain import CancelOutcome, Instant, Phase, Reason
from kill_switch.core.engine import AccountState, Announce, Reconfigured, State
from kill_switch.core.identity import Login, new_salt
from kill_switch.core.records import LatchRecord
from kill_switch.direct.latch import DirectLatch
from kill_switch.dispatch import connect
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.errors import AlreadyRunning, KillSwitchError
from kill_switch.journal import latch_file, latch_lines, takeover
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.records import DirectRecord, UserRecord
from kill_switch.outbound.notifier import Notifier
from kill_switch.system import abandonable_thread, users
from kill_switch.tasks import run_isolated
from kill_switch.transports.fresh import TIMEOUT_S
from kill_switch.transports.lane import CONNECT_WITHIN_S
from kill_switch.transports.network import Network
from kill_switch.transports.ws import LOGIN_WITHIN_S
from kill_switch.unexpected import brief
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import ANSWER_WITHIN_S
from kill_switch.wakeup import Signal
from kill_switch.worker.client import WorkerPool

log = logging.getLogger(__name__)

AUTHORITIES_WITHIN_S = 2.0  # for the files of certificates; an account whose file hangs is left out
# on a lane, one after the other, or all together on a connection of its own
STRIKE_WITHIN_S = max(CONNECT_WITHIN_S + LOGIN_WITHIN_S + ANSWER_WITHIN_S, 3 * TIMEOUT_S)
READ_AFTER_S = 1.0  # what an earlier kill has left unfinished waits no longer than that for a venue that is silent
SWITCH_S = 0.0002  # a thread that reads a long record lets the event loop in after that, and not after 5 ms
RECORD_SOON_S = 0.5  # behind the proof: a record is as a rule read by then, and nothing is said
RECORD_WITHIN_S = 5.0  # behind the proof: for a record that is still being read, and for the disk
HAND_OVER_WITHIN_S = 4.0  # a daemon looks for latches once a second, and removes what its disk has
CONFIG_WITHIN_S = 0.5  # for the configuration as a whole: the kill has gone out with what it needs
DAEMON_WITHIN_S = 1.5  # to find out whether one is there
NAME_WITHIN_S = 0.5  # behind the proof: for the user's name, which nobody has waited for
TELL_WITHIN_S = 3.0  # whoever started this waits for the messages
_ENDING = (signal.SIGINT, signal.SIGTERM)
_SIGNALS = (*_ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class DirectJournal:
    """Keep what was done, until a journal takes it; tell the reports meanwhile."""

    def __init__(self, on_entry: Callable[[Mapping[str, Any]], None]) -> None:
        self.trouble = ""
        self.answered: set[str] = set()  # accounts of which a venue has said yes or no to a strike
        self.changed = Signal()
        self._told = on_entry
        self._boot = clock.boot_id()
        self._kept: list[tuple[str, Mapping[str, object], Instant]] = []
        self._journal: Journal | None = None

    def note_ahead(self, reason: Reason) -> bool:
        """Agree: the latch has been left, or cannot be."""
        return True if self._journal is None else self._journal.note_ahead(reason)

    def append(self, kind: str, data: Mapping[str, object], at: Instant) -> None:
        if kind == "answer" and data["answer"] in (CancelOutcome.ACCEPTED, CancelOutcome.REFUSED):
            self.answered.add(str(data["account"]))
            self.change()
        if self._journal is not None:
            self._journal.append(kind, data, at)
            return
        data = order_tracker.settled(kind, data)
        self._kept.append((kind, data, at))
        entry = {"at": clock.iso(at.wall_ns), "mono_ns": at.mono_ns, "boot": self._boot, "kind": kind, "data": data}
        self._told(entry)

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool:
        if self._journal is not None:
            return self._journal.append_latch(kind, data, at)
        self.append(kind, data, at)
        return True

    def flush(self) -> bool:
        return self._journal is None or self._journal.flush()

    def sync(self) -> None:
        if self._journal is not None:
            self._journal.sync()

    def hand_over(self, journal: Journal, joined: takeover.TakeoverPlan) -> None:
        """Put on the journal's record what was kept, and all that comes."""
        self._journal = journal
        for kind, data, at in self._kept:
            journal.append(kind, joined.rewrite(kind, data), at)
        self._kept.clear()
        journal.flush()
        journal.sync()

    def release(self) -> Journal | None:
        """Let go of the journal, if there is one; what comes after this is on no record."""
        journal, self._journal = self._journal, None
        return journal

    def change(self) -> None:
        """Wake whoever waits for news."""
        self.changed.notify()


class DirectKill:
    """One kill without the daemon."""

    def __init__(self, config: Config, accounts: Collection[str], also: Collection[str] = ()) -> None:
        """Build what can be built of `accounts`; the others are in `failed`, with why.

        `also` are accounts that are meant and that the configuration does not have: a latch is left for all of them.
        """
        self.failed: dict[str, str] = {}
        self._meant = tuple(dict.fromkeys((*accounts, *also)))
        self._config = config
        self._directories = config.daemon.state_dir, config.daemon.runtime_dir
        self._latch = DirectLatch(*self._directories)
        self._adapters: dict[str, Adapter] = {}
        for name in accounts:
            self._build(name)
        self._reports = ReportBuilder(int(config.daemon.budget_s * 1e6))
        self._record = DirectJournal(lambda entry: self._reports.take(entry))
        self._network = Network()
        self._salt = new_salt()
        paces, logins = connect.sweep_timings(self._adapters), self._logins()
        loop = asyncio.get_running_loop()
        self._dispatcher = Dispatcher(
            State(
                {name: AccountState(pace, identity=logins[name].identity(self._salt)) for name, pace in paces.items()},
                kill_id_prefix=f"direct-{secrets.token_hex(4)}",
            ),
            self._record,
            clock.now,
            loop.call_later,
            self._announce,
        )
        self._aides = WorkerPool()
        self._notifier = Notifier(self._aides, clock.now)
        self._notifier.configure(config.notify)
        self._interrupted = False
        self._answered = anyio.Event()
        self._scope = anyio.CancelScope()
        self._kill_id = ""  # as the record has it, once there is one
        self._unrecorded = "it could not be read in time"  # why the record does not have the kill, "" if it does
        self._held = False  # another process holds the record
        self._answer_by_s: dict[str, float] = {}  # account → until when its first answer is waited for

    async def fire(self, text: str, wait_s: float, evidence: Mapping[str, object]) -> dict[str, object]:
        """Kill, and return the report once all are proven clear, or `wait_s` after all have answered."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signal, number)
        switch_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    with anyio.move_on_after(AUTHORITIES_WITHIN_S):
                        await connect.load_authorities(self._network, self._config)
                    self._connect(tuple(self._adapters), group.start_soon)
                    if self._dispatcher.sessions:
                        await self._kill(text, wait_s, evidence, group.start_soon)
                    else:  # a daemon that can reach them is to know
                        await self._leave_latch(Reason("direct", text, (), clock.now(), evidence))
                    # lanes that are closed say so; it is no news
                    logging.getLogger("kill_switch").setLevel(logging.ERROR)
                    group.cancel_scope.cancel()
            for session in self._dispatcher.sessions.values():
                session.retire()  # its timers run on, and it has no lanes any more
            await self._end_record()
            problems = await self._problems()
        finally:
            sys.setswitchinterval(switch_s)
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
        report = self._reports.render(self._kill_id)
        if report is None and self._kill_id:
            text = "what came of this kill cannot be told: see the log"
            problems.append(outcome.make_problem(text, "look at the venues, then kill-switch status"))
        return {**(report or {}), "problems": problems}

    async def _kill(
        self, text: str, wait_s: float, evidence: Mapping[str, object], spawn: Callable[..., object]
    ) -> None:
        names = tuple(self._dispatcher.sessions)
        reason = Reason("direct", text, names, clock.now(), evidence)
        for session in self._dispatcher.sessions.values():
            session.read_alongside_strike()  # it connects while the latch is left; the strike waits for the latch alone
        await self._leave_latch(reason)
        self._dispatcher.fire(reason)
        self._kill_id = self._dispatcher.state.kill.id if self._dispatcher.state.kill else ""
        self._expect_answers(names)
        for aide in self._aides.clients():
            spawn(run_isolated, aide.name, aide.run)
        spawn(run_isolated, "notify", self._notifier.run)
        taking = asyncio.ensure_future(self._take_over(reason, spawn))
        naming = abandonable_thread.start_abandonable(users.name_of, os.getuid(), name="user")
        naming.add_done_callback(self._named)
        try:
            await self._answers()
            self._answered.set()
            if not self._interrupted:
                with anyio.move_on_after(wait_s):
                    while not (self._interrupted or self._clear(names)):
                        await self._record.changed.wait()
            with anyio.move_on_after(TELL_WITHIN_S):
                await self._notifier.finish()
            await asyncio.wait([naming], timeout=NAME_WITHIN_S)
            await asyncio.wait([taking], timeout=RECORD_SOON_S)
            if not taking.done():
                log.warning("the record is still being read: waiting for it for %g s at most", RECORD_WITHIN_S)
                await asyncio.wait([taking], timeout=RECORD_WITHIN_S)
            await self._answers()  # of what the record has shown unfinished, too
            if not taking.done():
                log.warning("the record cannot be had in time: the latch stays in a file, for the next daemon")
        finally:
            taking.cancel()

    # ── the strike ────────────────────────────────────────────────────────────────────────────────────────────────

    def _build(self, name: str) -> None:
        try:
            self._adapters[name] = self._config.accounts[name].build_adapter(self._config.daemon.hedge_after_s)
        except Exception as error:  # another account's kill does not depend on it
            self.failed[name] = f"it cannot be built: {brief(error)}"

    def _logins(self) -> dict[str, Login]:
        """Return who the accounts are that have been built."""
        return {name: self._config.accounts[name].login for name in self._adapters}

    def _connect(self, names: Sequence[str], spawn: Callable[..., object]) -> None:
        """Make the accounts' sessions and lanes; one that cannot be made is another account's business no more."""
        for name in names:
            try:
                session, lanes = connect.connect_account(
                    self._dispatcher, self._config, name, self._adapters[name], spawn, self._network
                )
            except Exception as error:
                self.failed[name] = str(error) if isinstance(error, KillSwitchError) else brief(error)
                continue
            self._dispatcher.register(session)
            for lane, work in lanes:
                spawn(run_isolated, lane, work)  # what a lane that failed would have carried goes out afresh

    def _expect_answers(self, names: Iterable[str]) -> None:
        """Take note that accounts have been struck just now."""
        self._answer_by_s.update(dict.fromkeys(names, asyncio.get_running_loop().time() + STRIKE_WITHIN_S))

    async def _answers(self) -> None:
        """Return once every account that was struck has answered, or its time is up."""
        while left := self._unanswered():
            with anyio.CancelScope(deadline=max(self._answer_by_s[name] for name in left)):
                await self._record.changed.wait()

    def _unanswered(self) -> list[str]:
        """Return the accounts that still may answer: the venue has not said yes or no, or has positions to close."""
        accounts, now_s = self._dispatcher.state.accounts, asyncio.get_running_loop().time()
        return [
            name
            for name, by_s in self._answer_by_s.items()
            if now_s < by_s
            and accounts[name].phase is not Phase.CLEAR
            and (name not in self._record.answered or self._dispatcher.sessions[name].status.closes_positions)
        ]

    def _clear(self, names: Sequence[str]) -> bool:
        accounts = self._dispatcher.state.accounts
        return all(accounts[name].phase is Phase.CLEAR for name in names)

    def _announce(self, announcement: Announce) -> None:
        log.info("%s: %s", announcement.level, announcement.text)
        kill = self._dispatcher.state.kill
        asyncio.get_running_loop().call_soon(lambda: self._notifier.on_announcement(announcement, kill))
        self._record.change()

    def _signal(self, number: int) -> None:
        """Let what is under way come to its end; end at the second time.

        A terminal that goes away changes nothing, nor does a signal that is meant for the daemon.
        """
        name = signal.Signals(number).name
        if number not in _ENDING:
            log.warning("%s: the kill goes on", name)
        elif self._interrupted:
            log.error("%s again: ended before every account has answered", name)
            self._scope.cancel()
        else:
            self._interrupted = True
            left = ", ".join(self._unanswered()) or "nobody"
            log.warning(
                "%s: the proof is not waited for; ending once every account has answered, within %g s; waiting for %s."
                " Once more ends it now",
                *(name, STRIKE_WITHIN_S, left),
            )
        self._record.change()

    async def _leave_latch(self, reason: Reason) -> None:
        """Leave a latch for all that are meant: the daemon may be able to strike whom this process cannot."""
        text = f"{reason.trigger}: {reason.text}"
        await self._latch.append(
            latch_lines.latch_line(text, self._meant, reason.observed_at, reason.evidence.get("uid"))
        )

    # ── the record ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _take_over(self, reason: Reason, spawn: Callable[..., object]) -> None:
        """Open the record, put the kill on it, and strike what it shows unfinished.

        It is not opened before the first answers are there, or are late: the connections that carry them need the
        processor too.
        """
        journal: Journal | None = None
        with anyio.move_on_after(READ_AFTER_S):
            await self._answered.wait()
        await self._describe(reason)
        abandonable_thread.start_abandonable(latch_file.sync_latch, *self._directories, name="latch")
        try:
            journal = await abandonable_thread.start_abandonable(Journal, *self._directories, name="record")
            entries = journal.contents.entries
            for name in self._config.accounts:
                if name not in self._adapters:
                    self._build(name)
            past = recovery.rebuild(entries, connect.sweep_timings(self._adapters), 1, self._logins(), self._salt)
            joined = takeover.plan_takeover(self._dispatcher.state, past, reason.observed_at)
            reports = ReportBuilder(self._reports.budget_us, entries)
        except AlreadyRunning as error:  # the daemon takes over the latch
            self._held, self._unrecorded = True, str(error)
            return
        except Exception as error:  # whatever is wrong with the record, the kill has gone out
            message = str(error) if isinstance(error, KillSwitchError) else brief(error)
            self._unrecorded = message
            log.error("the journal cannot be used, and the latch stays in a file: %s", message)
            if journal is not None:
                journal.close()
            return
        self._dispatcher.counts.resume(joined.state.kills_of_accounts(), reports.tally, past.renamed)
        journal.on_entry = reports.take
        self._reports, self._kill_id = reports, joined.kill
        self._record.hand_over(journal, joined)
        if unstruck := [name for name in self._meant if name not in reason.accounts]:
            record = LatchRecord(accounts=tuple(unstruck), said=f"{reason.trigger}: {reason.text}")
            journal.append_latch(record.kind, record.to_json(), clock.now())
        try:
            self._strike_unfinished(joined, spawn)
        except Exception as error:
            log.error("what an earlier kill has left unfinished cannot be struck: %s", brief(error))

    def _strike_unfinished(self, joined: takeover.TakeoverPlan, spawn: Callable[..., object]) -> None:
        sessions = self._dispatcher.sessions
        for name, strikes in joined.strikes.items():
            sessions[name].numbers.shift(strikes)
        self._connect(joined.unfinished, spawn)
        accounts = {name: account for name, account in joined.state.accounts.items() if name in sessions}
        self._dispatcher.state = joined.state._replace(accounts=accounts)
        left = tuple(name for name in joined.unfinished if name in sessions)
        if left:
            log.warning("an earlier kill has left unfinished, and this one strikes too: %s", ", ".join(left))
            paces = {name: account.timing for name, account in accounts.items()}
            event = Reconfigured(paces, frozenset(left), joined.state.approvals_needed, clock.now())
            self._dispatcher.reconfigure(event, {})
            self._expect_answers(left)

    async def _describe(self, reason: Reason) -> None:
        """Put on record which configuration is in force, and whom this process means and cannot strike."""
        unstruck = [name for name in self._meant if name not in reason.accounts]
        reading = abandonable_thread.start_abandonable(_values, self._config, name="config")
        await asyncio.wait([reading], timeout=CONFIG_WITHIN_S)
        if not reading.done() or reading.exception() is not None:
            log.error("the configuration cannot be put on record: it cannot be read once more")
            return
        record = DirectRecord(kill=self._kill_id, config=reading.result(), unstruck=tuple(unstruck), pid=os.getpid())
        self._record.append(record.kind, record.to_json(), clock.now())

    def _named(self, naming: asyncio.Future[str | None]) -> None:
        if not naming.cancelled() and naming.exception() is None and (name := naming.result()):
            record = UserRecord(uid=os.getuid(), user=name)
            self._record.append(record.kind, record.to_json(), clock.now())

    async def _end_record(self) -> None:
        """Close the record, and take the latch back once the disk has what it stands for; a disk may hang."""
        journal = self._record.release()
        if journal is not None:
            closing = abandonable_thread.start_abandonable(self._close, journal, name="record")
            await asyncio.wait([closing], timeout=2 * RECORD_WITHIN_S)
            if not closing.done():
                self._unrecorded = "the disk does not take it"
                log.error("the disk does not take the record: the latch stays in a file")

    def _close(self, journal: Journal) -> None:
        journal.close()
        try:
            if trouble := journal.write_trouble or journal.silence_trouble or journal.sync_trouble:
                raise OSError(errno.EIO, trouble)
            for path in sorted(self._directories[0].glob("journal*.jsonl")):
                latch_file.sync_file(path)
            self._unrecorded = ""
            self._latch.take_back()
        except OSError as error:
            if self._unrecorded:
                self._unrecorded = error.strerror or brief(error)
            log.error("the latch stays in a file: %s", error.strerror)

    async def _problems(self) -> list[outcome.Problem]:
        """Return in what this kill is weaker than latched and on record."""
        if not self._unrecorded:
            return []
        self._held = self._held or await self._is_daemon_there()
        latch_outcome = await self._latch.look(HAND_OVER_WITHIN_S if self._held and not self._interrupted else 0.0)
        return outcome.direct_kill_problems(self._unrecorded, latch_outcome, self._config.source, held=self._held)

    async def _is_daemon_there(self) -> bool:
        """Tell whether somebody listens on the daemon's socket, though nobody can say who holds the record."""
        asking = abandonable_thread.start_abandonable(
            client.is_listening, self._directories[1] / paths.CONTROL_SOCKET, name="daemon"
        )
        await asyncio.wait([asking], timeout=DAEMON_WITHIN_S)
        return asking.done() and asking.exception() is None and asking.result()


def _values(config: Config) -> Values:
    """List the whole configuration if it can be loaded, else what a kill uses of it. Waits for the file system."""
    try:
        return in_force(load(config.source))
    except (KillSwitchError, OSError):
        return in_force(config)


async def fire(
    config: Config,
    text: str,
    accounts: tuple[str, ...],
    wait_s: float,
    evidence: Mapping[str, object],
    also: Collection[str] = (),
) -> tuple[dict[str, object], Mapping[str, str]]:
    """Kill `accounts`; return the report, and the accounts that could not be struck, with why.

    `also` are accounts that are meant and cannot be built: they are latched with the others.
    It ends once all are proven clear, or `wait_s` after all have answered, which takes `STRIKE_WITHIN_S` at most.
    """
    kill = DirectKill(config, accounts, also)
    report = await kill.fire(printable.line(text), wait_s, evidence)
    return report, {name: why for name, why in kill.failed.items() if name in accounts}
