"""What no other venue has: Kraken's signature, tokens, sparse pushes, maintenance and transfers (kraken.md)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route
from kill_switch.venues.described_venue import COMMAND_RETRIES
from kill_switch.venues.kit.nonce_watch import HINT
from kill_switch.venues.kit.readback import REFRESH
from kill_switch.venues.kraken.adapter import NO_ORDER, Kraken
from kill_switch.venues.kraken.executions import RESUBSCRIBED_WITHIN_S
from kill_switch.venues.kraken.options import KrakenOptions
from kill_switch.venues.kraken.replies import LOCKOUT_PAUSE_S, RATE_PAUSE_S
from kill_switch.venues.kraken.spot_requests import api_sign
from kill_switch.venues.messages import (
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
    OrdersRead,
    Output,
    Ready,
    Received,
    Send,
    Transferred,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)
from tests.harness.venue_playbook import START, Drill, Kill, Measure, Pause, Player, Probe, Read, answer, hears
from tests.harness.venue_profiles import SECOND_ROUTE_S, STANDS

SECRET = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
KRAKEN = STANDS["kraken"]
ONE, TWO = KRAKEN.ids
OK = {"error": [], "result": {"count": 0}}


def kraken(**options: Any) -> Kraken:
    return Kraken(KrakenOptions(**options), {"api_key": "kraken-key-0123", "api_secret": SECRET}, SECOND_ROUTE_S)


def calls_of(outputs: Iterable[Output]) -> list[Call]:
    return [output for output in outputs if isinstance(output, Call)]


def frames_of(outputs: Iterable[Output]) -> list[dict[str, Any]]:
    return [orjson.loads(output.text) for output in outputs if isinstance(output, Send)]


def error(*texts: str) -> dict[str, object]:
    return {"error": list(texts)}


def nonce_of(call: Call) -> int:
    return int(call.request.body.partition(b"&")[0].removeprefix(b"nonce="))


def push(*items: Mapping[str, object], **more: object) -> Received:
    return hears(1, {"channel": "executions", "type": "update", "data": list(items), **more})


def status(system: str) -> Received:
    return hears(1, {"channel": "status", "type": "update", "data": [{"system": system, "api_version": "v2"}]})


def is_current(player: Player) -> bool:
    return player.adapter.book.is_current


def over_rest() -> tuple[Player, Call]:
    """Strike while no WebSocket is up."""
    player = KRAKEN.ready()
    player.put(Closed(Route.WS, 1, "gone"))
    return player, calls_of(player.put(Kill()))[0]


# ── signatures ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "nonce", "body", "signature"),
    [
        (
            "AddOrder",
            1616492376594,
            b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25",
            "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ==",
        ),
        (
            "CancelAll",
            1700000000123,
            b"nonce=1700000000123",
            "bg6w1Ja9ESmmZIA/tpR0UAZoHBnQ0BqEv7uzWrAXrdc2SqYGXxntcMRiEa/a2VR9MCigimm7qX0BCziSqYsS7w==",
        ),
        (
            "OpenOrders",
            1700000000123,
            b"nonce=1700000000123",
            "UJtHyIIlNLCer/b+OOxyKK69KFu6LOxgtSu8XrfUvmlH/Q8anMGLuc7ZzqSuozFYB5DfSVF2Lqx6OVUiP3VOQQ==",
        ),
        (
            "GetWebSocketsToken",
            1700000000123,
            b"nonce=1700000000123",
            "D/onUK3RjFnVf4Cgf9ifKnMHzp4n6fr/DHjZZukl/zsHYOkL/Xm9LGEujC7DzMKUzPl0Ym9HTuqY6K7zkCuUXw==",
        ),
        (
            "CancelAllOrdersAfter",
            1700000000123,
            b"nonce=1700000000123&timeout=60",
            "rR6ZO/XdMF6I7uip/IjnJnTaRme3heVGZt/fBp/gvX8dsfZt2q0enAC8BFdYnEmvgXiNp7NRTZ4iQA6GISgRrg==",
        ),
        (
            "CancelAllOrdersAfter",
            1700000000123,
            b"nonce=1700000000123&timeout=0",
            "4esKYKjN+0CkQ7fkBh4D/fckKR98uDeTPC73e1KN3pyckfHgKKl7BB/91Q1uLVlfWX/01xyqraDsGuLplW8OUQ==",
        ),
        (
            "CancelAll",
            1700000000123,
            b'{"nonce":1700000000123}',
            "k8nLNKujeisBpl6zRHBOrGt+W0ALTdk9H3HMP/rFhNswDFQBR8bVF6IccVXtL8ET8NRjrh1B5ZlL7VjjdNKOOA==",
        ),
    ],
)
def test_the_published_signatures_are_reproduced(method: str, nonce: int, body: bytes, signature: str) -> None:
    assert api_sign(base64.b64decode(SECRET), f"/0/private/{method}".encode(), nonce, body) == signature


def test_the_requests_of_the_adapter_have_the_published_signatures() -> None:
    adapter, now = kraken(), Instant(0, 1700000000123 * 1000)
    [call] = calls_of(adapter.strike(now, 1))
    assert call.request.headers["API-Sign"].startswith("bg6w1Ja9ESmmZIA/tpR0UAZoHBnQ0BqEv7uzWrAX")
    assert (call.request.target, call.request.body) == ("/0/private/CancelAll", b"nonce=1700000000123")
    assert call.request.headers["User-Agent"] and call.request.headers["API-Key"] == "kraken-key-0123"
    [read] = calls_of(kraken().read(now))
    assert read.request.headers["API-Sign"].startswith("UJtHyIIlNLCer/b+OOxyKK69KFu6LOxgtSu8XrfUvmlH")


# ── nonces, and another process with the same key ─────────────────────────────────────────────────────────────────


def test_every_copy_of_a_request_has_a_nonce_of_its_own() -> None:
    player, call = over_rest()
    [again] = calls_of(player.put(VenueTimerFired(call.tag)))
    clock_us = START.wall_ns // 1000
    assert clock_us < nonce_of(call) < nonce_of(again) < clock_us + 10  # others of that moment went before


class KrakenNonces:
    """The venue's view of one key: a nonce that does not rise is refused (§ 2.1)."""

    def __init__(self) -> None:
        self.last = 0

    def answers(self, call: Call) -> object:
        if nonce_of(call) <= self.last:
            return answer(call.tag, error("EAPI:Invalid nonce"))
        self.last = nonce_of(call)
        return answer(call.tag, OK if call.cancel else KRAKEN.listed(status=""))


def struck(player: Player, venue: KrakenNonces, rival: Player | None = None) -> tuple[list[CancelAnswered], int]:
    """Strike over REST until there is an answer; a rival process probes before each try. Return the tries, too."""
    outputs, tries = player.put(Kill()), 0
    while calls := [call for call in calls_of(outputs) if call.cancel]:
        if rival is not None:
            for call in calls_of(rival.put(Probe())):
                venue.answers(call)
        outputs = player.put(venue.answers(calls[0]))
        tries += 1
    return [output for output in outputs if isinstance(output, CancelAnswered)], tries


def test_a_direct_kill_strikes_at_once_beside_a_daemon_that_drills_and_guards() -> None:
    venue, daemon = KrakenNonces(), Player(kraken())
    for _ in range(500):
        daemon.put(Pause(0.02))
        for call in calls_of((*daemon.put(Probe()), *daemon.put(Drill()), *daemon.put(Read()))):
            venue.answers(call)
    direct = Player(kraken(), daemon.now)
    direct.put(Pause(0.001))
    facts, tries = struck(direct, venue)
    assert ([fact.answer for fact in facts], tries) == ([CancelOutcome.ACCEPTED], 1)


def test_a_direct_kill_that_a_daemon_overtakes_again_and_again_leaps_ahead_of_it() -> None:
    """The daemon's request is always built later and arrives earlier."""
    venue, daemon = KrakenNonces(), Player(kraken(), Instant(START.mono_ns, START.wall_ns + 20_000_000))
    facts, tries = struck(Player(kraken()), venue, daemon)
    assert [fact.answer for fact in facts] == [CancelOutcome.ACCEPTED] and 2 <= tries <= 1 + COMMAND_RETRIES
    assert venue.last <= START.wall_ns // 1000 + 1_000_000
    [probe] = calls_of(daemon.put(Probe()))
    [again] = calls_of(daemon.put(venue.answers(probe)))
    daemon.put(Pause(1))  # the daemon is locked out for a second at most
    assert daemon.put(venue.answers(calls_of(daemon.put(Probe()))[0]))[0] == Ready(Route.HTTP, 0) and again


def test_a_host_clock_that_steps_back_does_not_disarm_the_kill() -> None:
    venue, player = KrakenNonces(), Player(kraken())
    for call in calls_of(player.put(Probe())):
        player.put(venue.answers(call))
    player.now = Instant(player.now.mono_ns + 1, player.now.wall_ns - 3600 * 10**9)
    facts, tries = struck(player, venue)
    assert ([fact.answer for fact in facts], tries) == ([CancelOutcome.ACCEPTED], 2)


def elsewhere() -> tuple[KrakenNonces, Player]:
    """Return a venue that another program with the same key has given a nonce in nanoseconds, and our account."""
    venue, player = KrakenNonces(), KRAKEN.ready()
    venue.last = START.wall_ns
    return venue, player


def refusals(venue: KrakenNonces, player: Player, outputs: tuple[Output, ...]) -> tuple[int, list[Output]]:
    """Let the venue answer each call and what follows from it; count the refused nonces, and return the facts."""
    work, count, facts = list(outputs), 0, list[Output]()
    while work:
        output = work.pop(0)
        if isinstance(output, Call):
            count += nonce_of(output) <= venue.last
            work += player.put(venue.answers(output))
        else:
            facts.append(output)
    return count, facts


def test_a_key_that_is_used_elsewhere_with_larger_nonces_is_named_and_does_not_lock_the_address_out() -> None:
    """An hour of a guard whose key another program has ruined: 20 refusals in a minute lock the address out."""
    venue, player = elsewhere()
    player.put(Closed(Route.WS, 1, "gone"))
    minutes, facts = list[int](), list[Output]()
    for _ in range(60):
        refused = 0
        for second in range(0, 60, 2):
            player.put(Pause(2))
            work = (*player.put(Read()), *(player.put(Probe()) if second % 4 == 0 else ()))
            work += (*player.put(Measure()), *(player.put(Drill()) if second == 0 else ()))
            count, found = refusals(venue, player, work)
            refused, facts = refused + count, facts + found
        minutes.append(refused)
    assert minutes[0] < 20 and max(minutes[1:]) <= 4 and min(minutes) > 0
    assert any(isinstance(fact, NotReady) and HINT in fact.why for fact in facts)
    reads = [fact for fact in facts if isinstance(fact, OrdersRead)]
    assert not any(fact.complete for fact in reads) and HINT in reads[-1].why


def test_commands_leave_in_each_strike_however_long_their_nonces_were_refused_and_say_why() -> None:
    venue, player = elsewhere()
    player.put(Closed(Route.WS, 1, "gone"))
    for _ in range(5):
        player.put(Pause(1))
        refusals(venue, player, player.put(Probe()))
    facts, tries = struck(player, venue)
    assert ([fact.answer for fact in facts], tries) == ([CancelOutcome.REFUSED], 2) and HINT in facts[0].evidence
    venue.last = 0  # an operator has raised the key's window
    facts, tries = struck(player, venue)
    assert ([fact.answer for fact in facts], tries) == ([CancelOutcome.ACCEPTED], 1)
    player.put(Pause(0.1))
    [read] = calls_of(player.put(Read()))  # the pause has ended
    assert isinstance(player.put(venue.answers(read))[0], OrdersRead)


def test_a_nonce_that_a_process_of_ours_has_overtaken_is_no_ruined_key() -> None:
    venue, player = KrakenNonces(), KRAKEN.ready()
    for _ in range(30):
        player.put(Pause(0.5))
        venue.last = player.now.wall_ns // 1000 + 900_000  # the most that a process of ours is ahead
        refused, _ = refusals(venue, player, player.put(Probe()))
        player.put(Pause(1.0))
        accepted, facts = refusals(venue, player, player.put(Probe()))
        assert refused and not accepted and Ready(Route.HTTP, 0) in facts


# ── the token ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_private_frame_carries_the_newest_token() -> None:
    player = KRAKEN.ready()
    [renewal] = [o for o in player.outputs if isinstance(o, WakeAfter) and 500 < o.seconds <= 600]
    assert frames_of(player.put(Kill()))[0]["params"] == {"token": KRAKEN.token}
    player.put(Pause(renewal.seconds))
    [call] = calls_of(player.put(VenueTimerFired(renewal.tag)))
    player.put(answer(call.tag, {"error": [], "result": {"token": "another-token-0123", "expires": 900}}))
    [frame] = frames_of(player.put(Kill()))
    assert frame["method"] == "cancel_all" and frame["params"] == {"token": "another-token-0123"}
    assert [each["params"]["token"] for each in frames_of(player.put(Drill()))] == ["another-token-0123"]


def test_a_strike_with_a_dead_token_goes_over_rest_at_once_and_another_token_is_fetched() -> None:
    player = KRAKEN.ready()
    player.put(Pause(60))
    [frame] = frames_of(player.put(Kill()))
    refused = {"method": "cancel_all", "req_id": frame["req_id"], "success": False, "error": "ESession:Invalid session"}
    outputs = player.put(hears(1, refused))
    twin, token = calls_of(outputs)
    assert twin.cancel and twin.request.target == "/0/private/CancelAll"
    assert token.request.target == "/0/private/GetWebSocketsToken"
    assert any(isinstance(output, CloseConnection) for output in outputs)
    assert str(KRAKEN.token) not in repr([output for output in outputs if not isinstance(output, Send)])


def test_a_key_without_the_right_to_the_websocket_is_named_and_fatal() -> None:
    player = KRAKEN.player()
    [call] = calls_of(player.put(Opened(Route.WS, 1)))
    unready = player.put(answer(call.tag, error("EGeneral:Permission denied")))[0]
    assert isinstance(unready, NotReady) and unready.fatal
    assert unready.why == "no token for the WebSocket: EGeneral:Permission denied"


# ── pushes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sparse_updates_are_of_the_order_with_their_id_and_keep_its_symbol() -> None:
    player = KRAKEN.ready()
    pending = {"order_id": ONE, "symbol": "BTC/USDT", "exec_type": "pending_new", "order_status": "pending_new"}
    placed = player.put(push(pending, sequence=2))
    assert [output.order.id for output in placed if isinstance(output, OrderPlaced)] == [ONE]
    live = {"timestamp": "2026-01-22T06:06:19Z", "order_status": "new", "exec_type": "new", "order_id": ONE}
    assert not player.put(push(live, sequence=3))
    assert player.adapter.book.orders[ONE] == Order(ONE, "BTC/USDT", OrderState.LIVE, "new")
    assert not player.put(push({"order_id": ONE, "exec_type": "amended"}, sequence=4))
    assert player.adapter.book.orders[ONE].symbol == "BTC/USDT"
    player.put(push({"order_id": ONE, "exec_type": "canceled", "reason": "User requested"}, sequence=5))
    assert not player.adapter.book.orders


@pytest.mark.parametrize("word", ["partially_filled", "filled"])
def test_a_trade_is_no_end_even_the_last_and_the_filled_event_is(word: str) -> None:
    player = KRAKEN.ready()
    player.put(push({"order_id": ONE, "exec_type": "new", "order_status": "new", "symbol": "BTC/USD"}))
    player.put(push({"order_id": ONE, "exec_type": "trade", "order_status": word}))
    assert set(player.adapter.book.orders) == {ONE}
    player.put(push({"order_id": ONE, "exec_type": "filled", "order_status": "filled"}))
    assert not player.adapter.book.orders


def test_a_snapshot_places_no_orders() -> None:
    player = KRAKEN.ready()
    snapshot = {"channel": "executions", "type": "snapshot", "data": [{"order_id": ONE, "order_status": "new"}]}
    assert not player.put(hears(1, {**snapshot, "sequence": 1})) and not player.adapter.book.orders


def test_a_gap_in_the_sequence_subscribes_again_and_reads_the_lists() -> None:
    player = KRAKEN.ready()
    player.put(Pause(600))
    player.put(push(sequence=7))
    outputs = player.put(push({"order_id": ONE, "exec_type": "new", "order_status": "new"}, sequence=9))
    assert [frame["method"] for frame in frames_of(outputs)] == ["unsubscribe", "subscribe"]
    assert set(player.adapter.book.orders) == {ONE} and not is_current(player)
    assert not frames_of(player.put(push(sequence=12)))  # once
    assert frames_of(player.put(Kill()))  # the connection carries commands meanwhile
    [read] = calls_of(player.put(hears(1, KRAKEN.login[-1])))
    player.put(answer(read.tag, KRAKEN.listed(ONE, status="open")))
    assert is_current(player)
    assert not frames_of(player.put(push(sequence=1))) and not frames_of(player.put(push(sequence=2)))


def test_a_subscription_that_is_not_renewed_after_a_gap_closes_the_connection() -> None:
    player = KRAKEN.ready()
    player.put(push(sequence=1))
    [timer] = [o for o in player.put(push(sequence=3)) if isinstance(o, WakeAfter)]
    assert timer.seconds == RESUBSCRIBED_WITHIN_S
    [drop] = player.put(VenueTimerFired(timer.tag))
    assert isinstance(drop, CloseConnection)


def test_the_time_of_an_earlier_gap_closes_no_connection_that_subscribes_again() -> None:
    player = KRAKEN.ready()
    player.put(push(sequence=1))
    [timer] = [output for output in player.put(push(sequence=3)) if isinstance(output, WakeAfter)]
    player.put(hears(1, KRAKEN.login[-1]))
    player.put(push(sequence=1))
    player.put(Pause(RESUBSCRIBED_WITHIN_S - 0.1))
    assert frames_of(player.put(push(sequence=3)))
    assert not player.put(VenueTimerFired(timer.tag))
    [drop] = player.put(player.newest_timer)
    assert isinstance(drop, CloseConnection)


def test_gaps_again_and_again_leave_the_limit_to_the_cancels() -> None:
    player = KRAKEN.ready()
    reads, due_ns = 0, 0
    for _ in range(60):  # 30 s, in which a Starter account gets ten units back
        player.put(Pause(0.5))
        player.put(push(sequence=1))
        player.put(push(sequence=3))
        outputs = player.put(hears(1, KRAKEN.login[-1]))
        if due_ns and player.now.mono_ns >= due_ns:
            due_ns = 0
            outputs += player.put(VenueTimerFired(REFRESH))
        for output in outputs:
            if isinstance(output, WakeAfter) and output.tag == REFRESH:
                due_ns = player.now.mono_ns + round(output.seconds * 1e9)
            elif isinstance(output, Call):
                reads += 1
                player.put(answer(output.tag, KRAKEN.listed(status="open")))
    assert 0 < reads <= 12


def test_an_order_that_a_given_up_connection_still_pushes_is_looked_up() -> None:
    player = KRAKEN.ready()
    [frame] = frames_of(player.put(Kill()))
    ended = {"method": "cancel_all", "req_id": frame["req_id"], "success": False, "error": "ESession:Invalid session"}
    [twin] = [call for call in calls_of(player.put(hears(1, ended))) if call.command]
    player.put(push({"order_id": ONE, "exec_type": "new", "order_status": "new"}))
    player.put(Closed(Route.WS, 1, "gone"))
    player.put(answer(twin.tag, OK))
    player.put(Pause(0.1))
    [read] = calls_of(player.put(Read()))
    [look_up] = calls_of(player.put(answer(read.tag, KRAKEN.listed(status=""))))
    assert look_up.request.target == "/0/private/QueryOrders"


def test_thirty_orders_that_no_list_shows_are_proven_by_one_request_each_way() -> None:
    player = KRAKEN.ready()
    ids = [f"OAAAAA-BBBBB-CCCC{number:02}" for number in range(30)]
    player.put(push(*({"order_id": one, "exec_type": "new", "order_status": "new"} for one in ids)))
    player.put(Pause(0.1))
    [read] = calls_of(player.put(Read()))
    [look_up] = calls_of(player.put(answer(read.tag, KRAKEN.listed(status=""))))
    assert look_up.request.body.endswith(b"&txid=" + "%2C".join(ids).encode())
    ended = {one: {"status": "canceled", "descr": {"pair": "XBTUSD"}} for one in ids[1:]}
    [alone] = calls_of(player.put(answer(look_up.tag, {"error": [], "result": ended})))
    assert alone.request.body.endswith(f"&txid={ids[0]}".encode())
    [proof] = player.put(answer(alone.tag, error("EOrder:Unknown order")))
    assert isinstance(proof, OrdersRead) and proof.complete and not proof.orders


# ── maintenance, lockout, overload ────────────────────────────────────────────────────────────────────────────────


def test_a_venue_in_maintenance_is_named_as_such_and_each_strike_tries() -> None:
    player = KRAKEN.ready()
    for system in ("cancel_only", "post_only", "online"):
        player.put(status(system))
        assert player.adapter.slow_kill_warning(player.now) == ""
    player.put(status("maintenance"))
    assert "nothing can be cancelled" in player.adapter.slow_kill_warning(player.now)
    player.put(Closed(Route.WS, 1, "gone"))
    for _ in range(3):
        call = calls_of(player.put(Kill()))[0]
        [fact] = player.put(answer(call.tag, error("EService:Unavailable")))
        assert isinstance(fact, CancelAnswered) and fact.answer is CancelOutcome.UNKNOWN
        assert "nothing can be cancelled" in fact.evidence and "tried until" in fact.evidence
    KRAKEN.log_in(player, 2)
    assert player.adapter.slow_kill_warning(player.now) == ""


def test_a_lockout_stops_everything_but_the_commands_of_kills() -> None:
    player = KRAKEN.ready()
    [call] = calls_of(player.put(Probe()))
    player.put(answer(call.tag, error("EGeneral:Temporary lockout")))
    assert LOCKOUT_PAUSE_S >= 5
    for step in (Probe(), Measure()):
        assert not player.put(step)
    [unread] = player.put(Read())
    assert isinstance(unread, OrdersRead) and not unread.complete and "lockout" in unread.why
    drilled = [output for output in player.put(Drill()) if isinstance(output, Drilled)]
    assert [output.tried for output in drilled] == [False]
    assert frames_of(player.put(Kill()))
    player.put(Closed(Route.WS, 1, "gone"))
    assert [call.request.target for call in calls_of(player.put(Kill()))] == ["/0/private/CancelAll"]
    player.put(Pause(LOCKOUT_PAUSE_S))
    assert calls_of(player.put(Probe()))


# ── drills, rights, equity ────────────────────────────────────────────────────────────────────────────────────────


def test_a_drill_cancels_an_order_that_cannot_exist_on_both_lanes() -> None:
    player = KRAKEN.ready()
    outputs = player.put(Drill())
    [call], [frame] = calls_of(outputs), frames_of(outputs)
    assert call.request.target == "/0/private/CancelOrder" and call.request.body.endswith(f"&txid={NO_ORDER}".encode())
    assert frame["method"] == "cancel_order" and frame["params"]["order_id"] == [NO_ORDER]


@pytest.mark.parametrize("right", ["close-trades", "modify-trades", None])
def test_a_key_that_cannot_cancel_is_never_ready_until_it_gets_the_right(right: str | None) -> None:
    player = KRAKEN.player()
    probe, key = calls_of(player.put(Opened(Route.HTTP, 0)))
    assert key.request.target == "/0/private/GetApiKeyInfo"
    rights = ["query-funds", "query-open-trades", "create-ws-token", *([right] if right else [])]
    said = player.put(answer(key.tag, {"error": [], "result": {"permissions": rights}}))
    ready = player.put(answer(probe.tag, KRAKEN.listed(status="")))[0]
    if right:
        assert not said and ready == Ready(Route.HTTP, 0)
        return
    assert said == (ready,) and isinstance(ready, NotReady) and ready.fatal and "cannot cancel" in ready.why
    again, probe = calls_of(player.put(Probe()))
    player.put(answer(again.tag, {"error": [], "result": {"permissions": ["close-trades"]}}))
    assert player.put(answer(probe.tag, KRAKEN.listed(status="")))[0] == Ready(Route.HTTP, 0)


def test_a_key_that_may_withdraw_is_warned_of_until_it_may_not() -> None:
    player = KRAKEN.player()
    _, key = calls_of(player.put(Opened(Route.HTTP, 0)))
    rights = ["query-open-trades", "close-trades", "withdraw-funds"]
    player.put(answer(key.tag, {"error": [], "result": {"permissions": rights}}))
    [warning] = player.adapter.warnings
    assert "may withdraw" in warning and player.adapter.key_rights["withdraw"]
    _, key = calls_of(player.put(Opened(Route.HTTP, 0)))
    player.put(answer(key.tag, {"error": [], "result": {"permissions": rights[:2]}}))
    assert not player.adapter.warnings


@pytest.mark.parametrize("body", [error("EGeneral:Unknown method"), {"error": [], "result": {}}, b"<html>"])
def test_an_answer_that_does_not_name_the_rights_says_nothing(body: object) -> None:
    player = KRAKEN.player()
    _, key = calls_of(player.put(Opened(Route.HTTP, 0)))
    assert not player.put(answer(key.tag, body))


@pytest.mark.parametrize("missing", ["eb", "n"])
def test_equity_is_every_balance_and_the_open_result_and_none_if_either_is_missing(missing: str) -> None:
    player = Player(kraken(equity_currency="EUR"))
    KRAKEN.log_in(player, 1)
    figures = {"eb": "100.5", "tb": "50", "n": "-0.5", "e": "49.5"}
    [call] = calls_of(player.put(Measure()))
    assert call.request.body.endswith(b"&asset=ZEUR")
    player(answer(call.tag, {"error": [], "result": figures}), Equity({"EUR": Decimal("100.0")}, START.mono_ns))
    [call] = calls_of(player.put(Measure()))
    del figures[missing]
    [fact] = player.put(answer(call.tag, {"error": [], "result": figures}))
    assert isinstance(fact, UnexplainedMessage) and "cannot be measured" in fact.why


@pytest.mark.parametrize("rights", [["Close-Trades"], ["modify_trades"], [{"name": "close-trades"}], [1]])
def test_rights_in_another_spelling_or_shape_refuse_no_key(rights: list[object]) -> None:
    player = KRAKEN.player()
    key = next(call for call in calls_of(player.put(Opened(Route.HTTP, 0))) if "GetApiKeyInfo" in call.request.target)
    assert not player.put(answer(key.tag, {"error": [], "result": {"permissions": rights}}))
    assert isinstance(player.adapter, Kraken) and not player.adapter.why_not_ready(Route.HTTP)


@pytest.mark.parametrize("lost", [True, False])
def test_rights_that_are_not_known_yet_are_requested_with_each_probe(lost: bool) -> None:
    player = KRAKEN.player()
    outputs = player.put(Opened(Route.HTTP, 0))
    for _ in range(3):
        [key] = [call for call in calls_of(outputs) if "GetApiKeyInfo" in call.request.target]
        busy = answer(key.tag, error("EService:Busy"))
        assert not player.put(CallLost(key.tag, False, "closed") if lost else busy)
        outputs = player.put(Probe())
    [key] = [call for call in calls_of(outputs) if "GetApiKeyInfo" in call.request.target]
    [refused] = player.put(answer(key.tag, {"error": [], "result": {"permissions": ["query-funds"]}}))
    assert isinstance(refused, NotReady) and refused.fatal


def test_rights_that_the_venue_does_not_name_are_requested_once() -> None:
    player = KRAKEN.player()
    outputs = player.put(Opened(Route.HTTP, 0))
    [key] = [call for call in calls_of(outputs) if "GetApiKeyInfo" in call.request.target]
    player.put(answer(key.tag, error("EGeneral:Unknown method")))
    assert [call.request.target for call in calls_of(player.put(Probe()))] == ["/0/private/OpenOrders"]


# ── strikes beside a full counter ─────────────────────────────────────────────────────────────────────────────────


def refused_by_counter(player: Player, text: str = "EAPI:Rate limit exceeded") -> None:
    [read] = calls_of(player.put(Read()))
    player.put(answer(read.tag, error(text)))


def struck_over_ws(player: Player, **answered: object) -> None:
    [frame] = frames_of(player.put(Kill()))
    player.put(hears(1, {"method": "cancel_all", "req_id": frame["req_id"], **answered}))


def test_a_full_counter_slows_no_strike_whose_frame_suffices() -> None:
    player = KRAKEN.ready()
    timing = player.adapter.limits.cadence.timing
    struck_over_ws(player, success=True, result={"count": 1})
    refused_by_counter(player)
    paced = player.adapter.limits.paced(timing, player.now)
    assert paced.strike_gap_s == timing.strike_gap_s and paced.guard_every_s > timing.guard_every_s
    player.put(Closed(Route.WS, 1, "gone"))
    assert player.adapter.limits.paced(timing, player.now).strike_gap_s == RATE_PAUSE_S


@pytest.mark.parametrize("late", [True, False])
def test_a_frame_whose_twin_left_too_slows_the_strikes(late: bool) -> None:
    player = KRAKEN.ready()
    timing = player.adapter.limits.cadence.timing
    refused_by_counter(player)
    if late:
        player.put(Kill())
        player.put(player.newest_timer)
    else:
        struck_over_ws(player, success=False, error="EAPI:Rate limit exceeded")
    assert player.adapter.limits.paced(timing, player.now).strike_gap_s == RATE_PAUSE_S


# ── a cancel-all that names one order ─────────────────────────────────────────────────────────────────────────────


def test_an_unknown_order_is_a_refusal_of_cancel_all_and_its_twin_leaves() -> None:
    player = KRAKEN.ready()
    [frame] = frames_of(player.put(Kill()))
    refused = {"method": "cancel_all", "req_id": frame["req_id"], "success": False, "error": "EOrder:Unknown order"}
    [twin] = calls_of(player.put(hears(1, refused)))
    assert twin.request.target == "/0/private/CancelAll"
    [answered] = player.put(answer(twin.tag, error("EOrder:Unknown order")))
    assert isinstance(answered, CancelAnswered) and answered.answer is CancelOutcome.REFUSED


# ── transfers ─────────────────────────────────────────────────────────────────────────────────────────────────────


def moved(kind: str, asset: str, amount: object, entry: str = "L1", conn: int = 1) -> Received:
    item = {"asset": asset, "amount": amount, "type": kind, "ledger_id": entry, "balance": 1}
    return hears(conn, {"channel": "balances", "type": "update", "data": [item], "sequence": 2})


@pytest.mark.parametrize(
    ("kind", "amount", "expected"),
    [("deposit", 10, "10"), ("withdrawal", -10, "-10"), ("withdrawal", 10, "-10"), ("transfer", -3.5, "-3.5")],
)
def test_a_transfer_in_the_equitys_currency_is_reported_once(kind: str, amount: float, expected: str) -> None:
    player = KRAKEN.ready()
    player(moved(kind, "USD", amount), Transferred("USD", Decimal(expected)), moved(kind, "USD", amount))
    player(moved("trade", "USD", -500, "L2"))


def test_a_transfer_of_another_asset_is_valued_first_and_until_then_there_is_no_equity() -> None:
    player = KRAKEN.ready()
    [unexplained] = player.put(moved("withdrawal", "BTC", -0.5))
    assert isinstance(unexplained, UnexplainedMessage) and "no equity is reported" in unexplained.why
    [price] = calls_of(player.put(Measure()))
    assert (price.request.method, price.request.target) == ("GET", "/0/public/Ticker?pair=XBTUSD")
    [failed] = player.put(answer(price.tag, error("EService:Busy")))
    assert isinstance(failed, UnexplainedMessage)
    [price] = calls_of(player.put(Measure()))
    ticker = {"error": [], "result": {"XXBTZUSD": {"c": ["40000.1", "0.01"]}}}
    player(answer(price.tag, ticker), Transferred("USD", Decimal("-20000.05")))
    assert calls_of(player.put(Measure()))[0].request.target == "/0/private/TradeBalance"


def price_of(last: str) -> dict[str, object]:
    return {"error": [], "result": {"PAIR": {"c": [last, "0.01"]}}}


def test_a_transfer_whose_asset_is_the_quote_of_its_pair_is_valued_by_the_inverse_pair() -> None:
    player = KRAKEN.ready()  # Kraken has USDCAD, and no CADUSD: the account would stay without equity
    player.put(moved("deposit", "CAD", 1500))
    [price] = calls_of(player.put(Measure()))
    assert price.request.target == "/0/public/Ticker?pair=CADUSD"
    [inverse] = calls_of(player.put(answer(price.tag, error("EQuery:Unknown asset pair"))))
    assert inverse.request.target == "/0/public/Ticker?pair=USDCAD"
    player(answer(inverse.tag, price_of("1.5")), Transferred("USD", Decimal(1000)))
    assert calls_of(player.put(Measure()))[0].request.target == "/0/private/TradeBalance"


def test_a_transfer_without_a_pair_in_either_direction_is_tried_again() -> None:
    player = KRAKEN.ready()
    player.put(moved("deposit", "NEW", 3))
    for _ in range(2):
        [price] = calls_of(player.put(Measure()))
        assert price.request.target == "/0/public/Ticker?pair=NEWUSD"
        [inverse] = calls_of(player.put(answer(price.tag, error("EQuery:Unknown asset pair"))))
        [failed] = player.put(answer(inverse.tag, error("EQuery:Unknown asset pair")))
        assert isinstance(failed, UnexplainedMessage)


def test_a_price_that_comes_late_values_no_transfer_of_another_asset() -> None:
    player = KRAKEN.ready()
    player.put(moved("deposit", "BTC", 1, "L1"))
    player.put(moved("deposit", "ADA", 100, "L2"))
    [first], [second] = (calls_of(player.put(Measure())) for _ in range(2))
    player(answer(first.tag, price_of("40000")), Transferred("USD", Decimal(40000)))
    assert not player.put(answer(second.tag, price_of("40000")))


@pytest.mark.parametrize(("asset", "expected"), [("USD.HOLD", "25"), ("DOT.S", "100")])
def test_a_transfer_of_an_asset_with_a_suffix_is_valued_as_the_asset(asset: str, expected: str) -> None:
    player = KRAKEN.ready()
    facts = player.put(moved("deposit", asset, 25))
    if asset == "DOT.S":
        [price] = calls_of(player.put(Measure()))
        assert price.request.target == "/0/public/Ticker?pair=DOTUSD"
        facts = player.put(answer(price.tag, price_of("4")))
    assert facts == (Transferred("USD", Decimal(expected)),)


@pytest.mark.parametrize(("amount", "after", "expected"), [(100, 1000, "100"), (100, 800, "-100"), (-100, 800, "-100")])
def test_a_withdrawal_that_has_failed_is_a_deposit(amount: int, after: int, expected: str) -> None:
    player = KRAKEN.ready()
    player.put(hears(1, {"channel": "balances", "type": "snapshot", "data": [{"asset": "USD", "balance": 900}]}))
    entry = {"asset": "USD", "amount": amount, "type": "withdrawal", "ledger_id": "L9", "balance": after}
    player(hears(1, {"channel": "balances", "type": "update", "data": [entry]}), Transferred("USD", Decimal(expected)))


def test_a_deposit_that_is_taken_back_is_a_withdrawal() -> None:
    player = KRAKEN.ready()
    player(moved("deposit", "USD", -10), Transferred("USD", Decimal(-10)))


def test_figures_that_were_requested_before_a_transfer_and_may_contain_it_are_not_reported() -> None:
    player = KRAKEN.ready()
    [call] = calls_of(player.put(Measure()))
    player.put(moved("withdrawal", "BTC", -0.5))
    [fact] = player.put(answer(call.tag, {"error": [], "result": {"eb": "1", "n": "0"}}))
    assert isinstance(fact, UnexplainedMessage) and "a transfer has no value yet" in fact.why


def test_the_balances_that_a_subscription_refuses_do_not_cost_the_connection() -> None:
    player = KRAKEN.ready()
    refused = {"method": "subscribe", "req_id": 2, "success": False, "error": "EGeneral:Permission denied"}
    [unexplained] = player.put(hears(1, refused))
    assert isinstance(unexplained, UnexplainedMessage)
    assert frames_of(player.put(Kill()))


def test_an_order_that_outlives_a_strike_is_cancelled_by_its_id_behind_the_next_cancel_all() -> None:
    player = KRAKEN.ready()
    for _ in range(2):
        [call] = calls_of(player.put(Read()))
        player.put(answer(call.tag, KRAKEN.listed(ONE, TWO, status="open")))
        frames = frames_of(player.put(Kill()))
    methods = [(frame["method"], frame["params"].get("order_id")) for frame in frames]
    assert methods == [("cancel_all", None), ("cancel_order", [ONE]), ("cancel_order", [TWO])]
    player.put(Closed(Route.WS, 1, "gone"))
    targets = [call.request.target for call in calls_of(player.put(Kill()))]
    assert targets == ["/0/private/CancelAll", *["/0/private/CancelOrder"] * 2]
    player.adapter.drop_strike_work()
    assert len(calls_of(player.put(Kill()))) == 1
