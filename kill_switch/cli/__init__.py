"""The command `kill-switch`: a click group with all commands.

`kill_switch.__main__` calls `main`. Each command imports its own dependencies when it runs, so that `fire` starts fast.
Errors become one line on standard error and a documented exit code; no traceback is shown unless the user asks for it.
"""

from __future__ import annotations

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
from kill_switch.cli.common import CONFIG_KEY, JSON_KEY, missing_configuration, print_json, say
from kill_switch.errors import ConfigError, KillSwitchError, Refused, Unreachable
from kill_switch.terminal import streams

EX_SOFTWARE = 70  # sysexits(3)


def _exit_codes_help() -> str:
    """Return the exit codes in as many lines as `--help` needs; a line is not broken within a meaning."""
    items = [f"{code.number} {code.brief}".replace(" ", "\0") for code in exit_codes.EXIT_CODES]
    lines = textwrap.wrap("Exit\0codes: " + " · ".join(items), 110, break_long_words=False, break_on_hyphens=False)
    return "\b\n" + "\n".join(line.removesuffix(" ·").replace("\0", " ") for line in lines)


class Commands(click.Group):
    """A group whose errors end as one line and the documented exit code; unexpected exceptions too.

    A command does its work and has its exit code though nobody gets its output; see `ShowCommand` for the exception.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        with streams.guarded():
            return self._main(*args, **options)

    def _main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except SystemExit:
            fault = streams.output_fault()
            if fault is not None and not isinstance(fault, BrokenPipeError):  # a reader may end when it likes
                why = getattr(fault, "strerror", None) or fault
                say(f"kill-switch: standard output cannot be written, and is incomplete: {why}", err=True)
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
            is_unreachable, text, code = isinstance(error, Unreachable), str(error), error.exit_code
            if is_unreachable and (missing := missing_configuration()):
                is_unreachable, text, code = False, missing, ConfigError.exit_code
            if ctx.meta.get(JSON_KEY) and not streams.has_output():  # else what was found has been printed
                answer = error.answer if isinstance(error, Refused) else {}
                print_json({**answer, "error": text, "exit": code})
            say(text if isinstance(error, ConfigError) else f"kill-switch: {text}", err=True)
            if isinstance(error, Unreachable) and is_unreachable:
                from kill_switch.cli import next_steps  # imported here, because most commands do not need it

                say(error.steps or next_steps.describe(error, next_steps.look(ctx.meta.get(CONFIG_KEY))), err=True)
            ctx.exit(code)


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
