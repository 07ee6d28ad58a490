"""A daemon that a fault has ended leaves no `stop` record, so that the next start says that it was not stopped."""

from __future__ import annotations

import pytest

from kill_switch.config.loader import load
from kill_switch.daemon.daemon import Daemon
from kill_switch.journal import journal
from tests.unit.daemon.test_reload import Play, anyio_backend, play  # noqa: F401 - fixtures

pytestmark = pytest.mark.anyio


async def test_a_fault_that_ends_the_daemon_is_no_stop_and_the_next_start_says_so(
    play: Play,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(daemon: Daemon) -> None:
        raise RuntimeError("a fault of the program")

    play.write("a")
    daemon = play.daemon = Daemon(load(play.source))
    with monkeypatch.context() as broken:
        broken.setattr(Daemon, "_catch_up", fail)
        with pytest.raises(ExceptionGroup):
            await daemon.run()
    kinds = [entry["kind"] for entry in journal.read_journal(play.daemon.journal.path).entries]
    assert "start" in kinds and "stop" not in kinds
    async with play.running("a"):
        assert "the last daemon ended without a stop" in "".join(play.announced)
