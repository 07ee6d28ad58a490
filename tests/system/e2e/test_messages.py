"""Messages of each kind as a receiver on this machine gets them, over HTTP and by a command, from real processes."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.e2e.conftest import Play
from tests.system.e2e.test_tell import TOKEN, program, site  # noqa: F401 - a fixture
from tests.system.e2e.test_tell import all_messages as messages
from tests.unit.worker.test_jobs import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ME = getpass.getuser()
ALIVE = '[triggers.alive]\nkind = "heartbeat"\ntimeout = "30s"\n'


@pytest.fixture
def stage() -> Iterator[Play]:
    with Play(["oxfun", "roxom"]) as play:
        yield play


def lines(site: Site) -> list[str]:  # noqa: F811
    """Return the lines of all messages, without their subjects."""
    return [line for message in messages(site) for line in message.splitlines()[1:]]


def channel(site: Site, path: str = TOKEN) -> str:  # noqa: F811
    return f'"json://127.0.0.1:{site.port}/{path}"'


def test_each_message_has_the_event_the_person_who_has_acted_and_the_remedy(stage: Play, site: Site) -> None:  # noqa: F811
    stage.write_config(f"[rearm]\napprovals = 2\n{ALIVE}[notify]\nurls = [{channel(site)}]\n")
    stage.start_daemon()
    stage.until(lambda: bool(messages(site)))
    config = re.escape(str(stage.config))
    assert stage.command("silence", "alive", "--for", "90s", "--reason", "deploy 2.4").exit_code == 75
    stage.until(lambda: any(line.startswith("APPROVAL NEEDED") for line in lines(site)))
    stage.flag.touch()
    stage.until_tripped()
    stage.flag.unlink()
    stage.until(lambda: any("proven clear after" in line for line in lines(site)))
    assert stage.command("rearm", "--reason", "checked").exit_code == 75
    stage.until(lambda: sum(line.startswith("APPROVAL NEEDED") for line in lines(site)) == 2)
    assert stage.stop_daemon() == 0
    stage.write_config(f"{ALIVE}[notify]\nurls = [{channel(site)}]\n")
    said = "\n".join(lines(site))
    for expected in (
        r"STARTED: version \S+ watches 2 account\(s\) with 2 trigger\(s\)",
        rf"APPROVAL NEEDED: {ME} has asked to silence trigger alive for 90 s \(deploy 2.4\): 1 of 2 people.*",
        rf"  do: another person than {ME} types kill-switch silence -c {config} alive --for 90s --reason … within .*",
        rf"KILL: panic: \S+ is there \(by {ME}\)",
        rf"  do: find the cause and end it; then kill-switch rearm -c {config} --reason …",
        r"CLEAR: oxfun, roxom: proven clear after \d strike\(s\)",
        rf"APPROVAL NEEDED: {ME} has approved the re-arm of oxfun, roxom \(checked\): 1 of 2 people; it stays .*",
        rf"  do: another person than {ME} types kill-switch rearm -c {config} --reason … --scope oxfun --scope roxom",
        r"STOPPED: nobody watches now: the daemon was stopped by SIGTERM; oxfun, roxom stay tripped, and .*",
        r"  do: unless it is restarted already: systemctl start kill-switch",
    ):
        assert re.search(f"^{expected}$", said, re.MULTILINE), (expected, said)
    assert TOKEN not in said


def test_a_silence_a_re_arm_and_a_daemon_that_was_killed_are_messages(stage: Play, site: Site) -> None:  # noqa: F811
    stage.write_config(f"{ALIVE}[notify]\nurls = [{channel(site)}]\n")
    stage.start_daemon()
    assert stage.command("silence", "alive", "--for", "90s", "--reason", "deploy 2.4").exit_code == 0
    assert stage.command("silence", "alive", "--end").exit_code == 0
    assert stage.command("fire", "--reason", "by hand").exit_code == 0
    assert stage.command("rearm", "--reason", "checked").exit_code == 0
    stage.until(lambda: any(line.startswith("RE-ARMED") for line in lines(site)))
    stage.stop_daemon(signal.SIGKILL)
    stage.start_daemon()
    stage.until(lambda: sum(line.startswith("STARTED") for line in lines(site)) == 2)
    said = "\n".join(lines(site))
    for expected in (
        rf"WARNING: trigger alive is silenced for 90 s by {ME}: deploy 2.4; it watches, and fires nothing until then",
        r"  do: kill-switch silence -c \S+ alive --end",
        rf"OVER: trigger alive fires again: its silence ended \(by {ME}\)",
        rf"KILL: operator: by hand \(by {ME}\)",
        rf"RE-ARMED: oxfun, roxom re-armed by {ME}: checked",
        r"STARTED: version .*; the last daemon ended without a stop, after \S+Z: nobody has watched since",
        r"  do: find out why: journalctl -u kill-switch",
    ):
        assert re.search(f"^{expected}$", said, re.MULTILINE), (expected, said)


def test_a_daemon_that_is_killed_again_and_again_is_announced_three_times(stage: Play, site: Site) -> None:  # noqa: F811
    stage.write_config(f"[notify]\nurls = [{channel(site)}]\n", daemon='ready = "degraded"')

    def started() -> list[str]:
        return [line for line in lines(site) if line.startswith("STARTED")]

    def recorded() -> list[Any]:
        return stage.command("journal", "--json", "--kind", "start-announced").lines

    for number in (1, 2, 3):
        stage.start_daemon()
        stage.until(lambda: len(started()) == len(recorded()) == number)  # noqa: B023 - called in this turn only
        stage.stop_daemon(signal.SIGKILL)
    assert "3 starts without a stop since" in started()[2] and "starts without" not in "".join(started()[:2])
    stage.start_daemon()
    stage.flag.touch()
    stage.until(lambda: any(line.startswith("KILL") for line in lines(site)))
    stage.stop_daemon()
    stage.until(lambda: any(line.startswith("STOPPED") for line in lines(site)))
    assert len(started()) == 3


def test_an_account_that_is_not_ready_a_blind_trigger_and_orders_that_are_left_are_messages(
    stage: Play,
    site: Site,  # noqa: F811
) -> None:
    stage.write_config(
        f"[notify]\nurls = [{channel(site)}]\n"
        '[triggers.loss]\nkind = "pnl"\nsource = "intake"\ncurrency = "USD"\nmax_loss = "5"\nstale_after = "1s"\n'
        'on_blind = "alarm"\nreset = "17:00 UTC"\n',
        daemon='ready = "degraded"',
    )
    stage.admin("POST", "/faults", venue="roxom", fault="reject_login")
    stage.rest("oxfun", 2)
    stage.admin("POST", "/faults", venue="oxfun", fault="accept_but_keep", times=100_000)
    stage.start_daemon(wait=False)
    stage.wait_for(lambda status: status["accounts"]["oxfun"]["ready"], 30.0)
    assert stage.command("fire", "--scope", "oxfun", "--reason", "by hand", "--wait", "0").exit_code == 1
    wanted = ("NOT READY: roxom", "BLIND: trigger loss", "ORDERS LEFT: oxfun")
    stage.until(lambda: all(any(line.startswith(begin) for line in lines(site)) for begin in wanted), 90.0)
    said = "\n".join(lines(site))
    for expected in (
        r"NOT READY: roxom: not ready for 30 s \(ws down: .* Authentication failed\): a kill goes over http alone",
        r"  do: kill-switch check -c \S+ --connect",
        r"BLIND: trigger loss is blind: .*",
        r"  do: mend its input, or kill by hand: kill-switch fire -c \S+ --reason blind",
        r"ORDERS LEFT: oxfun: 2 orders \(\S+, \S+\) left, still chasing",
        r"  do: cancel them on the venue's own page; kill-switch report -c \S+",
    ):
        assert re.search(f"^{expected}$", said, re.MULTILINE), (expected, said)


def test_a_receiver_that_hangs_delays_no_other_channel_and_no_kill(stage: Play, site: Site) -> None:  # noqa: F811
    hung = Site()
    hung.status = None
    page = program(stage, "page", f"cat > {stage.directory}/paged.$KILL_SWITCH_LEVEL")
    urls = ", ".join([*(channel(hung, f"hung{n}") for n in range(8)), channel(site)])
    stage.write_config(f'[notify]\nurls = [{urls}]\ncommand = "{page}"\n')
    try:
        stage.start_daemon()
        stage.until(lambda: len(hung.seen) >= 8)  # the message of the start hangs at each of them
        stage.rest("oxfun", 5)
        began_s = time.monotonic()
        stage.flag.touch()
        stage.until(lambda: any(line.startswith("KILL") for line in lines(site)))
        stage.until(lambda: (stage.directory / "paged.trip").exists())
        assert time.monotonic() - began_s < 12.0  # one of the hung receivers answers after 15 s
        report = stage.command("report", "--json").json
        assert report["within_budget"] is True and stage.open_orders() == 0
    finally:
        hung.close()


def test_the_command_gets_the_documented_environment_and_nothing_else(stage: Play) -> None:
    facts = "dict(os.environ), os.getcwd(), sys.stdin.read(), os.listdir('/proc/self/fd')"
    dump = f"import json, os, sys; print(json.dumps([{facts}]))"
    page = program(stage, "page", f'exec {sys.executable} -c "{dump}" > {stage.directory}/$KILL_SWITCH_LEVEL.json')
    stage.write_config(f'[notify]\ncommand = "{page} --now"\n')
    secret = {"CREDENTIALS_DIRECTORY": str(stage.directory), "NOTIFY_SOCKET": "", "SOME_KEY": TOKEN, "TZ": "Asia/Tokyo"}
    os.environ.update(secret)
    try:
        stage.start_daemon()
    finally:
        for name in secret:
            del os.environ[name]
    stage.flag.touch()
    path = stage.directory / "trip.json"
    stage.until(lambda: path.exists() and path.read_text().endswith("\n"))
    environ, directory, text, descriptors = json.loads(path.read_text())
    kill = stage.status()["last_kill"]
    told = {name.removeprefix("KILL_SWITCH_"): value for name, value in environ.items() if name.startswith("KILL_")}
    assert told.pop("SUBJECT").startswith(f"kill-switch {told['HOST']}: KILL")
    assert re.fullmatch(r"[0-9a-f]+-\d+", told.pop("MESSAGE"))
    host = os.uname().nodename.partition(".")[0]
    assert told == {"LEVEL": "trip", "KILL": kill, "HOST": host, "ACCOUNTS": "oxfun roxom"}
    others = {name for name in environ if not name.startswith("KILL_SWITCH_")}
    page_of_docs = (Path(__file__).parents[3] / "docs/guides/notifications.md").read_text()
    documented = {*re.findall(r"`([A-Z_]+)`", page_of_docs.partition("Of the daemon's environment")[2].split(":")[0])}
    by_shell_and_python = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    assert others <= documented | by_shell_and_python and environ["TZ"] == "Asia/Tokyo"
    assert TOKEN not in path.read_text()
    assert directory == "/"
    subject, empty, first = text.splitlines()[:3]
    assert (subject.startswith("kill-switch "), empty, first.startswith("KILL: panic: ")) == (True, "", True)
    assert sorted(descriptors) == ["0", "1", "2", "3"]  # the last is the directory that is listed


def test_notify_test_says_for_each_channel_whether_it_has_arrived(stage: Play, site: Site) -> None:  # noqa: F811
    refusing, hanging = Site(), Site()
    refusing.status, hanging.status = 500, None
    page = program(stage, "page", f'echo "$KILL_SWITCH_LEVEL" > {stage.directory}/paged')
    try:
        good = channel(site), channel(site, "other")
        stage.write_config(f'[notify]\nurls = [{", ".join(good)}]\ncommand = "{page} {TOKEN}"\n')
        done = stage.command("notify", "--test", within_s=40)
        assert done.exit_code == 0, done.err
        assert sorted(re.sub(r"\d+ ms", "N ms", line) for line in done.out.splitlines()) == [
            f"command {page}: accepted after N ms",
            "urls[0] json://127.0.0.1: accepted after N ms",
            "urls[1] json://127.0.0.1: accepted after N ms",
        ]
        assert len(messages(site)) == 2 and all("TEST" in message for message in messages(site))
        assert (stage.directory / "paged").read_text() == "test\n"
        bad = channel(refusing), channel(hanging), channel(site)
        stage.write_config(f'[notify]\nurls = [{", ".join(bad)}]\ncommand = "false"\n')
        done = stage.command("notify", "--test", "--json", within_s=60)
        assert done.exit_code == 1
        assert [each["ok"] for each in done.json["channels"]] == [False, False, True, False]
        assert done.json["ok"] is False and TOKEN not in done.out + done.err
    finally:
        refusing.close()
        hanging.close()


def test_notify_test_needs_a_channel_but_no_accounts_and_no_daemon(tmp_path: Path, stage: Play) -> None:
    stage.config.write_text("[accounts.a]\nvenue = 'no such venue'\n")
    done = stage.command("notify", "--test")
    assert done.exit_code == 1 and "no channel is configured" in done.err and done.out == ""
    assert stage.command("notify").exit_code == 2
    stage.config.write_text('[notify]\nurls = ["no url"]\n')
    assert stage.command("notify", "--test").exit_code == 78
