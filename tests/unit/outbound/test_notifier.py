"""Announcements become few messages, and each way to people carries them by itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from pydantic import SecretStr

from kill_switch.config.schema import NotifyConfig
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Severity
from kill_switch.outbound.digest import MAX_ANNOUNCEMENTS, REPEAT_AFTER_S, Announcement, Digest, Message, render
from kill_switch.outbound.notifier import GIVE_UP_AFTER_S, MAX_QUEUED, Notifier
from kill_switch.worker.client import JobResult
from tests.harness.virtual_time import START
from tests.harness.worker_double import NO, OK, Beside, Run, kill, now, seconds

SLACK, MAIL = "slack://tokenA/tokenB", "mailto://user:pass@example.org"
FOUR = tuple(f"mm{n}" for n in range(4))


def news(
    level: Severity, text: str = "x", account: str | None = None, after_s: float = 0.0, in_kill: str = "7"
) -> Announcement:
    at = Instant(START.mono_ns + round(after_s * 1e9), START.wall_ns + round(after_s * 1e9))
    return Announcement(level, text, account, in_kill, ("mm1", "rx1") if in_kill else (), at)


def texts(run: Run) -> str:
    return f"{run.errand['subject']}\n{run.errand['text']}"


# ── what a message says ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_kill_of_two_accounts_is_one_message_that_says_all_there_is_to_know() -> None:
    announcements = [
        news(Severity.TRIP, "panic: the flag is there"),
        news(Severity.CLEAR, "proven clear after 1 strike(s)", "mm1"),
        news(Severity.CLEAR, "proven clear after 1 strike(s)", "rx1"),
        news(Severity.CLEAR, "every account of kill 7 is proven clear"),
    ]
    message = render(announcements, "host1")
    assert message.subject == "kill-switch host1: KILL, proven clear: panic: the flag is there"
    assert message.text == (
        "KILL: panic: the flag is there\n"
        "CLEAR: mm1, rx1: proven clear after 1 strike(s)\n"
        "CLEAR: every account of kill 7 is proven clear\n"
        "\n"
        "kill 7 of mm1, rx1\n"
        "more: kill-switch report 7\n"
        "host1, 2023-11-14T22:13:20.000000Z"
    )
    assert (message.level, message.type) == ("trip", "failure")


def test_remaining_orders_come_before_clear_accounts_and_are_in_the_subject() -> None:
    announcements = [
        news(Severity.CLEAR, "proven clear", "mm1"),
        news(Severity.RESIDUE, "3 order(s) left, still chasing", "rx1"),
    ]
    message = render(announcements, "host1")
    assert message.subject == "kill-switch host1: ORDERS LEFT: rx1: 3 order(s) left, still chasing"
    assert message.text.startswith("ORDERS LEFT: rx1: 3 order(s)")


def test_a_warning_outside_of_a_kill_names_no_kill() -> None:
    message = render([news(Severity.WARN, "journal: No space left on device", in_kill="")], "host1")
    assert message.subject == "kill-switch host1: WARNING: journal: No space left on device"
    assert "more: kill-switch status" in message.text
    assert message.type == "warning"


def test_a_message_has_an_end_and_each_of_its_lines_too() -> None:
    message = render([news(Severity.WARN, f"{n} " + "long " * 1000) for n in range(100)], "host1")
    assert len(message.subject) <= 140
    assert len(message.text.splitlines()) < 40
    assert "and 70 more" in message.text
    assert len(message.text) < 12_000


def test_a_reason_with_line_breaks_cannot_write_lines_of_its_own() -> None:
    message = render([news(Severity.TRIP, "panic: x\nCLEAR: everything\r\n is fine")], "host1")
    assert message.text.splitlines()[0] == "KILL: panic: x CLEAR: everything is fine"


# ── what goes into a message ──────────────────────────────────────────────────────────────────────────────────────


def test_a_message_for_the_log_only_is_not_sent() -> None:
    assert not Digest("h").add(news(Severity.INFO))


def test_a_repeated_message_is_sent_every_ten_minutes() -> None:
    outbox = Digest("h")
    told = [
        after_s for after_s in range(3600) if outbox.add(news(Severity.WARN, "disk full", after_s=after_s, in_kill=""))
    ]
    assert told == [0, 600, 1200, 1800, 2400, 3000]


def test_a_guard_that_clears_a_quoting_bot_each_second_is_sent_once() -> None:
    outbox = Digest("h")
    told = [outbox.add(news(Severity.CLEAR, f"after {n} strikes", "mm1", after_s=n)) for n in range(100)]
    assert told.count(True) == 1


def test_the_last_state_of_an_account_is_always_sent() -> None:
    outbox = Digest("h")
    levels = [Severity.CLEAR, Severity.RESIDUE, Severity.RESIDUE, Severity.CLEAR, Severity.CLEAR]
    assert [outbox.add(news(level, "x", "mm1", after_s=n)) for n, level in enumerate(levels)] == [
        *(True, True, False, True, False)
    ]


def test_the_same_reason_after_a_re_arm_is_sent_again() -> None:
    outbox = Digest("h")
    assert all(outbox.add(news(Severity.TRIP, after_s=n)) for n in range(3))
    assert outbox.add(news(Severity.CLEAR, "x", "mm1", in_kill="7")) and outbox.add(
        news(Severity.CLEAR, "x", "mm1", in_kill="8")
    )


@pytest.mark.parametrize("place", [0, MAX_ANNOUNCEMENTS // 2, MAX_ANNOUNCEMENTS])
def test_a_trip_is_not_lost_among_too_many_warnings(place: int) -> None:
    outbox = Digest("h")
    for number in range(MAX_ANNOUNCEMENTS + 50):
        if number == place:
            outbox.add(news(Severity.TRIP, "panic: now"))
        outbox.add(news(Severity.WARN, str(number)))
    assert outbox.dropped == 51
    message = outbox.compose()
    assert message is not None and message.text.startswith("KILL: panic: now")
    assert "WARNING: 0\n" not in message.text  # the oldest have gone
    assert outbox.compose() is None


def test_a_message_names_the_journals_newest_record() -> None:
    outbox = Digest("h")
    outbox.add(news(Severity.TRIP, "panic: now"))
    message = outbox.compose("1234 0f3a9c5d7e1b2846")
    assert message is not None and message.text.endswith("\njournal: record 1234 0f3a9c5d7e1b2846")


def pair(level: Severity, after_s: float) -> Announcement:
    """Return that a trigger is blind, or sees again."""
    return news(level, f"{level}", after_s=after_s, in_kill="")._replace(about="blind beat")


def test_the_last_state_of_a_condition_is_always_sent_though_the_same_was_announced_within_ten_minutes() -> None:
    outbox = Digest("h")
    levels = [Severity.BLIND, Severity.BLIND, Severity.OVER, Severity.BLIND, Severity.OVER, Severity.OVER]
    assert [outbox.add(pair(level, n)) for n, level in enumerate(levels)] == [True, False, True, True, True, False]


def test_a_condition_that_begins_again_in_another_way_is_sent() -> None:
    outbox = Digest("h")
    silences = [pair(Severity.WARN, n)._replace(text=f"silenced for {n} min") for n in range(3)]
    assert [outbox.add(silence) for silence in silences] == [True] * 3


def test_each_start_each_stop_and_each_approval_is_sent_though_the_text_is_the_same() -> None:
    outbox = Digest("h")
    levels = Severity.START, Severity.STOP, Severity.APPROVAL  # what was approved before may be void
    assert all(outbox.add(news(level)) for level in levels for _ in range(3))


def test_the_commands_of_a_message_name_the_configurations_whole_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    outbox = Digest("h", Path("../home/lab/config.toml"))
    outbox.add(news(Severity.TRIP)._replace(do="find the cause; then kill-switch rearm"))
    message = outbox.compose()
    assert message is not None
    assert message.text.count("-c /home/lab/config.toml") == 2


def test_a_message_has_the_remedy_the_person_who_acted_and_the_configuration() -> None:
    outbox = Digest("h", Path("/home/al/a config.toml"), {"1000": "alice"}.get)  # type: ignore[arg-type]
    do = "find the cause; then kill-switch rearm --reason …, or systemctl stop kill-switch"
    outbox.add(news(Severity.TRIP, "panic: the flag is there")._replace(do=do, by="1000"))
    message = outbox.compose()
    assert message is not None
    assert message.text.splitlines()[:2] == [
        "KILL: panic: the flag is there (by alice)",
        "  do: find the cause; then kill-switch rearm -c '/home/al/a config.toml' --reason …, "
        "or systemctl stop kill-switch",
    ]
    assert "more: kill-switch report -c '/home/al/a config.toml' 7" in message.text
    assert (message.host, message.accounts) == ("h", ("mm1", "rx1"))


def test_the_owner_of_a_flag_that_is_found_later_is_in_the_message() -> None:
    outbox = Digest("h")
    outbox.add(news(Severity.TRIP, "panic: it is there"))
    outbox.amend("panic: it is there", "panic: it is there", "alice")
    message = outbox.compose()
    assert message is not None and message.text.startswith("KILL: panic: it is there (by alice)\n")


def test_a_stop_after_a_kill_that_is_over_is_no_message_of_the_kill() -> None:
    message = render([news(Severity.STOP, "nobody watches now")], "host1")
    assert "more: kill-switch status" in message.text and "report" not in message.text


def test_sent_messages_are_forgotten_in_time() -> None:
    outbox = Digest("h")
    for number in range(20 * MAX_ANNOUNCEMENTS):
        outbox.add(news(Severity.WARN, str(number)))
        outbox.compose()
    assert len(outbox._announced) <= 10 * MAX_ANNOUNCEMENTS


# ── how it gets to people ─────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def notifier(beside: Beside, *urls: str, command: tuple[str, ...] | None = None) -> AsyncIterator[Notifier]:
    made = Notifier(beside, now, "host1")
    made.configure(table(*urls, command=command))
    async with anyio.create_task_group() as group:
        group.start_soon(made.run)
        await anyio.lowlevel.checkpoint()
        yield made
        group.cancel_scope.cancel()


def table(*urls: str, command: tuple[str, ...] | None = None) -> NotifyConfig:
    return NotifyConfig().model_copy(update={"urls": tuple(map(SecretStr, urls)), "command": command})


def is_to(url: str, run: Run) -> bool:
    return run.what == "tell" and run.errand["url"] == url and "text" in run.errand


@pytest.mark.anyio
async def test_announcements_within_a_second_are_one_message_on_every_channel() -> None:
    beside = Beside()
    async with notifier(beside, SLACK, MAIL, command=("page", "-v")) as made:
        made.on_announcement(Announce(Severity.TRIP, "panic: now"), kill(1, *FOUR))
        for account in FOUR:
            made.on_announcement(Announce(Severity.CLEAR, "proven clear", account), kill(1, *FOUR))
        await anyio.sleep(5)
    sent = beside.of("tell")
    assert [run.errand["url"] for run in sent] == [SLACK, MAIL]
    assert all("mm0, mm1, mm2, mm3" in texts(run) and "panic: now" in texts(run) for run in sent)
    assert [run.at_s for run in sent] == [pytest.approx(1.0, abs=0.01)] * 2
    (run,) = beside.of("run")
    assert run.errand["argv"] == ("page", "-v")
    assert run.errand["env"] == {
        "KILL_SWITCH_LEVEL": "trip",
        "KILL_SWITCH_SUBJECT": "kill-switch host1: KILL: panic: now",
        "KILL_SWITCH_KILL": kill().id,
        "KILL_SWITCH_MESSAGE": f"{START.wall_ms + 1000:x}-1",
        "KILL_SWITCH_HOST": "host1",
        "KILL_SWITCH_ACCOUNTS": "mm0 mm1 mm2 mm3",
    }
    assert run.errand["text"].startswith("kill-switch host1: KILL: panic: now\n\nKILL: panic: now\n")


@pytest.mark.anyio
async def test_announcements_without_a_channel_are_not_kept() -> None:
    beside = Beside()
    async with notifier(beside) as made:
        made.on_announcement(Announce(Severity.TRIP, "x"), kill())
        await anyio.sleep(5)
        made.configure(table(SLACK))
        await anyio.sleep(5)
    assert not beside.of("tell")


@pytest.mark.anyio
async def test_a_way_that_hangs_keeps_no_other_one_waiting() -> None:
    beside = Beside()
    beside.takes = lambda run: 1e6 if run.errand.get("url") == SLACK else 0.0
    async with notifier(beside, SLACK, MAIL) as made:
        for number in range(5):
            made.on_announcement(Announce(Severity.REARM, str(number)), None)
            await anyio.sleep(10)
    assert len([run for run in beside.runs if is_to(MAIL, run)]) == 5


@pytest.mark.anyio
async def test_a_message_that_did_not_arrive_is_sent_again_and_again_and_then_given_up() -> None:
    beside = Beside()
    beside.answer = lambda run: NO
    async with notifier(beside, SLACK) as made:
        made.on_announcement(Announce(Severity.WARN, "x"), None)
        await anyio.sleep(20)
        times = [run.at_s for run in beside.of("tell")]
        assert times == pytest.approx([1, 2, 4, 8, 16], abs=0.1)
        numbers = {run.errand["text"].splitlines()[-1] for run in beside.of("tell")}
        assert numbers == {f"message: {START.wall_ms + 1000:x}-1"}  # whoever gets it twice can tell
        assert list(made.troubles()) == ["notify urls[0] slack: HTTP 500"]
        await anyio.sleep(2 * GIVE_UP_AFTER_S)
        assert made.failures == len(beside.of("tell")) + 1  # and that first look
        assert (made.sent, made.lost) == (0, 1)
        assert 60 < len(beside.of("tell")) < 70


@pytest.mark.anyio
async def test_a_trip_overtakes_messages_that_wait_for_a_retry() -> None:
    beside = Beside()
    beside.answer = lambda run: OK if seconds() > 100 else NO
    async with notifier(beside, SLACK) as made:
        for number in range(10):
            made.on_announcement(Announce(Severity.REARM, str(number)), None)
            await anyio.sleep(2)
        await anyio.sleep(60)
        made.on_announcement(Announce(Severity.TRIP, "panic: now"), kill())
        await anyio.sleep(120)
        trip = [run.at_s for run in beside.of("tell") if "panic" in texts(run)]
        assert trip[0] == pytest.approx(81, abs=0.1)
        assert made.sent == 11
        assert list(made.troubles()) == []


@pytest.mark.anyio
async def test_of_waiting_messages_the_most_severe_is_sent_first() -> None:
    beside = Beside()
    beside.takes = lambda run: 8.0 if "text" in run.errand else 0.0
    async with notifier(beside, SLACK) as made:
        for level in (Severity.REARM, Severity.REARM, Severity.RESIDUE, Severity.TRIP):
            made.on_announcement(Announce(level, level), None)
            await anyio.sleep(2)
        await anyio.sleep(60)
    assert [texts(run).splitlines()[1].split(":")[0] for run in beside.of("tell")] == [
        *("RE-ARMED", "KILL", "ORDERS LEFT", "RE-ARMED")
    ]


@pytest.mark.anyio
async def test_where_too_much_waits_the_oldest_of_the_least_important_goes_and_is_counted() -> None:
    beside = Beside()
    beside.answer = lambda run: OK if seconds() > 1000 else NO
    async with notifier(beside, SLACK) as made:
        made.on_announcement(Announce(Severity.TRIP, "panic: now"), kill())
        for number in range(MAX_QUEUED + 20):
            made.on_announcement(Announce(Severity.REARM, f"number {number}"), None)
            await anyio.sleep(2)
        await anyio.sleep(1500)
        arrived = [texts(run) for run in beside.of("tell") if run.at_s > 1000]
        assert made.lost == 20
        assert len(arrived) == MAX_QUEUED
        assert sum("panic: now" in text for text in arrived) == 1


@pytest.mark.anyio
async def test_warnings_that_never_end_are_two_messages_a_minute_and_a_trip_does_not_wait_for_them() -> None:
    beside = Beside()
    async with notifier(beside, SLACK) as made:
        for number in range(320):
            made.on_announcement(Announce(Severity.BLIND, f"trigger x is blind: for {number} s"), None)
            await anyio.sleep(0.5)
        made.on_announcement(Announce(Severity.TRIP, "panic: now"), kill())
        await anyio.sleep(5)
    times = [run.at_s for run in beside.of("tell")]
    assert times[:5] == pytest.approx([1, 31, 61, 91, 121], abs=2)
    assert [run.at_s for run in beside.of("tell") if "panic" in texts(run)] == pytest.approx([161], abs=1.1)
    assert len(times) == 7


@pytest.mark.anyio
async def test_a_url_that_apprise_does_not_understand_is_shown_from_the_start_on() -> None:
    beside = Beside()
    beside.answer = lambda run: JobResult(False, "apprise does not understand the URL")
    async with notifier(beside, SLACK) as made:
        await anyio.sleep(1)
        assert list(made.troubles()) == ["notify urls[0] slack: apprise does not understand the URL"]
        assert "text" not in beside.runs[0].errand


@pytest.mark.anyio
async def test_a_reload_keeps_the_messages_of_a_channel_that_stays() -> None:
    beside = Beside()
    beside.takes = lambda run: 5.0 if seconds() < 20 else 0.0
    beside.answer = lambda run: OK if seconds() > 20 else NO
    async with notifier(beside, SLACK, MAIL) as made:
        made.on_announcement(Announce(Severity.TRIP, "panic: now"), kill())
        await anyio.sleep(8)  # on its way at this moment
        made.configure(table(MAIL))
        await anyio.sleep(60)
        assert {run.errand["url"] for run in beside.runs if run.at_s < 8} == {SLACK, MAIL}
        assert {run.errand["url"] for run in beside.runs if run.at_s >= 8} == {MAIL}
        assert made.sent == 1
        assert [channel.name for channel in made.channels.values()] == ["urls[0] mailto"]


@pytest.mark.anyio
async def test_the_end_waits_until_the_last_message_has_been_tried_and_no_longer() -> None:
    beside = Beside()
    beside.takes = lambda run: 0.3 if "text" in run.errand else 0.0
    beside.answer = lambda run: NO
    async with notifier(beside, SLACK) as made:
        await anyio.sleep(1)
        made.on_announcement(Announce(Severity.WARN, "stopping"), None)
        began_s = seconds()
        await made.finish()
        assert seconds() - began_s == pytest.approx(0.3, abs=0.05)
        assert len(beside.of("tell")) == 1


def test_no_url_is_shown_anywhere() -> None:
    made = Notifier(Beside(), lambda: START)
    made.configure(table(SLACK, MAIL))
    assert "token" not in "".join(channel.name for channel in made.channels.values())
    assert "token" not in repr(table(SLACK))


def test_the_window_of_repetition_is_longer_than_that_of_a_message() -> None:
    assert REPEAT_AFTER_S > 60
    assert Message(Severity.CLEAR, "", "", "").type == "success"


def test_every_severity_has_a_rank_a_word_and_a_log_level_and_the_words_in_json_are_as_documented() -> None:
    assert sorted(Severity, key=lambda one: one.rank) == list(Severity)
    assert [one.log_level for one in Severity] == [50, 40, 20, 30, 30, 20, 30, *[20] * 6]
    page = (Path(__file__).parents[3] / "docs/guides/notifications.md").read_text()
    documented = re.findall(r"^\| `([a-z-]+)` \| `([A-Z -]+)` \|", page, re.MULTILINE)
    assert documented == [(str(one), one.word) for one in Severity if one is not Severity.INFO]
