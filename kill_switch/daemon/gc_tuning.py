"""Keep Python's garbage collector from delaying a kill; the daemon's pulse calls it."""

from __future__ import annotations

import gc

COLLECT = (20_000, 20, 50)  # gc thresholds; a strike makes fewer objects, so that no collection delays it


def collect_rarely() -> None:
    """Set the thresholds, and exempt the objects that exist now."""
    gc.set_threshold(*COLLECT)
    freeze()


def freeze() -> None:
    """Exempt the objects that exist now from later garbage collections, because most live until the end."""
    gc.collect()
    gc.freeze()
