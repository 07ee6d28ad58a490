"""What a kill did, told from its record alone."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kill_switch.core.domain import CancelOutcome
from kill_switch.core.order_tracker import MAX_NAMED
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.kill_report import MAX_CHECKPOINT_BYTES, MAX_KILLS, ReportBuilder
from tests.harness.core_playbook import (
    Run,
    after,
    answered,
    armed,
    asked,
    at,
    due,
    ns,
    read,
    recovered,
    reported,
    seen,
    struck,
)

K1 = "k1-1700000000"


def report(run: Run, kill: str = "last", budget_us: int = 250_000) -> dict[str, Any]:
    found = ReportBuilder(budget_us, run.entries).render(kill)
    assert found is not None
    return found


def account(run: Run, name: str = "a", kill: str = "last") -> dict[str, Any]:
    told: dict[str, Any] = report(run, kill)["accounts"][name]
    return told


def checkpointed(run: Run) -> list[dict[str, Any]]:
    """Return what a journal has that begins with a checkpoint."""
    kills = orjson.loads(orjson.dumps(ReportBuilder(1, run.entries).to_json(), default=str))
    return [{**run.entries[-1], "kind": "checkpoint", "data": {**JournalSnapshot().to_json(), "kills": kills}}]


def cleared(run: Run, name: str = "a", ms: float = 0) -> Run:
    return run(answered(name, ms + 100), read(name, ms + 200), due(name, ms + 450), read(name, ms + 500))


def test_without_a_kill_there_is_no_report() -> None:
    reports = ReportBuilder(1)
    assert (reports.last, reports.kill_ids(), reports.render(), reports.render("k1-0")) == (None, (), None, None)


def test_the_report_of_a_kill_that_went_well() -> None:
    run = cleared(Run(armed("a"))(reported("a")))
    assert report(run) == {
        "id": K1,
        "reasons": [
            {
                "trigger": "panic",
                "text": "touched",
                "observed_at": "2023-11-14T22:13:20.000000Z",
                "evidence": {"path": "/run/KILL"},
            }
        ],
        "fired_at": "2023-11-14T22:13:20.000000Z",
        "budget_us": 250_000,
        "within_budget": True,
        "last_sent_us": 0,
        "last_answered_us": 100_000,
        "all_clear_us": 500_000,
        "scope": ["a"],
        "by": {"trigger": "panic", "uid": None, "user": None, "at": None},
        "rearmed": None,
        "config": None,
        "accounts": {
            "a": {
                "verdict": "CONFIRMED",
                "state": "CLEAR",
                "sent_us": 0,
                "answered_us": 100_000,
                "clear_us": 500_000,
                "strikes": 1,
                "routes": ["http"],
                "attempts": [
                    {
                        "strike": 1,
                        "sent_us": 0,
                        "answered_us": 100_000,
                        "answer": "ACCEPTED",
                        "routes": ["http"],
                        "evidence": "the venue's words",
                    }
                ],
                "cancelled": None,
                "cancelled_ids": [],
                "claimed": None,
                "left": 0,
                "evidence": "the venue's words",
            }
        },
    }


def test_figures_are_microseconds_from_the_moment_the_first_reason_was_observed() -> None:
    late = reported("a")._replace(at=at(30))
    run = Run(armed("a", "b"))(late, reported("b", ms=40), answered("a", 100.0019), answered("b", 150))
    assert account(run, "a")["sent_us"] == 30_000
    assert account(run, "b")["sent_us"] == 40_000
    assert account(run, "a")["answered_us"] == 100_001
    assert (report(run)["last_sent_us"], report(run)["last_answered_us"]) == (40_000, 150_000)


def test_the_budget_holds_to_the_microsecond() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 250))
    assert report(run, budget_us=250_000)["within_budget"] is True
    assert report(run, budget_us=249_999)["within_budget"] is False


def test_the_budget_is_missed_while_one_account_has_not_answered() -> None:
    run = Run(armed("a", "b"))(reported("a", "b"), answered("a", 100))
    assert report(run)["within_budget"] is False
    assert report(run)["last_answered_us"] is None
    assert report(run)["all_clear_us"] is None


@pytest.mark.parametrize("answer", [CancelOutcome.UNKNOWN, CancelOutcome.UNSENT])
def test_a_reply_that_proves_nothing_is_no_answer(answer: CancelOutcome) -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 10, answer))
    assert account(run)["answered_us"] is None
    run(answered("a", 90, CancelOutcome.ACCEPTED))
    assert account(run)["answered_us"] == 90_000
    run(answered("a", 95, CancelOutcome.ACCEPTED))
    assert account(run)["answered_us"] == 90_000


# ── the figures are those of the strike that the verdict rests on ─────────────────────────────────────────────────


def test_a_refused_strike_is_no_answer_and_the_figures_are_those_of_the_first_that_is_accepted() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 6.5, CancelOutcome.REFUSED), read("a", 1000, live=2))
    refused = report(run)
    assert (refused["within_budget"], refused["last_answered_us"]) == (False, None)
    assert (account(run)["verdict"], account(run)["answered_us"]) == ("REFUSED", None)
    run(struck("a", 2, 1001, "fresh"), answered("a", 1500), read("a", 1600), due("a", 1850), read("a", 1900))
    told = account(run)
    assert (told["verdict"], told["sent_us"], told["answered_us"]) == ("CONFIRMED", 1_000_000, 1_500_000)
    assert [(attempt["strike"], attempt["answer"], attempt["answered_us"]) for attempt in told["attempts"]] == [
        (1, "REFUSED", 6_500),
        (2, "ACCEPTED", 1_500_000),
    ]
    assert (report(run)["within_budget"], report(run)["last_answered_us"]) == (False, 1_500_000)


def test_the_routes_are_those_of_the_strike_that_was_accepted() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 10, CancelOutcome.REFUSED), read("a", 1000, live=2))
    run.entries[-1]["data"]["sent"][0]["routes"] = ["ws"]
    run(answered("a", 1100))
    assert account(run)["routes"] == ["ws"]


def test_an_answer_to_an_earlier_strike_is_reported_with_that_strikes_figures() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 10, CancelOutcome.UNKNOWN), read("a", 1000, live=2))
    run(answered("a", 1010, strike=1))
    assert (account(run)["sent_us"], account(run)["answered_us"]) == (0, 1_010_000)
    assert [attempt["answer"] for attempt in account(run)["attempts"]] == ["ACCEPTED", None]


@pytest.mark.parametrize("answer", [CancelOutcome.ACCEPTED, CancelOutcome.REFUSED])
def test_a_late_answer_to_a_strike_of_an_earlier_kill_is_no_figure_of_the_next_one(answer: CancelOutcome) -> None:
    run = Run(armed("a"))(reported("a"), read("a", 1000), due("a", 1250), read("a", 1300))
    run(reported("a", ms=70_000), answered("a", 70_001, answer, strike=1))
    told = account(run)
    assert (told["verdict"], told["sent_us"], told["answered_us"]) == ("UNKNOWN", 0, None)
    assert [attempt["strike"] for attempt in told["attempts"]] == [1]
    run(answered("a", 72_000))
    assert (account(run)["sent_us"], account(run)["answered_us"]) == (0, 2_000_000)
    assert report(run)["within_budget"] is False


def test_the_first_strike_after_a_re_arm_within_the_same_kill_is_an_attempt_of_its_own() -> None:
    run = Run(armed("a", "b"))(reported("a", "b"), answered("a", 5, CancelOutcome.REFUSED), read("a", 10_000, live=1))
    run(asked("a", force=True), reported("a", ms=70_000), answered("a", 70_003))
    told = account(run)
    assert (told["sent_us"], told["answered_us"]) == (70_000_000, 70_003_000)
    assert [(attempt["strike"], attempt["answer"]) for attempt in told["attempts"]] == [
        (1, "REFUSED"),
        (2, None),
        (3, "ACCEPTED"),
    ]
    assert ReportBuilder(1, run.entries).to_json() == ReportBuilder(1, checkpointed(run)).to_json()


def test_a_refused_strike_after_an_accepted_one_is_not_reported_with_the_accepted_ones_figures() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 10), read("a", 1000, live=2))
    assert (account(run)["verdict"], account(run)["answered_us"]) == ("UNKNOWN", 10_000)
    run(answered("a", 1100, CancelOutcome.REFUSED))
    told = account(run)
    assert (told["verdict"], told["sent_us"], told["answered_us"]) == ("REFUSED", 1_000_000, None)
    assert report(run)["within_budget"] is False


def test_without_an_accepted_strike_a_proof_has_no_time_of_an_answer_and_is_not_within_the_budget() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 10, CancelOutcome.REFUSED))
    run(read("a", 200), due("a", 450), read("a", 500))
    told = account(run)
    assert (told["verdict"], told["sent_us"], told["answered_us"]) == ("CONFIRMED", 0, None)
    assert report(run)["within_budget"] is False


def test_a_report_of_very_many_strikes_has_the_first_the_last_and_the_accepted_ones_figures() -> None:
    run = Run(armed("a"))(reported("a"))
    for number in range(2, 60):
        ms = 6000.0 * number
        run(
            answered("a", ms - 10, CancelOutcome.ACCEPTED if number == 20 else CancelOutcome.UNKNOWN),
            read("a", ms, live=1),
        )
    told = account(run)
    assert (told["strikes"], told["answered_us"], told["sent_us"]) == (59, 119_990_000, 114_000_000)
    assert [attempt["strike"] for attempt in told["attempts"]] == [1, 2, 3, 4, *range(52, 60)]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (None, "UNKNOWN"),
        (CancelOutcome.ACCEPTED, "UNKNOWN"),
        (CancelOutcome.REFUSED, "REFUSED"),
        (CancelOutcome.UNKNOWN, "UNKNOWN"),
        (CancelOutcome.UNSENT, "UNKNOWN"),  # this strike may not have left, and an earlier copy has
    ],
)
def test_without_a_proof_the_verdict_says_no_more_than_the_last_answer(
    answer: CancelOutcome | None, verdict: str
) -> None:
    run = Run(armed("a"))(reported("a"))
    if answer is not None:
        run(answered("a", 100, answer))
    assert account(run)["verdict"] == verdict


def test_a_strike_is_unsent_only_if_provably_no_byte_left() -> None:
    run = Run(armed("a"))(reported("a"))
    run.entries[1]["data"]["sent"][0].update(mono_ns=0, routes=[])
    run(answered("a", 1, CancelOutcome.UNSENT))
    assert account(run)["verdict"] == "UNSENT"
    run(answered("a", 2, CancelOutcome.UNSENT))
    assert account(run)["verdict"] == "UNSENT"
    run(answered("a", 3, CancelOutcome.UNKNOWN), answered("a", 4, CancelOutcome.UNSENT))
    assert account(run)["verdict"] == "UNKNOWN"


def test_an_account_that_is_no_longer_proven_clear_has_no_time_of_proof() -> None:
    run = cleared(Run(armed("a"))(reported("a")))
    assert report(run)["all_clear_us"] == 500_000
    run(seen("a", 5000))
    assert (report(run)["all_clear_us"], account(run)["clear_us"]) == (None, None)
    assert account(run)["verdict"] == "UNKNOWN"


def test_every_kill_on_record_can_be_reported_without_a_bound() -> None:
    run = Run(armed("a"))
    for number in range(MAX_KILLS + 5):
        cleared(run(reported("a", ms=number * 10_000)), "a", number * 10_000)
    assert len(ReportBuilder(1, run.entries).kill_ids()) == MAX_KILLS
    assert len(ReportBuilder(1, run.entries, keep=None).kill_ids()) == MAX_KILLS + 5


def test_a_proof_outweighs_any_answer() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 100, CancelOutcome.REFUSED))
    run(read("a", 200), due("a", 450), read("a", 500))
    assert account(run)["verdict"] == "CONFIRMED"


def test_one_clean_read_of_two_is_no_proof() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 100), read("a", 200))
    assert (account(run)["verdict"], account(run)["state"], account(run)["left"]) == ("UNKNOWN", "CONFIRMING", 0)


def test_states_follow_the_engines() -> None:
    run = Run(armed("a"))(reported("a"))
    assert account(run)["state"] == "STRIKING"
    run(answered("a", 100))
    assert account(run)["state"] == "CONFIRMING"
    run(read("a", 600, live=2))
    assert (account(run)["state"], account(run)["strikes"], account(run)["left"]) == ("STRIKING", 2, 2)
    run(answered("a", 700), read("a", 10_000, live=2))
    assert (account(run)["state"], account(run)["left"]) == ("RESIDUE", 2)
    run(answered("a", 10_100))
    assert account(run)["state"] == "RESIDUE"
    run(read("a", 10_200), due("a", 10_450), read("a", 10_500))
    assert (account(run)["state"], account(run)["clear_us"]) == ("CLEAR", 10_500_000)


def test_residue_that_was_never_read_has_an_unknown_number_left() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 100), read("a", 10_000, complete=False))
    assert (account(run)["state"], account(run)["left"]) == ("RESIDUE", None)
    assert account(run)["evidence"] == "timed out"


def test_why_a_read_did_not_show_everything_stays_the_evidence_until_one_does() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 100), read("a", 10_000, complete=False))
    run(answered("a", 10_100, CancelOutcome.REFUSED))
    assert account(run)["evidence"] == "timed out"  # what was answered stands beside the attempt
    run(read("a", 10_200, live=1))
    assert account(run)["evidence"] == "the venue's words"


def test_residue_stays_residue_however_often_it_is_struck() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 100), read("a", 10_000, live=1), read("a", 20_000, live=1))
    assert (account(run)["state"], account(run)["strikes"]) == ("RESIDUE", 3)


def test_an_incomplete_read_can_only_show_more_orders() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 100), read("a", 200, live=2), read("a", 210, complete=False))
    assert account(run)["left"] == 2
    run(read("a", 220, live=1, complete=False, asked=215))
    assert account(run)["left"] == 2
    run(read("a", 230, live=5, complete=False, asked=225))
    assert account(run)["left"] == 5


def test_a_stale_read_is_no_evidence_but_its_claims_are_counted() -> None:
    run = cleared(Run(armed("a"))(reported("a")))(read("a", 600, live=9, asked=-1, cancelled=4))
    assert (account(run)["state"], account(run)["left"], account(run)["claimed"]) == ("CLEAR", 0, 4)
    assert account(run)["verdict"] == "CONFIRMED"


def test_the_venues_claims_are_added_up_apart_from_the_cancelled_orders() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 100, cancelled=3), read("a", 200, cancelled=2), read("a", 210))
    assert (account(run)["claimed"], account(run)["cancelled"]) == (5, None)


# ── the orders that are gone ──────────────────────────────────────────────────────────────────────────────────────

SIX = {"open": ["1", "2", "3", "4", "5", "6"]}


def gone(run: Run) -> tuple[int | None, list[str], int | None]:
    told = account(run)
    return told["cancelled"], told["cancelled_ids"], told["left"]


def test_orders_that_a_venue_says_it_cancels_and_that_rest_are_not_gone() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 10, cancelled=6, orders=SIX))
    for number in range(1, 24):
        run(read("a", 1000.0 * number, live=6), answered("a", 1000.0 * number + 10, cancelled=6))
    assert (gone(run), account(run)["claimed"]) == ((0, [], 6), 144)


def test_orders_are_gone_with_the_read_that_shows_none_and_not_before() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 10, cancelled=6, orders=SIX))
    assert gone(run) == (None, [], None)
    run(read("a", 20, complete=False))
    assert gone(run) == (None, [], None)
    run(read("a", 500, live=2, orders={"gone": ["1", "2", "3", "4"]}))
    assert gone(run) == (4, ["1", "2", "3", "4"], 2)
    run(read("a", 1200))
    assert gone(run) == (6, SIX["open"], 0)


def test_a_read_that_was_asked_for_before_the_strike_ends_no_order() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 10, orders=SIX), read("a", 20, asked=-5))
    assert gone(run) == (None, [], None)


def test_an_order_that_comes_back_and_one_that_was_filled_are_not_counted() -> None:
    run = cleared(Run(armed("a"))(reported("a"), answered("a", 10, orders=SIX)))
    assert account(run)["cancelled"] == 6
    run(read("a", 3000, live=1, orders={"open": ["3"]}), read("a", 3500, orders={"ended": ["4"]}))
    assert gone(run) == (5, ["1", "2", "5", "6", "3"], 0)


def test_orders_beyond_those_that_are_named_are_counted() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 10, orders={**SIX, "more": [9994, 0]}), read("a", 500))
    assert account(run)["cancelled"] == 10_000
    run(read("a", 900, live=1, orders={"more": [1, 9993]}))
    assert account(run)["cancelled"] == 9_999


def test_the_strikes_record_names_the_orders_so_that_a_crash_before_the_answer_does_not_lose_them() -> None:
    run = Run(armed("a"))(reported("a"))
    run.entries[-1]["data"]["sent"][0]["orders"] = SIX
    run(recovered(5000), answered("a", 5100), read("a", 5200))
    assert gone(run) == (6, SIX["open"], 0)


def test_a_journal_of_an_earlier_version_is_reported_with_claims_and_without_a_count() -> None:
    run = cleared(Run(armed("a"))(reported("a"), answered("a", 10, cancelled=3)))
    for entry in run.entries:
        for data in (entry["data"], *entry["data"].get("sent", ())):
            data.pop("orders", None)
    assert (account(run)["verdict"], account(run)["claimed"], account(run)["cancelled"]) == ("CONFIRMED", 3, None)


def test_a_checkpoint_of_many_orders_has_room_and_counts_those_that_it_does_not_name() -> None:
    names = tuple(f"a{number}" for number in range(40))
    run = Run(armed(*names))(reported(*names))
    for name in names:
        ids = [f"{name}-0a1b2c3d4e5f60718293a4b5c6d7{number:04}" for number in range(MAX_NAMED)]
        run(answered(name, 10, orders={"open": ids, "more": [500, 0]}), read(name, 20))
    told = ReportBuilder(1, run.entries).to_json()
    assert len(orjson.dumps(told)) < MAX_CHECKPOINT_BYTES
    again = ReportBuilder(1)
    again.restore(orjson.loads(orjson.dumps(told)))
    found = again.render()
    assert found is not None
    assert {one["cancelled"] for one in found["accounts"].values()} == {MAX_NAMED + 500}  # type: ignore[attr-defined]


def test_an_accounts_checkpoint_of_an_earlier_version_is_read() -> None:
    stands = {"state": "CLEAR", "answer": "ACCEPTED", "sent_us": 5, "answered_us": 9, "clear_us": 20, "proven": True}
    stands |= {"strikes": 40, "struck": 40, "routes": ["ws"], "cancelled": 7, "left": 0, "evidence": "ok"}
    run = Run(armed("a"))(reported("a"))
    data = {"kill": K1, "account": "a", "strike": 40, "clear": True, "stands": stands}
    run.entries.append({**run.entries[-1], "kind": "repeats", "data": data})
    told = account(run)
    assert (told["sent_us"], told["answered_us"], told["routes"], told["strikes"]) == (5, 9, ["ws"], 40)
    assert (told["claimed"], told["cancelled"], told["verdict"]) == (7, None, "CONFIRMED")


def test_a_kill_that_began_without_the_record_is_found_by_the_id_that_it_had_then() -> None:
    run = Run(armed("a"))(reported("a"))
    run.entries[0]["data"]["known_as"] = "direct-0a1b2c3d-1700000000"
    reports = ReportBuilder(1, run.entries)
    assert reports.render("direct-0a1b2c3d-1700000000") == reports.render(K1)
    assert reports.render("direct-0a1b2c3d-1700000001") is None


def test_routes_are_named_once_in_the_order_of_their_use() -> None:
    run = Run(armed("a"))(reported("a"), struck("a", 1, 60, "fresh", "http"), struck("a", 1, 70, "fresh"))
    assert (account(run)["routes"], account(run)["strikes"], account(run)["sent_us"]) == (["http", "fresh"], 1, 0)


def test_a_strike_that_has_not_left_has_no_time() -> None:
    state = after(armed("a"), reported("a"))
    run = Run(armed("a"))(reported("a"))
    run.entries = run.entries[:1]
    unsent = struck("a", 1, 0)
    run.state = state
    run(unsent._replace(sent=(unsent.sent[0]._replace(mono_ns=0, routes=()),)))
    assert (account(run)["sent_us"], account(run)["strikes"], account(run)["routes"]) == (None, 1, [])
    run(struck("a", 1, 80, "fresh"))
    assert (account(run)["sent_us"], account(run)["routes"]) == (80_000, ["fresh"])


def test_a_second_copy_that_leaves_after_the_proof_does_not_revoke_it() -> None:
    run = cleared(Run(armed("a"))(reported("a")))(struck("a", 1, 600, "fresh"))
    assert (account(run)["state"], account(run)["verdict"], account(run)["strikes"]) == ("CLEAR", "CONFIRMED", 1)
    assert account(run)["routes"] == ["http", "fresh"]


# ── afterwards ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_guard_that_strikes_again_takes_the_confirmation_back_until_the_next_proof() -> None:
    run = cleared(Run(armed("a"))(reported("a")))(seen("a", 60_000))
    assert (account(run)["state"], account(run)["verdict"], account(run)["left"]) == ("STRIKING", "UNKNOWN", 1)
    run(answered("a", 60_100), read("a", 60_200))
    assert (account(run)["verdict"], account(run)["left"], account(run)["clear_us"]) == ("UNKNOWN", 0, None)
    run(due("a", 60_450), read("a", 60_500))
    assert (account(run)["verdict"], account(run)["strikes"]) == ("CONFIRMED", 2)
    assert account(run)["clear_us"] == 500_000  # the first time


@pytest.mark.parametrize("event", [read("a", 60_000, live=1), read("a", 60_000, live=1, complete=False)])
def test_a_guard_read_that_finds_orders_takes_the_confirmation_back(event: Any) -> None:
    run = cleared(Run(armed("a"))(reported("a")))(event)
    assert (account(run)["verdict"], account(run)["left"]) == ("UNKNOWN", 1)


def test_a_guard_read_that_finds_a_pending_cancel_takes_the_confirmation_back() -> None:
    run = cleared(Run(armed("a"))(reported("a")))(read("a", 60_000, pending=1))
    assert (account(run)["state"], account(run)["verdict"], account(run)["left"]) == ("CONFIRMING", "UNKNOWN", 1)


def test_a_re_arm_leaves_the_kills_last_state_and_its_verdict() -> None:
    run = cleared(Run(armed("a"))(reported("a")))(asked("a"))
    assert (account(run)["state"], account(run)["verdict"]) == ("CLEAR", "CONFIRMED")


def test_a_forced_re_arm_confirms_nothing() -> None:
    run = cleared(Run(armed("a"))(reported("a")))(seen("a", 1000), answered("a", 1100), read("a", 1200))
    run(due("a", 20_000), asked("a", force=True))
    assert run.state.tripped == ()
    assert (account(run)["state"], account(run)["verdict"], account(run)["left"]) == ("RESIDUE", "UNKNOWN", 0)
    assert (account(run)["clear_us"], report(run)["all_clear_us"]) == (None, None)


def test_a_copy_that_leaves_after_a_re_arm_does_not_appear_as_a_kill() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 100), read("a", 10_000, live=1), asked("a", force=True))
    before = account(run)["strikes"]
    run(struck("a", 2, 70_000, "fresh"))
    assert (account(run)["state"], account(run)["strikes"]) == ("RESIDUE", before)


def test_a_re_arm_of_an_account_that_was_in_no_kill_is_ignored() -> None:
    reports = ReportBuilder(1, [{"kind": "rearm", "data": {"accounts": ["a"]}}, {"kind": "start", "data": {}}])
    assert reports.last is None


def test_each_kill_has_a_report_of_its_own() -> None:
    run = cleared(Run(armed("a", "b"))(reported("a", "b")))
    cleared(run, "b")(asked("a"), reported("a", ms=70_000, trigger="loss"))
    reports = ReportBuilder(1, run.entries)
    assert reports.kill_ids() == (K1, "k2-1700000070")
    assert reports.last == "k2-1700000070"
    assert account(run, "a", K1)["state"] == "CLEAR"
    assert account(run, "a")["state"] == "STRIKING"
    assert list(report(run)["accounts"]) == ["a"]


def test_strikes_are_counted_from_one_in_each_kill() -> None:
    run = cleared(Run(armed("a"))(reported("a")))
    run(seen("a", 1000), answered("a", 1010), read("a", 1020), due("a", 1270), read("a", 1280))
    run(reported("a", ms=70_000))
    assert (account(run, "a", K1)["strikes"], account(run)["strikes"]) == (2, 1)
    run(read("a", 71_000, live=1))
    assert account(run)["strikes"] == 2


def test_strikes_after_a_re_arm_within_the_same_kill_are_counted_on() -> None:
    run = Run(armed("a", "b"))(reported("a", "b"), answered("a", 100), read("a", 10_000, live=1))
    run(asked("a", force=True), reported("a", ms=70_000))
    assert report(run)["id"] == K1
    assert (account(run)["state"], account(run)["strikes"]) == ("STRIKING", 3)


def test_a_later_reason_is_reported_with_the_others_and_reopens_clear_accounts() -> None:
    run = cleared(Run(armed("a", "b"))(reported("a", "b")))(reported("a", ms=600, trigger="loss", text="5000 lost"))
    told = report(run)
    assert [reason["trigger"] for reason in told["reasons"]] == ["panic", "loss"]
    assert told["reasons"][1]["observed_at"] == "2023-11-14T22:13:20.600000Z"
    assert (account(run)["state"], account(run)["verdict"]) == ("STRIKING", "UNKNOWN")


def test_an_account_that_changes_kills_during_its_sweep_is_finished_in_the_new_one() -> None:
    run = cleared(Run(armed("a", "b"))(reported("a", "b")))
    cleared(run, "b")(reported("b", ms=1000), seen("a", 1100), reported("a", ms=1200))
    run(struck("a", 2, 1210, "fresh"))  # a second copy of the strike that k1 has counted
    run(answered("a", 1300), read("a", 1400), due("a", 1650), read("a", 1700))
    assert (account(run)["state"], account(run)["verdict"], account(run)["strikes"]) == ("CLEAR", "CONFIRMED", 0)


def test_on_another_boot_the_wall_clock_counts() -> None:
    run = Run(armed("a"))(reported("a"))
    run.boot = "boot-2"
    run(recovered(90_000), answered("a", 91_000), read("a", 91_100), due("a", 91_350), read("a", 91_400))
    for entry in run.entries:
        if entry["boot"] == "boot-2" and "mono_ns" in entry["data"]:
            entry["data"]["mono_ns"] = 5  # the monotonic clock has begun anew
    assert account(run)["answered_us"] == 91_000_000
    assert account(run)["clear_us"] == 91_400_000
    assert account(run)["sent_us"] == 90_000_000  # of the strike that is answered


def test_reports_are_the_same_live_and_read_back() -> None:
    live = ReportBuilder(250_000)
    run = Run(armed("a"))
    for event in (reported("a"), answered("a", 100), read("a", 600, live=1), answered("a", 700)):
        before = len(run.entries)
        run(event)
        for entry in run.entries[before:]:
            live.take(entry)
    assert live.render() == report(run)


def test_each_stage_of_each_accounts_kill_is_measured_once() -> None:
    run = Run(armed("a", "b"))(reported("a", "b"))
    cleared(cleared(run, "a"), "b", 40)
    cleared(run(seen("a", 1000)), "a", 1000)
    measured: list[tuple[str, int]] = []
    reports = ReportBuilder(1, on_measured=lambda stage, us: measured.append((stage, us)))
    for entry in run.entries:
        reports.take(entry)
    assert sorted(measured) == [
        *(("answered", 100_000), ("answered", 140_000)),
        *(("clear", 500_000), ("clear", 540_000)),
        *(("sent", 0), ("sent", 0)),
    ]


def test_kills_of_earlier_runs_are_not_measured() -> None:
    run = cleared(Run(armed("a"))(reported("a")))
    measured: list[tuple[str, int]] = []
    reports = ReportBuilder(1, run.entries, on_measured=lambda stage, us: measured.append((stage, us)))
    assert reports.kill_ids() and not measured


def test_a_budget_that_a_reload_has_set_judges_the_kills_before_it() -> None:
    reports = ReportBuilder(1, cleared(Run(armed("a"))(reported("a"))).entries)
    before: Any = reports.render()
    reports.set_budget(10_000_000)
    after: Any = reports.render()
    assert (before["budget_us"], before["within_budget"]) == (1, False)
    assert (after["budget_us"], after["within_budget"]) == (10_000_000, True)


def test_only_the_last_kills_are_kept_in_memory() -> None:
    run = Run(armed("a"))
    for n in range(MAX_KILLS + 3):
        ms = n * 100_000.0
        cleared(run(reported("a", ms=ms)), "a", ms)
    reports = ReportBuilder(1, run.entries)
    assert len(reports.kill_ids()) == MAX_KILLS
    assert reports.kill_ids()[0].startswith("k4-")
    assert reports.render(K1) is None
    assert run.state.kill is not None
    assert reports.last == run.state.kill.id


def test_all_kills_are_kept_where_that_is_asked_for() -> None:
    run = Run(armed("a"))
    for n in range(MAX_KILLS + 3):
        cleared(run(reported("a", ms=n * 100_000.0)), "a", n * 100_000.0)
    assert len(ReportBuilder(1, run.entries, keep=None).kill_ids()) == MAX_KILLS + 3
    assert ReportBuilder(1, run.entries, keep=1).kill_ids() == (
        f"k{MAX_KILLS + 3}-{1_700_000_000 + (MAX_KILLS + 2) * 100}",
    )


def test_a_fact_of_a_kill_that_is_no_longer_kept_is_ignored() -> None:
    reports = ReportBuilder(1)
    entry = {"at": "2023-11-14T22:13:20Z", "boot": "b", "mono_ns": ns(0)}
    gone = {"kill": "k0-0", "account": "a", "mono_ns": ns(0)}
    reports.take({**entry, "kind": "clear", "data": gone})
    reports.take({**entry, "kind": "strike", "data": {"sent": [{**gone, "strike": 1, "routes": []}]}})
    reports.take({**entry, "kind": "strike", "data": {"sent": [{**gone, "kill": None, "strike": 1, "routes": []}]}})
    assert reports.last is None


def test_a_kills_reasons_come_without_evidence_and_an_unknown_kill_has_none() -> None:
    run = Run(armed("a"))(reported("a"))
    reports = ReportBuilder(1, run.entries)
    (told,) = reports.reasons("k1-1700000000")
    assert told == {"trigger": "panic", "text": "touched", "observed_at": "2023-11-14T22:13:20.000000Z"}
    assert reports.reasons("k9-1700000000") == []


def test_a_record_of_another_version_is_left_out_of_the_reports_of_an_earlier_run() -> None:
    run = cleared(Run(armed("a"))(reported("a")))
    strange = {**run.entries[0], "kind": "reason", "data": {"kill": "k9"}}
    assert (
        ReportBuilder(250_000, [strange, *run.entries, strange]).render()
        == ReportBuilder(250_000, run.entries).render()
    )
