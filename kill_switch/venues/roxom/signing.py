"""Sign Roxom's requests with RSA-2048, PKCS#1 v1.5 and SHA-256, or send the key alone (docs/venues/roxom.md § 3).

The signed text has neither a time nor a nonce, so the adapter signs each request once and keeps it. No key is shown.
"""

from __future__ import annotations

import base64

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kill_switch.venues.decode import header_safe
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.request import Request


class RoxomSigner:
    """Build an account's requests with its key, and with a signature if it has a private key."""

    def __init__(self, key: str, private_key: str | None, host: str) -> None:
        """Make a signer; `private_key` is PEM, or None to send the key alone (§ 3.1).

        Raise ValueError, without the secret, for a key that no header can carry or that cannot sign.
        """
        self._key = header_safe("api_key", key)
        self._private_key = None if private_key is None else _load_key(private_key)
        self._host = host

    def once(self, method: str, target: str) -> Build:
        """Sign and serialise a request without a body; each copy that the builder returns is this request."""
        request = Request(method, target, {"Host": self._host, **self.headers(f"{method}:{target}")})
        _ = request.wire  # so that a kill only writes it
        return lambda now: request

    def headers(self, payload: str) -> dict[str, str]:
        """Return the headers that authenticate `payload`, which is "METHOD:PATH[?QUERY]" (§ 3.3)."""
        headers = {"X-API-Key": self._key, "Content-Type": "application/json"}
        if self._private_key is not None:
            signature = self._private_key.sign(payload.encode(), padding.PKCS1v15(), hashes.SHA256())
            headers["X-API-Signature"] = base64.b64encode(signature).decode()
        return headers


def _load_key(pem: str) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("private_key is not an unencrypted PEM private key") from None  # the cause may show the key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("private_key is not an RSA key")
    if key.key_size < 2048:
        raise ValueError("private_key is shorter than 2048 bits")
    return key
