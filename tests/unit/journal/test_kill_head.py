"""The head of a report: who fired, what was meant, under which configuration, and who has re-armed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kill_switch.core.domain import Phase
from kill_switch.core.events import ReasonReported
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.kill_head import config_hash
from kill_switch.journal.kill_report import MAX_KILLS, ReportBuilder
from tests.harness.core_playbook import Run, answered, armed, asked, due, ns, read, reason, recovered, reported

K1, K2 = "k1-1700000000", "k2-1700000070"


def head(run: Run, kill: str = "last") -> dict[str, Any]:
    found = ReportBuilder(250_000, run.entries).render(kill)
    assert found is not None
    return found


def cleared(run: Run, *names: str, ms: float = 0) -> Run:
    for name in names:
        run(answered(name, ms + 100), read(name, ms + 200), due(name, ms + 450), read(name, ms + 500))
    return run


def note(run: Run, kind: str, **data: object) -> Run:
    """Put a record into the run that is none of the engine's."""
    last: dict[str, Any] = (
        run.entries[-1] if run.entries else {"seq": 0, "at": "2023-11-14T22:13:19.000000Z", "mono_ns": 0}
    )
    run.entries.append({**last, "seq": last["seq"] + 1, "boot": run.boot, "kind": kind, "data": data})
    return run


def fired(*accounts: str, ms: float = 0, **evidence: object) -> ReasonReported:
    event = reported(*accounts, ms=ms)
    return event._replace(reason=reason(*accounts, ms=ms).__class__("operator", "x", accounts, event.at, evidence))


def checkpointed(run: Run) -> Run:
    """Return the run as a start reads it whose journal has just begun a new file."""
    snapshot = JournalSnapshot()
    for entry in run.entries:
        snapshot.apply({**entry, "hash": ""})
    again = Run(run.state, run.boot)
    again.entries = [orjson.loads(orjson.dumps(entry)) for entry in snapshot.entries()]
    return again


# ── who fired ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_reason_says_who_fired_and_later_ones_do_not_change_it() -> None:
    run = Run(armed("a"))(fired("a", uid=7, user="ann", pid=1), reported("a", ms=50, trigger="loss"))
    assert head(run)["by"] == {"trigger": "operator", "uid": 7, "user": "ann", "at": None}


def test_a_name_that_is_found_later_is_shown_for_who_fired() -> None:
    run = note(Run(armed("a"))(fired("a", uid=7, user="7")), "user", uid=7, user="ann")
    assert head(run)["by"]["user"] == "ann"


def test_a_flags_owner_found_after_the_kill_is_added_to_its_reason() -> None:
    run = Run(armed("a"))(reported("a", ms=10, trigger="loss"), reported("a", ms=20))
    found = {"uid": 1000, "user": "1000", "mtime": "2023-11-14T22:13:00.000000Z", "text": "runaway"}
    observed = {"observed_mono_ns": ns(20), "observed_wall_ns": 1_700_000_000_020_000_000}
    note(run, "amendment", trigger="panic", **observed, text="", evidence=found)
    assert [one["evidence"] for one in head(run)["reasons"]] == [
        {"path": "/run/KILL"},
        {"path": "/run/KILL", **found},
    ]
    assert head(run)["by"]["trigger"] == "loss"
    again = Run(armed("a"))(reported("a", ms=20))
    note(again, "amendment", trigger="panic", **observed, text="", evidence=found)
    assert head(again)["by"] == {"trigger": "panic", "uid": 1000, "user": "1000", "at": found["mtime"]}


# ── what was meant ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_has_the_whole_scope_if_it_widens_during_the_kill() -> None:
    run = Run(armed("a", "b", "c"))(reported("a"), reported("b", ms=20, trigger="loss"))
    assert head(run)["scope"] == ["a", "b"]


def test_accounts_that_a_direct_kill_could_not_strike_are_in_its_scope() -> None:
    run = Run(armed("a", "b"))(reported("a"))
    note(run, "direct", kill=K1, config={"x": 1}, unstruck=["b"])
    assert (head(run)["scope"], list(head(run)["accounts"])) == (["a", "b"], ["a"])


# ── under which configuration ─────────────────────────────────────────────────────────────────────────────────────


def test_each_kill_has_the_configuration_that_was_in_force_when_it_began() -> None:
    run = note(Run(armed("a", "b")), "start", config={"rearm.approvals": 1, "daemon.budget": 0.25})
    run(reported("a"))
    note(run, "reload", config={"daemon.budget": 0.25, "rearm.approvals": 2})
    cleared(run(reported("b", ms=10)), "a", "b", ms=20)
    run(asked("a", "b"), reported("a", ms=70_000))
    one, two = {"rearm.approvals": 1, "daemon.budget": 0.25}, {"rearm.approvals": 2, "daemon.budget": 0.25}
    assert (head(run, K1)["config"], head(run, K2)["config"]) == (config_hash(one), config_hash(two))
    assert config_hash(one) != config_hash(two)


def test_a_direct_kill_has_the_configuration_that_it_has_read_itself() -> None:
    run = note(Run(armed("a")), "start", config={"x": 1})(reported("a"))
    assert head(note(run, "direct", kill=K1, config={"x": 2}, unstruck=[]))["config"] == config_hash({"x": 2})


def test_a_direct_kill_that_joins_one_under_way_leaves_it_its_configuration() -> None:
    run = note(Run(armed("a", "b")), "start", config={"x": 1})(reported("a"), reported("b", ms=10))
    assert head(note(run, "direct", kill=K1, config={"x": 2}, unstruck=[]))["config"] == config_hash({"x": 1})


# ── who has re-armed it ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_re_arm_says_who_and_when_and_with_whose_approval() -> None:
    run = cleared(Run(armed("a", approvals=2))(reported("a")), "a")
    run(asked("a", uid=1, ms=60_000))
    assert head(run)["rearmed"] is None
    run(asked("a", uid=2, ms=61_000))
    told = head(run)["rearmed"]
    assert (told["uid"], told["user"], told["at"]) == (2, "user2", "2023-11-14T22:14:21.000000Z")
    assert (told["forced"], told["accounts"], told["left"], told["earlier"]) == (False, ["a"], [], [])
    assert [(approval["uid"], approval["at"][14:19]) for approval in told["approvals"]] == [(1, "14:20"), (2, "14:21")]


def test_a_void_approval_is_not_in_the_report() -> None:
    run = cleared(Run(armed("a", approvals=2))(reported("a")), "a")
    run(asked("a", uid=1, ms=60_000), reported("a", ms=61_000))
    cleared(run, "a", ms=61_000)
    run(asked("a", uid=2, ms=70_000), asked("a", uid=3, ms=71_000))
    assert [approval["uid"] for approval in head(run)["rearmed"]["approvals"]] == [2, 3]


def test_an_approval_for_other_accounts_is_no_approval() -> None:
    run = cleared(Run(armed("a", "b", approvals=2))(reported("a", "b")), "a", "b")
    run(asked("b", uid=1, ms=60_000), asked("a", uid=2, ms=61_000), asked("a", uid=3, ms=62_000))
    assert [approval["uid"] for approval in head(run)["rearmed"]["approvals"]] == [2, 3]


def test_a_forced_re_arm_says_so_and_the_state_stays_the_kills_last() -> None:
    run = Run(armed("a"))(reported("a"), answered("a", 100), read("a", 10_000, live=3), asked("a", force=True))
    assert head(run)["rearmed"]["forced"] is True
    account = head(run)["accounts"]["a"]
    assert (account["state"], account["left"], account["verdict"]) == ("RESIDUE", 3, "UNKNOWN")


def test_accounts_re_armed_in_turn_are_reported_with_the_accounts_still_tripped() -> None:
    run = cleared(Run(armed("a", "b"))(reported("a", "b")), "a", "b")
    run(asked("a", ms=60_000))
    told = head(run)["rearmed"]
    assert (told["accounts"], told["left"], told["earlier"]) == (["a"], ["b"], [])
    run(asked("b", uid=2, ms=61_000))
    told = head(run)["rearmed"]
    assert (told["accounts"], told["left"]) == (["b"], [])
    assert [(one["uid"], one["accounts"]) for one in told["earlier"]] == [(1, ["a"])]


def test_a_re_arm_ends_every_kill_since_the_last_one_and_no_earlier_one() -> None:
    run = cleared(Run(armed("a", "b"))(reported("a", "b")), "a", "b")
    cleared(run(reported("a", ms=70_000)), "a", ms=70_000)  # tripped still: another kill
    run(asked("a", "b", ms=80_000))
    assert [head(run, kill)["rearmed"]["at"][14:19] for kill in (K1, K2)] == ["14:40", "14:40"]
    cleared(run(reported("a", ms=90_000)), "a", ms=90_000)
    run(asked("a", uid=3, ms=95_000))
    assert [head(run, kill)["rearmed"]["uid"] for kill in (K1, K2, "last")] == [1, 1, 3]


def test_a_reason_after_a_re_arm_within_the_same_kill_leaves_the_account_tripped() -> None:
    run = cleared(Run(armed("a", "b"))(reported("a", "b")), "a")
    run(asked("a", ms=60_000), reported("a", ms=61_000))
    assert head(run)["id"] == K1
    assert head(run)["rearmed"]["left"] == ["a", "b"]
    assert head(run)["accounts"]["a"]["state"] == Phase.STRIKING


# ── over restarts, files and versions ─────────────────────────────────────────────────────────────────────────────


def story() -> Run:
    run = note(Run(armed("a", "b", approvals=2)), "start", config={"x": 1})
    cleared(run(fired("a", "b", uid=7, user="ann")), "a", "b")
    run(asked("a", uid=1, ms=60_000), recovered(61_000))
    return run


def test_a_restart_within_a_kill_changes_nothing_of_its_head() -> None:
    whole = story()
    note(whole, "start", config={"x": 2})
    told = head(whole)
    assert (told["config"], told["by"]["uid"], told["scope"]) == (config_hash({"x": 1}), 7, ["a", "b"])


def test_the_next_file_of_a_journal_goes_on_with_every_head() -> None:
    whole = story()
    begun = checkpointed(whole)
    assert head(begun) == head(whole)
    for run in (whole, begun):
        run(asked("a", uid=2, ms=70_000), reported("a", ms=75_000))
    assert [approval["uid"] for approval in head(begun, K1)["rearmed"]["approvals"]] == [1, 2]
    for kill in ReportBuilder(1, whole.entries).kill_ids():
        assert head(begun, kill) == head(whole, kill)


def test_an_account_that_has_another_name_by_then_is_re_armed_under_the_one_that_the_kill_has() -> None:
    run = cleared(Run(armed("a", "b"))(reported("a", "b")), "a", "b")
    cleared(run(reported("a", ms=70_000)), "a", ms=70_000)
    note(run, "identity", accounts=[], identities={}, moved={"a": "new"})
    note(run, "rearm", uid=1, user="ann", text="", accounts=["new", "b"], force=False)
    assert (head(run, K1)["rearmed"]["accounts"], head(run, K2)["rearmed"]["accounts"]) == (["a", "b"], ["new"])
    assert [head(run, kill)["rearmed"]["left"] for kill in (K1, K2)] == [[], []]


def test_kills_that_are_no_longer_kept_leave_nothing_behind() -> None:
    run = Run(armed("a"))
    for n in range(MAX_KILLS + 3):
        cleared(run(reported("a", ms=n * 10_000)), "a", ms=n * 10_000)
    reports = ReportBuilder(1, run.entries)
    assert len(reports._tripped["a"]) == MAX_KILLS


def test_a_record_of_an_older_version_is_reported_with_the_fields_that_it_has() -> None:
    run = cleared(Run(armed("a"))(reported("a")), "a")(asked("a"))
    snapshot = JournalSnapshot()
    for entry in run.entries:
        snapshot.apply({**entry, "hash": ""})
    old = snapshot.to_json()
    kills: Any = old["kills"]
    for key in ("tripped", "approvals", "config"):
        del kills[key]
    for kill in kills["held"]:
        del kill["head"]
        kill["accounts"]["a"]["state"] = "ARMED"
        del kill["accounts"]["a"]["rearmed"]
    checkpoint: Mapping[str, Any] = {**run.entries[-1], "kind": "checkpoint", "data": old}
    told: Any = ReportBuilder(1, [checkpoint]).render()
    assert (told["accounts"]["a"]["state"], told["accounts"]["a"]["verdict"]) == ("CLEAR", "CONFIRMED")
    assert (told["rearmed"], told["config"], told["scope"], told["by"]["trigger"]) == (None, None, ["a"], "panic")
    reports, known = ReportBuilder(1, [checkpoint]), len(run.entries)
    cleared(run(reported("a", ms=70_000)), "a", ms=70_000)(asked("a", ms=80_000))
    for entry in run.entries[known:]:
        reports.take(entry)
    both: Any = [reports.render(kill) for kill in (K1, K2)]
    assert (both[0]["rearmed"], both[1]["rearmed"]["uid"]) == (None, 1)
