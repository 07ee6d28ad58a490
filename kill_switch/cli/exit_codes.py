"""The exit codes of all commands, with their meanings.

`--help` and the page `docs/reference/exit-codes.md` are made from these tables. A command ends with the code that it
computes or that its error carries (`errors`); nothing here decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class ExitCode(NamedTuple):
    """An exit code: a few words for `--help`, and the meaning in full."""

    number: int
    brief: str
    meaning: str


class CommandExits(NamedTuple):
    """The exit codes of a command, or of a command with an option, beside those that all commands have."""

    command: str
    success: str  # the meaning of 0
    others: Mapping[int, str]


EXIT_CODES: Sequence[ExitCode] = (  # from 69 to 78 as in sysexits(3)
    ExitCode(0, "done, or armed", "done, or armed"),
    ExitCode(
        1,
        "something is left, refused or failed",
        "refused or failed; something is left or unknown; not found; the journal's chain is broken",
    ),
    ExitCode(2, "wrong usage", "wrong usage: an unknown command or option, or a wrong value"),
    ExitCode(3, "tripped or firing", "tripped or firing"),
    ExitCode(4, "armed, but not whole", "armed, but an account could not be killed now, or a trigger is not watching"),
    ExitCode(69, "no daemon answers", "no daemon answers"),
    ExitCode(
        70, "a fault of the program", "a fault of the program, in one line; `KILL_SWITCH_DEBUG=1` shows where it is"
    ),
    ExitCode(73, "cannot create", "a file or directory exists already, cannot be made, or is not safe to use"),
    ExitCode(74, "not printed", "the output of a command that does nothing but print could not be written"),
    ExitCode(
        75,
        "try again, or waits for the second person",
        "try again, or wait: another daemon, another drill, or the approval of another person",
    ),
    ExitCode(77, "not allowed", "the operating system refuses the caller: ask to be put into the group"),
    ExitCode(
        78,
        "bad or no config",
        "the configuration is wrong, and every problem is printed; or none was found; nothing was changed",
    ),
    ExitCode(130, "interrupted", "interrupted by Ctrl-C; `fire --direct`, `run`, `sim` end with codes of their own"),
)

_NOT_PRINTED = "the output could not be written"

BY_COMMAND: Sequence[CommandExits] = (
    CommandExits(
        "status",
        "`ARMED`, every account could be killed now, and no trigger is blind or silenced",
        {
            3: "`TRIPPED` or `FIRING`",
            4: "`ARMED`, but no command would reach an account's venue, or a trigger is blind or silenced",
            69: "no daemon answers within 2 s",
        },
    ),
    CommandExits(
        "fire",
        "every account in scope is `CLEAR`",
        {
            1: "an account is left or unknown, also because `--wait` was over or 0; no such account or tag",
            2: "not understood as a whole, or `--help`: nothing was fired",
        },
    ),
    CommandExits("kill", "as `fire`", {}),
    CommandExits("trip", "as `fire`", {}),
    CommandExits(
        "fire --direct",
        "the same",
        {
            1: "as `fire`; also: an account could not be used, no latch could be left, or the last-resort unit gave no "
            "proof",
            78: "no account can be used",
        },
    ),
    CommandExits("fire --direct-after", "as `fire`; without an acknowledgement as `fire --direct`", {}),
    CommandExits("fire --dry-run", "listed", {1: "with `--direct`: an account could not be looked at"}),
    CommandExits(
        "rearm", "re-armed", {1: "refused, and nothing has changed", 75: "the approval of another person is missing"}
    ),
    CommandExits(
        "silence",
        "silenced, ended or listed",
        {
            1: "refused: no such trigger, a flag, too long, or not recorded; with `--end`: it is not silenced",
            75: "the approval of another person is missing",
        },
    ),
    CommandExits(
        "notify --test",
        "every channel has accepted the message",
        {1: "a channel has not, or `[notify]` names none", 2: "without `--test`"},
    ),
    CommandExits("report", "shown", {1: "no such kill, or the journal is damaged", 74: _NOT_PRINTED}),
    CommandExits("journal", "shown", {1: "the journal is damaged", 74: _NOT_PRINTED}),
    CommandExits(
        "journal --verify",
        "every number, hash and link is right",
        {1: "one is wrong, or no record has the hash of `--head`"},
    ),
    CommandExits(
        "drill",
        "every lane is within the budget",
        {1: "a lane failed or was over the budget, or no such account", 75: "another drill is in progress"},
    ),
    CommandExits("check", "good", {78: "not good"}),
    CommandExits(
        "check --connect",
        "all accounts are ready, and every lane is within the budget",
        {1: "an account is not ready, or a lane failed or was over the budget", 78: "the configuration is not good"},
    ),
    CommandExits(
        "reload",
        "the whole configuration has taken effect",
        {1: "the daemon could not carry it out", 78: "refused"},
    ),
    CommandExits(
        "beat",
        "sent",
        {1: "the daemon has no heartbeat trigger of that name", 69: "no daemon receives it"},
    ),
    CommandExits(
        "run",
        "after SIGTERM or SIGINT",
        {
            1: "the stop did not end in time",
            73: "not started: a directory cannot be made or used",
            75: "not started: another daemon runs",
            78: "not started: the configuration is wrong",
        },
    ),
    CommandExits("init", "written", {2: "an unknown venue", 73: "the file exists, or cannot be made"}),
    CommandExits("venues", "shown", {2: "an unknown venue", 74: _NOT_PRINTED}),
    CommandExits(
        "sim",
        "after SIGTERM or SIGINT",
        {
            1: "the extra `sim` is not installed",
            2: "an unknown venue, option or key type",
            73: "an address or directory cannot be used, or `--write` would overwrite a file of something else",
        },
    ),
    CommandExits("demo", "every account was proven clear", {1: "an account was not", 143: "ended by SIGTERM"}),
    CommandExits("bench", "measured", {1: "the extra `sim` or `bench` is not installed"}),
    CommandExits("man", "printed", {74: _NOT_PRINTED}),
    CommandExits("completion", "printed", {2: "an unknown shell", 74: _NOT_PRINTED}),
)
