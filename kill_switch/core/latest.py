"""Bound a dict to its latest entries. The order tracker and the venues' books use it."""

from __future__ import annotations

from itertools import islice
from typing import Any


def keep_latest(kept: dict[Any, Any], most: int) -> None:
    """Delete the oldest entries of `kept` until `most` are left.

    Several entries go by a copy, because each search for the first entry passes all deleted ones. 10,000 single
    deletions take 50 ms.
    """
    excess = len(kept) - most
    if excess == 1:
        del kept[next(iter(kept))]
    elif excess > 1:
        left = dict(islice(kept.items(), excess, None))
        kept.clear()
        kept.update(left)
