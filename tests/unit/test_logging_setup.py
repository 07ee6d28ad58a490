"""Logging never keeps a kill waiting: whoever reads standard error may be stuck, and the program's disk may hang."""

from __future__ import annotations

import io
import linecache
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from kill_switch import logging_setup

FLOOD = """
import logging, os, sys, time
from kill_switch import logging_setup as logs
logs.FLUSH_WITHIN_S = 0.2
logs.set_up()
log = logging.getLogger("kill_switch.flood")
began = time.monotonic()
for number in range(11_000):
    log.warning("line %d of many, long enough to fill a pipe that nobody reads", number)
os.write(1, f"{time.monotonic() - began:.3f}\\n".encode())
END
"""


def run(code: str, *, reads: bool = True, within_s: float = 15.0) -> tuple[int, bytes, bytes]:
    """Run Python code to its end; with `reads` False nobody reads its standard error, which is small."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        if reads:
            out, told = process.communicate(timeout=within_s)
            return process.returncode, out, told
        assert process.stdout is not None
        out = process.stdout.read()
        return process.wait(within_s), out, b""
    finally:
        process.kill()
        process.communicate()


def test_a_reader_that_is_stuck_is_not_waited_for() -> None:
    code, took, _ = run(FLOOD.replace("END", "os._exit(0)"), reads=False)
    assert code == 0
    assert float(took) < 15.0


@pytest.mark.parametrize(
    ("end", "code"),
    [("logs.leave(7)", 7), ("sys.exit(3)", 3), ("raise RuntimeError", 1), ("", 0)],
    ids=["leave", "exit", "exception", "end"],
)
def test_a_process_ends_within_a_bound_though_its_reader_is_stuck(end: str, code: int) -> None:
    began_s = time.monotonic()
    assert run(FLOOD.replace("END", end), reads=False)[0] == code
    assert time.monotonic() - began_s < 15.0


def test_a_process_ends_although_a_non_daemon_thread_hangs() -> None:
    hung = "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
    code, out, told = run(
        f"from kill_switch import logging_setup as logs; logs.set_up(); {hung}print('said'); logs.leave(5)"
    )
    assert (code, out, told) == (5, b"said\n", b"")


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("print('by hand', file=sys.stderr)", b"by hand\n"),
        ("logging.getLogger('kill_switch.x').error('an error')", b"ERROR    an error\n"),
        ("import warnings; warnings.warn('a warning')", b"UserWarning: a warning"),
        ("import click; click.echo('an echo', err=True)", b"an echo\n"),
        ("raise ValueError('a reason to end')", b"ValueError: a reason to end"),
    ],
)
def test_every_line_to_standard_error_arrives(does: str, says: bytes) -> None:
    assert says in run(f"import logging, sys; from kill_switch import logging_setup as logs; logs.set_up(); {does}")[2]


def test_an_uncaught_exception_is_logged() -> None:
    code = "class A:\n    def __del__(self) -> None: raise ValueError('too late')\na = A()\ndel a\n"
    told = run(f"from kill_switch import logging_setup as logs\nlogs.set_up()\n{code}logs.leave(0)")[2]
    assert b"ERROR    an exception was ignored" in told
    assert b"ValueError: too late" in told


# ── in this process ───────────────────────────────────────────────────────────────────────────────────────────────


class Reader:
    """Takes what a `Writer` writes, unless it is stuck."""

    def __init__(self) -> None:
        self.told = ""
        self.stuck, self.goes_on = False, threading.Event()
        self.writer = logging_setup.LogWriter(self._take)
        self.log = logging.Logger("kill_switch.test")
        self.log.addHandler(logging_setup._Handler(self.writer))

    def _take(self, text: str) -> None:
        if self.stuck:
            self.goes_on.wait(10)
        self.told += text

    def has_all(self) -> str:
        assert self.writer.flush(5)
        return self.told


@pytest.fixture
def reader() -> Reader:
    return Reader()


def test_a_traceback_is_made_without_a_look_at_the_source_by_who_logs(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def noted(function: Callable[..., object]) -> Callable[..., object]:
        def looks(*args: object) -> object:
            looked.append(threading.current_thread().name)
            return function(*args)

        return looks

    for name in ("checkcache", "getline", "updatecache"):
        monkeypatch.setattr(linecache, name, noted(getattr(linecache, name)))
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError:
        reader.log.exception("it failed")
    told = reader.has_all()
    assert looked
    assert set(looked) == {"stderr"}
    assert "ERROR    it failed\n" in told
    assert told.index("KeyError: 'first'") < told.index("ValueError: second")
    assert 'raise ValueError("second") from error' in told


def test_a_log_record_with_wrong_arguments_is_still_logged(reader: Reader) -> None:
    reader.log.warning("%d of %d", 1)
    assert "%d of %d (arguments not formatted: TypeError)" in reader.has_all()


def test_a_record_needs_no_lock_although_pythons_handlers_take_one_since_3_13(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handle(handler: logging.Handler, record: logging.LogRecord) -> None:
        with handler.lock:  # type: ignore[union-attr]  # there is none
            handler.emit(record)

    monkeypatch.setattr(logging.Handler, "handle", handle)
    reader.log.handlers[0].addFilter(lambda record: record.levelno > logging.INFO)
    reader.log.info("filtered")
    reader.log.warning("passed on")
    assert "passed on" in reader.has_all() and "filtered" not in reader.told


def test_a_full_queue_drops_lines_and_says_how_many_once(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging_setup, "MAX_QUEUED", 3)
    reader.stuck = True
    reader.log.warning("the first")
    while not reader.writer.stuck_s:
        time.sleep(0.001)
    for number in range(8):
        reader.log.warning("line %d", number)
    assert reader.writer.lost == 5
    assert not reader.writer.flush(0.05)
    reader.stuck = False
    reader.goes_on.set()
    reader.has_all()
    reader.log.warning("the last")
    told = reader.has_all()
    assert told.count("5 line(s) lost: the reader of standard error was stuck") == 1
    assert "the last" in told
    assert reader.writer.stuck_s == 0.0


def test_a_stream_without_a_reader_ends_no_process() -> None:
    stream = io.StringIO()
    stream.close()
    writer = logging_setup.LogWriter(stream.write)
    logging_setup.Stderr(writer, stream).write("to nobody")
    assert writer.flush(5)
