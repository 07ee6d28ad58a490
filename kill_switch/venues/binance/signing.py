"""Sign Binance's requests with HMAC-SHA256, Ed25519 or RSA (docs/venues/binance.md § 2).

REST signs the percent-encoded query, followed by the body. The WebSocket API signs its parameters sorted by name, not
encoded. No error shows a secret.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple
from urllib.parse import quote, urlencode

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from kill_switch.core.domain import Instant
from kill_switch.venues.clock_offset import ClockOffset
from kill_switch.venues.decode import header_safe
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.signing import hex_hmac
from kill_switch.venues.request import Request

RECV_WINDOW_MS = 30_000  # of 60,000: a request that a slow clock or a slow path makes late still counts
LEAST_RSA_BITS = 2048
PEM = "-----BEGIN"
NO_KEY = "private_key is not an unencrypted private key, in PEM or as PKCS#8 in base64"

USED_FOR_MS = 20_000  # a signature that was made ahead is used for so long: it then still has a third of its window
RENEWED_AFTER_MS = 10_000

Value = str | int | bool
TextAt = Callable[[int], bytes]  # a time in milliseconds → the text that is signed with it


class Signer(NamedTuple):
    """A key that signs: hexadecimal digits with HMAC, else base64 that is not percent-encoded."""

    kind: Literal["hmac", "ed25519", "rsa"]
    sign: Callable[[bytes], str]

    @property
    def logs_on(self) -> bool:
        """Whether a WebSocket session can log on with it, so that its requests need no signature (§ 2)."""
        return self.kind == "ed25519"

    @property
    def is_slow(self) -> bool:
        """Whether a signature takes as long as a request's way to the venue: it is made before it is needed."""
        return self.kind == "rsa"


def signer_of(secrets: Mapping[str, str]) -> Signer:
    """Return the signer of an account's `api_secret` or `private_key`; raise ValueError if it has not exactly one."""
    private_key, secret = secrets.get("private_key"), secrets.get("api_secret")
    if private_key is not None and secret is not None:
        raise ValueError("private_key given beside api_secret: a key signs with one of them")
    if private_key is not None:
        return _private_signer(private_key)
    if not secret or not secret.strip():
        raise ValueError("api_secret missing: it signs the requests, unless private_key does")
    if PEM in secret:
        raise ValueError("api_secret is a private key: name it private_key")
    try:
        held = secret.encode()
    except UnicodeEncodeError:
        raise ValueError("api_secret is not text") from None  # the cause would show the secret
    return Signer("hmac", lambda text: hex_hmac(held, text))


def _private_signer(private_key: str) -> Signer:
    key = _load(private_key)
    if isinstance(key, Ed25519PrivateKey):
        return Signer("ed25519", lambda text: _base64(key.sign(text)))
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("private_key is neither an Ed25519 nor an RSA key")
    if key.key_size < LEAST_RSA_BITS:
        raise ValueError(f"private_key is shorter than {LEAST_RSA_BITS} bits")
    return Signer("rsa", lambda text: _base64(key.sign(text, padding.PKCS1v15(), hashes.SHA256())))


def _load(private_key: str) -> object:
    try:
        if PEM in private_key:
            return load_pem_private_key(private_key.strip().encode(), password=None)
        return load_der_private_key(base64.b64decode("".join(private_key.split()), validate=True), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(NO_KEY) from None  # the cause may show the key


def _base64(signature: bytes) -> str:
    return base64.b64encode(signature).decode()


def query_of(values: Mapping[str, Value]) -> str:
    """Return values as a query in their order, percent-encoded as it is signed and sent (§ 2)."""
    return urlencode({name: _text(value) for name, value in values.items()}, quote_via=quote, safe="")


def ws_payload(params: Mapping[str, Value]) -> bytes:
    """Return the text that the WebSocket API signs: `params` without `signature`, sorted by name, not encoded."""
    return "&".join([f"{name}={_text(params[name])}" for name in sorted(params)]).encode()


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class SignedRequests:
    """The requests of one account, over REST and over the WebSocket API.

    An RSA signature takes as long as a request's way to a near venue. So `sign_ahead` makes signatures between kills.
    A request leaves with a signature that was made before, and its time, if it is at most `USED_FOR_MS` old.
    """

    def __init__(self, host: str, key: str, signer: Signer, clock: ClockOffset, origin: str = "") -> None:
        """Make the requests of `key`; with an `origin`, they go there and not to the account's `rest_url`.

        Raise ValueError, without the key, if no header can carry it.
        """
        self.signer = signer
        self.key = header_safe("api_key", key)
        self._clock = clock
        self._origin = origin
        self._plain = {"Host": host, "User-Agent": "kill-switch"}
        self._keyed = {**self._plain, "X-MBX-APIKEY": self.key}
        self._ahead: dict[bytes, tuple[int, str]] = {}  # a text without its time → its time, and the signature

    def signed(self, method: str, path: str, /, **values: Value) -> Build:
        """Return the builder of a signed request, whose parameters are all in its query."""
        text_at = self.query_at(**values)

        def build(now: Instant) -> Request:
            _, text, signature = self._sign(text_at, now)
            encoded = signature if signature.isalnum() else quote(signature, safe="")  # an HMAC is hexadecimal
            return Request(method, f"{path}?{text.decode()}&signature={encoded}", self._keyed, origin=self._origin)

        return build

    def keyed(self, method: str, path: str, /, **values: Value) -> Build:
        """Return the builder of a request with the key and without a signature, as for a listen key (§ 2)."""
        return self._unsigned(method, path, values, self._keyed)

    def public(self, path: str, /, **values: Value) -> Build:
        """Return the builder of a GET that shows no key."""
        return self._unsigned("GET", path, values, self._plain)

    def _unsigned(self, method: str, path: str, values: Mapping[str, Value], headers: Mapping[str, str]) -> Build:
        request = Request(method, f"{path}?{query_of(values)}" if values else path, headers)
        return lambda now: request

    def ws_params(self, now: Instant, /, **values: Value) -> dict[str, Value]:
        """Return the signed parameters of a WebSocket request that leaves now."""
        at_ms, _, signature = self._sign(self.payload_at(**values), now)
        return {**self._ws_values(values), "timestamp": at_ms, "signature": signature}

    def timed_params(self, now: Instant, /, **values: Value) -> dict[str, Value]:
        """Return the parameters of a WebSocket request whose session has logged on: they need no signature (§ 2)."""
        return {**values, "recvWindow": RECV_WINDOW_MS, "timestamp": self._clock.venue_ms(now)}

    def query_at(self, **values: Value) -> TextAt:
        """Return the text that `signed` signs with these values."""
        query = query_of({**values, "recvWindow": RECV_WINDOW_MS})
        return lambda at_ms: f"{query}&timestamp={at_ms}".encode()

    def payload_at(self, **values: Value) -> TextAt:
        """Return the text that `ws_params` signs with these values."""
        params = self._ws_values(values)
        return lambda at_ms: ws_payload({**params, "timestamp": at_ms})

    def _ws_values(self, values: Mapping[str, Value]) -> dict[str, Value]:
        return {**values, "apiKey": self.key, "recvWindow": RECV_WINDOW_MS}

    def _sign(self, text_at: TextAt, now: Instant) -> tuple[int, bytes, str]:
        """Return the time, the text and the signature of a text, those that were made ahead if they are fresh.

        A slow signature is kept too: the two cancels of a symbol sign the same text.
        """
        at_ms = self._clock.venue_ms(now)
        if self._ahead:
            held = self._ahead.get(text_at(0))
            if held is not None and 0 <= at_ms - held[0] <= USED_FOR_MS:
                return held[0], text_at(held[0]), held[1]
        text = text_at(at_ms)
        signature = self.signer.sign(text)
        if self.signer.is_slow:
            self._ahead[text_at(0)] = (at_ms, signature)
        return at_ms, text, signature

    # signatures made ahead

    def sign_ahead(self, text_at: TextAt, now: Instant) -> bool:
        """Sign a text unless its signature is fresh; return whether it was signed now."""
        at_ms, name = self._clock.venue_ms(now), text_at(0)
        held = self._ahead.get(name)
        if held is not None and 0 <= at_ms - held[0] <= RENEWED_AFTER_MS:
            return False
        self._ahead[name] = (at_ms, self.signer.sign(text_at(at_ms)))
        return True

    def keep_ahead(self, texts: Iterable[TextAt]) -> None:
        """Forget the signatures of all other texts."""
        names = {text_at(0) for text_at in texts}
        self._ahead = {name: held for name, held in self._ahead.items() if name in names}

    def forget_ahead(self) -> None:
        """Forget all signatures, because the venue has refused the time of one."""
        self._ahead.clear()
