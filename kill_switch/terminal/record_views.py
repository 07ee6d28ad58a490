"""Show the journal's records and the list of kills on a terminal, a line each."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from kill_switch import printable
from kill_switch.journal import segments
from kill_switch.journal.records import Entry
from kill_switch.journal.selection import Selection
from kill_switch.terminal import streams
from kill_switch.terminal.report_views import WIDEST, number, table, word

MAX_LINES = 3  # of a terminal, that a record takes
CUT = " … (--json: all)"


def entry_line(entry: Mapping[str, Any]) -> str:
    """Format a journal record as one line."""
    line = f"{entry['seq']:>6}  {entry['at']}  {entry['kind']:<14} {json.dumps(entry['data'], ensure_ascii=False)}"
    return printable.line(line)


def shortened(line: str, columns: int) -> str:
    """Return a record's line for a terminal of so many columns: a kill's report would fill screens."""
    most = MAX_LINES * columns
    return line if len(line) <= most else line[: most - len(CUT)] + CUT


def print_entries(
    reading: segments.JournalReader, selection: Selection, last: int | None, *, follow: bool, as_json: bool
) -> int:
    """Print the selected records, a line each; of these only the `last`, if that is set. Return their number.

    With `follow`, go on with new records until interrupted, or until nobody reads them. On a terminal a long record is
    cut. Raises `JournalBroken` and `OSError`.
    """
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    held = deque[Entry](maxlen=last)
    holding, printed = last is not None, 0

    def show(entry: Entry) -> None:
        nonlocal printed
        printed += 1
        line = json.dumps(entry) if as_json else entry_line(entry)
        sys.stdout.write((shortened(line, columns) if columns and not as_json else line) + "\n")

    def release() -> None:
        nonlocal holding
        holding = False
        while held:
            show(held.popleft())
        sys.stdout.flush()

    def tick() -> None:
        release()
        streams.require_output()
        time.sleep(0.2)

    try:
        for entry in filter(selection.takes, reading.entries(tick if follow else None)):
            streams.require_output()
            if holding:
                held.append(entry)
            else:
                show(entry)
    except (KeyboardInterrupt, streams.OutputLostError):
        pass
    finally:
        release()
    return printed


class KillsView:
    """The view of `report --list`: a row for each kill, the newest last, in this host's time zone.

    The reasons are a column where all fits, else lines below the table. A narrow terminal has less columns.
    """

    COLUMNS = ("kill", "fired", "by", "accounts", "state", "left", "re-armed", "reason")
    LESS_NEEDED = ("reason", "by", "accounts", "left", "re-armed", "fired")  # in the order in which they are left out

    def __init__(self, kills: Sequence[Mapping[str, Any]]) -> None:
        self._kills = [printable.mapping(kill) for kill in kills]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._kills:
            yield Text("there is no kill on record")
            return
        shown, left = self._table(self.COLUMNS), list(self.LESS_NEEDED)
        while left and Measurement.get(console, options.update(max_width=WIDEST), shown).maximum > options.max_width:
            del left[0]
            left_out = self.LESS_NEEDED[: -len(left)] if left else self.LESS_NEEDED
            shown = self._table([each for each in self.COLUMNS if each not in left_out])
        yield shown
        if len(left) < len(self.LESS_NEEDED):
            yield Text()
            yield from (Text.assemble((kill["id"], "bold"), f"  {_why(kill)}") for kill in self._kills)

    def _table(self, columns: Sequence[str]) -> Table:
        shown = table(*columns)
        for kill in self._kills:
            cells: dict[str, str | Text] = {
                "kill": kill["id"],
                "fired": local_time(kill["fired_at"]),
                "by": kill["by"]["user"] or kill["by"]["trigger"],
                "accounts": str(len(kill["accounts"])),
                "state": word(kill["state"]),
                "left": Text(number(kill["left"]), "green" if kill["left"] == 0 else "bold red"),
                "re-armed": _rearmed(kill),
                "reason": _why(kill),
            }
            shown.add_row(*(cells[column] for column in columns))
        return shown


def _why(kill: Mapping[str, Any]) -> str:
    others = f" (+{kill['reasons'] - 1})" if kill["reasons"] > 1 else ""
    return f"{kill['trigger']}: {kill['text']}{others}"


def _rearmed(kill: Mapping[str, Any]) -> str:
    """Return when a kill was re-armed: the time alone on the day on which it fired."""
    if not kill["rearmed_at"]:
        return "no"
    if kill["still_tripped"]:
        return f"all but {len(kill['still_tripped'])}"
    fired, rearmed = local_time(kill["fired_at"]), local_time(kill["rearmed_at"])
    return rearmed[11:] if rearmed[:10] == fired[:10] else rearmed


def print_kills(kills: Sequence[Mapping[str, Any]]) -> None:
    """Print a row for each kill."""
    Console(highlight=False).print(KillsView(kills))


def local_time(iso: str) -> str:
    """Format an ISO time in this host's time zone, to the second."""
    return f"{datetime.fromisoformat(iso).astimezone():%Y-%m-%d %H:%M:%S}"
