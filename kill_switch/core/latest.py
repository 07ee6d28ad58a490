"""Keep the latest entries of a dict that must not grow for ever."""

from __future__ import annotations

from itertools import islice
from typing import Any


def keep_latest(kept: dict[Any, Any], most: int) -> None:
    """Drop the oldest entries until there are `most`.

    Many go at once: to look for the first one passes all that were deleted before it, and 10,000 in turn take 50 ms.
    """
    excess = len(kept) - most
    if excess == 1:
        del kept[next(iter(kept))]
    elif excess > 1:
        left = dict(islice(kept.items(), excess, None))
        kept.clear()
        kept.update(left)
