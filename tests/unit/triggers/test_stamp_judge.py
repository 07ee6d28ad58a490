"""Signed datagrams are taken once, whatever happens to clocks and processes: the judge of stamps, with told time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from kill_switch.core.domain import Instant
from kill_switch.journal.records import StampsRecord, Unreadable, read
from kill_switch.triggers.intake.stamp_judge import AHEAD_MS, MAX_SENDERS, NEW_WITHIN_MS, StampJudge, StampVerdict

TAKEN, DOUBLED, WRONG_TIME = StampVerdict.TAKEN, StampVerdict.DOUBLED, StampVerdict.WRONG_TIME
WALL_MS = 1_700_000_000_000


class Life:
    """Processes of a daemon, one after the other; its records are all that survives."""

    def __init__(self) -> None:
        self.mono_ms, self.wall_ms = 1_000_000, WALL_MS
        self.boot = "boot 1"
        self.records: list[Mapping[str, Any]] = []
        self.begin()

    @property
    def now(self) -> Instant:
        return Instant(self.mono_ms * 1_000_000, self.wall_ms * 1_000_000)

    def begin(self) -> None:
        told = [read("stamps", data) for data in map(orjson.loads, map(orjson.dumps, self.records))]
        last = [record for record in told if isinstance(record, StampsRecord)]
        assert last == told
        self.stamps = StampJudge(self.now, self.boot, self.records.append)
        self.stamps.restore(last)

    def reboot(self) -> None:
        self.boot, self.mono_ms = f"{self.boot}+", 5_000
        self.begin()

    def wait(self, ms: int) -> None:
        self.mono_ms += ms
        self.wall_ms += ms

    def send(self, ms: int, sender: str = "bot", trigger: str = "beat") -> StampVerdict:
        return self.stamps.judge(trigger, sender, ms, self.now)

    def beats(self, seconds: int, offset_ms: int = 0, sender: str = "bot") -> list[int]:
        """Let a bot beat once a second; return the stamps, which an attacker has captured. All are taken."""
        captured = []
        for _ in range(seconds):
            self.wait(1000)
            captured.append(self.wall_ms + offset_ms)
            assert self.send(captured[-1], sender) is TAKEN
        return captured


@pytest.fixture
def life() -> Life:
    return Life()


@pytest.mark.parametrize("off_ms", [-NEW_WITHIN_MS, -1, 0, NEW_WITHIN_MS])
def test_a_new_sender_whose_clock_is_near_ours_is_taken(life: Life, off_ms: int) -> None:
    assert life.send(WALL_MS + off_ms) is TAKEN


@pytest.mark.parametrize("off_ms", [-NEW_WITHIN_MS - 1, NEW_WITHIN_MS + 1, -86_400_000, 86_400_000])
def test_a_new_sender_whose_clock_is_far_from_ours_has_a_wrong_time(life: Life, off_ms: int) -> None:
    assert life.send(WALL_MS + off_ms) is WRONG_TIME
    assert life.records == []


@pytest.mark.parametrize("step_ms", [60_000, 3_600_000, 10 * 365 * 86_400_000])
def test_a_known_sender_whose_clock_is_set_forward_is_taken(life: Life, step_ms: int) -> None:
    life.beats(5)
    life.beats(60, step_ms)


def test_a_sender_whose_clock_is_set_back_has_a_wrong_time_until_its_stamps_rise_again(life: Life) -> None:
    life.beats(100)
    for _ in range(49):
        life.wait(1000)
        assert life.send(life.wall_ms - 50_500) is WRONG_TIME
    life.wait(2000)
    assert life.send(life.wall_ms - 50_500) is TAKEN


@pytest.mark.parametrize("step_ms", [-3_600_000, -1, 3_600_000])
def test_our_own_clock_that_is_set_changes_nothing_for_a_known_sender(life: Life, step_ms: int) -> None:
    life.beats(5)
    life.wall_ms += step_ms
    life.beats(5, -step_ms)


def test_a_stamp_that_comes_twice_is_doubled_and_one_out_of_order_has_a_wrong_time(life: Life) -> None:
    assert [life.send(WALL_MS + ms) for ms in (0, 2, 2, 1, 1, 3)] == [
        *(TAKEN, TAKEN, DOUBLED, WRONG_TIME, WRONG_TIME, TAKEN)
    ]


def test_a_clock_that_was_set_back_and_shows_the_same_times_again_is_no_copy(life: Life) -> None:
    captured = life.beats(10)
    assert life.send(captured[0] - 100) is WRONG_TIME
    for ms in captured:
        life.wait(1000)
        assert life.send(ms) is WRONG_TIME
    life.wait(60_000)
    assert [life.send(ms) for ms in captured] == [DOUBLED] * 10  # nothing else came for long: these are copies


def test_each_trigger_and_each_sender_has_stamps_of_its_own(life: Life) -> None:
    for sender, trigger in (("bot", "beat"), ("bot", "other"), ("", "beat")):
        assert life.send(WALL_MS, sender, trigger) is TAKEN
        assert life.send(WALL_MS, sender, trigger) is DOUBLED


# ── restarts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def steady(life: Life) -> list[int]:
    return life.beats(600)


def stepped(life: Life) -> list[int]:
    return life.beats(300) + life.beats(10, 7_200_000)


def drifting(life: Life) -> list[int]:
    """Let the sender's clock gain a hundredth: worse than any."""
    captured = []
    for second in range(2000):
        captured += life.beats(1, second * 10)
    return captured


def lagging(life: Life) -> list[int]:
    captured = []
    for second in range(2000):
        captured += life.beats(1, -second * 10)
    return captured


def early_arrivals(life: Life) -> list[int]:
    """Let every tenth beat arrive at once, and the others as late as a slow network has it."""
    captured = []
    for second in range(300):
        captured += life.beats(1, 0 if second % 10 == 0 else -400)
    return captured


@pytest.mark.parametrize("lived", [steady, stepped, drifting, lagging, early_arrivals])
@pytest.mark.parametrize("away_ms", [10, 3_000, 3_600_000])
@pytest.mark.parametrize("how", ["restart", "reboot"])
def test_nothing_that_was_captured_before_a_restart_is_taken_after_it(
    life: Life, lived: Any, away_ms: int, how: str
) -> None:
    captured = lived(life)
    life.wait(away_ms)
    if how == "reboot":
        life.reboot()
    else:
        life.begin()
    for _ in range(3):
        assert not [ms for ms in captured if life.send(ms) is TAKEN]
        assert not [ms for ms in captured if life.send(ms, trigger="beat") is TAKEN]
        life.wait(20_000)


@pytest.mark.parametrize("how", ["restart", "reboot"])
@pytest.mark.parametrize("offset_ms", [0, -7_200_000, 7_200_000])
def test_a_sender_that_beats_on_is_taken_soon_after_a_restart(life: Life, how: str, offset_ms: int) -> None:
    life.beats(2)
    life.wall_ms -= offset_ms  # our clock is set: the sender's stays as it is
    life.beats(600, offset_ms)
    life.wait(5_000)
    if how == "reboot":
        life.reboot()
    else:
        life.begin()
    life.wait(AHEAD_MS + 100)
    life.beats(10, offset_ms)


def test_a_second_restart_takes_nothing_old_either(life: Life) -> None:
    captured = life.beats(10)
    for how in (life.begin, life.reboot, life.begin, life.reboot):
        life.wait(10_000)
        how()
        captured += life.beats(2)
        life.wait(1)
        how()
        assert not [ms for ms in captured if life.send(ms) is TAKEN]


def test_after_a_reboot_with_a_clock_that_is_behind_nothing_is_taken_until_it_is_right(life: Life) -> None:
    captured = life.beats(600)
    life.wait(30_000)
    right_ms, life.wall_ms = life.wall_ms, 86_400_000  # 1970: there is no battery
    life.reboot()
    assert {life.send(ms) for ms in captured} <= {WRONG_TIME, DOUBLED}
    life.wait(5_000)
    assert life.send(right_ms + 5_000) is WRONG_TIME
    life.wall_ms = right_ms + life.mono_ms - 5_000
    assert not [ms for ms in captured if life.send(ms) is TAKEN]
    life.beats(5)


# ── what is written and kept ──────────────────────────────────────────────────────────────────────────────────────


def test_beats_at_a_steady_pace_write_one_record_and_a_clock_that_drifts_few(life: Life) -> None:
    life.beats(3600)
    assert len(life.records) == 1
    for second in range(86_400):
        life.wait(1000)
        assert life.send(life.wall_ms + second // 10) is TAKEN  # 100 ppm
    assert len(life.records) < 50


def test_stamps_that_jump_with_every_beat_write_few_records(life: Life) -> None:
    for second in range(1, 3600):
        life.wait(1000)
        life.send(WALL_MS + second * 1_000_000)  # it counts microseconds
    assert len(life.records) < 100


def test_senders_are_bounded_and_none_that_was_forgotten_comes_back_with_an_old_stamp(life: Life) -> None:
    captured = {f"bot-{number}": life.beats(1, sender=f"bot-{number}")[0] for number in range(3 * MAX_SENDERS)}
    assert len(life.records[-1]["senders"]) == MAX_SENDERS
    for _ in range(2):
        assert not [name for name, ms in captured.items() if life.send(ms, name) is TAKEN]
        life.begin()
    life.wait(1000)
    life.beats(1, sender="bot-0")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"trigger": "beat", "floor": 0},
        {"trigger": "beat", "floor": "0", "senders": {}},
        {"trigger": "beat", "floor": 0, "senders": []},
        {"trigger": "beat", "floor": 0, "senders": {"bot": [1, 2, 3, 4]}},
        {"trigger": "beat", "floor": 0, "senders": {"bot": [1, 2, 3, 4, 5]}},
    ],
)
def test_an_invalid_record_of_stamps_is_none(data: Mapping[str, Any]) -> None:
    assert isinstance(read("stamps", data), Unreadable)
