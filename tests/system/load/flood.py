"""Flood the intake or the control socket while kills go out: `python -m tests.system.load.flood`, for the intake.

Prints how many datagrams were sent, what they did to the time from `touch` to the last command's arrival at a venue
(medians), and by how much the daemon has grown.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from kill_switch.testbed.testbed import LocalTestbed

FLOODER = """
import socket, sys, time
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
sock.connect(sys.argv[1])
noise = [b"nobody", b'{"beat":"nobody"}', b"\\\\xff" * 200, b'{"pnl":"none","equity":"1"}', b"[" * 3000]
sent = refused = 0
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    for datagram in noise * 20:
        try:
            sock.send(datagram)
            sent += 1
        except BlockingIOError:
            refused += 1
print(sent, refused)
"""

ASKER = """
import socket, sys, threading, time
end = time.monotonic() + float(sys.argv[2])
answered = [0]
def ask():
    while time.monotonic() < end:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(sys.argv[1])
                answers = sock.makefile("rb")
                while time.monotonic() < end:
                    sock.sendall(b'{"cmd":"status"}\\n')
                    if not answers.readline():
                        break
                    answered[0] += 1
        except OSError:
            pass
threads = [threading.Thread(target=ask) for _ in range(64)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(answered[0])
"""


class Figures(NamedTuple):
    sent: int  # datagrams that the kernel took, or requests that were answered
    per_s: float
    quiet_ms: float
    flooded_ms: float
    grown_kib: int


def measure(
    stage: LocalTestbed, seconds: float, kills: int, *, script: str = FLOODER, where: str = "intake.sock"
) -> Figures:
    """Kill some times in quiet, and as often during a flood; the daemon of `stage` is armed before and after.

    `script` floods the socket `where` in the runtime directory.
    """
    assert stage.daemon is not None
    quiet_ms = statistics.median(kill(stage) for _ in range(kills))
    before_kib = _resident_kib(stage.daemon.pid)
    command = [sys.executable, "-c", script, str(stage.runtime_dir / where), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flooder:
        time.sleep(0.2)
        flooded = [kill(stage) for _ in range(kills)]
        while flooder.poll() is None:
            flooded.append(kill(stage))
        out, _ = flooder.communicate(timeout=10)
    sent = int(out.split()[0])
    grown_kib = _resident_kib(stage.daemon.pid) - before_kib
    return Figures(sent, sent / seconds, quiet_ms, statistics.median(flooded), grown_kib)


def kill(stage: LocalTestbed) -> float:
    """Touch the flag; return the milliseconds until the last venue had its whole command, and re-arm."""
    for venue in stage.venues:
        stage.rest(venue, 1)
    stage.admin("DELETE", "/requests")
    touched_ns = time.monotonic_ns()
    stage.flag.touch()
    stage.wait_for(lambda s: s["state"] == "TRIPPED", 10.0)
    stage.flag.unlink()
    arrived: list[int] = []
    for venue in stage.venues:
        seen = stage.admin("GET", f"/requests?venue={venue}")
        arrived.append(min(r["t_ns"] for r in seen if r["what"].startswith("cancel")))
    time.sleep(0.3)  # for the flag's trigger to see that it has gone
    answer = stage.ask(cmd="rearm", reason="again")
    assert "rearmed" in answer, answer
    return (max(arrived) - touched_ns) / 1e6


def _resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def main() -> int:
    with LocalTestbed(["oxfun", "roxom"]) as stage:
        stage.write_config()
        stage.start_daemon()
        for _ in range(3):
            kill(stage)
        figures = measure(stage, seconds=20.0, kills=15)
    sys.stdout.write(
        f"{figures.sent} datagrams, {figures.per_s:.0f}/s; touch → last received: {figures.quiet_ms:.2f} ms in quiet, "
        f"{figures.flooded_ms:.2f} ms in the flood; the daemon has grown by {figures.grown_kib} KiB\n"
    )
    return 0 if figures.flooded_ms < figures.quiet_ms + 5 and figures.grown_kib < 4096 else 1


if __name__ == "__main__":
    sys.exit(main())
