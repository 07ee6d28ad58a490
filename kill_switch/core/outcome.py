"""Describe why a kill is not fully proven, latched and journaled, and which command mends that. Pure.

The direct kill and the control handlers find the facts, and return these texts as `problems` of their answer. A
command whose answer has a problem that is no note ends with an exit code other than 0.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# `text`: what is wrong and what follows; `do`: the command to type now; `note`: the next start is tripped anyway
Problem = Mapping[str, str | bool]


class LatchOutcome(NamedTuple):
    """State of the latch files of a direct kill at its end."""

    present: Sequence[Path]  # files that trip the next start
    refused: Mapping[Path, str]  # files that cannot be written, and why
    was_left: bool  # a file was written when the kill began; if it is gone, a daemon has taken the latch over


def make_problem(text: str, do: str, *, note: bool = False) -> Problem:
    """Return a problem in the keys of the answer."""
    return {"text": text, "do": do, "note": note}


def is_grave(answer: Mapping[str, Any]) -> bool:
    """Return whether an answer has a problem that is more than a note: the command must not end with exit code 0."""
    return any(not each.get("note") for each in answer.get("problems", ()))


MAX_IDS, MAX_ID_CHARACTERS = 5, 80  # ids of orders that a line names, and their length together


def describe_left(left: int | None, ids: Sequence[str]) -> str:
    """Return how many orders are left, with their ids."""
    if left is None:
        count = f"at least {len(ids)} orders" if ids else "an unknown number of orders"
    else:
        count = f"{left} order{'' if left == 1 else 's'}"
    shown = list(ids[:MAX_IDS])
    while len(shown) > 1 and sum(map(len, shown)) > MAX_ID_CHARACTERS:
        shown.pop()
    hidden = max(left or 0, len(ids)) - len(shown)
    named = f"{', '.join(shown)}{f' and {hidden} more' if hidden > 0 else ''}"
    return f"{count} ({named})" if ids else count


DISPLACED = "under the running daemon"  # in the trouble of a journal whose file was removed, replaced, renamed or cut
PUT_BACK = "put the file back; or restart the daemon when a kill does no harm: it starts tripped"


def daemon_problems(unwritten: str, unsynced: str, config: Path, *, latched: bool) -> list[Problem]:
    """Return the problems of the journal of a running daemon.

    `unwritten` is why records are missing, `unsynced` why a power cut may undo records; "" if there is no such trouble.
    `latched`: the next start trips in spite of it, by the write-ahead note or a latch file.
    """
    status = f"kill-switch status -c {shlex.quote(str(config))}"
    if unwritten and latched:
        text = f"what was done is not on record: {unwritten}"
        displaced = DISPLACED in unwritten
        do = PUT_BACK if displaced else f"mend that: the daemon then writes what it has kept; {status} says when"
        return [make_problem(text, do, note=True)]
    if unwritten:
        text = f"what was done is not on record ({unwritten}), and no latch is left: a restart would start ARMED"
        return [make_problem(text, f"do not restart the daemon before the disk is mended; {status} says when")]
    if unsynced:
        return [
            make_problem(
                f"a power cut may undo the record: {unsynced}", f"replace the disk, and see {status}", note=True
            )
        ]
    return []


def direct_kill_problems(unrecorded: str, latch: LatchOutcome, config: Path, *, held: bool) -> list[Problem]:
    """Return the problems of a direct kill that is not in the journal; `unrecorded` is why it is not.

    `held`: a daemon, or another process, holds the journal's lock.
    """
    at_file = ", ".join(map(str, latch.present))
    if latch.present and held:
        text = "the daemon that is running has not taken this kill over: it may hang, and count as ARMED"
        restart = "restart the daemon (as a service: systemctl restart kill-switch)"
        do = f"the latch stands in {at_file}; {restart}: it starts tripped"
        return [make_problem(text, do, note=True)]
    if latch.present:
        text = f"this kill is not on record: {unrecorded}"
        do = f"mend that; the latch stands in {at_file}: the next start is tripped and records it"
        return [make_problem(text, do, note=True)]
    if held and latch.was_left:
        return []
    why = "; ".join(f"{path.parent}: {why}" for path, why in latch.refused.items()) or "it was removed"
    if held:
        text = f"no latch is left ({why}): a daemon is running, was not told of this kill, and is ARMED"
        return [
            make_problem(
                text, f"kill-switch fire -c {shlex.quote(str(config))} --reason 'a direct kill without a latch'"
            )
        ]
    text = f"no latch is left ({why}), and the record lacks this kill ({unrecorded}): the daemon would start ARMED"
    path = next(iter(latch.refused), None)
    if path is None:
        return [
            make_problem(text, f"fire once more: kill-switch fire --direct -c {shlex.quote(str(config))} --reason …")
        ]
    directory, file = (shlex.quote(str(item)) for item in (path.parent, path))
    return [
        make_problem(text, f"before the daemon starts: mkdir -p {directory} && touch {file}; it then starts tripped")
    ]


def unsent_problems(channels: Sequence[str], within_s: float) -> list[Problem]:
    """Return a note if a kill without the daemon ended before each of these channels had tried every message."""
    if not channels:
        return []
    text = f"not every notification was sent within {within_s:g} s: {', '.join(channels)}"
    return [make_problem(text, "tell the people yourself; nobody tries again", note=True)]
