"""Refuse flag paths that cannot work: a file that always exists, or that two flags share; a latch in runtime_dir.

The loader uses this. Paths are compared as the file system resolves them, links and `..` included. A file system that
hangs does not delay the start: its paths are compared as they are written.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kill_switch.config.messages import InvalidValue, Raw, config_path
from kill_switch.config.parsers import command
from kill_switch.config.schema import DaemonConfig
from kill_switch.errors import Problem

LOOK_WITHIN_S = 1.0  # seconds, for all paths together
MAX_LINKS = 40  # links in one path; the kernel's limit, path_resolution(7)

_ALWAYS = "it is always there, and the trigger would trip for ever; expected a path that nothing else has"
_RESET = "systemd empties runtime_dir at every stop, and the latch must outlive that"
_OURS = re.compile(r"lock|.*\.sock|.*\.jsonl.*|journal-.*")  # names that the daemon uses in its two directories
_FLAGS = "flag"  # directory in runtime_dir into which tmpfiles(5) lets the group put flags
_KERNEL = ("/proc", "/sys", "/dev")
_MEMORY = "/dev/shm"  # noqa: S108 - nothing is made there


class ResolvedPath(NamedTuple):
    """The file that a path leads to, and the entries on the way."""

    seen: tuple[str, ...]  # every entry on the way; each exists as long as the target does
    target: str  # the path with all links followed
    entry: str  # the path with its last link not followed
    fixed: str = ""  # why it cannot be removed, if so


def problems(
    files: Sequence[Path], daemon: DaemonConfig | None, document: Raw, environ: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield the faults of the paths in a document of these files; `daemon` is None if its directories are not known."""
    directories = {} if daemon is None else {key: str(getattr(daemon, key)) for key in ("state_dir", "runtime_dir")}
    ours = {"the configuration itself": os.path.abspath(files[0])}
    ours |= {f"{file.name}, which the configuration includes": os.path.abspath(file) for file in files[1:]}
    ours |= {f"daemon.{key}": path for key, path in directories.items()}
    ours |= dict(_named(document, "", environ))
    flags = dict(_flags(document))
    places = _resolve_all({*ours.values(), *flags.values()})
    if directories:
        state, runtime = (places[path].target for path in directories.values())
        if Path(state).is_relative_to(runtime):
            yield Problem("daemon.state_dir", "inside of runtime_dir", _RESET)
    first: dict[str, str] = {}
    for path, flag in flags.items():
        place = places[flag]
        same = next((first[resolved] for resolved in (place.entry, place.target) if resolved in first), None)
        if same is not None:
            yield Problem(path, f"the same file as {same}", "expected one trigger a file")
            continue
        first |= {place.entry: path, place.target: path}
        others = {name: places[written] for name, written in ours.items()}
        beside = {name: places[written] for name, written in flags.items() if not _same(place, places[written])}
        why = _conflict(place, others | beside) or _own_name(place, directories, places) or place.fixed
        if why:
            yield Problem(path, why, _ALWAYS)


def _flags(document: Raw) -> Iterator[tuple[str, str]]:
    """Yield each flag's path with its key, even if the trigger has other faults."""
    triggers = document.get("triggers")
    for name, table in triggers.items() if isinstance(triggers, dict) else ():
        path = table.get("path") if isinstance(table, dict) and table.get("kind") == "flag" else None
        if isinstance(path, str) and path.startswith("/") and path.isprintable():
            yield config_path("triggers", name, "path"), path


def _named(value: object, path: str, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each file or directory that a part of the document names, with its key; flags apart."""
    if isinstance(value, dict):
        for key, inner in value.items():
            where = config_path(path, key)
            if not isinstance(inner, str):
                yield from _named(inner, where, environ)
            elif key == "credential" and environ.get("CREDENTIALS_DIRECTORY"):
                yield where, os.path.join(environ["CREDENTIALS_DIRECTORY"], inner)
            elif key == "file" or key.endswith(("_file", "_dir")):
                if path != "daemon" and inner.startswith("/"):
                    yield where, inner
            elif where == "notify.command":
                yield from _program(where, inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            if isinstance(inner, str):
                yield from _program(config_path(path, number), inner) if path.startswith("hooks.") else ()
            else:
                yield from _named(inner, config_path(path, number), environ)


def _program(where: str, text: str) -> Iterator[tuple[str, str]]:
    try:
        words = command(text)
    except InvalidValue:
        return
    if words[0].startswith("/"):
        yield where, words[0]


def _conflict(flag: ResolvedPath, others: Mapping[str, ResolvedPath]) -> str:
    """Return which of the other paths a flag is, or contains; "" if none."""
    for name, place in others.items():
        if _same(flag, place):
            return f"is {name}"
    mine = {flag.entry, flag.target}
    return next((f"holds {name}" for name, place in others.items() if mine.intersection(place.seen)), "")


def _same(place: ResolvedPath, other: ResolvedPath) -> bool:
    return not {place.entry, place.target}.isdisjoint((other.entry, other.target))


def _own_name(flag: ResolvedPath, directories: Mapping[str, str], places: Mapping[str, ResolvedPath]) -> str:
    """Return a fault if a flag has a name that the daemon uses in its directories, else ""."""
    for key, written in directories.items():
        for parent, name in map(os.path.split, (flag.entry, flag.target)):
            if parent == places[written].target and (
                _OURS.fullmatch(name) or (name == _FLAGS and key == "runtime_dir")
            ):
                return "is a file or directory of the daemon's own"
    return ""


# ── the file system ───────────────────────────────────────────────────────────────────────────────────────────────


def _resolve_all(paths: Iterable[str]) -> dict[str, ResolvedPath]:
    """Resolve paths within `LOOK_WITHIN_S`, each in its own thread; a path that hangs is returned as it is written."""
    places = {path: _as_written(path) for path in paths}
    resolved: dict[str, ResolvedPath] = {}

    def resolve(path: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: not a path at all
            resolved[path] = _resolve(path)

    threads = [threading.Thread(target=resolve, args=(path,), daemon=True) for path in places]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + LOOK_WITHIN_S
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))
    return places | resolved.copy()


def _as_written(path: str) -> ResolvedPath:
    normal = os.path.normpath(path)
    parents = [str(parent) for parent in Path(normal).parents]
    return ResolvedPath((*parents, normal), normal, normal)


def _resolve(path: str) -> ResolvedPath:
    """Follow a path from the root on. Blocks as long as its file systems do."""
    seen, target = _follow(path)
    parent, name = os.path.split(os.path.join("/", *path.split("/")))  # without trailing slashes
    entry = target if name in ("", ".", "..") else os.path.join(_follow(parent)[1], name)
    return ResolvedPath(tuple(seen), target, entry, _fixed(entry))


def _follow(path: str) -> tuple[list[str], str]:
    """Return every entry that a path leads through, and its target; a missing entry counts as a directory."""
    seen, here, links = ["/"], "/", 0
    ahead = path.split("/")[::-1]
    while ahead:
        part = ahead.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = os.path.dirname(here)
            continue
        here = os.path.join(here, part)
        seen.append(here)
        try:
            link = os.readlink(here)
        except OSError:  # not a link, or missing
            continue
        links += 1
        if links <= MAX_LINKS:
            here = "/" if link.startswith("/") else os.path.dirname(here)
            ahead += link.split("/")[::-1]
    return seen, here


def _fixed(entry: str) -> str:
    """Return why an entry cannot be removed, or "" for an entry that a person could have made."""
    if any(Path(entry).is_relative_to(root) for root in _KERNEL) and not Path(entry).is_relative_to(_MEMORY):
        return "is the kernel's"
    try:
        mode = os.lstat(entry).st_mode
        if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
            return "is a device"
        if not stat.S_ISDIR(mode):
            return ""
        if os.path.ismount(entry):
            return "is a file system of its own"
        with os.scandir(entry) as files:
            return "is a directory with files in it" if next(files, None) else ""
    except OSError:
        return ""
