"""State the forms of secrets that ccxt signs with only in that form. `profile.SecretForm` defines a form."""

from __future__ import annotations

import base64

from kill_switch.venues.ccxt.profile import SecretForm

ED25519_SIZES = (32, 64)  # bytes: a seed, or a seed with its public key behind it


def _decoded(secret: str) -> bytes:
    """Return the bytes of a secret in base64; none, if it is not base64."""
    try:
        return base64.b64decode(secret, validate=True)
    except ValueError:
        return b""


BASE64 = SecretForm("base64", lambda secret: bool(_decoded(secret)))
# ccxt 4.5.90 takes the first 32 bytes of any base64, and would sign with a key that is not the account's
ED25519_SEED = SecretForm("an Ed25519 seed: 32 bytes in base64", lambda secret: len(_decoded(secret)) in ED25519_SIZES)
# ccxt 4.5.90 signs with no other: a request with a master key must name the account
ACCOUNT_KEY = SecretForm("a key of one account (account-…)", lambda key: "account" in key)
