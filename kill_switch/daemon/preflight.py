"""The checks of this machine for `check`: directories, sockets, ports and groups that `run` needs.

Nothing is created, and a running daemon is not disturbed. If root runs `check`, permissions that depend on the daemon's
user cannot be checked.
"""

from __future__ import annotations

import grp
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from kill_switch.client import control_socket
from kill_switch.config.defaults import systemd_directories
from kill_switch.config.loader import Config
from kill_switch.config.messages import config_path
from kill_switch.config.parsers import format_duration
from kill_switch.config.schema import DaemonConfig, FlagConfig
from kill_switch.control import paths
from kill_switch.errors import OWN_DIRECTORIES, NotAllowed, Problem
from kill_switch.system.hardening import why_doubtful, why_untrusted
from kill_switch.system.host_port import HostPort
from kill_switch.system.unix_sockets import MAX_PATH
from kill_switch.venues.kit.cadence import GUARD_FIRST_S
from kill_switch.venues.sharing import plan_cadences

_FILES = ("lock", "journal.jsonl", "intent.jsonl")
_SOCKETS = (paths.CONTROL_SOCKET, paths.INTAKE_SOCKET)


def problems(daemon: DaemonConfig) -> Iterator[Problem]:
    """Yield each problem for which `run`, started by this user on this machine, would refuse to start."""
    for key, path in (("state_dir", daemon.state_dir), ("runtime_dir", daemon.runtime_dir)):
        why = _unusable(path)
        if why and not (_made_by_systemd(key, path) and not path.exists()):
            yield Problem(f"daemon.{key}", why, OWN_DIRECTORIES if os.geteuid() and "no right" in why else "")
    longest = max(len(os.fsencode(daemon.runtime_dir / name)) for name in _SOCKETS)
    if longest > MAX_PATH:
        hint = f"expected {MAX_PATH - max(map(len, _SOCKETS)) - 1} bytes at most: sockets are made there"
        yield Problem("daemon.runtime_dir", "too long a path", hint)
    if daemon.group is not None and os.geteuid():
        try:
            gid = grp.getgrnam(daemon.group).gr_gid
        except KeyError:
            gid = -1
        if gid not in (os.getegid(), *os.getgroups()):
            hint = "put the daemon's user into it, or leave it out"
            yield Problem("daemon.group", "a group that this user is not in: the sockets cannot be given to it", hint)


def notes(config: Config) -> Iterator[str]:
    """Yield a line for people about each fault with which `run` starts all the same."""
    for key in ("state_dir", "runtime_dir"):
        path: Path = getattr(config.daemon, key)
        if not path.exists() and _unusable(path):
            yield f"daemon.{key}: {path} does not exist, and only systemd or root can make it; {OWN_DIRECTORIES}"
        elif path.is_dir() and (why := why_doubtful(path.stat(), path)):
            yield f"daemon.{key}: {why}"
    yield from _addresses(config)
    members = {name: account.member for name, account in config.accounts.items()}
    for name, cadence in plan_cadences(members, config.measured).items():
        if cadence.timing.guard_every_s > GUARD_FIRST_S:
            guard, equity = (format_duration(round(s)) for s in (cadence.timing.guard_every_s, cadence.equity_every_s))
            yield (
                f"{config_path('accounts', name)}: its venue's limit is small for all who share it: its orders are "
                f"read every {guard} only while it is tripped"
                + (f"; its equity is read every {equity}" if name in config.measured else "")
            )
    yield from _better_adapters(config)
    for name, trigger in config.triggers.items():
        if not isinstance(trigger, FlagConfig):
            continue
        where = config_path("triggers", name, "path")
        if os.path.lexists(trigger.path):
            yield f"{where}: {trigger.path} is there: the daemon trips at once when it starts"
        elif not trigger.path.is_relative_to(config.daemon.runtime_dir) and not trigger.path.parent.is_dir():
            yield f"{where}: there is no directory {trigger.path.parent}: the trigger would be blind"


def _addresses(config: Config) -> Iterator[str]:
    """Yield a line for people about each address at which `run` could not listen, or that everybody may use."""
    udp, metrics, runs = config.intake.udp, config.daemon.metrics, _runs(config.daemon)
    if udp is not None and config.intake.key is None:
        yield "intake.udp: without [intake] key, every user of this machine can send heartbeats for a bot that is dead"
    if udp is not None and not runs and (why := _unbindable(udp, socket.SOCK_DGRAM)):
        yield f"intake.udp: {why}: until then, the triggers that need it are blind"
    if metrics is not None and not runs and (why := _unbindable(metrics, socket.SOCK_STREAM)):
        yield f"daemon.metrics: {why}: until then, nobody can read the metrics"


def _better_adapters(config: Config) -> Iterator[str]:
    """Yield a line for each account through ccxt whose venue has an adapter of its own."""
    for name, account in config.accounts.items():
        if own := account.adapter_class.OWN_ADAPTER:
            where, why = config_path("accounts", name), "it also gets pushes, measures equity and tries more"
            yield f"{where}: {account.venue} is served without ccxt too, as {own}: {why}"


def _made_by_systemd(key: str, path: Path) -> bool:
    """Return whether a directory is the unit's, because the configuration does not name another."""
    default = systemd_directories(os.environ).get(key) or str(DaemonConfig.model_fields[key].default)
    return str(path) == default


def _unusable(path: Path) -> str:
    """Return why a daemon of this user could not use a directory; "" if it could."""
    uid = os.geteuid()
    try:
        status = path.stat()
    except FileNotFoundError:
        above = next((parent for parent in path.parents if parent.exists()), Path("/"))
        if not above.is_dir():
            return f"cannot be made: {above} is not a directory"
        return (
            ""
            if os.access(above, os.W_OK | os.X_OK, effective_ids=True)
            else f"cannot be made: no right to write to {above}"
        )
    except OSError as error:
        return f"cannot be used: {error.strerror}"
    if not path.is_dir():
        return "not a directory"
    if why := why_untrusted(status, path, uid or status.st_uid):
        return why
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        return "this user may not write there"
    for name in _FILES:
        file = path / name
        if file.exists() and not (file.is_file() and os.access(file, os.R_OK | os.W_OK, effective_ids=True)):
            return f"{name} there cannot be opened: it belongs to uid {file.stat().st_uid}"
    return ""


def _runs(daemon: DaemonConfig) -> bool:
    try:
        return control_socket.is_listening(daemon.runtime_dir / paths.CONTROL_SOCKET)
    except NotAllowed:
        return True


def _unbindable(place: HostPort, kind: socket.SocketKind) -> str:
    """Return why an address cannot be listened on; "" if it can."""
    with socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET, kind) as sock:
        if kind is socket.SOCK_STREAM:  # as the server does: connections of before are no obstacle
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((place.host, place.port))
        except OSError as error:
            return f"cannot be listened on: {error.strerror}"
    return ""
