"""Start a worker process of this interpreter, and wait for its end. `client` calls this in a thread of its own.

Every function but `environ` may block.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import kill_switch
from kill_switch.worker import environment

END_WITHIN_S = 3.0  # seconds; longer than `subordinate.LAST_S`
KILL_WITHIN_S = 1.0  # seconds after SIGKILL


def start(module: str, descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start the module as a process; raise `OSError`. Blocks while the program is loaded from its disk.

    The process inherits the file descriptors and gets their numbers as arguments.
    """
    # because vfork(2) would stop the whole daemon until the program is loaded
    setattr(subprocess, "_USE_VFORK", False)  # noqa: B010 - documented, but unknown to type checkers
    return subprocess.Popen(  # noqa: S603 - this interpreter and modules of this package
        (sys.executable, "-P", "-m", module, *map(str, descriptors)),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ(),
        pass_fds=descriptors,
        start_new_session=True,
    )


def abandon(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started for a caller that no longer waits."""
    close(process.stdin, process.stdout, process.stderr)
    reap(process)


def close(*pipes: IO[bytes] | None) -> None:
    """Close those pipes of a process that no transport has taken over."""
    for pipe in pipes:
        if pipe is not None:
            pipe.close()


def reap(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has ended; after `END_WITHIN_S`, kill it."""
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel cannot end it
            process.wait(KILL_WITHIN_S)


def environ() -> dict[str, str]:
    """Return the environment of a worker process: the harmless variables, and where it finds this package."""
    return {**environment.visible(environment.WORKER), "PYTHONPATH": str(Path(kill_switch.__file__).parents[1])}
