"""Deribit's credentials: signatures, scopes, tokens (docs/venues/deribit.md §2)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Refused

_WINDOW_MS = 60_000
_SESSIONS = 16
_LEVELS = ("none", "read", "read_write")
_NAMES = ("id", "ts", "nonce", "sig")


def wrong() -> Refused:
    """Return the refusal of wrong credentials."""
    return Refused("13004", 401)


def unauthorized() -> Refused:
    """Return the refusal of a request without a login."""
    return Refused("13009", 401)


@dataclass(slots=True, eq=False)
class Grant:
    """A login: its account, its scopes, its tokens, its end."""

    account: Account
    scopes: Mapping[str, str]  # area → read or read_write
    session: str = ""  # the name in the scope `session:NAME`
    connection: Connection | None = None  # of the scope `connection`, with which it ends
    ip: str = ""
    ends_at: float = 0.0
    access: str = ""
    refresh: str = ""

    def allows(self, needed: str) -> bool:
        """Return whether the scopes include one such as `trade:read_write`; an empty one needs a login only."""
        area, _, level = needed.partition(":")
        return not needed or _LEVELS.index(self.scopes.get(area, "none")) >= _LEVELS.index(level)

    def text(self) -> str:
        """Return the scope of a reply."""
        where = f"session:{self.session}" if self.session else "connection"
        named = (f"{area}:{level}" for area, level in sorted(self.scopes.items()))
        return " ".join((where, "mainaccount", *named))


def parse_scope(text: str) -> dict[str, str]:
    """Return the words of a scope: area → level, `session` → name, `expires` → seconds, `ip` → address."""
    words = (word.partition(":") for word in text.split())
    return {area: value for area, _, value in words}


def narrowed(asked: Mapping[str, str], most: str, *, read_only: bool) -> dict[str, str]:
    """Return the levels that a key allows of those that were asked for; all, if no area was named."""
    allowed = {area: level for area, level in parse_scope(most).items() if level in _LEVELS[1:]}
    if read_only:
        allowed = dict.fromkeys(allowed, "read")
    named = {area: level for area, level in asked.items() if level in _LEVELS}
    if not named:
        return allowed
    levels = {area: min(level, allowed[area], key=_LEVELS.index) for area, level in named.items() if area in allowed}
    return {area: level for area, level in levels.items() if level != "none"}


class Credentials:
    """Check what proves a client: its secret, or a signature with a time and a nonce."""

    def __init__(self, keys: Mapping[str, Account], now_ms: Callable[[], int], most: Callable[[], str]) -> None:
        self._keys = keys
        self._most = most  # the scopes that the keys allow
        self._now_ms = now_ms
        self._used: dict[tuple[str, str], int] = {}  # the nonces of each key, and their times

    def by_secret(self, client_id: str, secret: str) -> Account:
        """Return the account of an id and its secret. Raises `Refused`."""
        account = self._keys.get(client_id)
        if account is None or not hmac.compare_digest(account.credentials["client_secret"].encode(), secret.encode()):
            raise wrong()
        return account

    def by_signature(self, client_id: str, stamp: str, nonce: str, signed: str, signature: str) -> Account:
        """Return the account whose secret signed time, nonce and the rest. Raises `Refused`.

        A time is valid for 60 s either way, and a nonce once.
        """
        account = self._keys.get(client_id)
        if account is None or not is_short_number(stamp) or not nonce:
            raise wrong()
        text = f"{stamp}\n{nonce}\n{signed}"
        if not hmac.compare_digest(sign(account.credentials["client_secret"], text).encode(), signature.encode()):
            raise wrong()
        now = self._now_ms()
        if abs(now - int(stamp)) > _WINDOW_MS or (client_id, nonce) in self._used:
            raise wrong()
        self._used = {used: at for used, at in self._used.items() if abs(now - at) <= 2 * _WINDOW_MS}
        self._used[client_id, nonce] = int(stamp)
        return account

    def by_header(self, request: Request) -> Grant:
        """Return what a header Basic or deri-hmac-sha256 allows. Raises `Refused`."""
        account = self._proven(request)
        return Grant(account, narrowed({}, self._most(), read_only=False))

    def _proven(self, request: Request) -> Account:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        match scheme.lower():
            case "basic":
                return self.by_secret(*_basic(value))
            case "deri-hmac-sha256":
                named = _signed_header(value)
                body = request.body.decode("utf-8", "replace")
                signed = f"{request.method}\n{request.target}\n{body}\n"
                client_id, stamp, nonce, signature = (named.get(name, "") for name in _NAMES)
                return self.by_signature(client_id, stamp, nonce, signed, signature)
        raise unauthorized()

    def key_of(self, request: Request) -> str:
        """Return the client id in a header, unchecked."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            return _basic(value)[0]
        return _signed_header(value).get("id", "") if scheme.lower() == "deri-hmac-sha256" else ""


def is_short_number(text: str) -> bool:
    """Return whether a text is a whole number of 15 digits at most."""
    return text.isascii() and text.isdigit() and len(text) <= 15


def sign(secret: str, text: str) -> str:
    """Return the signature of a text."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _signed_header(value: str) -> dict[str, str]:
    """Return the four parts of a signed header; empty unless each comes once, and nothing else."""
    pairs = [part.strip().partition("=") for part in value.split(",")]
    named = {name: text for name, _, text in pairs}
    return named if sorted(named) == sorted(_NAMES) and len(pairs) == len(named) else {}


def _basic(value: str) -> tuple[str, str]:
    try:
        client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return client_id, secret


class Grants:
    """The tokens that are in force; of 17 named sessions of an account the least recently refreshed one ends."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all: list[Grant] = []  # the least recently refreshed first

    def issue(self, grant: Grant, life_s: float) -> None:
        """Issue new tokens for a grant; an older session of the same name ends."""
        grant.access, grant.refresh = (f"{secrets.randbelow(2**40)}.{secrets.token_urlsafe(24)}" for _ in range(2))
        grant.ends_at = self._clock() + life_s
        named = [other for other in self._all if other.session and other.account is grant.account]
        same = [other for other in named if other.session == grant.session]
        ended = same or named[: max(0, len(named) + 1 - _SESSIONS)] if grant.session else []
        self._all = [other for other in self._all if other not in ended and other is not grant]
        self._all.append(grant)

    def live(self, grant: Grant | None) -> bool:
        """Return whether a grant is in force."""
        return grant is not None and grant in self._all and self._clock() < grant.ends_at

    def by_access(self, token: object) -> Grant | None:
        """Return the grant of an access token; None if none is in force."""
        return next((grant for grant in self._all if grant.access == token and self.live(grant)), None)

    def by_refresh(self, token: object) -> Grant | None:
        """Return the grant of a refresh token, which may have run out."""
        return next((grant for grant in self._all if grant.refresh == token), None)

    def revoke(self, ends: Callable[[Grant], bool]) -> None:
        """End the grants for which `ends` is true."""
        self._all = [grant for grant in self._all if not ends(grant)]
