"""A host with kill-switch on it, installed as the README says, and simulators outside of it as its venues."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from kill_switch.journal import journal

from .machine import PROJECT, Machine

VENUES = ("oxfun", "roxom")
FLAG = "/run/kill-switch/flag/KILL"
CONFIG = "/etc/kill-switch/config.toml"
CREDENTIALS = "/etc/kill-switch/credentials"
CGROUPS = Path("/sys/fs/cgroup")
UNIT, LAST_RESORT = "kill-switch", "kill-switch-last-resort"


class Simulators:
    """The venues, as a process outside of the container: they outlive its reboots."""

    def __init__(self, tls_dir: Path) -> None:
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            sys.executable,
            "-m",
            "kill_switch",
            "sim",
            "--tls-dir",
            str(tls_dir),
        ]
        for venue in VENUES:
            command += ["--venue", venue]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError("the simulators do not start")
        self.ready: dict[str, Any] = json.loads(line)

    def call(self, method: str, path: str, **body: object) -> Any:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.ready["admin"] + path, data, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return json.load(answer)

    def rest(self, count: int = 10) -> None:
        for venue in VENUES:
            self.call("POST", "/orders", venue=venue, count=count)

    def open(self) -> dict[str, int]:
        return {venue: self.call("GET", f"/orders?venue={venue}")["open"] for venue in VENUES}

    def empty(self) -> bool:
        return not any(self.open().values())

    def secrets(self) -> set[str]:
        return {secret for entry in self.ready["venues"].values() for secret in entry["credentials"].values()}

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate(timeout=10)


class Host(Machine):
    """A container with kill-switch on it."""

    def block(self, name: str) -> str:
        """Return the README's commands of that name."""
        readme = (PROJECT / "docs/guides/systemd.md").read_text("utf-8")
        found = re.search(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", readme, re.DOTALL)
        assert found, name
        return f"set -e; cd /src\n{found[1]}"

    def show(self, key: str, unit: str = UNIT) -> str:
        return self.ask(f"systemctl show --value -p {key} {unit}")

    def state(self) -> str:
        answer = self.ask("kill-switch status --json")
        return str(json.loads(answer).get("state", "unreachable")) if answer else "unreachable"

    def main_pid(self) -> str:
        return self.show("MainPID")

    def signal(self, name: str) -> None:
        self.run(f"kill -{name} {self.main_pid()}")

    def start(self) -> None:
        direct = f'[ "$(systemctl show -P ActiveState {LAST_RESORT})" = activating ]'  # then it holds the lock
        self.run(f"timeout 40 sh -c 'while {direct}; do sleep 0.2; done'", timeout_s=45)
        self.run(f"systemctl reset-failed; timeout 20 systemctl start {UNIT}", timeout_s=30)

    def rearm(self) -> None:
        """See to it that it is armed."""
        if self.state() != "ARMED":
            self.until(lambda: self.state() == "TRIPPED", 20, "clear")
            self.run("kill-switch rearm --reason 'the next test'")

    def record(self) -> list[journal.Entry]:
        """Return what is on record; its chain must hold."""
        replay = journal.read_journal(self.root / "var/lib/kill-switch/journal.jsonl")
        assert replay.broken is None, replay.broken
        return replay.entries

    def latched(self) -> set[str]:
        """Return the accounts that are tripped, as the record has it."""
        tripped: set[str] = set()
        for entry in self.record():
            if entry["kind"] == "reason":
                tripped |= set(entry["data"]["accounts"])
            elif entry["kind"] == "rearm":
                tripped -= set(entry["data"]["accounts"])
        return tripped

    def latch_left(self) -> bool:
        """Tell whether a latch waits that is not on record yet."""
        return self.ask("ls /var/lib/kill-switch/latch.jsonl /run/kill-switch/latch.jsonl 2>/dev/null") != ""

    def said(self, lines: int = 80, unit: str = UNIT) -> str:
        return self.ask(f"journalctl -u {unit} --no-pager -o cat -n {lines}")

    def processes(self) -> list[str]:
        """Return the pids of everything that belongs to the service."""
        below = f"system.slice/{UNIT}.service/cgroup.procs"
        return self.ask(f"cat /sys/fs/cgroup/{below} /sys/fs/cgroup/*/{below} 2>/dev/null | sort -u").split()

    def beside(self) -> str:
        """Return the pid of the process beside the daemon that runs commands; nothing if there is none."""
        return self.ask(f"pgrep -P {self.main_pid()} -f kill_switch.worker.commands")

    @contextlib.contextmanager
    def limit(self, controller: Literal["memory", "pids"], most: int) -> Iterator[None]:
        """Let the service and what it starts have so many bytes, or processes, together.

        Where control groups are of version 1, a container's systemd cannot do that, and it is done from out here.
        """
        if (CGROUPS / "cgroup.controllers").exists():
            key = {"memory": "MemoryMax", "pids": "TasksMax"}[controller]
            before = self.show(key)
            self.run(f"systemctl set-property --runtime {UNIT} {key}={most}")
            try:
                yield
            finally:
                self.run(f"systemctl set-property --runtime {UNIT} {key}={before}")
            return
        group = CGROUPS / controller / f"kill-switch-test-{os.getpid()}"
        group.mkdir()
        try:
            (group / {"memory": "memory.limit_in_bytes", "pids": "pids.max"}[controller]).write_text(str(most))
            for pid in self.processes():
                (group / "cgroup.procs").write_text(str(self.outside(pid)))
            yield
        finally:
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    (group.parent / "cgroup.procs").write_text(pid)
            group.rmdir()

    def file(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file there."""
        target = self.root / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
        target.chmod(mode)

    def back(self, before: str, within_s: float) -> float:
        """Wait for another main process that is READY."""

        def again() -> bool:
            return self.main_pid() not in ("0", before) and self.show("ActiveState") == "active"

        return self.until(again, within_s, "the daemon is back")


def configure(host: Host, ready: dict[str, Any], ca: str) -> None:
    """Write configuration and secrets; one of these is encrypted if this systemd can do so."""
    lines, dropin = [], ["[Service]"]
    for venue, entry in ready["venues"].items():
        lines += [f"[accounts.{venue}1]", f'venue = "{venue}"']
        urls = {key: entry[key] for key in ("ws_url", "rest_url")} | {"ca_file": "/etc/kill-switch/ca.pem"}
        lines += [f"{key} = {json.dumps(value)}" for key, value in (urls | entry["options"]).items()]
        for key, secret in entry["credentials"].items():
            name = f"{venue}-{key}"
            path = host.root / CREDENTIALS[1:] / name
            path.touch(mode=0o600)
            path.write_text(secret)
            lines.append(f'{key} = {{ credential = "{name}" }}')
            encrypt = (
                f"systemd-creds encrypt --with-key=host --name={name} {CREDENTIALS}/{name} {CREDENTIALS}/{name}.cred"
            )
            if key == "api_secret" and host.run(encrypt, check=False).returncode == 0:
                path.unlink()
                dropin.append(f"LoadCredentialEncrypted={name}:{CREDENTIALS}/{name}.cred")
            else:
                dropin.append(f"LoadCredential={name}:{CREDENTIALS}/{name}")
    lines += ["[triggers.panic]", 'kind = "flag"', f'path = "{FLAG}"']
    (host.root / "etc/kill-switch/ca.pem").write_text(ca)
    (host.root / "etc/kill-switch/config.toml").write_text("\n".join(lines) + "\n")
    for unit in (UNIT, LAST_RESORT):
        (host.root / f"etc/systemd/system/{unit}.service.d").mkdir()
    (host.root / f"etc/systemd/system/{UNIT}.service.d/credentials.conf").write_text("\n".join(dropin) + "\n")
    host.run(
        f"ln -s ../{UNIT}.service.d/credentials.conf /etc/systemd/system/{LAST_RESORT}.service.d/;"
        "systemctl daemon-reload; useradd alice -G kill-switch; useradd bob -G kill-switch; useradd mallory"
    )
