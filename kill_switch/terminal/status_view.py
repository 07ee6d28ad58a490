"""Show the status for a person who has five seconds: the state, what is wrong, then accounts and triggers.

The command `status` and the demo use this. The worst line comes first. On a narrow terminal the view shows less, never
something else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from kill_switch import printable
from kill_switch.errors import KillSwitchError
from kill_switch.terminal.report_views import WIDE, ms, number, table, word

REFRESH_S = 0.5
FEW_ROWS = 5  # rows of accounts, even on a low terminal
TROUBLES = 5  # troubles shown above the accounts while the screen is redrawn
SEVERITY = ("RESIDUE", "STRIKING", "CONFIRMING", "CLEAR", "ARMED")
HEADS = {"ARMED": "bold black on green", "TRIPPED": "bold black on yellow", "FIRING": "bold white on red"}
NEXT = {
    "ARMED": 'to kill: kill-switch fire --reason "…"',
    "TRIPPED": 'clear, and guarded: kill-switch report; then kill-switch rearm --reason "…"',
    "FIRING": "orders are being cancelled and read back: kill-switch status --watch",
}


class StatusView:
    """The view of a status answer for the console's width; at most `rows` accounts are shown."""

    def __init__(self, status: Mapping[str, Any], rows: int | None = None, now: datetime | None = None) -> None:
        self._status = printable.mapping(status)
        self._rows = rows
        self._now = now or datetime.now(UTC)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        status, wide = self._status, options.max_width >= WIDE
        yield self._head()
        for reason in status.get("why", ()):
            when = f"{reason['observed_at'][11:19]}Z "
            yield Text.assemble("because ", (when, "dim"), (f"{reason['trigger']}: ", "bold"), reason["text"])
        lines = list(troubles(status))
        shown = lines if self._rows is None or len(lines) <= TROUBLES else lines[: TROUBLES - 1]
        yield from (Text(f"! {line}", "bold red") for line in shown)
        if len(shown) < len(lines):
            yield Text(f"! and {len(lines) - len(shown)} more: kill-switch status", "bold red")
        yield from (Text(note, "yellow") for note in _notes(status))
        yield Text()
        yield self._accounts(wide)
        if status["triggers"]:
            yield Text()
            yield _triggers(status["triggers"], wide)
        yield Text()
        drill = _drill_line(status.get("drill") or {})
        if drill:
            yield Text(drill, "dim")
        yield Text(NEXT[status["state"]], "dim")

    def _head(self) -> Text:
        state, accounts = self._status["state"], self._status["accounts"]
        ready = sum(account["ready"] for account in accounts.values())
        all_ready = ready == len(accounts)
        return Text.assemble(
            (f" {state} ", HEADS[state]),
            f" for {_duration(self._status['since'], self._now)}  ",
            (f"{ready}/{len(accounts)} ready", "green" if all_ready else "bold red"),
        )

    def _accounts(self, wide: bool) -> RenderableType:
        accounts = sorted(self._status["accounts"].items(), key=lambda item: _severity(item[1]))
        if wide:
            accounts_table = table("account", "venue", "state", "lanes", "orders", "round trip", "drill", "clock")
        else:
            accounts_table = table("account", "state", "lanes", "orders")
        shown = accounts if self._rows is None or len(accounts) <= self._rows else accounts[: self._rows - 1]
        for name, account in shown:
            row: list[RenderableType] = [
                Text(name) if wide else _marked(name, account),
                word(account["state"]),
                _lanes(account),
                number(account["open_orders"]),
            ]
            if wide:
                row[1:1] = [_marked(account["venue"], account)]
                row += [ms(account["rtt_us"]), _drilled(account.get("drill") or {}), _offset(account)]
            accounts_table.add_row(*row)
        if len(shown) == len(accounts):
            return accounts_table
        hidden = Counter(account["state"] for _, account in accounts[len(shown) :])
        return Group(
            accounts_table, Text("and " + ", ".join(f"{n} more {state}" for state, n in hidden.items()), "dim")
        )


def troubles(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield the troubles, a line each: lanes, blind triggers, the journal, and reports of the daemon's parts."""
    for name, account in status["accounts"].items():
        for route, why in account.get("trouble", {}).items():
            if account["lanes"][route] != "up":
                yield f"{name} {route}: {why}"
    for name, trigger in status["triggers"].items():
        if trigger["state"] == "blind":
            yield f"trigger {name} is blind: {trigger['detail']}"
    if status.get("journal", "ok") != "ok":
        yield str(status["journal"])
    yield from status.get("trouble", ())


def _notes(status: Mapping[str, Any]) -> Iterator[str]:
    intake = status.get("intake", {})
    ignored, wrong = intake.get("ignored", 0), intake.get("wrong_time", 0)
    if wrong:
        yield f"{wrong} signed datagram{'s' if wrong > 1 else ''} with a wrong time: is a sender's clock set back?"
    if ignored:
        yield f"{ignored} datagram{'s' if ignored > 1 else ''} not understood, and ignored (beats with a wrong name?)"


def _severity(account: Mapping[str, Any]) -> tuple[int, bool]:
    return SEVERITY.index(account["state"]), account["ready"]


def _marked(text: str, account: Mapping[str, Any]) -> Text:
    """Return the text, with a mark behind it if the account is one of the venue's test environment."""
    return Text.assemble(text, (" TESTNET", "yellow") if account.get("environment") == "testnet" else "")


def _lanes(account: Mapping[str, Any]) -> Text:
    """Return `up`, or what lacks: a lane, both lanes by their worse state, or connections of the WebSocket lane."""
    lanes: Mapping[str, str] = account["lanes"]
    off = {route: state for route, state in lanes.items() if state != "up"}
    connections = account.get("ws_connections") or {"up": 1, "wanted": 1}
    if not off and connections["up"] < connections["wanted"]:
        return Text(f"ws {connections['up']}/{connections['wanted']}", "yellow")
    if not off:
        return word("up")
    worst = "down" if "down" in off.values() else "connecting"
    if len(off) == len(lanes):
        return word(worst)
    (route,) = off
    return Text(f"{route} {worst}", style=word(worst).style)


def _drilled(lanes: Mapping[str, Mapping[str, Any]]) -> Text:
    if not lanes:
        return Text("–", "dim")
    if not all(lane["ok"] for lane in lanes.values()):
        return Text("FAILED", "bold red")
    slowest = ms(max(lane["rtt_us"] for lane in lanes.values()))
    return Text(slowest, "green" if all(lane["within_budget"] for lane in lanes.values()) else "bold red")


def _offset(account: Mapping[str, Any]) -> str:
    offset_ms = account.get("clock_offset_ms")
    if offset_ms is None:
        return "–"
    sign = "+" if offset_ms > 0 else ""
    return f"{sign}{offset_ms:,d} ms" if abs(offset_ms) < 10_000 else f"{sign}{offset_ms / 1e3:,.0f} s"


def _triggers(triggers: Mapping[str, Any], wide: bool) -> RenderableType:
    triggers_table = table("trigger", "state", "detail")
    quiet = 0
    for name, trigger in sorted(triggers.items(), key=lambda item: item[1]["state"] not in ("tripped", "blind")):
        if not wide and trigger["state"] == "ok":
            quiet += 1
            continue
        title = f"{name} ({trigger['kind']})" if wide else name
        triggers_table.add_row(title, word(trigger["state"]), Text(str(trigger["detail"])))
    if not quiet:
        return triggers_table
    quiet_line = Text(f"{quiet} trigger{'s' if quiet > 1 else ''} ok", "green")
    return Group(triggers_table, quiet_line) if triggers_table.row_count else quiet_line


def _drill_line(drill: Mapping[str, Any]) -> str:
    last, coming = drill.get("last"), drill.get("next")
    parts = []
    if last:
        took = "failed" if last["answered_us"] is None else f"answered in {ms(last['answered_us'])}"
        parts.append(f"{last['at'][:16].replace('T', ' ')}Z {took if last['ok'] else 'NOT GOOD'}")
    if coming:
        parts.append(f"next {datetime.fromisoformat(coming).astimezone(UTC):%Y-%m-%d %H:%M}Z")
    return f"drill: {'; '.join(parts)}" if parts else ""


def _duration(since: str, now: datetime) -> str:
    seconds = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def print_status(status: Mapping[str, Any]) -> None:
    """Print the status of the daemon."""
    Console(highlight=False).print(StatusView(status))


def watch_status(ask: Callable[[], Mapping[str, Any]]) -> None:
    """Redraw the status until interrupted; while the daemon does not answer, show that."""
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        try:
            while True:
                try:
                    status = ask()
                    around = 8 + len(status["triggers"]) + len(list(troubles(status))) + len(status.get("why", ()))
                    live.update(StatusView(status, max(FEW_ROWS, console.height - around)), refresh=True)
                except KillSwitchError as error:
                    live.update(Text(printable.lines(str(error)), "bold red"), refresh=True)
                time.sleep(REFRESH_S)
        except KeyboardInterrupt:
            return
