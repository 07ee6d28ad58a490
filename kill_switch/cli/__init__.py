"""The command `kill-switch`: a click group with all commands.

`kill_switch.__main__` calls `main`. Each command imports its own dependencies when it runs, so that `fire` starts fast.
Errors become one line on standard error and a documented exit code; no traceback is shown unless the user asks for it.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import click

from kill_switch import __version__, unexpected
from kill_switch.cli import daemon_commands, help_commands, operator_commands, record_commands, sim_commands
from kill_switch.cli.common import say
from kill_switch.errors import ConfigError, KillSwitchError

EX_SOFTWARE = 70  # sysexits(3)
EXIT_CODES = """
\b
Exit codes: 0 done, or armed · 1 something is left, refused or failed · 2 wrong usage · 3 tripped or firing
69 no daemon answers · 70 a fault of the program · 73 cannot create · 75 try again, or waits for the second person
77 not allowed · 78 bad config
"""


class Commands(click.Group):
    """A group whose errors end as one line and the documented exit code; unexpected exceptions too."""

    def main(self, *args: Any, **options: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # because a terminal's encoding may lack characters that we print
                stream.reconfigure(errors="replace")
        try:
            return super().main(*args, **options)
        except SystemExit:
            if logs := sys.modules.get("kill_switch.logging_setup"):  # a command that logs nothing has not imported it
                logs.flush()
            raise
        except (Exception, BaseExceptionGroup) as error:
            if unexpected.debugging():
                raise
            say(f"kill-switch: internal error: {unexpected.brief(error)}; {unexpected.HINT}", err=True)
            sys.exit(EX_SOFTWARE)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KillSwitchError as error:
            say(f"kill-switch: {error}" if not isinstance(error, ConfigError) else str(error), err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="kill-switch")
def main() -> None:
    """Cancel every resting order on every venue, at once, with proof, and stay tripped until a person re-arms."""


for _module in (daemon_commands, operator_commands, record_commands, sim_commands, help_commands):
    for _command in vars(_module).values():
        if isinstance(_command, click.Command):
            main.add_command(_command)
