"""The directory of `kill-switch sim --write`: a configuration that is ready for `kill-switch run`.

The first line of `config.toml` tells whether the directory is this program's. Nothing else is ever overwritten.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kill_switch.errors import CannotCreate
from kill_switch.testbed import config_files
from kill_switch.testbed.config_files import Layout

MARK = "# Written by `kill-switch sim --write`, anew at each start of the simulators: changes in this file are lost.\n"
_STARTING = f"{MARK}# The simulators have not started.\n"


class SimDirectory:
    """A directory that holds what `kill-switch run` needs for accounts at simulators."""

    def __init__(self, path: Path) -> None:
        self.path = path
        run = path / "run"
        self.layout = Layout(path / "config.toml", path / "keys", path / "state", run, run / "flag/KILL")
        self.tls = path / "tls"

    def fill(self, ready: Mapping[str, Any]) -> None:
        """Write the configuration and the key files for a ready line. Raises `CannotCreate`."""
        layout = self.layout
        try:
            for directory in (layout.keys, layout.state_dir, layout.runtime_dir, layout.flag.parent):
                directory.mkdir(mode=0o700, exist_ok=True)
            run, touch = config_files.toml(layout.config), config_files.toml(layout.flag)
            head = f"{MARK}# `kill-switch run -c {run}` uses it; `touch {touch}` kills everything.\n\n"
            config_files.write(layout, ready, config_files.logins(ready), head=head)
        except OSError as error:
            raise CannotCreate(f"{error.filename or self.path}: {error.strerror}") from error

    def leave(self) -> None:
        """Remove the mark of a start that has made nothing else here. Raises `OSError`."""
        if not self.tls.exists() and self.layout.config.read_bytes() == _STARTING.encode():
            self.layout.config.unlink()

    def foreign(self) -> Path | None:
        """Return the first file here that this program would use and has not made. Raises `OSError`."""
        layout = self.layout
        parts = (layout.keys, layout.state_dir, layout.runtime_dir, self.tls)
        if link := next((path for path in (layout.config, *parts) if path.is_symlink()), None):
            return link
        if not layout.config.exists():
            return next((path for path in parts if _has_files(path)), None)
        if not layout.config.is_file():
            return layout.config
        with layout.config.open("rb") as file:
            return None if file.read(len(MARK.encode())) == MARK.encode() else layout.config


@contextmanager
def claimed(path: Path) -> Iterator[SimDirectory]:
    """Make the directory, and hold it against other simulators while the context is open.

    Raises `CannotCreate` if it cannot be made, another simulator holds it, or it has files that something else wrote.
    """
    place = SimDirectory(path.absolute())
    descriptor = _hold(place)
    try:
        yield place
    finally:
        with suppress(OSError):
            place.leave()
        os.close(descriptor)


def _hold(place: SimDirectory) -> int:
    try:
        str(place.path).encode()
        place.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if foreign := place.foreign():
                raise CannotCreate(
                    f"{foreign} was not written by `kill-switch sim`, and stays as it is; name another directory, or "
                    "move it away"
                )
            if not place.layout.config.exists():
                config_files.replace(place.layout.config, _STARTING, 0o644)
        except BaseException:
            os.close(descriptor)
            raise
    except BlockingIOError:
        raise CannotCreate(f"{place.path}: another `kill-switch sim --write` uses it") from None
    except UnicodeEncodeError:
        raise CannotCreate(f"{place.path!r} is not UTF-8: no configuration can name it") from None
    except OSError as error:
        raise CannotCreate(f"{error.filename or place.path}: {error.strerror}") from error
    return descriptor


def _has_files(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(not each.is_dir() for each in path.rglob("*")))
