"""Check the units against systemd's own tools, against the code, and against what the guide says of them."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kill_switch.cli import operator_commands
from kill_switch.config.defaults import own_environment, systemd_directories
from kill_switch.config.schema import DaemonConfig
from kill_switch.control import server
from kill_switch.daemon import daemon
from kill_switch.daemon.sd_notify import START_USEC
from kill_switch.direct import direct_kill
from kill_switch.errors import ConfigError
from kill_switch.outbound import services
from kill_switch.worker import commands, main, subordinate
from kill_switch.worker.child_process import END_WITHIN_S

DIRECTORY = Path(__file__).parents[3] / "systemd"
GUIDE = DIRECTORY.parent / "docs/guides/systemd.md"
DAEMON, LAST_RESORT = "kill-switch.service", "kill-switch-last-resort.service"
PROGRAM = "/opt/kill-switch/bin/kill-switch"
CLOSE_WITHIN_S = 5  # Journal.close waits that long for its thread
SPANS = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0}
BOOT_S = 1.0  # from the fork to the first pulse
RESTART_MODE_SINCE = 254  # an older systemd ignores RestartMode=, and always behaves as `direct`


class Unit:
    """A unit file; a directive that stands several times has several values."""

    def __init__(self, path: Path) -> None:
        self.values: dict[str, list[str]] = {}
        for line in path.read_text("utf-8").splitlines():
            if line and not line.startswith(("#", "[")):
                key, equals, value = line.partition("=")
                assert equals, line
                self.values.setdefault(key, []).append(value)

    def __getitem__(self, key: str) -> str:
        (value,) = self.values[key]
        return value

    def seconds(self, key: str) -> float:
        number = re.fullmatch(r"(\d+)(\w*)", self[key])
        assert number, self[key]
        return int(number[1]) * SPANS[number[2]]


@pytest.fixture
def unit() -> Unit:
    return Unit(DIRECTORY / DAEMON)


@pytest.fixture
def last_resort() -> Unit:
    return Unit(DIRECTORY / LAST_RESORT)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with the example drop-in, and with a program that exists on this machine."""
    for path in DIRECTORY.glob("*.service"):
        (tmp_path / path.name).write_text(path.read_text("utf-8").replace(PROGRAM, "/bin/true"), "utf-8")
        dropins = tmp_path / f"{path.name}.d"
        dropins.mkdir()
        shutil.copy(DIRECTORY / "credentials.conf", dropins)
    return tmp_path


# ── systemd's own judgement ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [DAEMON, LAST_RESORT])
def test_systemd_finds_nothing_wrong_with_the_unit(name: str, installed: Path) -> None:
    checked = run(tool("systemd-analyze"), "verify", "--man=no", str(installed / name))
    complaints = [line for line in checked.stderr.splitlines() if "kill-switch" in line]
    version = re.match(r"systemd (\d+)", run(tool("systemctl"), "--version").stdout)
    if version is not None and int(version[1]) < RESTART_MODE_SINCE:
        complaints = [line for line in complaints if "Unknown key 'RestartMode' in section [Service]" not in line]
    assert complaints == [] and checked.returncode == 0, checked.stderr


def test_the_daemon_is_exposed_to_little_more_than_the_network(installed: Path) -> None:
    analyse = tool("systemd-analyze")
    checked = run(analyse, "security", "--offline=true", "--threshold=15", "--no-pager", str(installed / DAEMON))
    if "unrecognized option" in checked.stderr:
        pytest.skip("this systemd-analyze does not judge files")
    found = re.search(r"exposure level for \S+: (\d+\.\d)", checked.stdout)
    assert found is not None, checked.stdout + checked.stderr
    assert float(found[1]) <= 1.5 and checked.returncode == 0
    assert f"says {found[1]};" in GUIDE.read_text("utf-8")


def test_systemd_understands_the_user_and_group() -> None:
    checked = run(tool("systemd-sysusers"), "--dry-run", str(DIRECTORY / "kill-switch.sysusers"))
    if "unrecognized option" in checked.stderr:
        pytest.skip("this systemd-sysusers cannot try without doing")
    assert checked.returncode == 0, checked.stderr


def test_systemd_makes_the_directories_as_they_are_written(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give directories to somebody else")
    made = tmp_path / "run"
    text = (DIRECTORY / "kill-switch.tmpfiles").read_text("utf-8")
    text = text.replace("kill-switch kill-switch", "root root").replace("/run/", f"{made}/")
    (tmp_path / "try.conf").write_text(text, "utf-8")
    made.mkdir()
    checked = run(tool("systemd-tmpfiles"), "--create", str(tmp_path / "try.conf"))
    assert (checked.returncode, checked.stderr) == (0, "")
    modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in (made / "kill-switch", made / "kill-switch/flag")}
    assert modes == {"kill-switch": "0o750", "flag": "0o2770"}


# ── the code ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_systemd_waits_longer_than_the_daemon_takes_to_finish_a_strike(unit: Unit) -> None:
    bounds_s = (daemon.FINISH_WITHIN_S, services.FINISH_WITHIN_S, END_WITHIN_S, CLOSE_WITHIN_S)
    assert unit.seconds("TimeoutStopSec") >= sum(bounds_s) + 2


def test_the_watchdog_forgives_many_pulses_and_not_a_minute(unit: Unit) -> None:
    watchdog_s = unit.seconds("WatchdogSec")
    assert watchdog_s / min(daemon.PULSE_S, watchdog_s / 3) >= 10
    assert watchdog_s <= 30


LOOPS: dict[str, Callable[[Unit], float]] = {
    "crashes": lambda unit: BOOT_S,
    "hangs": lambda unit: BOOT_S + unit.seconds("WatchdogSec") + die_within_s(unit, "abort"),
    "hangs before its first pulse": lambda unit: unit.seconds("TimeoutStartSec") + die_within_s(unit),
    "hangs after it has asked for more time": lambda unit: BOOT_S + START_USEC / 1e6 + die_within_s(unit),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_of_failed_starts_reaches_the_limit_with_a_fifth_to_spare(loop: str, unit: Unit) -> None:
    cycle_s = LOOPS[loop](unit) + unit.seconds("RestartSec")
    assert 1.2 * cycle_s * int(unit["StartLimitBurst"]) < unit.seconds("StartLimitIntervalSec")


def die_within_s(unit: Unit, mode: str = "") -> float:
    """Return the seconds from a timeout to SIGKILL, for a process that ignores the signal before it."""
    mode = mode or unit.values.get("TimeoutStartFailureMode", ["terminate"])[0]
    return unit.seconds("TimeoutAbortSec" if mode == "abort" else "TimeoutStopSec")


def test_a_wrong_configuration_is_not_tried_again(unit: Unit, last_resort: Unit) -> None:
    for each in (unit, last_resort):
        assert int(each["RestartPreventExitStatus"]) == ConfigError.exit_code


def test_the_daemon_comes_back_and_its_failure_starts_the_last_resort(unit: Unit) -> None:
    assert unit["Type"] == "notify" and unit["NotifyAccess"] == "main"
    assert unit["Restart"] == "always"
    assert unit["OnFailure"] == LAST_RESORT
    assert unit["RestartMode"] == "direct"  # a restart is no failure


def test_hooks_cannot_harm_the_daemon(unit: Unit) -> None:
    assert unit["KillMode"] == "mixed"  # a hook has its time at a stop, and what it leaves delays no start
    assert unit["OOMPolicy"] == "continue"
    for call in ("setpriority", "sched_setscheduler"):
        assert call in unit.values["SystemCallFilter"][-1].split()
        assert f"os.{call}" in inspect.getsource(subordinate)
    assert int(unit["TasksMax"]) >= 2 * main.AT_ONCE + 3 * commands.AT_ONCE + commands.LEFT


def test_a_reload_is_the_daemons_own_and_refuses_an_invalid_file(unit: Unit) -> None:
    assert unit["ExecReload"] == f"{PROGRAM} reload"


def test_a_daemon_that_waits_for_a_venue_is_not_killed_for_it(unit: Unit) -> None:
    assert unit.seconds("TimeoutStartSec") * 1e6 >= START_USEC


def test_the_directories_are_those_that_the_code_takes_and_defaults_to(unit: Unit, last_resort: Unit) -> None:
    state, runtime = f"/var/lib/{unit['StateDirectory']}", f"/run/{unit['RuntimeDirectory']}"
    taken = systemd_directories({"STATE_DIRECTORY": state, "RUNTIME_DIRECTORY": runtime})
    assert taken == {"state_dir": str(DaemonConfig().state_dir), "runtime_dir": str(DaemonConfig().runtime_dir)}
    for key in ("RuntimeDirectory", "RuntimeDirectoryMode", "User", "Group"):
        assert unit[key] == last_resort[key]
    assert not any("STATE_DIRECTORY" in line for line in last_resort.values["Environment"])  # it would beat a drop-in
    assert unit["RuntimeDirectoryPreserve"] == last_resort["RuntimeDirectoryPreserve"] == "yes"


def test_a_command_in_either_unit_takes_the_directories_that_systemd_made(unit: Unit, last_resort: Unit) -> None:
    for each in (unit, last_resort):
        variables = dict(word.split("=", 1) for line in each.values["Environment"] for word in line.split())
        directories = {"STATE_DIRECTORY": "/s", "RUNTIME_DIRECTORY": "/r"}
        assert own_environment(variables | directories) == variables | directories


def test_the_flag_directory_is_the_only_one_that_the_group_may_write(unit: Unit) -> None:
    lines = [line.split() for line in (DIRECTORY / "kill-switch.tmpfiles").read_text().splitlines() if line[0] != "#"]
    modes = {path: mode for _, path, mode, *_ in lines}
    assert modes == {"/run/kill-switch": unit["RuntimeDirectoryMode"], "/run/kill-switch/flag": "2770"}
    assert not int(unit["RuntimeDirectoryMode"], 8) & 0o022


def test_operators_keep_their_names_and_the_journal_its_boot(unit: Unit) -> None:
    assert "PrivateUsers" not in unit.values and "SO_PEERCRED" in inspect.getsource(server)
    assert "ProcSubset" not in unit.values


def test_the_last_resort_needs_no_daemon_no_sandbox_no_start_limit_and_no_disk_of_the_state(last_resort: Unit) -> None:
    assert last_resort["Type"] == "oneshot"
    assert last_resort["Restart"] == "on-failure"
    assert last_resort["StartLimitIntervalSec"] == "0"
    assert "fire --direct" in last_resort["ExecStart"] and inspect.iscoroutinefunction(direct_kill.fire)
    tied = {"Requires", "BindsTo", "Requisite", "PartOf", "Conflicts"}
    blocked = {"ProtectSystem", "PrivateTmp", "SystemCallFilter", "RestrictNamespaces", "PrivateDevices"}
    waited_for = {"StateDirectory", "RequiresMountsFor", "WorkingDirectory", "ReadWritePaths"}
    assert not (tied | blocked | waited_for) & last_resort.values.keys()
    assert DAEMON not in last_resort["After"]


def test_the_last_resort_has_time_for_its_proof_and_an_end(last_resort: Unit) -> None:
    wait = re.search(r"--wait (\d+) ", last_resort["ExecStart"])
    assert wait is not None
    rest_s = direct_kill.TELL_WITHIN_S + 3 * direct_kill.RECORD_WITHIN_S
    assert direct_kill.STRIKE_WITHIN_S + int(wait[1]) + rest_s <= last_resort.seconds("TimeoutStartSec") <= 120
    assert direct_kill.STRIKE_WITHIN_S + rest_s <= last_resort.seconds("TimeoutStopSec") <= 60


def test_the_help_names_the_bound_of_a_direct_strike() -> None:
    assert f"take {direct_kill.STRIKE_WITHIN_S:g} s at most" in " ".join(str(operator_commands.fire.help).split())


def test_the_example_drop_in_has_the_secrets_of_the_example_configuration() -> None:
    example = (DIRECTORY.parent / "kill_switch/config/example.toml").read_text("utf-8")
    wanted = set(re.findall(r'^\w+ *= *{ credential = "([^"]+)" }', example, re.MULTILINE))
    given = {value.partition(":")[0] for value in Unit(DIRECTORY / "credentials.conf").values["LoadCredential"]}
    assert given == wanted


# ── the guide ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_readme_names_every_file() -> None:
    readme = GUIDE.read_text("utf-8")
    assert [path.name for path in DIRECTORY.iterdir() if path.name not in readme] == []


def test_the_readme_says_the_figures_of_the_unit(unit: Unit) -> None:
    readme = GUIDE.read_text("utf-8")
    keys = "WatchdogSec StartLimitIntervalSec StartLimitBurst TimeoutStartSec TimeoutStopSec OOMScoreAdjust CPUWeight"
    for key in (*keys.split(), "KillMode", "OOMPolicy", "TasksMax"):
        assert f"`{key}={unit[key]}`" in readme


def test_readme_and_units_put_the_flag_where_the_group_may_touch_it() -> None:
    readme = GUIDE.read_text("utf-8")
    assert set(re.findall(r"/run/kill-switch/\S*KILL", readme)) == {"/run/kill-switch/flag/KILL"}
