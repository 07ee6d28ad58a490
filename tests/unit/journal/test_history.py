"""A journal that another version has written in starts this one: latches hold, and all else is left out."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from kill_switch.clock import now
from kill_switch.config.loader import load
from kill_switch.daemon.daemon import Daemon
from kill_switch.journal import journal
from kill_switch.journal.history import WatchedUntil, records_of_kind, triggers_watched_until
from kill_switch.journal.records import PnlRecord, StopRecord

HEAD = """
[daemon]
state_dir = "{0}/state"
runtime_dir = "{0}/run"
ready = "degraded"
[accounts.a]
venue = "oxfun"
api_key = {{ env = "KEY" }}
api_secret = {{ env = "SECRET" }}
ws_url = "wss://127.0.0.1:1/ws"
rest_url = "https://127.0.0.1:1"
[triggers.loss]
kind = "pnl"
currency = "OX"
max_loss = "100"
reset = "00:00 UTC"
on_blind = "alarm"
[triggers.friday]
kind = "schedule"
cron = "55 16 * * fri"
timezone = "UTC"
missed = "skip"
"""
LANE = {"ok": True, "rtt_us": 1500, "within_budget": True, "evidence": "not found, as it must be"}
DRILL = {"at": "2024-01-01T00:00:00Z", "by": "schedule", "ok": True, "answered_us": 1500, "budget_us": 250_000}
REASON = {
    "kill": "k1-1",
    "trigger": "panic",
    "text": "touched",
    "accounts": ["a"],
    "observed_mono_ns": 1,
    "observed_wall_ns": 1,
    "evidence": {},
}


def drill(**lane: object) -> dict[str, Any]:
    return {**DRILL, "accounts": {"a": {"skipped": None, "lanes": {"ws": {**LANE, **lane}}}}}


STRANGE: list[tuple[str, dict[str, Any]]] = [
    ("start", {}),
    ("start", {"triggers": 7}),
    ("reload", {"triggers": None}),
    ("start", {"triggers": {"friday": "schedule", "another": {"kind": "new"}}, "version": 99}),
    ("pnl", {}),
    ("pnl", {"trigger": []}),
    ("pnl", {"trigger": "loss", "of": [], "day": 1, "fired": {}}),
    ("drill", {}),
    ("drill", {**DRILL, "accounts": ["a"]}),
    ("drill", {**DRILL, "accounts": {"a": None}}),
    ("drill", {**DRILL, "accounts": {"a": {"skipped": None, "lanes": {"ws": "up"}}}}),
    ("drill", drill(rtt_us=None, within_budget=False)),
    ("drill", drill(rtt_us="fast")),
    ("drill", drill(ok="yes")),
    ("drill", {**drill(), "budget_us": None}),
    ("heartbeat", {}),
    ("heartbeat", {"trigger": "loss", "watched": 1, "why": "beat"}),
    ("schedule", {"trigger": "friday", "fired": ["x"]}),
    ("schedule", {"trigger": [], "fired": []}),
    ("hook", {"kill": "k1-1"}),
    ("hook", {"kill": "k1-1", "command": ["true"], "accounts": ["a"]}),
    ("hook", {"kill": "k1-1", "command": "true", "accounts": 1}),
    ("hook", {"kill": "k1-1", "command": "true", "accounts": [["a"]]}),
    ("residue", {"kill": "k1-1", "account": []}),
    ("never heard of", {"accounts": 1, "kill": ["k1-1"]}),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def stage(directory: Path, monkeypatch: pytest.MonkeyPatch, *records: tuple[str, dict[str, Any]]) -> Path:
    """Write a configuration, and a journal with these records; return the configuration's path."""
    monkeypatch.setenv("KEY", "key-of-the-account")
    monkeypatch.setenv("SECRET", "secret-of-the-account")
    (directory / "state").mkdir()
    (directory / "run").mkdir()
    written = journal.Journal(directory / "state", directory / "run")
    for kind, data in records:
        written.append(kind, data, now())
    written.close()
    source = directory / "config.toml"
    source.write_text(HEAD.format(directory))
    return source


async def life(source: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Run a daemon until it is ready; return what is tripped, and its status."""
    daemon = Daemon(load(source))
    async with anyio.create_task_group() as group:
        group.start_soon(daemon.run)
        with anyio.fail_after(5):
            while not daemon._ready:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.005)
        found = daemon.dispatcher.state.tripped, daemon.handlers.status()
        group.cancel_scope.cancel()
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("latched", [False, True])
async def test_records_of_another_version_neither_keep_it_from_starting_nor_trip_nor_free(
    latched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reasons = [("reason", REASON)] if latched else []
    source = stage(tmp_path, monkeypatch, *reasons, *STRANGE)
    with caplog.at_level(logging.WARNING, "kill_switch.journal.history"):
        tripped, status = await life(source)
    assert tripped == (("a",) if latched else ())
    assert status["drill"]["last"] is None
    assert orjson.loads(orjson.dumps(status, default=str))["triggers"]["loss"]["state"] == "waiting"
    told = [record.message for record in caplog.records if record.name == "kill_switch.journal.history"]
    for kind in ("start or reload", "pnl", "heartbeat", "schedule", "drill", *(("hook",) if latched else ())):
        assert sum(f"kind {kind} " in line for line in told) == 1, told


@pytest.mark.anyio
@pytest.mark.parametrize(
    "data",
    [{**REASON, "accounts": "a"}, {**REASON, "accounts": {"a": 1}}, {"kill": "k1-1", "scope": ["a"]}],
)
async def test_an_unreadable_reason_trips_every_account(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tripped, _ = await life(stage(tmp_path, monkeypatch, ("reason", data)))
    assert tripped == ("a",)


@pytest.mark.anyio
async def test_an_unreadable_re_arm_frees_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tripped, _ = await life(stage(tmp_path, monkeypatch, ("reason", REASON), ("rearm", {"accounts": "a"})))
    assert tripped == ("a",)


def entry(seq: int, kind: str, data: dict[str, Any], at: object = "2024-01-01T00:00:00Z") -> dict[str, Any]:
    return {"seq": seq, "kind": kind, "data": data, "at": at}


def test_records_left_out_are_reported_once_with_the_last_number(caplog: pytest.LogCaptureFixture) -> None:
    entries = [entry(n, "stop", {"state": n}) for n in range(1, 4)] + [entry(4, "stop", {"state": "ARMED"})]
    with caplog.at_level(logging.WARNING, "kill_switch.journal.history"):
        assert records_of_kind(entries, StopRecord) == [StopRecord(state="ARMED")]
    (line,) = caplog.messages
    assert line.startswith("journal: 3 record(s) of the kind stop left out, the last is number 3")
    assert records_of_kind(entries, PnlRecord) == []


NOON = datetime(2024, 1, 7, 12, tzinfo=UTC)


def test_a_schedule_counts_from_the_last_time_that_can_be_read() -> None:
    cast = entry(1, "start", {"triggers": {"friday": "schedule"}})
    for at in (None, 17, "soon", "2024-01-05T00:00:00", "0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+23:00"):
        found = triggers_watched_until(
            [cast, entry(2, "pulse", {}, "2024-01-02T00:00:00Z"), entry(3, "stop", {}, at)], NOON
        )
        assert found == {"friday": WatchedUntil(datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC))}
    assert triggers_watched_until([entry(1, "start", {"triggers": {"friday": ""}}, "soon")], NOON) == {}
    assert triggers_watched_until([], NOON) == {}


@pytest.mark.parametrize("ahead", [timedelta(seconds=1), timedelta(days=1), timedelta(days=365)])
def test_a_schedule_counts_from_no_time_of_the_future(ahead: timedelta) -> None:
    future = (NOON + ahead).isoformat()
    entries = [
        entry(1, "start", {"triggers": {"friday": "schedule"}}, "2024-01-05T00:00:00Z"),
        entry(2, "start", {"triggers": {"friday": "schedule"}}, future),
        entry(3, "stop", {}, future),
    ]
    assert triggers_watched_until(entries, NOON) == {
        "friday": WatchedUntil(datetime(2024, 1, 5, tzinfo=UTC), NOON + ahead)
    }
    assert triggers_watched_until(entries[1:], NOON) == {"friday": WatchedUntil(None, NOON + ahead)}
