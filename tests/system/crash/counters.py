"""Count what the runs have shown; only zeros are good, but for the first."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Figures:
    """What came of some rounds."""

    rounds: int = 0  # kills survived, or sicknesses
    orders_left: int = 0
    latches_lost: int = 0
    false_trips: int = 0
    strikes_without_record: int = 0  # a cancel had left before journal or intent had the reason
    chains_broken: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Take another run's figures in."""
        for name in ("rounds", "orders_left", "latches_lost", "false_trips", "strikes_without_record", "chains_broken"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures += other.failures
        self.notes += other.notes

    @property
    def good(self) -> bool:
        bad = (
            self.orders_left,
            self.latches_lost,
            self.false_trips,
            self.strikes_without_record,
            self.chains_broken,
            len(self.failures),
        )
        return self.rounds > 0 and not any(bad)

    def text(self, what: str) -> str:
        """Return the line that is printed."""
        return (
            f"{what}: {self.rounds} survived, orders left {self.orders_left}, latches lost {self.latches_lost}, "
            f"false trips {self.false_trips}, strikes without a record {self.strikes_without_record}, "
            f"chains broken {self.chains_broken}, failures {len(self.failures)}"
        )
