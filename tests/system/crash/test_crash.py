"""Kill the daemon a few times at random moments. More of it, and a sick machine: `python -m tests.system.crash`."""

from __future__ import annotations

import shutil
import socket

import pytest

from tests.system.e2e.conftest import HEARTBEAT

from . import resource_failures, sigkill
from .daemon_fixture import Stand

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_whenever_the_daemon_is_killed_the_latch_holds_and_no_order_survives() -> None:
    figures = sigkill.run(5, seed=11, venues=("oxfun", "roxom"))
    assert figures.good, figures


def test_a_daemon_without_a_file_descriptor_to_spare_still_kills() -> None:
    figures = resource_failures.descriptors(seed=1, rounds=1)
    assert figures.good, figures


def test_a_state_directory_that_does_not_answer_delays_no_kill_and_loses_no_latch() -> None:
    figures = resource_failures.hung(seed=1)
    assert figures.good, figures


def test_a_runtime_directory_that_is_removed_under_the_daemon_is_made_anew() -> None:
    with Stand(("roxom",), seed=1) as stand:
        stand.write_config(HEARTBEAT.replace("oxfun", "roxom"))
        stand.start_daemon()
        shutil.rmtree(stand.runtime_dir)
        stand.until(lambda: (stand.runtime_dir / "control.sock").exists() and stand.state() == "ARMED")
        stand.until(lambda: (stand.runtime_dir / "intake.sock").exists())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"alive", str(stand.runtime_dir / "intake.sock"))
        stand.until(lambda: stand.status()["triggers"]["alive"]["state"] != "waiting")
        stand.rest_some()
        stand.flag.touch()
        assert stand.expect_clear("after the directory has gone"), stand.figures
