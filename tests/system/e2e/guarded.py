"""Run the command line, and note in a file what its main thread, which runs the event loop, asks of others.

`python -m tests.system.e2e.guarded run -c FILE` appends a line for each call that may wait for a file system, a data
base or another process: when, what, and from where. The file is named by `$GUARDED`.
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

AUDITED = (
    *("open", "import", "os.listdir", "os.scandir", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link"),
    *("os.symlink", "os.chmod", "os.chown", "os.utime", "os.truncate", "os.posix_spawn", "os.fork", "subprocess.Popen"),
    *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "os.system"),
    *("fcntl.flock", "fcntl.lockf", "glob.glob", "shutil.copyfile", "tempfile.mkstemp", "time.sleep"),
)
UNAUDITED: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (os, ("stat", "lstat", "access", "statvfs", "readlink", "fsync", "fdatasync", "sync", "waitpid", "getlogin")),
    (pwd, ("getpwuid", "getpwnam", "getpwall")),
    (grp, ("getgrgid", "getgrnam", "getgrall")),
    (time, ("sleep",)),
)
_noting = threading.local()


def note(what: str, told: object) -> None:
    """Append a line, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread() or getattr(_noting, "now", False):
        return
    _noting.now = True
    try:
        frames = traceback.StackSummary.extract(traceback.walk_stack(sys._getframe(2)), limit=6, lookup_lines=False)
        places = " < ".join(f"{os.path.basename(f.filename)}:{f.lineno}:{f.name}" for f in frames)
        with open(os.environ["GUARDED"], "a") as file:
            file.write(f"{time.monotonic_ns()} {what} {told!r:.150} {places}\n")
    finally:
        _noting.now = False


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event == "open" and isinstance(args[0], int):
        return  # it is open already
    if event == "import" and args[0] in sys.modules:
        return  # an entry that lets it fail without a search
    if event in AUDITED:
        note(event, args[:1])


def _wrapped(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def noted(*args: Any, **more: Any) -> Any:
        note(what, args[:1])
        return function(*args, **more)

    return noted


def main() -> None:
    """Install the hooks, then be the command line."""
    for module, names in UNAUDITED:
        for name in names:
            setattr(module, name, _wrapped(f"{module.__name__}.{name}", getattr(module, name)))
    sys.addaudithook(_hook)
    from kill_switch.cli import main as command

    command()


if __name__ == "__main__":
    main()
