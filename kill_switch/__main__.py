"""Run the command line: the console script, and `python -m kill_switch`.

The first thing that `run` does is to hold signals, before the imports that take most of its start.
"""

from __future__ import annotations

import atexit
import os
import sys

from kill_switch.held import HELD

_ended_with = 0


def main() -> None:
    """Run a command and end the process with its exit code."""
    global _ended_with
    if next((word for word in sys.argv[1:] if not word.startswith("-")), "") == "run":
        HELD.install()
        atexit.register(_leave)  # the first to be registered is the last to be called
    try:
        _command()
    except SystemExit as end:
        _ended_with = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except BaseException:
        _ended_with = 70
        raise


def _command() -> None:
    try:
        from kill_switch.cli import main as command
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell says it; nothing was done
    except Exception as error:  # a package is missing, or half of one
        sys.stderr.write(f"kill-switch: cannot be loaded: {type(error).__name__}: {error}\n")
        sys.exit(70)
    command()


def _leave() -> None:
    """End the process without the interpreter's last steps, in which a signal would find no handler any more."""
    HELD.end()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # it is closed, or nobody reads it
    os._exit(_ended_with)


if __name__ == "__main__":
    main()
