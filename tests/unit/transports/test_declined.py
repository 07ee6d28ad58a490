"""A venue's protocol may want no WebSocket connection for a while: then none is made, and the lane says why."""

from __future__ import annotations

import anyio
import httpx
import pytest

from kill_switch import clock
from kill_switch.core.domain import Instant, LaneState, Route
from kill_switch.dispatch import connect
from kill_switch.sim import serve
from kill_switch.transports.lane import ConnectionNotWanted
from kill_switch.transports.ws import WsLane
from kill_switch.venues.crosstrade.adapter import CrossTrade
from kill_switch.venues.messages import Closed
from kill_switch.venues.request import Upgrade
from tests.harness.lane_listeners import RecordingListener, until

pytestmark = pytest.mark.anyio


async def test_a_lane_that_is_to_keep_away_makes_no_attempt_and_comes_back_when_it_may() -> None:
    async with serve(["crosstrade"]) as ready:
        entry = ready["venues"]["crosstrade"]
        token = {"Authorization": f"Bearer {entry['credentials']['token']}"}
        away = ["somebody else has it"]

        def upgrade() -> Upgrade:
            if away:
                raise ConnectionNotWanted(away[0])
            return Upgrade(headers=token)

        ear = RecordingListener()
        lane = WsLane(entry["ws_url"], upgrade, ear, ca_file=ready["ca_file"])
        async with anyio.create_task_group() as group, httpx.AsyncClient(trust_env=False) as admin:
            group.start_soon(lane.run)
            await until(lambda: lane.trouble)
            await anyio.sleep(0.3)
            assert (lane.trouble, lane.state) == ("somebody else has it", LaneState.DOWN)
            assert (await admin.get(f"{ready['admin']}/requests")).json() == []
            away.clear()
            await until(ear.opened)
            group.cancel_scope.cancel()


@pytest.mark.parametrize("is_expected", [True, False])
async def test_a_connection_that_a_step_of_each_start_puts_off_is_shown_and_not_logged(is_expected: bool) -> None:
    def upgrade() -> Upgrade:
        raise ConnectionNotWanted("no key yet", is_expected=is_expected)

    ear = RecordingListener()
    lane = WsLane("wss://127.0.0.1:9/", upgrade, ear)
    async with anyio.create_task_group() as group:
        group.start_soon(lane.run)
        await until(lambda: lane.trouble)
        assert (lane.trouble, lane.state) == ("no key yet", LaneState.DOWN)
        assert bool(ear.troubles) is not is_expected
        group.cancel_scope.cancel()


def test_the_adapter_decides_before_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = CrossTrade(CrossTrade.Options(nt_accounts=("Sim101",)), {"token": "token-0123456789"}, 0.06)
    now = Instant(5_000_000_000, 1_700_000_000_000_000_000)
    monkeypatch.setattr(clock, "now", lambda: now)
    upgrade = connect._upgrade(adapter)
    assert upgrade().headers == {"Authorization": "Bearer token-0123456789"}
    adapter.on_opened(Route.WS, 1, now)
    adapter.handle(Closed(Route.WS, 1, "closed by the venue: 1008 Session active elsewhere"), now)
    with pytest.raises(ConnectionNotWanted, match="REST only for 30 s"):
        upgrade()
