"""A testbed on this machine: simulators in one process, the daemon in another, keys and configuration in a directory.

The demo, the benchmark and the end-to-end tests use it. It ends the processes that it started, and no others.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from kill_switch.client import control_socket
from kill_switch.control import paths
from kill_switch.errors import KillSwitchError, Unreachable
from kill_switch.testbed import config_files
from kill_switch.testbed.config_files import Login

START_WITHIN_S = 45.0  # a machine of two cores that is busy takes 20 s for sixteen accounts
STOP_WITHIN_S = 20.0


class LocalTestbed:
    """Simulators, a daemon and a temporary directory, for as long as the context is open."""

    def __init__(
        self, venues: Sequence[str], *, accounts: int = 1, options: Sequence[str] = (), core: int | None = None
    ) -> None:
        """Plan simulators of these venues; `core` is the processor that they are to run on, None for any."""
        self.directory = Path(tempfile.mkdtemp(prefix="kill-switch-"))
        self.state_dir = self.directory / "state"
        self.runtime_dir = self.directory / "run"
        self.runtime_dir.mkdir()
        self.flag = self.runtime_dir / "KILL"
        self.config = self.directory / "config.toml"
        self.log = self.directory / "daemon.log"
        self.ready: dict[str, Any] = {}
        self.daemon: subprocess.Popen[bytes] | None = None
        self.simulators: subprocess.Popen[bytes] | None = None
        self._core = core
        self._command = ["--accounts", str(accounts)]
        for venue in venues:
            self._command += ["--venue", venue]
        for option in options:
            self._command += ["--option", option]
        self._admin: httpx.Client | None = None

    def __enter__(self) -> Self:
        try:
            self._start_simulators()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in (self.daemon, self.simulators):
            if process is not None:
                stop_process(process)
        if self._admin is not None:
            self._admin.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # ── the simulators ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def venues(self) -> dict[str, Any]:
        """Return the simulators' ready line, by venue."""
        venues: dict[str, Any] = self.ready["venues"]
        return venues

    def admin(self, method: str, path: str, **body: object) -> Any:
        """Call the simulators' admin API; raise `KillSwitchError` with its text if it refuses."""
        if self._admin is None:
            self._admin = httpx.Client(base_url=self.ready["admin"], timeout=10.0, trust_env=False)
        answer = self._admin.request(method, path, content=json.dumps(body) if body else None)
        if answer.status_code != 200:
            raise KillSwitchError(f"{method} {path}: {answer.text[:200]}")
        return answer.json()

    def rest(self, venue: str, count: int, **extra: object) -> list[str]:
        """Rest `count` orders at a venue; return their ids."""
        ids: list[str] = self.admin("POST", "/orders", venue=venue, count=count, **extra)["ids"]
        return ids

    def book(self, venue: str) -> int:
        """Return how many orders rest in a venue's own book."""
        count: int = self.admin("GET", f"/orders?venue={venue}")["open"]
        return count

    def _start_simulators(self) -> None:
        command = [sys.executable, "-m", "kill_switch", "sim", *self._command, "--tls-dir", str(self.directory / "tls")]
        self.simulators = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own command
        if self._core is not None:
            os.sched_setaffinity(self.simulators.pid, {self._core})
        line = self.simulators.stdout.readline() if self.simulators.stdout else b""
        if not line:
            raise KillSwitchError("the simulators did not start")
        self.ready = json.loads(line)

    # ── the daemon ────────────────────────────────────────────────────────────────────────────────────────────────

    def accounts(self) -> Iterator[Login]:
        """Yield every account of every simulator."""
        yield from config_files.logins(self.ready)

    def write_config(
        self,
        extra: str = "",
        daemon: str = "",
        only: Collection[str] | None = None,
        accounts: Iterable[Login] | None = None,
    ) -> None:
        """Write a configuration for all accounts, with key files, the flag trigger, and `extra` TOML at the end.

        With `only`, for the accounts of these names; with `accounts`, for these instead of one for each simulated one.
        """
        layout = config_files.Layout(self.config, self.directory, self.state_dir, self.runtime_dir, self.flag)
        logins = self.accounts() if accounts is None else accounts
        chosen = (login for login in logins if only is None or login[0] in only)
        config_files.write(layout, self.ready, chosen, daemon=daemon, extra=extra)

    def start_daemon(self, *, wait: bool = True) -> None:
        """Start the daemon in its own process; with `wait`, return once every account is ready."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "kill_switch", "run", "-c", str(self.config)]
            self.daemon = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603 - our own
        if wait:
            self.wait_for(lambda s: all(account["ready"] for account in s["accounts"].values()), START_WITHIN_S)

    def ask(self, **request: object) -> dict[str, Any]:
        # a re-arm reads each account first
        path = self.runtime_dir / paths.CONTROL_SOCKET
        return control_socket.send_request(path, request, timeout_s=40.0, silent_after_s=40.0)  # it may be busy

    def status(self) -> dict[str, Any]:
        return self.ask(cmd="status")

    def wait_for(self, true: Callable[[dict[str, Any]], bool], within_s: float) -> dict[str, Any]:
        """Return the first status for which `true` holds.

        Raises `KillSwitchError` with the daemon's log if there is none within `within_s` seconds.
        """
        until_s = time.monotonic() + within_s
        status: dict[str, Any] = {}
        while time.monotonic() < until_s:
            if self.daemon is not None and self.daemon.poll() is not None:
                break
            try:
                status = self.status()
                if true(status):
                    return status
            except Unreachable:
                pass
            time.sleep(0.02)
        log = self.log.read_text() if self.log.exists() else ""
        raise KillSwitchError(
            f"the daemon did not reach the expected state within {within_s:g} s: {status}\n{log[-4000:]}"
        )


def stop_process(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """End a process that this one started, by a signal and after `STOP_WITHIN_S` by SIGKILL; return its exit code."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return process.returncode
