"""Refuse paths that cannot do what they are for: a flag that is always there, one file for two flags, a lost latch.

Paths are compared as the file system resolves them, links and `..` included. A file system that hangs keeps nothing
from starting: its paths are compared as they are written.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from kill_switch.config.messages import Raw, Wrong, at
from kill_switch.config.parsers import command
from kill_switch.config.schema import Daemon
from kill_switch.errors import Problem

LOOK_WITHIN_S = 1.0  # for all paths together
MOST_LINKS = 40  # in one path; the kernel's limit, path_resolution(7)

_ALWAYS = "it is always there, and the trigger would trip for ever; expected a path that nothing else has"
_RESET = "systemd empties runtime_dir at every stop, and the latch must outlive that"
_OURS = re.compile(r"lock|.*\.sock|.*\.jsonl.*|journal-.*")  # what we make in our two directories, at any time
_FLAGS = "flag"  # in the runtime directory: where tmpfiles(5) lets the group put flags
_KERNEL = ("/proc", "/sys", "/dev")
_MEMORY = "/dev/shm"  # noqa: S108 - nothing is made there


class Place(NamedTuple):
    """Where a path leads."""

    seen: tuple[str, ...]  # every entry that it leads through; all of them are there as long as its target is
    target: str  # behind all links
    entry: str  # the path itself, its last link not followed
    fixed: str = ""  # why nobody will remove it, if so


def problems(source: Path, daemon: Daemon | None, document: Raw, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong with the paths that a file names; `daemon` is None if its directories are not known."""
    directories = {} if daemon is None else {key: str(getattr(daemon, key)) for key in ("state_dir", "runtime_dir")}
    ours = {"the configuration itself": os.path.abspath(source)}
    ours |= {f"daemon.{key}": path for key, path in directories.items()}
    ours |= dict(_named(document, "", environ))
    flags = dict(_flags(document))
    places = _look({*ours.values(), *flags.values()})
    if directories:
        state, runtime = (places[path].target for path in directories.values())
        if Path(state).is_relative_to(runtime):
            yield Problem("daemon.state_dir", "inside of runtime_dir", _RESET)
    first: dict[str, str] = {}
    for path, flag in flags.items():
        place = places[flag]
        same = next((first[one] for one in (place.entry, place.target) if one in first), None)
        if same is not None:
            yield Problem(path, f"the same file as {same}", "expected one trigger a file")
            continue
        first |= {place.entry: path, place.target: path}
        others = {name: places[written] for name, written in ours.items()}
        beside = {name: places[written] for name, written in flags.items() if not _same(place, places[written])}
        why = _what(place, others | beside) or _own_name(place, directories, places) or place.fixed
        if why:
            yield Problem(path, why, _ALWAYS)


def _flags(document: Raw) -> Iterator[tuple[str, str]]:
    """Yield where a flag's path is written, and the path, whatever else is wrong with its trigger."""
    triggers = document.get("triggers")
    for name, table in triggers.items() if isinstance(triggers, dict) else ():
        path = table.get("path") if isinstance(table, dict) and table.get("kind") == "flag" else None
        if isinstance(path, str) and path.startswith("/") and path.isprintable():
            yield at("triggers", name, "path"), path


def _named(value: object, path: str, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each file or directory that a part of the document names, with its place there; flags apart."""
    if isinstance(value, dict):
        for key, inner in value.items():
            where = at(path, key)
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
                yield from _program(at(path, number), inner) if path.startswith("hooks.") else ()
            else:
                yield from _named(inner, at(path, number), environ)


def _program(where: str, text: str) -> Iterator[tuple[str, str]]:
    try:
        words = command(text)
    except Wrong:
        return
    if words[0].startswith("/"):
        yield where, words[0]


def _what(flag: Place, others: Mapping[str, Place]) -> str:
    """Say which of the others a flag is, or holds; "" for none."""
    for name, place in others.items():
        if _same(flag, place):
            return f"is {name}"
    mine = {flag.entry, flag.target}
    return next((f"holds {name}" for name, place in others.items() if mine.intersection(place.seen)), "")


def _same(one: Place, other: Place) -> bool:
    return not {one.entry, one.target}.isdisjoint((other.entry, other.target))


def _own_name(flag: Place, directories: Mapping[str, str], places: Mapping[str, Place]) -> str:
    """Say that a flag has the name of what the daemon makes in its directories."""
    for key, written in directories.items():
        for parent, name in map(os.path.split, (flag.entry, flag.target)):
            if parent == places[written].target and (
                _OURS.fullmatch(name) or (name == _FLAGS and key == "runtime_dir")
            ):
                return "is a file or directory of the daemon's own"
    return ""


# ── the file system ───────────────────────────────────────────────────────────────────────────────────────────────


def _look(paths: Iterable[str]) -> dict[str, Place]:
    """Resolve paths, each in a thread of its own: one that hangs holds up no other, and is taken as it is written."""
    places = {path: _as_written(path) for path in paths}
    found: dict[str, Place] = {}

    def resolve(path: str) -> None:
        try:
            found[path] = _resolve(path)
        except (OSError, ValueError):  # ValueError: not a path at all
            pass

    threads = [threading.Thread(target=resolve, args=(path,), daemon=True) for path in places]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + LOOK_WITHIN_S
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))
    return places | found.copy()


def _as_written(path: str) -> Place:
    normal = os.path.normpath(path)
    parents = [str(parent) for parent in Path(normal).parents]
    return Place((*parents, normal), normal, normal)


def _resolve(path: str) -> Place:
    """Follow a path, from the root on. Waits for its file systems."""
    seen, target = _follow(path)
    parent, name = os.path.split(os.path.join("/", *path.split("/")))  # without slashes at its end
    entry = target if name in ("", ".", "..") else os.path.join(_follow(parent)[1], name)
    return Place(tuple(seen), target, entry, _fixed(entry))


def _follow(path: str) -> tuple[list[str], str]:
    """Return every entry that a path leads through, and its target; what is not there is taken for a directory."""
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
        except OSError:  # no link, or not there
            continue
        links += 1
        if links <= MOST_LINKS:
            here = "/" if link.startswith("/") else os.path.dirname(here)
            ahead += link.split("/")[::-1]
    return seen, here


def _fixed(entry: str) -> str:
    """Say why nobody will ever remove what stands there; "" for what a hand could have put there."""
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
