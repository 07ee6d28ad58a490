"""Show the status for a person who has five seconds: the state, what is wrong, then accounts and triggers.

The command `status` and the demo use this. The worst line comes first. On a narrow terminal the view shows less, never
something else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from kill_switch import printable
from kill_switch.core.wholeness import is_whole
from kill_switch.errors import KillSwitchError
from kill_switch.terminal import streams
from kill_switch.terminal.moments import moment
from kill_switch.terminal.report_views import WIDE, ms, number, table, word

REFRESH_S = 0.5
PROMPT = 2  # lines of the terminal that are left for the prompt, so that the first line stays on the screen
FEW = (3, 2, 1)  # items of each list that are shown at least: the first number with which all fits on the terminal
SEVERITY = ("RESIDUE", "STRIKING", "CONFIRMING", "CLEAR", "ARMED")
HEADS = {
    "ARMED": "bold black on green",
    "TRIPPED": "bold black on yellow",
    "FIRING": "bold white on red",
    "RESIDUE": "bold white on red",
}
ACCOUNT_COLUMNS = ("account", "venue", "state", "lanes", "orders", "round trip", "drill", "clock")
NARROW_COLUMNS = ("account", "state", "lanes", "orders")
TRIGGER_COLUMNS = ("trigger", "state", "detail")
NOT_WHOLE = "bold black on yellow"
NEXT = {
    "ARMED": 'to kill: kill-switch fire --reason "…"',
    "TRIPPED": 'clear, and guarded: kill-switch report; then kill-switch rearm --reason "…"',
    "FIRING": "orders are being cancelled and read back: kill-switch status --watch",
    "RESIDUE": "the daemon goes on cancelling: kill-switch status --watch",
}
TRIGGER_ORDER = ("tripped", "blind", "silenced", "waiting")  # the first is shown first; any other is fine
MORE = "kill-switch status --all"


class StatusView:
    """The view of a status answer for the console's width; with a `height` it has no more lines than that.

    The worst items of each list come first, and those that do not fit are counted.
    """

    def __init__(
        self,
        status: Mapping[str, Any],
        height: int | None = None,
        now: datetime | None = None,
        zone: tzinfo | None = None,
        with_config: Callable[[str], str] = str,
    ) -> None:
        """`zone` is the reader's, by default that of the process.

        `with_config` adds to the commands in a text the options that the reader needs.
        """
        self._with_config = with_config
        self._status = printable.mapping(status)
        self._height = height
        self._now = now or datetime.now(UTC)
        self._zone = zone

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        def lines(*parts: RenderableType) -> int:
            return sum(len(console.render_lines(part, options, pad=False)) for part in parts)

        wide, parts = options.max_width >= WIDE, list[RenderableType]()
        for few in FEW:
            parts = list(self._parts(few, lines, wide=wide))
            if self._height is None or lines(*parts) <= self._height:
                break
        yield from parts

    def _parts(self, few: int, lines: Callable[..., int], *, wide: bool) -> Iterator[RenderableType]:
        """Yield the parts from top to bottom; each list shows at least `few` items, and more if there is room."""

        def fitting(build: Callable[[int], RenderableType], count: int, room: int) -> RenderableType:
            shown = count
            if self._height is not None:
                shown = min(count, max(few, room))
                while shown > min(count, few) and lines(build(shown)) > room:
                    shown -= 1
            return build(shown)

        accounts, triggers, problems = self._status["accounts"], self._status["triggers"], list(described(self._status))
        ends = [*self._drill(), Text(self._with_config(NEXT[headline(self._status)[0]]), "dim")]
        bad = min(few, sum(not _is_fine(account) for account in accounts.values()))
        odd = min(few, sum(trigger["state"] != "ok" for trigger in triggers.values()))
        for_triggers = 2 + odd if triggers else 0  # lines: the table's head, its rows, and the line of those not shown
        room = (self._height or 0) - lines(self._head(), *ends) - (3 if triggers else 2)

        yield self._head()
        reasons = self._status.get("why", ())
        if reasons:
            part = fitting(lambda shown: self._reasons(reasons, shown), len(reasons), few)
            room -= lines(part)
            yield part
        if problems:
            part = fitting(lambda shown: self._problems(problems, shown), len(problems), room - 2 - bad - for_triggers)
            room -= lines(part)
            yield part
        yield Text()
        part = fitting(lambda shown: self._accounts(wide, shown), len(accounts), room - for_triggers)
        room -= lines(part)
        yield part
        if triggers:
            yield Text()
            yield fitting(lambda shown: self._triggers(wide, shown), len(triggers), room)
        yield Text()
        yield from ends

    def _head(self) -> Text:
        state, words = headline(self._status)
        accounts = self._status["accounts"]
        ready = sum(account["ready"] for account in accounts.values())
        whole = state != "ARMED" or is_whole(self._status)
        return Text.assemble(
            (f" {state}{'' if whole else ', but not whole'} ", HEADS[state] if whole else NOT_WHOLE),
            f"{words and f' {words}'} for {_duration(self._status['since'], self._now)}  ",
            (f"{ready}/{len(accounts)} ready", "green" if ready == len(accounts) else "bold red"),
        )

    def _reasons(self, reasons: Sequence[Mapping[str, Any]], shown: int) -> RenderableType:
        lines = [
            Text.assemble(
                "because ",
                (f"{moment(reason['observed_at'], self._now, self._zone)} ", "dim"),
                (f"{reason['trigger']}: ", "bold"),
                reason["text"],
            )
            for reason in reasons[:shown]
        ]
        hidden = len(reasons) - shown
        return Group(
            *lines, *([Text(self._with_config(f"and {hidden} more: kill-switch report"), "dim")] if hidden > 0 else [])
        )

    def _problems(self, problems: Sequence[Mapping[str, Any]], shown: int) -> RenderableType:
        lines = [Text.assemble(("! ", "bold red"), *self._problem(problem)) for problem in problems[:shown]]
        hidden = len(problems) - shown
        return Group(*lines, *([Text(self._more(f"! and {hidden} more"), "bold red")] if hidden > 0 else []))

    def _problem(self, problem: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the parts of a line: the account, the fact with its consequence, the command, the page."""
        about = problem.get("account") or problem.get("trigger", "")
        kind = "trigger " if problem.get("trigger") else ""
        when = f" ({moment(problem['at'], self._now, self._zone)})" if problem.get("at") else ""
        yield f"{kind}{about}{': ' if about else ''}{problem['text']}{when}", "bold red"
        if problem.get("do"):
            yield f" → {problem['do']}", ""
        if problem.get("page"):
            yield f" [{problem['page']}]", "dim"

    def _accounts(self, wide: bool, count: int) -> RenderableType:
        accounts = sorted(self._status["accounts"].items(), key=lambda item: _severity(item[1]))
        accounts_table = table(*(ACCOUNT_COLUMNS if wide else NARROW_COLUMNS))
        for name, account in accounts[:count]:
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
        if count >= len(accounts):
            return accounts_table
        hidden = Counter(account["state"] for _, account in accounts[count:])
        words = ", ".join(f"{n} more {state}" for state, n in hidden.items())
        bad = sum(not _is_fine(account) for _, account in accounts[count:])
        return Group(accounts_table, Text(self._more(f"and {words}{f', {bad} not ready' if bad else ''}"), "dim"))

    def _triggers(self, wide: bool, count: int) -> RenderableType:
        triggers_table = table(*TRIGGER_COLUMNS)
        ordered = sorted(self._status["triggers"].items(), key=lambda item: _trigger_rank(item[1]))
        hidden = Counter[str]()
        for position, (name, trigger) in enumerate(ordered):
            if position >= count or (not wide and trigger["state"] == "ok"):
                hidden[trigger["state"]] += 1
                continue
            title = f"{name} ({trigger['kind']})" if wide else name
            triggers_table.add_row(title, word(trigger["state"]), Text(str(trigger["detail"])))
        if not hidden:
            return triggers_table
        counted = ", ".join(f"{n} trigger{'s' if n > 1 else ''} {state}" for state, n in hidden.items())
        is_fine = set(hidden) == {"ok"}
        line = Text(
            counted if is_fine and not wide else self._more(f"and {counted}"), "green" if is_fine else "bold red"
        )
        return Group(triggers_table, line) if triggers_table.row_count else line

    def _more(self, words: str) -> str:
        """Return the line that counts what is not shown, with the command that shows it."""
        return self._with_config(f"{words}: {MORE}")

    def _drill(self) -> list[Text]:
        """Return the line of the last and the next drill, if there is either."""
        drill = self._status.get("drill") or {}
        last, coming = drill.get("last"), drill.get("next")
        parts = []
        if last:
            took = "failed" if last["answered_us"] is None else f"answered in {ms(last['answered_us'])}"
            parts.append(f"{moment(last['at'], self._now, self._zone)} {took if last['ok'] else 'NOT GOOD'}")
        if coming:
            parts.append(f"next {moment(coming, self._now, self._zone)}")
        return [Text(f"drill: {'; '.join(parts)}", "dim")] if parts else []


def headline(status: Mapping[str, Any]) -> tuple[str, str]:
    """Return the word of the first line, and how many accounts and orders it is about."""
    accounts = status["accounts"].values()
    left = [account for account in accounts if account["state"] == "RESIDUE"]
    if left:
        counts = [account["open_orders"] for account in left]
        orders = sum(count for count in counts if count is not None)
        known = f"{orders}{' or more' if None in counts else ''} order{'' if orders == 1 else 's'} left"
        return "RESIDUE", f"{len(left)} of {len(accounts)}, {known if orders else 'orders may be left'}"
    hit = sum(account["state"] != "ARMED" for account in accounts)
    return status["state"], f"{hit} of {len(accounts)}" if 0 < hit < len(accounts) else ""


def described(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the problems of an answer; a daemon of an earlier version has lines of troubles instead."""
    if "problems" in status:
        yield from status["problems"]
        return
    for name, account in status["accounts"].items():
        for route, why in account.get("trouble", {}).items():
            if account["lanes"][route] != "up":
                yield {"account": name, "text": f"{route}: {why}"}
    for name, trigger in status["triggers"].items():
        if trigger["state"] == "blind":
            yield {"trigger": name, "text": f"blind: {trigger['detail']}"}
    if status.get("journal", "ok") != "ok":
        yield {"text": str(status["journal"])}
    yield from ({"text": line} for line in status.get("trouble", ()))


def _is_fine(account: Mapping[str, Any]) -> bool:
    return bool(account["state"] == "ARMED" and account["ready"] and account.get("killable", True))


def _trigger_rank(trigger: Mapping[str, Any]) -> int:
    state = trigger["state"]
    return TRIGGER_ORDER.index(state) if state in TRIGGER_ORDER else len(TRIGGER_ORDER)


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


def _duration(since: str, now: datetime) -> str:
    seconds = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def print_status(
    status: Mapping[str, Any], *, everything: bool = False, with_config: Callable[[str], str] = str
) -> None:
    """Print the status of the daemon: on a terminal no more than fits on its screen, unless `everything` is wanted.

    Elsewhere all is printed, and each problem is one line, however long, so that a script can read it.
    """
    console = Console(highlight=False)
    if console.is_terminal and not everything:
        console.print(StatusView(status, max(1, console.height - PROMPT), with_config=with_config))
    else:
        console.print(StatusView(status, with_config=with_config), soft_wrap=not console.is_terminal)


def watch_status(ask: Callable[[], Mapping[str, Any]], with_config: Callable[[str], str] = str) -> None:
    """Redraw the status until interrupted, or until nobody reads it; while the daemon does not answer, show that."""
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        try:
            while True:
                try:
                    live.update(StatusView(ask(), console.height, with_config=with_config), refresh=True)
                except KillSwitchError as error:
                    steps = getattr(error, "steps", "")
                    live.update(Text(printable.lines(with_config(f"{error}\n{steps}")), "bold red"), refresh=True)
                streams.require_output()
                time.sleep(REFRESH_S)
        except (KeyboardInterrupt, streams.OutputLostError):
            return
