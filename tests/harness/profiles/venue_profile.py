"""Define `VenueProfile`: what the tests that all venues share have to know of a venue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kill_switch.core.domain import CancelOutcome, Instant, Route, SweepTiming
from kill_switch.venues import VENUES
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.kit.readback import LOOK_UP
from kill_switch.venues.messages import Call, Opened, Outputs, Ready, Replied
from kill_switch.venues.request import Request
from tests.harness.venue_playbook import START, Pause, Player, Probe, answer, hears

SECOND_ROUTE_S = 0.06


@dataclass
class VenueProfile:
    """A venue's answers in the situations of the conformance table; bodies are JSON values, or bytes."""

    venue: str
    secrets: Callable[[], dict[str, str]]
    options: dict[str, Any] = field(default_factory=dict)
    strong: dict[str, Any] = field(default_factory=dict)  # options with which it has most to hide
    widest: dict[str, Any] = field(default_factory=dict)  # options with which a strike has most commands
    besides: dict[str, Any] = field(default_factory=dict)  # what an answer to a read has beside the orders, with these
    addresses: tuple[str, str] = ("", "")  # of production: WebSocket, REST
    timing: SweepTiming = field(default_factory=SweepTiming)  # that the venue's documented limits allow
    login: tuple[object, ...] = ()  # what the venue says on the WebSocket until the lane is ready
    refused_login: object = None
    login_refusals: tuple[tuple[object, str, bool], ...] = ()  # message → words of the reason, and whether it is fatal
    accepted: tuple[object, ...] = ()  # answers to a strike: it took the command
    refused: tuple[tuple[int, object], ...] = ()  # it said no
    unknown: tuple[tuple[int, object], ...] = ()  # it said something that is neither
    judged: tuple[tuple[int, object, CancelOutcome, str], ...] = ()  # → its outcome, and words of its evidence
    nothing: tuple[tuple[int, object], ...] = ()  # it proved nothing, and the other route is worth a try
    key_refused: tuple[int, object] = (401, None)
    probe_failures: tuple[tuple[int, object, str, bool], ...] = ()  # → words of the reason, and whether it is fatal
    listed: Callable[..., object] = lambda *ids, status: None  # ids and a status → the body of an order list
    pushed: Callable[[str, str], object] = lambda one, status: None  # an id and a status → a push
    # an id, or several with commas, if one call asks for several, … → the answer; None: there is no such call
    found: Callable[[str, str], object] | None = None
    forgotten: tuple[tuple[int, object], ...] = ()  # answers to the same call: there is no such order
    ids: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    gone: str = ""
    ends: tuple[str, ...] = ()  # every status of an order that has ended, in the spellings that are known
    pending: tuple[str, ...] = ()  # statuses of an order whose cancel is under way
    header: str = "api_key"  # the secret that each request carries as it is
    ws_first: bool = False  # it strikes over the WebSocket; in tests of a strike's calls that lane is gone
    signed: bool = True
    pings: tuple[bytes, ...] = ()  # frames that are no JSON, and that the venue answers or sends
    verb: str = ""  # what names the command in a cancel frame; "": the WebSocket carries none
    drilled: tuple[tuple[int, object], ...] = ()  # answers to a drill over HTTP that prove the order path
    not_drilled: tuple[tuple[int, object], ...] = ()  # that do not; `nothing` and `key_refused` do not either
    ws_drilled: Callable[[dict[str, Any]], object] | None = None  # a drill's frame → its answer, which proves the path
    ws_not_drilled: Callable[[dict[str, Any]], object] | None = None  # → one that does not
    worth: Callable[[Call], object] | None = None  # a call for figures → its answer's body; None: it has no figures
    equity: Mapping[str, str] = field(default_factory=dict)  # what they come to
    granted: Callable[[Call], object] | None = None  # a call that a login needs → its answer, None for another call
    token: str | None = None  # that such a call hands out: it is as secret as a key
    worded: Callable[[str], object] | None = None  # words → a refusal that has them; None: as its `message`
    reads_by_post: bool = False  # every private request is a POST: its target names what it does
    signature: str = "ignature"  # part of the name of the header of a request's signature
    waits: bool = False  # a read-back waits for what the rate limit refuses, and does not fail
    settle_s: float = 0.0  # what it does when its lanes come up costs tokens that are back after that long
    signed_ms: Callable[[Request], int] | None = None  # the time in a request's signature; None: none is signed
    target: Callable[[str], str] = str  # a request's target → what is the same in each copy of it
    fans_out: str = ""  # a strike has a command for each symbol, for example for this one; "": it has one for all
    granted_later: tuple[object, ...] = ()  # messages behind the login: grants of further subscriptions
    asks: Callable[[Call], str] | None = None  # a look-up → the id; None: it ends the target or the body
    not_fatal: bool = False  # `refused_login` says that a session has ended, and another one may be opened

    def make(self, secrets: Mapping[str, str] | None = None, **options: Any) -> Adapter:
        kind = VENUES[self.venue]
        return kind(kind.Options(**{**self.options, **options}), secrets or self.secrets(), SECOND_ROUTE_S)

    def player(self) -> Player:
        return Player(self.make())

    def ready(self, conn: int = 1) -> Player:
        """Return a player with a WebSocket and an HTTP lane that are ready, and an empty book."""
        settle_ns = round(self.settle_s * 1e9)
        player = Player(self.make(), Instant(START.mono_ns - settle_ns, START.wall_ns - settle_ns))
        self.log_in(player, conn)
        self.answer(player, player.put(Opened(Route.HTTP, 0)))
        assert {output.route for output in player.outputs if isinstance(output, Ready)} == {Route.WS, Route.HTTP}
        player.put(Pause(self.settle_s))
        return player

    def answer(self, player: Player, outputs: Outputs, *ids: str) -> Outputs:
        """Answer the reads, and the lists that follow from the answer to a probe; return all that comes of them."""
        came: Outputs = ()
        for call in outputs:
            if isinstance(call, Call):
                answers = player.put(self.reads(call, *ids))
                lists = tuple([out for out in answers if isinstance(out, Call) and not out.tag.startswith(LOOK_UP)])
                came += (*answers, *(self.answer(player, lists, *ids) if lists else ()))
        return came

    def probe_lists(self, player: Player, *ids: str, after_s: float = 5.0) -> Outputs:
        """Probe until every list has been read, and let these orders be shown; return all that comes of it."""
        came: Outputs = ()
        adapter = player.adapter
        if getattr(adapter, "probe_request", None) is not None:
            after_s = type(adapter).LISTS_EVERY_S + 1  # type: ignore[attr-defined]  # a lighter request is the probe until then
        for _ in adapter.book.lists:
            player.put(Pause(after_s))
            came += self.answer(player, player.put(Probe()), *ids)
        return came

    def open(self, player: Player, conn: int) -> Outputs:
        """Let a WebSocket connection come up, and answer the calls that its login needs."""
        outputs = player.put(Opened(Route.WS, conn))
        for call in outputs:
            if isinstance(call, Call) and self.granted is not None and (body := self.granted(call)) is not None:
                outputs += player.put(answer(call.tag, body))
        return outputs

    def log_in(self, player: Player, conn: int) -> Outputs:
        """Let a WebSocket connection come up and log in."""
        outputs = self.open(player, conn)
        for message in (*self.login, *self.granted_later):
            outputs += player.put(hears(conn, message))
        return outputs

    def is_read(self, request: Request) -> bool:
        """Return whether a request changes nothing."""
        if not self.reads_by_post:
            return request.method == "GET" or request.target.endswith("/listenKey")
        return "ancel" not in request.target

    def reads(self, call: Call, *ids: str, status: str = "") -> Replied:
        """Answer a read; all orders are in the first list of several."""
        lists = self.make().read(START)
        first = self.target(next(output for output in lists if isinstance(output, Call)).request.target)
        target = self.target(call.request.target)
        if self.granted is not None and target != first and (body := self.granted(call)) is not None:
            return answer(call.tag, body)
        found = ids if target == first else ()
        return answer(call.tag, self.listed(*found, status=status or self.live[0]))


SLOW: tuple[tuple[int, object], ...] = ((500, b""), (502, b"<html>"), (503, b"{}"), (200, b"{"), (200, b"[]"))
