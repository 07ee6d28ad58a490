"""The recipes that need nothing but what the tests have: ccxt, a shell, C, Go where it is there, a systemd timer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kill_switch.client import Unreachable
from kill_switch.config import loader
from kill_switch.triggers.intake.datagrams import Beat, EquityReported, Message, parse_messages
from tests.recipes import pages
from tests.unit.sim.clients import running
from tests.unit.sim.test_ccxt import ccxt, client

FOLDER = pages.FOLDER


def received(intake: socket.socket) -> list[Message | None]:
    """Return the messages that came, as the intake reads them."""
    return [message for datagram in pages.beats(intake) for message in parse_messages(datagram)]


def test_a_ccxt_bot_beats_after_each_turn_that_has_worked_and_after_no_other(intake: socket.socket) -> None:
    recipe: Any = pages.module("ccxt")

    async def run() -> None:
        async with running("kraken") as sim, client(sim, "kraken", ccxt.kraken) as kraken:
            heartbeat = recipe.Heartbeat("quoter-alive")
            bot = asyncio.create_task(recipe.trade(kraken, "BTC/USD", heartbeat, 0.05))
            try:
                await _until(lambda: len(received(intake)) > 0)
                await sim.post("/faults", venue="kraken", fault="maintenance")
                await asyncio.sleep(0.3)
                received(intake)
                await asyncio.sleep(0.5)
                assert received(intake) == [] and not bot.done()
                await sim.admin.request("DELETE", "/faults?venue=kraken")
                await _until(lambda: Beat("quoter-alive", "") in received(intake))
            finally:
                bot.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await bot

    asyncio.run(run())


async def _until(true: Any) -> None:
    async with asyncio.timeout(15):
        while not true():  # noqa: ASYNC110 - another process sends
            await asyncio.sleep(0.05)


def test_a_c_program_beats_and_goes_on_without_a_daemon(tmp_path: Path, intake: socket.socket) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("takes a C compiler")
    (code,) = pages.blocks("c", "c")
    source, program = tmp_path / "bot.c", tmp_path / "bot"
    source.write_text(code)
    flags = ("-Wall", "-Wextra", "-Werror", "-std=gnu11")
    subprocess.run([compiler, *flags, "-o", program, source], check=True)
    _beats_three_times_with_and_without_a_daemon(program, tmp_path, intake)


def test_a_go_program_beats_and_goes_on_without_a_daemon(tmp_path: Path, intake: socket.socket) -> None:
    if shutil.which("go") is None:
        pytest.skip("takes Go: there is no `go` here, so that the recipe is not compiled")
    (code,) = pages.blocks("go", "go")
    (tmp_path / "bot.go").write_text(code)
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "GO111MODULE": "off"}
    subprocess.run(["go", "build", "-o", "bot", "bot.go"], cwd=tmp_path, env=environment, check=True)
    _beats_three_times_with_and_without_a_daemon(tmp_path / "bot", tmp_path, intake)


def _beats_three_times_with_and_without_a_daemon(program: Path, directory: Path, intake: socket.socket) -> None:
    done = subprocess.run([program, directory, "quoter-alive"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert received(intake) == [Beat("quoter-alive", "")] * 3
    intake.close()
    done = subprocess.run([program, directory, "quoter-alive"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.lower().count("beat lost: connection refused") == 3


def test_a_shell_script_beats_after_each_turn_that_has_worked(tmp_path: Path, intake: socket.socket) -> None:
    loop, _ = pages.blocks("shell", "sh")
    config = tmp_path / "config.toml"
    config.write_text(f'[daemon]\nruntime_dir = "{tmp_path}"\n')
    work = "turns=0; work() { turns=$((turns + 1)); [ $turns -lt 3 ]; }\n"
    environment = {
        **os.environ,
        "KILL_SWITCH_CONFIG": str(config),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(["sh", "-c", work + loop.replace("sleep 1", "sleep 0.05")], env=environment)
    assert done.returncode == 0
    assert [message[0] for message in received(intake) if message is not None] == ["quoter-alive"] * 2


def test_the_line_for_socat_beats(tmp_path: Path, intake: socket.socket) -> None:
    if shutil.which("socat") is None:
        pytest.skip("takes socat")
    _, line = pages.blocks("shell", "sh")
    subprocess.run(["sh", "-c", line.replace("/run/kill-switch", str(tmp_path))], check=True)
    assert received(intake) == [Beat("quoter-alive", "")]


def test_the_units_of_the_page_about_timers_are_valid(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("takes systemd-analyze")
    service, timer = pages.blocks("systemd-timer", "ini")
    (tmp_path / "hedger.timer").write_text(timer)
    (tmp_path / "hedger.service").write_text(
        service.replace("/opt/hedger/bin/hedge", "/bin/true").replace("/opt/kill-switch/bin/kill-switch", "/bin/true")
    )
    units = [str(tmp_path / name) for name in ("hedger.timer", "hedger.service")]
    command = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "hedger" in line]) == (0, [])


TOML = sorted(path.stem for path in FOLDER.glob("*.md") if "```toml" in path.read_text("utf-8"))


@pytest.mark.parametrize("page", TOML)
def test_the_trigger_of_a_page_is_a_valid_configuration(page: str, tmp_path: Path) -> None:
    (trigger,) = pages.blocks(page, "toml")
    path = tmp_path / "config.toml"
    path.write_text(
        "".join(
            f'[accounts.{name}]\nvenue = "oxfun"\napi_key = {{ env = "{name}" }}\napi_secret = {{ env = "SECRET" }}\n'
            for name in ("mm1", "ft1")
        )
        + trigger
    )
    loaded = loader.load(path, environ={"mm1": "key", "ft1": "another", "SECRET": "secret"})
    assert all(table.kind == "heartbeat" for table in loaded.triggers.values())


def test_the_guides_code_beats_reports_and_explains_a_daemon_that_is_not_there(
    intake: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, figure, kill, twins = pages.blocks("../guides/client", "python")
    names: dict[str, Any] = {}
    for code in (loop, figure, kill):
        exec(code, names)  # noqa: S102 - a page of ours
    names["step"]()
    assert names["stop_trading"]() is False and "no daemon answers on" in capsys.readouterr().out
    exec(twins, names)  # noqa: S102
    asyncio.run(names["trade"]())
    figures, *beats = received(intake)
    assert isinstance(figures, EquityReported) and figures.equity == "101234.50"
    assert beats == [Beat("quoter-alive", "")] * 2
    with pytest.raises(Unreachable):
        asyncio.run(names["kill"]())
