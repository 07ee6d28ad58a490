"""Say who an account is, whatever it is called: its venue, its host, its key and what a read of it covers.

A latch belongs to the account that was struck, and a name in a file can be given to another one. What goes on record
is an identity: a plain mapping without a secret, of whose key there is a salted digest. A `Login` is the account as the
configuration has it now, key and all; it alone can tell whether it is the one that an identity on record describes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Identity = Mapping[str, Any]

_DIGEST_DIGITS = 16  # of a key's digest: enough to tell keys apart, too few to prove a guess
_FIELDS = ("venue", "host", "ws_host", "key", "salt")


def new_salt() -> str:
    """Return a random salt for the digests of one process."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Login:
    """An account's login; `scope` is the options that decide what its reads cover, each a list, a switch or a text."""

    venue: str
    ws_url: str
    rest_url: str
    key: str = field(repr=False)  # the secret that says whose account it is
    scope: Mapping[str, object] = field(default_factory=dict)

    @property
    def places(self) -> frozenset[tuple[str, str]]:
        """Return where it logs in: the venue, whichever module serves it, with each of its hosts."""
        family = self.venue.removeprefix("ccxt:").replace("-", "")
        hosts = (_host(url).rstrip(".").replace("localhost", "127.0.0.1") for url in (self.rest_url, self.ws_url))
        return frozenset((family, host) for host in hosts if host)

    def identity(self, salt: str) -> dict[str, object]:
        """Return what may be on record of it."""
        return {
            "venue": self.venue,
            "host": _host(self.rest_url),
            "ws_host": _host(self.ws_url),
            "key": _digest(self.key, salt),
            "salt": salt,
            "scope": {name: _plain(value) for name, value in self.scope.items()},
        }

    def is_same(self, identity: Identity) -> bool:
        """Say whether it is that account, or shares some of it: the same key at the same place, and a common scope."""
        mine = self.identity(identity["salt"])
        return all(mine[name] == identity[name] for name in ("venue", "host", "key")) and _overlap(
            mine["scope"], identity.get("scope", {})
        )

    def covers(self, identity: Identity) -> bool:
        """Say whether what it shows is all that account: it is the same one, and no less of it."""
        return self.key_fits(identity) and not self.describe_mismatch(identity)

    def key_fits(self, identity: Identity) -> bool:
        mine, theirs = _digest(self.key, identity["salt"]), identity["key"]
        return hmac.compare_digest(mine.encode(), theirs.encode("utf-8", "backslashreplace"))

    def describe_mismatch(self, identity: Identity) -> tuple[str, ...]:
        """Return in words where it is not the place of that account, or leaves some of it out; its key apart."""
        return _other_places(self.identity(""), identity)


def describe_difference(present: Identity, struck: Identity) -> str:
    """Say in words how an account differs from one that was struck, of which it is known that it does."""
    return "; ".join(_other_places(present, struck)) or "its key is another one"


def parse_identities(value: object) -> dict[str, list[Identity]]:
    """Return identities by account as a record has them, one or several each; raise `TypeError` if it has not."""
    if not isinstance(value, Mapping):
        raise TypeError("no identities")
    return {name: [_parse_identity(item) for item in (ones if isinstance(ones, list | tuple) else [ones])]
            for name, ones in value.items()}  # fmt: skip


class StruckLogins:
    """Hold, of each latched account, who was struck under its name: the present one last.

    It is a fold of the journal's records; `told` is all of it in JSON's own values, from which `of` makes it again.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[Identity]] = {}

    @classmethod
    def from_json(cls, data: object) -> StruckLogins:
        """Make it from what `told` has returned; raise `TypeError` if it is nothing of the kind."""
        struck = cls()
        struck._known = parse_identities(data)
        return struck

    def to_json(self) -> dict[str, list[Identity]]:
        return dict(self._known)

    def struck_as(self, name: str) -> tuple[Identity, ...]:
        """Return who was struck under this name, as far as that is on record."""
        return tuple(self._known.get(name, ()))

    def on_reason(self, names: Iterable[str], identities: object) -> None:
        """Take a reason's record: what it strikes is latched under these names."""
        parsed = parse_identities(identities)
        for name in names:
            known = self._known.setdefault(name, [])
            for identity in parsed.get(name, ()):
                known[:] = [*(other for other in known if other != identity), identity]

    def on_identity(self, identities: object) -> tuple[str, ...]:
        """Take a record of who the accounts are now; return those that were others, whose proof is none any more."""
        others = []
        for name, now in parse_identities(identities).items():
            before, self._known[name] = self._known.get(name, []), now
            if before[-1:] != now[-1:]:
                others.append(name)
        return tuple(others)

    def on_renamed(self, moved: Mapping[str, str]) -> None:
        """Take a record of accounts that have other names now."""
        known: dict[str, list[Identity]] = {}
        for name, ones in self._known.items():
            mine = known.setdefault(moved.get(name, name), [])
            mine[:] = [*ones, *(identity for identity in mine if identity not in ones)]
        self._known = known

    def on_rearmed(self, names: Iterable[str]) -> None:
        for name in names:
            self._known.pop(name, None)


def shared_place(identity: Identity) -> tuple[str, str, str]:
    """Return what two identities of one account have in common if their digests have one salt; the scope apart."""
    return identity["venue"], identity["host"], identity["key"]


def find_moved(known: Mapping[str, Sequence[Identity]], logins: Mapping[str, Login]) -> dict[str, str]:
    """Return the latched accounts that have another name now, and which: the identity decides, and not the label.

    Of several accounts with one login, each keeps its own latch.
    """
    kept = {name for name, ones in known.items() if ones and name in logins and logins[name].is_same(ones[-1])}
    lost = {name: ones[-1] for name, ones in known.items() if ones and name not in kept}
    free: dict[str, dict[tuple[str, str, str], list[str]]] = {}  # by the salt of the key's digest and by the login
    for salt in {identity["salt"] for identity in lost.values()}:
        places = free[salt] = {}
        for name, login in logins.items():
            if name not in kept:
                places.setdefault(shared_place(login.identity(salt)), []).append(name)
    moved = {}
    for name, identity in lost.items():
        alike = free[identity["salt"]].get(shared_place(identity), ())
        now = next((new for new in alike if new != name and logins[new].is_same(identity)), None)
        if now is not None:
            moved[name] = now
    return moved


def find_shared(known: Mapping[str, Sequence[Identity]], logins: Mapping[str, Login]) -> dict[str, str]:
    """Return accounts that are not latched, and show a part of one that is and does not show all of itself any more."""
    uncovered = [
        (name, identity)
        for name, ones in known.items()
        for identity in ones
        if name not in logins or not logins[name].covers(identity)
    ]
    return {
        new: name
        for new, login in logins.items()
        for name, identity in uncovered
        if new not in known and login.is_same(identity)
    }


def _other_places(mine: Identity, theirs: Identity) -> tuple[str, ...]:
    words = []
    for name, label in (("venue", "venue"), ("host", "host"), ("ws_host", "WebSocket's host")):
        if mine[name] != theirs[name] and (name != "ws_host" or mine["host"] == theirs["host"]):
            words.append(f"its {label} is {mine[name]}, and was {theirs[name]}")
    if mine["venue"] == theirs["venue"]:
        for name, before in theirs.get("scope", {}).items():
            if missing := _missing_scope(mine["scope"].get(name), before):
                words.append(f"{name} {missing}")
    return tuple(words)


def _missing_scope(now: object, before: object) -> str:
    """Say what an option leaves out that it had, "" for nothing."""
    if isinstance(before, list | tuple):
        left = [str(item) for item in before if not isinstance(now, list | tuple) or item not in now]
        return f"no longer has {', '.join(left)}" if left else ""
    if isinstance(before, bool):
        return "is off, and was on" if before and now is not True else ""
    return "" if now == before else "is another one"


def _overlap(mine: Any, theirs: Any) -> bool:
    for name, before in theirs.items():
        now = mine.get(name)
        if isinstance(before, list | tuple) and isinstance(now, list | tuple) and not any(one in now for one in before):
            return False
    return True


def _parse_identity(data: object) -> Identity:
    if not isinstance(data, Mapping) or not all(isinstance(data.get(name), str) for name in _FIELDS):
        raise TypeError("no identity")
    if not isinstance(data.get("scope"), Mapping):
        raise TypeError("no identity")
    return data


def _digest(key: str, salt: str) -> str:
    return hmac.new(salt.encode(), key.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:_DIGEST_DIGITS]


def _host(url: str) -> str:
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port not in (None, 443) else ""
    return f"{(parts.hostname or '').lower()}{port}"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
