"""What a Roxom account is worth while it trades (§4.4, §5 of docs/venues/roxom.md)."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any

import pytest

from kill_switch.venues.messages import (
    Call,
    Equity,
    Output,
    Received,
    Transferred,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from tests.harness.venue_playbook import Measure, Pause, Player, answer, hears, payload

from .test_roxom import NONE, flat, held, measure, measuring, ready

BTC = Decimal(1)
SATS = Decimal(100_000_000)


def balance(before: object, after: object, at: int, **more: object) -> Received:
    """Push a balance in BTC; `amount` has its sign."""
    amount = str(Decimal(str(after)) - Decimal(str(before)))
    data = {"balanceBefore": str(before), "balanceAfter": str(after), "amount": amount, "unit": "btc"}
    return hears(1, {"type": "balance", "data": {**data, "updateType": "ordersettle", "timestamp": at, **more}})


def listed(*balances: tuple[str, object]) -> dict[str, Any]:
    items = [{"asset": asset, "available": "0", "current": current} for asset, current in balances]
    return {"data": {"balances": items}, "error": False}


def sats(btc: object) -> str:
    return str(int(Decimal(str(btc)) * SATS))


def figures(outputs: object) -> list[Equity]:
    assert isinstance(outputs, list | tuple)
    return [output for output in outputs if isinstance(output, Equity)]


# ── an account that never stands still ────────────────────────────────────────────────────────────────────────────


class Trading:
    """Trade on one account in virtual time, as the venue sees it, and tell the adapter of it with a delay.

    Each fill realises half a bitcoin of the open profit and costs a fee; the price stands still. So equity is the
    balance and the open profit of one moment, and any sum of two moments is wrong by half a bitcoin at least.
    """

    FEE = Decimal("0.001")

    def __init__(self, seed: int, every_s: float, apart_s: float, lag_s: float, old: bool) -> None:
        self.random = Random(seed)  # noqa: S311
        self.every_s, self.apart_s, self.lag_s, self.old = every_s, apart_s, lag_s, old
        self.player = ready()
        self.cash, self.pnl, self.size = Decimal(100), Decimal(1000), 10_000
        self.worth = [(self.player.now.mono_ns, self.cash + self.pnl)]  # since when it was how much
        self.told: list[tuple[int, Output]] = []
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.player.now.mono_ns + round(seconds * 1e9), next(self._numbers), do))

    def run(self, seconds: float) -> None:
        end_ns = self.player.now.mono_ns + round(seconds * 1e9)
        while self._agenda and self._agenda[0][0] <= end_ns:
            at_ns, _, do = heapq.heappop(self._agenda)
            self.player.put(Pause((at_ns - self.player.now.mono_ns) / 1e9))
            do()

    def fill(self) -> None:
        at_ns, before = self.player.now.mono_ns, self.cash
        self.cash += Decimal("0.5") - self.FEE
        self.pnl -= Decimal("0.5")
        self.size -= 1
        self.worth.append((at_ns, self.cash + self.pnl))
        first = self.random.uniform(0, self.lag_s)
        second = first + self.random.uniform(0, self.apart_s)
        events = [balance(before, self.cash, at_ns), held("p1", "US500-BTC", str(self.size), str(self.pnl))]
        self.random.shuffle(events)
        for wait_s, event in zip((first, second), events, strict=True):
            self.later(wait_s, lambda event=event: self.put(event))  # type: ignore[misc]
        self.later(self.every_s, self.fill)

    def put(self, step: object) -> None:
        for output in self.player.put(step):
            self.told.append((self.player.now.mono_ns, output))
            match output:
                case Call(tag, request):
                    there, back = self.random.uniform(0.001, 0.08), self.random.uniform(0.001, 0.08)
                    self.later(there, lambda t=tag, r=request.target, b=back: self.serve(t, r, b))  # type: ignore[misc]
                case WakeAfter(tag, seconds):
                    self.later(seconds, lambda tag=tag: self.put(VenueTimerFired(tag)))  # type: ignore[misc]

    def serve(self, tag: str, target: str, back_s: float) -> None:
        """Answer with what is so now; the answer comes a little later."""
        if "instruments" in target:
            body: object = payload("roxom/instruments")
        elif "balance" in target:
            body = listed(("BTC", sats(self.cash)))
        elif "GOLD" in target:
            body = NONE
        else:
            item = {"id": "p1", "symbol": "US500-BTC", "size": str(self.size), "closeDate": None}
            old = item | {"unrealizedPnl": sats(self.pnl)}
            body = {"data": [old], "error": False} if self.old else {"data": {"positions": [item]}, "error": False}
        self.later(back_s, lambda: self.put(answer(tag, body)))

    def measure(self) -> None:
        self.put(Measure())
        self.later(5.0, self.measure)

    def between(self, from_ns: int, to_ns: int) -> list[Decimal]:
        """Return all that it was worth in that time."""
        began = max((at_ns for at_ns, _ in self.worth if at_ns <= from_ns), default=0)
        return [worth for at_ns, worth in self.worth if began <= at_ns <= to_ns]


@pytest.mark.parametrize("old", [True, False], ids=["profit read", "profit pushed"])
@pytest.mark.parametrize(
    ("every_s", "apart_s", "lag_s"), [(0.4, 0.09, 0.1), (0.4, 0.0, 0.2), (0.15, 0.03, 0.02), (3.0, 0.09, 0.1)]
)
def test_an_account_that_trades_all_the_time_is_measured_each_time_and_each_figure_is_of_one_moment(
    every_s: float, apart_s: float, lag_s: float, old: bool
) -> None:
    for seed in range(5):
        trading = Trading(seed, every_s, apart_s, lag_s, old)
        trading.later(0.0, trading.fill)
        trading.later(2.0, trading.measure)
        trading.run(120.0)
        told = [(at_ns, fact) for at_ns, fact in trading.told if isinstance(fact, Equity)]
        assert len(told) >= 22, seed
        for at_ns, fact in told:
            possible = trading.between(fact.asked_ns - 400_000_000, at_ns)
            assert min(possible) <= fact.amounts["BTC"] <= max(possible), (seed, fact)


def test_fills_faster_than_their_events_can_be_matched_cause_a_bounded_and_reported_error() -> None:
    wrong = Decimal(0)
    for seed in range(5):
        trading = Trading(seed, every_s=0.05, apart_s=0.08, lag_s=0.02, old=False)
        trading.later(0.0, trading.fill)
        trading.later(2.0, trading.measure)
        trading.run(60.0)
        words = [fact.why for _, fact in trading.told if isinstance(fact, UnexplainedMessage)]
        told = re.findall(r"the account never stands still: its equity may be wrong by up to (.+) BTC", " ".join(words))
        for at_ns, fact in trading.told:
            if isinstance(fact, Equity):
                possible = trading.between(fact.asked_ns - 400_000_000, at_ns)
                error = max(Decimal(0), min(possible) - fact.amounts["BTC"], fact.amounts["BTC"] - max(possible))
                assert error <= 2 * max(map(Decimal, told)), seed
                wrong = max(wrong, error)
    assert wrong  # else this shows nothing


def steady(player: Player, every_s: float, events: Iterator[Received], body: Callable[[], object]) -> list[Output]:
    """Measure a flat account once, while an event comes every so often; return what is told of it."""
    told: list[Output] = []
    wakes: list[tuple[int, str]] = []
    calls = [call for call in player.put(Measure()) if isinstance(call, Call)]
    for _ in range(round(3 / every_s)):
        player.put(Pause(every_s / 2))
        outputs = [output for call in calls for output in player.put(answer(call.tag, body()))]
        due = [tag for at_ns, tag in wakes if at_ns <= player.now.mono_ns]
        wakes = [(at_ns, tag) for at_ns, tag in wakes if at_ns > player.now.mono_ns]
        outputs += [output for tag in due for output in player.put(VenueTimerFired(tag))]
        player.put(Pause(every_s / 2))
        outputs += player.put(next(events))
        calls = [output for output in outputs if isinstance(output, Call)]
        for output in outputs:
            if isinstance(output, WakeAfter):
                wakes.append((player.now.mono_ns + round(output.seconds * 1e9), output.tag))
            elif not isinstance(output, Call):
                told.append(output)
    return told


def test_a_balance_without_an_event_counts_in_the_end_and_its_possible_error_is_reported_once() -> None:
    events = (balance(70 - n, 69 - n, n) for n in count(1))  # another measure than that of the read
    player = flat()
    outputs = steady(player, 0.2, events, lambda: listed(("BTC", sats(7))))
    assert [type(output) for output in outputs] == [UnexplainedMessage, Equity]
    assert isinstance(outputs[0], UnexplainedMessage) and isinstance(outputs[1], Equity)
    assert outputs[0].why.startswith("the account never stands still: its equity may be wrong by up to ")
    assert outputs[1].amounts == {"BTC": Decimal(7)}
    assert [type(output) for output in steady(player, 0.2, events, lambda: listed(("BTC", sats(6))))] == [Equity]


def test_balance_events_that_cannot_be_read_do_not_keep_an_account_from_being_measured() -> None:
    events = (hears(1, {"type": "balance", "data": {"amount": n}}) for n in count(1))
    outputs = steady(flat(), 0.1, events, lambda: payload("roxom/balance"))
    assert outputs[0] == UnexplainedMessage(
        "the account never stands still: its equity may be wrong by an unknown amount"
    )
    assert [fact.amounts for fact in figures(outputs)] == [{"BTC": Decimal("0.0015")}]


def test_the_possible_error_is_reported_again_when_it_has_more_than_doubled() -> None:
    player, at = flat(), count(1)
    for lost, said in ((1, True), (1, False), (1, False), (100, True)):
        events = (balance(1000, 1000 - lost, n) for n in at)
        outputs = steady(player, 0.2, events, lambda: listed(("BTC", sats(7))))
        assert [type(output) for output in outputs] == ([UnexplainedMessage, Equity] if said else [Equity])


def test_equity_that_was_lost_while_events_came_is_in_the_next_figure() -> None:
    player, cash = flat(), [Decimal(100)]

    def lose() -> Iterator[Received]:
        for at in count(1):
            cash[0] -= 1
            yield balance(cash[0] + 1, cash[0], at)

    events = lose()
    told = [figures(steady(player, 0.4, events, lambda: listed(("BTC", sats(cash[0]))))) for _ in range(5)]
    assert [len(facts) for facts in told] == [1] * 5
    worth = [fact.amounts["BTC"] for [fact] in told]
    assert worth == sorted(worth, reverse=True) and worth[-1] < 75


def open_position(pnl: str = "10") -> Player:
    """Have a position whose reads tell no profit; the balance is 5 BTC."""
    player = flat()
    player(held(size="9", pnl=pnl), Pause(1))
    return player


def read_among(player: Player, cash: object, *events: tuple[float, Received], before: int = 0) -> Equity:
    """Measure while these events come, so many seconds apart, `before` of them before; return the figure."""
    for pause_s, event in events[:before]:
        player.put(Pause(pause_s))
        player.put(event)
    player.put(Pause(0.01))
    calls = [call for call in player.put(Measure()) if isinstance(call, Call)]
    for call in calls:
        body = listed(("BTC", sats(cash))) if "balance" in call.request.target else item("9")
        outputs = player.put(answer(call.tag, body))
    for pause_s, event in events[before:]:
        player.put(Pause(pause_s))
        player.put(event)
    player.put(Pause(0.25))
    [fact] = figures(player.put(VenueTimerFired(outputs[-1].tag)))  # type: ignore[union-attr]
    return fact


def test_a_position_event_that_came_before_the_read_belongs_to_the_balance_event_that_comes_behind_it() -> None:
    fill = ((0.1, held(size="8", pnl="9.5")), (0.03, balance(5, "5.5", 1)))
    assert read_among(open_position(), 5, *fill, before=1).amounts == {"BTC": Decimal(15)}
    assert read_among(open_position(), "5.5", *fill, before=1).amounts == {"BTC": Decimal(15)}


def test_a_profit_that_was_realised_at_an_unchanged_size_is_that_of_its_time() -> None:
    events = ((0.2, balance(5, 7, 1)), (0.001, held(size="9", pnl="8")))  # from long to short, or a settlement
    assert read_among(open_position(), 5, *events).amounts == {"BTC": Decimal(15)}
    assert read_among(open_position(), 7, *events).amounts == {"BTC": Decimal(15)}


def test_of_two_times_at_which_the_balance_was_the_same_the_longer_one_counts() -> None:
    events = (
        (0.02, balance(5, 6, 1)),
        (0.01, held(size="8", pnl="9")),
        (0.01, balance(6, 5, 2)),
        (0.01, balance(5, 6, 3)),
        (0.01, held(size="7", pnl="9.0")),
    )
    assert read_among(open_position(), 5, *events).amounts == {"BTC": Decimal(15)}


def test_balance_events_that_come_in_another_order_are_put_in_theirs() -> None:
    events = (
        (0.02, balance(6, 7, 2)),
        (0.004, held(size="8", pnl="9")),
        (0.006, balance(5, 6, 1)),
        (0.005, held(size="7", pnl="8")),
    )
    assert read_among(open_position(), 7, *events).amounts == {"BTC": Decimal(15)}


def test_an_event_that_a_second_connection_tells_again_moves_nothing() -> None:
    player = flat()
    player(balance(7, 8, 1), Pause(1))
    [call] = player.put(Measure())
    assert isinstance(call, Call)
    player.put(answer(call.tag, listed(("BTC", sats(8)))))
    player(Pause(0.25), balance(7, 8, 1))
    assert [type(output) for output in player.put(player.newest_timer)] == [Equity]


def test_a_position_of_which_the_first_event_comes_while_it_is_read_makes_the_first_figure_unknown() -> None:
    player = measuring()
    player.put(answer("figure#2", listed(("BTC", sats(5)))))
    player.put(answer("figure#3", NONE))
    player.put(answer("figure#4", NONE))
    player(Pause(0.02), balance(5, "5.5", 1), held(size="1", pnl="0.5"), Pause(0.25))
    [told] = player.put(player.newest_timer)
    assert told == UnexplainedMessage(
        "the account cannot be measured: the venue has not shown the profit of a position in OIL-BTC"
    )
    player.put(Pause(5))
    body = listed(("BTC", sats("5.5")))
    calls = [call for call in player.put(Measure()) if isinstance(call, Call)]
    outputs = [output for call, reply in zip(calls, (body, item("1")), strict=True)
               for output in player.put(answer(call.tag, reply))]  # fmt: skip
    player.put(Pause(0.25))
    assert isinstance(outputs[-1], WakeAfter)
    assert [fact.amounts for fact in figures(player.put(VenueTimerFired(outputs[-1].tag)))] == [{"BTC": Decimal(6)}]


# ── deposits and withdrawals (§5) ─────────────────────────────────────────────────────────────────────────────────

WENT = {"balanceBefore": "1.5", "balanceAfter": "1"}
CAME = {"balanceBefore": "1", "balanceAfter": "1.5"}
SAME = {"balanceBefore": "1", "balanceAfter": "1"}


@pytest.mark.parametrize(
    ("kind", "fields", "moved"),
    [
        ("withdrawal", WENT | {"amount": "0.5"}, "-0.5"),
        ("withdraw", WENT | {"amount": "-0.5"}, "-0.5"),
        ("Withdrawal", WENT | {"amount": "0.4999"}, "-0.5"),  # a fee is gone, too
        ("transfer", WENT | {"amount": "0.5"}, "-0.5"),
        ("transfer", CAME | {"amount": "0.5"}, "0.5"),
        ("transferOut", WENT, "-0.5"),
        ("withdrawal", WENT | {"amount": None}, "-0.5"),
        ("withdrawal", WENT | {"amount": "x"}, "-0.5"),
        ("deposit", CAME | {"amount": "-0.5"}, "0.5"),
        ("withdrawal", CAME | {"amount": "0.5"}, "0.5"),  # it was taken back
        ("deposit", WENT | {"amount": "0.3"}, "0.3"),  # two of three say that it came
        ("withdrawal", {"amount": "0.5"}, "-0.5"),
        ("withdrawal", {"amount": "0.5", "balanceAfter": "1"}, "-0.5"),
        ("withdrawal", {"amount": "0.5", "balanceBefore": None, "balanceAfter": "1"}, "-0.5"),
        ("deposit", {"amount": "0.5"}, "0.5"),
        ("transfer", {"amount": "-0.5"}, "-0.5"),
        ("withdrawal", {"amount": 50_000_000, "unit": "sats"}, "-0.5"),
        ("withdrawal", {"balanceBefore": 150_000_000, "balanceAfter": 100_000_000, "unit": "SATS"}, "-0.5"),
    ],
)
def test_the_direction_of_a_transfer_follows_from_its_balances_kind_and_amount(
    kind: str, fields: dict[str, Any], moved: str
) -> None:
    data = {"unit": "btc", "updateType": kind, "timestamp": 1} | fields
    event = hears(1, {"type": "balance", "data": data})
    ready()(event, Transferred("BTC", Decimal(moved)), event)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("transfer", {"amount": "0.5"}),  # which way?
        ("transfer", {}),
        ("withdrawal", {"amount": "x"}),
        ("withdrawal", WENT | {"amount": "0.5", "unit": None}),
        ("withdrawal", WENT | {"amount": "0.5", "unit": "usd"}),
        ("deposit", CAME | {"amount": "NaN", "balanceBefore": "NaN"}),
    ],
)
def test_a_transfer_with_an_unreadable_amount_direction_or_unit_is_reported(kind: str, fields: dict[str, Any]) -> None:
    given = {"unit": "btc", **fields}
    data = {name: value for name, value in given.items() if value is not None} | {"updateType": kind, "timestamp": 1}
    event = hears(1, {"type": "balance", "data": data})
    ready()(event, UnexplainedMessage(f"a {kind} that cannot be read: it looks like profit or loss"), event)


def test_a_transfer_that_moves_nothing_is_none() -> None:
    ready()(balance(1, 1, 1, amount="0.5", updateType="transfer"))
    ready()(balance(1, 1, 1, amount="0.5", updateType="withdrawal"))


def test_a_figure_has_a_transfer_in_all_of_it_or_in_nothing_of_it() -> None:
    player = flat()
    player(held(pnl="1"), Pause(9))
    player.put(balance(10, 4, 1, updateType="withdrawal"))
    player.put(Pause(1))
    deposited = listed(("BTC", sats(4)))
    calls = [call for call in player.put(Measure()) if isinstance(call, Call)]
    for call, body in zip(calls, (deposited, item("2")), strict=True):
        outputs = player.put(answer(call.tag, body))
    player.put(Pause(0.25))
    # the profit is older than the withdrawal: whoever takes the figure for an old one would count six bitcoin too much
    assert isinstance(outputs[-1], WakeAfter) and not figures(player.put(VenueTimerFired(outputs[-1].tag)))


def test_a_withdrawal_behind_the_read_is_not_in_the_figure_which_is_older() -> None:
    player = flat()
    [call] = player.put(Measure())
    assert isinstance(call, Call)
    player.put(answer(call.tag, listed(("BTC", sats(10)))))
    player.put(Pause(0.1))
    withdrawn_ns = player.now.mono_ns
    player(balance(10, 4, 1, updateType="withdrawal"), Transferred("BTC", Decimal(-6)), Pause(0.15))
    [fact] = figures(player.put(player.newest_timer))
    assert fact.amounts == {"BTC": Decimal(10)} and fact.asked_ns < withdrawn_ns


def test_a_withdrawal_before_the_read_is_in_the_figure_which_is_younger() -> None:
    player = flat()
    [call] = player.put(Measure())
    assert isinstance(call, Call)
    player.put(Pause(0.02))
    withdrawn_ns = player.now.mono_ns
    player(balance(10, 4, 1, updateType="withdrawal"), Transferred("BTC", Decimal(-6)), Pause(0.02))
    player.put(answer(call.tag, listed(("BTC", sats(4)))))
    player.put(Pause(0.25))
    [fact] = figures(player.put(player.newest_timer))
    assert fact.amounts == {"BTC": Decimal(4)} and fact.asked_ns > withdrawn_ns


def test_no_equity_is_reported_while_it_may_or_may_not_include_a_transfer() -> None:
    events = (balance(70 + n, 71 + n, n, updateType="deposit") for n in count(1))
    outputs = steady(flat(), 0.2, events, lambda: listed(("BTC", sats(7))))
    assert {type(output) for output in outputs} == {Transferred}


# ── what is held (§4.4) ───────────────────────────────────────────────────────────────────────────────────────────


def held_by(player: Player, body: object) -> list[Output]:
    """Measure a flat account whose balances are these; return what is told."""
    call, *others = [call for call in player.put(Measure()) if isinstance(call, Call)]
    for other in others:
        player.put(answer(other.tag, NONE))
    outputs = list(player.put(answer(call.tag, body)))
    if not isinstance(outputs[-1], WakeAfter):
        return outputs
    player.put(Pause(1))
    return list(player.put(VenueTimerFired(outputs[-1].tag)))


def test_a_currency_besides_bitcoin_is_measured_unless_its_balance_is_zero() -> None:
    body = listed(("USDT", "70000.5"), ("BTC", "150000"), ("GOLD", "0"), ("eth", "-0.25"))
    [fact] = figures(held_by(flat(), body))
    assert fact.amounts == {"USDT": Decimal("70000.5"), "BTC": Decimal("0.0015"), "ETH": Decimal("-0.25")}


def test_an_account_that_has_nothing_left_is_worth_nothing() -> None:
    [fact] = figures(held_by(flat(), listed(("BTC", "0"))))
    assert fact.amounts == {"BTC": 0}


@pytest.mark.parametrize(
    "balances",
    [
        [],
        [("USDT", "1")],
        [("BTC", "1"), ("BTC", "1")],
        [("BTC", "1"), ("USDT", None)],
        [("BTC", "1"), ("USDT", "NaN")],
        [("BTC", "1"), ("", "1")],
        [("BTC", None)],
        [("BTC", "")],
        [("BTC", {})],
        [("BTC", True)],
    ],
)
def test_a_list_of_balances_of_which_a_part_cannot_be_read_is_no_figure(balances: list[tuple[str, Any]]) -> None:
    why = "the account cannot be measured: balance: the answer cannot be read"
    assert held_by(flat(), listed(*balances)) == [UnexplainedMessage(why)]


@pytest.mark.parametrize("currency", ["USD", None, 7])
def test_a_balance_in_another_currency_than_bitcoin_is_no_figure(currency: object) -> None:
    [output] = held_by(flat(), {"data": {"available": "1", "balance": "1", "currency": currency}, "error": False})
    assert isinstance(output, UnexplainedMessage)


def test_a_balance_that_names_its_unit_is_read_in_it() -> None:
    body = {"data": {"balances": [{"asset": "BTC", "current": "1.5", "unit": "btc"}]}}
    assert [fact.amounts for fact in figures(held_by(flat(), body))] == [{"BTC": Decimal("1.5")}]
    assert not figures(held_by(flat(), {"data": {"balance": "1", "currency": "BTC", "unit": "usd"}}))


def test_an_asset_that_is_missing_is_sold_unless_the_venue_lists_those_of_which_there_is_nothing() -> None:
    player = flat()
    assert figures(held_by(player, listed(("BTC", "1"), ("USDT", "5"))))
    assert figures(held_by(player, listed(("BTC", "1"))))
    assert figures(held_by(player, listed(("BTC", "1"), ("USDT", "5"), ("ETH", "0"))))
    why = "the account cannot be measured: balance: USDT not listed any more"
    assert held_by(player, listed(("BTC", "1"))) == [UnexplainedMessage(why)] == held_by(player, listed(("BTC", "1")))
    assert figures(held_by(player, listed(("BTC", "1"), ("USDT", "0"))))
    assert figures(held_by(player, listed(("BTC", "1"))))


# ── positions of which something is missing (§4.4, §5) ────────────────────────────────────────────────────────────


def item(size: str, **more: object) -> dict[str, Any]:
    return {"data": {"positions": [{"id": "p1", "symbol": "OIL-BTC", "size": size, "closeDate": None, **more}]}}


UNTOLD = "the account cannot be measured: the venue has not shown the profit of a position in OIL-BTC"


def test_a_position_that_has_changed_without_an_event_has_no_known_profit_until_one_comes() -> None:
    player = flat()
    player(held(size="2", pnl="1"), Pause(1))
    assert figures(measure(player, "OIL-BTC", body=item("200")))  # the units of reads and events need not be the same
    assert measure(player, "OIL-BTC", body=item("100")) == [UnexplainedMessage(UNTOLD)]
    assert measure(player, "OIL-BTC", body=item("100")) == []
    player(held(size="1", pnl="0.5"), Pause(1))
    [fact] = figures(measure(player, "OIL-BTC", body=item("100")))
    assert fact.amounts == {"BTC": Decimal("0.5015")}


def test_equity_is_as_old_as_its_oldest_profit_and_an_old_profit_is_reported_once() -> None:
    player = flat()
    pushed_ns = player.now.mono_ns
    player(held(pnl="1"), Pause(20))
    for said in (True, False):
        player.put(balance("0.0015", "0.0015", player.now.mono_ns))  # it trades in something else
        told = measure(player, "OIL-BTC", body=item("2"))
        assert [type(output) for output in told] == ([UnexplainedMessage, Equity] if said else [Equity])
        assert told[-1].asked_ns == pushed_ns
    assert isinstance(told[0], Equity)
    player(held(pnl="2"), Pause(1))
    assert [type(output) for output in measure(player, "OIL-BTC", body=item("2"))] == [Equity]


def test_a_position_event_without_a_profit_makes_the_figure_unknown_until_another_comes() -> None:
    for unread in (held(pnl=None), held(size="x"), held(pnl="NaN")):
        player = flat()
        player(held(pnl="1"), unread, UnexplainedMessage("a position push that cannot be read"), Pause(1))
        assert measure(player, "OIL-BTC", body=item("2")) == [UnexplainedMessage(UNTOLD)]
        player(held(pnl="2"), Pause(1))
        assert [fact.amounts["BTC"] for fact in figures(measure(player, "OIL-BTC", body=item("2")))] == [
            Decimal("2.0015")
        ]


def test_an_event_of_an_unknown_position_that_cannot_be_read_has_every_symbol_read_again() -> None:
    player = flat()
    player(
        hears(1, {"type": "position", "data": [7]}), UnexplainedMessage("a position push that cannot be read"), Pause(1)
    )
    assert len(measure(player, "US500-BTC", "GOLD-BTC")) == 1
    assert len(measure(player)) == 1


def test_a_balance_that_has_moved_without_an_event_has_every_symbol_read_again() -> None:
    player = flat()
    assert figures(held_by(player, listed(("BTC", "150000"))))
    assert figures(held_by(player, listed(("BTC", "140000"))))
    assert len(measure(player, "US500-BTC", "GOLD-BTC")) == 1


def test_a_profit_that_names_its_unit_is_read_in_it() -> None:
    player = flat()
    player(held(pnl="25000000", unit="sats"), Pause(1))
    assert [fact.amounts["BTC"] for fact in figures(measure(player, "OIL-BTC", body=item("2")))] == [Decimal("0.2515")]
    [fact] = figures(measure(player, "OIL-BTC", body=item("2", unrealizedPnl="0.5", unit="btc")))
    assert fact.amounts["BTC"] == Decimal("0.5015")
    player.put(Measure())
    call = player.calls[-1]
    [noise] = player.put(answer(call.tag, item("2", unrealizedPnl="0.5", unit="usd")))
    assert noise == UnexplainedMessage("the account cannot be measured: OIL-BTC: the answer cannot be read")


def test_an_instrument_that_the_venue_knows_no_longer_does_not_make_the_account_unknown_for_ever() -> None:
    player = measuring()
    refused = {"error": {"code": 404, "message": "Market not available"}}
    [noise] = player.put(answer(player.calls[-1].tag, refused, 404))
    assert isinstance(noise, UnexplainedMessage)
    player.put(Measure())
    assert player.calls[-1].request.target == "/api/v1/market/instruments"


def test_a_position_that_is_listed_twice_is_no_figure() -> None:
    player = flat()
    player(held(), Pause(1))
    player.put(Measure())
    twice = item("2")["data"]["positions"] * 2
    [noise] = player.put(answer(player.calls[-1].tag, {"data": {"positions": twice}}))
    assert isinstance(noise, UnexplainedMessage)
