"""Find the files that the key `include` of a configuration names, and look into a configuration without loading it.

The loader uses this, and so does `fire`, which counts accounts and names ways to kill. It imports nothing that takes
long, and no file makes `glance` raise or wait. Nothing is checked here.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kill_switch.config import toml_text

MOST_BYTES = 4 << 20  # of an included file; a configuration of 1,000 accounts has 0.3 MiB
MOST_MAIN_BYTES = 64 << 20  # of the main file, so that only an endless file, or no configuration at all, is refused


def matching(source: Path, patterns: Iterable[str]) -> dict[Path, int]:
    """Return the files that patterns name, each with its pattern's index, in the order of patterns, then of names.

    A pattern is relative to the directory of `source`. Each file is returned once, and `source` never. A pattern
    without wildcards is a file, also if it does not exist.
    """
    pattern_of: dict[Path, int] = {}
    for number, pattern in enumerate(patterns):
        whole = os.path.join(glob.escape(str(source.parent)), pattern)
        names = sorted(glob.glob(whole)) if glob.has_magic(pattern) else [str(source.parent / pattern)]
        for name in names:
            if not _is_same(Path(name), source):
                pattern_of.setdefault(Path(name), number)
    return pattern_of


def glance(source: Path) -> Iterator[Mapping[str, Any] | None]:
    """Yield the tables of each file of a configuration, the main file's first; None for each file that is not usable.

    Only a regular file is read: a pipe could block, and its content belongs to the loader alone.
    """
    main = _tables(source, MOST_MAIN_BYTES)
    yield main
    written = main.get("include", []) if main is not None else []
    patterns = [each for each in written if _is_pattern(each)] if isinstance(written, list) else []
    if patterns != written:
        yield None
    for path in matching(source, patterns):
        yield _tables(path)


def read_regular(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return a file's content; raise `OSError` if it is no regular file, or has more than `most_bytes`."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def _tables(path: Path, most_bytes: int = MOST_BYTES) -> Mapping[str, Any] | None:
    try:
        return toml_text.loads(read_regular(path, most_bytes).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None


def _is_pattern(written: object) -> bool:
    return isinstance(written, str) and bool(written) and written.isprintable()


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False
