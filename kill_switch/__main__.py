"""Run the command line: the console script, and `python -m kill_switch`.

The first thing that `run` does is to hold signals, before the imports that take most of its start.
"""

from __future__ import annotations

import os
import sys

from kill_switch.daemon.held_signals import HELD


def main() -> None:
    """Run a command and end the process with its exit code, whatever threads still hang."""
    runs = next((word for word in sys.argv[1:] if not word.startswith("-")), "") == "run"
    if runs:
        HELD.install()
    try:
        code = _command()
    finally:
        if runs:
            HELD.end()
    if logs := sys.modules.get("kill_switch.logging_setup"):  # a command that needs none has not imported it
        logs.leave(code)
    if runs:
        _leave(code)
    sys.exit(code)


def _command() -> int:
    """Run the command that the command line names; return its exit code."""
    try:
        from kill_switch.cli import main as command

        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130  # as a shell says it; nothing was done
    except ImportError as error:  # a package is missing, or half of one
        sys.stderr.write(f"kill-switch: cannot be loaded: {type(error).__name__}: {error}\n")
        return 70
    return 0


def _leave(code: int) -> None:
    """End the process without the interpreter's last steps, in which a signal would find no handler any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # it is closed, or nobody reads it
    os._exit(code)


if __name__ == "__main__":
    main()
