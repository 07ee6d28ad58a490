"""Show the journal's records and the list of kills on a terminal, a line each."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from kill_switch import printable
from kill_switch.journal import segments
from kill_switch.journal.records import Entry
from kill_switch.journal.selection import Selection
from kill_switch.terminal.report_views import number, table, word


def entry_line(entry: Mapping[str, Any]) -> str:
    """Format a journal record as one line."""
    line = f"{entry['seq']:>6}  {entry['at']}  {entry['kind']:<14} {json.dumps(entry['data'], ensure_ascii=False)}"
    return printable.line(line)


def print_entries(
    reading: segments.JournalReader, selection: Selection, last: int | None, *, follow: bool, as_json: bool
) -> None:
    """Print the selected records, a line each; of these only the `last`, if that is set.

    With `follow`, go on with new records until interrupted. Raises `JournalBroken` and `OSError`.
    """
    held = deque[Entry](maxlen=last)
    holding = last is not None

    def show(entry: Entry) -> None:
        sys.stdout.write((json.dumps(entry) if as_json else entry_line(entry)) + "\n")

    def release() -> None:
        nonlocal holding
        holding = False
        while held:
            show(held.popleft())
        sys.stdout.flush()

    def tick() -> None:
        release()
        time.sleep(0.2)

    try:
        for entry in filter(selection.takes, reading.entries(tick if follow else None)):
            if holding:
                held.append(entry)
            else:
                show(entry)
    except KeyboardInterrupt:
        return
    finally:
        release()


def kills_view(kills: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the view of `report --list`: a row for each kill, the newest last, in this host's time zone."""
    if not kills:
        return Text("there is no kill on record")
    shown = table("kill", "fired", "by", "accounts", "state", "left", "re-armed", "reason")
    for kill in (printable.mapping(each) for each in kills):
        person = kill["by"]
        who = person["user"] or person["trigger"]
        others = f" (+{kill['reasons'] - 1})" if kill["reasons"] > 1 else ""
        tripped = len(kill["still_tripped"])
        rearmed = local_time(kill["rearmed_at"]) if kill["rearmed_at"] else "no"
        if kill["rearmed_at"] and tripped:
            rearmed = f"all but {tripped}"
        shown.add_row(
            kill["id"],
            local_time(kill["fired_at"]),
            who,
            str(len(kill["accounts"])),
            word(kill["state"]),
            Text(number(kill["left"]), "green" if kill["left"] == 0 else "bold red"),
            rearmed,
            f"{kill['trigger']}: {kill['text']}{others}",
        )
    return shown


def print_kills(kills: Sequence[Mapping[str, Any]]) -> None:
    """Print a row for each kill."""
    Console(highlight=False).print(kills_view(kills))


def local_time(iso: str) -> str:
    """Format an ISO time in this host's time zone, to the second."""
    return f"{datetime.fromisoformat(iso).astimezone():%Y-%m-%d %H:%M:%S}"
