"""One container and its simulators for all who ask for them; every test's end is audited."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from .host import FLAG, UNIT, VENUES, Host, Simulators, configure
from .machine import python, why_not


@pytest.fixture(scope="package")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulators]:
    reason = why_not()
    if reason and os.environ.get("KILL_SWITCH_NEEDS_SYSTEMD"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    simulators = Simulators(tmp_path_factory.mktemp("tls"))
    try:
        yield simulators
    finally:
        simulators.close()


@pytest.fixture(scope="package")
def container(sim: Simulators) -> Iterator[Host]:
    """A booted container with everything in place, and the daemon not yet started."""
    try:
        host = Host()
    except OSError as error:
        if os.environ.get("KILL_SWITCH_NEEDS_SYSTEMD"):
            raise
        pytest.skip(f"no overlay can be mounted here: {error}")
    before = signal.signal(signal.SIGTERM, _end)
    try:
        host.boot()
        script = host.block("install").replace("python3 -m venv", f"{python()} -m venv")
        host.run(script, timeout_s=200)
        configure(host, sim.ready, Path(sim.ready["ca_file"]).read_text())
        host.run(f"systemctl enable {UNIT}")
        yield host
    finally:
        host.close()
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def host(container: Host, sim: Simulators) -> Iterator[Host]:
    """The host with an armed daemon, and orders at every venue; audited when the test is over, also when it failed."""
    for venue in VENUES:
        sim.call("DELETE", f"/faults?venue={venue}")
    if not container.runs:
        container.boot()
    container.run(f"rm -f {FLAG}")
    container.start()
    container.rearm()
    sim.rest()
    before, books = len(container.record()), sim.open()
    assert all(books.values())
    yield container
    reasons = [entry for entry in container.record()[before:] if entry["kind"] == "reason"]
    if reasons or container.latch_left():
        container.until(sim.empty, 20, "after a reason no order survives")
    else:
        assert sim.open() == books, "nothing but a reason cancels"
    if container.runs and container.state() != "unreachable":
        container.until(lambda: container.state() != "FIRING", 20, "the kill is over")
        assert (container.state() == "TRIPPED") == bool(container.latched())


def _end(number: int, frame: FrameType | None) -> None:
    pytest.exit(f"signal {number}")  # through all fixtures: nothing stays mounted
