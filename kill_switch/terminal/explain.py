"""Explain the columns and words of the tables, for `--explain`."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

REPORT_COLUMNS: Mapping[str, str] = {
    "account": "one login at one venue",
    "verdict": "what is proven; else what became of the command",
    "state": "where the account stood at the end of this kill",
    "sent": "from the moment the reason was observed until the first command had left this host",
    "answered": "until the venue's answer to it had come; `OVER` is judged by the last account's",
    "clear": "until the reads that prove that nothing is left",
    "strikes": "cancel commands that were sent; more than one: orders came late, or an answer did not come",
    "gone": "distinct orders that were open and that a later whole read no longer shows",
    "left": "orders that the last read still shows",
    "by": "the routes that carried the strike which the venue accepted first",
}
REPORT_WORDS: Mapping[str, str] = {
    "CONFIRMED": "proven clear by the venue's own lists, after the last command",
    "REFUSED": "not proven clear; the venue refused the command, see the lines below the table",
    "UNKNOWN": "not proven clear; a command left, and was accepted or lost",
    "UNSENT": "not proven clear; no route could carry a command",
    "STRIKING": "commands are being sent",
    "CONFIRMING": "accepted; the reads that prove it are under way",
    "CLEAR": "proven: reads that span the venue's lag show no order",
    "RESIDUE": "orders are left or unknown after the deadline; cancels go on",
    "ARMED": "re-armed by a person",
}


def print_explanation(columns: Mapping[str, str], words: Mapping[str, str]) -> None:
    """Print what each column and each word means."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for heading, meanings in (("columns", columns), ("words", words)):
        grid.add_row(Text(heading, "dim"), "")
        for term, meaning in meanings.items():
            grid.add_row(Text(term, "bold"), Text(meaning))
    console = Console(highlight=False)
    console.print()
    console.print(grid)
