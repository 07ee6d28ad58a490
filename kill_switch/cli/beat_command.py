"""The command `beat`: send the heartbeat that a trigger waits for, once or at an interval."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import click

from kill_switch.cli.common import config_option, say, say_once, written
from kill_switch.errors import KillSwitchError, Unresponsive

KNOWN_WITHIN_S = 2.0  # seconds for the daemon to answer `status`


def _complete_heartbeats(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    triggers = written(context).get("triggers", {})
    beats = [name for name, table in triggers.items() if isinstance(table, dict) and table.get("kind") == "heartbeat"]
    return [name for name in beats if name.startswith(incomplete)]


@click.command()
@config_option
@click.argument("name", shell_complete=_complete_heartbeats)
@click.option("--every", "every", metavar="DURATION", help="Send a beat every DURATION (250ms, 1s), until stopped.")
@click.option("--bye", is_flag=True, help="Send an orderly goodbye instead of a beat.")
@click.option("--from", "sender", metavar="SENDER", default="", help="The sender's name; default: this host's name.")
def beat(config: Path | None, name: str, every: str | None, bye: bool, sender: str) -> None:
    """Send the heartbeat that a trigger of that NAME waits for.

    Exit code 1: the daemon has no heartbeat trigger of that name. 69: no daemon receives the beat, or it hangs.

    \b
    Examples:
      kill-switch beat quoter-alive
      kill-switch beat quoter-alive --every 1s
      kill-switch beat quoter-alive --bye
    """
    from kill_switch.control import heartbeat as beats
    from kill_switch.control import paths

    period_s = None
    if every:
        from kill_switch.config.messages import InvalidValue
        from kill_switch.config.parsers import duration

        try:
            period_s = duration("beat.every")(every)
        except InvalidValue as invalid:
            raise click.BadParameter(str(invalid), param_hint="--every") from None
    directory, unknown = paths.runtime_dir(config, say=say_once), False

    def check_name() -> None:
        nonlocal unknown
        try:
            unknown = _is_unknown(directory / paths.CONTROL_SOCKET, name)
        except Unresponsive as error:
            if period_s is None:
                raise
            say(f"kill-switch: {error}: the beats go on", err=True)  # because a daemon that wakes gets the later ones

    def check_name_in_thread() -> None:
        threading.Thread(
            target=check_name, daemon=True
        ).start()  # because a slow answer of the daemon must not delay a beat

    sent = check_name if period_s is None else check_name_in_thread
    beats.send_heartbeat(directory / paths.INTAKE_SOCKET, name, period_s, bye=bye, sender=sender, sent=sent)
    sys.exit(1 if unknown else 0)


def _is_unknown(path: Path, name: str) -> bool:
    """Return whether the daemon has no heartbeat trigger of this name, and print the names that it has.

    False if the daemon cannot be asked, because it may have received the beat. Raises `Unresponsive` if it hangs.
    """
    from kill_switch.control import client

    try:
        triggers = client.send_request(path, {"cmd": "status"}, timeout_s=KNOWN_WITHIN_S)["triggers"]
    except Unresponsive:
        raise
    except (KillSwitchError, LookupError):
        return False
    names = [trigger_name for trigger_name, trigger in triggers.items() if trigger["kind"] == "heartbeat"]
    if name in names:
        return False
    from kill_switch.config.messages import closest_match

    near = closest_match(name, names)
    meant = f"did you mean {near}? " if near else ""
    there_are = f"there are {', '.join(names)}" if names else "there is none"
    say(f"kill-switch: the daemon waits for no heartbeat {name!r}: {meant}{there_are}", err=True)
    return True
