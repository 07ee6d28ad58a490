"""Find the command blocks of the documentation, and run them against simulators and a daemon of their own.

The comments above a block say what becomes of it: `<!-- run -->`, `<!-- run: exit code N -->`,
`<!-- not run: REASON -->`, or `<!-- tested: NAME -->`, by which `tests/system/systemd` runs it. `<!-- needs: … -->`
names one of the `SETUPS`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from kill_switch.testbed.config_files import Login
from kill_switch.testbed.testbed import LocalTestbed, stop_process

ROOT = Path(__file__).parents[2]
FOLDERS = ("get-started", "guides", "reference", "runbook")
LANGUAGES = ("sh", "bash", "console", "")  # a fence without a language counts
WITHIN_S = 90.0  # on a machine that is busy with other work
PATHS = ("/etc/kill-switch", "/run/kill-switch", "/var/lib/kill-switch")
METRICS = "127.0.0.1:9464"


class Block(NamedTuple):
    """A command block; `expected` is the text block that follows it, if one does."""

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[str, ...]
    expected: str = ""

    @property
    def place(self) -> str:
        """The page and line, as an editor opens them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def mark(self, name: str) -> str | None:
        """Return the words of a mark, "" for one without words, None if the block has no such mark."""
        for mark in self.marks:
            if mark == name or mark.startswith(f"{name}: "):
                return mark[len(name) + 2 :]
        return None


def pages() -> list[Path]:
    """Return the pages whose command blocks are run."""
    return sorted(page for folder in FOLDERS for page in (ROOT / "docs" / folder).rglob("*.md"))


def blocks(page: Path) -> list[Block]:
    """Return the command blocks of a page, in their order."""
    fences = list(_fences(page))
    commands = []
    for block, following in itertools.zip_longest(fences, fences[1:]):
        end = block.line + block.text.count("\n") + 2
        is_output = following is not None and following.language == "text" and following.line - end <= 1
        if block.language in LANGUAGES:
            commands.append(block._replace(expected=following.text if following is not None and is_output else ""))
    return commands


def _fences(page: Path) -> Iterator[Block]:
    lines = page.read_text("utf-8").splitlines()
    marks: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        if comment := re.fullmatch(r" *<!-- (.+) -->", line):
            marks.append(comment[1])
        elif fence := re.fullmatch(r"( *)```(\w*)", line):
            end = next(at for at in range(number + 1, len(lines)) if lines[at] == f"{fence[1]}```")
            text = "".join(f"{each.removeprefix(fence[1])}\n" for each in lines[number + 1 : end])
            yield Block(page, number + 1, fence[2], text, tuple(marks))
            marks, number = [], end
        else:
            marks = []
        number += 1


# ── where they run ────────────────────────────────────────────────────────────────────────────────────────────────────


class Host(LocalTestbed):
    """Simulators of two venues, with the accounts, directories and words of the documentation."""

    def __init__(self) -> None:
        super().__init__(["roxom", "oxfun"])
        self.paths = {path: self.directory / path[1:] for path in PATHS}
        for path in self.paths.values():
            path.mkdir(parents=True)
        etc, self.runtime_dir, self.state_dir = self.paths.values()
        self.config = etc / "config.toml"
        self.flag = self.runtime_dir / "flag/KILL"
        self.flag.parent.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.metrics = "{}:{}".format(*free.getsockname())
        (self.directory / ".venv").symlink_to(sys.prefix)

    def begin(self) -> None:
        """Start the daemon, and wait until every account is ready, on a machine that is busy too."""
        self.start_daemon(wait=False)
        self.wait_for(lambda status: all(account["ready"] for account in status["accounts"].values()), WITHIN_S)

    def accounts(self) -> Iterator[Login]:
        """Yield the accounts under the names that the pages use."""
        for name, venue, login in super().accounts():
            yield {"roxom": "rx1", "oxfun": "mm1"}[name], venue, login

    def run(self, block: Block) -> tuple[int, str]:
        """Run the commands of a block in a shell that stops at the first failure; return exit code and output."""
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "EDITOR": "true",
            "COLUMNS": "150",
            "KILL_SWITCH_CONFIG": str(self.config),
        }
        shell = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", self.here(block.text)],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = shell.communicate(timeout=WITHIN_S)
        finally:
            _end_group(shell)
        return shell.returncode, self.there(output)

    def here(self, text: str) -> str:
        """Put this host's directories and port in the place of those that a page names."""
        for path, real in self.paths.items():
            text = text.replace(path, str(real))
        return text.replace(METRICS, self.metrics)

    def there(self, text: str) -> str:
        """Put the page's directories and port in the place of this host's."""
        return text.replace(str(self.directory), "").replace(self.metrics, METRICS)


def _end_group(shell: subprocess.Popen[str]) -> None:
    """End the shell and the commands that it left in the background; they have a session of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(shell.pid, number)
        except ProcessLookupError:
            break
        time.sleep(0.3)
    shell.wait()


# ── in which state ────────────────────────────────────────────────────────────────────────────────────────────────────

HEARTBEAT = '[triggers.quoter-alive]\nkind = "heartbeat"\ntimeout = "60s"\naccounts = ["mm1"]\n'


def _configured(host: Host) -> None:
    host.write_config(HEARTBEAT, daemon=f'metrics = "{host.metrics}"')
    text = host.config.read_text("utf-8")
    host.config.write_text(text.replace("[accounts.mm1]", '[accounts.mm1]\ntags = ["desk:mm"]'), "utf-8")


def _daemon(host: Host) -> None:
    _configured(host)
    host.rest("roxom", 12)
    host.rest("oxfun", 8)
    host.begin()
    address, port = host.metrics.split(":")
    until_s = time.monotonic() + WITHIN_S
    while time.monotonic() < until_s:  # the worker process serves them, and starts beside the daemon
        with contextlib.suppress(OSError), socket.create_connection((address, int(port))):
            return
        time.sleep(0.1)


def _kill(host: Host) -> None:
    host.flag.touch()
    host.wait_for(lambda status: bool(status["state"] == "TRIPPED"), WITHIN_S)
    host.flag.unlink()


def _killed(host: Host) -> None:
    _daemon(host)
    _kill(host)


def _hooked(host: Host) -> None:
    hook = host.directory / "usr/local/bin/stop-quoter"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\nexit 3\n")
    hook.chmod(0o755)
    host.write_config(f'[hooks]\non_trip = ["{hook}"]\n')
    host.begin()
    _kill(host)
    time.sleep(1.0)  # the hook's record follows its end


def _left(host: Host) -> None:
    _daemon(host)
    host.admin("POST", "/faults", venue="oxfun", fault="refuse", code="40003", message="account frozen")
    host.ask(cmd="fire", reason="runaway quoter")
    host.wait_for(lambda status: bool(status["accounts"]["mm1"]["state"] == "RESIDUE"), WITHIN_S)


def _certificate_mended(host: Host) -> None:
    _daemon(host)
    text = host.config.read_text("utf-8")
    old = json.dumps(host.ready["ca_file"])
    copy = host.paths["/etc/kill-switch"] / "venue-ca.pem"
    copy.write_bytes(Path(host.ready["ca_file"]).read_bytes())
    host.config.write_text(text.replace(old, json.dumps(str(copy)), 1), "utf-8")


def _changed(host: Host) -> None:
    _daemon(host)
    added = (
        f'[triggers.desk]\nkind = "flag"\npath = "{host.flag}-desk"\n'
        '[triggers.close]\nkind = "schedule"\ncron = "0 22 * * 5"\ntimezone = "UTC"\n'
        '[hooks]\non_trip = ["/bin/true"]\n[notify]\ncommand = "/bin/true"\n'
    )
    host.config.write_text(f"{host.config.read_text('utf-8')}\n{added}", "utf-8")


def _damaged(host: Host) -> None:
    _killed(host)
    if host.daemon is not None:
        stop_process(host.daemon)
        host.daemon = None
    journal = host.state_dir / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"kind":"', b'"kind":"x', 1)
    journal.write_bytes(b"".join(lines))


def _ready_line(host: Host) -> None:
    (host.directory / "sim.json").write_text(json.dumps(host.ready))


SETUPS: Mapping[str, Callable[[Host], None]] = {
    "nothing": lambda host: None,
    "a configuration on simulators": _configured,
    "a daemon on simulators": _daemon,
    "a daemon on simulators, tripped and clear": _killed,
    "a daemon on simulators, with a hook, tripped": _hooked,
    "a daemon on simulators, and orders that stay": _left,
    "a daemon on simulators, and another ca_file in the configuration": _certificate_mended,
    "a daemon on simulators, and other triggers and hooks in the configuration": _changed,
    "a journal that is damaged": _damaged,
    "sim.json of simulators that run": _ready_line,
}


# ── what they print ───────────────────────────────────────────────────────────────────────────────────────────────────


def missing(expected: str, output: str) -> list[str]:
    """Return the lines of a page that the output does not have, in the page's order.

    `…` stands for anything. A number, a time or a hash may be another, and a table's column may have another width.
    """
    lines = [_shape(line) for line in output.splitlines()]
    absent = []
    for line in filter(lambda line: line.strip(" …"), expected.splitlines()):
        pattern = ".*".join(re.escape(_shape(part)) for part in line.split("…"))
        place = next((at for at, shape in enumerate(lines) if re.search(pattern, shape)), None)
        if place is None:
            absent.append(line)
        else:
            lines = lines[place + 1 :]
    return absent


def _shape(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b[0-9a-f]{12,}\b", "#", text)
    text = re.sub(r"[\d.,:]*\d", "#", text)
    text = re.sub(r"(?<=[ #])(–|\?|#( (ms|µs|s|min))?)(?= |$)", "#", text)
    return " ".join(text.split())
