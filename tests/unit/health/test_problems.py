"""Each condition that a person must know of is one problem: the fact, what follows, the command, the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kill_switch.core import outcome
from kill_switch.core.domain import Phase, Verdict
from kill_switch.core.wholeness import is_whole
from kill_switch.health import problems
from kill_switch.health.problems import (
    AccountFacts,
    IgnoredFacts,
    PendingSilenceFacts,
    Rank,
    StatusProblem,
    TriggerFacts,
)

PAGES = Path(__file__).parents[3] / "docs"
COMMAND = problems.make_command(Path("/etc/kill-switch/config.toml"))
UP = {"ws": "up", "http": "up"}


def of_account(**facts: Any) -> list[StatusProblem]:
    known = {"phase": Phase.ARMED, "is_killable": True, "lanes": UP, "carriers": ("ws", "http"), "troubles": {}}
    found = list(problems.account_problems(AccountFacts("mm1", **{**known, **facts}), COMMAND))
    assert all(each.account == "mm1" for each in found)
    return found


def of_trigger(state: str, **facts: Any) -> list[StatusProblem]:
    return list(problems.trigger_problems(TriggerFacts("alive", "heartbeat", state, "no beat", **facts), COMMAND))


def test_an_account_and_a_trigger_without_fault_are_no_problem() -> None:
    assert of_account() == of_trigger("ok") == of_trigger("waiting") == of_trigger("tripped") == []


def test_an_account_that_no_command_would_reach_has_its_cause_its_consequence_and_a_command() -> None:
    (found,) = of_account(is_killable=False, lanes={"ws": "down", "http": "up"}, troubles={"ws": "no frame for 2 s"})
    assert found.text == "no command would reach the venue (ws: no frame for 2 s): a kill now would leave its orders"
    assert found.do == "stop its bots; kill-switch check --connect"
    (silent,) = of_account(is_killable=False)
    assert "(ws up, http up; it owes an answer)" in silent.text
    (cold,) = of_account(is_killable=False, lanes={"ws": "down", "http": "down"})
    assert "(ws down, http down)" in cold.text
    (tripped,) = of_account(is_killable=False, phase=Phase.CONFIRMING)
    assert tripped.text.endswith("its kill cannot be proven")


def test_a_lane_that_is_down_names_the_lane_that_carries_a_kill() -> None:
    (found,) = of_account(lanes={"ws": "down", "http": "up"}, troubles={"ws": "timed out"})
    assert found.text == "the ws lane is down (timed out): a kill still goes over http"
    assert found.do == "kill-switch drill --scope mm1"


@pytest.mark.parametrize(
    ("verdict", "claimed", "words"),
    [
        (
            Verdict.UNKNOWN,
            6,
            "the venue has accepted the cancels (6 cancelled, it says, in 2 strikes), and the orders are still there",
        ),
        (Verdict.CONFIRMED, None, "the venue has accepted the cancels, and the orders are still there"),
        (Verdict.REFUSED, None, "the venue refuses the cancels: account frozen"),
        (Verdict.UNSENT, None, "no cancel could be sent: account frozen"),
    ],
)
def test_orders_that_a_kill_has_left_are_named_with_the_venues_answer(
    verdict: Verdict, claimed: int | None, words: str
) -> None:
    report = {"verdict": verdict, "claimed": claimed, "answered_us": 1, "strikes": 2, "evidence": "account frozen"}
    ids = ["1", "2", "3", "4", "5", "6"]
    (found,) = of_account(phase=Phase.RESIDUE, left=6, order_ids=ids, report=report)
    assert found.text.startswith(f"RESIDUE, 6 orders (1, 2, 3, 4, 5 and 1 more) left after the kill: {words}; ")
    assert "kill-switch report" in found.do and found.rank is Rank.ORDERS_LEFT


@pytest.mark.parametrize(
    ("left", "ids", "words"),
    [
        (None, (), "an unknown number of orders"),
        (None, ("a",), "at least 1 orders (a)"),
        (1, (), "1 order"),
        (2, ("a",), "2 orders (a and 1 more)"),
        (3, ("a" * 60, "b" * 60, "c"), f"3 orders ({'a' * 60} and 2 more)"),
    ],
)
def test_a_number_of_orders_that_is_not_known_is_not_guessed(
    left: int | None, ids: tuple[str, ...], words: str
) -> None:
    assert outcome.describe_left(left, ids) == words


def test_a_blind_trigger_says_whether_its_blindness_kills_and_how_to_kill_by_hand() -> None:
    (alarm,) = of_trigger("blind", accounts=("mm1", "mm2"))
    assert alarm.text == "blind: no beat: it fires nothing until it sees again"
    assert alarm.do.endswith("kill-switch fire --reason blind --scope mm1 --scope mm2")
    (fires,) = of_trigger("blind", fires_blind=True, accounts=("a", "b", "c", "d"))
    assert fires.text.endswith("its accounts are killed for that") and "--scope" not in fires.do


@pytest.mark.parametrize("state", ["silenced", "tripped"])
def test_a_silenced_trigger_has_its_end_and_the_command_that_ends_it_also_while_it_is_tripped(state: str) -> None:
    (found,) = of_trigger(state, silence="for another 30 min, by ann: deploy", silent_until="2026-01-02T12:00:01Z")
    assert found.trigger == "alive" and found.do == "kill-switch silence alive --end"
    assert found.text.startswith("silenced ") and found.text.endswith(": it fires nothing until then")
    assert (found.at, found.page, found.rank) == ("2026-01-02T12:00:01Z", "guides/silence", Rank.NOT_WATCHED)


@pytest.mark.parametrize(
    ("for_ns", "words"), [(1800 * 10**9, "30m"), (7200 * 10**9, "2h"), (90_500_000_000, "90500ms")]
)
def test_a_silence_that_waits_for_another_person_names_the_person_the_work_and_the_command(
    for_ns: int, words: str
) -> None:
    asked = PendingSilenceFacts("alive", "ann", "deploy", "30 min", for_ns, "2026-01-02T12:00:01Z")
    found = problems.pending_silence_problem(asked, 1, 2, COMMAND)
    assert found.text == "ann has asked to silence it for 30 min (deploy): 1 of 2 people; it fires as before"
    assert found.do == f"another person than ann types kill-switch silence alive --for {words} --reason …"
    assert (found.trigger, found.at, found.rank) == ("alive", "2026-01-02T12:00:01Z", Rank.WAITS_FOR_A_PERSON)


def test_a_bot_that_is_awaited_since_the_re_arm_is_named() -> None:
    (waits,) = of_trigger("waiting", is_unwatched_since_rearm=True)
    assert waits.text == "no beat has come since the re-arm: a bot that is dead now is not noticed"
    assert waits.do.endswith("kill-switch beat alive")


def test_a_re_arm_that_waits_for_another_person_names_the_person_the_time_the_accounts_and_the_command() -> None:
    approval = {"uid": 7, "user": "ann", "at": "2026-01-02T12:00:01Z", "text": "checked", "accounts": ["mm1"]}
    found = problems.approval_problem(approval, 1, 2, COMMAND)
    assert found.text == "ann has approved the re-arm of mm1 (checked): 1 of 2 people; it stays tripped"
    assert found.do == "another person than ann types kill-switch rearm --reason … --scope mm1"
    assert found.to_json()["at"] == "2026-01-02T12:00:01Z"


def test_ignored_messages_have_their_name_sender_and_cause() -> None:
    facts = IgnoredFacts("alife", "process 7 of user 1000", "no such trigger", 3, "2026-01-02T12:00:01Z")
    found = problems.ignored_problem(facts, ["alive"], "alive")
    assert (
        found.text
        == '3 messages for "alife" from process 7 of user 1000 ignored: no such trigger: it beats for nothing'
    )
    assert found.do == 'correct the sender; did you mean "alive"?'
    unsigned = problems.ignored_problem(IgnoredFacts("", "", "not signed with the key", 1, ""), ["alive"], "")
    assert unsigned.text.startswith("1 message from an unknown sender ignored") and unsigned.do == "correct the sender"


@pytest.mark.parametrize(
    ("line", "account", "text", "page"),
    [
        (
            "mm1: a kill does not reach: a TWAP",
            "mm1",
            "a kill does not reach: a TWAP",
            "runbook/an-account-is-not-ready",
        ),
        ("mm1 ws is up, but: aged", "mm1", "ws is up, but: aged", "runbook/an-account-is-not-ready"),
        (
            "hook stop-bots failed for kill k1-1: exit 3",
            "",
            "hook stop-bots failed for kill k1-1: exit 3",
            "guides/hooks",
        ),
        ("something new", "", "something new", "runbook/index"),
    ],
)
def test_a_line_of_another_part_becomes_a_problem_of_its_account_or_its_part(
    line: str, account: str, text: str, page: str
) -> None:
    found = problems.part_problem(line, ["mm", "mm1"], COMMAND)
    assert (found.account, found.text, found.page) == (account, text, page)
    assert found.do


def test_a_journal_that_was_taken_away_is_put_back_and_a_disk_that_refuses_is_mended_before_a_restart() -> None:
    cut = problems.journal_problem(f"journal /j was cut {outcome.DISPLACED}: nothing is on record")
    assert cut.text.endswith("the next start is tripped, and cancels every order")
    assert cut.do.startswith("put the file back") and "df" not in cut.do
    assert cut.page == "runbook/the-journal-is-broken"
    for trouble in ("journal /j: no space left for a whole record", "journal /j: Read-only file system", "/j: hangs"):
        refused = problems.journal_problem(trouble)
        assert "do not restart the daemon before" in refused.do and refused.page == "runbook/the-disk-is-full"


def test_the_worst_comes_first_and_every_page_that_is_named_is_there() -> None:
    found = [
        *of_trigger("blind"),
        *of_account(is_killable=False),
        *of_account(lanes={"ws": "down", "http": "up"}),
        *of_account(phase=Phase.RESIDUE),
        *of_trigger("waiting", is_unwatched_since_rearm=True),
        problems.journal_problem("no space left on device"),
        *(problems.part_problem(part, (), COMMAND) for part in (*problems.PARTS, "other")),
    ]
    ordered = problems.in_order(found)
    assert [each["text"].split()[0] for each in ordered[:3]] == ["RESIDUE,", "no", "blind:"]  # type: ignore[attr-defined]
    assert all((PAGES / f"{each['page']}.md").exists() for each in ordered)


def test_a_command_names_the_configuration_unless_it_is_the_usual_one() -> None:
    assert problems.make_command(Path("/srv/my desk.toml"))("report") == "kill-switch report -c '/srv/my desk.toml'"
    assert COMMAND("report") == "kill-switch report"


@pytest.mark.parametrize(
    ("killable", "state", "whole"),
    [
        (True, "ok", True),
        (True, "waiting", True),
        (False, "ok", False),
        (True, "blind", False),
        (True, "silenced", False),
    ],
)
def test_a_daemon_is_whole_if_every_account_can_be_killed_and_every_trigger_watches(
    killable: bool, state: str, whole: bool
) -> None:
    answer = {"accounts": {"mm1": {"ready": False, "killable": killable}}, "triggers": {"alive": {"state": state}}}
    assert is_whole(answer) is whole
