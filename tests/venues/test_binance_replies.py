"""Binance's answers: what an error proves, how long it wants no request, and how much of a limit is used."""

from __future__ import annotations

from typing import Any

import pytest

from kill_switch.venues.binance.replies import Judgement, frame_weights, used_weights
from kill_switch.venues.decode import Evidence
from kill_switch.venues.kit.replies import Reply, ReplyOutcome

NOW_MS = 1_700_000_000_000
SPOT = Judgement(Evidence(["the-api-key"]))
FUTURES = Judgement(
    Evidence([]),
    frozenset({"Service Unavailable.", "Internal error; unable to process your request. Please try again."}),
)


def error(code: int, text: str = "words", **data: Any) -> dict[str, Any]:
    return {"code": code, "msg": text, **({"data": data} if data else {})}


def judge(status: int, body: Any, of: Judgement = SPOT) -> Reply:
    """Judge an answer over REST, and see that the same over the WebSocket proves the same."""
    reply = of.of_rest(status, body, NOW_MS)
    if isinstance(body, dict) and "code" in body:
        framed = of.of_frame({"id": 1, "status": status, "error": body}, NOW_MS)
        assert framed[:5] == reply[:5]
    return reply


@pytest.mark.parametrize(
    ("code", "text", "not_found"),
    [
        (-2011, "Unknown order sent.", True),
        (-2013, "Order does not exist.", True),
        (-2026, "Order was canceled or expired with no executed qty over 90 days ago and has been archived.", True),
        (-2011, "Order does not exist.", False),
        (-2013, "Unknown order sent.", False),
        (-2011, "Order was not canceled due to cancel restrictions.", False),
        (-2011, "Market is closed.", False),
        (-2011, "This action is disabled on this account.", False),
        (-2010, "This account may not place or cancel orders.", False),
        (-2010, "Unknown order sent.", False),
        (-1013, "Market is closed.", False),
        (-1121, "Invalid symbol.", False),
        (-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.", False),
        (-9999, "Unknown order sent.", False),
    ],
)
def test_an_order_is_unknown_only_by_the_code_and_the_text_that_mean_it(code: int, text: str, not_found: bool) -> None:
    reply = judge(400, error(code, text))
    assert reply.outcome is ReplyOutcome.REFUSED and reply.not_found is not_found and not reply.key_refused
    assert str(code) in reply.evidence and text[:20] in reply.evidence


@pytest.mark.parametrize("code", [-1022, -2014, -2015, -1002, -2017])
def test_a_refused_key_needs_an_operator_and_ends_the_session_of_a_frame(code: int) -> None:
    reply = judge(401, error(code))
    assert reply.outcome is ReplyOutcome.REFUSED and reply.key_refused and not reply.session_ended
    assert SPOT.of_frame({"id": None, "status": 401, "error": error(code)}, NOW_MS).session_ended


@pytest.mark.parametrize(
    ("status", "code", "text", "outcome"),
    [
        (400, -1021, "Timestamp for this request is outside of the recvWindow.", ReplyOutcome.WRONG_TIME),
        (400, -5028, "Timestamp for this request is outside of the ME recvWindow.", ReplyOutcome.WRONG_TIME),
        (500, -1006, "An unexpected response was received from the message bus.", ReplyOutcome.UNKNOWN),
        (408, -1007, "Timeout waiting for response from backend server.", ReplyOutcome.UNKNOWN),
        (400, -1007, "Timeout waiting for response from backend server.", ReplyOutcome.UNKNOWN),
        (500, -1000, "An unknown error occurred while processing the request.", ReplyOutcome.UNKNOWN),
        (503, -1008, "Server is currently overloaded with other requests.", ReplyOutcome.REFUSED),
        (503, -1016, "This service is no longer available.", ReplyOutcome.REFUSED),
    ],
)
def test_a_time_out_may_have_been_executed_and_an_overload_was_not(
    status: int, code: int, text: str, outcome: ReplyOutcome
) -> None:
    reply = judge(status, error(code, text))
    assert reply.outcome is outcome and not reply.not_found and not reply.pause_s


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Unknown error, please check your request or try again later.", ReplyOutcome.UNKNOWN),
        ("Service Unavailable.", ReplyOutcome.REFUSED),
        ("Internal error; unable to process your request. Please try again.", ReplyOutcome.REFUSED),
    ],
)
def test_a_product_states_by_which_texts_of_503_nothing_was_executed(text: str, outcome: ReplyOutcome) -> None:
    assert judge(503, error(-1000, text), FUTURES).outcome is outcome
    assert judge(503, error(-1000, text)).outcome is ReplyOutcome.UNKNOWN
    assert judge(503, {"msg": text}, FUTURES).outcome is ReplyOutcome.NO_ANSWER  # a proxy's


@pytest.mark.parametrize(
    ("status", "body", "pause_s"),
    [
        (418, error(-1003, "no", serverTime=1_659_142_907_531, retryAfter=1_659_146_400_000), 3492.469),
        (429, error(-1003, "no", retryAfter=NOW_MS + 2500), 2.5),
        (418, error(-1003, f"Way too much request weight used; IP banned until {NOW_MS + 60_000}. Please"), 60.0),
        (429, error(-1003, "Too many requests"), 0.0),
        (400, error(-1015, "Too many new orders"), 0.0),
        (418, error(-1003, "no", retryAfter=NOW_MS - 5000), 0.0),
        (429, error(-1003, "no", retryAfter="soon", serverTime=[]), 0.0),
        (429, error(-2011, "Unknown order sent."), 0.0),
    ],
)
def test_a_used_up_limit_proves_nothing_and_its_pause_is_a_moment_of_the_wall_clock(
    status: int, body: dict[str, Any], pause_s: float
) -> None:
    reply = SPOT.of_rest(status, body, NOW_MS)
    assert reply.outcome is ReplyOutcome.UNKNOWN and not reply.not_found and reply.pause_s == pytest.approx(pause_s)
    framed = SPOT.of_frame({"id": 1, "status": status, "error": body}, NOW_MS)
    assert framed.pause_s == pytest.approx(pause_s or 1.0)  # a frame has no header that could name it


@pytest.mark.parametrize(
    ("status", "body"),
    [(502, None), (403, None), (200, None), (200, "text"), (200, 5), (404, {}), (500, {"message": "proxy"}), (404, [])],
)
def test_a_body_that_is_not_the_venues_json_is_no_answer(status: int, body: Any) -> None:
    assert judge(status, body).outcome is ReplyOutcome.NO_ANSWER


@pytest.mark.parametrize("status", [202, 204, 301, 302, 304])
@pytest.mark.parametrize("body", [[], {"code": 200, "msg": "done"}, {}])
def test_only_status_200_accepts_so_that_no_redirect_shows_an_empty_list(status: int, body: object) -> None:
    assert SPOT.of_rest(status, body, NOW_MS).outcome is ReplyOutcome.NO_ANSWER


def test_a_result_is_accepted_and_a_success_may_have_a_code() -> None:
    assert judge(200, []).data == []
    done = {"code": 200, "msg": "The operation of cancel all open order is done."}
    assert SPOT.of_rest(200, done, NOW_MS) == Reply(ReplyOutcome.ACCEPTED, "accepted", done)
    assert SPOT.of_rest(200, done | {"code": "200"}, NOW_MS).ok
    assert SPOT.of_rest(200, error(-2011, "Unknown order sent."), NOW_MS).not_found  # an error with status 200
    assert SPOT.of_frame({"id": 1, "status": 200, "result": [1]}, NOW_MS).data == [1]


@pytest.mark.parametrize("message", [{"id": 1}, {"status": "200", "result": []}, {"status": 200}, {"status": 409}])
def test_a_frame_without_a_result_proves_nothing(message: dict[str, Any]) -> None:
    assert SPOT.of_frame(message, NOW_MS).outcome is ReplyOutcome.UNKNOWN


def test_no_secret_that_the_venue_echoes_is_shown() -> None:
    assert "the-api-key" not in judge(401, error(-2015, "Invalid the-api-key")).evidence


def test_used_weights_are_read_from_headers_and_from_frames() -> None:
    headers = {"x-mbx-used-weight": "7", "x-mbx-used-weight-1m": "81", "x-mbx-used-weight-10s": "x", "date": "?"}
    assert list(used_weights(headers)) == [(60.0, 81.0)]
    limits = [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000, "count": 70},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50, "count": 3},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MOON", "intervalNum": 1, "count": 3},
        None,
    ]
    assert list(frame_weights({"rateLimits": limits})) == [(60.0, 70.0)]
    assert list(frame_weights({"rateLimits": {}})) == list(frame_weights({})) == []
