"""Show status, reports and the record on a terminal; what is worst stands first and is red."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kill_switch import journal
from kill_switch.errors import KillSwitchError

REFRESH_S = 0.5
COLOURS = {
    "ARMED": "green",
    "FIRING": "bold red",
    "TRIPPED": "bold yellow",
    "STRIKING": "bold red",
    "CONFIRMING": "red",
    "RESIDUE": "bold white on red",
    "CLEAR": "yellow",
    "CONFIRMED": "green",
    "REFUSED": "bold red",
    "UNKNOWN": "bold red",
    "UNSENT": "bold red",
    "ok": "green",
    "waiting": "cyan",
    "tripped": "bold yellow",
    "blind": "bold red",
    "up": "green",
    "connecting": "yellow",
    "down": "bold red",
}


def word(text: str) -> Text:
    """Colour one of our own words."""
    return Text(text, style=COLOURS.get(text, ""))


def ms(us: int | None) -> str:
    """Write microseconds as milliseconds."""
    return "–" if us is None else f"{us / 1000:,.1f} ms" if us < 10_000_000 else f"{us / 1e6:,.1f} s"


def _number(value: object) -> str:
    return "?" if value is None else str(value)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in columns:
        right = column in _RIGHT
        table.add_column(column, no_wrap=column not in _LONG, overflow="fold", justify="right" if right else "left")
    return table


_RIGHT = {"orders", "round trip", "sent", "answered", "clear", "strikes", "gone", "left"}
_LONG = {"detail"}


def status_view(status: Mapping[str, Any]) -> RenderableType:
    """Say how things are: the state first, then accounts, then triggers."""
    head = Text.assemble(word(status["state"]), f"  since {status['since'][:19]}Z", style="")
    accounts = _table("account", "state", "ready", "ws", "http", "orders", "round trip")
    for name, account in status["accounts"].items():
        lanes = account["lanes"]
        ready = Text("yes", "green") if account["ready"] else Text("NO", "bold red")
        orders = _number(account["open_orders"])
        row = (word(account["state"]), ready, word(lanes["ws"]), word(lanes["http"]), orders, ms(account["rtt_us"]))
        accounts.add_row(f"{name} ({account['venue']})", *row)
    triggers = _table("trigger", "state", "detail")
    for name, trigger in status["triggers"].items():
        triggers.add_row(f"{name} ({trigger['kind']})", word(trigger["state"]), str(trigger["detail"]))
    troubles = [
        Text(f"{name} {route}: {why}", "red")
        for name, account in status["accounts"].items()
        for route, why in account.get("trouble", {}).items()
        if account["lanes"][route] != "up"
    ]
    if status.get("journal", "ok") != "ok":
        troubles.append(Text(status["journal"], "bold red"))
    hint = Text(_next_step(status), "dim")
    return Group(head, *troubles, Text(), accounts, Text(), triggers, Text(), hint)


def _next_step(status: Mapping[str, Any]) -> str:
    match status["state"]:
        case "ARMED":
            return 'kill: kill-switch fire --reason "…"'
        case "TRIPPED":
            return 'proven clear and guarded. Why: kill-switch report. Re-arm: kill-switch rearm --reason "…"'
        case _:
            return "orders are being cancelled and read back; watch: kill-switch status --watch"


def print_status(status: Mapping[str, Any]) -> None:
    Console().print(status_view(status))


def watch_status(ask: Callable[[], Mapping[str, Any]]) -> None:
    """Redraw until interrupted; a daemon that does not answer is shown as such, not ended on."""
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        try:
            while True:
                try:
                    live.update(status_view(ask()), refresh=True)
                except KillSwitchError as error:
                    live.update(Text(str(error), "bold red"), refresh=True)
                time.sleep(REFRESH_S)
        except KeyboardInterrupt:
            return


def report_view(report: Mapping[str, Any]) -> RenderableType:
    """Tell one kill: why, how fast, what is left."""
    reasons = [
        Text.assemble((f"{reason['trigger']}: ", "bold"), reason["text"], (f"  {reason['observed_at']}", "dim"))
        for reason in report["reasons"]
    ]
    within = Text("within", "green") if report["within_budget"] else Text("OVER", "bold red")
    budget = Text.assemble(
        f"last sent {ms(report['last_sent_us'])}, last answered {ms(report['last_answered_us'])}: ",
        within,
        f" the budget of {ms(report['budget_us'])}; all clear {ms(report['all_clear_us'])}",
    )
    table = _table("account", "verdict", "state", "sent", "answered", "clear", "strikes", "gone", "left", "by")
    for name, account in report["accounts"].items():
        left = Text(_number(account["left"]), "green" if account["left"] == 0 else "bold red")
        table.add_row(
            name,
            word(account["verdict"]),
            word(account["state"]),
            ms(account["sent_us"]),
            ms(account["answered_us"]),
            ms(account["clear_us"]),
            str(account["strikes"]),
            "–" if account["cancelled"] is None else str(account["cancelled"]),
            left,
            "+".join(account["routes"]) or "–",
        )
    return Group(Text(f"kill {report['id']}", "bold"), *reasons, budget, Text(), table)


def print_report(report: Mapping[str, Any]) -> None:
    if report:
        Console().print(report_view(report))


def print_dry_run(answer: Mapping[str, Any]) -> None:
    table = _table("account", "venue", "state", "orders")
    for name, account in answer["accounts"].items():
        orders = _number(account.get("open_orders"))
        table.add_row(name, account["venue"], word(str(account.get("state", "?"))), orders)
    Console().print(Group(Text("this would be hit; nothing was sent", "bold"), table))


def entry_line(entry: Mapping[str, Any]) -> str:
    """Write one journal entry on one line."""
    return f"{entry['seq']:>6}  {entry['at']}  {entry['kind']:<14} {json.dumps(entry['data'], ensure_ascii=False)}"


def follow_journal(path: Path, as_json: bool) -> None:
    """Print the entries, and those that come, until interrupted."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        for entry in journal.follow(path, lambda: time.sleep(0.2)):
            console.print(json.dumps(entry) if as_json else entry_line(entry))
    except KeyboardInterrupt:
        return
