"""Be the time, the chance and the record of one simulation: a heap of events, clocks, seeded draws and a trace.

Nothing waits and nothing is parallel. While a world is `installed`, the product's clock and the simulators' clocks,
timers and random ids are its own, so that a seed always tells the same story, down to the last signature.
"""

from __future__ import annotations

import hashlib
import heapq
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from kill_switch import clock
from kill_switch.core.domain import Instant
from kill_switch.journal import condenser, fsync, journal, latch_file, opening, writer
from kill_switch.sim.binance import signing as binance_keys
from kill_switch.sim.kit import exchange
from kill_switch.sim.roxom import payloads as roxom_wire
from kill_switch.transports import lane
from tests.harness.simulator_modules import modules_that_import

from . import disk as disks

if TYPE_CHECKING:
    from .disk import Disk

WALL_NS = 1_790_000_000_000_000_000
UPTIME_NS = 1_000_000_000_000
READING_NS = 1_000  # between two readings of the clock something has been done


class Appointment:
    """An event to come."""

    __slots__ = ("arguments", "cancelled", "function")

    def __init__(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """One simulation's time, chance and trace.

    `plan` decides what is to happen, `net` how long it takes and what is lost, `ids` what the simulators make up.
    `more` and `later_still` are for what was thought of later: drawing from them leaves the rest of a seed's story as
    it was.
    """

    def __init__(self, seed: int, *, keep: bool = False) -> None:
        self.seed = seed
        self.ns = 0  # true time since the beginning
        self.wall_off_ns = 0  # how far the wall clock of our machine is off
        self.plan, self.net, self.ids, self.more = (Random(seed * 4 + n) for n in range(4))  # noqa: S311 - to be repeated
        self.later_still = Random(f"{seed}, late answers, and logins that change")  # noqa: S311 - to be repeated
        self.lists = Random(f"{seed} lists")  # noqa: S311 - to be repeated
        self.threads = Random(f"the threads of {seed}")  # noqa: S311 - how long they take, and how small files are
        self.disk: Disk
        self.boot = "boot-1"
        self.boots = 1
        self.booted_ns = -UPTIME_NS
        self.kept: list[str] | None = [] if keep else None
        self.lines = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._heap: list[tuple[int, int, Appointment]] = []
        self._number = 0

    # time

    @property
    def mono_ns(self) -> int:
        return self.ns - self.booted_ns

    def now(self) -> Instant:
        self.ns += READING_NS
        return self.read()

    def read(self) -> Instant:
        """Return the time on our clocks, and have nothing done meanwhile."""
        return Instant(self.mono_ns, WALL_NS + self.ns + self.wall_off_ns)

    def reboot(self) -> None:
        """Begin a new boot: its monotonic clock starts anew."""
        self.boots += 1
        self.boot, self.booted_ns = f"boot-{self.boots}", self.ns

    def later(self, seconds: float, function: Callable[..., object], *arguments: Any) -> Appointment:
        made = Appointment(function, arguments)
        self._number += 1
        heapq.heappush(self._heap, (self.ns + max(0, int(seconds * 1e9)), self._number, made))
        return made

    def at(self, at_s: float, function: Callable[..., object], *arguments: Any) -> Appointment:
        return self.later(at_s - self.ns / 1e9, function, *arguments)

    def run_until(self, at_s: float) -> None:
        """Let everything happen that happens until then."""
        end_ns, heap = int(at_s * 1e9), self._heap
        while heap and heap[0][0] <= end_ns:
            at_ns, _, made = heapq.heappop(heap)
            if not made.cancelled:
                self.ns = max(self.ns, at_ns)
                made.function(*made.arguments)
        self.ns = max(self.ns, end_ns)

    # record

    def note(self, *words: object) -> None:
        """Put a line into the trace; its hash is over all of them."""
        line = f"{self.ns / 1e9:10.6f} {' '.join(map(str, words))}"
        self._hash.update(line.encode())
        self.lines += 1
        if self.kept is not None:
            self.kept.append(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


_here: list[World] = []


class _Time:
    """The simulators' `time`: a venue's clocks do not jump with ours."""

    @staticmethod
    def time() -> float:
        return (WALL_NS + _here[-1].ns) / 1e9

    @staticmethod
    def time_ns() -> int:
        return WALL_NS + _here[-1].ns

    @staticmethod
    def monotonic() -> float:
        return _here[-1].ns / 1e9

    @staticmethod
    def monotonic_ns() -> int:
        return _here[-1].ns


class _NoPause:
    @staticmethod
    def sleep(seconds: float) -> None:
        """Go on: nothing is parallel here."""


class _Loop:
    @staticmethod
    def call_later(seconds: float, function: Callable[..., object], *arguments: object) -> Appointment:
        return _here[-1].later(seconds, function, *arguments)


class _Asyncio:
    @staticmethod
    def get_running_loop() -> type[_Loop]:
        return _Loop


class _Secrets:
    @staticmethod
    def token_hex(size: int) -> str:
        return _here[-1].ids.randbytes(size).hex()

    token_urlsafe = token_hex

    @staticmethod
    def token_bytes(size: int) -> bytes:
        return _here[-1].ids.randbytes(size)

    @staticmethod
    def choice(letters: str) -> str:
        return _here[-1].ids.choice(letters)

    @staticmethod
    def randbelow(limit: int) -> int:
        return _here[-1].ids.randrange(limit)


class _Uuid:
    UUID = uuid.UUID

    @staticmethod
    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=_here[-1].ids.getrandbits(128), version=4)


class _PrivateKey:
    @staticmethod
    def generate() -> ed25519.Ed25519PrivateKey:
        return ed25519.Ed25519PrivateKey.from_private_bytes(_here[-1].ids.randbytes(32))


class _Ed25519:
    Ed25519PrivateKey = _PrivateKey
    Ed25519PublicKey = ed25519.Ed25519PublicKey


class _Jitter:
    @staticmethod
    def uniform(low: float, high: float) -> float:
        return _here[-1].net.uniform(low, high)


class _Os:
    urandom = _Secrets.token_bytes


_disk_os = disks.standin(_here)
_STANDINS: tuple[tuple[ModuleType, str, object], ...] = (
    *((module, "time", _Time) for module in modules_that_import("time")),
    *((module, "secrets", _Secrets) for module in modules_that_import("secrets")),
    *((module, "uuid", _Uuid) for module in modules_that_import("uuid")),
    *((module, "os", _disk_os) for module in (journal, latch_file, fsync, opening, writer)),
    (writer, "time", _NoPause),
    (exchange, "asyncio", _Asyncio),
    (roxom_wire, "os", _Os),
    (binance_keys, "ed25519", _Ed25519),
    (lane, "random", _Jitter),
)


def _sizes(world: World) -> Iterator[tuple[ModuleType, str, object]]:
    """Yield how small a file of the journal is full, and how soon records are only counted, in some seeds."""
    chance = world.threads
    if chance.random() < 0.5:
        yield writer, "FULL_BYTES", chance.choice((2_000, 6_000, 20_000))
    if chance.random() < 0.5:
        yield condenser, "MAX_VERBATIM", chance.choice((0, 3, 20))
        yield condenser, "REPEATS_EVERY_NS", chance.choice((300_000_000, 3_000_000_000))


@contextmanager
def installed(world: World) -> Iterator[None]:
    """Make `world` the time and the chance of the product's clock and of the simulators."""
    with ExitStack() as stack:
        for module, name, standin in (
            *_STANDINS,
            *_sizes(world),
            (clock, "now", world.now),
            (clock, "boot_id", lambda: world.boot),
        ):
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, standin)
        _here.append(world)
        stack.callback(_here.pop)
        yield
