"""What environment and working directory can do to us: choose authorities, but run no code, and choose no proxy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kill_switch.worker import client

EVIL = "import pathlib; pathlib.Path(__file__).with_name('obeyed').touch()\n"


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """Make a directory with modules of the names of some that this program imports early and late."""
    for name in ("orjson", "logging", "contextlib", "httpx", "apprise", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(EVIL)
    return tmp_path


CALL = b'{"id":1,"do":"call","url":"http://127.0.0.1:1/","agent":"x","within_s":1,"begin_by_s":1e12}\n'


@pytest.mark.parametrize(("which", "errand"), [("messages", CALL), ("commands", b"")])
def test_the_processes_beside_run_no_code_of_the_working_directory_or_of_pythonpath(
    which: str, errand: bytes, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(evil)
    monkeypatch.setenv("PYTHONPATH", str(evil))
    monkeypatch.setenv("PYTHONSTARTUP", str(evil / "orjson.py"))
    read, write = os.pipe()
    beside: client.WorkerClient = getattr(client.WorkerPool(), which)
    process = beside._start(write)
    try:
        process.communicate(errand, timeout=15)
    finally:
        os.close(read)
        os.close(write)
    assert process.returncode == 0
    assert not (evil / "obeyed").exists()


def test_a_command_runs_no_code_of_the_working_directory(evil: Path) -> None:
    program = Path(sys.executable).with_name("kill-switch")
    if not program.exists():
        pytest.skip("the program is not installed beside this Python")
    command = [str(program), "check", "-c", "nothing.toml"]
    done = subprocess.run(command, cwd=evil, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78, done.stderr
    assert not (evil / "obeyed").exists()
