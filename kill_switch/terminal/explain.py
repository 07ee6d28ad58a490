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

STATUS_COLUMNS: Mapping[str, str] = {
    "account": "one login at one venue",
    "venue": "the venue's name in the configuration; TESTNET: its test environment",
    "state": "where the account or the trigger stands, see the words below",
    "lanes": "the routes to the venue; `ws 1/2`: one of two connections is logged in",
    "orders": "orders that the account has now; of a tripped account those that are left; `?`: not known",
    "round trip": "the longest of the lanes' last round trips",
    "drill": "the slowest lane's round trip in the last drill; red: over the budget",
    "clock": "the venue's clock less this host's",
    "trigger": "the trigger's name and kind",
    "detail": "what the trigger sees",
}
STATUS_WORDS: Mapping[str, str] = {
    "ARMED": "trading; a kill hits it",
    "FIRING": "the daemon's word while an account is STRIKING, CONFIRMING or RESIDUE",
    "TRIPPED": "the daemon's word when every account that was hit is CLEAR and waits for a re-arm",
    "STRIKING": "commands are being sent",
    "CONFIRMING": "commands are out; the reads that prove it are under way",
    "CLEAR": "proven: no order is left; new orders are cancelled until a person re-arms",
    "RESIDUE": "orders are left or unknown after the deadline; cancels go on",
    "up": "logged in, and it has answered lately",
    "down": "no connection, or the login is refused",
    "connecting": "being connected; a kill opens a fresh connection meanwhile",
    "ok": "it sees its input, and nothing is wrong",
    "waiting": "it has nothing to judge yet",
    "tripped": "it has fired, and no person has re-armed since",
    "blind": "it cannot see its input",
    "silenced": "a person holds its reasons back for planned work",
}
DRILL_COLUMNS: Mapping[str, str] = {
    "account": "one login at one venue",
    "venue": "the venue's name in the configuration",
    "lane": "the route over which the harmless command went",
    "round trip": "from the command's first byte to the venue's answer",
    "budget": "the round trip against the daemon's budget",
    "evidence": "the venue's answer",
}
DRILL_WORDS: Mapping[str, str] = {
    "within": "a kill would be answered within the budget",
    "OVER": "the lane works, and is slower than the budget",
    "FAILED": "the lane would carry no kill now",
    "(expected)": "the venue refuses it as it should, because the command can hit no order",
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
