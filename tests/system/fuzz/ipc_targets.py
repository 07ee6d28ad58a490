"""Fuzz what other processes say: datagrams to the intake, lines on the control socket, lines of the process beside."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from random import Random

import orjson

from kill_switch.control import server
from kill_switch.core.domain import Instant, Reason
from kill_switch.json_line import to_json_line
from kill_switch.system.host_port import HostPort
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.intake.datagrams import MAX_BYTES, sign
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.intake.stamp_judge import MAX_RECENT, MAX_SENDERS, NEW_WITHIN_MS
from kill_switch.triggers.pnl.baseline import ResetTime
from kill_switch.triggers.pnl.limits import PnlLimits
from kill_switch.triggers.pnl.terms import PnlTerms
from kill_switch.triggers.pnl.trigger import PnlTrigger
from kill_switch.triggers.stall_clock import StallClock
from kill_switch.venues.messages import Call, Replied
from kill_switch.worker.client import Exposure, JobResult, MetricsSnapshot, WorkerClient, _PendingJob
from tests.harness.control_harness import ANN, ENVIRON, ControlHarness
from tests.harness.venue_playbook import START
from tests.harness.virtual_time import VirtualTimeLoop

from .mutate import mutate_bytes, mutate_json
from .target import Target, must

KEY = b"an-intake-key-0123456789"
OTHER_KEY = b"another-intake-key-01234"


class Ears:
    """An intake without sockets, and one trigger of each kind that listens to it."""

    def __init__(self) -> None:
        self.now = START
        attention = StallClock(self.clock)
        self.intake = Intake(Path("intake.sock"), None, None, clock=self.clock)
        beat = {"clock": self.clock, "attention": attention, "drain": lambda: None}
        heartbeats = {
            "quoter-alive": HeartbeatTrigger("quoter-alive", ("a",), 3.0, "first-beat", True, **beat),  # type: ignore[arg-type]
            "strict": HeartbeatTrigger("strict", ("a",), 3.0, "boot", False, **beat),  # type: ignore[arg-type]
        }
        limits = PnlLimits(Decimal(100), Decimal(100), Decimal(0))
        terms = PnlTerms("USD", {}, limits, 2, 30.0, (), ResetTime(0, 0, "UTC"), False, 6.0)
        self.pnl = PnlTrigger(
            "daily-loss",
            ("a",),
            terms,
            clock=self.clock,
            attention=attention,
            record=self._nothing,
            announce=self._nothing,
        )
        self.intake.configure(heartbeats, {"daily-loss": self.pnl})

    def clock(self) -> Instant:
        return self.now

    def _nothing(self, *told: object) -> None:
        """Hear what nobody asks for here."""


class IntakeTarget(Target):
    """A datagram that is not signed is never taken where there is a key; no single figure trips anything."""

    NAME = "intake"

    def __init__(self) -> None:
        self._old = Ears()

    def seeds(self) -> Iterable[bytes]:
        at = START.wall_ns / 1e9
        for payload in (
            b"quoter-alive",
            b"strict\n",
            b'{"beat":"quoter-alive"}',
            b'{"bye":"quoter-alive"}',
            b'{"beat":"quoter-alive","from":"quoter-1"}',
            b'quoter-alive\nstrict\x00{"bye":"strict"}',
            b'{"bye":"strict"}',
            b'{"pnl":"daily-loss","equity":"101234.5","at":%f}' % at,
            b'{"pnl":"daily-loss","equity":-1e5,"at":%d}' % at,
        ):
            yield payload
            yield sign(payload, KEY, START.wall_ms)
            yield sign(payload, KEY, START.wall_ms + NEW_WITHIN_MS)
            yield sign(payload, KEY, START.wall_ms - NEW_WITHIN_MS - 1)
            yield sign(payload, OTHER_KEY, START.wall_ms)

    def mutate(self, random: Random, data: bytes) -> bytes:
        words = ("quoter-alive", "strict", "daily-loss", "1e5", "-0", "nan")
        at = data.find(b"{")
        if at < 0 or random.random() < 0.4:
            return mutate_bytes(random, data, self.pool)
        payload = mutate_json(random, data[at:], self.pool, words, ("beat", "bye", "pnl", "equity", "at", "from"))
        return sign(payload, KEY, START.wall_ms) if at and random.random() < 0.7 else data[:at] + payload

    def take(self, data: bytes) -> None:
        for key in (None, KEY):
            ears = Ears()
            taken = ears.intake.on_datagram(data, key)
            must(isinstance(taken, bool), "an answer that is none")
            if taken:
                must(len(data) <= MAX_BYTES, "a datagram that is too long is taken")
                must(key is None or _signed(data), "a datagram is taken that nobody has signed")
                must(
                    any(name in data for name in (b"quoter-alive", b"strict", b"daily-loss", b"\\u")), "nobody is meant"
                )
                must(key is None or not ears.intake.on_datagram(data, key), "a signed datagram is taken twice")
            self._looked(ears)
        if len(data) < MAX_BYTES - 100:
            plain, signed = Ears().intake, Ears().intake
            same = plain.on_datagram(data, None) == signed.on_datagram(sign(data, KEY, START.wall_ms), KEY)
            must(same, "a signature makes a difference to what a datagram says")
        for key in (None, KEY):
            self._old.intake.on_datagram(data, key)
        ms = 1_000_000
        self._old.now = Instant(self._old.now.mono_ns + ms, self._old.now.wall_ns)

    def _looked(self, ears: Ears) -> None:
        reasons: list[Reason] = []
        ears.pnl._look(reasons.append)
        must(not reasons, "one figure trips")
        figure = next(iter(ears.pnl._samples.last.values()))
        must(figure is None or abs(figure.worth) < 10**18, "an absurd figure is one")
        ears.pnl.state()
        for trigger in ears.intake.heartbeats.values():
            trigger.state()

    def age(self) -> None:
        ears, self._old = self._old, Ears()
        for table in ears.intake.stamp_judge._tables.values():
            must(len(table.senders) <= MAX_SENDERS, "senders are remembered without end")
            must(len(table.recent) <= MAX_RECENT, "stamps are remembered without end")


def _signed(data: bytes) -> bool:
    parts = data.split(b" ", 2)
    if len(parts) != 3 or not parts[0].isdigit():
        return False
    wanted = hmac.new(KEY, parts[0] + b" " + parts[2], hashlib.sha256).hexdigest().encode()
    return parts[1] == wanted and abs(int(parts[0]) - START.wall_ms) <= NEW_WITHIN_MS


class ControlTarget(Target):
    """A line gets one answer, in JSON; only a `fire` trips, and states a reason, and nothing shows a secret."""

    NAME = "control"

    def __init__(self) -> None:
        self._loop = VirtualTimeLoop()
        self._directory = Path()
        self._begin()

    def _begin(self) -> None:
        self._directory = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

        async def make() -> ControlHarness:
            return ControlHarness(self._directory, "a", "b")

        self._office = office = self._loop.run_until_complete(make())
        office.dispatcher._announce = lambda said: office.operators.notify_changed()
        for name, lane in office.lanes.items():
            lane.call = self._answers(name)  # type: ignore[assignment, method-assign]

    def _answers(self, name: str) -> Callable[[Call], None]:
        """Make a lane whose venue has no orders, and says so at once."""
        session = self._office.dispatcher.sessions[name]

        def call(call: Call) -> None:
            session.on_sent(call.route, call.tag)
            self._loop.call_soon(session.on_lane_event, Replied(call.tag, 200, {}, b""))

        return call

    def seeds(self) -> Iterable[bytes]:
        for request in (
            {"cmd": "status"},
            {"cmd": "report", "id": "last"},
            {"cmd": "fire", "reason": "desk on fire", "wait_s": 10},
            {"cmd": "fire", "reason": "x", "scope": ["a"], "wait_s": 0.5},
            {"cmd": "fire", "reason": "x", "dry_run": True},
            {"cmd": "fire"},
            {"cmd": "rearm", "reason": "all well", "scope": ["a", "b"], "force": True},
            {"cmd": "rearm", "reason": "all well"},
            {"cmd": "drill", "scope": []},
        ):
            yield json.dumps(request).encode()

    def mutate(self, random: Random, data: bytes) -> bytes:
        keys = ("cmd", "reason", "scope", "wait_s", "dry_run", "force", "id")
        words = ("status", "fire", "rearm", "report", "drill", "a", "b", "nobody", "last", "k1-0")
        line = mutate_json(random, data, self.pool, words, keys)
        return line.replace(b"\n", b" ")

    def take(self, data: bytes) -> None:
        office = self._office
        before = set(office.dispatcher.state.tripped)
        answer = self._loop.run_until_complete(server._answer(data, ANN, office.operators.handlers()))
        line = to_json_line(answer)
        told = orjson.loads(line)
        must(isinstance(told, dict) and line.count(b"\n") == 1, "an answer that is no line of JSON")
        must("internal error" not in str(told.get("error")), f"the answer {told.get('error')!r}")
        must("error" not in told or isinstance(told.get("exit"), int), "an error without an exit code")
        must(not any(secret.encode() in line for secret in ENVIRON.values()), "a secret is shown")
        tripped = set(office.dispatcher.state.tripped)
        if tripped - before:
            request = server._request(data)
            must(request.get("cmd") == "fire" and not request.get("dry_run"), "tripped by what is no fire")
            must(all(each["text"].strip() for each in told.get("reasons", ())), "tripped without a reason")
        if tripped:
            self._loop.run_until_complete(self._rearm())
            must(not office.dispatcher.state.tripped, "a re-arm that does not help")
        for kept in (office.trace, office.announced):
            kept.clear()

    async def _rearm(self) -> None:
        await self._office.settle()
        await server._answer(b'{"cmd":"rearm","reason":"next"}', ANN, self._office.operators.handlers())

    def age(self) -> None:
        self._office.journal.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._begin()

    def close(self) -> None:
        self._office.journal.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._loop.close()


class AideTarget(Target):
    """Whatever a library prints into the pipe of the process beside, the daemon goes on listening."""

    NAME = "aide"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def seeds(self) -> Iterable[bytes]:
        yield b'{"id":1,"ok":true}\n'
        yield b'{"id":1,"ok":false,"why":"exit code 1","code":1,"ms":5,"output":"x"}\n'
        yield b'{"asks":1}\n'
        yield b'{"trouble":"127.0.0.1:9464: Address already in use"}\n'
        yield b'{"trouble":""}\n'
        yield b'{"beat":0}\n'
        yield b'{"begun":1}\n'

    def mutate(self, random: Random, data: bytes) -> bytes:
        keys = ("id", "ok", "why", "code", "ms", "output", "lost", "asks", "trouble", "beat", "begun")
        return mutate_json(random, data, self.pool, ("id", "ok"), keys)

    def take(self, data: bytes) -> None:
        troubles: list[str] = []
        aide = WorkerClient(
            exposure=Exposure(HostPort("127.0.0.1", 9464), lambda: MetricsSnapshot(()), troubles.append)
        )
        future: asyncio.Future[JobResult] = self._loop.create_future()
        aide._waiting[1] = _PendingJob("", future)
        aide._hear(data)
        if future.done():
            must(isinstance(future.result().ok, bool), "an outcome that is none")
            str(future.result().why)
        must(all(isinstance(trouble, str) for trouble in troubles), f"words that are none: {troubles!r}")

    def close(self) -> None:
        self._loop.close()


LINE_TARGETS: tuple[type[Target], ...] = (IntakeTarget, ControlTarget, AideTarget)
