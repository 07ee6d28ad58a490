"""Keep three real Binance accounts tripped at one address, beside a bot that uses half of their shared pool.

    python -m tests.system.load.shared_pool --minutes 10

A real daemon guards two accounts of USD-M and one of COIN-M at real simulators, whose pool of 2400 units a minute is
enforced. The accounts are tripped as soon as they are ready, and their orders outlive every cancel until the last
minute ends. The command prints what the daemon used in each minute, in which the start is included. Exit code 1 if it
used more than half of the pool within any 60 s, if the venue refused a request, or if the last cancel or its proof came
too late.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from kill_switch.errors import KillSwitchError
from kill_switch.testbed.testbed import LocalTestbed

VENUES = {"binance-usdm": 2, "binance-coinm": 1}  # accounts of each
ACCOUNTS = ("binance-usdm1", "binance-usdm2", "binance-coinm1")
USDM, COINM = VENUES
POOL = 2400  # units that an address may use in a minute
BOT_PER_S = 20  # units: half of the pool
MINUTE_S = 60.0
READY_WITHIN_S = 60.0  # a busy machine takes long to load a process
GONE_WITHIN_S = 40.0  # a strike leaves at least every 30 s
CLEAR_WITHIN_S = 120.0  # lists may lag by 20 s, and each clean read may wait for room

Line = Mapping[str, Any]


def run(minutes: float, symbols: int, wait_s: float) -> list[str]:
    """Trip the accounts for so many minutes; return the verdict's complaints, none if all is well."""
    with LocalTestbed(tuple(VENUES), accounts=max(VENUES.values())) as stage:
        stage.write_config(only=ACCOUNTS)
        _start_bot(stage, wait_s)
        for venue in VENUES:
            for symbol in stage.venues[venue]["symbols"][:symbols]:
                for login in _names(stage, venue):
                    stage.rest(venue, 3, account=login, symbol=symbol)
        stage.admin("POST", "/faults", venue=USDM, fault="accept_but_keep", account=_names(stage, USDM)[1])
        stage.admin("POST", "/faults", venue=USDM, fault="requote", times=10**9)
        stage.admin("POST", "/faults", venue=COINM, fault="accept_but_keep")
        stage.admin("DELETE", "/requests")
        began_ns = time.monotonic_ns()
        stage.start_daemon(wait=False)
        stage.wait_for(lambda s: all(account["ready"] for account in s["accounts"].values()), READY_WITHIN_S)
        ready_s = (time.monotonic_ns() - began_ns) / 1e9
        stage.ask(cmd="fire", reason="the shared pool")
        lines = _watch(stage, began_ns, minutes)
        phases = {name: account["state"] for name, account in stage.status()["accounts"].items()}
        for venue in VENUES:
            for fault in ("accept_but_keep", "requote"):
                stage.admin("DELETE", f"/faults?venue={venue}&fault={fault}")
        ended_s = time.monotonic()
        gone_s = _wait(lambda: not any(map(stage.book, VENUES)), ended_s, GONE_WITHIN_S)
        clear_s = _wait(lambda: _are_clear(stage), ended_s, CLEAR_WITHIN_S)
        lines += _take_log(stage)
        figures = {
            "ready_s": round(ready_s, 2),
            "phases": phases,
            "most_in_60_s": most_within(lines, MINUTE_S),
            "refused": Counted.of(lines),
            "gone_after_s": gone_s,
            "clear_after_s": clear_s,
        }
        print(json.dumps(figures), flush=True)
        return _judge(figures)


class Counted:
    """Count what the venue has refused for its limit: such a request is not authenticated."""

    @staticmethod
    def of(lines: Iterable[Line]) -> dict[str, int]:
        """Return the number of refused requests by their operation."""
        counts: dict[str, int] = {}
        for line in lines:
            if not line["ok"] and line["account"] is None:
                counts[line["what"]] = counts.get(line["what"], 0) + 1
        return counts


def most_within(lines: Iterable[Line], seconds: float) -> int:
    """Return the largest weight of requests within so many seconds."""
    window: deque[tuple[int, float]] = deque()
    used = most = 0.0
    for line in lines:
        window.append((line["t_ns"], line["weight"]))
        used += line["weight"]
        while window[0][0] <= line["t_ns"] - seconds * 1e9:
            used -= window.popleft()[1]
        most = max(most, used)
    return round(most)


def _names(stage: LocalTestbed, venue: str) -> list[str]:
    entry = stage.venues[venue]
    return [entry["name"], *(login["name"] for login in entry["accounts"])][: VENUES[venue]]


def _start_bot(stage: LocalTestbed, wait_s: float) -> None:
    """Let another program use half of the pool from now on, and wait until a whole minute is full of it."""
    url = stage.venues[USDM]["rest_url"]
    httpx.get(f"{url}/fapi/v1/ping", verify=stage.ready["ca_file"], trust_env=False)  # the venue knows the address
    stage.admin("POST", "/faults", venue=USDM, fault="foreign_use", per_s=BOT_PER_S)
    time.sleep(wait_s)


def _watch(stage: LocalTestbed, began_ns: int, minutes: float) -> list[Line]:
    """Print each minute's use, from the start of the daemon on; return the log of all requests."""
    lines: list[Line] = []
    print(f"{'minute':>6}{'ours':>7}{'cancels':>9}{'reads':>7}{'refused':>9}", flush=True)
    for minute in range(round(minutes)):
        time.sleep(max(0.0, began_ns / 1e9 + (minute + 1) * MINUTE_S - time.monotonic()))
        lines += _take_log(stage)
        first_ns = began_ns + int(minute * MINUTE_S * 1e9)
        these = [line for line in lines if first_ns <= line["t_ns"] < first_ns + MINUTE_S * 1e9]
        cancels = sum(line["weight"] for line in these if line["what"].startswith("cancel"))
        ours = sum(line["weight"] for line in these)
        refused = sum(Counted.of(these).values())
        print(f"{minute + 1:>6}{ours:>7.0f}{cancels:>9.0f}{ours - cancels:>7.0f}{refused:>9}", flush=True)
    return lines


def _take_log(stage: LocalTestbed) -> list[Line]:
    lines: list[Line] = stage.admin("GET", "/requests")
    stage.admin("DELETE", "/requests")
    return lines


def _are_clear(stage: LocalTestbed) -> bool:
    return {account["state"] for account in stage.status()["accounts"].values()} == {"CLEAR"}


def _wait(is_true: Any, since_s: float, within_s: float) -> float | None:
    """Return after how many seconds something is true; None: not in time."""
    while (passed_s := time.monotonic() - since_s) < within_s:
        if is_true():
            return round(passed_s, 1)
        time.sleep(0.1)
    return None


def _judge(figures: Mapping[str, Any]) -> list[str]:
    wrong = []
    if figures["most_in_60_s"] > POOL / 2:
        wrong.append(f"the daemon used {figures['most_in_60_s']} units within 60 s, more than {POOL // 2}")
    if figures["refused"]:
        wrong.append(f"the venue refused requests: {figures['refused']}")
    if set(figures["phases"].values()) != {"RESIDUE"}:
        wrong.append(f"not every account was in RESIDUE: {figures['phases']}")
    if figures["gone_after_s"] is None:
        wrong.append(f"orders are left {GONE_WITHIN_S:g} s after the fault ended")
    if figures["clear_after_s"] is None:
        wrong.append(f"not every account is CLEAR {CLEAR_WITHIN_S:g} s after the fault ended")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep three Binance accounts in RESIDUE beside a bot, on one pool.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--symbols", type=int, default=40, help="with three orders each, at each account")
    parser.add_argument("--bot-first-s", type=float, default=60.0, help="seconds that the bot runs before the daemon")
    given = parser.parse_args()
    try:
        wrong = run(given.minutes, given.symbols, given.bot_first_s)
    except KillSwitchError as error:
        wrong = [str(error)]
    for line in wrong:
        print(line, file=sys.stderr)
    print("FAILED" if wrong else "PASSED", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
