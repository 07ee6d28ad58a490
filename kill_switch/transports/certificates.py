"""Read a venue's certificates: why verification refused one, and when the first of a verified chain expires.

Python's `ssl` shows no certificate of a handshake that failed. `Handshake` attaches the chain to the error, so that a
person is told the date, the names or the issuer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from kill_switch.venues.decode import brief

EXPIRED, NOT_YET_VALID = 10, 9  # X509_V_ERR_* of openssl-verification-options(1)
WRONG_HOST = (62, 63, 64)  # of a name, an e-mail address, an IP address
UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
MOST_NAMES = 3  # of a certificate, in one line
MOST_WORDS = 200

Info = Mapping[str, Any]  # as `ssl.SSLSocket.getpeercert` returns it


class Handshake(ssl.SSLObject):
    """Make TLS handshakes; a failed verification has the chain that the peer has shown in `chain`."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            cast(Any, error).chain = _chain(self, "get_unverified_chain")
            raise


class Expiry(NamedTuple):
    """When a certificate ends, in seconds since the epoch; `issuer` names it if it is not the venue's own."""

    at_s: float
    issuer: str = ""


def expiry(transport: asyncio.BaseTransport | None) -> Expiry | None:
    """Return what ends first of the chain that a connection was verified by; None if it cannot be known."""
    if transport is None:
        return None
    chain = _chain(transport.get_extra_info("ssl_object"), "get_verified_chain")
    ends = [Expiry(at_s, name(info, "subject") if n else "") for n, info in enumerate(chain) if (at_s := _ends_s(info))]
    return min(ends, default=None, key=lambda end: end.at_s)


def refused(error: ssl.SSLCertVerificationError, host: str, authorities: str, now_s: float) -> str:
    """Say in one sentence why a certificate was refused; `authorities` names what it was verified by."""
    chain: Sequence[Info] = getattr(error, "chain", ())
    own = chain[0] if chain else {}
    clock = f"this host's clock says {date(now_s)}"
    match error.verify_code:
        case code if code == EXPIRED:
            words = f"expired ({clock})"
            for number, info in enumerate(chain):
                if 0 < _ends_s(info) <= now_s:
                    whose = f"its issuer's, {name(info, 'subject')}, " if number else ""
                    words = f"{whose}expired on {date(_ends_s(info))} ({clock})"
                    break
        case code if code == NOT_YET_VALID:
            begins = [at_s for info in chain if (at_s := _seconds(info.get("notBefore"))) > now_s]
            words = f"not valid before {date(max(begins))} ({clock})" if begins else f"not valid yet ({clock})"
        case code if code in WRONG_HOST:
            names = [str(value) for _, value in own.get("subjectAltName", ())]
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            known = f" (it is for {', '.join(names[:MOST_NAMES])}{more})" if names else ""
            words = f"not valid for {host}{known}"
        case code if code in UNKNOWN_ISSUER:
            issuer = name(chain[-1], "issuer") if chain else ""
            words = f"unknown issuer{f' {issuer}' if issuer else ''}: not in {authorities}"
        case _:
            words = error.verify_message
    return f"certificate: {brief(words, MOST_WORDS)}"


def name(info: Info, whose: str) -> str:
    """Return the common name, or the organisation's, of a certificate's `subject` or `issuer`."""
    fields = {key: str(value) for part in info.get(whose, ()) for key, value in part}
    return next(
        (fields[key] for key in ("commonName", "organizationalUnitName", "organizationName") if key in fields), ""
    )


def date(at_s: float) -> str:
    """Write a moment since the epoch for people, in UTC."""
    try:
        return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%MZ}"
    except (OverflowError, ValueError, OSError):
        return "a date that cannot be"


def _chain(tls: object, which: str) -> list[Info]:
    """Return a chain, the peer's own certificate first: CPython has it from 3.10 on, and in the open from 3.13 on."""
    with contextlib.suppress(AttributeError, ValueError, ssl.SSLError):
        return [certificate.get_info() for certificate in getattr(cast(Any, tls)._sslobj, which)() or ()]
    return []


def _ends_s(info: Info) -> float:
    return _seconds(info.get("notAfter"))


def _seconds(text: object) -> float:
    """Return a certificate's time in seconds since the epoch; 0 for what is none."""
    try:
        return float(ssl.cert_time_to_seconds(str(text)))
    except ValueError:
        return 0.0
