"""Find the files that the key `include` of a configuration names.

The loader uses this, and `fire`, which only counts accounts: it imports nothing that takes long. No file is read here.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path


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


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False
