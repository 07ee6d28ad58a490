"""Measure the daemon as its own process: from a flag, a missing heartbeat or a shell to the last command received.

`runner` calls it for `bench --end-to-end`. It starts the daemon by `kill-switch run`, unchanged, with sixteen accounts
at three simulated venues. Between two kills all accounts are proven clear and re-armed; `bare_flag` shows the lower
bound of this machine.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kill_switch.control import paths
from kill_switch.errors import KillSwitchError
from kill_switch.testbed.testbed import LocalTestbed, stop_process

ACCOUNTS = {"crosstrade": 8, "oxfun": 4, "kraken-futures": 4}  # whose limits have room for kills without a break
MAX_ROUNDS = 40
BEAT_TIMEOUT_S = 0.2
IDLE_S = 60.0
CLEAR_WITHIN_S = 15.0
SEEN_WITHIN_S = 10.0
BEATS = f"""
[triggers.alive]
kind = "heartbeat"
timeout = "{BEAT_TIMEOUT_S * 1000:.0f}ms"
"""


@contextmanager
def apart() -> Iterator[int]:
    """Pin this process and its later children to one core; yield the core for the simulators.

    On a machine with one core, both are the same.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    try:
        yield cores[-1]
    finally:
        os.sched_setaffinity(0, cores)


def measure(rounds: int, log: Callable[[str], None], *, idle_s: float = IDLE_S) -> dict[str, object]:
    """Measure, and return `end_to_end`, `flag_limit`, `idle` and `shell`, as `bench --json` prints them.

    `rounds` is the number of kills per trigger. `log` receives a line of progress for each step.
    """
    from kill_switch.bench.runner import percentiles

    size = sum(ACCOUNTS.values())
    options = ["oxfun.limits=off", "crosstrade.burst=0"]
    with (
        apart() as core,
        LocalTestbed(list(ACCOUNTS), accounts=max(ACCOUNTS.values()), options=options, core=core) as stage,
    ):
        stage.write_config(BEATS, only=_some(stage))
        log(f"{rounds} times as little as can be done at a flag")
        limit = {"accounts": size, "received_us": percentiles(_bare(stage, size, rounds))}
        stage.start_daemon()
        log(f"the daemon idles for {idle_s:g} s")
        idle = {"accounts": size, **_idle(stage, idle_s)}
        shell = {"fire_ms": 0.0, "python_ms": _fastest_ms([sys.executable, "-c", "pass"])}
        rows = []
        for trigger, fire in (("flag", _touch), ("heartbeat", _fall_silent), ("fire", _shell)):
            log(f"{rounds} kills by {trigger}")
            took_us = [_kill(stage, size, fire) for _ in range(rounds + 1)][1:]
            rows.append({"trigger": trigger, "accounts": size, "received_us": percentiles(took_us)})
            if fire is _shell:
                shell["fire_ms"] = round(statistics.median(took_us) / 1000, 1)
    return {"end_to_end": rows, "flag_limit": limit, "idle": idle, "shell": shell}


def _some(stage: LocalTestbed) -> set[str]:
    """Return the names of as many accounts of each venue as `ACCOUNTS` states; the simulators have more."""
    names: set[str] = set()
    for venue, count in ACCOUNTS.items():
        names.update([name for name, at, _ in stage.accounts() if at == venue][:count])
    return names


def _bare(stage: LocalTestbed, size: int, rounds: int) -> list[float]:
    """Return the times of the process that only watches the flag, in µs."""
    command = [sys.executable, "-m", "kill_switch.bench.bare_flag", str(stage.config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own command
    try:
        if not process.stdout or not process.stdout.readline():
            raise KillSwitchError("the process that the daemon is compared with did not start")
        took_us = []
        for _ in range(rounds + 1):
            took_us.append(_received_us(stage, size, _touch))
            stage.flag.unlink()
        return took_us[1:]
    finally:
        stop_process(process)


def _kill(stage: LocalTestbed, size: int, fire: Callable[[LocalTestbed], int]) -> float:
    """Kill once and return its time in µs; then wait until all is clear, and re-arm."""
    took_us = _received_us(stage, size, fire)
    stage.flag.unlink(missing_ok=True)
    stage.wait_for(lambda s: s["state"] == "TRIPPED" and _still(s), CLEAR_WITHIN_S)
    answer = stage.ask(cmd="rearm", reason="next round")
    if "rearmed" not in answer:
        raise KillSwitchError(f"not re-armed between two rounds: {answer.get('error')}")
    return took_us


def _received_us(stage: LocalTestbed, size: int, fire: Callable[[LocalTestbed], int]) -> float:
    """Fire, and return the time from the reason to the arrival of the last account's first command, in µs."""
    stage.admin("DELETE", "/requests")
    time.sleep(0.1)
    began_ns = fire(stage)
    until_s = time.monotonic() + SEEN_WITHIN_S
    received: list[int] = []
    while len(received) < size and time.monotonic() < until_s:
        time.sleep(0.05)
        received = [r["t_ns"] for r in stage.admin("GET", "/requests") if r["what"].startswith("cancel")]
    if len(received) < size:
        raise KillSwitchError(f"only {len(received)} of {size} cancels arrived")
    return (sorted(received)[size - 1] - began_ns) / 1000


def _still(status: dict[str, object]) -> bool:
    """Return whether every account is clear and no flag is present."""
    accounts, triggers = status["accounts"], status["triggers"]
    assert isinstance(accounts, dict)  # noqa: S101 - our own JSON
    assert isinstance(triggers, dict)  # noqa: S101 - our own JSON
    return all(a["state"] == "CLEAR" for a in accounts.values()) and triggers["panic"]["state"] == "ok"


def _touch(stage: LocalTestbed) -> int:
    began_ns = time.monotonic_ns()  # before the call, because the daemon may have fired when it returns
    stage.flag.touch()
    return began_ns


def _fall_silent(stage: LocalTestbed) -> int:
    """Send heartbeats for a while; return when the time-out of the last one expires, in monotonic ns."""
    last_ns = time.monotonic_ns()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for _ in range(3):
            time.sleep(BEAT_TIMEOUT_S / 4)
            sock.sendto(b"alive", str(stage.runtime_dir / paths.INTAKE_SOCKET))
            last_ns = time.monotonic_ns()
    return last_ns + int(BEAT_TIMEOUT_S * 1e9)


def _shell(stage: LocalTestbed) -> int:
    command = [str(Path(sys.executable).with_name("kill-switch")), "fire", "-c", str(stage.config)]
    began_ns = time.monotonic_ns()
    subprocess.run([*command, "--reason", "bench", "--wait", "0", "--json"], stdout=subprocess.DEVNULL, check=False)  # noqa: S603
    return began_ns


def _fastest_ms(command: list[str]) -> float:
    """Return the median time of ten runs of a command, in ms."""
    took: list[float] = []
    for _ in range(10):
        began_s = time.monotonic()
        subprocess.run(command, check=True)  # noqa: S603 - our own interpreter
        took.append((time.monotonic() - began_s) * 1000)
    return round(statistics.median(took), 1)


def _idle(stage: LocalTestbed, seconds: float) -> dict[str, float]:
    """Measure the idle daemon: its share of one core in percent, and its resident memory in MiB."""
    assert stage.daemon is not None  # noqa: S101 - `measure` has started it
    process = Path("/proc") / str(stage.daemon.pid)

    def cpu_s() -> float:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    time.sleep(1.0)
    before_s, began_s = cpu_s(), time.monotonic()
    time.sleep(seconds)
    percent = 100 * (cpu_s() - before_s) / (time.monotonic() - began_s)
    pages = int((process / "statm").read_text().split()[1])
    return {"cpu_percent": round(percent, 2), "rss_mib": round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)}
