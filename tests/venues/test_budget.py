"""The requests that may leave are decided by its venue's pools, by who shares them and by what the venue shows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from kill_switch.core.domain import Instant, Order, OrderState, Route
from kill_switch.dispatch.account_status import UNANSWERED_S
from kill_switch.dispatch.connect import sweep_timings
from kill_switch.venues import VENUES
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.kit.account_limits import MAX_GUARD_S
from kill_switch.venues.kit.budget import Budget
from kill_switch.venues.kit.foreign_use import ForeignUse
from kill_switch.venues.kit.pool_count import PoolCount
from kill_switch.venues.kit.pools import IN_ALL, Cost, Demand, Pool, weights_of
from kill_switch.venues.kit.readback import REFRESH
from kill_switch.venues.messages import Call, Closed, Outputs, Replied, VenueTimerFired, WakeAfter
from kill_switch.venues.request import Request
from tests.harness.limited_venue import LimitedStreet, LimitedVenue
from tests.harness.venue_playbook import START, Kill, Pause, Player, Read, answer, hears
from tests.harness.venue_profiles import STANDS

WINDOW = Pool("minute", 300, window_s=60.0)
COUNTER = Pool("counter", 15, per_s=0.33)
STATED = Pool("weight", 600, window_s=60.0, is_stated=True)


def ns(seconds: float) -> int:
    return int((1000 + seconds) * 1e9)


def after(seconds: float) -> Instant:
    return Instant(ns(seconds), 0)


# ── one pool ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0, "per_s": 1.0},
        {"size": 5},
        {"size": 5, "per_s": 1.0, "window_s": 1.0},
        {"size": 5, "per_s": 1.0, "kept": 0.4},
    ],
)
def test_a_pool_that_is_no_limit_or_keeps_less_than_half_for_cancels_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="pool minute"):
        Pool("minute", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("pool", [WINDOW, COUNTER, Pool("second", 100, window_s=1.0)], ids=lambda pool: pool.name)
def test_a_caller_that_waits_for_room_uses_less_than_half_of_a_pool_at_any_time(pool: Pool) -> None:
    count, taken, now_s = PoolCount(pool), list[float](), 0.0
    period_s = pool.window_s or 60.0
    while now_s < 6 * period_s:
        now_s += count.wait_s(1, ns(now_s)) + 1e-6
        count.take(1, ns(now_s))
        taken.append(now_s)
    most = max(sum(one <= other < one + period_s for other in taken) for one in taken)
    assert most <= 0.5 * (pool.size if pool.window_s else pool.size + period_s * pool.per_s)
    assert len(taken) >= 0.4 * 0.5 * IN_ALL * pool.rate * 6 * period_s  # and it does get on


def test_requests_that_do_not_wait_put_the_others_off_by_a_few_only() -> None:
    count = PoolCount(WINDOW)
    for _ in range(100):
        count.take(1, ns(0))
    assert 0 < count.wait_s(1, ns(0)) <= 6 / WINDOW.read_rate


@pytest.mark.parametrize("pool", [WINDOW, COUNTER], ids=lambda pool: pool.name)
def test_reads_yield_once_cancels_have_used_half_of_a_pool_and_go_on_when_it_is_back(pool: Pool) -> None:
    count = PoolCount(pool)
    for _ in range(int(pool.size / 2)):
        count.commands.append((1, ns(0)))
    wait_s = count.wait_s(1, ns(1))
    assert 1 < wait_s <= (pool.window_s or pool.size / pool.per_s) * 1.1
    assert count.wait_s(1, ns(1 + wait_s + 0.001)) == 0


def test_requests_that_a_full_counter_cannot_have_counted_put_reads_off_no_longer_than_a_full_one() -> None:
    waits = []
    for requests in (15, 60):  # most of these were lost on the way, or refused
        count = PoolCount(COUNTER)
        for _ in range(requests):
            count.take(1, ns(0))
        waits.append(count.wait_s(1, ns(0)))
    assert waits[0] == pytest.approx(waits[1])


def test_a_request_heavier_than_all_that_reads_may_use_at_once_leaves_when_that_is_there() -> None:
    count = PoolCount(Pool("weight", 100, window_s=60.0))
    assert count.wait_s(40, ns(0)) == 0
    count.take(40, ns(0))
    assert 0 < count.wait_s(40, ns(0)) < 300


# ── what the venue shows ──────────────────────────────────────────────────────────────────────────────────────────────


def test_units_that_only_the_venue_has_counted_belong_to_other_programs_until_its_window_has_passed() -> None:
    count = PoolCount(WINDOW)
    for _ in range(30):
        count.take(1, ns(0))
    count.on_usage(180, ns(1))  # 150 are another program's
    assert count.share == 0.5
    count.on_usage(40, ns(2))  # the venue's own window has just begun
    assert count.share == 0.5
    count.on_usage(0, ns(62))
    assert count.share == 1


def stated(*statements: tuple[float, float, float]) -> ForeignUse:
    """Return what is known of other programs after statements (second, units in use, units of ours)."""
    use = ForeignUse(STATED)
    for at_s, used, ours in statements:
        use.state(used, ours, ours, ns(at_s))
    return use


def test_others_that_were_seen_are_expected_to_use_half_of_the_rest_until_their_growth_is_known() -> None:
    assert ForeignUse(STATED).expected(ns(0)) == stated((0, 0, 0)).expected(ns(3)) == 0
    assert stated((0, 100, 0)).expected(ns(3)) == 100 + 250
    assert stated((0, 100, 0), (2, 100, 0), (4, 100, 0)).expected(ns(4)) == 100


def test_others_that_have_just_begun_are_expected_to_go_on_as_fast() -> None:
    use = stated((0, 10, 0), (2, 20, 0), (4, 30, 0))
    assert use.units == 30 and use.expected(ns(4)) == pytest.approx(300)
    assert use.expected(ns(65)) == 30  # nothing has shown a growth for a minute


def test_however_fast_others_grow_they_are_expected_to_leave_half_of_the_rest() -> None:
    assert stated((0, 0, 0), (2, 100, 0), (4, 300, 0)).expected(ns(4)) == 300 + 150


@pytest.mark.parametrize(
    "statements",
    [
        [(0, 0, 0), (2, 0, 40), (2.1, 40, 40), (4.1, 40, 80), (4.2, 80, 80), (6.3, 80, 80)],
        [(0, 40, 40), (2, 80, 80), (4, 40, 80), (6, 40, 80), (8, 40, 80)],
    ],
    ids=["requests under way", "requests that a window forgets"],
)
def test_no_use_of_ours_is_taken_for_growth_of_another_program(statements: list[tuple[float, float, float]]) -> None:
    assert stated(*statements).expected(ns(statements[-1][0])) == 0


@pytest.mark.parametrize(("named_s", "pause_s"), [(7.0, 7.0), (0.0, 2.0), (9999.0, 120.0)])
def test_a_refusal_pauses_all_but_cancels_for_the_time_that_the_venue_names_or_for_two_seconds(
    named_s: float, pause_s: float
) -> None:
    count = PoolCount(WINDOW)
    count.on_refusal(named_s, ns(0))
    assert count.wait_s(1, ns(0)) == pytest.approx(pause_s)
    assert count.wait_s(1, ns(pause_s)) == 0


def test_a_pause_that_the_venue_does_not_name_grows_with_each_refusal_up_to_the_decay_to_half() -> None:
    count, now_s, pauses = PoolCount(WINDOW), 0.0, list[float]()
    for _ in range(6):
        count.on_refusal(0.0, ns(now_s))
        pauses.append(round(count.pause_s(ns(now_s)), 3))
        now_s += pauses[-1]
    assert pauses == [2, 4, 8, 16, 30, 30]


def test_each_refusal_halves_the_share_and_time_without_one_restores_it() -> None:
    count = PoolCount(WINDOW)
    count.on_refusal(1.0, ns(0))
    count.on_refusal(1.0, ns(0.5))  # of a request that was under way
    assert count.share == 0.5
    count.on_refusal(1.0, ns(3))
    assert count.share == 0.5  # no read has left meanwhile: only commands are refused
    count.take(1, ns(4.5))
    count.on_refusal(1.0, ns(5))
    assert count.share == 0.25
    for at_s, share in ((2000, 0.25), (2406, 0.5), (3007, 1.0)):
        count.wait_s(1, ns(at_s))
        assert count.share == share


def test_the_pool_that_is_fullest_by_our_count_is_the_one_that_has_refused() -> None:
    pools = (Pool("long", 1000, window_s=100.0), Pool("short", 10, window_s=1.0))
    budget = Budget(pools, (), Demand())
    for _ in range(9):
        budget.charge(Request("GET", "/", {}), after(0), command=False)
    budget.on_refusal(0.0, after(0.1))
    assert budget.counts["short"].share == 0.5 and budget.counts["long"].share == 1
    assert budget.pause_s(after(0.1)) == pytest.approx(0.5)


def test_a_cancel_that_is_accepted_again_ends_an_unnamed_pause_and_lets_a_kill_read_once() -> None:
    budget = Budget((WINDOW,), (), Demand())
    for at_s in (0, 2, 4):
        budget.on_refusal(0.0, after(at_s))
    assert budget.pause_s(after(4.5)) > 3
    budget.on_accepted(ns(3.9), after(4.5))  # it was under way when the last one was refused
    assert budget.pause_s(after(4.5)) > 3 and not budget.proof_ns
    budget.on_accepted(ns(4.4), after(4.5))
    assert budget.pause_s(after(4.5)) == pytest.approx(1 / WINDOW.rate) and budget.proof_ns == ns(4.7)
    assert not budget.refused_ns


def test_a_cancel_that_is_accepted_ends_no_pause_that_the_venue_has_named() -> None:
    budget = Budget((WINDOW,), (), Demand())
    budget.on_refusal(9.0, after(0), "wait")
    budget.on_refusal(0.0, after(1))
    budget.on_accepted(ns(1.5), after(1.6))
    assert budget.named_pause_s(after(1.6)) == pytest.approx(7.4)
    assert budget.named_pause_s(after(9.1)) == 0


def test_a_venue_that_states_no_limits_is_left_alone_for_the_pause_that_it_asks_for() -> None:
    budget = Budget((), (), Demand())
    budget.on_refusal(5.0, after(0), "slow down")
    budget.use({})  # a reload
    assert budget.pause_s(after(1)) == budget.named_pause_s(after(1)) == 4
    assert budget.pause_reason(after(1)) == "no read for 4.0 s, because the venue asks for a pause: slow down"
    assert budget.pause_s(after(5)) == 0 and budget.share == 0.5


# ── costs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

COSTS = (
    Cost("GET", "/openOrders?symbol=", (("weight", 1.0),)),
    Cost("GET", "/openOrders", (("weight", 40.0),)),
    Cost("POST", "/order", (("weight", 1.0), ("orders", 1.0))),
)
BOTH = (Pool("weight", 2400, window_s=60.0, shared_by="address"), Pool("orders", 100, window_s=10.0))


def test_the_first_cost_that_matches_counts_and_a_request_without_one_takes_of_every_pool() -> None:
    assert weights_of(BOTH, COSTS, ("GET /openOrders", "GET /openOrders?symbol=X")) == {"weight": 41}
    assert weights_of(BOTH, COSTS, ("POST /order", "PUT /order")) == {"weight": 2, "orders": 2}
    assert weights_of(BOTH, (Cost("POST", "/free", ()),), ("POST /free",)) == {}


def test_a_request_is_charged_the_units_of_its_row_in_the_table() -> None:
    budget = Budget(BOTH, COSTS, Demand())
    budget.charge(Request("GET", "/openOrders", {}), after(0), command=False)
    budget.charge(Request("POST", "/order", {}), after(0), command=True)
    assert [round(count.fullness(ns(0)) * count.pool.size) for count in budget.counts.values()] == [41, 1]


@pytest.mark.parametrize("command", [True, False])
def test_a_copy_that_never_left_is_counted_no_more(command: bool) -> None:
    budget = Budget((WINDOW, COUNTER), (), Demand())
    counts = budget.counts.values()
    one = budget.charge(Request("GET", "/", {}), after(0), command=command)
    budget.charge(Request("GET", "/", {}), after(0), command=command)
    one.take_back(after(0.1))
    assert [count.fullness(ns(0.1)) * count.pool.size for count in counts] == pytest.approx([1, 1])
    one.take_back(after(70))  # by then it has come back by itself
    budget.charge(Request("GET", "/", {}), after(70), command=command)
    assert [count.fullness(ns(70)) * count.pool.size for count in counts] == pytest.approx([1, 1])


def test_a_copy_that_a_full_counter_has_not_counted_is_not_taken_from_it() -> None:
    budget = Budget((COUNTER,), (), Demand())
    charges = [budget.charge(Request("GET", "/", {}), after(0), command=True) for _ in range(20)]
    for charge in charges[:6]:
        charge.take_back(after(0))
    assert budget.counts["counter"].fullness(ns(0)) * COUNTER.size == 14


# ── who shares ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Usdm(LimitedVenue):
    NAME = "usdm"
    POOLS = (Pool("weight", 2400, window_s=60.0, shared_by="address", product="futures"), Pool("orders", 10, per_s=1.0))


class Coinm(Usdm):
    NAME = "coinm"


def test_apis_that_the_venue_counts_as_one_share_their_pool_and_no_other() -> None:
    adapters = {"a": Usdm(), "b": Coinm()}
    sweep_timings(adapters)
    a, b = (adapter.budget.counts for adapter in adapters.values())
    assert a["weight"] is b["weight"] and a["orders"] is not b["orders"]


# ── an hour ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Starter(LimitedVenue):
    """Kraken's REST counter of the lowest tier: each private call adds 1, 0.33 a second are taken off."""

    NAME = "starter"
    POOLS = (COUNTER,)


class Weighted(LimitedVenue):
    """An address pool as Binance's: two lists of all symbols cost 40 each; cancels go by symbol, ten of them."""

    NAME = "weighted"
    POOLS = (Pool("weight", 2400, window_s=60.0, shared_by="address"),)
    COSTS = (Cost("GET", "/open", (("weight", 40.0),)), Cost("GET", "", (("weight", 5.0),)))
    DEMAND = Demand(
        read=("GET /openOrders", "GET /openAlgoOrders"),
        probe=("GET /account",),
        equity=("GET /account",),
        strike=("DELETE /allOpenOrders",) * 20,
    )


class Stating(Weighted):
    """The same, with a header that states the use."""

    NAME = "stating"

    def usage(self, reply: Replied) -> Iterable[tuple[str, float]]:
        return (("weight", float(reply.headers["x-used"])),)


HOUR_S = 3600.0
SHORT_S = 400.0  # several times as long as any of the pools takes to refill
WHOLE = pytest.mark.hours
ACCOUNTS = pytest.mark.parametrize(
    ("kind", "accounts", "seconds"),
    [
        (Starter, 1, SHORT_S),
        (Weighted, 3, SHORT_S),
        *(
            pytest.param(kind, accounts, HOUR_S, marks=WHOLE)
            for kind, accounts in [(Starter, 1), (Starter, 3), (Weighted, 1), (Weighted, 3), (Stating, 3)]
        ),
    ],
    ids=lambda one: getattr(one, "NAME", one),
)


@ACCOUNTS
def test_a_guard_fills_no_pool_and_strikes_no_account_again(
    kind: type[LimitedVenue], accounts: int, seconds: float
) -> None:
    street = LimitedStreet(kind, accounts)
    street.run(60)
    street.fire()
    street.run(seconds)
    assert (street.refused, street.phases(), street.strikes()) == ([], {"CLEAR"}, 1)
    assert all(limit.fullest <= limit.pool.size / 2 + 2 * street_kill(kind) for limit in street.limits.values())


def street_kill(kind: type[LimitedVenue]) -> float:
    """Return what a kill takes of the first pool at once: one strike and two reads."""
    demand = kind.DEMAND
    return sum(weights_of(kind.POOLS, kind.COSTS, (*demand.strike, *demand.read * 2)).values())


@ACCOUNTS
def test_residue_has_nothing_refused_and_ends_soon_after_the_venue_cancels_again(
    kind: type[LimitedVenue], accounts: int, seconds: float
) -> None:
    street = LimitedStreet(kind, accounts)
    street.run(60)
    street.keeps = street.has_order = True
    street.fire()
    street.run(seconds)
    assert (street.refused, street.phases()) == ([], {"RESIDUE"})
    street.keeps = False
    street.run(35, until=lambda: not street.has_order)
    assert not street.has_order
    street.run(120, until=lambda: street.phases() == {"CLEAR"})
    assert (street.refused, street.phases()) == ([], {"CLEAR"})


@pytest.mark.parametrize(
    ("kind", "weight", "every_s"),
    [(Starter, 1.0, 2 / 0.33), (Weighted, 5.0, 0.25), (Stating, 5.0, 0.25)],
    ids=["starter", "weighted", "stating"],
)
@pytest.mark.parametrize("keeps", [False, True], ids=["guard", "residue"])
@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(HOUR_S, marks=WHOLE)])
def test_a_bot_that_uses_half_of_the_pool_has_none_of_our_reads_refused_and_the_last_cancel_goes_through(
    kind: type[LimitedVenue], weight: float, every_s: float, keeps: bool, seconds: float
) -> None:
    street = LimitedStreet(kind, 1)
    street.start_bot(weight, every_s)
    street.run(60)
    street.keeps = street.has_order = keeps
    street.fire()
    street.run(seconds)
    assert [one for one in street.refused if not one[2]] == []
    street.keeps, street.has_order = False, True
    street.fire()
    street.run(60, until=lambda: not street.has_order)
    assert not street.has_order
    street.run(90, until=lambda: street.phases() == {"CLEAR"})
    assert street.phases() == {"CLEAR"}


class Slow(Starter):
    """Its strikes take three requests and are planned as one: each has a twin, and some are signed again."""

    NAME = "slow"

    def strike(self, now: Instant, number: int = 1) -> Outputs:
        beside = self._start("more", self.budget.demand.strike * 2, now, urgent=True, command=True)
        return (*super().strike(now, number), *beside)


def test_strikes_that_take_more_than_is_planned_leave_room_for_a_proof_by_reads_that_are_answered_late() -> None:
    street = LimitedStreet(Slow, 1)
    street.run(60)
    street.keeps = street.has_order = True
    street.fire()
    street.run(30)
    street.keeps, street.trip_s = False, 8.0
    street.run(120, until=lambda: street.phases() == {"CLEAR"})
    assert street.phases() == {"CLEAR"} and not street.has_order


def test_a_bot_that_uses_up_nearly_all_slows_the_guard_and_strikes_no_account_again() -> None:
    street = LimitedStreet(Stating, 1)
    street.start_bot(5.0, 0.15)  # 2,000 of 2,400
    street.run(90)
    street.fire()
    street.run(600)
    session = street.dispatcher.sessions["a0"]
    assert session.venue.budget.share == 1 / 8
    sweep = street.dispatcher.state.accounts["a0"].sweep
    assert sweep is not None
    assert sweep.timing.guard_every_s > session.venue.limits.cadence.timing.guard_every_s
    assert (street.refused, street.phases(), street.strikes()) == ([], {"CLEAR"}, 1)


def test_a_refused_guard_read_pauses_the_guards_of_all_accounts_and_strikes_none_again() -> None:
    street = LimitedStreet(Weighted, 3, retry_after="20")
    street.run(60)
    street.fire()
    street.run(60)
    street.start_bot(5.0, 0.02)  # another program, which takes whatever is there
    street.run(65)
    street.bot_stops = True
    refusals = [at_s for at_s, _, _ in street.refused]
    assert 0 < len(refusals) <= 3 * 3 * 2  # a read of two lists each, every 20 s until the window has passed
    street.run(600)
    assert len(street.refused) == len(refusals)
    assert (street.phases(), street.strikes()) == ({"CLEAR"}, 1)


# ── an adapter of the kit ─────────────────────────────────────────────────────────────────────────────────────────────


def used(player: Player) -> float:
    """Return the units of Kraken's counter that are in use."""
    return player.adapter.budget.counts["counter"].fullness(player.now.mono_ns) * COUNTER.size


def test_lists_are_read_because_a_connection_is_new_once_the_limit_has_room() -> None:
    stand = STANDS["kraken"]
    player = stand.ready()
    player.put(Closed(Route.WS, 1, "gone"))
    for _ in range(8):
        player.adapter.budget.charge(Request("POST", "/0/private/CancelAll", {}), player.now, command=True)
    player.put(Pause(1))
    outputs = stand.log_in(player, 2)
    assert not [out for out in outputs if isinstance(out, Call)]
    [wait] = [out for out in outputs if isinstance(out, WakeAfter) and out.tag == REFRESH]
    player.put(Pause(wait.seconds + 0.01))
    assert [out.request.target for out in player.put(VenueTimerFired(REFRESH)) if isinstance(out, Call)] == [
        "/0/private/OpenOrders"
    ]


def test_look_ups_of_a_read_leave_half_of_a_small_limit_for_commands() -> None:
    stand = STANDS["kraken"]
    player = stand.ready()
    player.adapter.read_backs.orders_a_call = 1  # as if a request named one order
    ids = [f"{stand.ids[0][:-2]}{number:02}" for number in range(10)]
    for one in ids:
        player.put(hears(1, stand.pushed(one, "new")))
    player.put(Pause(60))
    [call] = [out for out in player.put(Read()) if isinstance(out, Call)]
    looks = [out for out in player.put(stand.reads(call)) if isinstance(out, Call)]
    assert 5 <= len(looks) < len(ids) and used(player) <= COUNTER.size / 2


def test_strikes_at_a_small_share_of_the_limit_leave_a_kill_its_reads() -> None:
    """In RESIDUE the strikes draw as much as comes back; the read that proves the account clear leaves all the same."""
    street = LimitedStreet(Starter, 1)
    street.run(60)
    budget = street.dispatcher.sessions["a0"].venue.budget
    for _ in range(4):  # other programs have used up the limit: the share is 1/16
        budget.on_refusal(1.0, street.time.now())
        street.run(2)
    street.keeps = street.has_order = True
    street.fire()
    street.run(120)
    street.keeps = False
    street.run(100, until=lambda: street.phases() == {"CLEAR"})
    assert street.phases() == {"CLEAR"}


@pytest.mark.parametrize("name", sorted(STANDS))
def test_refusals_leave_no_guard_blind_for_more_than_two_minutes(name: str) -> None:
    adapter, now = STANDS[name].make(), START
    timing = adapter.limits.cadence.timing
    for _ in range(10):
        adapter.budget.on_refusal(1.0, now)
        now = Instant(now.mono_ns + 2 * 10**9, now.wall_ns)
    guard_s = adapter.limits.paced(timing, now).guard_every_s
    assert timing.guard_every_s < guard_s <= max(timing.guard_every_s + 1, MAX_GUARD_S)


@pytest.mark.parametrize("refusals", [0, 4])
@pytest.mark.parametrize(
    "kind", [kind for kind in VENUES.values() if Route.WS not in kind.DRILLS], ids=lambda k: k.NAME
)
def test_an_account_that_only_http_can_kill_is_asked_often_enough_to_show_silence_within_ten_seconds(
    kind: type[Adapter], refusals: int
) -> None:
    class OnlyHttp(LimitedVenue):
        NAME, DRILLS, CONNECTIONS, WARM_EVERY_S = kind.NAME, kind.DRILLS, kind.CONNECTIONS, kind.WARM_EVERY_S
        POOLS = (Pool("minute", 60, window_s=60.0),)
        DEMAND = Demand(read=("GET /active",) * 3, probe=("GET /active",), strike=("POST /cancel",) * 5)

    class Noted(LimitedStreet):
        def arrive(self, call: Call, name: str) -> None:
            arrived_s.append(self.now_s)
            super().arrive(call, name)

    arrived_s: list[float] = []
    street = Noted(OnlyHttp, 1)
    street.run(60)
    budget = street.dispatcher.sessions["a0"].venue.budget
    for _ in range(refusals):  # other programs use the limit
        budget.on_refusal(1.0, street.time.now())
        street.run(2)
    street.run(300)
    assert max(later - earlier for earlier, later in pairwise(arrived_s)) + UNANSWERED_S <= 10.0


# ── strikes that take more than is planned ────────────────────────────────────────────────────────────────────────────


def struck(player: Player, *, orders: int) -> float:
    """Strike at Roxom, whose cancel-all names none of these orders; return the gap to the next strike, in seconds."""
    stand = STANDS["roxom"]
    player.adapter.book.orders = {
        one: Order(one, "BTC", OrderState.LIVE, "new") for one in (f"{stand.ids[0][:-2]}{n:02}" for n in range(orders))
    }
    [command] = [out for out in player.put(Kill()) if isinstance(out, Call)]
    singles = [out for out in player.put(answer(command.tag, {"data": {"success": True, "orderIds": []}}))]
    assert sum(isinstance(out, Call) for out in singles) == min(orders, 20)
    player.put(Pause(1))
    timing = player.adapter.limits.cadence.timing
    paced = player.adapter.limits.paced(timing, player.now)
    assert (paced is timing) == (paced.strike_gap_s == timing.strike_gap_s)
    return paced.strike_gap_s


def test_later_strikes_that_take_more_than_is_planned_come_as_rarely_as_the_limit_wants() -> None:
    player = STANDS["roxom"].ready()
    planned_s = player.adapter.limits.cadence.timing.strike_gap_s
    assert struck(player, orders=25) == planned_s  # the first strike is repeated by none
    gap_s = struck(player, orders=25)
    assert gap_s > 4 * planned_s
    used, at_s = 0.0, 0.0
    while at_s < 60:  # Roxom's window; the gap grows with the kill's age
        used, at_s = used + 21, at_s + max(gap_s, min(at_s / 4, 5.0))
    assert used <= 300
    assert struck(player, orders=0) == gap_s  # one of the last two
    assert struck(player, orders=0) == planned_s
