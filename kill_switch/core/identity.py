"""Identify accounts by venue, host, key and scope, because a configuration may give a name to another account.

The engine and recovery use it to decide which account a latch belongs to. The journal has an `Identity`: a plain
mapping with a salted digest of the key, never the key. A `Login` is an account of the present configuration, with its
key, and can compare itself with an identity.
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

_DIGEST_DIGITS = 16  # hex digits: enough to distinguish keys, too few to prove a guess
_FIELDS = ("venue", "host", "ws_host", "key", "salt")


def new_salt() -> str:
    """Return a random salt for the digests of one process."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Login:
    """An account's login. `scope` has the options that decide which orders its reads cover."""

    venue: str
    ws_url: str
    rest_url: str
    key: str = field(repr=False)  # the secret that identifies the account
    scope: Mapping[str, object] = field(default_factory=dict)

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that the login uses; `venue` says nothing more, because several adapters may serve one venue."""
        return frozenset(filter(None, (plain_host(url) for url in (self.rest_url, self.ws_url))))

    def identity(self, salt: str) -> dict[str, object]:
        """Return the identity that the journal may have; `salt` is for the key's digest."""
        return {
            "venue": self.venue,
            "host": _host(self.rest_url),
            "ws_host": _host(self.ws_url),
            "key": _digest(self.key, salt),
            "salt": salt,
            "scope": {name: _plain(value) for name, value in self.scope.items()},
        }

    def is_same(self, identity: Identity) -> bool:
        """Return whether this login is that account or a part of it: same host and key, and a common scope.

        Its venue says nothing more, because several adapters may serve one venue.
        """
        mine = self.identity(identity["salt"])
        return all(mine[name] == identity[name] for name in ("host", "key")) and _overlap(
            mine["scope"], identity.get("scope", {})
        )

    def covers(self, identity: Identity) -> bool:
        """Return whether reads by this login cover the whole of that account."""
        return self.key_fits(identity) and not self.describe_mismatch(identity)

    def key_fits(self, identity: Identity) -> bool:
        """Return whether this login has the key of that identity, compared in constant time."""
        mine, theirs = _digest(self.key, identity["salt"]), identity["key"]
        return hmac.compare_digest(mine.encode(), theirs.encode("utf-8", "backslashreplace"))

    def describe_mismatch(self, identity: Identity) -> tuple[str, ...]:
        """Return in words how venue, hosts or scope differ from that account; the key is not compared."""
        return _other_places(self.identity(""), identity)


def describe_difference(present: Identity, struck: Identity) -> str:
    """Describe how the present account differs from the struck one; the caller knows that they differ."""
    return "; ".join(_other_places(present, struck)) or "its key is another one"


def parse_identities(value: object) -> dict[str, list[Identity]]:
    """Return the identities of each account, one or several, from a record; raise `TypeError` for any other value."""
    if not isinstance(value, Mapping):
        raise TypeError("no identities")
    return {name: [_parse_identity(item) for item in (ones if isinstance(ones, list | tuple) else [ones])]
            for name, ones in value.items()}  # fmt: skip


class StruckLogins:
    """The identities that were struck under the name of each latched account, the present one last.

    It is a fold of the journal's records; a checkpoint has its `to_json`, which `from_json` reads.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[Identity]] = {}

    @classmethod
    def from_json(cls, data: object) -> StruckLogins:
        """Return the fold that `to_json` has written; raise `TypeError` for any other value."""
        struck = cls()
        struck._known = parse_identities(data)
        return struck

    def to_json(self) -> dict[str, list[Identity]]:
        """Return the identities by account in JSON's plain values."""
        return dict(self._known)

    def struck_as(self, name: str) -> tuple[Identity, ...]:
        """Return the identities that were struck under this name, as far as the journal has them."""
        return tuple(self._known.get(name, ()))

    def on_reason(self, names: Iterable[str], identities: object) -> None:
        """Apply the record of a reason: it latches the accounts of these names, with these identities."""
        parsed = parse_identities(identities)
        for name in names:
            known = self._known.setdefault(name, [])
            for identity in parsed.get(name, ()):
                known[:] = [*(other for other in known if other != identity), identity]

    def on_identity(self, identities: object) -> tuple[str, ...]:
        """Apply a record of present identities; return the accounts whose identity has changed: their proof is void."""
        others = []
        for name, now in parse_identities(identities).items():
            before, self._known[name] = self._known.get(name, []), now
            if before[-1:] != now[-1:]:
                others.append(name)
        return tuple(others)

    def on_renamed(self, moved: Mapping[str, str]) -> None:
        """Apply a record of renamed accounts; `moved` has old name → new name."""
        known: dict[str, list[Identity]] = {}
        for name, identities in self._known.items():
            mine = known.setdefault(moved.get(name, name), [])
            mine[:] = [*identities, *(identity for identity in mine if identity not in identities)]
        self._known = known

    def on_rearmed(self, names: Iterable[str]) -> None:
        """Forget the identities of accounts that are armed again."""
        for name in names:
            self._known.pop(name, None)


def shared_place(identity: Identity) -> tuple[str, str]:
    """Return host and digest of an identity: equal for one account if the digests have the same salt."""
    return identity["host"], identity["key"]


def find_moved(known: Mapping[str, Sequence[Identity]], logins: Mapping[str, Login]) -> dict[str, str]:
    """Return the latched accounts that have another name now: old name → new name. The identity decides.

    `known` has the struck identities of each latched name. Accounts that share a login keep their own latches.
    """
    kept = {name for name, ones in known.items() if ones and name in logins and logins[name].is_same(ones[-1])}
    lost = {name: ones[-1] for name, ones in known.items() if ones and name not in kept}
    free: dict[str, dict[tuple[str, str], list[str]]] = {}  # by the salt of the key's digest and by the login
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
    """Return unlatched account → latched account, where the former covers a part that the latter no longer covers."""
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
    """Describe the part of an option's earlier value that the present value lacks; "" if nothing is missing."""
    if isinstance(before, list | tuple):
        left = [str(item) for item in before if not isinstance(now, list | tuple) or item not in now]
        return f"no longer has {', '.join(left)}" if left else ""
    if isinstance(before, bool):
        return "is off, and was on" if before and now is not True else ""
    return "" if now == before else "is another one"


def _overlap(mine: Any, theirs: Any) -> bool:
    for name, before in theirs.items():
        now = mine.get(name)
        if (
            isinstance(before, list | tuple)
            and isinstance(now, list | tuple)
            and not any(item in now for item in before)
        ):
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


def plain_host(url: str) -> str:
    """Return host and port of an address: one value for all spellings; "" for "".

    Port 443 is left out.
    """
    return _host(url).rstrip(".").replace("localhost", "127.0.0.1")


def _host(url: str) -> str:
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port not in (None, 443) else ""
    return f"{(parts.hostname or '').lower()}{port}"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
