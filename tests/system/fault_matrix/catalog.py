"""List the faults: what a simulator can do, what a network can do, and what each is allowed to cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kill_switch.sim.kit.faults import SPECS

from . import malformed_bytes
from .proxy import Mode

Parameters = Mapping[str, object]

MOMENTS = ("before", "during", "after")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong. It ends only when the account was cleared in spite of it, or has been reported as not clear."""

    name: str
    sim: tuple[tuple[str, Parameters], ...] = ()  # the simulator's own faults
    mode: Mode | None = None  # what the proxy becomes
    down_s: float | None = None  # the simulator is gone for so long; 0: until the fault ends
    names: str = ""  # what becomes of host names, as `product.NameServer` has it
    authorities: bool = False  # the victim's file names another authority from then on
    harmless: bool = False  # the account must be cleared all the same
    heavy: bool = False  # floods: few at a time, and memory is measured
    options: Parameters | None = None  # of the simulator
    pushed: bool = False  # it is for venues alone that are sure to push orders: without, nobody can see through it
    proven_within_s: float = 0.0  # it does not end, and the account is proven clear by then in spite of it; 0: it may


def _sim(name: str, *faults: tuple[str, Parameters], proven_within_s: float = 0.0) -> Fault:
    return Fault(name, sim=faults, proven_within_s=proven_within_s)


def _net(name: str, mode: Mode, *, heavy: bool = False) -> Fault:
    return Fault(name, mode=mode, heavy=heavy)


def _answer(name: str, shape: malformed_bytes.Shape, *, heavy: bool = False) -> Fault:
    return Fault(f"answer: {name}", mode=Mode(shape=shape), heavy=heavy)


def _legal(name: str, shape: malformed_bytes.Shape) -> Fault:
    return Fault(f"legal: {name}", mode=Mode(shape=shape), harmless=True)


def _named(name: str, names: str) -> Fault:
    """Have the connections cut while something is wrong with the venue's name, and the venue itself well."""
    return Fault(name, mode=Mode(cut=True), names=names, harmless=True)


def _extended(head: bytes) -> bytes:
    """Grant a compression that was not asked for."""
    return head[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"


_CUT: tuple[str, Parameters] = ("disconnect", {})
_ALWAYS: Parameters = {"on": "all"}
_HARSH: Parameters = {"unknown": "harsh"}

# what the simulators play, each with the parameters that make it worst
_SIMULATED = (
    _sim("delay 400 ms", ("delay", {"ms": 400})),
    _sim("delay 5 s", ("delay", {"ms": 5000}), proven_within_s=40.0),
    _sim("delay 8 s", ("delay", {"ms": 8000}), proven_within_s=60.0),
    _sim("reads 5 s late", ("delay", {"ms": 5000, "on": "read"}), proven_within_s=40.0),
    _sim("drop_reply", ("drop_reply", {"on": "cancel"})),
    _sim("drop_reply to all", ("drop_reply", _ALWAYS)),
    _sim("accept_but_keep once", ("accept_but_keep", {"times": 1})),
    _sim("accept_but_keep", ("accept_but_keep", {})),
    _sim("partial", ("partial", {"keep": 2})),
    _sim("pending 600 ms", ("pending", {"ms": 600})),
    _sim("pending, then filled", ("pending", {"ms": 600, "fill": True})),
    _sim("refuse 400", ("refuse", {"status": 400})),
    _sim("refuse 500 to all", ("refuse", {"status": 500, "on": "all"})),
    _sim("rate_limit", ("rate_limit", {"seconds": 1.5})),
    _sim("garble", ("garble", {})),
    _sim("garble all", ("garble", _ALWAYS)),
    _sim("truncate", ("truncate", {})),
    _sim("truncate all", ("truncate", _ALWAYS)),
    _sim("half_open", ("half_open", {})),
    _sim("half_open, WebSocket", ("half_open", {"on": "ws"})),
    _sim("half_open, HTTP", ("half_open", {"on": "http"})),
    _sim("disconnect", _CUT),
    _sim("disconnect, WebSocket", ("disconnect", {"on": "ws"})),
    _sim("disconnect, HTTP", ("disconnect", {"on": "http"})),
    _sim("disconnect at the cancel", ("disconnect", {"on": "cancel", "times": 2})),
    _sim("disconnect behind the cancel", ("disconnect", {"on": "cancel", "times": 2, "after": True})),
    _sim("reject_login", ("reject_login", {}), _CUT),
    _sim("token expires", ("reject_login", _ALWAYS)),
    _sim("login hangs", ("drop_reply", {"on": "login"}), _CUT),
    _sim("hang_login", ("hang_login", {}), _CUT),
    _sim("expire_token", ("expire_token", {})),
    _sim("read_only_key", ("read_only_key", {})),
    _sim("ip_refused", ("ip_refused", {}), _CUT),
    _sim("maintenance", ("maintenance", {})),
    _sim("maintenance, WebSocket", ("maintenance", {"on": "ws"}), ("disconnect", {"on": "ws"})),
    _sim("maintenance, HTTP", ("maintenance", {"on": "http"})),
    _sim("requote", ("requote", {"times": 3})),
    _sim("late_order", ("late_order", {"ms": 150, "times": 2})),
    _sim("skew 2 min", ("skew", {"seconds": 120})),
    _sim("duplicate", ("duplicate", {})),
    _sim("reorder", ("reorder", {"ms": 50})),
    _sim("lose_push", ("lose_push", {})),
    _sim("lose_push, every second", ("lose_push", {"share": 0.5}), ("requote", {"times": 3})),
    _sim("late_push 1.5 s", ("late_push", {"ms": 1500}), ("requote", {"times": 3})),
    _sim("vanish", ("vanish", {})),
    _sim("vanish, back in 1.5 s", ("vanish", {"seconds": 1.5})),
    _sim("stale_reads 0.5 s", ("stale_reads", {"seconds": 0.5})),
    Fault("stale_reads 1.5 s", sim=(("stale_reads", {"seconds": 1.5}),), pushed=True),
    _sim("empty_reads once, orders kept", ("empty_reads", {"times": 1}), ("accept_but_keep", {"times": 1})),
    _sim("partial_list", ("partial_list", {})),
    _sim("partial_list, look-ups", ("partial_list", {"list": "order"}), ("unlisted", {}), ("requote", {"times": 3})),
    _sim("partial_list, orders kept", ("partial_list", {}), ("accept_but_keep", {"times": 2})),
    _sim("unlisted", ("unlisted", {}), ("requote", {"times": 3})),
    _sim("foreign_use at the limit", ("foreign_use", {"per_s": 3})),
)

# what the documents leave open, decided against us and for us; and faults on top of that
_UNKNOWN = (
    Fault("unknowns harsh", options=_HARSH),
    Fault("unknowns kind", options={"unknown": "kind"}, harmless=True),
    Fault("unknowns harsh, accept_but_keep once", sim=(("accept_but_keep", {"times": 1}),), options=_HARSH),
    Fault("unknowns harsh, no WebSocket", sim=(("half_open", {"on": "ws"}),), options=_HARSH),
    Fault("unknowns harsh, lose_push", sim=(("lose_push", {}),), options=_HARSH),
)

_NETWORK = (
    _net("certificate expired", Mode(certificate="expired", cut=True)),
    _net("certificate not valid yet", Mode(certificate="not yet", cut=True)),
    _net("certificate of another host", Mode(certificate="other host", cut=True)),
    _net("certificate of an unknown authority", Mode(certificate="unknown authority", cut=True)),
    _net("TLS 1.1", Mode(certificate="TLS 1.1", cut=True)),
    _net("no TLS", Mode(accept="plain", cut=True)),
    _net("closed at once", Mode(accept="close", cut=True)),
    _net("connection refused", Mode(accept="refuse", cut=True)),
    _net("accepted, then silence", Mode(accept="silent", cut=True)),
    _net("SYNs dropped", Mode(accept="full", cut=True)),
    _net("black hole", Mode(deaf=True)),
    Fault("names do not resolve", mode=Mode(cut=True, accept="refuse"), names="fail"),
    Fault("name server hangs", mode=Mode(cut=True, accept="refuse"), names="hang"),
    _named("resolver fails, venue well", "fail"),
    _named("resolver hangs, venue well", "hang"),
    _named("resolver is slow", "slow"),
    _named("resolver lies", "lie"),
    _named("resolver names nothing", "nothing"),
    _named("first address refuses", "refuses"),
    _named("first address drops SYNs", "drops"),
    _named("first address accepts and says nothing", "says nothing"),
    Fault("authorities change", mode=Mode(certificate="unknown authority", cut=True), authorities=True, harmless=True),
    Fault("venue killed, back in 1.5 s", mode=Mode(), down_s=1.5),
    Fault("venue killed", mode=Mode(), down_s=0),
    _answer("byte by byte", malformed_bytes.bytewise),
    _answer("dribbling", malformed_bytes.dribble),
    _answer("reset instead", malformed_bytes.reset),
    _answer("garbage", malformed_bytes.garbage),
    _answer("without a head", malformed_bytes.no_head),
    _answer("101", malformed_bytes.upgraded),
    _answer("status 999", malformed_bytes.status_999),
    _answer("204 with a body", malformed_bytes.no_content),
    _answer("two lengths", malformed_bytes.two_lengths),
    _answer("length and chunks", malformed_bytes.length_and_chunks),
    _answer("negative length", malformed_bytes.negative_length),
    _answer("signed length", malformed_bytes.signed_length),
    _answer("hidden chunks", malformed_bytes.hidden_chunks),
    _answer("overflowing chunk", malformed_bytes.overflowing_chunk),
    _answer("length too short", malformed_bytes.length_too_short),
    _answer("length too long", malformed_bytes.length_too_long),
    _answer("bad chunks", malformed_bytes.bad_chunks),
    _answer("a stale one behind it", malformed_bytes.doubled),
    _answer("a stale one soon after", malformed_bytes.doubled_late),
    _legal("ends with the connection", malformed_bytes.to_the_end),
    _legal("HTTP/1.0", malformed_bytes.http_1_0),
    _legal("folded lines", malformed_bytes.folded),
    _legal("one length, twice", malformed_bytes.equal_lengths),
    _legal("chunks, extensions, trailers", malformed_bytes.fancy_chunks),
    _legal("interim answers first", malformed_bytes.interim_first),
    _legal("closed, with something behind it", malformed_bytes.closed_with_more),
    _legal("compressed", malformed_bytes.compressed),
    _net("answer: unasked, then none", Mode(shape=malformed_bytes.unasked, unasked=True)),
    _answer("64 MiB", malformed_bytes.huge, heavy=True),
    _answer("64 MiB of JSON", malformed_bytes.huge_json, heavy=True),
    _answer("8 MiB of other JSON", malformed_bytes.large_json, heavy=True),
    _answer("endless body", malformed_bytes.endless_body, heavy=True),
    _answer("endless crumbs", malformed_bytes.endless_crumbs, heavy=True),
    _answer("endless headers", malformed_bytes.endless_headers, heavy=True),
    _answer("endless header", malformed_bytes.endless_header, heavy=True),
    _answer("endless status line", malformed_bytes.endless_status, heavy=True),
    _answer("endless interim answers", malformed_bytes.endless_interim, heavy=True),
    _answer("endless chunk extension", malformed_bytes.endless_chunk_extension, heavy=True),
    _answer("gzip bomb", malformed_bytes.gzip_bomb, heavy=True),
    _net("WebSocket byte by byte", Mode(pace=True)),
    _net("upgrade: wrong key", Mode(cut=True, upgrade=lambda head: head.replace(b"Accept: ", b"Accept: x", 1))),
    _net("upgrade: compression granted unasked", Mode(cut=True, upgrade=_extended)),
    _net("upgrade: endless headers", Mode(cut=True, upgrade=lambda head: head[:-2] + b"X-More: x\r\n" * 50_000)),
    _net("upgrade: 200", Mode(cut=True, upgrade=lambda head: malformed_bytes.answer(b"{}"))),
    *(_net(f"frame: {name}", Mode(inject=make)) for name, make in malformed_bytes.FRAMES.items()),
    *(_net(f"frames: {name}", Mode(flood=flood), heavy=True) for name, flood in malformed_bytes.FLOODS.items()),
)

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in (*_SIMULATED, *_UNKNOWN, *_NETWORK)}

assert {name for fault in _SIMULATED for name, _ in fault.sim} == set(SPECS), "a simulator's fault is not played"


def plays(venue_supports: frozenset[str], fault: Fault) -> bool:
    """Say whether a simulator has the fault."""
    return all(name in venue_supports for name, _ in fault.sim) and ("unlisted" in venue_supports or not fault.pushed)
