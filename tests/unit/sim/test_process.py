"""Start the simulators as a process, as users do."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import ssl
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import kill_switch.sim
from kill_switch.sim import serve

from .clients import running


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kill_switch", "sim", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_line_says_that_it_is_ready_and_a_signal_ends_it(number: signal.Signals) -> None:
    with start("--venue", "oxfun", "--venue", "roxom", "--option", "roxom.auth=api-key") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert set(ready) == {"admin", "ca_file", "venues"} and set(ready["venues"]) == {"oxfun", "roxom"}
        assert ready["venues"]["roxom"]["options"] == {"auth": "api-key", "path_prefix": "/api/v1"}
        oxfun = ready["venues"]["oxfun"]
        assert set(oxfun["credentials"]) == {"api_key", "api_secret"} and oxfun["options"] == {}
        with urllib.request.urlopen(f"{ready['admin']}/orders?venue=oxfun", timeout=5) as answer:  # noqa: S310
            assert json.load(answer)["open"] == 0
        assert Path(ready["ca_file"]).exists()
        process.send_signal(number)
        rest, errors = process.communicate(timeout=10)
        assert (process.returncode, rest, errors) == (0, "", "")
    assert not Path(ready["ca_file"]).parent.exists()


def test_an_unknown_venue_is_refused_with_the_one_that_was_meant() -> None:
    with start("--venue", "oxfan") as process:
        out, errors = process.communicate(timeout=10)
    assert (process.returncode, out) == (2, "")
    known = ", ".join(sorted(kill_switch.sim.VENUES))
    assert errors.endswith(f"\nError: unknown venue 'oxfan'. Did you mean 'oxfun'? Known: {known}.\n")


@pytest.mark.anyio
async def test_certificates_are_valid_and_keys_are_private() -> None:
    async with running("oxfun") as sim:
        directory = Path(sim.ready["ca_file"]).parent
        for file in directory.iterdir():
            if b"PRIVATE KEY" in file.read_bytes():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert sorted(os.listdir(directory)) == ["ca.pem", "server.key", "server.pem"]
        port = int(sim.venue("oxfun")["rest_url"].rpartition(":")[2])
        for name in ("localhost", "127.0.0.1", "::1"):  # whatever the client calls it
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=sim.tls, server_hostname=name)
            writer.transport.abort()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=sim.tls, server_hostname="example.org")
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())


@pytest.mark.anyio
async def test_certificates_are_written_where_one_says(tmp_path: Path) -> None:
    directory = tmp_path / "tls"
    async with serve(["roxom"], host="localhost", tls_dir=directory) as ready:
        assert ready["ca_file"] == str(directory / "ca.pem")
        assert ready["venues"]["roxom"]["rest_url"].startswith("https://localhost:")
        assert ready["admin"].startswith("http://127.0.0.1:")
    assert (directory / "ca.pem").exists()


def test_the_simulators_import_nothing_of_the_product() -> None:
    for file in Path(kill_switch.sim.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}:{node.lineno} does not say whence it imports"
                names = [f"{node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            else:
                continue
            ours = [name for name in names if name.startswith("kill_switch")]
            assert all(name.startswith("kill_switch.sim.") for name in ours), f"{file}:{node.lineno}"
