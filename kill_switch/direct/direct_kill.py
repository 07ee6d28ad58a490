"""The direct kill, for `fire --direct`: connect, strike and read back in this process, without the daemon.

A latch file is written first, so that the next daemon trips whatever happens to this process. The journal is opened in
a thread beside the kill, and gets its records if that is possible; see `DirectKill`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence

import anyio

from kill_switch import clock, printable
from kill_switch.client import control_socket
from kill_switch.config.defaults import own_environment
from kill_switch.config.in_force import Values, in_force
from kill_switch.config.loader import Config, load
from kill_switch.control import paths
from kill_switch.core import outcome, recovery
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Phase, Reason
from kill_switch.core.events import Reconfigured
from kill_switch.core.identity import Login, new_salt
from kill_switch.core.list_lag import lagging_proofs
from kill_switch.core.records import LatchRecord, StartRecord
from kill_switch.core.state import AccountState, State
from kill_switch.direct.answer_deadlines import AnswerDeadlines
from kill_switch.direct.direct_journal import DirectJournal
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
from kill_switch.venues.messages import ANSWER_WITHIN_S
from kill_switch.worker.client import WorkerPool

log = logging.getLogger(__name__)

AUTHORITIES_WITHIN_S = 2.0  # seconds for the certificates' files; an account whose file hangs is left out
# seconds until an account has answered: over a lane, step by step, or over three fresh connections
STRIKE_WITHIN_S = max(CONNECT_WITHIN_S + LOGIN_WITHIN_S + ANSWER_WITHIN_S, 3 * TIMEOUT_S)
READ_AFTER_S = 1.0  # seconds of a silent venue after which the journal is opened, for an earlier kill's accounts
SWITCH_S = 0.0002  # interval between threads (default 5 ms), because a thread parses a long journal beside the kill
RECORD_SOON_S = 0.5  # seconds after the proof: a journal has normally been read by then, and nothing is logged
RECORD_WITHIN_S = 5.0  # seconds after the proof, for a journal that is still being read, and for the disk
HAND_OVER_WITHIN_S = 4.0  # seconds: a daemon looks for latch files once a second, and removes a recorded line
CONFIG_WITHIN_S = 0.5  # seconds to load the whole configuration; the kill has been sent without
DAEMON_WITHIN_S = 1.5  # seconds to find out whether a daemon listens
NAME_WITHIN_S = 0.5  # seconds after the proof for the user's name
TELL_WITHIN_S = 10.0  # seconds after the proof for the notifications; to load apprise takes 4 s on a busy machine
_ENDING = (signal.SIGINT, signal.SIGTERM)
_SIGNALS = (*_ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class DirectKill:
    """A kill without the daemon; `fire` is to be called once.

    The first bytes leave before the journal is read, because the journal may be long, on a disk that hangs, or held by
    a daemon. Once it is open, it gets the records of this kill, and the accounts of its unfinished kill are struck too.
    If a daemon holds it, the latch file remains, and the daemon adopts it as soon as it can.

    There are two bounds: `STRIKE_WITHIN_S` for the answers, then the caller's for the proof. Neither a disk nor a
    signal shortens the first.
    """

    def __init__(self, config: Config, accounts: Collection[str], also: Collection[str] = ()) -> None:
        """Build the adapters of `accounts`; those that cannot be built are in `failed`, with the reason.

        `also` are accounts in scope that the configuration does not have; the latch names them too.
        """
        self.failed: dict[str, str] = {}
        self._in_scope = tuple(dict.fromkeys((*accounts, *also)))
        self._config = config
        self._directories = config.daemon.state_dir, config.daemon.runtime_dir
        self._latch = DirectLatch(*self._directories)
        self._adapters = connect.build_adapters(config, accounts, self.failed)
        self._reports = ReportBuilder(int(config.daemon.budget_s * 1e6))
        self._record = DirectJournal(lambda entry: self._reports.take(entry))
        self._network = Network()
        self._salt = new_salt()
        timings, logins = connect.sweep_timings(self._adapters, ()), self._logins()
        loop = asyncio.get_running_loop()
        accounts = {
            name: AccountState(each, identity=logins[name].identity(self._salt)) for name, each in timings.items()
        }
        self._dispatcher = Dispatcher(
            State(accounts, kill_id_prefix=f"direct-{secrets.token_hex(4)}"),
            self._record,
            clock.now,
            loop.call_later,
            self._announce,
        )
        self._workers = WorkerPool()
        self._notifier = Notifier(self._workers, clock.now, source=config.source)
        self._notifier.configure(config.notify)
        self._interrupted = False
        self._answered = anyio.Event()
        self._scope = anyio.CancelScope()
        self._kill_id = ""  # the journal's, once it is open
        self._unrecorded = "it could not be read in time"  # why the journal does not have the kill, "" if it does
        self._unsent: tuple[str, ...] = ()  # the channels that have not tried every message in time
        self._held = False  # another process holds the journal
        self._deadlines = AnswerDeadlines(self._dispatcher, self._record)

    async def fire(self, text: str, wait_s: float, evidence: Mapping[str, object]) -> dict[str, object]:
        """Kill; return the report once all accounts are proven clear, or `wait_s` seconds after all have answered."""
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
                    else:  # because a daemon may be able to reach the accounts
                        await self._leave_latch(Reason("direct", text, (), clock.now(), evidence))
                    # because each lane that is closed now would log it
                    logging.getLogger("kill_switch").setLevel(logging.ERROR)
                    group.cancel_scope.cancel()
            for session in self._dispatcher.sessions.values():
                session.retire()  # because its timers would use lanes that are closed
            await self._end_record()
            problems = await self._problems()
            problems += outcome.unsent_problems(self._unsent, TELL_WITHIN_S)
        finally:
            sys.setswitchinterval(switch_s)
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
        report = self._reports.render(self._kill_id)
        if report is None and self._kill_id:
            text = "the outcome of this kill cannot be shown: see the log"
            problems.append(outcome.make_problem(text, "look at the venues, then kill-switch status"))
        if waits := lagging_proofs(self._dispatcher.state.accounts, clock.now().mono_ns):
            report = {**(report or {}), "not_proven_yet": waits}
        return {**(report or {}), "problems": problems}

    async def _kill(
        self, text: str, wait_s: float, evidence: Mapping[str, object], spawn: Callable[..., object]
    ) -> None:
        names = tuple(self._dispatcher.sessions)
        reason = Reason("direct", text, names, clock.now(), evidence)
        for session in self._dispatcher.sessions.values():
            session.read_alongside_strike()  # its connection is made while the latch file is written
        await self._leave_latch(reason)
        self._dispatcher.fire(reason)
        self._kill_id = self._dispatcher.state.kill.id if self._dispatcher.state.kill else ""
        self._deadlines.add(names, STRIKE_WITHIN_S)
        for worker in self._workers.clients():
            spawn(run_isolated, worker.name, worker.run)
        spawn(run_isolated, "notify", self._notifier.run)
        taking = asyncio.ensure_future(self._take_over(reason, spawn))
        naming = abandonable_thread.start_abandonable(users.name_of, os.getuid(), name="user")
        naming.add_done_callback(self._named)
        try:
            await self._deadlines.wait()
            self._answered.set()
            if not self._interrupted:
                with anyio.move_on_after(wait_s):
                    while not (self._interrupted or self._clear(names)):
                        await self._record.changed.wait()
            with anyio.move_on_after(TELL_WITHIN_S):
                await self._notifier.finish()
            self._unsent = tuple(self._notifier.unsent())
            await asyncio.wait([naming], timeout=NAME_WITHIN_S)
            await asyncio.wait([taking], timeout=RECORD_SOON_S)
            if not taking.done():
                log.warning("the journal is still being read: waiting at most %g s for it", RECORD_WITHIN_S)
                await asyncio.wait([taking], timeout=RECORD_WITHIN_S)
            await self._deadlines.wait()  # also for an earlier kill's accounts that have been struck meanwhile
            if not taking.done():
                log.warning("the journal cannot be used in time: the latch stays in a file, for the next daemon")
        finally:
            taking.cancel()

    # ── the strike ────────────────────────────────────────────────────────────────────────────────────────────────

    def _logins(self) -> dict[str, Login]:
        """Return the logins of the accounts whose adapters have been built."""
        return {name: self._config.accounts[name].login for name in self._adapters}

    def _connect(self, names: Sequence[str], spawn: Callable[..., object]) -> None:
        """Start the accounts' sessions and lanes; an account that fails goes to `failed`, and the others go on."""
        adapters = {name: self._adapters[name] for name in names}
        for lane, work in connect.connect_accounts(
            self._dispatcher, self._config, adapters, spawn, self._network, self.failed
        ):
            spawn(run_isolated, lane, work)  # if a lane fails, its commands take a fresh connection

    def _clear(self, names: Sequence[str]) -> bool:
        accounts = self._dispatcher.state.accounts
        return all(accounts[name].phase is Phase.CLEAR for name in names)

    def _announce(self, announcement: Announce) -> None:
        log.info("%s", announcement.line())
        kill = self._dispatcher.state.kill
        asyncio.get_running_loop().call_soon(lambda: self._notifier.on_announcement(announcement, kill))
        self._record.changed.notify()

    def _signal(self, number: int) -> None:
        """End the wait for the proof at the first SIGINT or SIGTERM, and the kill at the second.

        Other signals change nothing: a terminal that closes, or a signal that is meant for the daemon.
        """
        name = signal.Signals(number).name
        if number not in _ENDING:
            log.warning("%s: the kill goes on", name)
        elif self._interrupted:
            log.error("%s again: ended before every account has answered", name)
            self._scope.cancel()
        else:
            self._interrupted = True
            waiting = ", ".join(self._deadlines.unanswered()) or "no account"
            log.warning(
                "%s: no wait for the proof; this ends once every account has answered, within %g s; waiting for %s."
                " The same signal again ends it now",
                *(name, STRIKE_WITHIN_S, waiting),
            )
        self._record.changed.notify()

    async def _leave_latch(self, reason: Reason) -> None:
        """Write the latch file for all accounts in scope, because the daemon may be able to reach more of them."""
        text = f"{reason.trigger}: {reason.text}"
        await self._latch.append(
            latch_lines.latch_line(text, self._in_scope, reason.observed_at, reason.evidence.get("uid"))
        )

    # ── the journal ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _take_over(self, reason: Reason, spawn: Callable[..., object]) -> None:
        """Open the journal, append this kill's records, and strike the accounts of an unfinished kill in it.

        The journal is opened once the first answers have arrived or are late, because parsing it takes CPU time that
        the connections need.
        """
        journal: Journal | None = None
        with anyio.move_on_after(READ_AFTER_S):
            await self._answered.wait()
        await self._describe(reason)
        abandonable_thread.start_abandonable(latch_file.sync_latch, *self._directories, name="latch")
        try:
            journal = await abandonable_thread.start_abandonable(Journal, *self._directories, name="record")
            entries = journal.contents.entries
            others = [name for name in self._config.accounts if name not in self._adapters]
            self._adapters |= connect.build_adapters(self._config, others, self.failed)
            timings = connect.sweep_timings(self._adapters, ())
            recorded = recovery.rebuild(entries, timings, 1, self._logins(), self._salt)
            joined = takeover.plan_takeover(self._dispatcher.state, recorded, reason.observed_at)
            reports = ReportBuilder(self._reports.budget_us, entries)
        except AlreadyRunning as error:  # the daemon will adopt the latch
            self._held, self._unrecorded = True, str(error)
            return
        except Exception as error:  # no fault of the journal may end the kill
            message = str(error) if isinstance(error, KillSwitchError) else brief(error)
            self._unrecorded = message
            log.error("the journal cannot be used, and the latch stays in a file: %s", message)
            if journal is not None:
                journal.close()
            return
        self._dispatcher.counts.resume(joined.state.kills_of_accounts(), reports.tally, recorded.renamed)
        journal.deliver_to(reports.take)
        self._reports, self._kill_id = reports, joined.kill
        self._record.hand_over(journal, joined)
        if unstruck := [name for name in self._in_scope if name not in reason.accounts]:
            record = LatchRecord(accounts=tuple(unstruck), said=f"{reason.trigger}: {reason.text}")
            journal.append_latch(record.kind, record.to_json(), clock.now())
        try:
            self._strike_unfinished(joined, spawn)
        except Exception as error:
            log.error("the accounts of an unfinished earlier kill cannot be struck: %s", brief(error))

    def _strike_unfinished(self, joined: takeover.TakeoverPlan, spawn: Callable[..., object]) -> None:
        sessions = self._dispatcher.sessions
        for name, strikes in joined.strikes.items():
            sessions[name].numbers.shift(strikes)
        self._connect(joined.unfinished, spawn)
        accounts = {name: account for name, account in joined.state.accounts.items() if name in sessions}
        self._dispatcher.state = joined.state._replace(accounts=accounts)
        left = tuple(name for name in joined.unfinished if name in sessions)
        if left:
            log.warning("an earlier kill is unfinished, so its accounts are struck too: %s", ", ".join(left))
            timings = {name: account.timing for name, account in accounts.items()}
            event = Reconfigured(timings, frozenset(left), joined.state.approvals_needed, clock.now())
            self._dispatcher.reconfigure(event, {})
            self._deadlines.add(left, STRIKE_WITHIN_S)

    async def _describe(self, reason: Reason) -> None:
        """Record the configuration in force, and the accounts in scope that this process cannot strike."""
        unstruck = [name for name in self._in_scope if name not in reason.accounts]
        reading = abandonable_thread.start_abandonable(_values, self._config, name="config")
        await asyncio.wait([reading], timeout=CONFIG_WITHIN_S)
        if not reading.done() or reading.exception() is not None:
            log.error("the configuration cannot be recorded: it cannot be read again")
            return
        record = DirectRecord(kill=self._kill_id, config=reading.result(), unstruck=tuple(unstruck), pid=os.getpid())
        self._record.append(record.kind, record.to_json(), clock.now())

    def _named(self, naming: asyncio.Future[str | None]) -> None:
        if not naming.cancelled() and naming.exception() is None and (name := naming.result()):
            record = UserRecord(uid=os.getuid(), user=name)
            self._record.append(record.kind, record.to_json(), clock.now())

    async def _end_record(self) -> None:
        """Close the journal, and remove the latch line once the disk has the kill; a disk that hangs is bounded."""
        journal = self._record.release()
        if journal is not None:
            closing = abandonable_thread.start_abandonable(self._close, journal, name="record")
            await asyncio.wait([closing], timeout=2 * RECORD_WITHIN_S)
            if not closing.done():
                self._unrecorded = "the disk does not take it"
                log.error("the disk does not take the journal's records: the latch stays in a file")

    def _close(self, journal: Journal) -> None:
        journal.close()
        try:
            if trouble := journal.write_trouble or journal.silence_trouble or journal.sync_trouble:
                raise OSError(errno.EIO, trouble)
            for path in sorted(self._directories[0].glob("journal*.jsonl")):
                latch_file.sync_file(path)
            self._unrecorded = ""
            # without any daemon's start it may be the journal of a directory beneath a mount that has failed
            ours = any(entry["kind"] == StartRecord.kind for entry in journal.contents.entries)
            self._latch.take_back(all_files=ours)
        except OSError as error:
            if self._unrecorded:
                self._unrecorded = error.strerror or brief(error)
            log.error("the latch stays in a file: %s", error.strerror)

    async def _problems(self) -> list[outcome.Problem]:
        """Return the problems of this kill's latch and journal for people; none if the journal has the kill."""
        if not self._unrecorded:
            return []
        self._held = self._held or await self._is_daemon_there()
        latch_outcome = await self._latch.look(HAND_OVER_WITHIN_S if self._held and not self._interrupted else 0.0)
        return outcome.direct_kill_problems(self._unrecorded, latch_outcome, self._config.source, held=self._held)

    async def _is_daemon_there(self) -> bool:
        """Return whether a process listens on the daemon's socket; it may hold the journal."""
        asking = abandonable_thread.start_abandonable(
            control_socket.is_listening, self._directories[1] / paths.CONTROL_SOCKET, name="daemon"
        )
        await asyncio.wait([asking], timeout=DAEMON_WITHIN_S)
        return asking.done() and asking.exception() is None and asking.result()


def _values(config: Config) -> Values:
    """Return the values of the whole configuration if it can be loaded, else those of `config`. May block."""
    try:
        return in_force(load(config.source, environ=own_environment(os.environ)))
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
    """Kill `accounts`; return the report, and the accounts that could not be struck, with the reason.

    `also` are accounts in scope that cannot be built; the latch names them with the others. This returns once all
    accounts are proven clear, or `wait_s` seconds after all have answered, which takes at most `STRIKE_WITHIN_S`.
    """
    kill = DirectKill(config, accounts, also)
    report = await kill.fire(printable.line(text), wait_s, evidence)
    return report, {name: why for name, why in kill.failed.items() if name in accounts}
