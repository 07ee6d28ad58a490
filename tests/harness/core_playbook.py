"""Play a pure core: a test reads as the events that happen and the commands that must follow.

    assert (
        play(state)
        >> reported("a")                     # in: an event
        << record("reason", latch=True)      # out: exactly these commands, in this order, and no other
        << Strike((("a", 1),))
        << …
    )

An expected command is the command itself (compared by type and value), or a `Like`, which compares only what it names.
`<< Raises(IllegalEvent, "…")` expects the step to raise, and then that nothing at all has changed. A script that
differs, or that stops before the commands do, fails with the whole play: `>>` went in, `<<` came out, `-` was expected
and did not come, `+` came and was not expected. A script that was written down and never asserted fails its test too.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from kill_switch import clock
from kill_switch.core import engine, sweep, sweep_state
from kill_switch.core.commands import Announce, AppendRecord, Command, StrikeAccounts, WakeAt
from kill_switch.core.domain import CancelOutcome, Instant, Phase, Reason, SweepTiming
from kill_switch.core.events import Event, Progress, RearmAsked, ReasonReported, Recovered, StrikeSent, StrikesSent
from kill_switch.core.state import AccountState, State
from tests.harness.recorded import must_be_as_written

S = TypeVar("S")  # state
E = TypeVar("E")  # event
C = TypeVar("C")  # command


class Like:
    """Expect a command of this type with these fields; a mapping may hold further keys."""

    def __init__(self, command: type[Any], /, **fields: object) -> None:
        self.command = command
        self.fields = fields

    def matches(self, actual: object) -> bool:
        return type(actual) is self.command and all(
            _fits(getattr(actual, name), wanted) for name, wanted in self.fields.items()
        )

    def __repr__(self) -> str:
        return f"{self.command.__name__}({', '.join(f'{name}={wanted!r}' for name, wanted in self.fields.items())}, …)"


class Containing(NamedTuple):
    """Within a `Like`: a text that holds these words."""

    words: str


class Raises:
    """Expect the step to raise, with these words; the state must stay the very same object."""

    def __init__(self, kind: type[Exception], words: str = "") -> None:
        self.kind = kind
        self.words = words

    def matches(self, actual: object) -> bool:
        return isinstance(actual, self.kind) and self.words in str(actual)

    def __repr__(self) -> str:
        return f"raise {self.kind.__name__}({self.words!r})"


class _In(NamedTuple):
    event: Any


Step = Callable[[S, E], tuple[S, tuple[C, ...]]]


class Playbook(Generic[S, E, C]):
    """A script of events and commands; it runs when it is asserted, and may be continued."""

    def __init__(self, step: Step[S, E, C], state: S) -> None:
        self.state = state
        self._step = step
        self._script: list[object] = []
        self._played: list[str] = []  # of the parts that have been asserted

    def __rshift__(self, event: E) -> Playbook[S, E, C]:
        self._script.append(_In(event))
        return self

    def __lshift__(self, command: C | Like | Raises) -> Playbook[S, E, C]:
        self._script.append(command)
        return self

    @property
    def finished(self) -> bool:
        return not self._script

    def __bool__(self) -> bool:
        script, self._script = self._script, []
        wanted: list[str] = []
        came: list[str] = []
        at = 0
        while at < len(script):
            item = script[at]
            at += 1
            if not isinstance(item, _In):
                wanted.append(f"<< {item!r}")  # before any event: cannot come
                continue
            wanted.append(f">> {item.event!r}")
            came.append(f">> {item.event!r}")
            outs = self._take(item.event)
            expected = []
            while at < len(script) and not isinstance(script[at], _In):
                expected.append(script[at])
                at += 1
            came += [_out(out) for out in outs]
            # what fits is shown as it came, so that the diff shows only what does not
            wanted += [
                _out(outs[n]) if n < len(outs) and _matches(want, outs[n]) else f"<< {want!r}"
                for n, want in enumerate(expected)
            ]
            if len(wanted) != len(came) or wanted[-len(expected) - 1 :] != came[-len(outs) - 1 :]:
                break
        if wanted == came and at == len(script):
            self._played += came
            return True
        lines = ["the play differs:", *(f"  {line}" for line in self._played), *difflib.ndiff(wanted, came)]
        raise AssertionError("\n".join(line for line in lines if not line.startswith("?")))

    def _take(self, event: E) -> tuple[object, ...]:
        before = self.state
        try:
            self.state, commands = self._step(before, event)
        except Exception as error:
            assert self.state is before
            return (error,)
        return commands


class Theatre:
    """Open playbooks, and see to it that each of them has been asserted to its end."""

    def __init__(self) -> None:
        self._engines: list[Playbook[State, Event, Command]] = []
        self._sweeps: list[Playbook[sweep_state.Sweep, sweep.Event, sweep.SweepAction]] = []

    def __call__(self, state: State) -> Playbook[State, Event, Command]:
        self._engines.append(Playbook(engine.step, state))
        return self._engines[-1]

    def sweep(self, state: sweep_state.Sweep) -> Playbook[sweep_state.Sweep, sweep.Event, sweep.SweepAction]:
        self._sweeps.append(Playbook(sweep.step, state))
        return self._sweeps[-1]

    def unfinished(self) -> int:
        return sum(not book.finished for book in self._engines) + sum(not book.finished for book in self._sweeps)


@contextmanager
def theatre() -> Iterator[Theatre]:
    """Give playbooks to one test."""
    opened = Theatre()
    yield opened
    assert not opened.unfinished(), "a script was written and never asserted"


def _matches(wanted: object, actual: object) -> bool:
    if isinstance(wanted, Like | Raises):
        return wanted.matches(actual)
    return type(wanted) is type(actual) and wanted == actual


def _fits(actual: object, wanted: object) -> bool:
    if isinstance(wanted, Containing):
        return isinstance(actual, str) and wanted.words in actual
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        return all(key in actual and _fits(actual[key], value) for key, value in wanted.items())
    return actual == wanted


def _out(out: object) -> str:
    return f"<< raise {out!r}" if isinstance(out, Exception) else f"<< {out!r}"


# ── words of the scripts: times in milliseconds since the first reason ────────────────────────────────────────────

TIMING = SweepTiming()
START = Instant(1_000_000_000_000, 1_700_000_000_000_000_000)


def ns(ms: float) -> int:
    return START.mono_ns + round(ms * 1e6)


def at(ms: float) -> Instant:
    return Instant(ns(ms), START.wall_ns + round(ms * 1e6))


def reason(*accounts: str, ms: float = 0, trigger: str = "panic", text: str = "touched") -> Reason:
    return Reason(trigger, text, accounts, at(ms), {"path": "/run/KILL"})


def reported(*accounts: str, ms: float = 0, trigger: str = "panic", text: str = "touched") -> ReasonReported:
    return ReasonReported(reason(*accounts, ms=ms, trigger=trigger, text=text), at(ms))


def answered(
    account: str,
    ms: float,
    answer: CancelOutcome = CancelOutcome.ACCEPTED,
    cancelled: int | None = None,
    *,
    orders: Mapping[str, object] | None = None,
    strike: int = 0,
) -> Progress:
    event = sweep.StrikeAnswered(ns(ms), answer)
    return Progress(account, event, at(ms), "the venue's words", cancelled, orders, strike)


def read(
    account: str,
    ms: float,
    live: int = 0,
    pending: int = 0,
    *,
    asked: float | None = None,
    complete: bool = True,
    cancelled: int | None = None,
    orders: Mapping[str, object] | None = None,
) -> Progress:
    """A read-back that arrives; unless said otherwise it was asked for a millisecond before."""
    asked_ns = ns(ms - 1 if asked is None else asked)
    event = sweep.ReadCounted(ns(ms), asked_ns, live, pending, complete)
    return Progress(account, event, at(ms), "" if complete else "timed out", cancelled, orders)


def seen(account: str, ms: float) -> Progress:
    return Progress(account, sweep.OrderAppeared(ns(ms)), at(ms), "o1 BTC-USD open")


def due(account: str, ms: float) -> Progress:
    return Progress(account, sweep.SweepTimerFired(ns(ms)), at(ms))


def struck(account: str, number: int, ms: float, *routes: str) -> StrikesSent:
    return StrikesSent((StrikeSent(account, number, routes or ("http",), ns(ms)),), at(ms))


def asked(
    *accounts: str, ms: float = 60_000, uid: int = 1, force: bool = False, blockers: tuple[str, ...] = ()
) -> RearmAsked:
    return RearmAsked(uid, f"user{uid}", "all well", accounts, force, blockers, at(ms))


def recovered(ms: float) -> Recovered:
    return Recovered(at(ms))


def record(kind: str, *, latch: bool | None = None, **data: object) -> Like:
    fields: dict[str, object] = {"kind": kind, "data": data}
    return Like(AppendRecord, **fields) if latch is None else Like(AppendRecord, **fields, latch=latch)


def told(level: str, words: str = "", account: str | None = None) -> Like:
    return Like(Announce, level=level, text=Containing(words), account=account)


def wake(account: str, ms: float) -> WakeAt:
    return WakeAt(account, ns(ms))


def strike(*accounts: str, number: int = 1) -> StrikeAccounts:
    return StrikeAccounts(tuple((account, number) for account in accounts))


# ── states to begin with, each made by what leads to it ───────────────────────────────────────────────────────────


def after(state: State, *events: Event) -> State:
    """Let events happen whose commands are of no interest."""
    for event in events:
        state, _ = engine.step(state, event)
    return state


def armed(*accounts: str, approvals: int = 1, pace: SweepTiming = TIMING) -> State:
    return State({name: AccountState(pace) for name in accounts}, approvals_needed=approvals)


def striking(*accounts: str) -> State:
    """Struck at 0 ms, due at 1000 ms."""
    return after(armed(*accounts), reported(*accounts))


def confirming(*accounts: str) -> State:
    """Answered at 100 ms, a read-back under way."""
    return after(striking(*accounts), *(answered(name, 100) for name in accounts))


def clear(*accounts: str, approvals: int = 1) -> State:
    """Two clean reads, the second at 500 ms; the guard looks again at 2500 ms."""
    state = confirming(*accounts)
    for name in accounts:
        state = after(state, read(name, 200), due(name, 450), read(name, 500))
    assert all(account.phase is Phase.CLEAR for account in state.accounts.values())
    return state._replace(approvals_needed=approvals)


def residue(*accounts: str) -> State:
    """Three orders left at 10 s, struck again there for the second time."""
    state = confirming(*accounts)
    for name in accounts:
        state = after(state, read(name, 10_000, live=3))
    assert all(account.phase is Phase.RESIDUE for account in state.accounts.values())
    return state


# ── a run with its record ─────────────────────────────────────────────────────────────────────────────────────────


class Run:
    """Apply events, execute strikes at once, and keep the records as a journal returns them."""

    def __init__(self, state: State, boot: str = "boot-1") -> None:
        self.state = state
        self.boot = boot
        self.entries: list[dict[str, Any]] = []
        self.commands: tuple[Command, ...] = ()  # of the last event

    def __call__(self, *events: Event) -> Run:
        for event in events:
            self._take(event)
        return self

    def _take(self, event: Event) -> None:
        self.state, commands = engine.step(self.state, event)
        before = len(self.entries)
        self.write(commands, event.at)
        for entry in self.entries[before:]:
            must_be_as_written(entry)
        for command in commands:
            if isinstance(command, StrikeAccounts):
                sent = tuple(StrikeSent(name, number, ("http",), event.at.mono_ns) for name, number in command.accounts)
                self._take(StrikesSent(sent, event.at))
        self.commands = commands

    def write(self, commands: tuple[Command, ...], at: Instant) -> None:
        for command in commands:
            if isinstance(command, AppendRecord):
                entry = {
                    "seq": len(self.entries) + 1,
                    "at": clock.iso(at.wall_ns),
                    "mono_ns": at.mono_ns,
                    "boot": self.boot,
                    "kind": command.kind,
                    "data": command.data,
                }
                self.entries.append(orjson.loads(orjson.dumps(entry)))
