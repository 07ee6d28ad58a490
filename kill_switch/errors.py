"""Name every failure that leaves this package as an exception, and the exit code it ends a command with.

    KillSwitchError            1
    ├── ConfigError           78   EX_CONFIG: every problem of a configuration, at once
    ├── Unreachable           69   EX_UNAVAILABLE: no daemon answers on the control socket
    ├── NotAllowed            77   EX_NOPERM: the caller may not do this
    ├── AlreadyRunning        75   EX_TEMPFAIL: another daemon holds the state directory
    ├── CannotCreate          73   EX_CANTCREAT: the file exists, or cannot be written
    ├── JournalBroken          1   the audit record does not verify
    └── IllegalEvent           1   the engine was told something that its state does not allow

On the kill path a failure is a value (`domain.Answer`), never one of these. Exit codes are those of sysexits(3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class KillSwitchError(Exception):
    """Base of all; `str()` is one clear line that shows nothing secret."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where, what was found, what would be right."""

    path: str
    found: str
    hint: str

    def __str__(self) -> str:
        return f"{self.path}: {self.found}" + (f"; {self.hint}" if self.hint else "")


class ConfigError(KillSwitchError):
    """Carry all problems of one configuration; `str()` has a line for each."""

    exit_code = 78

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class Unreachable(KillSwitchError):
    """Say that no daemon answered, and where it was looked for."""

    exit_code = 69


class NotAllowed(KillSwitchError):
    """Say that the operating system or the daemon refused the caller."""

    exit_code = 77


class AlreadyRunning(KillSwitchError):
    """Say that another process holds what only one may hold (state directory, socket, port)."""

    exit_code = 75


class CannotCreate(KillSwitchError):
    """Say that a file that was to be made is there already, or cannot be written."""

    exit_code = 73


class JournalBroken(KillSwitchError):
    """Say at which line the audit record stops being believable, and why."""

    def __init__(self, line: int, why: str, file: str = "journal") -> None:
        self.line = line
        self.why = why
        self.file = file
        super().__init__(f"{file} line {line}: {why}")


class IllegalEvent(KillSwitchError):
    """Name the state and the event that do not go together; the state is unchanged."""

    def __init__(self, state: str, event: str) -> None:
        self.state = state
        self.event = event
        super().__init__(f"{event} is not allowed in {state}")
