"""Measure the daemon as its own process: from a touch, a heartbeat's end and a shell to the last command received.

The daemon is what `run` starts, with sixteen accounts at three simulated venues. Between two kills it proves them all
clear and is armed again. Before that, a process that only watches for the flag and writes (`bare`) shows what this
machine needs at the least.
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
from kill_switch.testbed.testbed import Stage, end

ACCOUNTS = {"crosstrade": 8, "oxfun": 4, "roxom": 4}
MOST_ROUNDS = 40
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
    """Stay on one core, with what is started from here on, and name another one, where there is one, for simulators."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    try:
        yield cores[-1]
    finally:
        os.sched_setaffinity(0, cores)


def measure(rounds: int, log: Callable[[str], None], *, idle_s: float = IDLE_S) -> dict[str, object]:
    """Return `end_to_end`, `flag_limit`, `idle` and `shell`, as `bench --json` prints them."""
    from kill_switch.bench.runner import percentiles

    size = sum(ACCOUNTS.values())
    options = ["oxfun.limits=off", "crosstrade.burst=0"]
    with apart() as core, Stage(list(ACCOUNTS), accounts=max(ACCOUNTS.values()), options=options, core=core) as stage:
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


def _some(stage: Stage) -> set[str]:
    """Name as many accounts of each venue as are wanted: the simulators have as many everywhere."""
    names: set[str] = set()
    for venue, count in ACCOUNTS.items():
        names.update([name for name, at, _ in stage.accounts() if at == venue][:count])
    return names


def _bare(stage: Stage, size: int, rounds: int) -> list[float]:
    """Return what it takes a process that does nothing else."""
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
        end(process)


def _kill(stage: Stage, size: int, fire: Callable[[Stage], int]) -> float:
    """Kill once, and make ready for the next; return what it took."""
    took_us = _received_us(stage, size, fire)
    stage.flag.unlink(missing_ok=True)
    stage.wait_for(lambda s: s["state"] == "TRIPPED" and _still(s), CLEAR_WITHIN_S)
    answer = stage.ask(cmd="rearm", reason="next round")
    if "rearmed" not in answer:
        raise KillSwitchError(f"not re-armed between two rounds: {answer.get('error')}")
    return took_us


def _received_us(stage: Stage, size: int, fire: Callable[[Stage], int]) -> float:
    """Return microseconds from the reason to the arrival of the last account's first command."""
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
    """Every account is clear, and no flag is seen."""
    accounts, triggers = status["accounts"], status["triggers"]
    assert isinstance(accounts, dict)  # noqa: S101 - our own JSON
    assert isinstance(triggers, dict)  # noqa: S101 - our own JSON
    return all(a["state"] == "CLEAR" for a in accounts.values()) and triggers["panic"]["state"] == "ok"


def _touch(stage: Stage) -> int:
    began_ns = time.monotonic_ns()  # not when it returns: the daemon may have struck by then
    stage.flag.touch()
    return began_ns


def _fall_silent(stage: Stage) -> int:
    """Beat for a while; return when the time-out of the last beat runs out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for _ in range(3):
            time.sleep(BEAT_TIMEOUT_S / 4)
            sock.sendto(b"alive", str(stage.runtime_dir / paths.INTAKE_SOCKET))
            last_ns = time.monotonic_ns()
    return last_ns + int(BEAT_TIMEOUT_S * 1e9)


def _shell(stage: Stage) -> int:
    command = [str(Path(sys.executable).with_name("kill-switch")), "fire", "-c", str(stage.config)]
    began_ns = time.monotonic_ns()
    subprocess.run([*command, "--reason", "bench", "--wait", "0", "--json"], stdout=subprocess.DEVNULL, check=False)  # noqa: S603
    return began_ns


def _fastest_ms(command: list[str]) -> float:
    """Return the median of ten runs of a command."""
    took: list[float] = []
    for _ in range(10):
        began_s = time.monotonic()
        subprocess.run(command, check=True)  # noqa: S603 - our own interpreter
        took.append((time.monotonic() - began_s) * 1000)
    return round(statistics.median(took), 1)


def _idle(stage: Stage, seconds: float) -> dict[str, float]:
    """Watch the daemon do nothing: the share of a core, and what is resident at the end."""
    assert stage.daemon is not None  # noqa: S101 - it was started
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
