"""The command `beat`: send the heartbeat that a trigger waits for, once or at an interval."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from kill_switch.cli.common import config_option, say, say_once, written
from kill_switch.client.control_socket import NOT_ALLOWED
from kill_switch.client.intake import Heartbeat
from kill_switch.errors import KillSwitchError, NotAllowed, Unreachable, Unresponsive

KNOWN_WITHIN_S = 2.0  # seconds for the daemon to answer `status`
STARTS_WITHIN_S = 1.0  # seconds from a daemon's first line to its sockets
AGAIN_S = 0.05  # seconds between two attempts to send


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
    from kill_switch.control import paths

    period_s = None
    if every:
        from kill_switch.config.messages import InvalidValue
        from kill_switch.config.parsers import duration

        try:
            period_s = duration("beat.every")(every)
        except InvalidValue as invalid:
            raise click.BadParameter(str(invalid), param_hint="--every") from None
    unknown = False

    def find() -> Heartbeat:
        directory = paths.runtime_dir(config, say=say_once)
        return Heartbeat(name, runtime_dir=directory, sender=sender or socket.gethostname())

    try:
        heartbeat = find()
    except ValueError as invalid:
        say(f"kill-switch: {invalid}", err=True)
        sys.exit(1)

    def check_name() -> None:
        nonlocal unknown
        try:
            unknown = _is_unknown(Path(heartbeat.path).with_name(paths.CONTROL_SOCKET), name)
        except Unresponsive as error:
            if period_s is None:
                raise
            say(f"kill-switch: {error}: the beats go on", err=True)  # because a daemon that wakes gets the later ones

    def check_name_in_thread() -> None:
        threading.Thread(
            target=check_name, daemon=True
        ).start()  # because a slow answer of the daemon must not delay a beat

    def send() -> bool:
        nonlocal heartbeat
        if "RUNTIME_DIRECTORY" in os.environ:  # systemd's, which is used once the daemon's socket is there
            with suppress(KillSwitchError):
                heartbeat = newest if (newest := find()).path != heartbeat.path else heartbeat
        return heartbeat.bye() if bye else heartbeat.beat()

    if period_s is None:
        _send_once(lambda: heartbeat, send)
        check_name()
        sys.exit(1 if unknown else 0)
    _send_series(lambda: heartbeat, send, period_s, check_name_in_thread)


def _send_once(heartbeat: Callable[[], Heartbeat], send: Callable[[], bool]) -> None:
    """Send one datagram; a daemon that is starting is waited for.

    Raises `Unreachable`, `Unresponsive` if the daemon's queue is full, or `NotAllowed`.
    """
    until_s = time.monotonic() + STARTS_WITHIN_S
    while not send():
        _refuse_forbidden(heartbeat())
        if time.monotonic() >= until_s:
            kind = Unresponsive if heartbeat().is_queue_full else Unreachable
            raise kind(f"no daemon receives beats on {heartbeat().trouble}")
        time.sleep(AGAIN_S)


def _send_series(
    heartbeat: Callable[[], Heartbeat], send: Callable[[], bool], period_s: float, sent: Callable[[], object]
) -> None:
    """Send a datagram every `period_s` seconds until interrupted, because the daemon may come back.

    `sent` is called once, after the first datagram that was received. Raises `NotAllowed`.
    """
    due_s, is_first = time.monotonic(), True
    while True:
        if send():
            if is_first:
                sent()
            is_first = False
        else:
            _refuse_forbidden(heartbeat())
        due_s += period_s
        time.sleep(max(0.0, due_s - time.monotonic()))


def _refuse_forbidden(heartbeat: Heartbeat) -> None:
    if heartbeat.is_forbidden:
        raise NotAllowed(NOT_ALLOWED.format(path=heartbeat.path))


def _is_unknown(path: Path, name: str) -> bool:
    """Return whether the daemon has no heartbeat trigger of this name, and print the names that it has.

    False if the daemon cannot be asked, because it may have received the beat. Raises `Unresponsive` if it hangs.
    """
    from kill_switch.client import control_socket

    try:
        triggers = control_socket.send_request(path, {"cmd": "status"}, timeout_s=KNOWN_WITHIN_S)["triggers"]
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
