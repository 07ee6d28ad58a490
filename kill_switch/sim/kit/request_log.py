"""The log of a simulated venue's requests, which the admin API shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RequestLogEntry:
    """A line of the request log."""

    t_ns: int
    route: str
    operation: str
    ok: bool
    account: str | None
    weight: float = 1  # what it cost in the venue's pool

    def listing(self) -> dict[str, object]:
        """Return the line in the admin API's form."""
        shown = {"t_ns": self.t_ns, "route": self.route, "what": self.operation, "ok": self.ok}
        return shown | {"account": self.account, "weight": self.weight}
