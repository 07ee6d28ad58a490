"""Say in what a kill is weaker than killed, proven, latched and on record, and what to do about it. Pure.

`direct` and `operators` find the facts, and put what is made of them here into the answer as `problems`. A command
whose answer has one does not end with exit code 0, but for notes: the latch of that kill stands, outside of the record.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# `text`: what is wrong and what follows; `do`: the command to type now; `note`: the next start is tripped all the same
Problem = Mapping[str, str | bool]


class LatchOutcome(NamedTuple):
    """What has become of the latch that a direct kill leaves."""

    present: Sequence[Path]  # files that trip the next start
    refused: Mapping[Path, str]  # files that take nothing, and why
    was_left: bool  # at the beginning of the kill; if it does not stand any more, a daemon has taken it over


def make_problem(text: str, do: str, *, note: bool = False) -> Problem:
    """Return a problem in the keys of the answer."""
    return {"text": text, "do": do, "note": note}


def is_grave(answer: Mapping[str, Any]) -> bool:
    """Tell whether an answer has a problem that is more than a note: then exit code 0 would be a lie."""
    return any(not each.get("note") for each in answer.get("problems", ()))


def daemon_problems(unwritten: str, unsynced: str, config: Path, *, latched: bool) -> list[Problem]:
    """Return what is wrong with the record of a daemon that is running.

    `unwritten` is why it lacks something, `unsynced` why a power cut may undo it, "" for nothing. `latched` says that
    the next start trips all the same, by an intent or a latch file.
    """
    status = f"kill-switch status -c {shlex.quote(str(config))}"
    if unwritten and latched:
        text = f"what was done is not on record: {unwritten}"
        return [
            make_problem(text, f"mend that: the daemon then writes what it has kept; {status} says when", note=True)
        ]
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
    """Return what is wrong after a kill without the daemon that is not on record, for the reason `unrecorded`.

    `held` says that a daemon is there, or another process that holds the record.
    """
    at_file = ", ".join(map(str, latch.present))
    if latch.present and held:
        text = "the daemon that is running has not taken this kill over: it may hang, and count as ARMED"
        do = f"the latch stands in {at_file}; systemctl restart kill-switch: it starts tripped"
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
