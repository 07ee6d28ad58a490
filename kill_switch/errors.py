"""The package's exceptions, each with the exit code that a command ends with.

    KillSwitchError            1
    ├── ConfigError           78   EX_CONFIG: every problem of a configuration, at once
    ├── Unreachable           69   EX_UNAVAILABLE: no daemon answers on the control socket
    │   └── Unresponsive      69   a daemon has the control socket open and does not answer
    ├── NotAllowed            77   EX_NOPERM: the caller may not do this
    ├── Refused                1   the daemon has answered a request of the client library with an error
    │   └── UnknownProtocol    1   the daemon speaks another protocol than this library
    ├── AlreadyRunning        75   EX_TEMPFAIL: another daemon holds the state directory
    ├── CannotCreate          73   EX_CANTCREAT: the file exists, or cannot be written
    ├── JournalBroken          1   the journal does not verify
    └── IllegalEvent           1   the engine was given an event that its state does not allow

All parts of the package raise them; the command line turns them into one line and an exit code, as in sysexits(3). On
the kill path a failure is a value (`domain.CancelOutcome`), never one of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# the hint for a caller without the rights that the default directories need
OWN_DIRECTORIES = "for a daemon of your own, name directories of yours as state_dir and runtime_dir in [daemon]"


class KillSwitchError(Exception):
    """Base class of all errors; `str()` is one line for people that shows nothing secret."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of a configuration: the path of the key, a description of the wrong value, a hint, FILE:LINE if known."""

    path: str
    description: str
    hint: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.description}" + (f"; {self.hint}" if self.hint else "")


class ConfigError(KillSwitchError):
    """All faults of one configuration; `str()` has one line for each."""

    exit_code = 78

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{problem.place or source}: {problem}" for problem in self.problems))


class Unreachable(KillSwitchError):
    """No daemon answered; the text names the socket, `steps` says what to do now ("": nothing particular)."""

    exit_code = 69
    steps = ""
    is_awake = False  # a daemon runs here and answers other requests


class Unresponsive(Unreachable):
    """A daemon has the control socket open, and does not answer."""


class NotAllowed(KillSwitchError):
    """The operating system or the daemon refused the caller."""

    exit_code = 77


class Refused(KillSwitchError):
    """The daemon has answered a request with an error; `answer` is the whole answer."""

    def __init__(self, text: str, answer: Mapping[str, object]) -> None:
        super().__init__(text)
        self.answer = answer


class UnknownProtocol(Refused):
    """The daemon's answers follow another protocol than this client library."""


class AlreadyRunning(KillSwitchError):
    """Another process holds a resource that only one process may hold: state directory, socket, port."""

    exit_code = 75


class CannotCreate(KillSwitchError):
    """A file that was to be created exists already, or cannot be written."""

    exit_code = 73


class JournalBroken(KillSwitchError):
    """The journal does not verify: the file, the first line that fails (0: the file as a whole), and why."""

    def __init__(self, line: int, why: str, file: str = "journal") -> None:
        self.line = line
        self.why = why
        self.file = file
        super().__init__(f"{file} line {line}: {why}" if line else f"{file} {why}")


class IllegalEvent(KillSwitchError):
    """The engine was given an event that its state does not allow; the state is unchanged."""

    def __init__(self, state: str, event: str) -> None:
        self.state = state
        self.event = event
        super().__init__(f"{event} is not allowed in {state}")
