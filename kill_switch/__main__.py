"""Run the command line: the console script `kill-switch`, and `python -m kill_switch`.

For `run`, signals are caught before the imports that take most of the daemon's start-up time. The process always ends
with the exit code of its command. No command is implemented here: `kill_switch.cli` has them.
"""

from __future__ import annotations

import contextlib
import os
import sys

from kill_switch.daemon.held_signals import SIGNAL_HOLDER
from kill_switch.terminal import streams


def main() -> None:
    """Run a command and end the process with its exit code, even if threads of it still hang."""
    streams.open_missing()
    runs = next((word for word in sys.argv[1:] if not word.startswith("-")), "") == "run"
    if runs:
        SIGNAL_HOLDER.install()
    try:
        code = _command()
    finally:
        if runs:
            SIGNAL_HOLDER.hold_until_exit()
    if logs := sys.modules.get("kill_switch.logging_setup"):  # a command that logs nothing has not imported it
        logs.leave(code)
    if runs:
        _leave(code)
    sys.exit(code)


def _command() -> int:
    """Run the command that the command line names; return its exit code."""
    try:
        from kill_switch.cli import main as run_command

        run_command()
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else int(exit_request.code is not None)
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as a shell reports it; the command has changed nothing
    except ImportError as error:  # a package is missing or incomplete
        sys.stderr.write(f"kill-switch: cannot be loaded: {type(error).__name__}: {error}\n")
        return 70
    return 0


def _leave(code: int) -> None:
    """End the process by `_exit(2)`, because the interpreter's own shutdown removes the signal handlers too early."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or its reader has ended
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
