"""Make the machine sick under the running daemon: stopped, disk full, read-only, slow to sync, hanging, starved.

Each run returns its figures; what the daemon did in its sickness is noted in words.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.harness.hanging_files import CannotHang
from tests.harness.hanging_files import hung as made_to_hang
from tests.system.e2e.conftest import HEARTBEAT

from .counters import Figures
from .daemon_fixture import Stand

VENUES = ("oxfun", "roxom")


class Skipped(Exception):
    """This machine cannot be made sick that way."""


@contextlib.contextmanager
def _playing(seed: int, extra: str = "") -> Iterator[Stand]:
    with Stand(VENUES, seed) as stand:
        stand.write_config(extra)
        yield stand


# ── stopped ───────────────────────────────────────────────────────────────────────────────────────────────────────


class _Beats(threading.Thread):
    """Beat as a strategy does, whether or not anybody listens."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="beats", daemon=True)
        self._path = path
        self._over = threading.Event()

    def run(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            while not self._over.wait(0.2):
                with contextlib.suppress(OSError):  # its queue is full, or nobody is there
                    sock.sendto(b"alive", str(self._path))

    def end(self) -> None:
        self._over.set()
        self.join()


def stopped(seed: int, rounds: int = 6) -> Figures:
    """Stop the process for seconds: armed it must not trip, and a kill that was under way, or is wanted, goes on."""
    with _playing(seed, HEARTBEAT) as stand:
        stand.start_daemon()
        figures = stand.figures
        for number in range(rounds):
            beats = _Beats(stand.runtime_dir / "intake.sock")
            beats.start()
            try:
                stand.wait(lambda s: s["triggers"]["alive"]["state"] == "ok", 5.0, "no beat is heard")
                stand.rest_some()
                stand.stop()
                time.sleep(stand.random.uniform(1.5, 3.0))
                stand.go_on()
                time.sleep(1.2)
                if stand.state() != "ARMED":
                    figures.false_trips += 1
                if number % 2:  # in the middle of a kill
                    stand.flag.touch()
                    time.sleep(stand.random.uniform(0, 0.1))
                    stand.stop()
                else:  # before it
                    stand.stop()
                    stand.flag.touch()
                time.sleep(stand.random.uniform(1.5, 3.0))
                stand.go_on()
                stand.expect_clear("stopped")
                figures.rounds += 1
                stand.rearm()
            finally:
                beats.end()
        return figures


# ── the disk ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _mounted(path: Path, *options: str) -> Iterator[None]:
    """Mount a small file system there."""
    if os.geteuid() or not shutil.which("mount"):
        raise Skipped("mounting takes root")
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(path)], capture_output=True)
    if done.returncode:
        raise Skipped(f"cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        path.chmod(0o750)
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _disk(stand: Stand, spoil: Callable[[], None], mend: Callable[[], None] | None) -> None:
    """Spoil the disk under the armed daemon, and kill; then mend it, if that can be, and look into the record."""
    figures = stand.figures
    stand.rest_some()
    spoil()
    stand.flag.touch()
    stand.expect_clear("with a spoiled disk")
    what = "status says that the journal is ok, and it lacks what has happened"
    status = stand.wait(lambda s: s["journal"] != "ok" or _all_told(stand), 3.0, what)
    figures.notes.append(f"status said: {status and status['journal']}")
    figures.rounds += 1
    if mend is not None:
        mend()
        stand.wait(lambda s: s["journal"] == "ok", 10.0, "the journal is not written again")
        if not stand.latched():
            figures.latches_lost += 1
        stand.rearm()


def _all_told(stand: Stand) -> bool:
    """Say whether the record is whole: what is left of its last page on a full disk may have been enough."""
    return b'"kind":"all-clear"' in (stand.state_dir / "journal.jsonl").read_bytes().splitlines()[-1]


def _restart(stand: Stand, what: str) -> None:
    """Start again without the flag: it must be tripped, by whatever it has left behind."""
    figures = stand.figures
    stand.flag.unlink(missing_ok=True)
    stand.rest_some(3)
    stand.start_daemon(wait=False)
    status = stand.wait(lambda s: True, 15.0, f"{what}: no answer")
    if status is None or status["state"] == "ARMED":
        figures.latches_lost += 1
    stand.expect_clear(what)
    figures.rounds += 1


def _verify(stand: Stand) -> None:
    verified = stand.command("journal", "--verify")
    if verified.exit_code:
        stand.figures.chains_broken += 1
        stand.figures.failures.append(verified.err or verified.out)


def full(seed: int) -> Figures:
    """Fill the state directory's disk to the last byte; restart on it; give it room again."""
    with _playing(seed) as stand, _mounted(stand.state_dir, "-t", "tmpfs", "-o", "size=512k", "tmpfs"):
        filler = stand.state_dir / "filler"

        def spoil() -> None:
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 512)

        stand.start_daemon()
        _disk(stand, spoil, filler.unlink)
        _verify(stand)
        _disk(stand, spoil, None)
        stand.kill()
        _restart(stand, "started on the full disk")
        stand.kill()
        filler.unlink()
        _restart(stand, "started on the disk with room again")
        _verify(stand)
        stand.rearm()
        return stand.figures


def readonly(seed: int) -> Figures:
    """Have the state directory's file system turn read-only by itself, as ext4 does after an I/O error."""
    if not shutil.which("mkfs.ext4"):
        raise Skipped("there is no mkfs.ext4")
    with _playing(seed) as stand:
        image = stand.directory / "disk"
        image.write_bytes(bytes(8 << 20))
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)

        def spoil() -> None:
            mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
            device = next(fields[0] for fields in mounts if fields[1] == str(stand.state_dir))
            Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("1")

        with _mounted(stand.state_dir, "-o", "loop,errors=remount-ro", str(image)):
            stand.start_daemon()
            _disk(stand, spoil, None)
            stand.kill()
            refused = stand.command("run")
            stand.figures.notes.append(f"a start on it: exit {refused.exit_code}, {refused.err.strip()}")
        with _mounted(stand.state_dir, "-o", "loop,errors=remount-ro", str(image)):
            _restart(stand, "started on the mended disk")
            _verify(stand)
            stand.rearm()
            stand.kill()
        return stand.figures


def slow_sync(seed: int, seconds: float = 3.0) -> Figures:
    """Have each `fdatasync` take seconds: the record is in the page cache, and the kill does not wait."""
    with _playing(seed) as stand:
        figures = stand.figures
        _start_through(stand, {"KILL_SWITCH_TEST_SYNC_S": str(seconds)})
        for _ in range(3):
            stand.rest_some()
            stand.flag.touch()
            stand.expect_clear("slow sync")
            report = stand.ask(cmd="report")
            worst_us = max(account["clear_us"] or 10**9 for account in report["accounts"].values())
            figures.notes.append(f"sent after {report['last_sent_us']} us, all clear after {worst_us} us")
            if report["last_sent_us"] > seconds * 5e5 or worst_us > seconds * 1e6:
                figures.failures.append(f"the kill waited for the disk: {report['last_sent_us']} us, {worst_us} us")
            figures.rounds += 1
            stand.rearm()
        stand.flag.touch()
        time.sleep(0.05)
        stand.kill()  # within the sync
        if not stand.latched():
            figures.latches_lost += 1
        stand.flag.unlink()
        _start_through(stand, {"KILL_SWITCH_TEST_SYNC_S": str(seconds)})
        stand.expect_clear("killed within a sync")
        figures.rounds += 1
        return figures


def hung(seed: int) -> Figures:
    """Have every call into the state directory hang: a kill waits for none, and what stands in memory has it."""
    with _playing(seed) as stand:
        figures, hangs = stand.figures, stand.directory / "hangs"
        _start_through(stand, {"KILL_SWITCH_TEST_HANGS": str(hangs), "KILL_SWITCH_TEST_STATE": str(stand.state_dir)})
        for killed in (False, True):
            stand.rest_some()
            hangs.touch()
            if killed:  # the thread is in the middle of a call already
                stand.wait(lambda s: "does not answer" in s["journal"], 5.0, "nobody says that the directory hangs")
            stand.flag.touch()
            began_s = time.monotonic()
            stand.expect_clear("with a directory that hangs")
            figures.notes.append(f"all clear after {time.monotonic() - began_s:.2f} s, with a directory that hangs")
            stand.wait(lambda s: "does not answer" in s["journal"], 5.0, "nobody says that the directory hangs")
            figures.rounds += 1
            if killed:
                stand.kill()
                hangs.unlink()
                break
            hangs.unlink()
            stand.wait(lambda s: s["journal"] == "ok", 10.0, "the journal is not written again")
            _verify(stand)
            stand.rearm()
        if not stand.latched():
            figures.latches_lost += 1
        _restart(stand, "killed while the directory hung")
        _verify(stand)
        return figures


def _start_through(stand: Stand, environ: Mapping[str, str]) -> None:
    """Start the daemon behind the layer that injects faults into its process."""
    with stand.log.open("ab") as log:
        command = [sys.executable, "-m", "tests.system.crash.slow_fsync_launcher", "run", "-c", str(stand.config)]
        stand.daemon = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **environ})
    stand.until_ready()


# ── file systems that hang ───────────────────────────────────────────────────────────────────────────────────────────


def hanging(seed: int) -> Figures:
    """Have the file system of each directory hang in turn, as when a file server is gone, and kill meanwhile."""
    other = '[triggers.other]\nkind = "flag"\npath = "{0}/KILL"\non_blind = "alarm"\n'
    with Stand(VENUES, seed) as stand:
        directory = stand.directory / "other"
        directory.mkdir()
        stand.write_config(other.format(directory))
        stand.start_daemon()
        figures = stand.figures
        for place in (directory, stand.runtime_dir, stand.state_dir):
            stand.rest_some()
            try:
                with made_to_hang(place):
                    time.sleep(stand.random.uniform(1.5, 3.0))  # every look that comes round has begun
                    os.kill(stand.pid, signal.SIGUSR1)
                    began_s = time.monotonic()
                    while stand.open_orders() and time.monotonic() < began_s + 10.0:
                        time.sleep(0.005)
                    took_ms = (time.monotonic() - began_s) * 1e3
                    left = stand.open_orders()
            except CannotHang as why:
                raise Skipped(str(why)) from None
            figures.notes.append(f"{place.name} hangs: {left} orders left after {took_ms:.0f} ms")
            figures.orders_left += left
            stand.expect_clear(f"when {place.name} answers again")
            if not stand.latched():
                figures.latches_lost += 1
            figures.rounds += 1
            stand.rearm()
        return figures


# ── starvation ────────────────────────────────────────────────────────────────────────────────────────────────────


def descriptors(seed: int, rounds: int = 3) -> Figures:
    """Leave the daemon no file descriptor beyond those that it holds: the warm lanes need none."""
    with _playing(seed) as stand:
        stand.start_daemon()
        figures = stand.figures
        for _ in range(rounds):
            stand.rest_some()
            before = resource.prlimit(stand.pid, resource.RLIMIT_NOFILE)
            highest = max(int(name) for name in os.listdir(f"/proc/{stand.pid}/fd"))
            resource.prlimit(stand.pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
            _hang_on(stand)
            stand.flag.touch()
            began_s = time.monotonic()
            while stand.open_orders() and time.monotonic() < began_s + 10.0:
                time.sleep(0.02)
            took_s = time.monotonic() - began_s
            figures.notes.append(f"without a descriptor: {stand.open_orders()} orders left after {took_s:.2f} s")
            figures.orders_left += stand.open_orders()
            resource.prlimit(stand.pid, resource.RLIMIT_NOFILE, before)
            stand.expect_clear("with descriptors again")
            figures.rounds += 1
            stand.rearm()
        return figures


def _hang_on(stand: Stand) -> None:
    """Ask for connections that the daemon has no descriptor to take."""
    for _ in range(8):
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.settimeout(0.1)
            sock.connect(str(stand.runtime_dir / "control.sock"))
            sock.sendall(b'{"cmd":"status"}\n')
            sock.recv(10)


def memory(seed: int) -> Figures:
    """Leave the daemon no memory to speak of: it goes on, or it dies and the restart resumes."""
    with _playing(seed) as stand:
        figures = stand.figures
        for spare_kib in (0, 256, 4096):
            if stand.daemon is None:
                stand.start_daemon(wait=False)
            stand.until_ready()
            stand.rest_some()
            size = int(Path(f"/proc/{stand.pid}/statm").read_text().split()[0]) * 4096
            resource.prlimit(stand.pid, resource.RLIMIT_AS, (size + spare_kib * 1024, resource.RLIM_INFINITY))
            stand.flag.touch()
            until_s = time.monotonic() + 3.0
            while stand.daemon is not None and time.monotonic() < until_s:
                time.sleep(0.05)
                if stand.daemon.poll() is not None:
                    stand.daemon.wait()
                    stand.daemon = None
            left = stand.open_orders()
            alive = stand.daemon is not None
            figures.notes.append(f"{spare_kib} KiB spare: {'alive' if alive else 'died'}, {left} orders left after 3 s")
            if alive:  # as the watchdog or the machine's own killer would
                stand.kill()
            latched = stand.latched()
            if latched:
                stand.flag.unlink()
            elif left == 0:
                figures.strikes_without_record += 1
            stand.start_daemon(wait=False)
            stand.expect_clear("with memory again")
            figures.rounds += 1
            stand.rearm()
        return figures


ALL: Mapping[str, Callable[[int], Figures]] = {
    "stopped": stopped,
    "full": full,
    "readonly": readonly,
    "slow-sync": slow_sync,
    "hanging": hanging,
    "hung": hung,
    "descriptors": descriptors,
    "memory": memory,
}
