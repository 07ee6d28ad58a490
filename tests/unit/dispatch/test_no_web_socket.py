"""An account whose venue is served over HTTP alone: one lane, and it alone decides whether the account is ready."""

from __future__ import annotations

import pytest

from kill_switch.core.domain import LaneState
from kill_switch.dispatch.no_web_socket import NoWebSocket

from ...harness.dispatch_doubles import Floor, Lane, Venue


def floor_with_http_alone(state: LaneState) -> Floor:
    floor = Floor()
    venue, http = Venue(), Lane("http", floor.trace)
    venue.ws_url, http.state = "", state
    session_lanes = NoWebSocket()
    floor.connect("a", venue, ws=session_lanes, http=http)  # type: ignore[arg-type]
    return floor


@pytest.mark.parametrize("state", list(LaneState))
def test_an_account_without_a_websocket_is_ready_if_its_http_lane_is_up(state: LaneState) -> None:
    status = floor_with_http_alone(state).session().status

    assert status.lanes == {"http": state}
    assert status.is_ready == status.is_reachable == (state is LaneState.UP)
    assert not status.sees_new_orders


def test_a_kill_of_an_account_without_a_websocket_leaves_over_http() -> None:
    floor = floor_with_http_alone(LaneState.UP)

    floor.fire()

    assert [call.request.target for call in floor.session().http.calls] == ["/cancel-all"]  # type: ignore[attr-defined]
