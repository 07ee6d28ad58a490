"""Sockets to the venues: the warm WebSocket and HTTP lanes of each account, and the fresh route beside them.

`dispatch` and the benchmark use them. Nothing here decides when to cancel, and no two routes of a command share a
connection.
"""

from __future__ import annotations

import importlib
import sys

# httpcore imports sniffio several times in each call, on the event loop's thread. Without sniffio, each import searches
# the disk: for 150 µs, or for as long as the disk hangs. With this entry the import fails at once.
try:
    importlib.import_module("sniffio")
except ImportError:
    sys.modules["sniffio"] = None  # type: ignore[assignment]
