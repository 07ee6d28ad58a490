"""Requests for silences: who may, how long, which triggers, and what the status shows of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kill_switch.control.server import Caller, RequestRefused
from kill_switch.journal.segments import JournalReader
from kill_switch.triggers.base import TriggerState
from tests.harness.control_harness import ANN, ControlHarness, Opened

pytestmark = pytest.mark.anyio

BOB = Caller(8, 88, "bob")
TRIGGERS = (
    '[triggers.beat]\nkind = "heartbeat"\ntimeout = "3s"\n[triggers.panic]\nkind = "flag"\npath = "/run/desk/KILL"\n'
)


async def ask(office: ControlHarness, caller: Caller = ANN, **request: object) -> Mapping[str, Any]:
    request = {"trigger": "beat", "for_s": 1800, "reason": "deploy", **request}
    try:
        return await office.operators.handlers()["silence"](request, caller)
    except RequestRefused as refusal:
        return {"error": str(refusal), "exit": refusal.exit_code}


def found(office: ControlHarness) -> list[Mapping[str, Any]]:
    """Return the problems of triggers that `status` shows."""
    problems: Any = office.operators.status()["problems"]
    return [problem for problem in problems if "trigger" in problem]


@pytest.fixture
async def office(opened: Opened) -> ControlHarness:
    office = opened("a")
    office.reload(TRIGGERS)
    return office


async def test_a_silenced_trigger_is_shown_with_its_end_its_people_and_its_reason(office: ControlHarness) -> None:
    assert "error" not in await ask(office)
    shown = office.operators.status()["triggers"]
    assert isinstance(shown, dict)
    assert shown["beat"]["state"] == "silenced"
    assert shown["beat"]["detail"].startswith("for another 30 min, by ann: deploy; now: ")
    assert shown["beat"]["silence"] == {
        "until": "2023-11-14T22:43:20.000000Z",
        "left_s": 1800.0,
        "by": ["ann"],
        "reason": "deploy",
        "held": None,
    }
    assert shown["panic"]["state"] != "silenced"
    (problem,) = found(office)
    assert problem["trigger"] == "beat" and problem["at"] == "2023-11-14T22:43:20.000000Z"
    assert problem["do"].startswith("kill-switch silence beat --end")


async def test_a_silence_of_a_tripped_trigger_is_a_problem_until_it_ends(
    office: ControlHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(office.watch.triggers["beat"], "state", lambda: (TriggerState.TRIPPED, "no heartbeat"))
    assert "error" not in await ask(office)
    (problem,) = found(office)
    assert problem["trigger"] == "beat" and "silenced for another 30 min, by ann: deploy" in problem["text"]
    await ask(office, end=True)
    assert found(office) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"trigger": "panic"}, "trigger panic is a flag, which is never silenced"),
        ({"trigger": "beet"}, "there is no trigger 'beet'; did you mean beat? there are beat"),
        ({"trigger": "operator"}, "there is no trigger 'operator'; there are beat"),
        ({"trigger": None}, "there is no trigger 'None'; there are beat"),
        ({"for_s": 4 * 3600 + 1}, "a silence lasts from 1 s to 4 h, which is [silence] max"),
        ({"for_s": 0.5}, "a silence lasts from 1 s to 4 h, which is [silence] max"),
        ({"for_s": float("nan")}, "a silence lasts from 1 s to 4 h, which is [silence] max"),
        ({"for_s": "30m"}, "a silence lasts from 1 s to 4 h, which is [silence] max"),
        ({"for_s": True}, "a silence lasts from 1 s to 4 h, which is [silence] max"),
        ({"reason": " "}, "silence needs a reason"),
        ({"reason": None}, "silence needs a reason"),
        ({"end": True}, "trigger beat is not silenced"),
    ],
)
async def test_a_silence_that_cannot_be_is_refused(
    office: ControlHarness, wrong: Mapping[str, object], words: str
) -> None:
    assert await ask(office, ANN, **wrong) == {"error": words, "exit": 1}
    assert (await ask(office, list=True)) == {"silences": {}, "pending": {}}


async def test_two_people_are_needed_where_a_re_arm_needs_two(opened: Opened) -> None:
    office = opened("a")
    office.reload(TRIGGERS + "[rearm]\napprovals = 2\n")
    words = (
        "1 of 2 people have approved "
        "(an earlier one is void after 10 min, or if its --for was another): "
        "another person must type the same command within 10 min"
    )
    assert await ask(office) == {"error": words, "exit": 75}
    assert await ask(office) == {"error": words, "exit": 75}
    assert (await ask(office, list=True))["pending"] == {"beat": {"for_s": 1800.0, "by": ["ann"], "reason": "deploy"}}
    (problem,) = found(office)
    assert "ann has asked to silence it for 30 min (deploy): 1 of 2 people" in problem["text"]
    assert problem["at"] == "2023-11-14T22:13:20.000000Z"
    assert "another person than ann types kill-switch silence beat --for 30m" in problem["do"]
    assert (await ask(office, BOB))["silences"]["beat"]["by"] == ["ann", "bob"]
    (problem,) = found(office)
    assert "by ann and bob" in problem["text"]


async def test_another_caller_ends_a_silence(office: ControlHarness) -> None:
    await ask(office)
    assert (await ask(office, BOB, end=True))["silences"] == {}
    office.journal.flush()
    ended = [
        entry["data"]["ended"] for entry in JournalReader(office.journal.path).entries() if entry["kind"] == "silence"
    ]
    assert ended == ["", "by bob"]


async def test_a_silence_whose_caller_has_given_up_waiting_for_a_hung_daemon_is_not_begun(
    office: ControlHarness,
) -> None:
    answer = await ask(office, ANN._replace(gone=lambda: True))
    assert answer["error"] == "not silenced: the caller has closed the connection"
    assert found(office) == []
