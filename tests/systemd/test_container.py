"""Install as the README says, under a real systemd, with simulators as venues, and kill the kill switch.

Takes about two minutes. Skipped, with the reason, where no container can be booted; KILL_SWITCH_NEEDS_SYSTEMD=1 makes
that a failure, so that CI cannot skip it unseen.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .machine import PROJECT, Machine, python, why_not

pytestmark = [pytest.mark.e2e, pytest.mark.systemd, pytest.mark.timeout(240)]

VENUES = ("oxfun", "roxom")
FLAG = "/run/kill-switch/flag/KILL"
CREDENTIALS = "/etc/kill-switch/credentials"
UNIT, LAST_RESORT = "kill-switch", "kill-switch-last-resort"


class Simulators:
    """The venues, as a process outside of the container: they outlive its reboots."""

    def __init__(self, tls_dir: Path) -> None:
        command = [sys.executable, "-m", "kill_switch", "sim", "--tls-dir", str(tls_dir)]
        for venue in VENUES:
            command += ["--venue", venue]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())

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

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=10)


class Host(Machine):
    """A container with kill-switch on it."""

    def block(self, name: str) -> str:
        """Return the README's commands of that name."""
        readme = (PROJECT / "systemd/README.md").read_text("utf-8")
        found = re.search(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", readme, re.DOTALL)
        assert found, name
        return f"set -e; cd /src\n{found[1]}"

    def show(self, key: str, unit: str = UNIT) -> str:
        return self.ask(f"systemctl show --value -p {key} {unit}")

    def state(self) -> str:
        answer = self.ask("kill-switch status --json")
        return str(json.loads(answer)["state"]) if answer else "unreachable"

    def main_pid(self) -> str:
        return self.show("MainPID")

    def signal(self, name: str) -> None:
        self.run(f"kill -{name} {self.main_pid()}")

    def start(self) -> None:
        direct = f'[ "$(systemctl show -P ActiveState {LAST_RESORT})" = activating ]'  # then it holds the lock
        self.run(f"timeout 40 sh -c 'while {direct}; do sleep 0.2; done'", timeout_s=45)
        self.run(f"systemctl reset-failed; timeout 20 systemctl start {UNIT}", timeout_s=30)

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


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulators]:
    reason = why_not()
    if reason and os.environ.get("KILL_SWITCH_NEEDS_SYSTEMD"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    simulators = Simulators(tmp_path_factory.mktemp("tls"))
    yield simulators
    simulators.close()


@pytest.fixture(scope="module")
def installed(sim: Simulators) -> Iterator[Host]:
    try:
        host = Host()
    except OSError as error:
        if os.environ.get("KILL_SWITCH_NEEDS_SYSTEMD"):
            raise
        pytest.skip(f"no overlay can be mounted here: {error}")
    try:
        host.boot()
        script = host.block("install").replace("python3 -m venv", f"{python()} -m venv")
        host.run(script, timeout_s=200)
        configure(host, sim.ready, Path(sim.ready["ca_file"]).read_text())
        host.run(f"systemctl enable {UNIT}")
        yield host
    finally:
        host.close()


@pytest.fixture
def host(installed: Host, sim: Simulators) -> Host:
    """The host with an armed daemon, and orders at every venue."""
    for venue in VENUES:
        sim.call("DELETE", f"/faults?venue={venue}")
    installed.run(f"rm -f {FLAG}")
    installed.start()
    if installed.state() != "ARMED":
        installed.until(lambda: installed.state() == "TRIPPED", 20, "clear")
        installed.run("kill-switch rearm --reason 'the next test'")
    sim.rest()
    return installed


def test_systemd_says_ready_and_what_is_armed(host: Host) -> None:
    assert host.show("ActiveState") == "active" and host.show("SubState") == "running"
    assert host.show("StatusText") == "ARMED, 2/2 accounts ready, 0 triggers blind"
    assert host.show("User") == "kill-switch"
    judged = host.ask(f"systemd-analyze security --no-pager {UNIT} | tail -1")
    assert float(re.findall(r"\d+\.\d", judged)[0]) <= 1.5


def test_whoever_is_in_the_group_trips_with_touch_and_whoever_is_not_cannot(host: Host, sim: Simulators) -> None:
    assert host.run(f"touch {FLAG}", user="mallory", check=False).returncode != 0
    assert host.run("kill-switch status", user="mallory", check=False).returncode == 77
    assert not sim.empty()
    host.run(f"umask 027; echo 'the desk is on fire' > {FLAG}", user="alice")
    took_s = host.until(sim.empty, 5, "every order is gone")
    print(f"flag to empty books: {took_s * 1000:.0f} ms, with the asking")
    host.until(lambda: host.state() == "TRIPPED", 10, "proven clear")
    report = json.loads(host.run("kill-switch report --json", user="bob").stdout)
    assert any("on fire" in reason["text"] for reason in report["reasons"])  # the file may fire before it is written
    refused = host.run("kill-switch rearm --reason ok", user="bob", check=False)
    assert refused.returncode == 1 and "still there" in refused.stderr
    host.run(f"rm {FLAG}", user="bob")  # it is alice's file
    host.run("kill-switch rearm --reason 'the fire is out'", user="bob")
    record = host.run("kill-switch journal", user="alice").stdout
    assert '"user": "bob"' in record  # not "nobody", as it would be with PrivateUsers=


def test_nobody_but_the_daemon_can_put_a_socket_or_a_latch_there(host: Host) -> None:
    for command in (
        "rm -f /run/kill-switch/control.sock",
        "touch /run/kill-switch/latch.jsonl",
        "mv /run/kill-switch/flag /run/kill-switch/away",
        "touch /var/lib/kill-switch/latch.jsonl",
        "echo >> /var/lib/kill-switch/journal.jsonl",
        f"cat {CREDENTIALS}/oxfun-api_key",
        "cat /run/credentials/kill-switch.service/oxfun-api_key",
    ):
        assert host.run(command, user="alice", check=False).returncode != 0, command
    assert host.run("kill-switch status", user="alice").returncode == 0


def test_a_stop_is_quick_and_clean_and_a_flag_touched_meanwhile_fires_at_the_start(host: Host, sim: Simulators) -> None:
    began = time.monotonic()
    host.run(f"systemctl stop {UNIT}")
    assert time.monotonic() - began < 5
    assert (host.show("ActiveState"), host.show("Result")) == ("inactive", "success")
    assert host.run("kill-switch status", check=False).returncode == 69
    assert not sim.empty()  # a stop is no kill
    host.run(f"touch {FLAG}", user="alice")
    host.start()
    host.until(sim.empty, 5, "every order is gone")


@pytest.mark.parametrize("number", ["TERM", "KILL"])
def test_a_daemon_that_a_stray_signal_ends_comes_back(number: str, host: Host, sim: Simulators) -> None:
    before = host.main_pid()
    host.signal(number)
    print(f"SIG{number}: back after {host.back(before, 10):.1f} s")
    assert host.state() == "ARMED" and not sim.empty()


def test_a_daemon_killed_in_a_kill_comes_back_tripped(host: Host, sim: Simulators) -> None:
    sim.call("POST", "/faults", venue="roxom", fault="delay", ms=1000)
    before = host.main_pid()
    host.run(f"touch {FLAG}; sleep 0.05; kill -KILL {before}; rm {FLAG}")
    host.back(before, 15)
    host.until(lambda: host.state() == "TRIPPED", 20, "proven clear")
    assert sim.empty()


def test_a_daemon_that_hangs_is_replaced_and_the_flag_is_not_lost(host: Host, sim: Simulators) -> None:
    before = host.main_pid()
    host.signal("STOP")
    host.run(f"touch {FLAG}", user="alice")
    print(f"hang: back after {host.back(before, 25):.1f} s")
    host.until(sim.empty, 10, "every order is gone")
    assert "watchdog" in host.ask(f"journalctl -u {UNIT} --no-pager -o cat -n 80")


def test_the_last_resort_works_beside_a_daemon_that_hangs_holding_the_lock(host: Host, sim: Simulators) -> None:
    pid = host.main_pid()
    host.signal("STOP")
    host.run(f"systemctl start {LAST_RESORT}", timeout_s=30)
    assert sim.empty()
    host.run(f"kill -CONT {pid}")
    host.until(lambda: host.state() == "TRIPPED", 10, "the daemon has taken the latch over")
    assert host.main_pid() == pid


def test_a_crash_loop_ends_in_the_last_resort_as_the_readme_says(host: Host, sim: Simulators) -> None:
    done = host.run(host.block("last resort").partition("systemctl reset-failed")[0], timeout_s=90)
    assert sim.empty(), done.stdout
    assert host.show("ActiveState") == "failed"
    assert host.show("Result", LAST_RESORT) == "success"
    assert "result of the daemon: signal" in done.stdout
    host.start()
    assert host.state() == "TRIPPED"


def test_the_last_resort_tries_again_until_the_venue_lets_it(host: Host, sim: Simulators) -> None:
    host.run(f"systemctl stop {UNIT}; mv {CREDENTIALS}/roxom-api_key /root/")
    assert host.run(f"systemctl start {LAST_RESORT}", check=False).returncode != 0
    host.run(f"mv /root/roxom-api_key {CREDENTIALS}/")
    host.until(sim.empty, 30, "every order is gone")


def test_a_wrong_configuration_fails_once_and_says_where(host: Host) -> None:
    host.run("cp /etc/kill-switch/config.toml /root/good.toml; echo 'nonsense = 1' >> /etc/kill-switch/config.toml")
    try:
        assert host.run(f"systemctl restart {UNIT}", check=False).returncode != 0
        assert (host.show("ExecMainStatus"), host.show("NRestarts")) == ("78", "0")
        host.until(lambda: host.show("ExecMainStatus", LAST_RESORT) == "78", 10, "the last resort has tried")
        assert "nonsense" in host.ask(f"journalctl -u {UNIT} --no-pager -o cat -n 20")
    finally:
        host.run("cp /root/good.toml /etc/kill-switch/config.toml")


def test_a_daemon_that_waits_for_a_venue_kills_at_the_others(host: Host, sim: Simulators) -> None:
    host.run(f"systemctl stop {UNIT}")
    sim.call("POST", "/faults", venue="roxom", fault="maintenance")
    host.run(f"systemctl start --no-block {UNIT}")
    host.until(lambda: host.show("StatusText").startswith("ARMED, 1/2"), 10, "one account is ready")
    assert host.show("ActiveState") == "activating"
    host.run(f"touch {FLAG}", user="alice")
    host.until(lambda: sim.open()["oxfun"] == 0, 5, "the orders at the other venue are gone")
    sim.call("DELETE", "/faults?venue=roxom")
    host.until(sim.empty, 20, "and at this one, when it is back")


def test_a_systemd_that_is_frozen_does_not_keep_the_daemon_from_killing(host: Host, sim: Simulators) -> None:
    os.kill(host.init, signal.SIGSTOP)
    try:
        time.sleep(8)  # ten datagrams fit into the kernel's queue, two a second come
        host.run(f"touch {FLAG}")
        host.until(sim.empty, 5, "every order is gone")
    finally:
        os.kill(host.init, signal.SIGCONT)


@pytest.mark.parametrize("way", ["shutdown", "power cut"])
def test_tripped_outlives_a_reboot(way: str, host: Host, sim: Simulators) -> None:
    host.run(f"touch {FLAG}", user="alice")
    host.until(lambda: host.state() == "TRIPPED", 10, "proven clear")
    if way == "shutdown":
        host.power_off()
    else:
        host.power_cut()
    sim.rest(3)
    host.boot()
    host.until(lambda: host.show("ActiveState") == "active", 20, "READY after the boot")
    host.until(sim.empty, 10, "it guards")
    host.until(lambda: host.state() == "TRIPPED", 10, "proven clear again")
    assert host.ask(f"ls {FLAG}") == ""  # it was in /run; the latch is not
    host.run(f"touch {FLAG}", user="alice")  # its directory is there again, for the group
    host.run(f"rm {FLAG}", user="bob")


def test_an_upgrade_and_an_uninstall_go_as_the_readme_says(host: Host) -> None:
    host.run(host.block("upgrade"), timeout_s=200)
    host.until(lambda: host.show("ActiveState") == "active", 20, "READY after the upgrade")
    host.run(host.block("uninstall"))
    assert host.show("LoadState") == host.show("LoadState", LAST_RESORT) == "not-found"
    for path in ("/opt/kill-switch", "/run/kill-switch", "/etc/systemd/system/kill-switch.service.d"):
        assert not (host.root / path[1:]).exists()
    assert "journal.jsonl" in host.ask("ls /var/lib/kill-switch")
