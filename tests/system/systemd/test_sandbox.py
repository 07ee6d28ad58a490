"""Reload, hooks, messages, figures and keys under the unit's real sandbox, in the container."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .host import CONFIG, CREDENTIALS, FLAG, UNIT, Host, Simulators

pytestmark = [pytest.mark.e2e, pytest.mark.systemd, pytest.mark.timeout(240)]

Equip = Callable[[str], None]
HAS_RESOURCE = 1 << 24  # CAP_SYS_RESOURCE: without it, a machine lets nobody lower an OOM score


class Pager(ThreadingHTTPServer):
    """Whoever is told: takes what apprise posts."""

    daemon_threads = True

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Taker)
        self.url = f"json://127.0.0.1:{self.server_address[1]}/s3cret-token"

    def titles(self) -> str:
        return " | ".join(message["title"] for message in self.messages)


class _Taker(BaseHTTPRequestHandler):
    server: Pager

    def do_POST(self) -> None:
        self.server.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def pager() -> Iterator[Pager]:
    with Pager() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)


@pytest.fixture(scope="module")
def notifying(container: Host) -> Host:
    container.run(container.block("notify"), timeout_s=200)
    return container


@pytest.fixture
def equip(host: Host) -> Iterator[Equip]:
    """Return what adds tables to the configuration, and reloads it; afterwards they are gone again."""
    path = host.root / CONFIG[1:]
    before = path.read_text("utf-8")

    def add(tables: str) -> None:
        path.write_text(f"{before}\n{tables}", "utf-8")
        host.run(f"systemctl reload {UNIT}")

    yield add
    path.write_text(before, "utf-8")
    host.run(f"systemctl reload {UNIT} || systemctl try-restart {UNIT}", check=False)  # of a daemon that runs


def hook(host: Host, *commands: str) -> list[dict[str, Any]]:
    """Wait for what the record says of these hooks of the last kill."""
    kill = [entry["data"]["kill"] for entry in host.record() if entry["kind"] == "reason"][-1]

    def done() -> dict[str, Any]:
        told = [entry["data"] for entry in host.record() if entry["kind"] == "hook" and entry["data"]["kill"] == kill]
        return {one["command"]: one for one in told}

    host.until(lambda: done().keys() >= set(commands), 15, f"{commands} have run")
    return [done()[command] for command in commands]


# ── reload ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_reload_takes_all_of_a_good_file_and_nothing_of_a_bad_one(host: Host, sim: Simulators, equip: Equip) -> None:
    before = host.main_pid()
    sim.call("DELETE", "/requests")
    equip('[triggers.quoter-alive]\nkind = "heartbeat"\ntimeout = "1h"\n')
    assert host.record()[-1]["data"]["change"] == "triggers begun: quoter-alive"
    good = (host.root / CONFIG[1:]).read_text()
    host.file(CONFIG, good.replace("1h", "2h") + "nonsense = 1\n")
    refused = host.run(f"systemctl reload {UNIT}", check=False)
    assert refused.returncode != 0 and f"{UNIT}.service failed" in refused.stderr
    for place in (host.said(), host.ask(f"systemctl status --no-pager {UNIT}")):
        assert "triggers.quoter-alive.nonsense: unknown key" in place
    assert (host.main_pid(), host.show("ActiveState"), host.state()) == (before, "active", "ARMED")
    host.until(
        lambda: host.show("StatusText") == "ARMED, 2/2 accounts ready, 0 triggers blind", 5, "with the next pulse"
    )
    logins = [seen for seen in sim.call("GET", "/requests?venue=oxfun") if "login" in seen["what"]]
    assert logins == []  # nobody has connected anew
    host.file(CONFIG, good)
    host.run(f"systemctl kill --kill-whom=main --signal=KILL {UNIT}")
    host.back(before, 10)  # the refused reload's 78 is not the daemon's
    host.run(f"touch {FLAG}", user="alice")
    host.until(sim.empty, 5, "every order is gone")


def test_a_reload_takes_no_tripped_account_away(host: Host, sim: Simulators, equip: Equip) -> None:
    host.run("kill-switch fire --reason 'the test'")
    good = (host.root / CONFIG[1:]).read_text()
    without = good.partition("[accounts.roxom1]")[0] + f'[triggers.panic]\nkind = "flag"\npath = "{FLAG}"\n'
    host.file(CONFIG, without)
    assert host.run(f"systemctl reload {UNIT}", check=False).returncode != 0
    assert "accounts.roxom1: removed, and it is CLEAR; re-arm it first" in host.said(10)
    sim.rest(3)
    host.until(sim.empty, 10, "it guards both")
    host.file(CONFIG, good)
    equip('[triggers.quoter-alive]\nkind = "heartbeat"\ntimeout = "1h"\n')
    host.until(lambda: host.state() == "TRIPPED", 10, "proven clear again")


# ── hooks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

DOOR = """#!/bin/sh
env | grep ^KILL_SWITCH_ACCOUNTS
for path in /var/lib/kill-switch /run/kill-switch/flag /tmp /etc /usr /opt/kill-switch /home /run; do
    touch $path/door 2>/dev/null && echo "$path" && rm $path/door
done
env | grep -e CREDENTIALS -e NOTIFY_SOCKET -e STATE_DIRECTORY
echo "nice $(nice), oom $(cat /proc/self/oom_score_adj), $(grep -h NoNewPrivs /proc/self/status)"
grep SigIgn /proc/self/status
chrt --pid $$ | head -1 | cut -d: -f2
chrt --idle 0 echo "idle if it asks"
"""
UNTIE = """#!/bin/sh
setsid sh -c 'trap "" TERM HUP INT; exec sleep 300' > /dev/null 2>&1 &
"""


def test_a_hook_runs_in_the_sandbox_and_behind_the_daemon(host: Host, equip: Equip) -> None:
    host.file("/usr/local/bin/door", DOOR, 0o755)
    equip('[hooks]\non_trip = ["/usr/local/bin/door"]\n')
    host.run("kill-switch fire --reason 'the test'")
    (door,) = hook(host, "/usr/local/bin/door")
    assert door["ok"], door
    assert door["output"].splitlines() == [
        "KILL_SWITCH_ACCOUNTS=oxfun1 roxom1",
        "/var/lib/kill-switch",
        "/run/kill-switch/flag",
        "/tmp",
        "nice 5, oom 200, NoNewPrivs:\t1",
        "SigIgn:\t" + "0" * 16,
        " SCHED_OTHER",
        "idle if it asks",
    ]


def test_a_hook_stops_a_unit_if_and_only_if_polkit_has_the_rule_of_the_readme(host: Host, equip: Equip) -> None:
    if shutil.which("pkaction") is None:
        pytest.skip("polkit is not installed (apt-get install polkitd)")
    for name in ("quoter", "other"):
        host.file(f"/etc/systemd/system/{name}.service", "[Service]\nExecStart=/bin/sleep infinity\n")
    host.run("systemctl daemon-reload; systemctl start quoter other")
    stop = "systemctl stop quoter.service"
    equip(f'[hooks]\non_trip = ["{stop}"]\n')
    host.run("kill-switch fire --reason 'without a rule'")
    (refused,) = hook(host, stop)
    assert not refused["ok"] and "authentication required" in refused["output"]
    assert host.ask("systemctl is-active quoter") == "active"
    host.run(host.block("polkit"))
    host.rearm()
    host.run("kill-switch fire --reason 'with a rule'")
    (done,) = hook(host, stop)
    assert done["ok"], done
    assert host.ask("systemctl is-active quoter") == "inactive"
    host.run("systemctl start quoter")
    for command in ("stop other", "start other", "restart quoter", "kill quoter", f"stop {UNIT}"):
        assert host.run(f"systemctl --no-ask-password {command}", user=UNIT, check=False).returncode != 0, command
    host.run(host.block("stop a unit"))
    assert host.ask("systemctl is-active quoter other").split() == ["inactive", "active"]


def test_a_stop_in_a_strike_leaves_hooks_and_messages_their_time(
    host: Host, notifying: Host, sim: Simulators, equip: Equip, pager: Pager
) -> None:
    equip(f'[hooks]\non_trip = ["sleep 1.5"]\n[notify]\nurls = ["{pager.url}"]\n')
    sim.call("POST", "/faults", venue="roxom", fault="delay", ms=1500)
    host.run(f"touch {FLAG}; until kill-switch status | grep -q FIRING; do :; done; rm {FLAG}", timeout_s=10)
    host.run(f"systemctl stop {UNIT}")
    assert (host.show("ActiveState"), host.show("Result")) == ("inactive", "success")
    assert sim.empty()
    (slept,) = hook(host, "sleep 1.5")
    assert slept["ok"], slept
    assert "KILL" in pager.titles() and "CLEAR" in json.dumps(pager.messages)
    assert host.processes() == []


def test_a_hooks_background_process_neither_delays_the_next_start_nor_survives_it(host: Host, equip: Equip) -> None:
    host.file("/usr/local/bin/untie", UNTIE, 0o755)
    equip('[hooks]\non_trip = ["/usr/local/bin/untie"]\n')
    host.run("kill-switch fire --reason 'the test'")
    hook(host, "/usr/local/bin/untie")
    assert host.run("pgrep -xf 'sleep 300'").stdout
    before = host.main_pid()
    host.signal("KILL")
    took_s = host.back(before, 10)
    print(f"something is left that ignores signals: back after {took_s:.1f} s")
    assert took_s < 5
    assert host.ask("pgrep -xf 'sleep 300'") == ""
    host.rearm()
    host.run("kill-switch fire --reason 'again'")
    hook(host, "/usr/local/bin/untie")
    began = time.monotonic()
    host.run(f"systemctl stop {UNIT}")
    assert time.monotonic() - began < 5
    assert host.ask("pgrep -xf 'sleep 300'") == ""
    assert host.processes() == []


# ── messages and figures ──────────────────────────────────────────────────────────────────────────────────────────


def test_messages_and_figures_get_out_of_the_sandbox(
    host: Host, notifying: Host, sim: Simulators, equip: Equip, pager: Pager
) -> None:
    page = 'sh -c "cat >> /var/lib/kill-switch/paged"'
    tables = f"[notify]\nurls = [{json.dumps(pager.url)}]\ncommand = {json.dumps(page)}\n"
    equip(tables)
    address = f"127.0.0.1:{free_port()}"
    scrape = f"/opt/kill-switch/bin/python -c \"import urllib.request as u; print(u.urlopen('http://{address}/metrics').read().decode())\""
    text = (host.root / CONFIG[1:]).read_text()
    host.file(CONFIG, f'{text}\n[daemon]\nmetrics = "{address}"\n')
    refused = host.run(f"systemctl reload {UNIT}", check=False)
    assert refused.returncode != 0 and "daemon.metrics: changed; only a restart can change it" in host.said(10)
    host.run(f"systemctl restart {UNIT}")
    host.until(lambda: "kill_switch_tripped 0.0" in host.ask(scrape), 10, "figures are served")
    figures = host.ask(scrape)
    for line in ("kill_switch_responding 1.0", 'kill_switch_account_ready{account="roxom1"} 1.0'):
        assert line in figures
    host.run(f"echo 'the desk is on fire' > {FLAG}", user="alice")
    host.until(lambda: "KILL" in pager.titles(), 10, "somebody is told")
    paged = host.root / "var/lib/kill-switch/paged"
    host.until(lambda: paged.exists() and "KILL" in paged.read_text(), 10, "the command is run")
    host.until(lambda: "proven clear" in json.dumps(pager.messages) + paged.read_text(), 20, "and of the end")
    assert "kill_switch_tripped 1.0" in host.ask(scrape)
    assert "s3cret" not in host.said() + host.ask("kill-switch status; kill-switch journal") + paged.read_text()
    assert "notify" not in host.ask("kill-switch status")  # nothing is the matter


def test_the_process_beside_may_die_and_dies_with_the_service(host: Host, equip: Equip) -> None:
    equip('[hooks]\non_trip = ["true"]\n')
    host.until(lambda: host.beside() != "", 10, "there is one")
    daemon, first = host.main_pid(), host.beside()
    assert "Seccomp:\t2" in host.ask(f"cat /proc/{first}/status")
    host.run(f"kill -KILL {first}")
    host.until(lambda: host.beside() not in ("", first), 10, "there is another")
    assert (host.main_pid(), host.state()) == (daemon, "ARMED")
    host.run("kill-switch fire --reason 'the test'")
    assert hook(host, "true")[0]["ok"]
    second = host.beside()
    host.signal("KILL")
    host.back(daemon, 10)
    host.until(lambda: host.beside() != "", 10, "the next daemon has its own")
    assert sorted(host.processes()) == sorted([host.main_pid(), host.beside()])
    assert host.beside() != second
    host.run(f"systemctl stop {UNIT}")
    assert host.processes() == [] and host.ask("pgrep -f [k]ill_switch.commands") == ""


# ── memory, keys, and who is killed first ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_systems_log_has_the_priority_of_each_line_and_the_line_without_it(
    host: Host, equip: Equip, form: str
) -> None:
    begun = host.ask("date +%s")
    equip(f'[daemon]\nlog = "{form}"\n')
    host.run(f"kill-switch fire --reason 'in {form}'")
    host.run("kill-switch rearm --reason 'the test'")
    read = f"journalctl -u {UNIT} _PID={host.main_pid()} --since=@{begun} --no-pager -o json"
    lines = [json.loads(line) for line in host.ask(read).splitlines()]
    priorities = {line["PRIORITY"]: line["MESSAGE"] for line in lines}
    assert {"2", "6"} <= set(priorities) and not any(line["MESSAGE"].startswith("<") for line in lines)
    if form == "json":
        levels = {json.loads(text)["level"] for priority, text in priorities.items() if priority == "2"}
        assert levels == {"critical"}
    critical = host.ask(f"journalctl -u {UNIT} -p crit --since=@{begun} --no-pager -o cat")
    assert f"KILL: operator: in {form}" in critical and "re-armed" not in critical


def test_other_processes_of_the_daemons_user_cannot_read_its_memory(host: Host, sim: Simulators, equip: Equip) -> None:
    equip('[hooks]\non_trip = ["true"]\n')
    host.until(lambda: host.beside() != "", 10, "the process beside is there")
    control = host.run("sleep 20 > /dev/null 2>&1 & cat /proc/$!/environ | wc -c; : < /proc/$!/mem; kill $!", user=UNIT)
    assert int(control.stdout) > 0  # another process of that user can be read
    for pid in (host.main_pid(), host.beside()):
        assert "Max core file size        0                    0" in host.ask(f"cat /proc/{pid}/limits")
        for name in ("mem", "environ", "maps", "fd/0"):
            assert host.run(f": < /proc/{pid}/{name}", user=UNIT, check=False).returncode != 0, name
            assert host.run(f": < /proc/{pid}/{name}", user="alice", check=False).returncode != 0, name
    assert "can be dumped" not in host.said()
    shown = host.run(
        f"journalctl --no-pager -o export; systemctl show {UNIT}; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ;"
        "cat /etc/kill-switch/config.toml /var/lib/kill-switch/journal.jsonl; kill-switch status --json"
    ).stdout
    for secret in sim.secrets():
        assert not any(line in shown for line in secret.splitlines() if len(line) > 30 or line == secret)


def test_when_memory_is_short_others_go_first(host: Host, equip: Equip) -> None:
    equip('[hooks]\non_trip = ["true"]\n')
    host.until(lambda: host.beside() != "", 10, "the process beside is there")
    scores = [int(host.ask(f"cat /proc/{pid}/oom_score_adj")) for pid in (host.main_pid(), host.beside())]
    assert (host.show("OOMScoreAdjust"), host.show("OOMPolicy")) == ("-900", "continue")
    allowed = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16) & HAS_RESOURCE
    assert scores == [-900 if allowed else 0, 200]


GREEDY = "#!/bin/sh\nexec /opt/kill-switch/bin/python -c \"x = b'x' * (1 << 29)\"\n"
FORKING = "#!/bin/sh\nfor i in $(seq 800); do sleep 300 & done\n"


def test_a_hook_that_eats_the_memory_dies_alone(host: Host, equip: Equip) -> None:
    host.file("/usr/local/bin/greedy", GREEDY, 0o755)
    equip('[hooks]\non_trip = ["/usr/local/bin/greedy"]\n')
    host.until(lambda: host.beside() != "", 10, "the process beside is there")
    before = (host.main_pid(), host.beside(), host.show("NRestarts"))
    with host.limit("memory", 100 << 20):
        host.run("kill-switch fire --reason 'the test'")
        (greedy,) = hook(host, "/usr/local/bin/greedy")
        assert greedy["why"] == "ended by signal 9", greedy
        assert host.state() == "TRIPPED"
    time.sleep(1)  # systemd would have noticed by now
    assert (host.main_pid(), host.beside(), host.show("NRestarts")) == before


def test_a_hook_that_forks_without_end_prevents_no_kill(host: Host, sim: Simulators, equip: Equip) -> None:
    host.file("/usr/local/bin/forking", FORKING, 0o755)
    equip('[hooks]\non_trip = ["/usr/local/bin/forking"]\n')
    before = host.main_pid()
    with host.limit("pids", int(host.show("TasksMax"))):
        host.run("kill-switch fire --reason 'the test'")
        (forking,) = hook(host, "/usr/local/bin/forking")
        assert not forking["ok"] and "fork" in forking["output"], forking
        host.rearm()
        sim.rest()
        host.run(f"touch {FLAG}", user="alice")
        host.until(sim.empty, 5, "every order is gone")
        host.until(lambda: host.state() == "TRIPPED", 10, "proven clear")
        assert host.main_pid() == before
        host.run(f"systemctl stop {UNIT}")
    assert host.ask("pgrep -xf 'sleep 300'") == ""


def test_a_new_key_takes_a_restart_as_the_readme_says(host: Host, sim: Simulators) -> None:
    name, key = "roxom-api_key", sim.ready["venues"]["roxom"]["credentials"]["api_key"]
    assert "every lane would carry a kill" in host.run(host.block("check")).stdout  # with its secrets from systemd
    rotate = host.block("rotate").replace("kraken-key", name).replace("sleep 5", "")
    host.run(f"echo 'not-the-key' | ({rotate})", check=False)
    host.until(lambda: host.show("StatusText") == "ARMED, 1/2 accounts ready, 0 triggers blind", 15, "it is refused")
    assert host.run(f"stat -c '%a %U' {CREDENTIALS}/{name}").stdout == "600 root\n"
    host.run(f"mv {CREDENTIALS}/{name}.old {CREDENTIALS}/{name}; systemctl restart {UNIT}")
    assert host.show("StatusText") == "ARMED, 2/2 accounts ready, 0 triggers blind"
    before = host.main_pid()
    host.run(f"echo 'not-the-key' > {CREDENTIALS}/{name}; systemctl reload {UNIT}")
    assert "nothing changed" in host.said(5)  # a credential is as it was at the start
    host.run(f"printf %s '{key}' > {CREDENTIALS}/{name}")
    own = host.block("own file").replace("/kraken-key", "/roxom-key")
    text = (host.root / CONFIG[1:]).read_text()
    try:
        host.file(CONFIG, text.replace(f'{{ credential = "{name}" }}', '{ file = "/etc/kill-switch/roxom-key" }'))
        host.run(f"echo '{key}' | ({own})")
        host.until(lambda: "2/2" in host.show("StatusText"), 10, "connected anew")
        assert host.main_pid() == before
        assert "accounts connected anew: roxom1" in host.said(10) or "nothing changed" in host.said(5)
        host.run(f"echo 'not-the-key' | ({own})")
        host.until(lambda: "1/2" in host.show("StatusText"), 10, "the new one is taken, and refused")
        host.run(f"echo '{key}' | ({own})")
        host.until(lambda: "2/2" in host.show("StatusText"), 10, "connected anew")
        assert host.run("cat /etc/kill-switch/roxom-key", user="alice", check=False).returncode != 0
    finally:
        host.file(CONFIG, text)
    host.run(f"systemctl reload {UNIT}; touch {FLAG}")
    host.until(sim.empty, 10, "every order is gone")


def free_port() -> int:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
