"""What nobody expected is one line, which says where and shows nothing secret."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from kill_switch import unexpected
from kill_switch.config import loader
from kill_switch.errors import ConfigError

NOISY = """
import logging, threading
from kill_switch import unexpected
unexpected.be_brief()
def fail():
    raise ValueError("a secret")
class Untidy:
    def __del__(self):
        fail()
try:
    fail()
except ValueError:
    logging.getLogger("x").exception("a task failed")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Untidy()
fail()
"""


def test_logs_threads_finalizers_and_the_end_are_one_line_each() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, timeout=15)
    lines = done.stderr.splitlines()
    assert [line.partition(": ValueError")[0] for line in lines] == [
        "a task failed",
        "kill-switch: a thread ended",
        "kill-switch: something could not be tidied up",
        "kill-switch: unexpected",
    ]
    assert "secret" not in done.stderr


def test_a_fault_is_described_by_its_type_and_its_place_in_the_program(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loader.load(tmp_path / "none.toml", environ={})
    assert unexpected.brief(caught.value).startswith("ConfigError (toml_file.py, line ")
    group = ExceptionGroup("several", [OSError(28, "No space left on device", "/x")])
    assert unexpected.brief(group) == "No space left on device: /x"
    assert unexpected.brief(KeyError("a secret")) == "KeyError"


def test_a_developer_can_ask_for_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.excepthook, len(logging.getLogger().handlers)
    monkeypatch.setenv(unexpected.VARIABLE, "1")
    unexpected.be_brief()
    assert (sys.excepthook, len(logging.getLogger().handlers)) == before
