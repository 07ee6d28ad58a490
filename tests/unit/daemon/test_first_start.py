"""With `start = "tripped"` the first start trips every account, however it meets a crash or a latch."""

from __future__ import annotations

import pytest

from kill_switch.clock import now
from kill_switch.config.loader import load
from kill_switch.daemon.daemon import Daemon
from kill_switch.journal import latch_file, latch_lines
from tests.unit.daemon.test_reload import Play, anyio_backend, play  # noqa: F401 - fixtures

pytestmark = pytest.mark.anyio


def start_tripped(play: Play) -> None:  # noqa: F811
    play.write("a", "b")
    play.source.write_text(play.source.read_text().replace("[daemon]\n", '[daemon]\nstart = "tripped"\n'))


async def test_a_first_start_that_ends_after_its_first_record_leaves_its_trip_to_the_next_start(
    play: Play,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(daemon: Daemon) -> None:
        raise RuntimeError("the process ends here")

    start_tripped(play)
    daemon = Daemon(load(play.source))
    with monkeypatch.context() as broken:
        broken.setattr(Daemon, "_resume", fail)
        with pytest.raises(ExceptionGroup):
            await daemon.run()
    async with play.running() as daemon:
        assert [entry["kind"] for entry in daemon.journal.contents.entries if entry["kind"] != "checkpoint"] == [
            "start"
        ]
        assert play.tripped() == ("a", "b")
        assert 'the configuration says start = "tripped"' in [reason["text"] for reason in play.entries("reason")]


async def test_a_first_start_that_finds_a_latch_for_one_account_trips_the_others_too(play: Play) -> None:  # noqa: F811
    start_tripped(play)
    play.state_dir.mkdir()
    (play.state_dir / latch_file.LATCH_NAME).write_bytes(latch_lines.latch_line("direct kill", ["a"], now()) + b"\n")
    async with play.running():
        assert play.tripped() == ("a", "b")


async def test_a_start_that_is_not_the_first_is_not_tripped_by_the_configuration(play: Play) -> None:  # noqa: F811
    async with play.running("a", "b"):
        assert play.tripped() == ()
    start_tripped(play)
    async with play.running():
        assert play.tripped() == ()
