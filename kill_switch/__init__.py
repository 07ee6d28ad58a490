"""Cancel every resting order on every venue, prove it, and stay tripped until a person re-arms."""

from __future__ import annotations

__version__ = "0.1.0"
