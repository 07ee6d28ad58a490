"""Own the sockets: warm lanes that stay authenticated, and a fresh route that shares nothing with them."""

from __future__ import annotations

import importlib
import sys

# httpcore imports sniffio several times in each call, on the event loop's thread. Where it is not installed, each of
# these imports would search the disk: for 150 us, or for as long as the disk hangs. With this entry it fails at once.
try:
    importlib.import_module("sniffio")
except ImportError:
    sys.modules["sniffio"] = None  # type: ignore[assignment]
