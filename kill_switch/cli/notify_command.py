"""The command `notify --test`: send a message over every channel, and say for each whether it was accepted."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kill_switch.cli.common import config_option, json_option, print_json, say

if TYPE_CHECKING:
    from kill_switch.config.schema import NotifyConfig
    from kill_switch.outbound.channel_probe import ChannelResult

NO_CHANNEL = "no channel is configured: nobody gets a message; add urls or a command to [notify]"


@click.command()
@config_option
@json_option
@click.option("--test", "is_test", is_flag=True, help="Send a test message over every channel of [notify].")
def notify(config: Path | None, is_test: bool, as_json: bool) -> None:
    """Test the channels of messages.

    A message goes over each URL, and the command runs once. No daemon is needed, and a running one is not asked. Of the
    configuration, only [notify] is read. Secrets are those that this user can read; for systemd credentials, see
    docs/guides/notifications.md. A channel has 20 s. A line says for each channel whether the service has accepted the
    message, or the command has ended with 0. Look also at the receiving end.

    Exit code 0: every channel has accepted it; 1: one has not, or none is configured.

    \b
    Examples:
      kill-switch notify --test
      kill-switch notify --test --json
    """
    if not is_test:
        raise click.UsageError("nothing to do: --test is missing")
    from kill_switch.config import loader
    from kill_switch.system.hardening import forbid_dumps

    forbid_dumps()
    channels = loader.notify_table(config)
    results = _test(channels, as_json) if channels.urls or channels.command else []
    if as_json:
        from kill_switch.outbound import channel_probe

        print_json({**channel_probe.in_json(results), **({} if results else {"ok": False, "error": NO_CHANNEL})})
    elif not results:
        say(f"kill-switch: {NO_CHANNEL}", err=True)
    sys.exit(0 if results and all(result.ok for result in results) else 1)


def _test(channels: NotifyConfig, as_json: bool) -> Sequence[ChannelResult]:
    import anyio

    from kill_switch import logging_setup, unexpected
    from kill_switch.outbound import channel_probe

    logging_setup.set_up()
    unexpected.be_brief()
    return anyio.run(channel_probe.run, channels, _user(), lambda result: None if as_json else say(result.line()))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return f"uid {os.getuid()}"
