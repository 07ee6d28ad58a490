"""Messages, hooks, the outer ping and metrics, with real processes: they work, and none of them touches a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.e2e.conftest import Play
from tests.unit.worker.test_jobs import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

TOKEN = "sEcReT-tOkEn-0123456789"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


@pytest.fixture
def stage() -> Iterator[Play]:
    """Two simulated venues; a test writes the configuration and starts the daemon."""
    with Play(["oxfun", "roxom"]) as play:
        yield play


def program(play: Play, name: str, text: str) -> str:
    path = play.directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def all_messages(site: Site) -> list[str]:
    return [f"{body['title']}\n{body['message']}" for _, _, body in site.seen if body is not None]


def messages(site: Site) -> list[str]:
    """Return the messages, without those that only tell of the daemon's start and stop."""
    return [one for one in all_messages(site) if not re.match(r"kill-switch \S+: (STARTED|STOPPED):", one)]


def records(play: Play, kind: str) -> list[dict[str, object]]:
    entries = map(json.loads, (play.state_dir / "journal.jsonl").read_text().splitlines())
    return [entry["data"] for entry in entries if entry["kind"] == kind]


def test_a_kill_is_one_message_and_its_hook_has_the_kills_environment(stage: Play, site: Site) -> None:
    hook = program(stage, "hook", 'echo "$KILL_SWITCH_KILL/$KILL_SWITCH_ACCOUNTS/$KILL_SWITCH_REASON"; env | wc -l')
    page = program(
        stage, "page", f'cat > {stage.directory}/paged; echo "$KILL_SWITCH_SUBJECT" >> {stage.directory}/paged'
    )
    stage.write_config(
        f'[notify]\nurls = ["json://127.0.0.1:{site.port}/{TOKEN}"]\ncommand = "{page}"\n'
        f'[hooks]\non_trip = ["{hook}"]\n[ping]\nurl = "http://127.0.0.1:{site.port}/ping/{TOKEN}"\nevery = "1s"\n'
    )
    stage.start_daemon()
    stage.until(lambda: any(path == f"/ping/{TOKEN}" for _, path, _ in site.seen))
    stage.rest("oxfun", 20)
    reason = stage.runtime_dir / "reason"
    reason.write_text("the quoter went mad\n")
    reason.rename(stage.flag)
    stage.until_tripped()
    stage.until(lambda: len(messages(site)) == 1)
    (message,) = messages(site)
    kill = stage.status()["last_kill"]
    assert "KILL, proven clear: panic: the quoter went mad" in message.splitlines()[0]
    assert f"kill {kill} of oxfun, roxom" in message
    paged = Path(stage.directory / "paged")
    stage.until(lambda: paged.exists() and paged.read_text().count("the quoter went mad") == 3)
    (record,) = records(stage, "hook")
    assert (record["kill"], record["ok"], record["code"]) == (kill, True, 0)
    assert str(record["output"]).startswith(f"{kill}/oxfun roxom/panic: the quoter went mad")
    assert stage.status()["trouble"] == []
    calls = sum(path.startswith("/ping") for _, path, _ in site.seen)
    stage.until(lambda: sum(path.startswith("/ping") for _, path, _ in site.seen) > calls)  # tripped, and able to fire
    stage.flag.unlink()
    assert stage.command("rearm", "--reason", "fixed it").exit_code == 0
    stage.until(lambda: len(messages(site)) == 2)
    assert "RE-ARMED" in messages(site)[1] and "fixed it" in messages(site)[1]
    assert stage.stop_daemon() == 0
    assert TOKEN not in stage.log.read_text() + (stage.state_dir / "journal.jsonl").read_text()


def test_nothing_that_hangs_changes_when_the_strike_leaves_or_when_the_daemon_stops(stage: Play, site: Site) -> None:
    site.status = None
    clock = "import time; print(time.monotonic_ns(), flush=True); time.sleep(60)"
    hook = program(stage, "hook", f'exec python3 -c "{clock}" > {stage.directory}/began')
    port = free_port()
    stage.write_config(
        f'[notify]\nurls = ["json://127.0.0.1:{site.port}/a", "json://127.0.0.1:{site.port}/b"]\ncommand = "sleep 60"\n'
        f'[hooks]\non_trip = ["{hook}", "sleep 60"]\ntimeout = "2s"\n'
        f'[ping]\nurl = "http://127.0.0.1:{site.port}/ping"\nevery = "1s"\n',
        daemon=f'metrics = "127.0.0.1:{port}"',
    )
    stage.start_daemon()
    stage.until(lambda: any(path == "/ping" for _, path, _ in site.seen))  # it hangs already
    with socket.create_connection(("127.0.0.1", port)):  # and so does somebody who wants to know how things are
        for venue in stage.venues:
            stage.rest(venue, 50)
        stage.flag.touch()
        stage.until_tripped()
        began = Path(stage.directory / "began")
        stage.until(lambda: began.exists() and began.read_text().endswith("\n"))
        requests = stage.admin("GET", "/requests")
        cancels = [request["t_ns"] for request in requests if request["what"].startswith("cancel")]
        assert max(cancels[:2]) < int(began.read_text())
        report = stage.command("report", "--json").json
        assert report["within_budget"] is True
        assert report["last_sent_us"] < 50_000
        assert stage.open_orders() == 0
        stage.until(lambda: len(records(stage, "hook")) == 2)
        assert {record["why"] for record in records(stage, "hook")} == {"killed after 2 s"}
    began_s = time.monotonic()
    assert stage.stop_daemon() == 0
    assert time.monotonic() - began_s < 9  # two seconds for messages, three for the process beside


def test_metrics_are_served_and_a_taken_port_keeps_no_daemon_from_starting(stage: Play) -> None:
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    port = holder.getsockname()[1]
    stage.write_config(daemon=f'metrics = "127.0.0.1:{port}"')
    stage.start_daemon()
    stage.until(lambda: stage.status()["trouble"] == [f"metrics: 127.0.0.1:{port}: Address already in use"])
    holder.close()
    stage.until(lambda: stage.status()["trouble"] == [])
    stage.flag.touch()
    stage.until_tripped()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    assert families["kill_switch_responding"].samples[0].value == 1
    assert families["kill_switch_kills"].samples[0].value == 1
    sent = {sample.name: sample.value for sample in families["kill_switch_kill_sent_seconds"].samples}
    assert sent["kill_switch_kill_sent_seconds_count"] == 2
    assert families["process_resident_memory_bytes"].samples[0].value > 10_000_000
    assert stage.daemon is not None
    os.kill(stage.daemon.pid, signal.SIGSTOP)
    time.sleep(0.3)  # figures are served for that long
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=8) as answer:
            assert "kill_switch_responding 0.0" in answer.read().decode()
    finally:
        os.kill(stage.daemon.pid, signal.SIGCONT)


def test_a_reload_brings_hooks_and_messages_and_takes_them_away(stage: Play, site: Site) -> None:
    stage.write_config()
    stage.start_daemon()
    hook = program(stage, "hook", f"echo ran >> {stage.directory}/ran")
    stage.write_config(f'[hooks]\non_trip = ["{hook}"]\n[notify]\nurls = ["json://127.0.0.1:{site.port}/x"]\n')
    assert stage.command("reload").exit_code == 0
    stage.flag.touch()
    stage.until_tripped()
    stage.until(lambda: len(messages(site)) == 1 and (stage.directory / "ran").exists())
    stage.flag.unlink()
    stage.write_config()
    assert stage.command("reload").exit_code == 0
    assert stage.command("rearm", "--reason", "fine").exit_code == 0
    stage.flag.touch()
    stage.until_tripped()
    assert len(messages(site)) == 1
    assert (stage.directory / "ran").read_text() == "ran\n"


def test_a_daemon_that_dies_in_a_kill_runs_its_hooks_after_the_start(stage: Play) -> None:
    hook = program(stage, "hook", f'echo "$KILL_SWITCH_REASON" >> {stage.directory}/ran')
    stage.write_config()
    stage.start_daemon()
    stage.rest("roxom", 5)
    stage.admin("POST", "/faults", venue="roxom", fault="accept_but_keep", times=1000)
    stage.flag.touch()
    stage.until(lambda: stage.status()["accounts"]["roxom"]["state"] == "CONFIRMING")
    stage.until(lambda: '"kind":"reason"' in (stage.state_dir / "journal.jsonl").read_text())
    stage.stop_daemon(signal.SIGKILL)
    stage.flag.unlink()
    stage.write_config(f'[hooks]\non_trip = ["{hook}"]\n')
    stage.start_daemon(wait=False)
    ran = stage.directory / "ran"
    stage.until(lambda: ran.exists() and ran.read_text() == f"panic: {stage.flag} is there\n")
    stage.admin("DELETE", "/faults?venue=roxom")
    stage.until_tripped()


def test_a_kill_without_the_daemon_tells_people_too(stage: Play, site: Site) -> None:
    stage.write_config(f'[notify]\nurls = ["json://127.0.0.1:{site.port}/x"]\n')
    stage.rest("oxfun", 3)
    done = stage.command("fire", "--direct", "--reason", "by hand", "--json")
    assert done.exit_code == 0, done.err
    assert stage.open_orders() == 0
    told = messages(site)  # one, if it took less than a second
    assert "KILL" in told[0] and "direct: by hand" in told[0]
    assert "every account of kill" in told[-1]


def test_an_address_that_apprise_does_not_understand_is_found_by_check_and_stops_no_daemon(stage: Play) -> None:
    stage.write_config(f'[notify]\nurls = ["slack://{TOKEN}"]\n')
    done = stage.command("check")
    assert done.exit_code == 78
    assert "notify.urls[0]: not understood by apprise" in done.err
    assert TOKEN not in done.err + done.out
    stage.start_daemon()
    stage.until(lambda: stage.status()["trouble"] == ["notify urls[0] slack: apprise does not understand the URL"])


def test_a_kill_during_the_stop_is_sent_before_the_daemon_ends(stage: Play, site: Site) -> None:
    hook = program(stage, "hook", f'echo "$KILL_SWITCH_ACCOUNTS" >> {stage.directory}/ran; sleep 60')
    stage.write_config(
        f'[notify]\nurls = ["json://127.0.0.1:{site.port}/{TOKEN}"]\n[hooks]\non_trip = ["{hook}"]\ntimeout = "30s"\n'
    )
    stage.start_daemon()
    assert stage.command("fire", "--scope", "oxfun", "--reason", "first").exit_code == 0
    stage.until(lambda: "CLEAR: every account" in "".join(messages(site)))  # in the message of the kill, or another
    before = len(messages(site))
    assert stage.daemon is not None
    stage.daemon.send_signal(signal.SIGTERM)
    time.sleep(1.5)  # it waits for the hook, 2 s at most
    stage.flag.touch()
    assert stage.stop_daemon() == 0
    assert len(records(stage, "reason")) == 2
    assert (stage.directory / "ran").read_text() == "oxfun\noxfun roxom\n"
    assert "KILL" in messages(site)[before]
