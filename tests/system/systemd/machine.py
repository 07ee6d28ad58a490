"""Boot a whole systemd in a container over this machine's own root, and throw both away afterwards.

The root is an overlay: a tmpfs above, this machine's root below, so that nothing here is changed and nothing has to be
downloaded. `KILL_SWITCH_SYSTEMD_ROOT` names another root below, for another systemd. The network is this machine's, so
that simulators outside of the container can be the venues.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).parents[3]
LOWER = Path(os.environ.get("KILL_SWITCH_SYSTEMD_ROOT", "/"))  # the root that the container's is made from
PREFIX = "kill-switch-machine-"  # then the pid of whoever has made it
BOOT_WITHIN_S = 30
STATES = ("running", "degraded", "starting")  # "starting": the kill switch itself is not READY yet


def why_not() -> str | None:
    """Return why no container can be booted here; None if one can be."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root can boot a container"
    needed = "systemd-nspawn systemd-id128 nsenter setpriv mount umount useradd runuser chroot".split()
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install systemd-container)"
    if not (LOWER / "lib/systemd/systemd").exists():
        return f"systemd is not installed in {LOWER}"
    if python() is None:
        return "no Python 3.11 or later with venv that all users may run"
    return None


def python() -> str | None:
    """Return a Python for the service: outside of /root and /home, which a service with ProtectHome= cannot see."""
    try_it = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    for path in ("/usr/bin/python3", "/usr/local/bin/python3", os.path.realpath(sys.executable)):
        if os.path.realpath(path).startswith(("/root/", "/home/")):
            continue
        command = ["chroot", str(LOWER), path, "-c", try_it]
        if subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0:
            return path
    return None


def sweep() -> None:
    """Unmount and remove what a test run that was killed has left; its container has died with it."""
    for top in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = top.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            discard(top)


def discard(top: Path) -> None:
    """Unmount and remove a machine's directory; never what is below a mount."""
    mounts = (top / "root", top / "overlay")
    for path in mounts:
        for options in ([], ["--lazy"]):
            if os.path.ismount(path):
                subprocess.run(["umount", *options, str(path)], capture_output=True, timeout=30, check=False)
    if not any(map(os.path.ismount, mounts)):
        shutil.rmtree(top, ignore_errors=True)


class Machine:
    """One container; `close` ends it and unmounts, whatever state it is in."""

    def __init__(self) -> None:
        sweep()
        self._top = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.init = 0  # the container's process 1, as seen from outside
        self.root = self._top / "root"
        try:
            self._mount()
            self._furnish()
        except BaseException:
            self.close()
            raise

    # ── what tests do with it ─────────────────────────────────────────────────────────────────────────────────────

    def run(
        self, script: str, *, user: str = "", timeout_s: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside, as root or as a user with all of that user's groups."""
        environ = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            **{key: value for key, value in os.environ.items() if key.startswith("PIP_")},
        }
        shell = ["runuser", "-u", user, "--"] if user else []
        command = ["nsenter", "-t", str(self.init), "-a", *shell, "/bin/sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=timeout_s, check=False)
        assert done.returncode == 0 or not check, f"{script}\n{done.stdout}\n{done.stderr}"
        return done

    def ask(self, script: str, **options: str) -> str:
        """Return what a script prints; its exit code does not matter."""
        return self.run(script, user=options.get("user", ""), check=False).stdout.strip()

    def until(self, done: Callable[[], bool], within_s: float, what: str) -> float:
        """Wait for something, and return how many seconds that took."""
        began = time.monotonic()
        while not done():
            assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
            time.sleep(0.1)
        return time.monotonic() - began

    def outside(self, pid: str) -> int:
        """Return the number that a process of the container has out here."""
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                inside = re.search(r"^NSpid:\t(\d+)\t.*\b(\d+)$", path.read_text(), re.MULTILINE)
                if inside and inside[2] == pid and os.readlink(path.parent / "ns/pid") == self._namespace():
                    return int(inside[1])
            except OSError:  # it has ended meanwhile
                continue
        raise AssertionError(f"no process {pid} in the container")

    @property
    def runs(self) -> bool:
        return self._nspawn is not None and self._nspawn.poll() is None

    def boot(self) -> None:
        """Start the container and wait until its systemd answers; it ends when whoever started it does."""
        here = ["--register=no", "--keep-unit"]  # where process 1 is not systemd, nobody could register it
        if Path("/run/systemd/system").exists():
            here = [f"--machine=kill-switch-test-{os.getpid()}"]
        command = ["setpriv", "--pdeathsig", "KILL", "systemd-nspawn", "--quiet", "--console=pipe"]
        command += ["-D", str(self.root), *here]
        with (self._top / "console").open("ab") as console:
            self._nspawn = subprocess.Popen(
                [*command, "--boot", "systemd.unit=multi-user.target"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self.until(self._up, BOOT_WITHIN_S, "the container has booted")

    def power_off(self) -> None:
        """Shut the container down in good order."""
        self.run("systemctl poweroff", check=False)
        self._wait()

    def power_cut(self) -> None:
        """Kill everything in the container at once."""
        if self.init:
            os.kill(self.init, signal.SIGKILL)
        self._wait()

    def close(self) -> None:
        """End the container and remove all of it."""
        nspawn, self._nspawn = self._nspawn, None
        try:
            if nspawn is not None and nspawn.poll() is None:
                os.kill(self.init or nspawn.pid, signal.SIGKILL)
                nspawn.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            if nspawn is not None:
                nspawn.kill()
                nspawn.wait(timeout=10)
        finally:
            discard(self._top)

    # ── how it is made ────────────────────────────────────────────────────────────────────────────────────────────

    def _mount(self) -> None:
        overlay = self._top / "overlay"
        overlay.mkdir()
        self.root.mkdir()
        self._call("mount", "-t", "tmpfs", "-o", "size=2G", "tmpfs", str(overlay))
        (overlay / "upper").mkdir()
        (overlay / "work").mkdir()
        layers = f"lowerdir={LOWER},upperdir={overlay}/upper,workdir={overlay}/work"
        self._call("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))

    def _furnish(self) -> None:
        """Make it a machine of its own that starts nothing but systemd, with the project in /src."""
        etc = self.root / "etc"
        (etc / "machine-id").unlink(missing_ok=True)
        (etc / "machine-id").write_text(self._call("systemd-id128", "new"))
        (etc / "fstab").write_text("")
        for wants in (*etc.glob("systemd/system/*.wants"), *etc.glob("systemd/system/*.requires")):
            shutil.rmtree(wants)
        for name in ("systemd-networkd", "systemd-resolved", "systemd-timesyncd", "systemd-networkd-wait-online"):
            self._mask(f"{name}.service")
        for name in ("systemd-networkd.socket", "getty.target", "console-getty.service", "postgresql.service"):
            self._mask(name)
        for left in ("opt/kill-switch", "etc/kill-switch", "var/lib/kill-switch", "src"):
            shutil.rmtree(self.root / left, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("kill_switch", "systemd", "docs/guides", "requirements"):
            shutil.copytree(PROJECT / name, self.root / "src" / name, ignore=ignored)
        for name in ("pyproject.toml", "LICENSE", "README.md"):
            path = PROJECT / name
            (self.root / "src" / name).write_text(path.read_text("utf-8") if path.exists() else "", "utf-8")

    def _mask(self, name: str) -> None:
        link = self.root / "etc/systemd/system" / name
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")

    def _up(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, (self._top / "console").read_text("utf-8", "replace")[-2000:]
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return False
        self.init = int(children[0])
        return self.ask("systemctl is-system-running") in STATES

    def _namespace(self) -> str:
        return os.readlink(f"/proc/{self.init}/ns/pid")

    def _wait(self) -> None:
        assert self._nspawn is not None
        self._nspawn.wait(timeout=60)
        self.init = 0

    def _call(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout
