"""Play one cell: two accounts, one behind the fault and one healthy; a kill; and what became of both.

The product's own parts run here as a direct kill wires them (adapters, lanes, dispatcher, engine, journal), against
real sockets and TLS. What a cell may come to:

    cleared   the venue's own book is empty, and the verdict is CONFIRMED
    honest    not so within the deadline, and said: RESIDUE aloud, and a verdict that claims nothing. The fault is then
              ended, and the account must be cleared soon: the chase has not been given up
    FAIL      anything else: a claim that the book belies, silence, the other account kept waiting, a broken journal
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from kill_switch.core.commands import Announce
from kill_switch.core.domain import LaneState, Phase, Verdict
from kill_switch.core.sweep_state import UNREAD_NS
from kill_switch.journal import journal

from .catalog import FAULTS, Fault
from .loop_monitor import Gauge
from .system_under_test import Product
from .venue_process import HOST
from .venue_process_client import Failed, Late, Link, Moment

ORDERS = 5
OTHERS: Mapping[str, str] = {"oxfun": "kuna"}  # the healthy account's venue: oxfun, unless that is the victim's
READY_WITHIN_S = 10.0
CLEAR_WITHIN_S = 5.0  # without a fault
OTHER_WITHIN_S = 3.0  # the healthy account, from the reason to its proof, whatever floods us: 0.3 to 1 s by itself
SPOKEN_WITHIN_S = 4.0  # beyond the deadline of RESIDUE
HEALED_WITHIN_S = 25.0  # lanes wait up to 10 s before they come back, strikes up to 5
SETTLE_S = 0.2
GIVE_UP_S = 240.0  # by the clock on the wall: a machine that is so slow shows nothing
GIVE_UP_TIMES = 4.0  # or so many times what the cell may take by its own clock: where lists lag, they are up to 4 min
BOTS = ("requote", "late_order")  # faults that place orders of their own after a clean read


@dataclass(slots=True)
class Outcome:
    """What a cell came to."""

    fault: str
    venue: str
    moment: str
    text: str
    ok: bool
    took_s: float
    said: list[str] = field(default_factory=list)  # what the product has announced, for a failure's sake
    stall_s: float = 0.0
    growth_mib: float = 0.0
    other_s: float = 0.0  # what the healthy account took
    reported: str = "clear"  # what was said of the victim before the fault ended: clear, left or unknown
    unreported: int = 0  # orders that rested while the account was said to be clear
    late: bool = False  # it has failed by the clock alone


@dataclass(slots=True)
class Seen:
    """What is known of a cell, whether or not it holds what is promised."""

    other_s: float | None = None  # how long the healthy account was on its way to its proof
    reported: str = "clear"
    unreported: int = 0


async def play(fault: str, venue: str, moment: str, world: str, gauge: Gauge) -> Outcome:
    """Play a cell and say what it came to; nothing is raised."""
    began_s = time.monotonic()
    announcements: list[Announce] = []
    seen, late = Seen(), False
    try:
        async with asyncio.timeout(GIVE_UP_S) as limit:
            text = await _play(FAULTS[fault], venue, moment, world, announcements, gauge, seen, limit)
        ok = True
    except Exception as error:
        first = _first(error)
        text, ok, late = f"FAIL {first}", False, isinstance(first, Late)
    lines = [f"{news.level}: {news.account or ''} {news.text}" for news in announcements]
    return Outcome(
        fault,
        venue,
        moment,
        text,
        ok,
        time.monotonic() - began_s,
        lines,
        other_s=seen.other_s or 0.0,
        late=late,
        reported=seen.reported,
        unreported=seen.unreported,
    )


def _first(error: BaseException) -> Failed:
    """Return what went wrong first, whatever it is wrapped in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return Late("it came to no end")
    return error if isinstance(error, Failed) else Failed(repr(error))


async def _play(
    fault: Fault,
    venue: str,
    moment: str,
    world: str,
    announcements: list[Announce],
    gauge: Gauge,
    seen: Seen,
    limit: asyncio.Timeout,
) -> str:
    began_s = asyncio.get_running_loop().time()
    link = Link(*await asyncio.open_unix_connection(world), gauge)
    venues = {"victim": venue, "other": OTHERS.get(venue, "oxfun")}
    host = HOST if fault.names else "127.0.0.1"
    with tempfile.TemporaryDirectory(prefix="kill-switch-cell-") as scratch:
        proxied = fault.mode is not None
        entries = await link.do("open", **venues, host=host, proxy=proxied, options=dict(fault.options or {}))
        with gauge.aside():
            product = Product(Path(scratch), entries, venues)
        product.said = announcements
        try:
            async with anyio.create_task_group() as group:
                with gauge.aside():
                    product.connect(group)
                script = _Script(fault, moment, link, product, seen)
                limit.reschedule(began_s + max(GIVE_UP_S, GIVE_UP_TIMES * script.longest_s))
                text = await script.run()
                group.cancel_scope.cancel()
        finally:
            link.close()
            product.names.close()
            with gauge.aside():
                product.journal.close()
        replay = journal.read_journal(product.journal.path)
        if replay.broken or replay.torn:
            raise Failed(f"the journal does not verify: {replay.broken}")
        if bugs := [news.text for news in announcements if news.level == "bug"]:
            raise Failed(bugs[0])
    return text


class _Script:
    """What happens in a cell, in order."""

    def __init__(self, fault: Fault, moment: str, link: Link, product: Product, seen: Seen) -> None:
        self._seen = seen
        self._fault, self._moment, self._link, self._product = fault, moment, link, product
        self._lies: list[str] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._fired = self._on = Moment(0.0, 0.0)
        self._other_own_s = 0.0
        self._said_before = 0

    async def run(self) -> str:
        link, product = self._link, self._product
        await link.begin()
        await self._until(self._ready, READY_WITHIN_S, "the lanes never came up")
        for who in ("victim", "other"):
            await link.do("rest", who=who, count=ORDERS)
        product.on_clear = self._cleared
        if self._moment == "before":
            await self._begin()
            await asyncio.sleep(SETTLE_S)
        self._fired = self._link.now()
        product.fire()
        if self._moment == "during":
            await self._begin()
            await link.do("rest", who="victim", count=3)  # a bot that quotes on
        elif self._moment == "after":
            await self._until(
                lambda: product.phase("victim") is Phase.CLEAR,
                CLEAR_WITHIN_S + self._lag_s,
                "not clear without a fault",
            )
            await self._begin()
            await link.do("rest", who="victim", count=3)
        return await self._judge()

    async def _begin(self) -> None:
        self._product.names.begin(self._fault.names)
        if self._fault.authorities:
            self._product.change_authorities()
        await self._link.do("on", fault=self._fault.name)
        self._on = self._link.now()
        self._said_before = len(self._product.said) if self._moment == "after" else 0

    @property
    def _lag_s(self) -> float:
        """Seconds that a proof takes more because the venue's lists may lag."""
        pace = self._product.pace
        return pace.list_lag_s + 2 * pace.read_gap_s if pace.list_lag_s else 0.0

    @property
    def _room_s(self) -> float:
        """Seconds from the reason by which reads have room again, where lists lag.

        There a proof, or first reads that fail for `UNREAD_NS`, may use up the part of the limit that reads have. The
        earliest of them leave the limit's window by its end; the last that never wait have left by `UNREAD_NS`.
        """
        return self._product.window_s + UNREAD_NS / 1e9 if self._product.pace.list_lag_s else 0.0

    @property
    def _spoken_s(self) -> float:
        """Seconds from the reason, or from the fault behind the proof, until RESIDUE is said at the latest."""
        return self._product.pace.residue_after_s + SPOKEN_WITHIN_S + (self._blind_s if self._moment == "after" else 0)

    @property
    def _proven_s(self) -> float:
        """Seconds until a proof in spite of a fault that does not end."""
        return max(self._fault.proven_within_s, self._room_s) + self._lag_s

    @property
    def longest_s(self) -> float:
        """Seconds that the cell takes at most, by its own clock."""
        ready_s = READY_WITHIN_S + (CLEAR_WITHIN_S + self._lag_s if self._moment == "after" else 0)
        if self._fault.proven_within_s:
            return ready_s + self._proven_s
        return ready_s + self._spoken_s + max(HEALED_WITHIN_S, self._room_s) + self._lag_s

    async def _judge(self) -> str:
        product = self._product
        since = self._on if self._moment == "after" else self._fired
        if self._fault.proven_within_s:  # said or not, it is to be proven while the fault lasts
            cleared = await self._settled(since.own_s + self._proven_s, until_residue=False)
            if not cleared:
                raise Failed(f"{product.phase('victim')} after {self._passed_s(since):.1f} s of late answers")
        else:
            cleared = await self._settled(since.own_s + self._spoken_s, until_residue=True)
        if self._seen.other_s is None or self._other_own_s > OTHER_WITHIN_S:
            raise Late(f"the healthy account was cleared after {self._seen.other_s} s")
        if cleared:
            self._check_verdict()
            return f"cleared {cleared.wall_s - since.wall_s:.2f} s"
        if product.phase("victim") is Phase.CLEAR:  # it has come to that just now
            cleared = await self._settled(self._link.now().own_s + self._blind_s + 1.0, until_residue=False)
            if cleared:
                self._check_verdict()
                return f"cleared {cleared.wall_s - since.wall_s:.2f} s"
        report = product.report("victim")
        if product.phase("victim") is Phase.CLEAR or report["verdict"] == Verdict.CONFIRMED:
            self._seen.unreported = await self._link.book()
            raise Failed(f"claims {report['verdict']} while {self._seen.unreported} orders rest")
        if not self._alarmed():
            raise Failed(f"{product.phase('victim')} after {self._passed_s(since):.1f} s, and nothing was said")
        if self._fault.harmless:
            raise Late(f"not cleared in spite of a fault that must not matter: {self._alarms()}")
        self._seen.reported = "left" if report["left"] else "unknown"
        what = f"honest: RESIDUE/{report['verdict']} + alarm {self._passed_s(since):.1f} s"
        self._product.names.trouble = ""
        await self._link.do("off")
        healed = self._link.now()
        within_s = max(HEALED_WITHIN_S, since.own_s + self._room_s - healed.own_s) + self._lag_s
        cleared = await self._settled(healed.own_s + within_s, until_residue=False)
        if not cleared:
            left = await self._link.book()
            raise Failed(f"{what}; then {product.phase('victim')}, {left} left, {within_s:g} s after the fault")
        self._check_verdict()
        return f"{what}, then cleared {cleared.wall_s - healed.wall_s:.1f} s"

    @property
    def _blind_s(self) -> float:
        """How long CLEAR may stand while nothing can be read."""
        pace = self._product.pace
        return 2 * pace.guard_every_s + 2 * pace.read_within_s + 1.0  # found when the next read fails, or is too late

    def _passed_s(self, since: Moment) -> float:
        return time.monotonic() - since.wall_s

    async def _settled(self, until_own_s: float, *, until_residue: bool) -> Moment | None:
        """Return since when the account has been clear with an empty book, or None if it is not to be."""
        product = self._product
        since: Moment | None = None
        lying: Moment | None = None
        while (now := self._link.now()).own_s < until_own_s:
            if self._lies:
                raise Failed(self._lies[0])
            waits = now.own_s - self._fired.own_s < OTHER_WITHIN_S and self._seen.other_s is None
            book = await self._link.book()
            clear = product.phase("victim") is Phase.CLEAR
            since = (since or now) if clear and not book else None
            lying = (lying or now) if clear and book else None
            if since and now.own_s - since.own_s > 0.4 and not waits:
                return since
            if lying and now.own_s - lying.own_s > self._blind_s:
                self._seen.unreported = book
                raise Failed(f"CLEAR for {self._passed_s(lying):.1f} s while {book} orders rest")
            if until_residue and not since and self._alarmed() and not waits:
                return None
            await asyncio.sleep(0.1)
        return since

    def _alarmed(self) -> bool:
        announcements = self._product.said[self._said_before :]
        return any(news.level == "residue" and news.account == "victim" for news in announcements)

    def _alarms(self) -> str:
        return "; ".join(news.text for news in self._product.said if news.level == "residue")

    def _check_verdict(self) -> None:
        report = self._product.report("victim")
        if report["verdict"] != Verdict.CONFIRMED or report["left"]:
            raise Failed(f"clear, and reported as {report['verdict']} with {report['left']} left")

    def _cleared(self, account: str) -> None:
        """Compare a claim with the venue's book at once; only a bot may have been quicker."""
        if account == "other":
            if self._seen.other_s is None:
                self._seen.other_s = self._passed_s(self._fired)
                self._other_own_s = self._link.now().own_s - self._fired.own_s
            return

        async def compare() -> None:
            if (book := await self._link.book()) and not any(name in BOTS for name, _ in self._fault.sim):
                self._seen.unreported = book
                self._lies.append(f"said to be proven clear while {book} orders rest")

        if not (self._moment == "after" and not self._on.wall_s):
            task = asyncio.get_running_loop().create_task(compare())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    def _ready(self) -> bool:
        sessions = self._product.dispatcher.sessions.values()
        return all(s.ws.state is LaneState.UP and s.http.state is LaneState.UP for s in sessions)

    async def _until(self, true: Callable[[], bool], within_s: float, otherwise: str) -> None:
        until_s = self._link.now().own_s + within_s
        while not true():
            if self._link.now().own_s > until_s:
                raise Late(otherwise)
            await asyncio.sleep(0.02)
