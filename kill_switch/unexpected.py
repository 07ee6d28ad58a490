"""Say what nobody expected in one line: a traceback helps who mends the program, not who has orders to cancel.

With `KILL_SWITCH_DEBUG` set to anything, tracebacks are shown as Python shows them.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kill_switch import printable

if TYPE_CHECKING:
    from logging import LogRecord

VARIABLE = "KILL_SWITCH_DEBUG"
HINT = f"{VARIABLE}=1 shows where"
_PACKAGE = Path(__file__).parent


def brief(error: BaseException) -> str:
    """Return an exception's kind and place; of the operating system's errors, what it said of which file.

    Other exceptions' texts are left out: they may repeat what was sent, and with it a secret.
    """
    import traceback  # here, as logging below: commands that ask the daemon must start fast

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)] or frames
    return f"{said} ({Path(ours[-1].filename).name}, line {ours[-1].lineno})" if ours else said


def debugging() -> bool:
    """Tell whether tracebacks are wanted."""
    return bool(os.environ.get(VARIABLE))


def be_brief() -> None:
    """Have all that ends on standard error by itself, from logs, threads and finalizers, be one line each.

    To be called once the log is set up, by a command that a person waits for.
    """
    import logging

    if debugging():
        return
    for handler in (*logging.getLogger().handlers, logging.lastResort):
        if handler is not None:
            handler.addFilter(_shorten)
    threading.excepthook = lambda args: _say("a thread ended", args.exc_value)
    sys.unraisablehook = lambda args: _say("something could not be tidied up", args.exc_value)
    sys.excepthook = lambda kind, error, trace: _say("unexpected", error)


def _shorten(record: LogRecord) -> bool:
    """Put an exception's brief form in the place of its traceback."""
    if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
        record.msg, record.args = f"{record.getMessage()}: {brief(record.exc_info[1])}", None
        record.exc_info = record.exc_text = None
    return True


def _say(what: str, error: BaseException | None) -> None:
    if sys.stderr is not None:
        sys.stderr.write(printable.line(f"kill-switch: {what}: {'?' if error is None else brief(error)}") + "\n")
