"""Print an unexpected exception as one line: an operator who has orders to cancel has no use for a traceback.

The command line and direct kills use this. With `KILL_SWITCH_DEBUG` set to any value, Python's own tracebacks are
shown. The texts of exceptions are not printed, because they may contain a secret.
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
    """Return an exception's kind and place in the code; for an error of the operating system, its text and file.

    Other exceptions' texts are left out: they may repeat bytes that were sent, and with them a secret.
    """
    import traceback  # imported here, as logging below, because commands that ask the daemon must start fast

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    frames = traceback.extract_tb(error.__traceback__)
    own_frames = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)] or frames
    return f"{text} ({Path(own_frames[-1].filename).name}, line {own_frames[-1].lineno})" if own_frames else text


def debugging() -> bool:
    """Return whether the user wants tracebacks."""
    return bool(os.environ.get(VARIABLE))


def be_brief() -> None:
    """Shorten to one line each whatever reaches standard error by itself: log records, ended threads, failed
    finalizers.

    Call it after the log is set up, in a command that a person waits for.
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
    """Replace a record's traceback by the exception's brief form."""
    if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
        record.msg, record.args = f"{record.getMessage()}: {brief(record.exc_info[1])}", None
        record.exc_info = record.exc_text = None
    return True


def _say(subject: str, error: BaseException | None) -> None:
    if sys.stderr is not None:
        sys.stderr.write(printable.line(f"kill-switch: {subject}: {'?' if error is None else brief(error)}") + "\n")
