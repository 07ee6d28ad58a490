"""What every venue must do, whatever its protocol: the same tests for each that is registered."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import ValidationError

from kill_switch.core.domain import CancelOutcome, Order, OrderState, Route
from kill_switch.venues import VENUES
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.kit.kill_trace import PAST_IDS
from kill_switch.venues.kit.pools import weights_of
from kill_switch.venues.kit.readback import LOOK_UP, MAX_LOOK_UPS, REFRESH, ReadBack
from kill_switch.venues.kit.second_route import READ_FACTOR
from kill_switch.venues.messages import (
    DRILL_WITHIN_S,
    Call,
    CallLost,
    CancelAnswered,
    CloseConnection,
    Closed,
    Drilled,
    Equity,
    NotReady,
    Opened,
    OrderPlaced,
    OrderSeen,
    OrdersRead,
    Output,
    Ready,
    Received,
    Replied,
    Send,
    ServerTime,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from kill_switch.venues.options import VenueOptions, ws_url_of
from kill_switch.venues.request import Request, Upgrade
from tests.harness.venue_playbook import START, Drill, Kill, Measure, Pause, Player, Probe, Read, answer, hears, payload
from tests.harness.venue_profiles import SECOND_ROUTE_S, STANDS, VenueProfile

NOBODY = VenueProfile("nobody", dict)
every_venue = pytest.mark.parametrize("stand", [STANDS.get(name, NOBODY) for name in VENUES], ids=list(VENUES))


def strike(player: Player) -> Call:
    """Strike, and return the command that it begins with; lists that it reads beside that show nothing.

    Where each symbol has commands, an order is known, and its symbol's other commands are accepted.
    """
    stand = STANDS[player.adapter.NAME]
    if stand.ws_first:
        player.put(Closed(Route.WS, 1, "gone"))
    book = player.adapter.book
    if stand.fans_out and not book.orders:
        order = Order(stand.ids[0], stand.fans_out, OrderState.LIVE, stand.live[0])
        book.apply_listing(book.lists[0], (order,), player.now.mono_ns, whole=False)
    first, *beside = player.put(Kill())
    assert isinstance(first, Call)
    for call in calls_of(tuple(beside)):
        body = stand.listed(status="") if stand.is_read(call.request) else stand.accepted[0]
        assert not player.put(answer(call.tag, body))
    return first


def ends_strike(outputs: tuple[Output, ...]) -> CancelAnswered:
    """Return the answer to a strike, as if it had but the command whose reply was the last."""
    [fact] = outputs
    assert isinstance(fact, CancelAnswered)
    return fact._replace(evidence=fact.evidence.removeprefix("1 of 2 commands: "))


def is_copy(stand: VenueProfile, call: Call, other: Call) -> bool:
    """Return whether two calls are copies of one request, each perhaps with a time of its own."""
    shown = [(each.request.method, stand.target(each.request.target)) for each in (call, other)]
    return shown[0] == shown[1]


def calls_of(outputs: tuple[Output, ...]) -> list[Call]:
    return [output for output in outputs if isinstance(output, Call)]


def read(stand: VenueProfile, player: Player, *ids: str, status: str = "") -> OrdersRead:
    """Read back, with all that a read asks behind its lists; the one fact that comes of it.

    What no list shows has ended, as far as it is looked up.
    """
    facts: list[Output] = []
    work = calls_of(player.put(Read()))
    while work:
        call = work.pop(0)
        looks_up = call.tag.startswith(LOOK_UP)
        outputs = player.put(
            answer(call.tag, found(stand, call, stand.gone)) if looks_up else stand.reads(call, *ids, status=status)
        )
        work += calls_of(outputs)
        facts += [output for output in outputs if not isinstance(output, Call | WakeAfter)]
    [fact] = facts
    assert isinstance(fact, OrdersRead)
    return fact


def found(stand: VenueProfile, call: Call, status: str) -> object:
    """Answer the look-up of an order."""
    assert stand.found is not None
    return stand.found(looked_up(stand, call), status)


def looked_up(stand: VenueProfile, call: Call) -> str:
    """Return the id that a call looks up, or its ids with commas."""
    assert (call.tag.partition("#")[0], stand.is_read(call.request), call.cancel) == (LOOK_UP, True, False)
    if stand.asks is not None:
        return stand.asks(call)
    asked = unquote(call.request.body.decode()) or call.request.target
    return asked.replace("=", "/").rpartition("/")[2]


def test_every_registered_venue_has_a_test_profile() -> None:
    assert set(STANDS) == set(VENUES), "a venue needs a VenueProfile in tests/harness/profiles"


@every_venue
def test_a_venue_is_registered_under_its_name_and_has_its_addresses(stand: VenueProfile) -> None:
    kind = VENUES[stand.venue]
    assert kind.NAME == stand.venue
    options = kind.Options(**stand.options)
    assert (ws_url_of(options), options.rest_url) == stand.addresses
    assert kind.TIMING == stand.timing
    strong = kind.Options(**{**stand.options, **stand.strong})
    needed, optional = kind.secrets(strong), kind.optional_secrets(strong)
    given, instead = set(stand.secrets()), kind.alternatives(strong)
    assert all((key in given) != (instead.get(key) in given) for key in needed)
    assert given <= {*needed, *instead.values(), *(name for together in optional for name in together)}


@every_venue
@pytest.mark.parametrize("ready", [True, False])
def test_another_hedge_after_holds_from_the_next_strike_on(stand: VenueProfile, ready: bool) -> None:
    """A reload may change it while the adapter is at work."""
    player = stand.ready() if ready else stand.player()
    player.adapter.second_route.change(7.0)
    outputs = [output for step in (Kill(), Read()) for output in player.put(step)]
    waits = [output.seconds for output in outputs if isinstance(output, WakeAfter)]
    assert not {SECOND_ROUTE_S, READ_FACTOR * SECOND_ROUTE_S} & set(waits)
    assert not [seconds for seconds in waits if 1.0 <= seconds < 7.0]  # shorter timers are for no second route
    assert len([seconds for seconds in waits if seconds >= 7.0]) >= 2


@every_venue
@pytest.mark.parametrize(
    "wrong",
    [
        {"ws_url": "ws://venue.test/ws"},
        {"ws_url": "wss:///ws"},
        {"ws_url": "wss://venue.test/ws?key=1"},
        {"ws_url": "wss://venue.test:0/ws"},
        {"rest_url": "http://venue.test"},
        {"rest_url": "https://user:word@venue.test"},
        {"rest_url": "https://@venue.test"},
        {"rest_url": "https://venue.test#x"},
        {"rest_url": "https://venue.test/api"},
        {"rest_url": "https://venue.test:99999"},
        {"rest_url": "https://venue.test:port"},
        {"rest_url": "https://börse.test"},
        {"rest_url": "https://[::1"},
        {"rest_uri": "https://venue.test"},
    ],
)
def test_addresses_that_no_lane_could_use_are_refused(stand: VenueProfile, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VENUES[stand.venue].Options(**stand.options, **wrong)


@every_venue
def test_a_slash_at_the_end_of_the_address_changes_nothing(stand: VenueProfile) -> None:
    adapter = stand.make(rest_url="https://venue.test:8443/")
    assert (adapter.rest_url, adapter.host) == ("https://venue.test:8443", "venue.test:8443")
    assert calls_of((*adapter.strike(START, 1),))[0].request.headers["Host"] == "venue.test:8443"


# ── readiness ─────────────────────────────────────────────────────────────────────────────────────────────────────


@every_venue
def test_lanes_become_ready_and_are_not_once_they_closed(stand: VenueProfile) -> None:
    player = stand.ready()
    player(
        Closed(Route.WS, 1, "gone"),
        NotReady(Route.WS, 1, "gone"),
        Closed(Route.HTTP, 0, "gone too"),
        NotReady(Route.HTTP, 0, "gone too"),
    )


@every_venue
def test_a_second_connection_becomes_ready_beside_the_first(stand: VenueProfile) -> None:
    player = stand.ready()
    outputs = stand.log_in(player, 2)
    assert Ready(Route.WS, 2) in outputs
    assert not any(isinstance(output, NotReady) for output in outputs)


@every_venue
def test_a_refused_login_is_fatal_and_gives_the_connection_up(stand: VenueProfile) -> None:
    player = stand.player()
    stand.open(player, 1)
    for message in stand.login[:-2]:
        player.put(hears(1, message))
    outputs = player.put(hears(1, stand.refused_login))
    unready, drop, *renewal = [output for output in outputs if not isinstance(output, ServerTime)]
    assert not renewal or stand.not_fatal
    assert isinstance(unready, NotReady) and (unready.route, unready.conn) == (Route.WS, 1)
    assert unready.fatal is not stand.not_fatal
    assert drop == CloseConnection(1, unready.why) and isinstance(drop, CloseConnection)


@every_venue
def test_a_login_that_is_refused_gives_the_connection_up_and_is_fatal_only_for_a_wrong_key(stand: VenueProfile) -> None:
    for message, words, fatal in stand.login_refusals:
        player = stand.player()
        stand.open(player, 1)
        for earlier in stand.login[:-2]:
            player.put(hears(1, earlier))
        unready, drop, *_ = player.put(hears(1, message))
        assert isinstance(unready, NotReady) and (unready.route, unready.conn) == (Route.WS, 1)
        assert words in unready.why and unready.fatal is fatal, message
        assert isinstance(drop, CloseConnection) and drop == CloseConnection(1, unready.why)


@every_venue
def test_a_probe_that_fails_makes_the_http_lane_unready_and_is_fatal_only_for_a_wrong_key(stand: VenueProfile) -> None:
    for status, body, words, fatal in stand.probe_failures:
        player = stand.player()
        [call] = calls_of(player.put(Probe()))
        [unready] = player.put(answer(call.tag, body, status))
        assert isinstance(unready, NotReady) and (unready.route, unready.conn) == (Route.HTTP, 0)
        assert words in unready.why and unready.fatal is fatal, (status, body)


@every_venue
def test_a_probe_that_proves_the_key_wrong_is_fatal(stand: VenueProfile) -> None:
    player = stand.player()
    [call] = calls_of(player.put(Probe()))
    status, body = stand.key_refused
    [unready] = player.put(answer(call.tag, body, status))
    assert isinstance(unready, NotReady) and unready.fatal and unready.route is Route.HTTP


@every_venue
def test_a_probe_that_is_lost_makes_the_http_lane_unready_for_now(stand: VenueProfile) -> None:
    player = stand.player()
    [call] = calls_of(player.put(Probe()))
    assert not call.urgent and not call.cancel
    player(CallLost(call.tag, True, "no answer in time"), NotReady(Route.HTTP, 0, "no answer in time"))


@every_venue
def test_frames_of_a_connection_that_is_gone_are_ignored(stand: VenueProfile) -> None:
    player = stand.ready()
    player.put(Closed(Route.WS, 1, "gone"))
    player(*(hears(1, message) for message in stand.login[-1:]), hears(1, stand.pushed(stand.ids[0], stand.live[0])))
    assert not player.adapter.book.orders


# ── the kill ──────────────────────────────────────────────────────────────────────────────────────────────────────


@every_venue
def test_a_strike_begins_with_one_account_wide_command_that_may_use_every_connection(stand: VenueProfile) -> None:
    player = stand.ready()
    read(stand, player, *stand.ids)
    if stand.ws_first:
        player.put(Closed(Route.WS, 1, "gone"))
    outputs = player.put(Kill())
    call = outputs[0]
    assert isinstance(call, Call) and call.urgent and call.cancel and call.route is Route.HTTP
    assert WakeAfter(call.tag, SECOND_ROUTE_S) in outputs
    others = [output for output in outputs if isinstance(output, Call) and output is not call]
    assert stand.fans_out or not any(output.cancel for output in others)
    assert all(output.command for output in outputs if isinstance(output, Call | Send))


@every_venue
@pytest.mark.parametrize("ready", [False, True], ids=["not ready", "ready"])
def test_a_new_process_that_goes_on_with_a_kill_sends_all_that_a_first_strike_sends(
    stand: VenueProfile, ready: bool
) -> None:
    sent = []
    for number in (1, 7):
        outputs = (stand.ready() if ready else stand.player()).put(Kill(number))
        calls = [(one.request.method, one.request.target) for one in outputs if isinstance(one, Call)]
        sent.append((calls, [one.text for one in outputs if isinstance(one, Send)]))
    assert any(sent[0])
    if not ready and any(count.pool.is_stated for count in stand.make().budget.counts.values()):
        # the process before has used an unknown part of the pool: its read-back finds the symbols, once that is known
        assert sent[1] == ([], [])
    else:
        assert sent[0] == sent[1]


@every_venue
@pytest.mark.parametrize("ready", [False, True], ids=["not ready", "ready"])
def test_the_prebuilt_command_is_the_first_that_a_strike_sends(stand: VenueProfile, ready: bool) -> None:
    player = stand.ready() if ready else stand.player()
    for _ in range(2):
        first = player.adapter.prebuilt_command(player.now)
        outputs = player.put(Kill())
        if first is not None:
            begins = next(output for output in outputs if isinstance(output, Call | Send))
            assert first is (begins.request if isinstance(begins, Call) else begins)
        again = player.put(Kill())
        assert not any(first is (one.request if isinstance(one, Call) else one) for one in again) or (
            isinstance(first, Request) and first.method == "POST"
        )  # one that was signed with a time, or has an id, is for one strike
        player.put(Pause(20))


@every_venue
def test_a_strike_needs_no_lane_and_no_knowledge(stand: VenueProfile) -> None:
    call = strike(stand.player())
    assert call.urgent and call.cancel


@every_venue
def test_an_accepted_strike_is_accepted_and_never_the_end_of_the_work(stand: VenueProfile) -> None:
    for body in stand.accepted:
        player = stand.ready()
        read(stand, player, *stand.ids)
        call = strike(player)
        fact, *outputs = player.put(answer(call.tag, body))
        assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.ACCEPTED and fact.evidence
        assert all(isinstance(output, Call) and output.urgent and output.command for output in outputs)
        assert set(player.adapter.book.orders) == set(stand.ids)


@every_venue
def test_the_orders_that_an_answer_names_as_cancelled_are_kept_for_the_count_of_a_kill_and_of_no_other_time(
    stand: VenueProfile,
) -> None:
    names = {"roxom", "kuna", "crosstrade", "kraken-futures", "deribit", "binance-spot"}  # the others: a sentence
    for traced in (False, True):
        player = stand.ready()
        read(stand, player, *stand.ids)
        call = strike(player)
        if traced:
            player.adapter.book.trace()
        said: set[str] = set()
        for body in stand.accepted:
            player.put(answer(call.tag, body))
            said |= player.adapter.book.ended.keys()
            call = strike(player)
        assert bool(said) == (traced and stand.venue in names)
        assert not any(player.adapter.book.ended.values())


@every_venue
def test_a_pushed_end_is_kept_for_the_count_of_a_kill_as_a_cancel_or_as_another_end(stand: VenueProfile) -> None:
    player = stand.ready()
    player.adapter.book.trace()
    ends = {"oxfun": ("CANCELED_BY_USER", "FILLED"), "kuna": ("Canceled", "Closed"), "kraken": ("canceled", "filled")}
    ends |= dict.fromkeys(("binance-spot", "binance-usdm", "binance-coinm"), ("CANCELED", "FILLED"))
    cancelled, filled = ends.get(stand.venue, ("cancelled", "filled"))
    first, second = (f"{stand.ids[0][:-1]}{digit}" for digit in "78")
    for one, status in ((first, cancelled), (second, filled)):
        player.put(hears(1, stand.pushed(one, stand.live[0])))
        player.put(hears(1, stand.pushed(one, status)))
    assert list(player.adapter.book.entered) == [first, second]
    assert [(one, at_ns > 0) for one, at_ns in player.adapter.book.ended.items()] == [(first, False), (second, True)]
    player.adapter.drop_strike_work()
    assert not player.adapter.book.tracing


@every_venue
def test_refused_and_unknown_answers_to_a_cancel_have_different_outcomes(stand: VenueProfile) -> None:
    expected = [(CancelOutcome.REFUSED, *one) for one in stand.refused] + [
        (CancelOutcome.UNKNOWN, *one) for one in stand.unknown
    ]
    for verdict, status, body in expected:
        player = stand.ready()
        call = strike(player)
        [fact] = player.put(answer(call.tag, body, status))
        assert isinstance(fact, CancelAnswered) and (fact.answer, fact.cancelled) == (verdict, None), fact
        assert fact.evidence


@every_venue
@pytest.mark.parametrize("known", [False, True], ids=["no order known", "an order known"])
def test_each_answer_to_a_strike_is_judged_and_the_evidence_has_the_venues_words(
    stand: VenueProfile, known: bool
) -> None:
    for status, body, verdict, words in stand.judged:
        player = stand.ready()
        if known:
            read(stand, player, stand.ids[0])
        call = strike(player)
        fact = player.put(answer(call.tag, body, status))[0]
        assert isinstance(fact, CancelAnswered) and fact.answer is verdict, (status, body, fact)
        assert words in fact.evidence and (verdict is CancelOutcome.ACCEPTED or fact.cancelled is None)
        assert not player.put(VenueTimerFired(call.tag))


@every_venue
def test_an_answer_that_proves_nothing_uses_the_second_route_at_once(stand: VenueProfile) -> None:
    for status, body in stand.nothing:
        player = stand.ready()
        call = strike(player)
        [again] = player.put(answer(call.tag, body, status))
        assert isinstance(again, Call) and again.route is Route.FRESH and again.cancel and again.urgent
        assert again.tag == call.tag
        assert is_copy(stand, again, call)
        assert not player.put(VenueTimerFired(call.tag))
        [fact] = player.put(answer(call.tag, body, status))
        assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.UNKNOWN
        assert f"HTTP {status} proves nothing" in fact.evidence
        assert not player.put(answer(call.tag, stand.accepted[0]))  # no call is pending any more


@every_venue
def test_a_second_route_that_is_answered_ends_the_strike(stand: VenueProfile) -> None:
    status, body = stand.nothing[0]
    player = stand.ready()
    call = strike(player)
    player.put(answer(call.tag, body, status))
    [fact] = player.put(answer(call.tag, stand.accepted[0]))
    assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.ACCEPTED


@every_venue
def test_a_copy_that_is_lost_or_proves_nothing_waits_for_the_other_one(stand: VenueProfile) -> None:
    player = stand.ready()
    call = strike(player)
    player.put(VenueTimerFired(call.tag))
    assert not player.put(CallLost(call.tag, True, "no answer in time"))
    [fact] = player.put(answer(call.tag, stand.accepted[0]))
    assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.ACCEPTED
    player = stand.ready()
    call = strike(player)
    player.put(VenueTimerFired(call.tag))
    assert not player.put(answer(call.tag, b"", 500))
    fact = ends_strike(player.put(CallLost(call.tag, False, "refused")))
    assert fact == CancelAnswered(CancelOutcome.UNKNOWN, "refused")  # one copy was sent


@every_venue
def test_no_answer_in_time_uses_the_second_route_once(stand: VenueProfile) -> None:
    player = stand.ready()
    call = strike(player)
    player.put(Pause(SECOND_ROUTE_S))
    [again] = player.put(VenueTimerFired(call.tag))
    assert isinstance(again, Call) and again.route is Route.FRESH
    assert is_copy(stand, again, call)
    player(VenueTimerFired(call.tag))


@every_venue
def test_an_answer_in_time_needs_no_second_route(stand: VenueProfile) -> None:
    player = stand.ready()
    call = strike(player)
    player.put(answer(call.tag, stand.accepted[0]))
    player(VenueTimerFired(call.tag), CallLost(call.tag, True, "late"), answer(call.tag, stand.accepted[0]))


@every_venue
@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (False, False, CancelOutcome.UNSENT),
        (True, False, CancelOutcome.UNKNOWN),
        (False, True, CancelOutcome.UNKNOWN),
        (True, True, CancelOutcome.UNKNOWN),
    ],
)
def test_a_strike_lost_on_all_routes_is_unsent_only_if_no_byte_left(
    stand: VenueProfile, first: bool, second: bool, verdict: CancelOutcome
) -> None:
    player = stand.ready()
    call = strike(player)
    [again] = player.put(CallLost(call.tag, first, "down"))
    assert isinstance(again, Call) and again.route is Route.FRESH
    if stand.fans_out and not stand.ws_first:  # its symbol's other command was accepted
        verdict = CancelOutcome.UNKNOWN
    assert ends_strike(player.put(CallLost(call.tag, second, "refused"))) == CancelAnswered(verdict, "refused")
    assert not player.put(CallLost(call.tag, True, "again"))


@every_venue
def test_two_strikes_under_way_are_answered_each_once(stand: VenueProfile) -> None:
    player = stand.ready()
    call, two = strike(player), strike(player)
    assert call.tag != two.tag
    status, body = stand.refused[0]
    [last] = player.put(answer(two.tag, body, status))
    [first] = player.put(answer(call.tag, stand.accepted[0]))
    assert isinstance(first, CancelAnswered) and first.answer is CancelOutcome.ACCEPTED
    assert isinstance(last, CancelAnswered) and last.answer is CancelOutcome.REFUSED


# ── read-backs and pushes ─────────────────────────────────────────────────────────────────────────────────────────


@every_venue
def test_a_complete_read_back_lists_the_open_orders_and_replaces_the_book(stand: VenueProfile) -> None:
    player = stand.ready()
    player.put(Pause(1))
    orders_read = read(stand, player, *stand.ids)
    assert [order.id for order in orders_read.orders] == list(stand.ids)
    assert (orders_read.complete, orders_read.asked_ns, orders_read.why) == (True, START.mono_ns + 1_000_000_000, "")
    assert player.adapter.book.is_known and set(player.adapter.book.orders) == set(stand.ids)
    assert read(stand, player) == OrdersRead((), True, player.now.mono_ns)
    assert not player.adapter.book.orders


@every_venue
def test_an_order_with_a_live_or_unknown_status_counts_as_live(stand: VenueProfile) -> None:
    for status in (*stand.live, "a status of next year", "0"):
        [order] = read(stand, stand.ready(), stand.ids[0], status=status).orders
        assert order.state is OrderState.LIVE, status


@every_venue
def test_every_status_of_an_end_takes_an_order_out_of_lists_and_out_of_the_book(stand: VenueProfile) -> None:
    for status in (stand.gone, *stand.ends):
        player = stand.ready()
        assert read(stand, player, stand.ids[0], status=status) == OrdersRead((), True, player.now.mono_ns), status
        player.put(hears(1, stand.pushed(stand.ids[1], stand.live[0])))
        player.put(hears(1, stand.pushed(stand.ids[1], status)))
        assert not player.adapter.book.orders, status


@every_venue
def test_an_order_whose_cancel_is_under_way_is_pending(stand: VenueProfile) -> None:
    for status in stand.pending:
        player = stand.ready()
        [order] = read(stand, player, stand.ids[0], status=status).orders
        assert order.state is OrderState.PENDING, status
        player.put(hears(1, stand.pushed(stand.ids[1], stand.live[0])))
        player.put(hears(1, stand.pushed(stand.ids[1], status)))
        assert player.adapter.book.orders[stand.ids[1]].state is OrderState.PENDING


@every_venue
def test_two_reads_under_way_are_not_mixed_up(stand: VenueProfile) -> None:
    player = stand.ready()
    first = calls_of(player.put(Read()))
    second = calls_of(player.put(Read()))
    if not second:
        pytest.skip("the venue reads one list after the other")
    facts = [*player.put(stand.reads(first[0], stand.ids[1]))]
    facts += [fact for call in second for fact in player.put(stand.reads(call, stand.ids[0]))]
    facts += [fact for call in first[1:] for fact in player.put(stand.reads(call, stand.ids[1]))]
    reads = [fact for fact in facts if isinstance(fact, OrdersRead)]
    assert all(fact.complete for fact in reads)
    assert sorted([order.id for order in fact.orders] for fact in reads) == sorted([one] for one in stand.ids)


@every_venue
def test_a_failed_read_back_is_incomplete_and_removes_no_order_from_the_book(stand: VenueProfile) -> None:
    for status, body in (*stand.refused, *stand.unknown, *stand.nothing, stand.key_refused):
        if status == 429 and stand.waits:
            continue
        player = stand.ready()
        read(stand, player, *stand.ids)
        first, *calls = calls_of(player.put(Read()))
        facts = list(player.put(answer(first.tag, body, status)))
        if any(isinstance(fact, Call) for fact in facts):
            facts = list(player.put(answer(first.tag, body, status)))
        for call in calls:
            facts += player.put(stand.reads(call))
        [fact] = facts
        assert isinstance(fact, OrdersRead) and not fact.complete and not fact.orders and fact.why, (status, body)
        assert set(player.adapter.book.orders) == set(stand.ids)


@every_venue
def test_a_read_back_lost_on_all_routes_is_incomplete(stand: VenueProfile) -> None:
    player = stand.ready()
    asked = calls_of(player.put(Read()))
    assert asked and all(call.urgent and not call.cancel and not call.command for call in asked)
    again = [call for one in asked for call in calls_of(player.put(CallLost(one.tag, True, "down")))]
    assert [call.route for call in again] == [Route.FRESH] * len(asked)
    facts = [fact for one in asked for fact in player.put(CallLost(one.tag, True, "refused"))]
    [fact] = facts
    assert isinstance(fact, OrdersRead) and not fact.complete and "refused" in fact.why


@every_venue
def test_a_read_back_that_is_slow_takes_the_second_route_and_its_first_answer_counts(stand: VenueProfile) -> None:
    player = stand.ready()
    asked = calls_of(player.put(Read()))
    again = [call for one in asked for call in calls_of(player.put(VenueTimerFired(one.tag)))]
    facts = [fact for call in again for fact in player.put(stand.reads(call, *stand.ids))]
    facts += [fact for call in asked for fact in player.put(stand.reads(call))]
    [fact] = facts
    assert isinstance(fact, OrdersRead) and len(fact.orders) == len(stand.ids)


@every_venue
def test_a_pushed_order_is_seen_once_counts_as_alive_and_leaves_at_its_end(stand: VenueProfile) -> None:
    player = stand.ready()
    one = stand.ids[0]
    outputs = player.put(hears(1, stand.pushed(one, "a status of next year")))
    [seen] = [output for output in outputs if not isinstance(output, OrderPlaced)]
    assert isinstance(seen, OrderSeen) and (seen.order.id, seen.order.state) == (one, OrderState.LIVE)
    player(hears(1, stand.pushed(one, stand.live[0])), hears(1, stand.pushed(one, stand.gone)))
    assert not player.adapter.book.orders


@every_venue
def test_an_order_that_a_read_back_has_shown_is_not_news(stand: VenueProfile) -> None:
    player = stand.ready()
    read(stand, player, *stand.ids)
    push = player.put(hears(1, stand.pushed(stand.ids[0], stand.live[0])))
    assert not [output for output in push if isinstance(output, OrderSeen)]


# ── orders that no list shows ─────────────────────────────────────────────────────────────────────────────────────


def looking(stand: VenueProfile, player: Player, *ids: str) -> tuple[list[Call], list[Output]]:
    """Read back, and show these orders in the lists; return the look-ups and the facts that follow."""
    if stand.found is None:
        pytest.skip("the venue has no call for one order")
    outputs: list[Output] = []
    for call in calls_of(player.put(Read())):
        outputs.extend(player.put(stand.reads(call, *ids)))
    return calls_of(tuple(outputs)), [output for output in outputs if not isinstance(output, Call | WakeAfter)]


def pushed(stand: VenueProfile, *ids: str, status: str = "") -> Player:
    """Return a player to which a push has shown these orders alive."""
    player = stand.ready()
    for order_id in ids:
        player.put(hears(1, stand.pushed(order_id, status or stand.live[0])))
    return player


@every_venue
def test_an_order_that_was_pushed_alive_and_that_no_list_shows_is_looked_up_and_left_while_it_lives(
    stand: VenueProfile,
) -> None:
    for status in (*stand.live, "a status of next year"):
        player = pushed(stand, stand.ids[0])
        for _ in range(2):
            [call], facts = looking(stand, player)
            assert not facts and call.urgent and looked_up(stand, call) == stand.ids[0]
            [fact] = player.put(answer(call.tag, found(stand, call, status)))
            assert isinstance(fact, OrdersRead) and fact.complete
            assert [(order.id, order.state) for order in fact.orders] == [(stand.ids[0], OrderState.LIVE)]
            assert set(player.adapter.book.orders) == {stand.ids[0]}


@every_venue
def test_an_order_that_no_list_shows_ends_with_the_venues_own_word(stand: VenueProfile) -> None:
    player = stand.ready()
    looking(stand, player)
    assert stand.found is not None
    for status, body in ((200, stand.found(stand.ids[0], stand.gone)), *stand.forgotten):
        player = pushed(stand, stand.ids[0])
        player.put(Pause(player.adapter.TIMING.list_lag_s))  # before, it may not be visible yet
        [call], _ = looking(stand, player)
        player(answer(call.tag, body, status), OrdersRead((), True, player.now.mono_ns))
        assert not player.adapter.book.orders
        calls, [fact] = looking(stand, player)
        assert not calls and fact == OrdersRead((), True, player.now.mono_ns)


@every_venue
def test_an_order_that_cannot_be_looked_up_makes_the_read_incomplete_and_is_named(stand: VenueProfile) -> None:
    player = stand.ready()
    looking(stand, player)
    assert stand.found is not None
    wrong = (200, stand.found("another order", stand.gone))
    for status, body in (*stand.unknown, *stand.nothing, *stand.refused, stand.key_refused, wrong, (404, {})):
        player = pushed(stand, stand.ids[0])
        [call], _ = looking(stand, player)
        [fact] = player.put(answer(call.tag, body, status))
        if isinstance(fact, Call):
            assert fact.route is Route.FRESH
            [fact] = player.put(answer(call.tag, body, status))
        assert isinstance(fact, OrdersRead) and not fact.complete and not fact.orders, (status, body)
        assert stand.ids[0] in fact.why and set(player.adapter.book.orders) == {stand.ids[0]}
    [call], _ = looking(stand, player)
    player.put(CallLost(call.tag, True, "down"))
    [fact] = player.put(CallLost(call.tag, True, "refused"))
    assert isinstance(fact, OrdersRead) and not fact.complete and "refused" in fact.why


@every_venue
def test_an_order_whose_end_was_pushed_or_that_a_list_showed_later_is_not_looked_up(stand: VenueProfile) -> None:
    player = pushed(stand, stand.ids[0])
    player.put(hears(1, stand.pushed(stand.ids[0], stand.gone)))
    calls, [fact] = looking(stand, player)
    assert not calls and fact == OrdersRead((), True, START.mono_ns)
    player = pushed(stand, stand.ids[0])
    read(stand, player, stand.ids[0])
    calls, [fact] = looking(stand, player)
    assert not calls and fact == OrdersRead((), True, START.mono_ns)


@every_venue
def test_an_order_that_its_list_lacks_leaves_the_book_while_a_pushed_order_is_in_doubt(stand: VenueProfile) -> None:
    player = stand.ready()
    read(stand, player, stand.ids[1])
    player.put(hears(1, stand.pushed(stand.ids[0], stand.live[0])))
    [call], _ = looking(stand, player)
    player.put(CallLost(call.tag, True, "down"))
    [fact] = player.put(CallLost(call.tag, True, "refused"))
    assert isinstance(fact, OrdersRead) and not fact.complete
    assert set(player.adapter.book.orders) == {stand.ids[0]}


@every_venue
def test_an_end_that_is_pushed_while_an_order_is_looked_up_counts(stand: VenueProfile) -> None:
    player = pushed(stand, stand.ids[0])
    [call], _ = looking(stand, player)
    player.put(hears(1, stand.pushed(stand.ids[0], stand.gone)))
    player(answer(call.tag, found(stand, call, stand.live[0])), OrdersRead((), True, START.mono_ns))


@every_venue
def test_an_order_that_a_list_shows_while_it_is_looked_up_and_found_alive_is_left(stand: VenueProfile) -> None:
    player = pushed(stand, stand.ids[0])
    [call], _ = looking(stand, player)
    stand.probe_lists(player, stand.ids[0], after_s=0.001)
    [fact] = player.put(answer(call.tag, found(stand, call, stand.live[0])))
    assert isinstance(fact, OrdersRead) and [order.id for order in fact.orders] == [stand.ids[0]]
    assert set(player.adapter.book.orders) == {stand.ids[0]}


@every_venue
def test_an_order_that_a_later_list_shows_while_a_slow_read_is_under_way_is_left(stand: VenueProfile) -> None:
    """A stop order is triggered, and goes to the list that everybody reads."""
    if stand.found is None:
        pytest.skip("the venue has no call for one order")
    player = pushed(stand, stand.ids[0])
    slow = calls_of(player.put(Read()))
    stand.probe_lists(player, stand.ids[0], after_s=0.001)
    reads = [output for call in slow for output in player.put(stand.reads(call)) if isinstance(output, OrdersRead)]
    assert [[order.id for order in fact.orders] for fact in reads] == [[stand.ids[0]]]


@every_venue
def test_an_order_that_is_pushed_while_another_one_is_looked_up_makes_the_read_incomplete(stand: VenueProfile) -> None:
    player = pushed(stand, stand.ids[0])
    [call], _ = looking(stand, player)
    player.put(hears(1, stand.pushed(stand.ids[1], stand.live[0])))
    [fact] = player.put(answer(call.tag, found(stand, call, stand.gone)))
    assert isinstance(fact, OrdersRead) and not fact.complete and stand.ids[1] in fact.why
    assert set(player.adapter.book.orders) == {stand.ids[1]}


@every_venue
def test_listed_orders_are_reported_at_once_though_a_pushed_order_is_on_no_list(stand: VenueProfile) -> None:
    player = pushed(stand, stand.ids[0])
    calls, [fact] = looking(stand, player, stand.ids[1])
    assert not calls and isinstance(fact, OrdersRead)
    assert [order.id for order in fact.orders] == [stand.ids[1]] and not fact.complete and stand.ids[0] in fact.why
    assert set(player.adapter.book.orders) == set(stand.ids)


@every_venue
def test_many_orders_that_no_list_shows_are_looked_up_a_few_at_a_time_until_each_has_had_its_turn(
    stand: VenueProfile,
) -> None:
    ids = [f"{stand.ids[0][:-2]}{number:02}" for number in range(2 * MAX_LOOK_UPS + 1)]
    player = pushed(stand, *ids)
    left, asked = set(ids), []
    while left:
        player.put(Pause(60))  # the venue's limit has room again
        calls, _ = looking(stand, player)
        now = {one for call in calls for one in looked_up(stand, call).split(",")}
        assert len(calls) <= MAX_LOOK_UPS and (len(now) >= 5 or now == left)
        facts = [fact for call in calls for fact in player.put(answer(call.tag, found(stand, call, stand.gone)))]
        asked += [one for call in calls for one in looked_up(stand, call).split(",")]
        left -= set(asked)
        [fact] = facts
        assert isinstance(fact, OrdersRead) and fact.complete == (not left) and set(player.adapter.book.orders) == left
    assert sorted(asked) == sorted(ids)


@every_venue
def test_orders_that_go_on_living_take_no_other_ones_turn(stand: VenueProfile) -> None:
    ids = [f"{stand.ids[0][:-2]}{number:02}" for number in range(MAX_LOOK_UPS + 1)]
    player = pushed(stand, *ids)
    asked = set()
    for _ in range(2):
        player.put(Pause(60))  # the venue's limit has room again
        for call in looking(stand, player)[0]:
            asked |= set(looked_up(stand, call).split(","))
            player.put(answer(call.tag, found(stand, call, stand.live[0])))
    assert asked == set(ids)


@every_venue
def test_a_read_with_a_failed_list_reports_the_other_lists_and_names_the_order_on_no_list(stand: VenueProfile) -> None:
    player = pushed(stand, stand.ids[0])
    first, *calls = calls_of(player.put(Read()))
    if stand.found is None or not calls:
        pytest.skip("the venue has one list")
    outputs = [*player.put(stand.reads(first, stand.ids[1]))]
    status, body = stand.refused[0]
    for call in calls:
        outputs += player.put(answer(call.tag, body, status))
    [fact] = outputs
    assert isinstance(fact, OrdersRead) and not fact.complete
    assert [order.id for order in fact.orders] == [stand.ids[1]] and stand.ids[0] in fact.why
    assert set(player.adapter.book.orders) == set(stand.ids)


def test_an_order_that_no_list_shows_is_named_where_the_venue_has_no_call_for_one_order() -> None:
    adapter = STANDS["oxfun"].make()
    adapter.read_backs.order_request = lambda order_id: None
    for number in range(5):
        adapter.book.apply_push(Order(str(number), "BTC", OrderState.LIVE, "OPEN"))
    [fact] = adapter.read_backs.take_list(ReadBack(START.mono_ns, set()), "working", (), "", START)
    why = "seen alive, not seen to end, and in no list: 0, 1, 2 and 2 more"
    assert fact == OrdersRead((), False, START.mono_ns, why)


def test_a_refused_cancel_of_an_unknown_order_adds_no_order_to_the_book() -> None:
    adapter = STANDS["oxfun"].make()
    adapter.book.note_cancel_refused("1")
    assert not adapter.book.orders and not adapter.book.unproven


@every_venue
def test_live_orders_that_a_list_has_shown_do_not_wait_for_a_list_that_is_late(stand: VenueProfile) -> None:
    player = stand.ready()
    first, *calls = calls_of(player.put(Read()))
    if stand.found is None or not calls:
        pytest.skip("the venue has one list")
    assert not player.put(stand.reads(first, stand.ids[1]))
    again, fact = player.put(VenueTimerFired(calls[0].tag))
    assert isinstance(again, Call) and again.route is Route.FRESH
    assert isinstance(fact, OrdersRead) and not fact.complete and fact.why.endswith(": no answer yet")
    assert [order.id for order in fact.orders] == [stand.ids[1]]
    outputs = [fact for call in calls[1:] for fact in player.put(VenueTimerFired(call.tag))]
    assert all(isinstance(fact, Call) for fact in outputs)  # it is told once
    [end] = [fact for call in calls for fact in player.put(stand.reads(call))]
    assert isinstance(end, OrdersRead) and end.complete and end.orders == fact.orders


# ── orders that somebody places ───────────────────────────────────────────────────────────────────────────────────


def pushing(stand: VenueProfile) -> None:
    if not stand.make().pushes_orders:
        pytest.skip("orders of others show in its reads alone")


def placed(outputs: tuple[Output, ...]) -> list[str]:
    return [output.order.id for output in outputs if isinstance(output, OrderPlaced)]


def founds(player: Player) -> list[tuple[set[str], float]]:
    """Return the orders that were told as found, and how many seconds before now they may have been placed."""
    return [(set(fact.ids), (player.now.mono_ns - fact.since_ns) / 1e9) for fact in player.found]


def answered(stand: VenueProfile, player: Player, calls: Iterable[Call], *ids: str) -> None:
    stand.answer(player, tuple(calls), *ids)


def back(stand: VenueProfile, player: Player, conn: int = 2) -> list[Call]:
    """Let another WebSocket connection become ready, and return what is read then."""
    outputs = stand.log_in(player, conn)
    assert Ready(Route.WS, conn) in outputs
    return calls_of(outputs)


@every_venue
def test_a_new_order_that_a_push_shows_alive_was_placed_now_and_once(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    push = hears(1, stand.pushed(stand.ids[0], stand.live[0]))
    assert placed(player.put(push)) == [stand.ids[0]]
    again = (*player.put(push), *player.put(hears(1, stand.pushed(stand.ids[0], stand.gone))), *player.put(push))
    read(stand, player, *stand.ids[:1])
    assert (placed((*again, *player.put(push))), player.found) == ([], [])


@every_venue
def test_the_end_of_an_unknown_order_is_reported_as_no_new_order(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    end = hears(1, stand.pushed(stand.ids[0], stand.gone))
    assert placed((*player.put(end), *player.put(end))) == []
    player.put(Pause(61))
    assert placed(player.put(hears(1, stand.pushed(stand.ids[0], stand.live[0])))) == []  # nor is a late echo of it


@every_venue
def test_an_order_whose_end_comes_before_its_beginning_was_placed_all_the_same(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    player.put(hears(1, stand.pushed(stand.ids[0], stand.gone)))
    late = hears(1, stand.pushed(stand.ids[0], stand.live[0]))
    assert placed((*player.put(late), *player.put(late))) == [stand.ids[0]]
    assert (
        set(player.adapter.book.orders) == {stand.ids[0]} and player.adapter.book.open_orders == 0
    )  # a kill hits it; it counts not
    player.put(Pause(5))
    read(stand, player, stand.ids[0])
    player.put(late)
    assert player.adapter.book.open_orders == 1


@every_venue
def test_an_order_that_a_list_shows_before_its_push_counts_from_the_list_before_and_again_with_its_push(
    stand: VenueProfile,
) -> None:
    pushing(stand)
    player = stand.ready()
    for _ in player.adapter.book.lists:
        answered(stand, player, calls_of(player.put(Probe())))
    player.put(Pause(5))
    read(stand, player, *stand.ids)
    assert founds(player) == [(set(stand.ids), 5.0)]
    player.put(Pause(8))
    push = hears(1, stand.pushed(stand.ids[0], stand.live[0]))
    assert placed((*player.put(push), *player.put(push))) == [stand.ids[0]]
    player.put(Pause(60))
    assert placed(player.put(hears(1, stand.pushed(stand.ids[1], stand.live[0])))) == []  # an old order has changed
    read(stand, player)
    for order_id in stand.ids:  # late, or once more
        assert placed(player.put(hears(1, stand.pushed(order_id, stand.gone)))) == []
    assert len(player.found) == 1


def test_orders_that_left_the_book_are_remembered_but_not_for_ever() -> None:
    adapter = STANDS["oxfun"].make()
    adapter.book.start_pushes(1, 0)
    adapter.book.apply_listing("working", (), 0, whole=True)
    order = Order("", "BTC", OrderState.GONE, "FILLED")
    for number in range(PAST_IDS + 1):
        one = order._replace(id=str(number))
        assert adapter.book.apply_push(one, opened=True) == (OrderPlaced(one),)
    assert adapter.book.apply_push(order._replace(id="1"), opened=True) == ()
    assert adapter.book.apply_push(order._replace(id="0"), opened=True) == (OrderPlaced(order._replace(id="0")),)
    assert len(adapter.book._past) == PAST_IDS


@every_venue
def test_an_order_that_only_a_probe_shows_is_seen_and_not_placed_now_and_one_that_it_misses_comes_back_unplaced(
    stand: VenueProfile,
) -> None:
    player = stand.ready()
    shown: list[Output] = []
    for ids in ((stand.ids[0],), (), stand.ids):
        shown += stand.probe_lists(player, *ids)
    assert not [output for output in shown if isinstance(output, OrderPlaced)]
    assert set(player.adapter.book.orders) == set(stand.ids)
    live = [order.id for output in shown for order in _live_orders(output)]
    assert set(live) == set(stand.ids)


def _live_orders(output: Output) -> tuple[Order, ...]:
    if isinstance(output, OrderSeen):
        return (output.order,)
    return tuple(output.orders) if isinstance(output, OrdersRead) else ()


@every_venue
def test_no_order_counts_as_placed_before_the_whole_book_was_read(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.player()
    stand.log_in(player, 1)
    assert placed(player.put(hears(1, stand.pushed(stand.ids[0], stand.live[0])))) == []
    outputs = player.put(Opened(Route.HTTP, 0))
    answered(stand, player, calls_of(outputs), *stand.ids)
    assert player.adapter.book.is_current and player.found == []  # what is open at first sight was there before


@every_venue
def test_a_list_that_is_refused_at_the_start_is_asked_for_again_and_until_then_nothing_is_current(
    stand: VenueProfile,
) -> None:
    pushing(stand)
    player = stand.player()
    stand.log_in(player, 1)
    for call in calls_of(player.put(Opened(Route.HTTP, 0))):
        player.put(answer(call.tag, stand.refused[0][1], 400))
    assert not player.adapter.book.is_known and not player.adapter.book.is_current
    answered(stand, player, calls_of(player.put(Probe())))
    assert player.adapter.book.is_current


@every_venue
def test_all_lists_are_read_when_pushes_begin_again_and_only_then_the_book_is_current(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    player.put(Pause(600))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(Pause(30))
    lists = [call for call in back(stand, player) if not call.tag.startswith("token")]  # a key may be confirmed beside
    targets = [stand.target(call.request.target) for call in calls_of(stand.ready().adapter.read(player.now))]
    assert [stand.target(call.request.target) for call in lists] == targets and not any(call.urgent for call in lists)
    assert not player.adapter.book.is_current
    answered(stand, player, lists, *stand.ids)
    assert player.adapter.book.is_current and founds(player) == [(set(stand.ids), 630 + stand.settle_s)]


@every_venue
def test_lists_read_as_pushes_begin_were_asked_for_before_a_strike_of_that_moment(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    player.put(Pause(600))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(Pause(30))
    lists, now_ns = back(stand, player), player.now.mono_ns
    told = len(player.outputs)
    answered(stand, player, lists)
    reads = [output for output in player.outputs[told:] if isinstance(output, OrdersRead)]
    assert all(orders_read.asked_ns < now_ns for orders_read in reads) and player.adapter.book.is_current


@every_venue
def test_a_push_behind_a_gap_that_has_not_been_read_yet_may_be_of_an_order_of_the_gap(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    player.put(Pause(20))
    player.put(Closed(Route.WS, 1, "gone"))
    lists = back(stand, player)
    assert placed(player.put(hears(2, stand.pushed(stand.ids[0], stand.live[0])))) == []
    assert founds(player) == [({stand.ids[0]}, 20.0 + stand.settle_s)]
    answered(stand, player, lists, *stand.ids)
    assert founds(player)[1:] == [({stand.ids[1]}, 20.0 + stand.settle_s)]
    assert placed(player.put(hears(2, stand.pushed(stand.ids[1], stand.live[0])))) == []


def list_rates(adapter: Adapter) -> list[float]:
    """Return how many lists a second may be read for long, by each pool that they take of."""
    pools = {name: count.pool for name, count in adapter.budget.counts.items()}
    weights = weights_of(pools.values(), adapter.COSTS, adapter.budget.demand.read)
    return [pools[name].read_rate * len(adapter.book.lists) / weight for name, weight in weights.items()]


@every_venue
def test_connections_that_come_and_go_do_not_read_without_end(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    reads: list[Call] = []
    rates = list_rates(player.adapter)
    due_s, timers = float("inf"), 0
    for conn in range(2, 102):  # ten a second
        player.put(Pause(0.1))
        player.put(Closed(Route.WS, conn - 1, "gone"))
        before = len(player.outputs)
        reads += back(stand, player, conn)
        for output in player.outputs[before:]:
            if isinstance(output, WakeAfter) and output.tag == REFRESH:
                due_s, timers = conn / 10 + output.seconds, timers + 1
        if conn / 10 >= due_s:
            due_s = float("inf")
            outputs = player.put(VenueTimerFired(REFRESH))
            reads += calls_of(outputs)
            for again in outputs:
                if isinstance(again, WakeAfter) and again.tag == REFRESH:
                    due_s, timers = conn / 10 + again.seconds, timers + 1
    assert min(15, 10 * min(rates) - 4) <= len(reads) <= 26 and 2 <= timers <= 20
    answered(stand, player, reads[-len(player.adapter.book.lists) :])
    stand.probe_lists(player)
    assert player.adapter.book.is_current


@every_venue
def test_while_another_connection_pushes_there_is_no_gap(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    player.put(Pause(20))
    lists = back(stand, player)
    assert lists and player.adapter.book.is_current
    player.put(Closed(Route.WS, 1, "replaced"))
    assert placed(player.put(hears(2, stand.pushed(stand.ids[0], stand.live[0])))) == [stand.ids[0]]


@every_venue
def test_orders_that_were_replaced_in_a_gap_count_as_open_once(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    old = [one for one in many(stand, 60)]
    new = [one for one in many(stand, 120)][60:]
    for one in old:
        player.put(hears(1, stand.pushed(one, stand.live[0])))
    assert player.adapter.book.open_orders == 60
    player.put(Pause(5))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(Pause(5))
    answered(stand, player, back(stand, player), *new)
    assert player.adapter.book.open_orders == 60 and set(player.adapter.book.orders) == {*old, *new}


def test_at_crosstrade_too_orders_that_were_replaced_in_a_gap_count_as_open_once() -> None:
    stand = STANDS["crosstrade"]
    player = stand.ready()
    player.put(hears(1, stand.pushed(stand.ids[0], stand.live[0])))
    player.put(Pause(5))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(Pause(5))
    stand.open(player, 2)
    hello = {"orders": [{**payload("crosstrade/order"), "orderId": stand.ids[1], "orderState": "Working"}]}
    player.put(hears(2, {"id": "hello", "data": {**hello, "success": True}}))
    assert set(player.adapter.book.orders) == set(stand.ids) and player.adapter.book.open_orders == 1
    assert founds(player) == [({stand.ids[1]}, 10.0 + stand.settle_s)] and player.adapter.book.is_current


@every_venue
def test_doubted_orders_are_looked_up_a_few_at_a_time_and_count_again_if_they_are_alive(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    assert stand.found is not None
    ids = many(stand, 12)
    for one in ids:
        player.put(hears(1, stand.pushed(one, stand.live[0])))
    player.put(Pause(5))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(Pause(60))
    looks = [out for call in back(stand, player) for out in player.put(stand.reads(call, stand.ids[0]))]
    turns, alive = 0, {stand.ids[0]}
    while pending := [call for call in calls_of(tuple(looks)) if call.tag.startswith(LOOK_UP)]:
        assert len(pending) <= 5 and not any(call.urgent for call in pending)
        for call in pending:
            one = looked_up(stand, call)
            status = stand.live[0] if one == ids[0] else stand.gone  # of several orders each has ended
            player.put(answer(call.tag, stand.found(one, status)))
            alive = alive | {one} if status == stand.live[0] else alive
        player.put(Pause(60))
        looks = [out for call in calls_of(player.put(Probe())) for out in player.put(stand.reads(call, stand.ids[0]))]
        turns += 1
    assert turns == (3 if ids[0] in alive else 1)
    assert set(player.adapter.book.orders) == alive and player.adapter.book.open_orders == len(alive)


@every_venue
def test_an_end_that_is_pushed_during_a_read_overrides_the_older_list(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    player.put(hears(1, stand.pushed(stand.ids[0], stand.live[0])))
    asked = calls_of(player.put(Read()))
    player.put(Pause(0.5))
    player.put(hears(1, stand.pushed(stand.ids[0], stand.gone)))
    answered(stand, player, asked, stand.ids[0])
    assert player.adapter.book.open_orders == 0


@every_venue
def test_an_older_answer_says_nothing_of_the_book_once_a_later_one_has_come(stand: VenueProfile) -> None:
    pushing(stand)
    player = stand.ready()
    old = calls_of(player.put(Read()))
    player.put(Pause(0.5))
    answered(stand, player, calls_of(player.put(Read())), stand.ids[0])
    answered(stand, player, old, stand.ids[1])
    assert set(player.adapter.book.orders) == {stand.ids[0]}


def many(stand: VenueProfile, count: int) -> list[str]:
    """Return well-formed ids."""
    first = stand.ids[0]
    return [f"{first[:-4]}{number:04d}" for number in range(1000, 1000 + count)]


# ── plan, drill, figures, clock ───────────────────────────────────────────────────────────────────────────────────


@every_venue
@pytest.mark.parametrize("known", [False, True])
def test_the_plan_lists_the_requests_of_a_strike_and_sends_nothing(stand: VenueProfile, known: bool) -> None:
    player = stand.ready()
    if known:
        read(stand, player, *stand.ids)
    plan = player.adapter.describe_strike()
    assert plan == player.adapter.describe_strike() and all(line and line.isprintable() for line in plan)
    assert not any(secret in line for secret in stand.secrets().values() for line in plan)
    sent = player.put(Kill())
    commands = [call for call in calls_of(sent) if not (stand.fans_out and stand.is_read(call.request))]
    calls = {(call.request.method, stand.target(call.request.target)) for call in commands}
    shown = [line for line in plan if not (stand.fans_out and line.startswith("GET "))]
    http = [line.split(" ") for line in shown if not line.startswith("ws ")]
    assert {(method, target) for method, target, *_ in http} == calls
    frames = [json.loads(output.text) for output in sent if isinstance(output, Send)]
    verbs = {f'"{stand.verb}":"{frame[stand.verb]}"' for frame in frames}
    on_ws = [line for line in plan if line.startswith("ws ")]
    assert all(any(verb in line for line in on_ws) for verb in verbs) and bool(on_ws) == bool(verbs)


def drill(stand: VenueProfile, player: Player) -> tuple[Call, Send | None]:
    """Start a drill; the call and the frame that it makes."""
    outputs = player.put(Drill())
    assert not [output for output in outputs if not isinstance(output, Call | Send | WakeAfter)]
    [call], frames = calls_of(outputs), [output for output in outputs if isinstance(output, Send)]
    assert not call.urgent and not call.command and not any(frame.command for frame in frames)
    assert (Route.WS in player.adapter.drill_routes) == bool(frames) and Route.HTTP in player.adapter.drill_routes
    return call, frames[0] if frames else None


@every_venue
def test_a_drill_whose_order_is_not_found_proves_each_lane(stand: VenueProfile) -> None:
    for status, body in stand.drilled:
        player = stand.ready()
        call, frame = drill(stand, player)
        reply = answer(call.tag, body, status)._replace(rtt_us=700)
        [fact] = player.put(reply)
        assert isinstance(fact, Drilled) and (fact.route, fact.ok, fact.rtt_us) == (Route.HTTP, True, 700), fact
        assert fact.evidence
        assert not player.put(reply) and not player.put(VenueTimerFired(call.tag))
        if frame is None or stand.ws_drilled is None:
            continue
        player.put(Pause(0.002))
        message = stand.ws_drilled(json.loads(frame.text))
        [fact] = player.put(hears(1, message))
        assert isinstance(fact, Drilled) and (fact.route, fact.ok, fact.rtt_us) == (Route.WS, True, 2000), fact
        assert fact.evidence
        assert not [output for output in player.put(hears(1, message)) if isinstance(output, Drilled)]


@every_venue
def test_a_drill_that_is_refused_or_proves_nothing_has_failed(stand: VenueProfile) -> None:
    for status, body in (*stand.not_drilled, *stand.nothing, stand.key_refused):
        player = stand.ready()
        call, _ = drill(stand, player)
        [fact] = player.put(answer(call.tag, body, status))
        assert isinstance(fact, Drilled) and not fact.ok and fact.evidence, (status, body)
    if stand.ws_not_drilled is not None:
        player = stand.ready()
        _, frame = drill(stand, player)
        assert frame is not None
        [fact] = player.put(hears(1, stand.ws_not_drilled(json.loads(frame.text))))
        assert isinstance(fact, Drilled) and (fact.route, fact.ok) == (Route.WS, False) and fact.evidence


@every_venue
def test_a_drill_without_an_answer_ends_as_failed_on_every_lane(stand: VenueProfile) -> None:
    player = stand.ready()
    wakes = [output for output in player.put(Drill()) if isinstance(output, WakeAfter)]
    assert {wake.seconds for wake in wakes} == {DRILL_WITHIN_S} and len(wakes) == len(player.adapter.drill_routes)
    player.put(Pause(DRILL_WITHIN_S))
    facts = [fact for wake in wakes for fact in player.put(VenueTimerFired(wake.tag))]
    assert [fact for fact in facts if not isinstance(fact, Drilled) or fact.ok or not fact.evidence] == []
    assert {fact.route for fact in facts if isinstance(fact, Drilled)} == set(player.adapter.drill_routes)
    assert not [fact for wake in wakes for fact in player.put(VenueTimerFired(wake.tag))]


@every_venue
def test_a_drill_ends_when_its_lane_is_lost_and_fails_where_there_is_none(stand: VenueProfile) -> None:
    player = stand.ready()
    call, frame = drill(stand, player)
    player(CallLost(call.tag, True, "down"), Drilled(Route.HTTP, False, 0, "down"))
    facts = [fact for fact in player.put(Closed(Route.WS, 1, "gone")) if isinstance(fact, Drilled)]
    assert [(fact.route, fact.ok, fact.evidence) for fact in facts] == [(Route.WS, False, "gone")] * bool(frame)
    facts = [fact for fact in player.put(Drill()) if isinstance(fact, Drilled)]
    assert [(fact.route, fact.ok) for fact in facts] == [(Route.WS, False)] * bool(frame)


@every_venue
def test_a_drill_and_a_kill_at_the_same_time_do_not_meet(stand: VenueProfile) -> None:
    player = stand.ready()
    read(stand, player, *stand.ids)
    call, frame = drill(stand, player)
    if stand.ws_first:
        frame = None  # that lane goes away before the strike
    struck = strike(player)
    assert struck.tag != call.tag
    status, body = stand.drilled[0]
    facts = [*player.put(answer(call.tag, body, status))]
    if frame is not None and stand.ws_drilled is not None:
        facts += player.put(hears(1, stand.ws_drilled(json.loads(frame.text))))
    assert facts and all(isinstance(fact, Drilled) and fact.ok for fact in facts)
    assert set(player.adapter.book.orders) == set(stand.ids)
    [answered, *_] = player.put(answer(struck.tag, stand.accepted[0]))
    assert isinstance(answered, CancelAnswered) and answered.answer is CancelOutcome.ACCEPTED


def measure(stand: VenueProfile, player: Player) -> list[Output]:
    """Measure; whatever comes of it that is neither a call nor a timer."""
    if stand.worth is None:
        assert player.put(Measure()) == ()
        pytest.skip("it has no figures")
    facts: list[Output] = []
    work = list(player.put(Measure()))
    while work:
        match work.pop(0):
            case Call() as call:
                assert not call.urgent and not call.cancel and stand.is_read(call.request)
                work += player.put(answer(call.tag, stand.worth(call)))
            case WakeAfter(tag, seconds):
                player.put(Pause(seconds))
                work += player.put(VenueTimerFired(tag))
            case Send(command=command):  # have them pushed
                assert not command
            case fact:
                facts.append(fact)
    return facts


@every_venue
def test_a_measurement_ends_in_the_equity_of_the_account(stand: VenueProfile) -> None:
    player = stand.ready()
    player.put(Pause(60))
    began_ns = player.now.mono_ns
    [fact] = measure(stand, player)
    assert isinstance(fact, Equity) and fact.asked_ns == began_ns
    assert {currency: str(amount.normalize()) for currency, amount in fact.amounts.items()} == stand.equity
    assert set(player.adapter.CURRENCIES) <= set(fact.amounts)


@every_venue
def test_a_measurement_that_fails_tells_no_figure(stand: VenueProfile) -> None:
    if stand.worth is None:
        pytest.skip("it has no figures")
    for status, body in (*stand.refused, *stand.unknown, *stand.nothing, stand.key_refused, (200, {"data": [{}]})):
        player = stand.ready()
        for call in calls_of(player.put(Measure())):
            facts = player.put(answer(call.tag, body, status))
            assert not [fact for fact in facts if not isinstance(fact, UnexplainedMessage | Call)], (status, body)
    player = stand.ready()
    for call in calls_of(player.put(Measure())):
        assert not player.put(CallLost(call.tag, True, "down"))


def dated(player: Player, tag: str, ahead_s: float, status: int, body: object) -> Replied:
    """Let an answer come in 40 ms after its request, from a venue whose clock is that far ahead."""
    at = datetime.fromtimestamp(int(player.now.wall_ns / 1e9 + ahead_s), UTC)
    headers = {"date": at.strftime("%a, %d %b %Y %H:%M:%S GMT")}
    return answer(tag, body, status)._replace(headers=headers, rtt_us=40_000)


@every_venue
@pytest.mark.parametrize("ahead_s", [-3600.0, -20.0, 20.0, 3600.0])
def test_the_venues_clock_is_measured_and_dates_the_signed_requests(stand: VenueProfile, ahead_s: float) -> None:
    kind = VENUES[stand.venue]
    assert (kind.CLOCK_WINDOW_S is None) == (stand.signed_ms is None)
    player = stand.ready()
    assert player.adapter.clock.offset_ns == 0
    for _ in range(2):
        first = calls_of(player.put(Read()))[0]
        outputs = player.put(dated(player, first.tag, ahead_s, 200, stand.listed(status="")))
        assert [type(fact) for fact in outputs].count(ServerTime) == 1
        player.put(Pause(10))
    assert player.adapter.clock.bounds_ns is not None
    assert abs(player.adapter.clock.offset_ns / 1e9 - ahead_s) <= 1.1
    if stand.signed_ms is None:
        return
    read(stand, player, *stand.ids)
    if stand.ws_first:
        player.put(Closed(Route.WS, 1, "gone"))
    for call in calls_of(player.put(Kill())):
        assert abs(stand.signed_ms(call.request) - player.now.wall_ms - 1000 * ahead_s) <= 2100


@every_venue
def test_a_venue_whose_clock_may_be_ours_is_signed_by_ours(stand: VenueProfile) -> None:
    player = stand.ready()
    call = calls_of(player.put(Read()))[0]
    player.put(dated(player, call.tag, 0.0, 200, stand.listed(status="")))
    assert player.adapter.clock.offset_ns == 0 and player.adapter.clock.venue_ms(player.now) == player.now.wall_ms


@every_venue
def test_one_answer_with_a_wrong_date_moves_nothing(stand: VenueProfile) -> None:
    player = stand.ready()
    for number in range(200):
        call = calls_of(player.put(Read()))[0]
        player.put(dated(player, call.tag, 3600.0 if number in (0, 50, 199) else 0.0, 200, stand.listed(status="")))
        assert player.adapter.clock.offset_ns == 0
        player.put(Pause(10))


@every_venue
def test_the_date_of_an_answer_that_is_not_the_venues_own_is_ignored(stand: VenueProfile) -> None:
    for status, body in stand.nothing:
        player = stand.ready()
        before = player.adapter.clock.bounds_ns
        for _ in range(2):
            call = calls_of(player.put(Read()))[0]
            outputs = [*player.put(dated(player, call.tag, 3600.0, status, body))]
            outputs += player.put(dated(player, call.tag, 3600.0, status, body))  # of the second route
            assert not [fact for fact in outputs if isinstance(fact, ServerTime)], (status, body)
        assert (player.adapter.clock.offset_ns, player.adapter.clock.bounds_ns) == (0, before)


@every_venue
def test_both_answers_to_one_request_count_as_one(stand: VenueProfile) -> None:
    player = stand.ready()
    call = calls_of(player.put(Read()))[0]
    player.put(VenueTimerFired(call.tag))
    for _ in range(2):
        player.put(dated(player, call.tag, 3600.0, 200, stand.listed(status="")))
    assert player.adapter.clock.offset_ns == 0


@every_venue
def test_an_answer_out_of_a_cache_says_nothing_of_the_clock_and_one_to_a_strike_only_to_us(stand: VenueProfile) -> None:
    player = stand.ready()
    before = player.adapter.clock.bounds_ns
    call = calls_of(player.put(Read()))[0]
    reply = dated(player, call.tag, 600.0, 200, stand.listed(status=""))
    outputs = player.put(reply._replace(headers={**reply.headers, "age": "7"}))
    assert player.adapter.clock.bounds_ns == before and not [fact for fact in outputs if isinstance(fact, ServerTime)]
    for _ in range(2):
        outputs = player.put(dated(player, strike(player).tag, 600.0, 200, stand.accepted[0]))
    assert abs(player.adapter.clock.offset_ns / 1e9 - 600) <= 1.1
    assert not [fact for fact in outputs if isinstance(fact, ServerTime)]


# ── what a venue must not be able to do ───────────────────────────────────────────────────────────────────────────


@every_venue
def test_a_frame_that_is_no_json_object_is_unexplained(stand: VenueProfile) -> None:
    texts: tuple[str | bytes, ...] = (b"", b"\xff", b"[]", b"null", "ping", "\ud800", b"[" * 100_000)
    for text in texts:
        if text in stand.pings:
            continue
        stand.ready()(Received(1, text), UnexplainedMessage("a frame that is not a JSON object"))


@every_venue
def test_the_venues_own_words_are_cut_and_their_control_characters_shown(stand: VenueProfile) -> None:
    player = stand.ready()
    call = strike(player)
    words = "bad\r\nkey\x1b[2J" + "x" * 1000
    status, body = stand.refused[0]
    assert isinstance(body, dict)
    said = {**body, "message": words} if stand.worded is None else stand.worded(words)
    [fact] = player.put(answer(call.tag, said, status))
    assert isinstance(fact, CancelAnswered)
    assert "bad  key\N{REPLACEMENT CHARACTER}[2J" in fact.evidence
    assert fact.evidence.isprintable() and fact.evidence.endswith("…") and len(fact.evidence) <= 200


@every_venue
@pytest.mark.parametrize("depth", [900, 980, 1000, 1020])
def test_nesting_deeper_than_python_can_show_is_only_strange(stand: VenueProfile, depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    player = stand.ready()
    keys = (
        "event",
        "code",
        "message",
        "orderId",
        "id",
        "status",
        "type",
        "msg",
        "channel",
        "error",
        "success",
        "symbol",
    )
    for key in keys:
        for frame in (b'{"%s":%s}', b'{"event":"error","%s":%s}', b'{"success":false,"%s":%s}'):
            player.put(Received(1, frame % (key.encode(), deep)))
        for shape in (b'{"data":[{"%s":%s}],"success":true}', b'{"data":{"orders":[{"%s":%s}]}}', b'{"%s":%s}'):
            for status in (200, 400):
                for step in (Kill(), Read(), Probe()):
                    for call in calls_of(player.put(step)):
                        player.put(answer(call.tag, shape % (key.encode(), deep), status))


def test_a_request_does_not_show_its_headers_and_states_its_length_where_a_body_may_be() -> None:
    get = Request("GET", "/x", {"Host": "h", "Key": "hidden"})
    assert repr(get) == "Request(GET /x, 0 bytes)"
    assert get.wire == b"GET /x HTTP/1.1\r\nHost: h\r\nKey: hidden\r\n\r\n"
    assert Request("POST", "/x", {}).wire == b"POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    assert Request("DELETE", "/x", {}, b"{}").wire == b"DELETE /x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"


def test_an_adapter_without_timers_texts_and_an_upgrade_of_its_own_needs_none() -> None:
    adapter = STANDS["oxfun"].make()
    assert Adapter.on_timer(adapter, "x", START) == ()
    assert Adapter.handle_raw_frame(adapter, 1, "x", START) is None
    assert Adapter.upgrade(adapter, START) == Upgrade()
    assert Adapter.reason_to_stay_disconnected(adapter, START) == Adapter.slow_kill_warning(adapter, START) == ""
    assert Adapter.drill(adapter, START) == Adapter.request_equity(adapter, START) == ()
    assert Adapter.describe_strike(adapter) == ()
    assert (Adapter.usage(adapter, Replied("x", 200, {}, b"")), Adapter.POOLS) == ((), ())
    assert adapter.pushes_orders
    assert issubclass(type(adapter).Options, VenueOptions)
