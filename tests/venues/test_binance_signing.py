"""Binance's signatures: the venue's published vectors, keys that cannot sign, and what a signature covers."""

from __future__ import annotations

import base64
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kill_switch.core.domain import Instant
from kill_switch.venues.binance.signing import (
    NO_KEY,
    SignedRequests,
    Signer,
    query_of,
    signer_of,
    ws_payload,
)
from kill_switch.venues.clock_offset import ClockOffset

from ..harness.keys import elliptic_pem, encrypted_pem, rsa_key, rsa_pem

# binance-spot-api-docs
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
LIMIT = "&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
SEED = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g"  # RFC 8032, test 1, as PKCS#8
LOGON = "9pxRNCc0tn1TJ1r96/xaFIxRJw7qZnCRwV6tMrg8ElOw/FEEozPnpuXELnVxFvM7b9pcJPHTITm8kSMYWGfCBg=="
CANCEL = "CMeT9fSpheBtDHeMi8yQBMmZ+hyZ9XvS/IFyHQXh4G4uqP4q0LG4Kz+nQWVEzapkRykSEu5n4W2+cFl/Fp5nCg=="


def hmac(secret: str) -> Signer:
    return signer_of({"api_secret": secret})


@pytest.mark.parametrize(
    ("secret", "query", "body", "signature"),
    [
        (SECRET, f"symbol=LTCBTC{LIMIT}", "", "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
        (
            SECRET,
            f"symbol=%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96{LIMIT}",
            "",
            "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3",
        ),
        (
            "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9",  # the document prints the space
            "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC",
            "quantity=1&price=9000&recvWindow=5000&timestamp= 1591702613943",
            "f9d0ae5e813ef6ccf15c2b5a434047a0181cb5a342b903b367ca6d27a66e36f2",
        ),
        (
            "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9",
            "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000"
            "&timestamp=1591702613943",
            "",
            "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9",
        ),
        (
            "secretsecret",
            f"{query_of({'symbol': 'BTCUSDT', 'orderIdList': '[1,2]'})}&recvWindow=5000&timestamp=1700000000123",
            "",
            "072a10ac25e0c762bbaec6d409df2b10bf56c8790790fef59139b08cb69cb204",
        ),
    ],
)
def test_a_rest_request_is_signed_as_the_venue_publishes(secret: str, query: str, body: str, signature: str) -> None:
    assert hmac(secret).sign(f"{query}{body}".encode()) == signature


@pytest.mark.parametrize(
    ("params", "signature"),
    [
        (
            {"symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01000000"}
            | {"price": "52000.00", "recvWindow": 100, "timestamp": 1645423376532},
            "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24",
        ),
        ({"timestamp": 1649729878532}, "1cf54395b336b0a9727ef27d5d98987962bc47aca6e13fe978612d0adee066ed"),
        (
            {"symbol": "BTCUSDT", "timestamp": 1660805557200},
            "773f01b6e3c2c9e0c1d217bc043ce383c1ddd6f0e25f8d6070f2b66a6ceaf3a5",
        ),
        (
            {"symbol": "BTCUSDT", "origClientOrderId": "4d96324ff9d44481926157", "timestamp": 1660801715830},
            "33d5b721f278ae17a52f004a82a6f68a70c68e7dd6776ed0be77a455ab855282",
        ),
        (
            {"symbol": "BTCUSDT", "timestamp": 1660813156812},
            "d632b3fdb8a81dd44f82c7c901833309dd714fe508772a89b0a35b0ee0c48b89",
        ),
        ({"timestamp": 1660801839480}, "83303b4a136ac1371795f465808367242685a9e3a42b22edb4d977d0696eb45c"),
        (
            {"symbol": "BTCUSDT", "recvWindow": 5000, "timestamp": 1700000000123, "apiKey": "key"},
            "57d21a077108938b0fda16073fdc9fe3e99cb4adffdf92388eb028f3ed722ec6",
        ),
        (
            {"timestamp": 1700000000123, "apiKey": "key"},
            "f962a0ba821df03a07499f163b1d6c0adb9bd29e687901c7bd34ef06aa2fcd0d",
        ),
    ],
)
def test_a_websocket_request_is_signed_as_the_venue_publishes(params: dict[str, str | int], signature: str) -> None:
    secret = "secretsecret" if "apiKey" in params else SECRET
    assert hmac(secret).sign(ws_payload({"apiKey": KEY} | params)) == signature


@pytest.mark.parametrize("form", [SEED, f" {SEED[:20]}\n{SEED[20:]} \n", None])
def test_an_ed25519_key_in_base64_or_pem_signs_as_rfc_8032(form: str | None) -> None:
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(SEED)[-32:])
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    signer = signer_of({"private_key": pem if form is None else form})
    assert signer.sign(b"apiKey=key&timestamp=1700000000123") == LOGON
    assert signer.sign(b"symbol=BTCUSDT&recvWindow=5000&timestamp=1700000000123") == CANCEL
    request = SignedRequests("h", "the-key", signer, ClockOffset()).signed("DELETE", "/", symbol="BTCUSDT")(
        Instant(0, 0)
    )
    query, _, signature = urlsplit(request.target).query.rpartition("&signature=")
    assert unquote(signature) == signer.sign(query.encode()) and not set("+/=") & set(signature)
    assert signer.logs_on and not signer.is_slow


@pytest.mark.parametrize("is_pem", [True, False])
def test_an_rsa_key_in_pem_or_base64_signs_with_pkcs1_and_sha256(is_pem: bool) -> None:
    der = rsa_key(2048).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    signer = signer_of({"private_key": rsa_pem(2048) if is_pem else base64.b64encode(der).decode()})
    signature = base64.b64decode(signer.sign(b"apiKey=key&timestamp=1"))
    public = rsa_key(2048).public_key()
    public.verify(signature, b"apiKey=key&timestamp=1", padding.PKCS1v15(), hashes.SHA256())
    assert signer.is_slow and not signer.logs_on


def test_a_request_is_sent_as_it_was_signed_with_its_time_and_its_key_in_the_header() -> None:
    requests = SignedRequests("api.binance.com", "the-key", hmac("secretsecret"), ClockOffset())
    request = requests.signed("DELETE", "/api/v3/openOrders", symbol="Ｂ&T", flag=True)(
        Instant(0, 1_700_000_000_123_000_000)
    )
    query, _, signature = urlsplit(request.target).query.rpartition("&signature=")
    assert query == "symbol=%EF%BC%A2%26T&flag=true&recvWindow=30000&timestamp=1700000000123"
    assert signature == hmac("secretsecret").sign(query.encode())
    assert request.headers["X-MBX-APIKEY"] == "the-key" and request.method == "DELETE"
    assert dict(parse_qsl(query))["symbol"] == "Ｂ&T"


@pytest.mark.parametrize(("kind", "signatures"), [("rsa", 1), ("hmac", 2)])
def test_the_two_cancels_of_a_symbol_share_a_slow_signature(kind: Literal["rsa", "hmac"], signatures: int) -> None:
    signed: list[bytes] = []

    def sign(text: bytes) -> str:
        signed.append(text)
        return f"{len(signed)}"

    requests = SignedRequests("h", "the-key", Signer(kind, sign), ClockOffset())
    for at_s, path in ((1, "allOpenOrders"), (2, "algoOpenOrders")):
        requests.signed("DELETE", f"/fapi/v1/{path}", symbol="BTCUSDT")(Instant(0, at_s * 1_000_000_000))
    assert len(signed) == signatures


def test_a_request_without_a_signature_has_the_key_or_shows_none() -> None:
    requests = SignedRequests("h", "the-key", hmac("secretsecret"), ClockOffset())
    keyed, public = requests.keyed("POST", "/fapi/v1/listenKey"), requests.public("/api/v3/ticker/price", symbol="A")
    assert keyed(Instant(0, 0)).headers["X-MBX-APIKEY"] == "the-key"
    shown = public(Instant(0, 0))
    assert "the-key" not in str(shown.headers) and shown.target == "/api/v3/ticker/price?symbol=A"


@pytest.mark.parametrize(
    ("private_key", "why"),
    [
        ("", NO_KEY),
        ("not base64!", NO_KEY),
        ("c2VjcmV0c2VjcmV0", NO_KEY),
        ("ключ", NO_KEY),
        ("-----BEGIN PRIVATE KEY-----\nsecretsecret\n-----END PRIVATE KEY-----", NO_KEY),
        (SEED[:-8], NO_KEY),
        (rsa_key(2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), NO_KEY),
        (encrypted_pem(), NO_KEY),
        (elliptic_pem(), "private_key is neither an Ed25519 nor an RSA key"),
        (rsa_pem(1024), "private_key is shorter than 2048 bits"),
    ],
)
def test_a_private_key_that_cannot_sign_is_refused_in_a_sentence_without_its_text(private_key: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"^private_key ") as caught:
        signer_of({"private_key": private_key})
    assert str(caught.value) == why and caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_an_account_has_exactly_one_secret_that_signs() -> None:
    for secrets, key in (({}, "api_secret"), ({"api_secret": " "}, "api_secret")):
        with pytest.raises(ValueError, match=f"^{key} missing"):
            signer_of(secrets)
    for pem in (rsa_pem(2048), "-----BEGIN PRIVATE KEY-----"):
        with pytest.raises(ValueError, match=r"^api_secret is a private key: name it private_key$"):
            signer_of({"api_secret": pem})
    with pytest.raises(ValueError, match=r"^private_key given beside api_secret"):
        signer_of({"api_secret": "secretsecret", "private_key": SEED})
