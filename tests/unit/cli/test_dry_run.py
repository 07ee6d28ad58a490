"""`fire --dry-run`: it lists what would be hit, by the daemon or directly, and fires nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kill_switch.direct import connect_check
from tests.harness.fake_daemon import answering
from tests.unit.cli.test_commands import config, invoke

__all__ = ["config"]

ORDER = {"id": "300000000000000101", "symbol": "BTC-USD-SWAP-LIN", "status": "OPEN"}
ACCOUNT = {
    "venue": "oxfun",
    "state": "ARMED",
    "ready": True,
    "orders": [ORDER],
    "orders_known": True,
    "orders_why": None,
    "would_send": ["DELETE /v3/orders/cancel-all"],
}
ANSWER = {"dry_run": True, "accounts": {"mm1": ACCOUNT}}


def test_the_request_to_the_daemon_is_marked_as_a_dry_run(config: Path, tmp_path: Path) -> None:
    with answering(tmp_path / "run" / "control.sock", {"fire": ANSWER}) as requests:
        done = invoke("fire", "--dry-run", "--reason", "looking", "--scope", "mm1", "-c", config)
        as_json = invoke("fire", "--dry-run", "--reason", "looking", "--json", "-c", config)
    assert (done.exit_code, as_json.exit_code) == (0, 0)
    assert requests[0]["dry_run"] is True
    assert requests[0]["scope"] == ["mm1"]
    assert "300000000000000101  BTC-USD-SWAP-LIN  OPEN" in done.output
    assert "would send: DELETE /v3/orders/cancel-all" in done.output
    assert json.loads(as_json.stdout) == ANSWER


def test_without_the_daemon_the_venues_are_asked(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dry_run(loaded: Any, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        assert tuple(names) == ("mm1",)
        return {"mm1": {**ACCOUNT, "state": None}}, {}

    monkeypatch.setattr(connect_check, "dry_run", dry_run)
    words = ("fire", "--direct", "--dry-run", "--reason", "looking", "--wait", "4", "-c", config)
    assert "mm1 (oxfun): 1 order\n" in invoke(*words).output
    assert json.loads(invoke(*words, "--json").stdout)["accounts"]["mm1"]["orders"] == [ORDER]


def test_an_unknown_scope_is_one_clear_line(config: Path) -> None:
    done = invoke("fire", "--direct", "--dry-run", "--reason", "looking", "--scope", "mm2", "-c", config)
    assert done.exit_code == 1
    assert "mm2" in done.output
