"""The command `kill-switch`: a click group with all commands.

`kill_switch.__main__` calls `main`. Each command imports its own dependencies when it runs, so that `fire` starts fast.
Errors become one line on standard error and a documented exit code; no traceback is shown unless the user asks for it.
"""

from __future__ import annotations

import io
import sys
import textwrap
from typing import Any

import click

from kill_switch import __version__, unexpected
from kill_switch.cli import (
    beat_command,
    daemon_commands,
    exit_codes,
    help_commands,
    kill_verb,
    notify_command,
    operator_commands,
    record_commands,
    silence_command,
    sim_commands,
    venue_commands,
)
from kill_switch.cli.common import CONFIG_KEY, missing_configuration, say
from kill_switch.errors import ConfigError, KillSwitchError, Unreachable

EX_SOFTWARE = 70  # sysexits(3)


def _exit_codes_help() -> str:
    """Return the exit codes in as many lines as `--help` needs; a line is not broken within a meaning."""
    items = [f"{code.number} {code.brief}".replace(" ", "\0") for code in exit_codes.EXIT_CODES]
    lines = textwrap.wrap("Exit\0codes: " + " · ".join(items), 110, break_long_words=False, break_on_hyphens=False)
    return "\b\n" + "\n".join(line.removesuffix(" ·").replace("\0", " ") for line in lines)


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; what is suggested instead of an unknown one is decided by `kill_verb`."""
        word = args[0]
        if self.get_command(ctx, word) is None and not ctx.resilient_parsing and not word.startswith("-"):
            ctx.fail(kill_verb.no_such_command(word, self.commands))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KillSwitchError as error:
            if isinstance(error, Unreachable) and (missing := missing_configuration()):
                say(f"kill-switch: {missing}", err=True)
                ctx.exit(ConfigError.exit_code)
            say(f"kill-switch: {error}" if not isinstance(error, ConfigError) else str(error), err=True)
            if isinstance(error, Unreachable):
                from kill_switch.cli import next_steps  # imported here, because most commands do not need it

                say(error.steps or next_steps.describe(error, next_steps.look(ctx.meta.get(CONFIG_KEY))), err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_exit_codes_help())
@click.version_option(__version__, prog_name="kill-switch")
def main() -> None:
    """Cancel every resting order on every venue, at once, with proof, and stay tripped until a person re-arms."""


for _module in (
    daemon_commands,
    operator_commands,
    beat_command,
    silence_command,
    notify_command,
    record_commands,
    venue_commands,
    sim_commands,
    help_commands,
):
    for _command in vars(_module).values():
        if isinstance(_command, click.Command):
            main.add_command(_command)
for _verb in kill_verb.VERBS[1:]:
    main.add_command(kill_verb.alias(operator_commands.fire, _verb))
