"""Make throw-away RSA keys, once a test run."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def rsa_pem(bits: int) -> str:
    return rsa_key(bits).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@cache
def encrypted_pem() -> str:
    hidden = BestAvailableEncryption(b"a-passphrase")
    return rsa_key(2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden).decode()


@cache
def elliptic_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
