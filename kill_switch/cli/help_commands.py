"""The commands that help to use the command line: `man` and `completion`.

Their output is generated from the commands themselves. No configuration is read.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from kill_switch import __version__
from kill_switch.cli.common import ShowCommand


@click.command(cls=ShowCommand)
@click.pass_context
def man(context: click.Context) -> None:
    """Print the manual page.

    \b
    Examples:
      kill-switch man | man -l -
      kill-switch man > /usr/local/share/man/man1/kill-switch.1
    """
    from kill_switch.cli import man_page

    root = context.find_root().command
    assert isinstance(root, click.Group)  # noqa: S101 - this command is a part of the group
    click.echo(man_page.page(root, "kill-switch", __version__), nl=False)


@click.command(cls=ShowCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    It completes commands, options, accounts, tags and triggers.

    \b
    Examples:
      kill-switch completion bash > /etc/bash_completion.d/kill-switch
      kill-switch completion zsh > "${fpath[1]}/_kill-switch"
      kill-switch completion fish > ~/.config/fish/completions/kill-switch.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has a class for each shell that the argument allows
    click.echo(kind(context.find_root().command, {}, "kill-switch", "_KILL_SWITCH_COMPLETE").source())
