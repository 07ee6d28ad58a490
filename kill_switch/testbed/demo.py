"""The demo: orders rest, a bot keeps quoting, the flag is touched, the kill and its proof are shown.

The command `demo` uses this. Everything runs on this machine: simulators, a daemon as its own process, no venue.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from kill_switch.config import loader
from kill_switch.core.domain import SweepTiming
from kill_switch.errors import KillSwitchError
from kill_switch.terminal import explain as explanation
from kill_switch.terminal import report_views, status_view
from kill_switch.testbed.config_files import THROUGH_CCXT, logins_for, simulator_of
from kill_switch.testbed.testbed import LocalTestbed
from kill_switch.venues import EVERY_VENUE, VENUES

DEFAULT_VENUES = tuple(sorted(VENUES))  # those with adapters of their own
# six with adapters of their own, ten through ccxt; few at the futures of Binance, whose limit they share
CCXT_BESIDE_OWN = (*sorted(THROUGH_CCXT), "ccxt:binance", *("ccxt:deribit", "ccxt:kraken", "ccxt:krakenfutures") * 3)
BOT_FOR_S = 2.0
BOT_EVERY_S = 0.1
CLEAR_WITHIN_S = 75.0  # where lists do not lag; a busy machine may use up a limit, which takes a minute to come back
QUIET_FOR_S = 0.6  # seconds after the bot has stopped in which all accounts stay clear and the books empty

Show = Callable[[str, Mapping[str, Any], Mapping[str, int]], None]


NEXT_STEPS = (
    ("kill-switch sim --venue kraken --write DIR", "simulators, and a configuration for a daemon of your own on them"),
    ("kill-switch run -c DIR/config.toml", "that daemon; then touch DIR/run/flag/KILL, and look at kill-switch status"),
    ("kill-switch init DIR --venue binance-usdm", "the configuration for your own account"),
)


def run(venues: Sequence[str], *, as_json: bool, orders: int, explain: bool = False) -> int:
    """Run the demo with an account for each of `venues`, which `require_playable` has passed.

    Return 0 if every account is proven clear, the books are empty and the latch held, else 1.
    """
    console = Console(stderr=as_json)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the context managers clean up
    began_s = time.monotonic()
    simulators = Counter(map(simulator_of, venues))
    with (
        LocalTestbed([*simulators], accounts=max(simulators.values())) as stage,
        _showing(console, quiet=as_json) as show,
    ):
        show("starting simulators and daemon", {}, {})
        logins = [*logins_for(stage.ready, venues)]
        stage.write_config(accounts=logins)
        timings = {
            name: account.adapter_class.timing(account.options)
            for name, account in loader.load(stage.config).accounts.items()
        }
        stage.start_daemon()
        books = [(simulator_of(venue), login["name"]) for _, venue, login in logins]
        for simulator, account in books:
            stage.rest(simulator, orders, account=account)
        known = stage.wait_for(lambda status: all(_has_seen(orders, a) for a in status["accounts"].values()), 15.0)
        show(f"{orders} orders rest in each account; armed and warm", known, _books(stage))
        if not as_json:
            time.sleep(1.0)  # so that a person can see this state
        bot = _Bot(stage, books)
        bot.start()
        stage.flag.write_text("demo: the flag was touched\n")
        status = _until_clear(stage, bot, show, within_s=CLEAR_WITHIN_S + longest_proof_s(timings.values()))
        refused = stage.ask(cmd="rearm", reason="demo")
        report = stage.ask(cmd="report")
        report["books"] = _books(stage)
    report["latch_held"] = status["state"] != "ARMED" and "error" in refused
    report["bot_orders"] = bot.placed
    report["took_s"] = round(time.monotonic() - began_s, 3)
    good = report["latch_held"] and status["state"] == "TRIPPED" and not any(report["books"].values())
    good = good and all(account["verdict"] == "CONFIRMED" for account in report["accounts"].values())
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _print_result(console, report, timings, refused, good, explain=explain)
    return 0 if good else 1


class _Bot(threading.Thread):
    """A bot that keeps quoting in every account during the kill, like a strategy that does not know of it."""

    def __init__(self, stage: LocalTestbed, books: Sequence[tuple[str, str]]) -> None:
        super().__init__(name="bot", daemon=True)
        self.placed = 0
        self._stage = stage
        self._books = books

    def run(self) -> None:
        until_s = time.monotonic() + BOT_FOR_S
        while time.monotonic() < until_s:
            for simulator, account in self._books:
                self._stage.rest(simulator, 1, account=account)
                self.placed += 1
            time.sleep(BOT_EVERY_S)


def _has_seen(orders: int, account: Mapping[str, Any]) -> bool:
    """Return whether the daemon knows of the orders; without a WebSocket, only a kill reads them for certain."""
    return (account["open_orders"] or 0) >= orders or not account["ws_connections"]["wanted"]


def require_playable(venues: Sequence[str]) -> None:
    """Raise ValueError for a venue without a simulator, and `KillSwitchError` if ccxt is not installed for it."""
    playable = (*DEFAULT_VENUES, *sorted(THROUGH_CCXT.values()))
    for venue in venues:
        if venue not in playable:
            raise ValueError(f"no simulator plays venue {venue!r}. Known: {', '.join(playable)}.")
        why, remedy = EVERY_VENUE[venue].why_unusable()
        if why:
            raise KillSwitchError(f"{venue} cannot be used here: {why}; {remedy}")


def longest_proof_s(timings: Iterable[SweepTiming]) -> float:
    """Return how many seconds the proof of the slowest of these accounts takes because its lists lag."""
    return max(timing.list_lag_s + 2 * timing.read_gap_s if timing.list_lag_s else 0.0 for timing in timings)


def _until_clear(stage: LocalTestbed, bot: _Bot, show: Show, *, within_s: float) -> Mapping[str, Any]:
    """Watch until everything is clear and stays clear after the bot's last order; return the last status."""
    until_s = time.monotonic() + within_s
    quiet_s = 0.0
    while True:
        status, books = stage.status(), _books(stage)
        doing = f"killing; the bot has placed {bot.placed} more orders" if bot.is_alive() else "the bot has stopped"
        show(doing, status, books)
        now_s = time.monotonic()
        if bot.is_alive() or status["state"] != "TRIPPED" or any(books.values()):
            quiet_s = now_s
        if now_s - quiet_s >= QUIET_FOR_S or now_s > until_s:
            return status
        time.sleep(0.05)


def _books(stage: LocalTestbed) -> dict[str, int]:
    return {venue: stage.book(venue) for venue in stage.venues}


@contextmanager
def _showing(console: Console, *, quiet: bool) -> Iterator[Show]:
    """Yield a function that shows progress: live on a terminal, a line a step elsewhere, nothing if `quiet`."""
    if quiet:
        yield lambda doing, status, books: None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=20, transient=True) as live:
            yield lambda doing, status, books: live.update(_view(doing, status, books))
    else:
        last_step = ""

        def print_step(doing: str, status: Mapping[str, Any], books: Mapping[str, int]) -> None:
            nonlocal last_step
            if doing.split(";")[0] != last_step:
                last_step = doing.split(";")[0]
                console.print(doing)

        yield print_step


def _view(doing: str, status: Mapping[str, Any], books: Mapping[str, int]) -> Group:
    book = Text("   ".join(f"{venue}: {count}" for venue, count in books.items()), "bold")
    head = [Text(doing, "bold"), Text.assemble("resting, by the simulators' own books   ", book), Text()]
    return Group(*head, status_view.StatusView(status)) if status else Group(*head)


def _print_result(
    console: Console,
    report: Mapping[str, Any],
    timings: Mapping[str, SweepTiming],
    refused: Mapping[str, Any],
    good: bool,
    *,
    explain: bool,
) -> None:
    console.print(report_views.report_view(report))
    if explain:
        explanation.print_explanation(explanation.REPORT_COLUMNS, explanation.REPORT_WORDS)
    books = ", ".join(f"{venue} {count}" for venue, count in report["books"].items())
    console.print(f"\nproof: the simulators' own books hold {books} resting orders")
    console.print(f"the bot placed {report['bot_orders']} orders after the flag; they are gone as well")
    latch = "held" if report["latch_held"] else "NOT HELD"
    console.print(f"the latch: {latch}; a re-arm was answered: {refused.get('error', 're-armed')}")
    for line in what_to_look_at(report, timings):
        console.print(line)
    verdict = Text("every account is proven clear", "bold green") if good else Text("SOMETHING IS LEFT", "bold red")
    console.print(Text.assemble("\n", verdict, f"   ({report['took_s']:.1f} s, all of it)"))
    console.print("\nnext:", style="bold")
    for command, does in NEXT_STEPS:
        console.print(Text.assemble("  ", (command, "cyan"), f"\n      {does}"))


def what_to_look_at(report: Mapping[str, Any], timings: Mapping[str, SweepTiming]) -> Iterator[str]:
    """Yield what the figures of the demo's report show, and why the proof took as long as it did."""
    accounts, sent_us = report["accounts"], report["last_sent_us"]
    if sent_us is not None:
        yield (
            f"look at `sent`: the commands of all {len(accounts)} accounts had left {report_views.ms(sent_us)} after "
            "the flag was seen; no command waits for another's answer"
        )
    lags = {name: timings[name].list_lag_s for name in accounts}
    prompt_us = [accounts[name]["clear_us"] for name, lag_s in lags.items() if not lag_s]
    if prompt_us and None not in prompt_us:
        yield (
            f"look at `clear`: {report_views.ms(max(prompt_us))} at venues whose lists are current, of which the bot "
            f"quoted on for {BOT_FOR_S:g} s; each of its orders was cancelled, and the proof begins after the last one"
        )
    if slow := [name for name, lag_s in lags.items() if lag_s]:
        most_s = max(lags[name] for name in slow)
        yield (
            f"it is longer at {', '.join(slow)}: the venue says that its lists may be up to {most_s:g} s old, so only "
            "reads that span this time prove anything"
        )
