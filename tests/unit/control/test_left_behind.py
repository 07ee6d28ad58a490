"""Orders that a forced re-arm has left are shown until they are proven gone, also after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kill_switch.control.left_behind import MOST, LeftBehind
from kill_switch.journal.checkpoint import JournalSnapshot


class Life:
    """What the record holds over the runs of a daemon."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def record(self, kind: str, data: Mapping[str, object]) -> None:
        stamp = {"seq": len(self.entries) + 1, "at": "2026-11-30T09:00:00Z", "mono_ns": 1, "boot": "b", "hash": ""}
        self.entries.append({**stamp, "kind": kind, "data": dict(data)})

    def kill(self, *accounts: str) -> None:
        reason = {"kill": f"k{len(self.entries)}", "trigger": "operator", "text": "x", "accounts": list(accounts)}
        self.record("reason", {**reason, "identities": {}, "observed_mono_ns": 1, "observed_wall_ns": 1})

    def start(self) -> LeftBehind:
        return LeftBehind(self.entries, self.record)

    def start_from_checkpoint(self) -> LeftBehind:
        snapshot = JournalSnapshot()
        for entry in self.entries:
            snapshot.apply(entry)
        return LeftBehind(snapshot.entries(), self.record)


def starts(life: Life) -> tuple[LeftBehind, LeftBehind]:
    return life.start(), life.start_from_checkpoint()


def test_after_a_restart_all_are_shown_until_the_orders_are_known_and_then_those_that_are_open() -> None:
    life = Life()
    life.start().note("a", ["1", "2", "3"])
    for left in starts(life):
        assert left.still_left("a", [], are_known=False) == ["1", "2", "3"]
        assert left.still_left("a", ["2", "9"], are_known=True) == ["2"]
        assert left.still_left("a", ["2", "9"], are_known=False) == ["2"]
        assert left.still_left("a", ["9"], are_known=True) == []
        assert left.still_left("b", ["1"], are_known=True) == []


def test_a_new_kill_cancels_them_and_they_are_not_shown_after_its_restart() -> None:
    life = Life()
    first = life.start()
    first.note("a", ["1"])
    first.note("b", ["2"])
    life.kill("a")
    life.record("rearm", {"accounts": ["a"]})
    life.kill("c")  # from here on no checkpoint holds the kill of "a"
    for left in starts(life):
        assert left.still_left("a", ["1"], are_known=False) == []
        assert left.still_left("b", [], are_known=False) == ["2"]


def test_a_second_forced_re_arm_replaces_the_first() -> None:
    life = Life()
    life.start().note("a", ["1"])
    life.kill("a")
    life.start().note("a", ["1", "4"])
    for left in starts(life):
        assert left.still_left("a", [], are_known=False) == ["1", "4"]


def test_a_re_arm_that_leaves_none_is_not_recorded_and_very_many_ids_are_cut_in_the_record() -> None:
    life = Life()
    life.start().note("a", [])
    assert life.entries == []
    left = life.start()
    left.note("a", [str(number) for number in range(MOST + 1)])
    assert len(life.entries[0]["data"]["orders"]) == MOST
    assert left.still_left("a", [str(MOST)], are_known=True) == [str(MOST)]


def test_an_order_is_compared_with_few_others_however_many_were_left() -> None:
    compared = 0

    class OrderId(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    left = Life().start()
    left.note("a", [OrderId(number) for number in range(500)])
    assert len(left.still_left("a", [OrderId(number) for number in range(400, 900)], are_known=True)) == 100
    assert compared <= 2 * 500
