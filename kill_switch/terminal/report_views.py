"""Show reports, drills, checks, dry runs and the journal on a terminal.

The commands and the demo use these views. The worst line comes first and is red. On a narrow terminal a view shows
less, never something else; text from outside is made printable before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kill_switch import printable
from kill_switch.journal import segments

WIDEST = 10_000  # columns; no terminal has so many
WIDE = 72  # columns; on a narrower terminal a view shows less
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
    "silenced": "bold red",
    "up": "green",
    "connecting": "yellow",
    "down": "bold red",
}


def word(text: str) -> Text:
    """Return one of the product's state words in its colour."""
    return Text(text, style=COLOURS.get(text, ""))


def ms(us: int | None) -> str:
    """Format microseconds as milliseconds; from 10 s on, as seconds."""
    return "–" if us is None else f"{us / 1000:,.1f} ms" if us < 10_000_000 else f"{us / 1e6:,.1f} s"


def number(value: object) -> str:
    """Format a number that may be unknown."""
    return "?" if value is None else str(value)


def table(*columns: str) -> Table:
    """Return an empty table without lines, with these columns."""
    new_table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in columns:
        right = column in _RIGHT
        new_table.add_column(column, no_wrap=column not in _LONG, overflow="fold", justify="right" if right else "left")
    return new_table


ATTEMPTS_SHOWN = 3  # refused strikes shown an account; --json has more
ORDERS_SHOWN = 3  # ids of gone orders shown an account; --json has more
_RIGHT = {"orders", "round trip", "sent", "answered", "clear", "strikes", "gone", "left"}
_LONG = {"account", "trigger", "detail", "evidence", "reason"}


def report_view(report: Mapping[str, Any]) -> RenderableType:
    """Return the view of one kill: reasons, times against the budget, accounts, and orders left."""
    report = printable.mapping(report)
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
    lines = [line for name, account in report["accounts"].items() for line in _details(name, account)]
    # padded, so that a wrapped text cannot look like a line of ours
    details = [Padding(Text(line), (0, 0, 0, 2)) for line in lines]
    blank = [Text()] if details else []
    return Group(
        Text(f"kill {report['id']}", "bold"),
        *reasons,
        *_head(report),
        budget,
        Text(),
        _AccountTable(report["accounts"]),
        *blank,
        *details,
    )


class _AccountTable:
    """The accounts of a report; on a narrow terminal it lacks columns, so that no name is broken."""

    COLUMNS = ("account", "verdict", "state", "sent", "answered", "clear", "strikes", "gone", "left", "by")
    LESS_NEEDED = ("by", "strikes", "gone")  # in the order in which they are left out

    def __init__(self, accounts: Mapping[str, Mapping[str, Any]]) -> None:
        self._accounts = accounts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for count in range(len(self.LESS_NEEDED) + 1):
            shown = self._table([each for each in self.COLUMNS if each not in self.LESS_NEEDED[:count]])
            needs = Measurement.get(console, options.update(max_width=WIDEST), shown).maximum
            if needs <= options.max_width or count == len(self.LESS_NEEDED):
                yield shown
                return

    def _table(self, columns: Sequence[str]) -> Table:
        shown = table(*columns)
        for name, account in self._accounts.items():
            cells: dict[str, str | Text] = {
                "account": name,
                "verdict": word(account["verdict"]),
                "state": word(account["state"]),
                "sent": ms(account["sent_us"]),
                "answered": ms(account["answered_us"]),
                "clear": ms(account["clear_us"]),
                "strikes": str(account["strikes"]),
                "gone": "–" if account["cancelled"] is None else str(account["cancelled"]),
                "left": Text(number(account["left"]), "green" if account["left"] == 0 else "bold red"),
                "by": "+".join(account["routes"]) or "–",
            }
            shown.add_row(*(cells[column] for column in columns))
        return shown


def _head(report: Mapping[str, Any]) -> Iterator[Text]:
    """Yield who fired, the scope, the configuration, and who re-armed; unknown facts are left out."""
    if by := report.get("by"):
        whose = f", {_person(by)}" if by["uid"] is not None else ""
        file = f", whose file is of {by['at']}" if by["at"] else ""
        yield Text(f"by {by['trigger']}{whose}{file}")
    if scope := report.get("scope"):
        config = report.get("config")
        under = f"; configuration {config[: segments.SHOWN_DIGITS]}" if config else ""
        yield Text(f"scope {_few(scope)}{under}")
    if rearmed := report.get("rearmed"):
        forced = ", forced" if rearmed["forced"] else ""
        approvals = [_person(approval) for approval in rearmed["approvals"][:-1]]
        agreed = f", with the approval of {', '.join(approvals)}" if approvals else ""
        words = f"re-armed {_few(rearmed['accounts'])} at {rearmed['at']} by {_person(rearmed)}{forced}{agreed}"
        yield Text(f"{words}: {rearmed['text']}")
        if rearmed["left"]:
            yield Text(f"still tripped: {_few(rearmed['left'])}", "yellow")
    elif "rearmed" in report:
        yield Text("not re-armed", "yellow")


def _problems(report: Mapping[str, Any]) -> Iterator[Text]:
    """Yield what keeps the kill from being proven, latched and recorded, with the command against each."""
    for problem in report.get("problems", ()):
        yield Text(f"! {printable.line(problem['text'])}", "bold red")
        yield Text(f"  {printable.line(problem['do'])}", "red")


def _person(known: Mapping[str, Any]) -> str:
    named = known["user"] is not None and known["user"] != str(known["uid"])
    return f"{known['user']} (uid {known['uid']})" if named else f"uid {known['uid']}"


def _few(names: Sequence[str], most: int = 20) -> str:
    """List names; of more than `most`, the first ones and the number of the others."""
    others = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + others


def _details(name: str, account: Mapping[str, Any]) -> Iterator[str]:
    """Yield the strikes that the venue has not accepted, and the fate of the orders."""
    failed = [strike for strike in account.get("attempts", ()) if strike["answer"] != "ACCEPTED"]
    for strike in failed[:ATTEMPTS_SHOWN]:
        after = "" if strike["answered_us"] is None else f" after {ms(strike['answered_us'])}"
        words = f": {strike['evidence']}" if strike["evidence"] else ""
        sent = (
            "not sent"
            if strike["sent_us"] is None
            else f"sent after {ms(strike['sent_us'])} by {'+'.join(strike['routes'])}"
        )
        yield f"{name}: strike {strike['strike']}, {sent}: {strike['answer'] or 'no answer'}{after}{words}"
    if len(failed) > ATTEMPTS_SHOWN:
        yield f"{name}: and {len(failed) - ATTEMPTS_SHOWN} more strikes that were not accepted"
    cancelled, claimed = account["cancelled"], account.get("claimed")
    if ids := account.get("cancelled_ids"):
        others = f" and {cancelled - ORDERS_SHOWN} more" if cancelled > ORDERS_SHOWN else ""
        yield f"{name}: gone: {', '.join(ids[:ORDERS_SHOWN])}{others}"
    if claimed is not None and claimed != cancelled:
        yield f"{name}: the venue claims {claimed} cancelled orders, all strikes together"


def print_report(report: Mapping[str, Any]) -> None:
    """Print the report of a kill, if there is one, and its problems."""
    if report:
        console = Console()
        console.print(report_view(report))
        for line in _problems(report):
            console.print(line, soft_wrap=True)  # so that a command is not broken over two lines


class DrillView:
    """A drill's view: each lane's round trip against the budget, failures first, for the console's width."""

    COLUMNS = ("account", "venue", "lane", "round trip", "budget", "evidence")
    NARROW = ("account", "lane", "round trip", "budget")

    def __init__(self, drill: Mapping[str, Any], *, is_partial: bool = False) -> None:
        """Make it; partial, if an account of the configuration was not probed."""
        self._drill = printable.mapping(drill)
        self._every = "each lane above" if is_partial else "every lane"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        drill, wide = self._drill, options.max_width >= WIDE
        lanes_table = table(*(self.COLUMNS if wide else self.NARROW))
        below: list[Text] = []
        for name, account in sorted(drill["accounts"].items(), key=lambda item: item[1]["ok"]):
            about = (name, account["venue"]) if wide else (name,)
            if account["skipped"]:
                below.append(Text(f"! {name} was not drilled: {account['skipped']}", "yellow"))
            for route, lane in account["lanes"].items():
                style = "green" if lane["within_budget"] else "bold red"
                kept = "FAILED" if not lane["ok"] else "within" if lane["within_budget"] else "OVER"
                evidence = Text(lane["evidence"], "" if lane["ok"] else "red")
                if lane["ok"]:  # because it is the refusal of a command that could not hit anything
                    evidence.append_text(Text(" (expected)", "dim"))
                row = (*about, route, ms(lane["rtt_us"]), Text(kept, style))
                lanes_table.add_row(*row, *((evidence,) if wide else ()))
                if not wide and not lane["ok"]:
                    below.append(Text(f"! {name} {route}: {lane['evidence']}", "red"))
        good = Text(f"{self._every} would carry a kill", "bold green")
        verdict = good if drill["ok"] else Text("NOT GOOD", "bold red")
        last = "" if drill["answered_us"] is None else f", the last after {ms(drill['answered_us'])}"
        yield lanes_table
        yield from below
        yield Text()
        yield Text.assemble(verdict, f"{last}; the budget is {ms(drill['budget_us'])}")


def print_drill(drill: Mapping[str, Any]) -> None:
    """Print the result of a drill."""
    Console(highlight=False).print(DrillView(drill))


def key_sentence(rights: Mapping[str, Any]) -> str:
    """Describe the rights of a key, which are as `Adapter.key_rights` has them."""
    if not rights:
        return "the venue does not say what the key may do"
    words = ("cancel", "trade", "read", "withdraw")
    may, may_not = ([word for word in words if rights.get(word) is value] for value in (True, False))
    parts = [f"the key may {', '.join(may) or 'do nothing'}"] + ([f"not {', '.join(may_not)}"] if may_not else [])
    if "ip_bound" in rights:
        parts.append("it is bound to addresses" if rights["ip_bound"] else "it is bound to no address")
    if "expires" in rights:
        parts.append(f"it expires: {rights['expires']}")
    return "; ".join(parts)


def check_view(check: Mapping[str, Any]) -> RenderableType:
    """Return the view of `check --connect`: the accounts that are not ready, with reasons, then the drill."""
    check = printable.mapping(check)
    lines: list[RenderableType] = []
    if check["via"] == "daemon":
        lines.append(Text("checked through the running daemon, over its own connections", "dim"))
    for name, account in check["accounts"].items():
        if not account["ready"]:
            why = "; ".join(f"{route}: {text}" for route, text in account["trouble"].items()) or "no reason is known"
            lines.append(Text(f"{name} ({account['venue']}) is NOT READY: {why}", "bold red"))
    lines += [Text(f"{name}: {key_sentence(account.get('key', {}))}") for name, account in check["accounts"].items()]
    lines += [Text(f"! {warning}", "yellow") for warning in check.get("warnings", ())]
    if check["drill"] is not None:
        lines += [DrillView(check["drill"], is_partial=check["accounts"].keys() > check["drill"]["accounts"].keys())]
    if cold := [name for name, account in check["accounts"].items() if not account["ready"]]:
        lines.append(Text(f"NOT GOOD: not ready: {', '.join(cold)}", "bold red"))
    if check.get("error"):
        lines.append(Text(check["error"], "bold red"))
    return Group(*lines)


def print_check(check: Mapping[str, Any]) -> None:
    """Print the result of `check --connect`."""
    Console(highlight=False).print(check_view(check))


def dry_run_view(answer: Mapping[str, Any], orders: int = 20) -> RenderableType:
    """Return the view of a dry run: orders and commands; at most `orders` orders an account are listed."""
    answer = printable.mapping(answer)
    lines: list[RenderableType] = [Text("a kill would hit this; nothing was changed", "bold")]
    for name, account in answer["accounts"].items():
        listed = account["orders"]
        count = f"{len(listed)} order{'' if len(listed) == 1 else 's'}" if account["orders_known"] else "orders UNKNOWN"
        state = f", {account['state']}" if account.get("state") else ""
        style = "" if account["orders_known"] else "bold red"
        lines += [Text(), Text.assemble((f"{name} ", "bold"), f"({account['venue']}{state}): ", (count, style))]
        if account["orders_why"]:
            lines.append(_indented(account["orders_why"], "yellow"))
        if listed and not account["orders_known"]:
            lines.append(_indented(f"known so far: {len(listed)}", "yellow"))
        lines += [_indented(f"{order['id']}  {order['symbol']}  {order['status']}") for order in listed[:orders]]
        if len(listed) > orders:
            lines.append(_indented(f"… and {len(listed) - orders} more (--json lists all)", "dim"))
        lines += [_indented(f"would send: {_cut(line)}", "cyan") for line in account["would_send"]]
    return Group(*lines)


def _cut(line: str, limit: int = 240) -> str:
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _indented(line: str, style: str = "") -> RenderableType:
    return Padding(Text(line, style), (0, 0, 0, 2))


def print_dry_run(answer: Mapping[str, Any]) -> None:
    """Print the orders that a kill would hit, and the commands that it would send."""
    Console(highlight=False).print(dry_run_view(answer))
