"""A real Prometheus beside a daemon on simulators sees alerts fire and resolve, and fills every panel of the board."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from kill_switch.testbed.testbed import LocalTestbed, stop_process
from tests.harness.metrics_exposure import free_port
from tests.monitoring import files
from tests.monitoring.conftest import Tool

TOKEN = "5ca1ab1e" * 8
TRIGGERS = """
[triggers.alive]
kind = "heartbeat"
timeout = "1h"
accounts = ["oxfun"]
"""
WITHIN_S = 20.0  # seconds for one change to arrive, by scrapes and evaluations of 1 s


class Watcher:
    """A Prometheus that scrapes the daemon over TLS with a token, each second."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=5.0, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **query: str) -> Any:
        """Return the data of an answer; None while the server does not answer."""
        try:
            return self._client.get(path, params=query).json()["data"]
        except (httpx.TransportError, ValueError):
            return None

    def query(self, expr: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = (self.get("/api/v1/query", query=expr) or {}).get("result", [])
        return found

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = (self.get("/api/v1/alerts") or {}).get("alerts", [])
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def until(self, true: Callable[[], object], what: str) -> None:
        until_s = time.monotonic() + WITHIN_S
        while not true():
            assert time.monotonic() < until_s, f"{what}: {self.get('/api/v1/alerts')} {self.get('/api/v1/targets')}"
            time.sleep(0.1)

    def until_firing(self, *names: str) -> None:
        self.until(lambda: self.firing() >= set(names), f"{names} to fire")

    def until_quiet(self) -> None:
        self.until(lambda: not self.firing(), "nothing to fire")


@contextmanager
def watched(prometheus: str, directory: Path, target: int) -> Iterator[Watcher]:
    """Run Prometheus with the rules of the repository, each with `for: 1s`."""
    rules = re.sub(r"(?m)^( +for:) .+$", r"\1 1s", (files.FOLDER / "alerts.yml").read_text("utf-8"))
    (directory / "alerts.yml").write_text(rules)
    config = files.parsed("prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    del config["alerting"]
    (directory / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    command = [
        prometheus,
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        watcher = Watcher(f"http://127.0.0.1:{port}")
        try:
            yield watcher
        finally:
            watcher.close()
            stop_process(process)


def write_access(directory: Path) -> None:
    """Write the token and a certificate for this machine, for the daemon and for Prometheus."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(directory / "metrics-ca.crt")
    leaf.private_key_pem.write_to_path(directory / "metrics.key")
    leaf.cert_chain_pems[0].write_to_path(directory / "metrics.crt")
    (directory / "metrics-token").write_text(TOKEN)
    for name in ("metrics.key", "metrics-token"):
        (directory / name).chmod(0o600)


@pytest.mark.timeout(110)  # some 40 s on an idle machine
def test_alerts_fire_and_resolve_and_no_panel_is_empty(prometheus: str, promtool: Tool, tmp_path: Path) -> None:
    write_access(tmp_path)
    port = free_port()
    daemon = f'metrics = "127.0.0.1:{port}"\nmetrics_token_file = "{tmp_path}/metrics-token"\n'
    daemon += f'metrics_cert_file = "{tmp_path}/metrics.crt"\nmetrics_key_file = "{tmp_path}/metrics.key"\n'
    with LocalTestbed(["oxfun", "roxom"]) as stage, watched(prometheus, tmp_path, port) as watcher:
        stage.write_config(TRIGGERS, daemon)
        watcher.until_firing("KillSwitchDown")
        stage.start_daemon()
        assert stage.daemon is not None
        watcher.until(lambda: watcher.query("kill_switch_able_to_fire == 1"), "a scrape")
        watcher.until_quiet()

        stage.rest("roxom", 3)
        stage.flag.touch()
        watcher.until_firing("KillSwitchTripped")
        stage.flag.unlink()
        time.sleep(0.5)  # until the flag's trigger has seen it
        assert "rearmed" in stage.ask(cmd="rearm", reason="the test goes on")
        watcher.until_quiet()
        assert [each["value"][1] for each in watcher.query("sum(kill_switch_last_kill_orders)")] == ["3"]

        stage.admin("POST", "/faults", venue="roxom", fault="disconnect")
        stage.admin("POST", "/faults", venue="roxom", fault="half_open")
        watcher.until_firing("KillSwitchUnableToFire", "KillSwitchAccountNotKillable", "KillSwitchLaneDown")
        stage.admin("DELETE", "/faults?venue=roxom")
        watcher.until_quiet()

        os.kill(stage.daemon.pid, signal.SIGSTOP)
        try:
            watcher.until_firing("KillSwitchHangs")
        finally:
            os.kill(stage.daemon.pid, signal.SIGCONT)
        watcher.until(lambda: "KillSwitchHangs" not in watcher.firing(), "the daemon to answer")

        context = ssl.create_default_context(cafile=str(tmp_path / "metrics-ca.crt"))
        request = urllib.request.Request(
            f"https://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:  # noqa: S310
            checked = promtool("check", "metrics", text=answer.read().decode())
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

        stage.ask(cmd="drill")
        beat(stage, "alive")
        time.sleep(2.5)  # two scrapes, for the rates
        empty = [(title, expr) for title, expr in files.board_exprs() if not watcher.query(expr)]
        assert empty == []


def beat(stage: LocalTestbed, name: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(name.encode(), str(stage.runtime_dir / "intake.sock"))
