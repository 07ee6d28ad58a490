"""Strikes of one or many commands, frames with their twins, and what a re-arm leaves of them."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route
from kill_switch.venues.described_venue import COMMAND_RETRIES
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.second_route import LONGEST_S, PATIENCE
from kill_switch.venues.kit.strike import FRAME_GRACE_S, CancelCommand, LeftOut, Striker, StrikeStep
from kill_switch.venues.messages import (
    CallLost,
    CancelAnswered,
    CloseConnection,
    Closed,
    NotReady,
    Opened,
    Output,
    PrepareFrame,
    Replied,
    Send,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from kill_switch.venues.request import Request
from tests.harness.venue_playbook import Drill, Kill, Pause, Player, Probe, Read, answer, hears

from .tiny_venue import HEDGE_S, Tiny, accepted, calls_of, frames_of, ready, timers_of


def tiny(player: Player) -> Tiny:
    assert isinstance(player.adapter, Tiny)
    return player.adapter


def framed() -> tuple[Player, VenueTimerFired]:
    """Strike over the WebSocket; return the timer of the frame too, whose number is 2: 1 was prepared at the login."""
    player = ready()
    outputs = player.put(Kill())
    [timer] = timers_of(outputs, HEDGE_S)
    [frame] = frames_of(outputs)
    assert frame.text == b'{"id":2,"do":"all"}' and frame.command
    return player, VenueTimerFired(timer.tag)


def over_rest(*more: StrikeStep) -> tuple[Player, list[str]]:
    """Strike without a WebSocket; return the tags of the calls."""
    player = ready()
    player.put(Closed(Route.WS, 1, "gone"))
    tiny(player).more = list(more)
    return player, [call.tag for call in calls_of(player.put(Kill()))]


def facts(outputs: tuple[Output, ...]) -> list[CancelAnswered]:
    return [output for output in outputs if isinstance(output, CancelAnswered)]


def frame_answered(player: Player, code: int = 0, **data: object) -> tuple[Output, ...]:
    return player.put(hears(1, {"id": 2, "code": code, "data": data}))


# ── copies of later strikes ───────────────────────────────────────────────────────────────────────────────────────


def waits(outputs: tuple[Output, ...]) -> list[float]:
    return [output.seconds for output in outputs if isinstance(output, WakeAfter)]


def slow_frame(player: Player, seconds: float) -> tuple[Output, ...]:
    """Strike, and answer the frame after so long."""
    outputs = player.put(Kill())
    [frame] = frames_of(outputs)
    player.put(Pause(seconds))
    assert facts(player.put(hears(1, {"id": orjson.loads(frame.text)["id"], "code": 0, "data": {"count": 1}})))
    return outputs


def test_the_twin_of_a_later_strike_waits_for_the_answer_that_the_last_round_trip_promises() -> None:
    player = ready()
    assert waits(slow_frame(player, 0.2)) == [HEDGE_S]  # the first strike waits for nothing
    assert waits(slow_frame(player, 0.02)) == [pytest.approx(PATIENCE * 0.2)]
    for _ in range(8):
        outputs = slow_frame(player, 0.02)
    assert waits(outputs) == [HEDGE_S]  # the venue has been quick for long


def test_no_later_strike_waits_longer_than_the_bound_for_a_venue_that_answers_ever_later() -> None:
    player = ready()
    slow_frame(player, 60.0)
    assert waits(player.put(Kill())) == [LONGEST_S]


def test_the_second_copy_of_a_later_strike_over_rest_waits_for_the_round_trip_too() -> None:
    player, [tag] = over_rest()
    player.put(Replied(tag, 200, {}, b'{"code":0,"data":{"count":1}}', 100_000))
    outputs = player.put(Kill())
    assert waits(outputs) == [pytest.approx(PATIENCE * 0.1)]


def test_a_read_of_a_venue_that_answers_late_sends_no_copy_before_an_answer_can_have_come() -> None:
    player, [tag] = over_rest()
    player.put(Replied(tag, 200, {}, b'{"code":0,"data":{"count":1}}', 2_600_000))
    player.put(Pause(1))
    assert waits(player.put(Read())) == [pytest.approx(PATIENCE * 2.6)]


def test_a_twin_whose_frame_is_answered_takes_no_second_route() -> None:
    player, overdue = framed()
    [twin] = calls_of(player.put(overdue))
    [fact] = facts(frame_answered(player, count=1))
    assert fact.answer is CancelOutcome.ACCEPTED and not player.put(VenueTimerFired(twin.tag))


# ── the first message ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_prebuilt_frame_is_the_first_of_the_strike_and_its_text_was_prepared() -> None:
    player = ready()
    prepared = [output for output in player.outputs if isinstance(output, PrepareFrame)][-1]
    first = player.adapter.prebuilt_command(player.now)
    assert isinstance(first, Send) and first.text is prepared.text
    outputs = player.put(Kill())
    assert frames_of(outputs) == [first] and frames_of(outputs)[0] is first
    assert frames_of(player.put(Kill()))[0].text != first.text


def test_a_prebuilt_frame_whose_connection_is_gone_is_not_sent_again() -> None:
    player = ready()
    first = player.adapter.prebuilt_command(player.now)
    player.put(Closed(Route.WS, 1, "gone"))
    [call] = calls_of(player.put(Kill()))
    assert isinstance(first, Send) and call.cancel and call.route is Route.HTTP


def test_a_prebuilt_frame_that_no_strike_has_followed_lends_its_number_to_no_other_frame() -> None:
    player = ready()
    abandoned = player.adapter.prebuilt_command(player.now)
    first = player.adapter.prebuilt_command(player.now)
    assert isinstance(abandoned, Send) and isinstance(first, Send) and abandoned.text != first.text
    assert frames_of(player.put(Kill()))[0] is first
    assert not facts(player.put(hears(1, {"id": 1, "data": {}})))  # the answer to the abandoned frame
    assert facts(player.put(hears(1, {"id": 2, "data": {}})))


def test_a_prebuilt_request_is_the_first_copy_and_the_second_copy_is_built_anew() -> None:
    player = ready()
    player.put(Closed(Route.WS, 1, "gone"))
    first = player.adapter.prebuilt_command(player.now)
    [call] = calls_of(player.put(Kill()))
    assert isinstance(first, Request) and call.request is first
    [again] = calls_of(player.put(VenueTimerFired(call.tag)))
    assert again.request is not first and again.route is Route.FRESH


# ── a frame and its twin ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_frame_that_is_accepted_ends_the_strike_and_its_twin_never_leaves() -> None:
    player, timer = framed()
    player(hears(1, {"id": 2, "data": {"count": 3}}), CancelAnswered(CancelOutcome.ACCEPTED, "accepted", 3), timer)
    assert not calls_of(player.put(Closed(Route.WS, 1, "gone")))


@pytest.mark.parametrize("code", [1, 2, 4])
def test_the_twin_of_a_frame_that_is_not_accepted_leaves_at_once_and_its_answer_counts(code: int) -> None:
    player, timer = framed()
    [call] = calls_of(player.put(hears(1, {"id": 2, "code": code})))
    assert call.urgent and call.cancel and call.command
    player(timer)
    assert facts(player.put(accepted(call.tag, count=1))) == [CancelAnswered(CancelOutcome.ACCEPTED, "accepted", 1)]


def test_the_twin_of_a_frame_leaves_when_it_is_overdue_and_the_first_good_answer_counts() -> None:
    player, timer = framed()
    [call] = calls_of(player.put(timer))
    assert facts(player.put(hears(1, {"id": 2, "data": {"count": 2}})))[0].cancelled == 2
    assert not player.put(accepted(call.tag, count=0))


def test_a_twin_that_finds_nothing_claims_no_count_because_its_frame_may_have_hit_the_orders() -> None:
    player, timer = framed()
    [call] = calls_of(player.put(timer))
    assert facts(player.put(accepted(call.tag, count=0))) == [CancelAnswered(CancelOutcome.ACCEPTED, "accepted", None)]


def test_the_twin_of_a_frame_whose_connection_is_lost_leaves_at_once() -> None:
    player, timer = framed()
    [call] = calls_of(player.put(Closed(Route.WS, 1, "gone")))
    player(timer)
    player.put(CallLost(call.tag, False, "down"))
    outputs = player.put(CallLost(call.tag, False, "down"))
    assert facts(outputs) == [CancelAnswered(CancelOutcome.UNKNOWN, "down")]  # the frame may have left


def test_a_twin_that_fails_waits_for_the_frames_answer_for_a_moment() -> None:
    for late, expected in ((True, CancelOutcome.ACCEPTED), (False, CancelOutcome.REFUSED)):
        player, timer = framed()
        [call] = calls_of(player.put(timer))
        [grace] = timers_of(player.put(answer(call.tag, {"code": 1})), FRAME_GRACE_S)
        outputs = player.put(hears(1, {"id": 2, "data": {}}) if late else VenueTimerFired(grace.tag))
        assert [fact.answer for fact in facts(outputs)] == [expected]
        assert not player.put(VenueTimerFired(grace.tag))


def test_a_frame_that_fails_and_a_twin_that_is_lost_leave_the_frames_refusal() -> None:
    player, _ = framed()
    [call] = calls_of(player.put(hears(1, {"id": 2, "code": 1})))
    player.put(CallLost(call.tag, True, "down"))
    assert facts(player.put(CallLost(call.tag, True, "down"))) == [CancelAnswered(CancelOutcome.REFUSED, "no")]


def test_the_moment_of_the_strike_that_a_frame_answers_is_known() -> None:
    player, _ = framed()
    made_ns = player.now.mono_ns
    player.now = Instant(made_ns + 7, player.now.wall_ns)
    player.put(hears(1, {"id": 2, "data": {}}))
    assert player.adapter.answers_ns == made_ns


def test_an_answer_of_another_connection_is_no_answer_to_a_frame() -> None:
    player, timer = framed()
    for step in ({"hello": True}, {"login": "ok"}):
        player.adapter.handle(hears(2, step), player.now)
    assert not facts(player.put(hears(2, {"id": 2, "data": {}})))
    assert calls_of(player.put(timer))


def test_a_frame_that_is_refused_because_its_session_has_ended_gives_the_connection_up() -> None:
    player, _ = framed()
    outputs = player.put(hears(1, {"id": 2, "code": 5}))
    assert [type(output) for output in outputs if not calls_of([output])][-2:] == [NotReady, CloseConnection]
    assert calls_of(outputs)[0].cancel and player.adapter.prebuilt_command(player.now) is not None
    assert calls_of(player.put(Kill()))  # over REST: the connection carries no more frames


# ── a re-arm ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_a_re_arm_no_twin_and_no_follow_up_leaves_whatever_comes() -> None:
    player, timer = framed()
    player.adapter.drop_strike_work()
    assert not player.put(timer) and not player.put(hears(1, {"id": 2, "code": 1}))
    assert not calls_of(player.put(Closed(Route.WS, 1, "gone")))
    player, [tag] = over_rest()
    player.adapter.drop_strike_work()
    assert not player.put(answer(tag, {"code": 4})) and not player.put(VenueTimerFired(tag))


# ── many commands ─────────────────────────────────────────────────────────────────────────────────────────────────


def command(name: str, **more: object) -> CancelCommand:
    return CancelCommand(name, lambda now: Request("POST", f"/{name}", {}), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 0), CancelOutcome.ACCEPTED),
        ((0, 3), CancelOutcome.ACCEPTED),
        ((0, 2), CancelOutcome.UNKNOWN),
        ((2, 1), CancelOutcome.REFUSED),
        ((1, 0), CancelOutcome.REFUSED),
    ],
)
def test_a_strike_of_two_commands_has_one_answer_and_the_worst_counts(
    codes: tuple[int, int], expected: CancelOutcome
) -> None:
    player, tags = over_rest(command("futures"))
    assert not facts(player.put(answer(tags[0], {"code": codes[0]})))
    [fact] = facts(player.put(answer(tags[1], {"code": codes[1]})))
    assert fact.answer is expected and fact.cancelled is None


def test_a_strike_is_unsent_only_if_no_command_can_have_left() -> None:
    for sent, expected in ((False, CancelOutcome.UNSENT), (True, CancelOutcome.UNKNOWN)):
        player, tags = over_rest(command("futures"))
        outputs = [player.put(CallLost(tag, sent and tag == tags[1], "down")) for tag in (*tags, *tags)]
        assert [fact.answer for each in outputs for fact in facts(each)] == [expected]
    player, tags = over_rest(command("futures"))
    player.put(accepted(tags[0]))
    player.put(CallLost(tags[1], False, "down"))
    assert facts(player.put(CallLost(tags[1], False, "down")))[0].answer is CancelOutcome.UNKNOWN


def test_a_list_that_a_strike_reads_leads_to_cancels_which_belong_to_the_strike() -> None:
    find = command("find", reads=True, then=lambda reply, now: [command(one) for one in reply.data or ()])
    player, [first, listed] = over_rest(find)
    player.put(accepted(first, count=1))
    calls = calls_of(player.put(answer(listed, {"code": 0, "data": ["BTC", "ETH"]})))
    assert [call.request.target for call in calls] == ["/BTC", "/ETH"] and all(call.command for call in calls)
    assert not facts(player.put(accepted(calls[0].tag)))
    assert facts(player.put(accepted(calls[1].tag)))[0].answer is CancelOutcome.ACCEPTED


def test_a_refused_list_does_not_refuse_the_cancels_that_were_accepted() -> None:
    player, [first, listed] = over_rest(command("find", reads=True))
    player.put(accepted(first, count=1))
    assert facts(player.put(answer(listed, {"code": 1})))[0].answer is CancelOutcome.UNKNOWN


def test_a_strike_whose_cancels_are_unsent_is_unsent_though_its_list_was_read() -> None:
    player, [first, listed] = over_rest(command("find", reads=True))
    player.put(accepted(listed))
    player.put(CallLost(first, False, "down"))
    player(CallLost(first, False, "down"), CancelAnswered(CancelOutcome.UNSENT, "down"))


def test_orders_that_a_strike_has_cancelled_are_counted_though_it_fails() -> None:
    player, [first, second] = over_rest(command("futures"))
    player.put(accepted(first, count=2))
    player(
        answer(second, {"code": 1}),
        CancelAnswered(CancelOutcome.REFUSED, "2 order(s) cancelled; 1 of 2 commands: no", 2),
    )


def test_a_strike_that_leaves_orders_out_is_not_accepted() -> None:
    player, [first] = over_rest(LeftOut("2 order(s) left for the next strike"))
    words = "1 order(s) cancelled; 2 order(s) left for the next strike"
    player(answer(first, {"code": 0, "data": {"count": 1}}), CancelAnswered(CancelOutcome.UNKNOWN, words, 1))


class Halving(Striker):
    """A striker by which what follows a batch repeats it."""

    def is_replaced(self, command: CancelCommand, steps: Sequence[StrikeStep]) -> bool:
        return command.name == "batch"


def test_a_refused_command_that_is_repeated_in_parts_does_not_count_nor_do_the_orders_that_it_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tiny, "STRIKER", Halving)
    halves = [command(half) for half in ("left", "right")]
    batch = command(
        "batch", judge=lambda reply: CancelResult(reply, refused=["7", "8"]), then=lambda reply, now: iter(halves)
    )
    player, [first, whole] = over_rest(batch)
    player.adapter.book.orders = {one: Order(one, "X", OrderState.LIVE, "open") for one in ("7", "8")}
    player.put(accepted(first))
    calls = calls_of(player.put(answer(whole, {"code": 1})))
    assert [call.request.target for call in calls] == ["/left", "/right"] and all(call.cancel for call in calls)
    player.put(accepted(calls[0].tag))
    [fact] = facts(player.put(accepted(calls[1].tag)))
    assert fact.answer is CancelOutcome.ACCEPTED and not player.adapter.book.unproven


def test_facts_that_follow_from_a_list_come_out() -> None:
    fact = UnexplainedMessage("something")
    player, [first, listed] = over_rest(command("find", reads=True, then=lambda reply, now: [fact]))
    player(answer(listed, {"code": 0}), fact)
    assert facts(player.put(accepted(first)))[0].answer is CancelOutcome.ACCEPTED


def test_a_single_cancel_beside_is_no_part_of_the_answer_and_its_refusal_is_named() -> None:
    player, [first, beside] = over_rest(command("one", extra=True))
    assert facts(player.put(accepted(first, count=1)))[0].cancelled == 1
    player(answer(beside, {"code": 1}), UnexplainedMessage("one refused: no"))


def test_ids_that_an_answer_names_are_counted_for_the_kill() -> None:
    player, [first] = over_rest()
    player.adapter.book.trace()
    player.put(accepted(first, ids=["7", "8"]))
    assert set(player.adapter.book.ended) == {"7", "8"}


# ── signatures ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_is_signed_anew_several_times_and_another_call_once() -> None:
    player, [tag] = over_rest()
    for _ in range(COMMAND_RETRIES):
        [call] = calls_of(player.put(answer(tag, {"code": 4})))
        assert call.cancel and call.command and call.urgent
        tag = call.tag
    assert facts(player.put(answer(tag, {"code": 4})))[0].answer is CancelOutcome.REFUSED
    assert tiny(player).tries == list(range(1, COMMAND_RETRIES + 1))
    [call] = calls_of(player.put(Probe()))
    [again] = calls_of(player.put(answer(call.tag, {"code": 4})))
    [fact] = player.put(answer(again.tag, {"code": 4}))
    assert isinstance(fact, NotReady) and "wrong nonce" in fact.why


def test_a_command_that_is_signed_anew_beside_a_copy_under_way_is_not_the_only_copy() -> None:
    player, [tag] = over_rest()
    player.put(VenueTimerFired(tag))
    [call] = calls_of(player.put(answer(tag, {"code": 4})))
    assert facts(player.put(accepted(call.tag, count=0)))[0].cancelled is None


# ── a pause that the venue asks for ───────────────────────────────────────────────────────────────────────────────


def test_in_a_pause_only_the_commands_of_kills_leave() -> None:
    player = ready()
    [call] = calls_of(player.put(Probe()))
    player.put(answer(call.tag, {"code": 2}))
    assert not player.put(Probe()) and not calls_of(player.put(Drill())) and not calls_of(player.put(Read()))
    assert frames_of(player.put(Kill())) and not player.adapter.request_equity(player.now)
    player.now = Instant(player.now.mono_ns + 10_000_000_000, player.now.wall_ns)
    assert calls_of(player.put(Probe())) and calls_of(player.put(Read()))


# ── what cannot be built ──────────────────────────────────────────────────────────────────────────────────────────


def no_build(now: Instant) -> Request:
    raise ValueError("cannot be built")


def no_frame(number: int) -> bytes:
    raise ValueError("cannot be built")


def breaking(**broken: object) -> Player:
    """Return a player whose account-wide command has these parts."""
    player = ready()
    account_wide = tiny(player).account_wide
    assert account_wide is not None
    tiny(player).account_wide = account_wide._replace(**broken)  # type: ignore[arg-type]
    return player


def test_a_twin_that_cannot_be_built_leaves_the_frame_a_moment_to_be_answered() -> None:
    player = breaking(build=no_build)
    [timer] = timers_of(player.put(Kill()), HEDGE_S)
    outputs = player.put(VenueTimerFired(timer.tag))
    assert not facts(outputs)
    [grace] = timers_of(outputs, FRAME_GRACE_S)
    [fact] = facts(player.put(VenueTimerFired(grace.tag)))
    assert fact.answer is CancelOutcome.UNKNOWN and "internal error: ValueError" in fact.evidence


def test_a_frame_is_answered_although_its_overdue_twin_cannot_be_built() -> None:
    player = breaking(build=no_build)
    [timer] = timers_of(player.put(Kill()), HEDGE_S)
    player.put(VenueTimerFired(timer.tag))
    [fact] = facts(frame_answered(player, count=3))
    assert (fact.answer, fact.cancelled) == (CancelOutcome.ACCEPTED, 3)


def test_a_strike_whose_frame_is_refused_and_whose_twin_cannot_be_built_is_answered() -> None:
    player = breaking(build=no_build)
    player.put(Kill())
    [fact] = facts(frame_answered(player, code=1))
    assert fact.answer is CancelOutcome.REFUSED


def test_a_strike_whose_connection_closes_and_whose_twin_cannot_be_built_is_answered() -> None:
    player = breaking(build=no_build)
    player.put(Kill())
    [fact] = facts(player.put(Closed(Route.WS, 1, "gone")))
    assert fact.answer is CancelOutcome.UNKNOWN


def test_a_command_whose_frame_cannot_be_built_leaves_as_its_twin() -> None:
    player = breaking(frame=no_frame)
    tiny(player).striker.prepare(None)  # else the frame of the login is used
    outputs = player.put(Kill())
    assert not frames_of(outputs)
    [twin] = calls_of(outputs)
    [fact] = facts(player.put(accepted(twin.tag, count=1)))
    assert fact.answer is CancelOutcome.ACCEPTED


def test_a_closed_connections_twin_leaves_although_the_next_frame_cannot_be_built() -> None:
    player, _ = framed()
    player.put(Opened(Route.WS, 2))
    player.put(hears(2, {"hello": True}))
    player.put(hears(2, {"login": "ok"}))
    account_wide = tiny(player).account_wide
    assert account_wide is not None
    tiny(player).account_wide = account_wide._replace(frame=no_frame)
    assert len(calls_of(player.put(Closed(Route.WS, 1, "gone")))) == 1


def test_a_strike_whose_follow_up_cannot_be_made_is_answered_and_is_no_success() -> None:
    def follow(reply: object, now: Instant) -> list[StrikeStep]:
        raise ValueError("cannot be made")

    player = breaking(then=follow)
    player.put(Kill())
    [fact] = facts(frame_answered(player, count=3))
    assert fact.answer is CancelOutcome.UNKNOWN and "internal error: ValueError" in fact.evidence
