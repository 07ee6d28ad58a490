"""The log names the owner of a flag's file and its text, both of which come after the kill."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Reason, Severity
from kill_switch.triggers.flag.amender import ReasonAmender

WORDS = "/run/kill-switch/flag/KILL is there"


@pytest.mark.parametrize(
    ("text", "evidence", "lines"),
    [
        ("spread is 0", {"uid": 1000}, ["trigger panic: its file says: spread is 0 (by 1000)"]),
        ("spread is 0", {}, ["trigger panic: its file says: spread is 0"]),
        ("", {"uid": 1000}, ["trigger panic: its file has no text (by 1000)"]),
        ("", {}, []),
    ],
)
def test_the_text_and_the_owner_of_a_flags_file_are_a_line_of_the_log(
    text: str, evidence: Mapping[str, object], lines: list[str]
) -> None:
    announced: list[Announce] = []
    amended: list[tuple[str, str, str]] = []
    amender = ReasonAmender(
        lambda kind, data: None, announced.append, lambda uid: None, lambda *words: amended.append(words)
    )
    amender.amend(Reason("panic", WORDS, ("mm1",), Instant(1, 1), {}), text, evidence)
    assert [news.line() for news in announced if news.level is Severity.INFO] == lines
    assert amended == [(f"panic: {WORDS}", f"panic: {text or WORDS}", str(evidence.get("uid", "")))]
