"""Play a venue's protocol against an adapter, so that a test reads as the sequence of messages.

A script is a row of steps: what goes in (events, or `Kill`, `Read`, `Probe`, `Drill`, `Measure`, `Pause`), each
followed by exactly what has to come out. A script that differs, or leaves an output unmentioned, fails with the whole
play so far, in which `>>` goes in, `<<` comes out, `-` was expected and `+` came. What is only made ready
(`PrepareFrame`) is nothing that happens, and the new orders that a list shows (`OrdersFound`) are in `Player.found`.

The tag of a timer or a call is a name of the script's own. It stands for the tag that the adapter gave where the name
came up first, and for no other one; `…#3` is the adapter's third call. So an adapter may rename its tags.

    player = Player(adapter)
    player(
        Opened(Route.WS, 1),
        WakeAfter("greeting 1", 0.5),
        Pause(0.5),
        Woke("greeting 1"),
        Frame(1, {"op": "login", …}),
    )
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kill_switch.core.domain import Instant, Route
from kill_switch.venues import messages
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import Call, Event, Output, Outputs, Received, Replied, Send, WakeAfter

START = Instant(5_000_000_000_000, 1_700_000_000_000_000_000)  # the moment of the login vector in oxfun.md
PAYLOADS = Path(__file__).parents[1] / "venues" / "payloads"


class Kill(NamedTuple):
    """Strike; the number 0 stands for the one that follows the last strike's."""

    number: int = 0


class Read(NamedTuple):
    """Read back."""


class Probe(NamedTuple):
    """Use the HTTP lane."""


class Drill(NamedTuple):
    """Send a cancel that matches no order, to test the order path."""


class Measure(NamedTuple):
    """Ask what the account is worth."""


class Pause(NamedTuple):
    """Advance the clock by some seconds."""

    seconds: float


@dataclass(eq=False)
class Frame:
    """Expect a frame: a JSON object, compared as such, or bytes."""

    conn: int
    text: object
    command: bool = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Send) or (other.conn, other.command) != (self.conn, self.command):
            return False
        return other.text == self.text if isinstance(self.text, bytes) else orjson.loads(other.text) == self.text


@dataclass(eq=False)
class Asked:
    """Expect a call, by its request line; headers and body are looked at where a test asks for them.

    Its tag is compared by the `Player` alone, which knows what the script's names stand for.
    """

    tag: str
    line: str
    route: Route = Route.HTTP
    urgent: bool = False
    cancel: bool = False
    body: bytes = b""
    headers: Mapping[str, str] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Call):
            return False
        request = other.request
        return (
            other[2:5] == (self.route, self.urgent, self.cancel)
            and f"{request.method} {request.target}" == self.line
            and request.body == self.body
            and (self.headers is None or dict(request.headers) == dict(self.headers))
        )


INPUTS = (
    messages.Opened, messages.Closed, messages.Received, messages.Replied, messages.CallLost, messages.VenueTimerFired,
    Kill, Read, Probe, Drill, Measure, Pause,
)  # fmt: skip
Step = Event | Kill | Read | Probe | Drill | Measure | Pause | Output | Frame | Asked


class Player:
    """Play scripts against one adapter; it remembers the time, and all that came out."""

    def __init__(self, adapter: Adapter, now: Instant = START) -> None:
        self.adapter = adapter
        self.now = now
        self.outputs: list[Output] = []
        self.strikes = 0  # the number of the last one
        self._told: list[str] = []
        self._tags: dict[str, str] = {}  # a script's name → the adapter's tag

    def __call__(self, *steps: Step) -> None:
        """Play a script; it may go on where the last one ended."""
        __tracebackhide__ = True
        rest = list(steps)
        while rest:
            step = rest.pop(0)
            assert isinstance(step, INPUTS), f"{step!r} comes out, but nothing has gone in that it could follow"
            self._told.append(f"  >> {_show(step)}")
            expected: list[object] = []
            while rest and not isinstance(rest[0], INPUTS):
                expected.append(rest.pop(0))
            self._compare(expected, list(self.put(step)))

    def put(self, step: object) -> Outputs:
        """Put one thing in, and return what comes out, without what is only made ready, and what is in `found`."""
        outputs: Outputs = ()
        if isinstance(step, messages.Replied | messages.CallLost | messages.VenueTimerFired):
            step = step._replace(tag=self._tag(step.tag))
        match step:
            case Kill(number):
                self.strikes = number or self.strikes + 1
                outputs = (*self.adapter.strike(self.now, self.strikes),)
            case Read():
                outputs = self.adapter.read(self.now)
            case Probe():
                outputs = self.adapter.keep_warm(self.now)
            case Drill():
                outputs = self.adapter.drill(self.now)
            case Measure():
                outputs = self.adapter.request_equity(self.now)
            case Pause(seconds):
                passed_ns = round(seconds * 1e9)
                self.now = Instant(self.now.mono_ns + passed_ns, self.now.wall_ns + passed_ns)
            case (
                messages.Opened()
                | messages.Closed()
                | messages.Received()
                | messages.Replied()
                | messages.CallLost()
                | messages.VenueTimerFired()
            ):
                outputs = self.adapter.handle(step, self.now)
            case _:
                raise AssertionError(f"{step!r} is no input")
        self.outputs.extend(outputs)
        return tuple(
            output for output in outputs if not isinstance(output, messages.PrepareFrame | messages.OrdersFound)
        )

    @property
    def found(self) -> list[messages.OrdersFound]:
        """Return what was told so far of new orders that lists have shown."""
        return [output for output in self.outputs if isinstance(output, messages.OrdersFound)]

    @property
    def newest_timer(self) -> messages.VenueTimerFired:
        """Return the end of the timer that the adapter itself has started last, whatever its tag; no call's timer."""
        tags = [output.tag for output in self.outputs if isinstance(output, WakeAfter)]
        return messages.VenueTimerFired(next(tag for tag in reversed(tags) if "#" not in tag))

    @property
    def calls(self) -> list[Call]:
        """Return every call so far."""
        return [output for output in self.outputs if isinstance(output, Call)]

    def _compare(self, expected: list[object], came: list[Output]) -> None:
        __tracebackhide__ = True
        differs = len(expected) != len(came)
        for number in range(max(len(expected), len(came))):
            wanted = expected[number] if number < len(expected) else None
            got = came[number] if number < len(came) else None
            if got is not None and wanted is not None and _same(self._tagged(wanted, got), got):
                self._told.append(f"  << {_show(got)}")
                continue
            differs = True
            if wanted is not None:
                self._told.append(f"- << {_show(wanted)}")
            if got is not None:
                self._told.append(f"+ << {_show(got)}")
        assert not differs, "the play went otherwise:\n" + "\n".join(self._told)

    def _tag(self, name: str) -> str:
        """Return the adapter's tag for a script's name; a name that has not come up may be `…#3`, the third call."""
        given = {output.tag for output in self.outputs if isinstance(output, WakeAfter | Call)}
        if name in self._tags or name in given or name in self.adapter.calls.pending:
            return self._tags.get(name, name)
        _, mark, number = name.rpartition("#")
        started = list(dict.fromkeys(call.tag for call in self.calls)) if mark else []
        return started[int(number) - 1] if number.isdigit() and 0 < int(number) <= len(started) else name

    def _tagged(self, wanted: object, got: Output) -> object:
        """Return what is expected with the adapter's tag in the place of the script's name for it."""
        if not isinstance(wanted, WakeAfter | Asked) or not isinstance(got, WakeAfter | Call):
            return wanted
        tag = self._tags.get(wanted.tag)
        if tag is None and got.tag not in self._tags.values():
            tag = self._tags[wanted.tag] = got.tag
        if tag is None:
            return wanted
        return replace(wanted, tag=tag) if isinstance(wanted, Asked) else wanted._replace(tag=tag)


def _same(wanted: object, got: Output) -> bool:
    """Compare; named tuples of different kinds are never the same, though Python says so."""
    if isinstance(wanted, Asked):
        return wanted == got and isinstance(got, Call) and wanted.tag == got.tag
    return wanted == got and (isinstance(wanted, Frame) or type(wanted) is type(got))


def _show(step: object) -> str:
    match step:
        case Call(tag, request, route, urgent, cancel, _):
            line = f"{request.method} {request.target}"
            return f"Asked({tag!r}, {line!r}, {route!r}, {urgent=}, {cancel=}, body={request.body!r})"
        case Send(conn, text, command):
            return f"Frame({conn}, {text!r}, {command=})"
        case _:
            return repr(step)


def payload(name: str) -> Any:
    """Return an example payload of a venue's documents, `venue/name`."""
    return orjson.loads((PAYLOADS / f"{name}.json").read_bytes())


def hears(conn: int, message: object) -> Received:
    """Let a frame with this JSON value come in."""
    return Received(conn, orjson.dumps(message))


def answer(tag: str, body: object, status: int = 200) -> Replied:
    """Let an answer come in; a body that is not bytes goes as JSON."""
    return Replied(tag, status, {}, body if isinstance(body, bytes) else orjson.dumps(body))
