"""Fetch secrets from the places that a configuration names, and keep them out of logs and messages.

A configuration names a secret's place, never the secret. Each kind of place has its own check. No error repeats the
value at a secret's key, because the value may be the secret itself.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping

from kill_switch.config.messages import InvalidValue, closest_match, safe_description

LIMIT = 64 * 1024  # bytes of a secret
ONLY = "expected the secret and nothing else"
WHERE = 'expected { credential = "NAME" }, { file = "/PATH" } or { env = "NAME" }'
SOURCES = ("credential", "file", "env")

_HOLDERS = {"credential": "its credential", "file": "its file", "env": "its variable"}
_QUOTES = "\"'`“”‘’„«»"
# because a line of a shell or a configuration may have been pasted; base64 has "=" only at its end
_ASSIGNED = re.compile(
    r"(?:export\s+)?[A-Z_][A-Z0-9_]*\s*=+[^=]|(?i:export|set)\s+\w+\s*="
    r"|(?i:(?:api|private|client)?[ _-]?(?:key|secret|token|id|passphrase|password))\s*(?:=+[^=]|:)"
)
_PLACEHOLDER = re.compile(  # but not the words of a passphrase, such as "enter the dragon"
    r"<.*>|\[.*\]|\$?\{.*\}|\$[A-Z_][A-Z0-9_]*|%[A-Za-z_]+%|\*+|\.{3,}"
    r"|(?i:your|insert|replace|change|put|enter|paste)[ _-]?(?i:me|this|here|your|api|key|secret|token)\b.*"
    r"|(?i:insert|replace|change|put|enter|paste)[_-]?(?i:it|with|the)\b(?! ).*"
    r"|(?i:your|insert|replace|change|put|enter|paste)_.*|(?i:changeme|todo|fixme|placeholder|redacted|n/a|none|null)",
    re.DOTALL,
)
_TO_FILL_IN = re.compile(r"<[A-Za-z][A-Za-z0-9 _.-]*>")  # but not a mail address
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Secrets(Mapping[str, str]):
    """Secrets by name; `repr` shows the names only, and pickling is refused."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._values)})"

    def __reduce__(self) -> str:
        raise TypeError("secrets are not written anywhere")


def resolve(source: object, environ: Mapping[str, str], *, strict: bool = True) -> str:
    """Return the secret that `source` names; raise `Wrong`.

    Unless `strict`, a file that everyone can read is accepted: for a kill, a key that others know is better than none.
    """
    if not isinstance(source, dict):
        raise InvalidValue(
            "a literal string, where no secret belongs" if isinstance(source, str) else _type(source), WHERE
        )
    for key in source:
        if key not in SOURCES:
            near = closest_match(key, SOURCES)
            raise InvalidValue("an unknown key in its table", f'did you mean "{near}"?' if near else WHERE)
    if len(source) != 1:
        raise InvalidValue(f"{' and '.join(source)} together" if source else "an empty table", WHERE)
    ((kind, value),) = source.items()
    if not isinstance(value, str):
        raise InvalidValue(f"{kind} is {_type(value)}", WHERE)
    match kind:
        case "credential":
            return _text(_credential(value, environ))
        case "file":
            return _text(_file(value, strict))
        case _:
            return _text(_variable(value, environ))


def refuse_unlikely(text: str, source: Mapping[str, object], *, is_typed: bool = False, is_url: bool = False) -> None:
    """Raise `Wrong` if a fetched text cannot be a secret: it has quotes or a name around it, or is a placeholder.

    `source` is the secret's place. `is_typed`: people choose such a secret, so it may contain spaces. `is_url`: it may
    contain any letters, for example in a sender's name. No message shows any of the text.
    """
    holder = _HOLDERS.get(next(iter(source), ""), "it")
    if text.startswith("-----BEGIN "):
        if not text.isascii():
            raise InvalidValue(f"{holder} has PEM with letters outside ASCII", "export it again")
        return
    if text[0] in _QUOTES and text[-1] in _QUOTES and len(text) > 1:
        raise InvalidValue(f"{holder} has quotes around the secret", "remove them")
    if _ASSIGNED.match(text):
        raise InvalidValue(f"{holder} has a name before the secret, as in NAME=…", "leave the secret alone in it")
    if _PLACEHOLDER.fullmatch(text) or (not is_typed and _TO_FILL_IN.search(text)):
        raise InvalidValue(f"{holder} has a placeholder", "put the secret in its place")
    if is_url:
        return
    if not text.isascii():
        raise InvalidValue(
            f"{holder} has letters outside ASCII: look-alikes, typographic quotes or dashes?", "copy it again"
        )
    if not is_typed and " " in text:
        raise InvalidValue(f"{holder} has spaces within the secret", ONLY)


def _type(value: object) -> str:
    return "a number" if isinstance(value, int | float) else safe_description(value)


def _credential(name: str, environ: Mapping[str, str]) -> bytes:
    if not name or "/" in name or ".." in name or name == "." or not name.isprintable():
        raise InvalidValue(
            "not the name of a credential", "expected the NAME of LoadCredential=NAME:PATH, without a path"
        )
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory:
        raise InvalidValue(
            "a credential, but $CREDENTIALS_DIRECTORY is not set",
            'systemd sets it where the unit has LoadCredential=; elsewhere use { file = "/PATH" } or { env = "NAME" }',
        )
    content, _ = _read(os.path.join(directory, name), "no such credential", "add LoadCredential=NAME:PATH to the unit")
    return content


def _file(path: str, strict: bool) -> bytes:
    if not path.startswith("/") or not path.isprintable():
        raise InvalidValue("a file that is not an absolute path", 'it must begin with "/"')
    content, status = _read(path, "its file does not exist", "check the path")
    refuse_exposed(status, path, os.geteuid(), strict=strict)
    return content


def _read(path: str, absent: str, advice: str) -> tuple[bytes, os.stat_result]:
    """Read a regular file; the open descriptor is examined, so that the file cannot be swapped in between."""
    handle = -1
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidValue("not a regular file", "expected a file that holds the secret and nothing else")
        return os.read(handle, LIMIT + 1), status
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidValue(absent, advice) from None
    except PermissionError:
        raise InvalidValue(
            "this process may not read its file", "run as the daemon's user, or change its owner"
        ) from None
    except (OSError, UnicodeError):
        raise InvalidValue("its file cannot be read", "check the path") from None
    finally:
        if handle >= 0:
            os.close(handle)


def refuse_exposed(status: os.stat_result, path: str, uid: int, *, strict: bool = True) -> None:
    """Raise `Wrong` if a file could have been written by a user other than root and `uid`.

    If `strict`, also if everyone can read it. Root may use any user's file: `fire --direct` from a root shell uses the
    files of the daemon's user.
    """
    mode = stat.S_IMODE(status.st_mode)
    fix = f"chmod g-w,o-rwx {shlex.quote(path)}"
    if uid and status.st_uid not in (0, uid):
        raise InvalidValue(f"its file belongs to uid {status.st_uid}", f"chown {uid} {shlex.quote(path)}")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InvalidValue(f"its file can be written by others (mode {mode:04o})", fix)
    if strict and mode & stat.S_IROTH:
        raise InvalidValue(f"its file can be read by everyone (mode {mode:04o})", fix)


def _variable(name: str, environ: Mapping[str, str]) -> bytes:
    if _VARIABLE.fullmatch(name) is None:
        raise InvalidValue("not the name of a variable", "expected letters, digits and _, without $")
    value = environ.get(name)
    if value is None:
        raise InvalidValue("its variable is not set", "set it in the environment of this process")
    return value.encode("utf-8", "surrogateescape")


def _text(content: bytes) -> str:
    """Return the content as text; refuse anything that is no key, passphrase or PEM file.

    Such a text would fail at the venue, without a reason.
    """
    if len(content) > LIMIT:
        raise InvalidValue("longer than 64 KiB", "expected a file that holds the secret and nothing else")
    try:
        text = content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidValue("not UTF-8 text", "expected the secret as text, a binary key as PEM") from None
    if not text:
        raise InvalidValue("an empty secret", "expected the secret, in one line, or PEM")
    if text.startswith("-----BEGIN ") and "-----END " in text:
        if not text.replace("\r", "").replace("\n", "").replace("\t", "").isprintable():
            raise InvalidValue("PEM with control characters", "export it again")
        return text
    if "\n" in text:
        raise InvalidValue("more than one line, and not PEM", "expected the secret and nothing else")
    if not text.isprintable() or text != text.strip():
        raise InvalidValue(
            "control or invisible characters, or spaces at its ends", "expected the secret and nothing else"
        )
    return text
