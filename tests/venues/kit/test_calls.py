"""Calls to another host than the account's, and calls a copy of which cannot be built."""

from __future__ import annotations

import pytest

from kill_switch.core.domain import CancelOutcome, Instant, Route
from kill_switch.venues.kit.pools import Pool
from kill_switch.venues.messages import (
    Call,
    CallLost,
    CancelAnswered,
    Opened,
    OrdersRead,
    Output,
    ServerTime,
    VenueTimerFired,
    WakeAfter,
)
from kill_switch.venues.request import Request
from tests.harness.venue_playbook import Kill, Pause, Player, Read, answer

from .tiny_venue import Tiny, accepted, calls_of, ready

ELSEWHERE = "https://other.test"


class FromElsewhere(Tiny):
    """Its token comes from another host."""

    def assemble(self) -> None:
        self.token_request = lambda now: Request("POST", "/token", {"Host": "other.test"}, origin=ELSEWHERE)
        super().assemble()


def asked() -> tuple[Player, Call]:
    player = Player(FromElsewhere())
    [call] = calls_of(player.put(Opened(Route.WS, 1)))
    return player, call


def test_each_copy_of_a_call_to_another_host_leaves_on_a_fresh_connection() -> None:
    player, call = asked()
    assert (call.route, call.request.origin) == (Route.FRESH, ELSEWHERE)
    [again] = calls_of(player.put(VenueTimerFired(call.tag)))
    assert (again.route, again.request.origin) == (Route.FRESH, ELSEWHERE)
    player.put(answer(call.tag, {"code": 0, "data": "token-0123456789"}))
    assert player.adapter.token.value == "token-0123456789"  # type: ignore[attr-defined]


def test_the_date_of_another_hosts_answer_moves_no_clock_and_its_refusal_concerns_no_lane() -> None:
    player, call = asked()
    reply = answer(call.tag, {"code": 0, "data": "token-0123456789"})
    assert player.adapter.calls.is_apart(reply)
    date = {"date": "Mon, 01 Jan 2024 00:00:00 GMT"}
    outputs = player.put(reply._replace(headers=date, rtt_us=40_000))
    assert not [output for output in outputs if isinstance(output, ServerTime)]
    assert player.adapter.clock.bounds_ns is None
    assert not player.adapter.calls.is_apart(reply)


# ── what a call takes of the limit ────────────────────────────────────────────────────────────────────────────────


class Counted(Tiny):
    POOLS = (Pool("minute", 100, window_s=60.0),)


@pytest.mark.parametrize(("sent", "counted"), [(False, 1), (True, 2)], ids=["withdrawn", "sent"])
def test_a_second_copy_that_the_first_ones_answer_has_overtaken_counts_only_if_it_has_left(
    sent: bool, counted: int
) -> None:
    player = ready(Counted())
    count = player.adapter.budget.counts["minute"]
    before = count.fullness(player.now.mono_ns) * 100
    [read] = calls_of(player.put(Read()))
    [copy] = calls_of(player.put(VenueTimerFired(read.tag)))
    player.put(answer(read.tag, {"code": 0, "data": []}))
    player.put(CallLost(copy.tag, sent, "withdrawn"))
    assert count.fullness(player.now.mono_ns) * 100 - before == pytest.approx(counted)


# ── a copy that cannot be built ───────────────────────────────────────────────────────────────────────────────────


class Breaking:
    """A builder whose copies fail, from the second on or from the first."""

    def __init__(self, *, good: int) -> None:
        self.good = good

    def __call__(self, now: Instant) -> Request:
        self.good -= 1
        if self.good < 0:
            raise ValueError("cannot be built")
        return Request("POST", "/all", {"Host": "tiny.test"})


def facts_of(outputs: tuple[Output, ...]) -> list[CancelAnswered]:
    return [output for output in outputs if isinstance(output, CancelAnswered)]


def struck(good: int) -> tuple[Player, Call]:
    """Strike over HTTP with a command whose first `good` copies can be built; return its first copy."""
    adapter = Tiny()
    account_wide = adapter.account_wide
    assert account_wide is not None
    adapter.account_wide = account_wide._replace(frame=None, build=Breaking(good=good))
    player = ready(adapter)
    [call] = calls_of(player.put(Kill()))
    return player, call


def test_a_second_copy_that_cannot_be_built_leaves_the_first_copy_its_answer() -> None:
    player, call = struck(good=1)
    assert not calls_of(player.put(VenueTimerFired(call.tag)))
    [fact] = facts_of(player.put(accepted(call.tag, count=2)))
    assert (fact.answer, fact.cancelled) == (CancelOutcome.ACCEPTED, 2)


@pytest.mark.parametrize("timer_first", [True, False])
def test_a_strike_whose_second_copy_cannot_be_built_is_answered_once_the_first_copy_is_lost(timer_first: bool) -> None:
    player, call = struck(good=1)
    if timer_first:
        player.put(VenueTimerFired(call.tag))
    [fact] = facts_of(player.put(CallLost(call.tag, True, "lane lost")))
    assert fact.answer is CancelOutcome.UNKNOWN
    assert not player.adapter.calls.pending


def test_a_call_whose_first_copy_alone_cannot_be_built_leaves_on_its_second_route() -> None:
    adapter = Tiny()
    copies = iter([ValueError("once")])

    def build(now: Instant) -> Request:
        for error in copies:
            raise error
        return Request("GET", "/list0?", {"Host": "tiny.test"})

    player = ready(adapter)
    [call] = calls_of(adapter.calls.start_call("orders", build, player.now, urgent=True, second_route_after_s=1.0))
    assert call.route is Route.FRESH


def test_a_command_that_is_refused_for_its_time_and_cannot_be_signed_again_ends_the_strike() -> None:
    player, call = struck(good=1)
    [fact] = facts_of(player.put(answer(call.tag, {"code": 4})))
    assert fact.answer is not CancelOutcome.ACCEPTED
    assert "internal error: ValueError" in fact.evidence
    assert not player.adapter.calls.pending


def test_a_token_whose_request_cannot_be_built_is_requested_again_later() -> None:
    class Unbuilt(Tiny):
        def assemble(self) -> None:
            self.broken = Breaking(good=0)
            self.token_request = self.broken
            super().assemble()

    adapter = Unbuilt()
    player = Player(adapter)
    outputs = player.put(Opened(Route.WS, 1))
    assert not calls_of(outputs)
    [timer] = [output for output in outputs if isinstance(output, WakeAfter)]
    adapter.broken.good = 1
    player.put(Pause(timer.seconds))
    [call] = calls_of(player.put(VenueTimerFired(timer.tag)))
    assert call.tag.startswith("token")


def test_a_list_whose_page_cannot_be_built_makes_the_read_back_incomplete() -> None:
    adapter = Tiny(lists=1)
    player = ready(adapter)
    only = adapter.lists[0]._replace(page=lambda cursor: Breaking(good=0))
    adapter.reader.by_name[only.name] = only
    [read] = [output for output in player.put(Read()) if isinstance(output, OrdersRead)]
    assert not read.complete and "internal error: ValueError" in read.why
