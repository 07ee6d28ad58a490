"""Make up, by seed, what happens: accounts, a bot, faults, reasons, re-arms, crashes; and run it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from kill_switch.core.domain import Phase, Reason
from kill_switch.core.events import RearmAsked
from kill_switch.core.list_lag import proved_ns
from kill_switch.errors import CannotCreate
from kill_switch.journal.latch_file import leave_latch, sync_latch

from .daemon_under_test import Crashed, Life
from .disk import Disk
from .oracle import STUCK_S, Judge
from .scheduler import World, installed
from .simulated_account import VENUES, House

MEMORY = Path("/dev/shm")  # a directory in memory; each seed has its own, of mode 0700, in it
CALM_S = 3.0  # the guard has looked once more by then
AGAIN_S = 0.25
LATE_ANSWERS = 8  # of a strike, a cancel by id, a look-up and two reads, some of them twice
DEAR_S = 400.0  # more, where lists cost much: what is given up for being late has used the same limit
RESTART_S = 1.0
COVERS_LESS = frozenset({"partial_list", "unlisted"})  # faults that `_plan_lists` plans
ONE_LIST = ("crosstrade", "kraken", "kraken-futures", "oxfun")  # at which a read has one list of all orders
FIRST_VENUES = ("crosstrade", "kuna", "oxfun", "roxom")
SHOWS_LESS = frozenset(  # faults that `_plan_sessions` plans; what lists of a past moment hide, nobody can know
    "lose_push late_push vanish expire_token hang_login read_only_key ip_refused stale_reads empty_reads".split()
)
SLOW_S = 15.0  # where lists lag for so long, a proof takes longer than most stories
DRILL_S = 3.0  # a re-arm waits that long for its read-back


@dataclass(frozen=True)
class Outcome:
    seed: int
    found: tuple[str, ...]
    digest: str
    lines: int
    tripped: bool
    ended_s: float
    settled_s: float  # from the end of the faults until everything was clear
    crashes: int
    cuts: int  # crashes that took the machine with them
    commands: int
    rearmed: int
    residues: int
    told_to_wait: int
    switched: int = 0  # accounts that a reload had log in as others
    stayed: int = 0  # reloads that were refused
    trace: tuple[str, ...] = ()
    error: BaseException | None = None

    @classmethod
    def failed(cls, seed: int, what: str) -> Outcome:
        return cls(seed, (what,), "", 0, False, 0.0, 0.0, 0, 0, 0, 0, 0, 0)


class Story:
    """One seed's story."""

    def __init__(
        self, world: World, directory: Path, venue: str | None, options: Mapping[str, object] | None = None
    ) -> None:
        self.world = world
        self.judge = Judge(self.world)
        self.chance = self.world.plan
        self.directory = directory
        self.crashes = self.rearmed = self.edits = 0
        self.former: list[House] = []  # logins that a reload has put out of the file
        self.last_s = 0.0  # until then something is still to happen
        self.late: tuple[House, dict[str, Any]] | None = None  # whose answers are late, when all else is well, too
        self.life: Life
        self.silenced_s = 0.0  # how long a silence lasts at most
        self._power = False
        for name in ("state", "run"):
            (directory / name).mkdir(parents=True)
        self.disk = world.disk = Disk(world, self.judge, directory / "state", directory / "run")
        chance = self.chance
        self.calm_s = chance.uniform(6, 18)
        self.approvals = 2 if chance.random() < 0.15 else 1
        self._newer = Random(f"newer venues of {self.world.seed}")  # noqa: S311 - to be repeated
        kinds = [venue or self._kind(chance) for _ in range(chance.choice((1, 2, 2, 3)))]
        self.houses = {
            (name := f"{kind}-{number}".replace(":", "-")): House(self.world, name, kind, self.judge, chance, options)
            for number, kind in enumerate(kinds, 1)
        }
        self.judge.houses = self.houses
        self._join()

    def _join(self) -> None:
        """Have the venues share what the real ones share: they are asked from one address."""
        venues = [house.venue for house in self.houses.values()]
        for venue in venues:
            venue.joined(venues)

    def _kind(self, chance: Random) -> str:
        """Return the venue of an account; the newer ones are drawn apart, so that other stories are as they were."""
        kind = chance.choice(FIRST_VENUES)
        newer = [name for name in VENUES if name not in FIRST_VENUES]
        return self._newer.choice(newer) if newer and self._newer.random() < 0.3 else kind

    # the plan

    def plan(self) -> None:
        chance = self.chance
        for house in self.houses.values():
            self._plan_house(house)
        if chance.random() < 0.5:
            for _ in range(chance.choice((1, 1, 1, 2, 3))):
                self._plan_reason(chance.uniform(0.3, self.calm_s))
            for _ in range(chance.choice((0, 1, 2, 4))):
                self._plan_rearm(self.calm_s + 6)
        for _ in range(chance.choice((0, 0, 1))):
            self._plan_rearm(self.calm_s)
        if chance.random() < 0.08:
            self._plan_stubborn(chance.choice(list(self.houses.values())))
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            self._plan_crash(chance.uniform(0.2, self.calm_s))
        if chance.random() < 0.2:
            for _ in range(chance.randrange(1, 4)):
                jump_s = chance.choice((0.2, -0.2, 5.0, -5.0, 40.0, -40.0, 3600.0, -3600.0))
                self._at(chance.uniform(0, self.calm_s), self._jump, jump_s)
        self._plan_disk()
        sessions = Random(f"sessions 28 of {self.world.seed}")  # noqa: S311 - drawn apart: other stories are as they were
        fail = sessions.random() < 0.6
        for house in self.houses.values():
            self._plan_lists(house)
            if fail:
                self._plan_sessions(house, sessions)
        if self.world.more.random() < 0.15:
            self._plan_held(self.world.more.choice(list(self.houses.values())))
        if self.world.later_still.random() < 0.15:
            house = self.world.later_still.choice(list(self.houses.values()))
            self._plan_late(house)
        clocks = Random(f"clocks of {self.world.seed}")  # noqa: S311 - drawn apart: the rest of a story is as it was
        if clocks.random() < 0.15:
            self._plan_wrong_start(clocks)
        logins = Random(f"{self.world.seed} logs in")  # noqa: S311 - to be repeated
        if logins.random() < 0.2:
            self._plan_logins(logins)
        for house in self.houses.values():
            if house.kind == "crosstrade":
                self._plan_relay(house, Random(f"relay {self.world.seed} {house.name}"))  # noqa: S311 - to be repeated
        lags = Random(f"lists of {self.world.seed} lag")  # noqa: S311 - drawn apart: other stories are as they were
        for house in self.houses.values():
            if "stale_reads" in house.venue.supported and lags.random() < 0.15:
                self._plan_lag(house, lags)
        slow = Random(f"late re-arms of {self.world.seed}")  # noqa: S311 - drawn apart: other stories are as they were
        lag_s = max(house.awaited_lag_s for house in self.houses.values())
        if lag_s >= SLOW_S and slow.random() < 0.4:
            for _ in range(slow.choice((2, 4))):
                at_s = slow.uniform(lag_s, self.calm_s + 2 * lag_s)
                self._at(at_s, self._ask_rearm, self._some(slow), slow.random() < 0.2, True, slow.choice((1000, 1001)))
        silences = Random(f"silences of {self.world.seed}")  # noqa: S311 - drawn apart: other stories are as they were
        if silences.random() < 0.2:
            self._plan_silence(silences)
        self._at(self.calm_s, self._calm)

    def _plan_silence(self, chance: Random) -> None:
        """Have people silence a trigger, which sees a reason then, while others fire, and the process dies or reloads.

        What it sees goes on or passes; who silenced it may end that, or do it again for another time.
        """
        begins_s, for_s = chance.uniform(0.2, self.calm_s / 2), chance.choice((1.0, 3.0, 8.0, 20.0))
        self.silenced_s = for_s
        self._at(begins_s, self._silence, for_s, 1000)
        if self.approvals > 1 and chance.random() < 0.8:
            self._at(begins_s + chance.uniform(0.1, 1), self._silence, for_s, 1001)
        for _ in range(chance.choice((1, 1, 2))):
            sees_s = begins_s + chance.uniform(-0.2, for_s + 0.5)
            passes_s = sees_s + chance.choice((0.5, 2.0, 100.0))
            self._at(sees_s, self._see, self._some(chance), passes_s)
        within_s = begins_s + min(for_s, self.calm_s / 2)
        if chance.random() < 0.3:
            self._at(chance.uniform(begins_s, within_s), self._reason, self._some(chance), "flag")
        if chance.random() < 0.1:
            self._at(chance.uniform(begins_s, within_s), self._direct, self._some(chance))
        if chance.random() < 0.2:
            self._at(chance.uniform(begins_s, within_s), self._silence, chance.choice((1.0, 8.0)), 1000)
        if chance.random() < 0.2:
            self._at(chance.uniform(begins_s, within_s), self._end_silence)
        if chance.random() < 0.4:
            at_s = chance.uniform(begins_s, within_s)
            self._at(at_s, self._crash_soon, chance.randrange(1, 60), chance.random() < 0.4)
        if chance.random() < 0.2:
            at_s, name = chance.uniform(begins_s, within_s), chance.choice(list(self.houses))
            self._at(at_s, self._log_in, name, "key", chance)

    def _plan_lag(self, house: House, chance: Random) -> None:
        """Have a venue's lists lag for ever, as its sheet says; orders that a strike misses hide in them."""
        house.lag_s = chance.choice((0.6, 5.0, 20.0) if house.awaited_lag_s >= 20 else (0.6, 2.0, 5.0))
        house.lag()
        for _ in range(chance.choice((4, 12))):
            self._at(chance.uniform(0, self.calm_s), house.lag)
        at_s = chance.uniform(0.3, self.calm_s - 1)
        self._at(at_s - 0.01, self._rest, house, 2)
        self._at(at_s - 0.005, self._fault, house, "accept_but_keep", {})
        self._at(at_s, self._reason, (house.name,), "pnl")
        self._at(at_s + chance.uniform(1, 9), self._fault_ends, house, "accept_but_keep")
        if chance.random() < 0.6:  # nobody hears of the orders that are placed meanwhile
            self._at(at_s - 0.02, self._fault, house, "lose_push", {"push": "order", "share": 1.0})
            self._at(at_s + chance.uniform(0, 0.1), self._fault_ends, house, "lose_push")

    def _plan_wrong_start(self, chance: Random) -> None:
        """Have our wall clock be wrong when the first process starts, and set right while it runs."""
        off_s = chance.choice((3600.0, 86_400.0, 7 * 86_400.0, 365 * 86_400.0)) * chance.choice((1, -1))
        self._jump(off_s)
        self._at(chance.uniform(0.05, self.calm_s), self._jump, -off_s)

    def _plan_logins(self, chance: Random) -> None:
        """Have reloads give names other logins: while all is well, and while a kill is under way or over."""
        if self.calm_s > 13 and chance.random() < 0.5:  # orders that no cancel takes stay behind at the old login
            name, at_s = chance.choice(list(self.houses)), chance.uniform(11.5, self.calm_s)
            self._at(0.1, self._rest, self.houses[name], 1)
            self._at(0.2, self._fault, self.houses[name], "accept_but_keep", {})
            self._at(0.3, self._reason, (name,), "pnl")
            self._at(at_s, self._log_in, name, "key", chance)
            self._at(at_s + chance.uniform(1, 4), self._ask_rearm, (name,), False, True, 1000)
        for _ in range(chance.choice((1, 2, 4))):
            at_s, name = chance.uniform(0.5, self.calm_s), chance.choice(list(self.houses))
            if chance.random() < 0.7:
                self._at(at_s, self._reason, (name,), "pnl")
                at_s += chance.uniform(0.2, 5)
            if chance.random() < 0.2:
                self._at(at_s, self._crash_soon, chance.randrange(1, 60), chance.random() < 0.4)
            if chance.random() < 0.15:
                kind = chance.choice(("hangs", "hangs", "full", "fails"))
                self._at(at_s, self._disk_fault, kind, True)
                self._at(at_s + chance.choice((0.05, 0.5)), self._disk_fault, kind, False)
                self._at(at_s + chance.uniform(0, 1), self._crash_soon, chance.randrange(1, 60), False)
            self._at(at_s, self._log_in, name, chance.choice(("key", "key", "place", "swap", "back")), chance)
            if chance.random() < 0.5:
                self._at(at_s + chance.uniform(0.2, 6), self._ask_rearm, (name,), chance.random() < 0.2, True, 1000)

    def _plan_relay(self, house: House, chance: Random) -> None:
        """Have another program use the tokens up, and NinjaTrader not show an account; with a chance of its own."""
        if chance.random() < 0.3:
            began_s = chance.uniform(0, self.calm_s)
            self._at(began_s, self._fault, house, "foreign_use", {"per_s": chance.choice((1, 3, 8))})
            self._at(began_s + chance.uniform(1, 20), self._fault_ends, house, "foreign_use")
        if chance.random() < 0.3:
            began_s, name = chance.uniform(0, self.calm_s), chance.choice(house.venue.categories)
            how = chance.choice(("hidden", "cut_off"))
            self._at(began_s, self._unseen, house, how, name)
            self._at(began_s + chance.uniform(0.5, 20), self._unseen, house, how, "")

    def _plan_disk(self) -> None:
        chance = self.world.more
        if chance.random() < 0.1:  # a latch file, and the power goes while it is taken over
            at_s = chance.uniform(0.5, self.calm_s - 1)
            self._at(at_s, self._direct, tuple(self.houses))
            self._at(at_s + 0.06, self._disk_fault, "slow", True)
            self._at(at_s + chance.uniform(0.1, 1.5), self._crash_soon, chance.randrange(1, 30), True)
            self._at(at_s + 3, self._disk_fault, "slow", False)
        if chance.random() < 0.1:  # a reason that the disk has no room for, and then the process is gone
            at_s, kind = chance.uniform(0.5, self.calm_s - 1), chance.choice(("full", "short"))
            self._at(at_s, self._disk_fault, kind, True)
            self._at(at_s + 0.05, self._reason, self._some(chance), "pnl")
            self._at(at_s + chance.uniform(0.05, 1.5), self._crash_soon, chance.randrange(1, 30), chance.random() < 0.4)
            self._at(at_s + 2, self._disk_fault, kind, False)
        threads = self.world.threads
        if threads.random() < 0.1:
            at_s = threads.uniform(0.5, self.calm_s)
            self._at(at_s, self._displace, threads.choice(("removed", "emptied", "cut")))
        if threads.random() < 0.15:
            began_s = threads.uniform(0.05, self.calm_s)
            self._at(began_s, self._disk_fault, "hangs", True)
            self._at(began_s + threads.choice((0.05, 0.5, 3.0)), self._disk_fault, "hangs", False)
            if threads.random() < 0.5:
                self._at(began_s + threads.uniform(0, 1), self._reason, self._some(threads), "pnl")
            if threads.random() < 0.5:
                self._at(began_s + threads.uniform(0, 1), self._crash_soon, threads.randrange(1, 60), False)
        for _ in range(chance.choice((0, 0, 0, 0, 1, 2))):
            began_s, kind = chance.uniform(0.05, self.calm_s), chance.choice(("full", "short", "fails", "slow"))
            self._at(began_s, self._disk_fault, kind, True)
            self._at(began_s + chance.choice((0.1, 1.0, 4.0, 8.0)), self._disk_fault, kind, False)

    def _plan_held(self, house: House) -> None:
        """Have a cancel without an answer wait for a second connection that opens slowly, and a re-arm meanwhile."""
        chance = self.world.more
        at_s = chance.uniform(1, self.calm_s - 5)
        self._at(at_s - 0.1, self._slow_opening, house, chance.uniform(2, 4.5))
        self._at(at_s - 0.1, self._fault, house, "drop_reply", {"on": "cancel", "times": chance.choice((2, 4, 20))})
        self._at(at_s, self._reason, (house.name,), "pnl")
        for _ in range(3):
            self._at(at_s + chance.uniform(1.2, 4.5), self._ask_rearm, (house.name,), chance.random() < 0.5, True, 1000)

    def _plan_late(self, house: House) -> None:
        """Have a venue answer late from some moment on, for ever: its account is to be proven clear all the same."""
        chance = self.world.later_still
        self.late = house, {"ms": chance.choice((2600, 5000, 8000)), "on": chance.choice(("read", "cancel", "all"))}
        began_s = chance.uniform(0.2, self.calm_s - 1)
        self._at(began_s, self._fault, house, "delay", self.late[1])
        if chance.random() < 0.7:
            self._at(began_s + chance.uniform(-0.2, 6), self._reason, (house.name,), "pnl")

    def _slow_opening(self, house: House, seconds: float) -> None:
        if self.world.ns < self.calm_s * 1e9:
            self.world.note(house.name, "connections open slowly")
            house.weather.opening_s = seconds

    def _plan_lists(self, house: House) -> None:
        """Have a venue's lists cover less than they seem to: one of them fails, or orders are in none of them."""
        chance, venue = self.world.lists, house.venue
        for name in sorted(venue.supported & COVERS_LESS - ({"partial_list"} if house.kind in ONE_LIST else set())):
            if chance.random() < 0.25:
                parameters: dict[str, Any] = {}
                if name == "partial_list":
                    parameters = {"list": chance.choice(venue.lists)}
                    parameters |= {"times": chance.choice((1, 2, 5))} if chance.random() < 0.5 else {}
                began_s = chance.uniform(0, self.calm_s)
                self._at(began_s, self._fault, house, name, parameters)
                if chance.random() < 0.5:
                    self._at(began_s + chance.choice((0.5, 2.0, 6.0)), self._fault_ends, house, name)
                for _ in range(chance.choice((1, 2, 4))):
                    self._at(began_s + chance.uniform(0, 4), self._rest_kind, house, chance.choice(venue.kinds))

    def _plan_sessions(self, house: House, chance: Random) -> None:
        """Have pushes be lost or late, logins expire or hang, keys lose what they may do, or one lane fail alone."""
        pushes = {"push": chance.choice(("order", "balance", "all")), "share": chance.choice((0.1, 0.5, 1.0))}
        lane = {"on": chance.choice(("ws", "http"))}
        faults: dict[str, dict[str, Any]] = {
            "lose_push": pushes,
            "late_push": {**pushes, "ms": chance.choice((200, 2000, 8000))},
            "vanish": {"seconds": chance.choice((0.5, 3, 10))},
            "expire_token": {},
            "hang_login": {"times": chance.choice((1, 3))},
            "read_only_key": {"times": chance.choice((1, 3, 10))},
            "ip_refused": {"times": chance.choice((1, 3, 10))},
            "partial_list": {"list": chance.choice((*house.venue.lists, *house.venue.reads))},
            "disconnect": lane,
            "half_open": lane,
            "maintenance": lane,
        }
        for name, parameters in faults.items():
            began_s, lasts_s, played = chance.uniform(0, self.calm_s), chance.choice((0.5, 2.0, 6.0)), chance.random()
            if name in house.venue.supported and played < 0.12:
                self._at(began_s, self._fault, house, name, parameters)
                self._at(began_s + lasts_s, self._fault_ends, house, name)

    def _rest_kind(self, house: House, kind: str) -> None:
        if self.world.ns < self.calm_s * 1e9 and len(house.book) < 12:
            house.rest(self.world.ids, kind, "".join(house.venue.categories[:1]))

    def _plan_reason(self, at_s: float) -> None:
        chance, scope = self.chance, self._scope()
        if chance.random() < 0.15:
            self._at(at_s, self._direct, scope)
        else:
            self._at(at_s, self._reason, scope, chance.choice(("flag", "pnl")))
        if chance.random() < 0.25:
            self._plan_crash(at_s + chance.choice((-0.0001, -0.0001, 0.001, 0.3)))
        if chance.random() < 0.15:  # another one, while the answers to the first come in
            self._at(at_s + chance.uniform(0, 0.5), self._reason, self._scope(), "pnl")

    def _plan_stubborn(self, house: House) -> None:
        """Have a venue keep its orders until the account is in RESIDUE, and somebody force the re-arm."""
        chance, scope = self.chance, tuple(self.houses)
        self._at(chance.uniform(0.3, 2), self._reason, scope, "flag")
        self._at(0.1, self._fault, house, chance.choice(("accept_but_keep", "drop_reply", "maintenance")), {})
        for _ in range(3):
            self._at(chance.uniform(11, self.calm_s + 3), self._ask_rearm, (house.name,), True, True, 1000)

    def _plan_rearm(self, until_s: float) -> None:
        chance = self.chance
        at_s, force, patient = chance.uniform(0.5, until_s), chance.random() < 0.3, chance.random() < 0.8
        self._at(at_s, self._ask_rearm, self._scope(), force, patient, chance.choice((1000, 1001)))
        if chance.random() < 0.2:
            self._plan_crash(at_s + chance.uniform(-0.01, 0.1))

    def _plan_crash(self, at_s: float) -> None:
        chance = self.chance
        steps = chance.randrange(1, chance.choice((10, 60, 400)))
        self._at(at_s, self._crash_soon, steps, chance.random() < 0.4)

    def _plan_house(self, house: House) -> None:
        chance, weather = self.chance, house.weather
        weather.base_s = chance.choice((0.002, 0.01, 0.03, 0.1))
        self._rest(house, chance.choice((0, 1, 3, 6)))
        rate = chance.choice((0.0, 0.0, 0.3, 1.0, 4.0))
        if rate:
            self._bot(house, rate)
        if chance.random() < 0.4:
            weather.spike, weather.spike_s = chance.choice((0.02, 0.1)), chance.choice((0.3, 2.0, 6.0))
        if chance.random() < 0.2:
            weather.double = 0.2
        for _ in range(chance.choice((0, 0, 1, 2, 5))):
            self._at(chance.uniform(0, self.calm_s), self._cut, house, chance.random() < 0.3, chance.random())
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            began_s = chance.uniform(0, self.calm_s)
            kind = chance.choice(("refuses", "dark"))
            self._at(began_s, self._outage, house, kind, True)
            self._at(began_s + chance.uniform(0.2, 6), self._outage, house, kind, False)
        for _ in range(chance.choice((0, 1, 1, 2, 4))):
            self._plan_fault(house)

    def _plan_fault(self, house: House) -> None:
        chance = self.chance
        spared = COVERS_LESS | SHOWS_LESS | {"foreign_use"} | ({"skew"} if house.remembers else set())  # planned apart
        name = chance.choice(sorted(house.venue.supported - spared))
        on = chance.choice(("cancel", "read", "login", "all"))
        times = {"times": chance.choice((1, 2, 5))} if chance.random() < 0.6 else {}
        parameters: dict[str, Any]
        match name:
            case "delay":
                parameters = {"ms": chance.choice((50, 500, 1500, 4000)), "on": on, **times}
            case "drop_reply" | "garble" | "truncate" | "reject_login" | "maintenance":
                parameters = {"on": on, **times}
            case "accept_but_keep" | "duplicate" | "reorder":
                parameters = times
            case "partial":
                parameters = {"keep": chance.choice((1, 2)), **times}
            case "pending":
                parameters = {"ms": chance.choice((30, 300, 3000)), "fill": chance.random() < 0.4, **times}
            case "refuse":
                parameters = {"status": chance.choice((400, 401, 403, 404, 409, 418, 500, 502, 503)), "on": on, **times}
            case "rate_limit":
                parameters = {"seconds": chance.choice((0.5, 3, 8)), "on": on}
            case "disconnect":
                parameters = {"on": on, "after": chance.random() < 0.5, **times}
            case "requote":
                parameters = {"times": chance.choice((1, 3, 20))}
            case "late_order":
                parameters = {"ms": chance.choice((1, 40, 400, 1500)), "times": chance.choice((1, 3))}
            case "skew":
                parameters = {"seconds": chance.choice((-60, -20, -2, 2, 20, 60))}
            case _:
                parameters = {}
        began_s = chance.uniform(0, self.calm_s)
        self._at(began_s, self._fault, house, name, parameters)
        if chance.random() < 0.7:
            self._at(began_s + chance.choice((0.5, 2.0, 6.0)), self._fault_ends, house, name)

    def _at(self, at_s: float, function: Callable[..., object], *arguments: Any) -> None:
        self.last_s = max(self.last_s, at_s)
        self.world.at(at_s, function, *arguments)

    def _scope(self) -> tuple[str, ...]:
        return self._some(self.chance)

    def _some(self, chance: Random) -> tuple[str, ...]:
        chosen = tuple(name for name in self.houses if chance.random() < 0.6)
        return chosen or tuple(self.houses)

    # what happens

    def _rest(self, house: House, count: int) -> None:
        venue, chance = house.venue, self.world.ids
        for _ in range(count):
            category = chance.choice(venue.categories) if venue.categories else ""
            house.rest(chance, chance.choice(("limit", "limit", "stop")), category)

    def _bot(self, house: House, rate: float) -> None:
        """Quote, as a bot does that knows nothing of the kill; now and then an order is filled."""
        if self.world.ns >= self.calm_s * 1e9:
            return
        if len(house.book) < 12:
            self._rest(house, 1)
        if house.book and self.world.ids.random() < 0.3:
            order = house.first_to_fill()
            if order is not None and house.account.trade(order, house.venue.now_ns(), house.venue.filled_as(order)):
                house.venue.push_orders(house.account, [order], "filled")
        self.world.later(self.world.ids.expovariate(rate), self._bot, house, rate)

    def _fault(self, house: House, name: str, parameters: dict[str, Any]) -> None:
        self.world.note(house.name, "fault", name, parameters)
        if self.world.ns < self.calm_s * 1e9:
            house.venue.put_fault(name, parameters)

    def _unseen(self, house: House, how: str, name: str) -> None:
        if self.world.ns < self.calm_s * 1e9 or not name:
            self.world.note(house.name, how, name or "nothing")
            house.venue.base_options.set(how, name)
            house.sight_ns = self.world.ns

    def _fault_ends(self, house: House, name: str) -> None:
        self.world.note(house.name, "no more", name)
        house.venue.clear_faults(name)

    def _cut(self, house: House, dark: bool, which: float) -> None:
        links = sorted(house.links, key=lambda link: link.number)
        if links:
            link = links[int(which * len(links))]
            self.world.note(house.name, "link", link.number, "goes dark" if dark else "is cut")
            if dark:
                link.go_dark()
            else:
                link.cut()

    def _disk_fault(self, kind: str, on: bool) -> None:
        self.disk.fault(kind, on and self.world.ns < self.calm_s * 1e9)

    def _displace(self, way: str) -> None:
        """Take the journal away; a reason may come; then, when that could be noticed, kill the process."""
        life, threads = self.life, self.world.threads
        if not life.alive or self.disk.sick or life.crash_in or self.world.ns > (self.calm_s - 0.5) * 1e9:
            return
        life.enter(life.journal.all)
        self.disk.displace(way)
        self.judge.displaced()
        if threads.random() < 0.5:
            self._at(self.world.ns / 1e9 + threads.uniform(0, 1), self._reason, self._some(threads), "pnl")
        self._at(self.world.ns / 1e9 + threads.uniform(1.2, 3), self._kill_now, life)

    def _kill_now(self, life: Life) -> None:
        if life.alive:
            self._power = False
            life.die()

    def _outage(self, house: House, kind: str, on: bool) -> None:
        on = on and self.world.ns < self.calm_s * 1e9
        self.world.note(house.name, "network", kind, on)
        setattr(house.weather, kind, on)
        if on and kind == "dark":
            for link in sorted(house.links, key=lambda link: link.number):
                link.go_dark()

    def _jump(self, seconds: float) -> None:
        if any(house.remembers for house in self.houses.values()):
            return
        self.world.note("our wall clock jumps by", seconds)
        self.world.wall_off_ns += int(seconds * 1e9)

    def _calm(self) -> None:
        self.world.note("CALM: no more faults")
        for house in (*self.houses.values(), *self.former):  # a reload may go back to one
            house.venue.clear_faults()
            house.lag()
            if house.kind == "crosstrade":
                self._unseen(house, "hidden", "")
                self._unseen(house, "cut_off", "")
            house.weather.calm()
        if self.late is not None:
            house, parameters = self.late
            house.venue.put_fault("delay", parameters)
        self.disk.heal()
        if self.life.alive:
            self.life.crash_in = 0

    def _still(self, named: tuple[str, ...]) -> tuple[str, ...]:
        """Return the accounts that are still called so; somebody may have edited the file."""
        return tuple(name for name in named if name in self.houses) or tuple(self.houses)

    def _reason(self, named: tuple[str, ...], trigger: str) -> None:
        """Report a reason; a flag is still there after a crash that has swallowed it."""
        life = self.life
        if not life.alive:
            self._at(self.world.ns / 1e9 + AGAIN_S, self._reason, named, trigger)
            return

        def report() -> None:
            scope = self._still(named)
            held = life.see(Reason(trigger, "it is so", scope, life.clock(), {"value": 1}))
            if held:  # it is so until it fires
                self._at(self.world.ns / 1e9 + AGAIN_S, self._reason, named, trigger)

        life.enter(report)
        if not life.alive and trigger == "flag":
            self._at(self.world.ns / 1e9 + AGAIN_S, self._reason, named, trigger)

    def _see(self, named: tuple[str, ...], passes_s: float) -> None:
        """Have a trigger see a reason, and report it at each look until it fires, or the reason passes."""
        life, now_s = self.life, self.world.ns / 1e9
        if now_s > passes_s:
            return
        fired = False

        def see() -> None:
            nonlocal fired
            fired = not life.see(Reason("pnl", "it is so", self._still(named), life.clock(), {"value": 1}))

        life.enter(see)
        if not fired:
            self._at(now_s + AGAIN_S, self._see, named, passes_s)

    def _silence(self, for_s: float, uid: int) -> None:
        self.life.enter(self.life.silence, "pnl", int(for_s * 1e9), uid)

    def _end_silence(self) -> None:
        self.life.enter(self.life.end_silence, "pnl", "by user-1000")

    def _direct(self, named: tuple[str, ...]) -> None:
        """Leave a latch in a file, as a direct kill does."""
        scope = self._still(named)
        reason = Reason("operator", "direct", scope, self.world.now(), {})
        if leave_latch(self.directory / "state", self.directory / "run", reason):
            self.judge.latch_left(scope)
            self.world.later(self.disk.takes_s(), self._direct_synced, self.world.boots)

    def _direct_synced(self, boot: int) -> None:
        if self.world.boots == boot:
            sync_latch(self.directory / "state", self.directory / "run")

    def _ask_rearm(self, named: tuple[str, ...], force: bool, patient: bool, uid: int) -> None:
        """Ask as `rearm` does: have what is clear read once more, wait for that, then put it before the gate.

        Who is not patient does not wait, and gets the answer that is due to that.
        """
        life, scope = self.life, self._still(named)
        if not life.alive:
            return
        since_ns = self.world.mono_ns

        def prove() -> None:
            for name in scope:
                if life.dispatcher.state.accounts[name].phase is Phase.CLEAR:
                    life.dispatcher.sessions[name].read_back(is_prompt=True)
            life.enter_later(0.01 if patient else 0, ask)

        def ask() -> None:
            accounts = [life.dispatcher.state.accounts[name] for name in scope]
            waiting = any(a.phase is Phase.CLEAR and a.sweep and proved_ns(a.sweep) < since_ns for a in accounts)
            if patient and waiting and life.world.mono_ns - since_ns < DRILL_S * 1e9:
                life.enter_later(0.01, ask)
                return
            life.journal.append("rearm-asked", {"uid": uid, "accounts": scope}, life.clock())
            life.journal.sync()
            life.enter_later(0.03, ask_on)

        def ask_on() -> None:
            if not life.journal.is_on_record:
                return
            later = [name for name in scope if life.dispatcher.last_reason_ns.get(name, 0) >= since_ns]
            blockers = tuple(f"{name}: a reason was reported after this was asked for" for name in later)
            asked = RearmAsked(uid, f"user-{uid}", "all well", scope, force, blockers, life.clock(), since_ns)
            granted = getattr(life.rearm(asked), "accounts", ())
            self.rearmed += len(granted)

        life.enter(prove)

    # crash and restart

    def _crash_soon(self, steps: int, power: bool) -> None:
        if self.life.alive and not self.life.crash_in and self.world.ns < self.calm_s * 1e9:
            self._power, self.life.crash_in = power and not self.disk.displaced, steps

    def start(self) -> None:
        if self.disk.hangs:
            self._at(self.world.ns / 1e9 + RESTART_S, self.start)
            return
        try:
            life = Life(self.world, self.houses, self.judge, self.directory, self.approvals)
        except CannotCreate as error:
            self.world.note("does not start:", str(error).rpartition("/")[2])
            if not self.disk.sick:
                self.judge.wrong(f"does not start: {error}")
            self._at(self.world.ns / 1e9 + RESTART_S, self.start)
            return
        self.life = life
        life.crashed = self._crashed
        if self.crashes and self.chance.random() < 0.2 and self.world.ns < self.calm_s * 1e9:
            life.crash_in = self.chance.randrange(1, 120)  # again, before it stands
            self._power = self.world.more.random() < 0.3
        try:
            life.begin()
        except Crashed:
            life.die()
        else:
            self.judge.look(life)

    def _crashed(self) -> None:
        self.crashes += 1
        life, chance = self.life, self.chance
        for house in self.houses.values():
            house.heard_ids.clear()
            for link in sorted(house.links, key=lambda link: link.number):
                if self._power:
                    link.dark = True  # nobody tells the venue
                link.cut("the process is gone")
        path = self.directory / "state" / "journal.jsonl"
        if self._power:
            durable, size = self.disk.kept, path.stat().st_size
            left = chance.choice((durable, size, chance.randint(durable, size)))
        self.judge.died(life, self._power)
        if self._power:
            self.disk.cut(left)
            self.world.reboot()
        elif self.world.later_still.random() < 0.25 and self.judge.nothing_is_between():
            self._edit()
        self._power = False
        self._at(self.world.ns / 1e9 + chance.uniform(0.05, 2.5), self.start)

    def _edit(self) -> None:
        """Have somebody edit the file while no daemon runs: accounts swap their names, or one gets another."""
        chance, names = self.world.later_still, list(self.houses)
        houses, name = dict(self.houses), chance.choice(names)
        match chance.choice(("swap", "rename", "another")):
            case "swap" if len(names) > 1:
                other = chance.choice([one for one in names if one != name])
                houses[name], houses[other] = houses[other], houses[name]
            case "another":  # another login under the same name; the old one is in no file any more
                houses[name] = self._another(name, self._kind(chance), chance)
            case _:
                self.edits += 1
                houses = {f"{one}-{self.edits}" if one == name else one: house for one, house in houses.items()}
        self.world.note("EDITED", *(f"{one}={house.host}" for one, house in houses.items()))
        for one, house in houses.items():
            house.name = one
        self.houses.clear()
        self.houses.update(houses)
        self.judge.edited()

    def _another(self, name: str, kind: str, chance: Random, host: str = "") -> House:
        """Make a login that no file has had so far."""
        self.edits += 1
        house = House(self.world, name, kind, self.judge, chance)
        house.host = host or f"{name}-{self.edits}.test"
        house.weather.base_s = 0.01
        house.venue.joined([*(one.venue for one in self.houses.values()), house.venue])
        self._rest(house, chance.choice((0, 2)))
        return house

    def _log_in(self, name: str, how: str, chance: Random) -> None:
        """Edit the file so that a name stands for another login, and have the process that lives reload it."""
        if not self.life.alive:
            return
        houses = dict(self.houses)
        name = self._still((name,))[0]
        now, others = houses[name], [one for one in houses if one != name]
        former = [house for house in self.former if not house.remembers and house not in houses.values()]
        if how == "swap" and others:
            other = chance.choice(others)
            houses[name], houses[other] = houses[other], now
        elif how == "back" and former:
            houses[name] = chance.choice(former)
        elif how == "place":
            houses[name] = self._another(name, self._kind(chance), chance)
        else:
            houses[name] = self._another(name, now.kind, chance, now.host)
        self.life.enter(self.life.reload, houses, lambda: self._edited(houses))

    def _edited(self, houses: dict[str, House]) -> None:
        """Have these logins be in force, and the others in none: a crash in this moment finds the new file."""
        before = dict(self.houses)
        for one, house in houses.items():
            if before[one] is not house:
                house.name = one
                house.heard_ids.clear()
        for house in before.values():
            if house not in houses.values():
                house.name = f"{house.name}, as it was"
                self.former.append(house)
        self.houses.clear()
        self.houses.update(houses)
        self.judge.switched(before)

    # the whole

    def run(self) -> Outcome:
        world, judge = self.world, self.judge
        self.plan()
        self.start()
        world.run_until(self.calm_s)
        settled_s = 0.0
        step_s = self.calm_s
        within_s = STUCK_S
        if self.late is not None:  # each answer that the proof needs takes so much longer
            within_s += LATE_ANSWERS * self.late[1]["ms"] / 1000
            within_s += DEAR_S if self.late[0].cancels_by_symbol else 0.0
        # a list shows what is gone, then none
        within_s += 3 * max(house.awaited_lag_s for house in self.houses.values())
        within_s += max(house.window_s for house in self.houses.values())  # a kill may have used the venue's limit up
        within_s += 2 * self.silenced_s  # it holds reasons, in a new boot for as long again
        while not judge.found and step_s - self.calm_s < within_s:
            step_s += 0.5
            world.run_until(step_s)
            if self.life.alive and step_s >= self.last_s and judge.settled(self.life):
                settled_s = step_s - self.calm_s
                world.run_until(step_s + CALM_S)
                if judge.settled(self.life):
                    break
        else:
            if not judge.found:
                judge.unsettled(self.life, within_s)
        if self.life.alive:
            if not judge.found:
                judge.end(self.life, self.directory / "state" / "journal.jsonl")
            self.life.alive = False
            self.life.journal.let_go()
        tripped = any(phase is not Phase.ARMED for phase in judge.phases.values())
        return Outcome(
            world.seed, tuple(judge.found), world.digest, world.lines, tripped, world.ns / 1e9, settled_s, self.crashes,
            world.boots - 1, judge.commands, self.rearmed, judge.residues, judge.told_to_wait, judge.switches,
            judge.stays, tuple(world.kept or ()), judge.error,
        )  # fmt: skip


def tell(
    seed: int, venue: str | None = None, *, options: Mapping[str, object] | None = None, keep: bool = False
) -> Outcome:
    """Run one seed's story; `options` are those of all simulators."""
    base = MEMORY if MEMORY.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="kill-switch-simulation-", dir=base))
    logger = logging.getLogger("kill_switch")
    before = logger.level, logger.propagate, logger.handlers
    try:
        world = World(seed, keep=keep)
        with installed(world):
            story = Story(world, directory, venue, options)
            logger.handlers, logger.propagate = [story.judge.complaints], False
            logger.setLevel(logging.ERROR)
            return story.run()
    finally:
        logger.level, logger.propagate, logger.handlers = before
        logger.setLevel(before[0])
        shutil.rmtree(directory)
