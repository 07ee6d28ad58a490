"""Cron expressions mean what crontab means, whatever a zone's clocks do, and a time fires once, whatever ours does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kill_switch.core.domain import Instant
from kill_switch.cron import MAX_REMEMBERED, Crontab, InvalidCron, Timetable, check
from kill_switch.triggers.pnl.baseline import ResetTime

DAY_S = 86_400
HOUR_S = 3_600
NOON_S = int(datetime(2026, 6, 3, 12, tzinfo=UTC).timestamp())  # a Wednesday


def times(expression: str, zone: str, since: str, count: int) -> list[str]:
    """Return the first times after a local time, as the zone's clocks show them."""
    crontab = Crontab(expression, zone)
    at_s: int | None = int(datetime.fromisoformat(since).replace(tzinfo=ZoneInfo(zone)).timestamp())
    found = []
    for _ in range(count):
        assert at_s is not None
        at_s = crontab.after(at_s)
        found.append("never" if at_s is None else f"{crontab.local(at_s):%a %d %H:%M%z}")
    return found


# ── what crontab means ────────────────────────────────────────────────────────────────────────────────────────────


def test_of_a_day_of_the_month_and_a_day_of_the_week_one_is_enough() -> None:
    found = times("55 16 1,15 * fri", "America/New_York", "2026-06-01T00:00", 6)
    assert [one[:6] for one in found] == ["Mon 01", "Fri 05", "Fri 12", "Mon 15", "Fri 19", "Fri 26"]


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 13 * fri", ["Fri 05", "Fri 12", "Sat 13"]),
        ("0 0 13 * *", ["Sat 13", "Mon 13", "Thu 13"]),
        ("0 0 * * fri", ["Fri 05", "Fri 12", "Fri 19"]),
        ("0 0 */2 * fri", ["Fri 05", "Fri 19", "Fri 03"]),  # one of the two begins with *: both have to match
        ("0 0 1-31 * fri", ["Tue 02", "Wed 03", "Thu 04"]),
        ("0 0 * * */2", ["Tue 02", "Thu 04", "Sat 06"]),  # counted from Sunday
        ("0 0 * * 0", ["Sun 07", "Sun 14", "Sun 21"]),
        ("0 0 * * 7", ["Sun 07", "Sun 14", "Sun 21"]),
        ("0 0 * * 1", ["Mon 08", "Mon 15", "Mon 22"]),
        ("0 0 * * 5-7", ["Fri 05", "Sat 06", "Sun 07"]),
        ("0 0 * * MON-Wed", ["Tue 02", "Wed 03", "Mon 08"]),
        ("0 0 * jul,SEP *", ["Wed 01", "Thu 02", "Fri 03"]),
        ("0 0 l * *", ["Tue 30", "Fri 31", "Mon 31"]),
        ("0 0 * * 5l", ["Fri 26", "Fri 31", "Fri 28"]),
        ("0 0 * * fri#2", ["Fri 12", "Fri 10", "Fri 14"]),
        ("0 0 29 2 *", ["Tue 29", "Sun 29", "Fri 29"]),
        ("0 0 31 2 fri", ["Fri 05", "Fri 12", "Fri 19"]),
    ],
)
def test_days_are_those_of_crontab(expression: str, days: list[str]) -> None:
    assert [one[:6] for one in times(expression, "UTC", "2026-06-01T00:00", 3)] == days


def test_the_trigger_is_one_of_apscheduler() -> None:
    crontab = Crontab("30 12 * * *", "Europe/Kyiv")
    there = datetime(2026, 6, 3, 12, 30, tzinfo=ZoneInfo("Europe/Kyiv"))
    assert crontab.get_next_fire_time(None, there) == there
    assert crontab.get_next_fire_time(None, there + timedelta(microseconds=1)) == there + timedelta(days=1)
    assert crontab.get_next_fire_time(there, there + timedelta(days=3)) == there + timedelta(days=1)


@pytest.mark.parametrize(
    "expression",
    [
        *("", "* * * *", "* * * * * *", "@daily", "@reboot", "61 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *"),
        *(
            "* * * 13 *",
            "* * * * 8",
            "* * * * friday",
            "* * * * sat-sun",
            "*/0 * * * *",
            "*/61 * * * *",
            "1,,2 * * * *",
        ),
        *("-1 * * * *", "5-1 * * * *", "? * * * *", "h * * * *", "* * l/2 * *", "* * * * fri/2", "* * * * 5/2"),
        *("9" * 5000 + " * * * *", "*/" + "9" * 5000 + " * * * *", "* * ¹ * *", "* * * * fri#6", "* * * * l"),
    ],
    ids=lambda expression: repr(expression[:20]),
)
def test_an_expression_that_crontab_refuses_or_people_misread_is_refused(expression: str) -> None:
    with pytest.raises(InvalidCron):
        check(expression)


@pytest.mark.parametrize("expression", ["0 0 31 2 *", "0 0 30 feb *", "0 0 31 4,6,9,11 *", "0 0 */15 2 mon#5"])
def test_a_schedule_that_never_comes_is_refused(expression: str) -> None:
    with pytest.raises(InvalidCron, match="whose time never comes"):
        check(expression)


# ── where a zone's clocks jump ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expression", "zone", "since", "found"),
    [
        # a time of day that the clocks leave out comes right after the gap
        ("30 2 * * *", "America/New_York", "2024-03-09T12:00", ["Sun 10 03:00-0400", "Mon 11 02:30-0400"]),
        ("0,30 2 * * *", "America/New_York", "2024-03-09T12:00", ["Sun 10 03:00-0400", "Mon 11 02:00-0400"]),
        ("30 2,3 * * *", "America/New_York", "2024-03-09T12:00", ["Sun 10 03:00-0400", "Sun 10 03:30-0400"]),
        ("30 3 * * *", "Europe/Kyiv", "2026-03-28T12:00", ["Sun 29 04:00+0300", "Mon 30 03:30+0300"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2024-10-05T12:00", ["Sun 06 02:30+1100", "Mon 07 02:15+1100"]),
        ("30 0 * * *", "Africa/Cairo", "2024-04-25T12:00", ["Fri 26 01:00+0300", "Sat 27 00:30+0300"]),
        ("30 2 * * *", "Africa/Casablanca", "2024-04-13T12:00", ["Sun 14 03:00+0100", "Mon 15 02:30+0100"]),
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T13:00", ["Sat 31 00:00+1400", "Sat 31 12:00+1400"]),
        ("55 16 * * fri", "Pacific/Apia", "2011-12-29T13:00", ["Sat 31 00:00+1400", "Fri 06 16:55+1400"]),
        # one that they show twice comes once, the first time
        ("30 1 * * *", "America/New_York", "2024-11-02T12:00", ["Sun 03 01:30-0400", "Mon 04 01:30-0500"]),
        ("30 3 * * *", "Europe/Kyiv", "2026-10-24T12:00", ["Sun 25 03:30+0300", "Mon 26 03:30+0200"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2024-04-06T12:00", ["Sun 07 01:45+1100", "Mon 08 01:45+1030"]),
        ("30 2 * * *", "Africa/Casablanca", "2024-03-09T12:00", ["Sun 10 02:30+0100", "Mon 11 02:30+0000"]),
        # what follows the clocks is left out with them, and shown twice with them
        ("*/15 2 * * *", "America/New_York", "2024-03-09T12:00", ["Mon 11 02:00-0400", "Mon 11 02:15-0400"]),
        ("30 * * * *", "America/New_York", "2024-11-03T01:00", ["Sun 03 01:30-0400", "Sun 03 01:30-0500"]),
        ("45 * * * *", "Australia/Lord_Howe", "2024-10-06T01:45", ["Sun 06 02:45+1100", "Sun 06 03:45+1100"]),
        ("5 */3 * * *", "Australia/Lord_Howe", "2024-10-06T00:05", ["Sun 06 03:05+1100", "Sun 06 06:05+1100"]),
    ],
)
def test_the_rule_for_gaps_and_repeats_is_that_of_debians_cron(
    expression: str, zone: str, since: str, found: list[str]
) -> None:
    assert times(expression, zone, since, 2) == found


ZONES = {  # and a day on which its clocks jump
    "Europe/Kyiv": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2024-03-10", "2024-11-03"),
    "Australia/Lord_Howe": ("2024-10-06", "2024-04-07"),
    "Africa/Casablanca": ("2024-03-10", "2024-04-14"),
    "Africa/Cairo": ("2024-04-26", "2024-10-31"),
    "America/Havana": ("2024-03-10", "2024-11-03"),
    "Antarctica/Troll": ("2024-03-31", "2024-10-27"),
    "Antarctica/Casey": ("2010-03-05", "2023-03-09"),
    "Pacific/Apia": ("2011-12-30", "2011-04-02"),
    "Asia/Kolkata": ("2024-03-10", "2024-03-10"),
}
DAYS = [pytest.param(zone, day, id=f"{zone} {day}") for zone, days in ZONES.items() for day in sorted(set(days))]


@pytest.mark.parametrize(("zone", "day"), DAYS)
@pytest.mark.parametrize(
    ("expression", "minutes", "hours"),
    [
        ("*/7 * * * *", range(0, 60, 7), range(24)),
        ("10 * * * *", [10], range(24)),
        ("*/20 0-3 * * *", [0, 20, 40], range(4)),
        ("45 */2 * * *", [45], range(0, 24, 2)),
    ],
)
def test_a_local_time_comes_exactly_when_the_clocks_show_it(
    zone: str, day: str, expression: str, minutes: list[int], hours: list[int]
) -> None:
    crontab = Crontab(expression, zone)
    begin_s = int(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()) - DAY_S
    shown = [
        at_s
        for at_s in range(begin_s + 60, begin_s + 3 * DAY_S, 60)
        if (there := crontab.local(at_s)).minute in minutes and there.hour in hours
    ]
    found, at_s = [], crontab.after(begin_s)
    while at_s is not None and at_s < begin_s + 3 * DAY_S:
        found.append(at_s)
        at_s = crontab.after(at_s)
    assert found == shown


@pytest.mark.parametrize(("zone", "day"), DAYS)
@pytest.mark.parametrize("clock", [(0, 0), (0, 30), (1, 45), (2, 0), (2, 30), (3, 15), (23, 30)])
def test_a_time_of_day_comes_once_each_day_as_soon_as_the_clocks_are_that_far(
    zone: str, day: str, clock: tuple[int, int]
) -> None:
    hour, minute = clock
    crontab = Crontab(f"{minute} {hour} * * *", zone)
    begin = datetime.fromisoformat(day) - timedelta(days=1)
    begin_s = int(begin.replace(tzinfo=ZoneInfo(zone)).timestamp())
    shown = [(at_s, crontab.local(at_s).replace(tzinfo=None)) for at_s in range(begin_s, begin_s + 4 * DAY_S, 60)]
    wanted = [begin + timedelta(days=number, hours=hour, minutes=minute) for number in range(4)]
    moments = [next((at_s for at_s, there in shown if there >= time), None) for time in wanted]
    expected = list(dict.fromkeys(at_s for at_s in moments if at_s is not None))
    found, at_s = [], crontab.after(begin_s - 1)
    while at_s is not None and at_s <= expected[-1]:
        found.append(at_s)
        at_s = crontab.after(at_s)
    assert found == expected


@pytest.mark.long
@pytest.mark.parametrize(("zone", "day"), DAYS)
@pytest.mark.parametrize("clock", [(0, 0), (1, 45), (2, 30), (17, 0)])
def test_a_reset_of_pnl_comes_when_a_schedule_of_that_time_does(zone: str, day: str, clock: tuple[int, int]) -> None:
    crontab = Crontab(f"{clock[1]} {clock[0]} * * *", zone)
    reset = ResetTime(*clock, zone)
    begin_s = int(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()) - DAY_S
    latest, resets, scheduled = reset.date(begin_s * 10**9), [], []
    for at_s in range(begin_s + 60, begin_s + 3 * DAY_S, 60):
        if (today := reset.date(at_s * 10**9)) > latest:
            latest = today
            resets.append(at_s)
        if crontab.after(at_s - 60) == at_s:
            scheduled.append(at_s)
    assert resets == scheduled


@settings(deadline=None)
@given(
    st.integers(0, 400 * DAY_S), st.integers(0, 3 * DAY_S), st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 1 * * 0"])
)
def test_the_latest_time_of_a_span_is_the_last_that_follows_its_begin(begin: int, length: int, expression: str) -> None:
    crontab = Crontab(expression, "Australia/Lord_Howe")
    until_s = NOON_S + begin + length
    wanted, at_s = None, crontab.after(NOON_S + begin)
    while at_s is not None and at_s <= until_s:
        wanted, at_s = at_s, crontab.after(at_s)
    assert crontab.last(NOON_S + begin, until_s) == wanted


# ── our own clock ─────────────────────────────────────────────────────────────────────────────────────────────────


class Times:
    """A timetable of 16:55 UTC each day, and two clocks; it is Wednesday noon."""

    def __init__(self, expression: str = "55 16 * * *", *, ahead_s: int = 0, **more: object) -> None:
        self.mono_s = 1_000
        self.wall_s = NOON_S + ahead_s
        self.timetable = Timetable(Crontab(expression, "UTC"), self.now, **more)  # type: ignore[arg-type]

    @property
    def now(self) -> Instant:
        return Instant(self.mono_s * 10**9, self.wall_s * 10**9)

    def go(self, seconds: int, every_s: int = 60) -> list[str]:
        """Let time pass and fire what comes; return the days and hours that were fired."""
        fired = []
        for _ in range(0, seconds, every_s):
            self.mono_s += every_s
            self.wall_s += every_s
            fired += self.look()
        return fired

    def set(self, seconds: int) -> list[str]:
        self.wall_s += seconds
        return self.look()

    def look(self) -> list[str]:
        due_s = self.timetable.look(self.now)
        if due_s is None:
            return []
        self.timetable.fire(due_s)
        return [f"{datetime.fromtimestamp(due_s, UTC):%d %H:%M}"]


@pytest.mark.parametrize("ahead_s", [HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S, 365 * DAY_S])
@pytest.mark.parametrize("seen", [None, datetime.fromtimestamp(NOON_S - HOUR_S, UTC)])
def test_a_clock_that_was_ahead_at_the_start_loses_no_time_once_it_is_right(
    ahead_s: int, seen: datetime | None
) -> None:
    times = Times(ahead_s=ahead_s, seen=seen)
    times.look()
    times.set(-ahead_s)
    assert times.go(3 * DAY_S)[-2:] == ["04 16:55", "05 16:55"]
    again = Times(ahead_s=ahead_s)
    again.set(-ahead_s)
    assert again.go(3 * DAY_S) == ["03 16:55", "04 16:55", "05 16:55"]


@pytest.mark.parametrize("ahead_s", [DAY_S, 7 * DAY_S, 365 * DAY_S])
def test_a_time_fired_by_a_clock_far_ahead_comes_again(ahead_s: int) -> None:
    times = Times(ahead_s=ahead_s)
    assert len(times.go(6 * HOUR_S)) == 1
    times.set(-ahead_s - 6 * HOUR_S)
    assert len(times.go(ahead_s + 3 * DAY_S, every_s=300)) == ahead_s // DAY_S + 3


def test_a_time_fired_by_a_clock_a_day_ahead_comes_again_although_the_clock_is_set_a_day_later() -> None:
    times = Times(ahead_s=DAY_S)
    assert times.go(DAY_S) == ["04 16:55"]
    times.set(-DAY_S)
    assert times.go(DAY_S) == ["04 16:55"]


@pytest.mark.parametrize("back_s", [1, 60, 600, HOUR_S, 11 * HOUR_S])
def test_a_clock_that_is_set_back_fires_no_time_twice(back_s: int) -> None:
    times = Times()
    assert times.go(5 * HOUR_S) == ["03 16:55"]
    times.set(-back_s)
    assert times.go(DAY_S + back_s) == ["04 16:55"]


def test_a_clock_that_is_set_back_and_right_again_fires_nothing_twice_and_loses_nothing() -> None:
    times = Times("*/30 * * * *")
    before = times.go(4 * DAY_S)
    assert times.set(-3 * DAY_S) + times.set(3 * DAY_S) == []
    assert times.go(DAY_S)[:1] == ["07 12:30"]
    assert len(before) == len(set(before)) == 4 * 48 > MAX_REMEMBERED


def test_a_clock_that_is_set_forward_over_several_times_fires_the_latest_of_them_once() -> None:
    times = Times()
    assert times.set(10 * DAY_S) == ["12 16:55"]
    assert times.go(HOUR_S) == []


def test_a_year_that_is_jumped_over_costs_a_moment_though_its_times_are_many() -> None:
    assert len(Times("* * * * *").set(365 * DAY_S)) == 1


@pytest.mark.parametrize("ahead_s", [DAY_S, 365 * DAY_S])
def test_a_last_word_of_the_future_is_not_counted_from(ahead_s: int) -> None:
    last = datetime.fromtimestamp(NOON_S + ahead_s, UTC)
    times = Times(last=last, fired=[NOON_S + ahead_s - 19 * HOUR_S - 300])
    assert times.go(2 * DAY_S)[0] == "03 16:55"


def test_a_clock_that_starts_in_the_past_repeats_no_time_of_an_earlier_run() -> None:
    fired = NOON_S - 19 * HOUR_S - 300
    last = datetime.fromtimestamp(NOON_S - HOUR_S, UTC)
    times = Times(ahead_s=-50 * 365 * DAY_S, last=last, fired=[fired])  # no battery
    assert times.set(50 * 365 * DAY_S) == []
    assert times.go(5 * HOUR_S) == ["03 16:55"]


def test_a_time_of_an_earlier_run_does_not_fire_again_after_a_set_back() -> None:
    due_s = NOON_S + 4 * HOUR_S + 3300
    times = Times(
        last=datetime.fromtimestamp(due_s + 60, UTC), fired=[due_s]
    )  # set back by five hours while it was down
    assert times.go(DAY_S) == []
    assert times.go(DAY_S) == ["04 16:55"]


@pytest.mark.parametrize("early_ns", [0, 1, 100, 999])
def test_the_wait_for_a_time_that_is_all_but_there_is_not_nothing(early_ns: int) -> None:
    due_ns = 1_700_001_000 * 1_000_000_000
    table = Timetable(Crontab("30 22 * * *", "UTC"), Instant(0, due_ns - 10**10))
    assert table.next_s == 1_700_001_000
    assert 0 < table.wait_s(Instant(10**10 - early_ns, due_ns - early_ns), 1.0) < 0.01
