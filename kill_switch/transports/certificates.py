"""A venue's certificates: why verification refused one, and when the first of a verified chain expires.

The dialer and the lanes use it for `trouble` and for the expiry warning. It never decides whether a certificate is
accepted; OpenSSL does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from kill_switch.venues.decode import truncate

EXPIRED, NOT_YET_VALID = 10, 9  # X509_V_ERR_* of openssl-verification-options(1)
WRONG_HOST = (62, 63, 64)  # host name, e-mail address, IP address
UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
MAX_NAMES = 3  # host names of a certificate in one sentence
MAX_WORDS = 200

Info = Mapping[str, Any]  # a certificate's fields, as `ssl.SSLSocket.getpeercert` returns them


class Handshake(ssl.SSLObject):
    """Make a TLS handshake; attach the peer's chain to the error of a verification that fails, as `chain`.

    Python's `ssl` hides the certificates of a failed handshake. With the chain, the message names the date, the host
    names or the issuer.
    """

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            cast(Any, error).chain = _chain(self, "get_unverified_chain")
            raise


class CertificateExpiry(NamedTuple):
    """The end of a certificate's validity, in seconds since the epoch.

    `issuer` is the subject of the certificate if that is not the venue's own, else empty.
    """

    at_s: float
    issuer: str = ""


def earliest_expiry(transport: asyncio.BaseTransport | None) -> CertificateExpiry | None:
    """Return the earliest end of validity in the chain by which a connection was verified.

    None: there is no connection, or Python does not give its chain.
    """
    if transport is None:
        return None
    chain = _chain(transport.get_extra_info("ssl_object"), "get_verified_chain")
    ends = [
        CertificateExpiry(at_s, common_name(info, "subject") if n else "")
        for n, info in enumerate(chain)
        if (at_s := _ends_s(info))
    ]
    return min(ends, default=None, key=lambda end: end.at_s)


def describe_refusal(error: ssl.SSLCertVerificationError, host: str, authorities: str, now_s: float) -> str:
    """Describe in one sentence why verification refused a certificate.

    `host` is the name that was verified. `authorities` names the certificate authorities for people. `now_s` is the
    wall-clock time, in seconds since the epoch.
    """
    chain: Sequence[Info] = getattr(error, "chain", ())
    own = chain[0] if chain else {}
    clock = f"this host's clock says {format_date(now_s)}"
    match error.verify_code:
        case code if code == EXPIRED:
            words = f"expired ({clock})"
            for number, info in enumerate(chain):
                if 0 < _ends_s(info) <= now_s:
                    whose = f"its issuer's, {common_name(info, 'subject')}, " if number else ""
                    words = f"{whose}expired on {format_date(_ends_s(info))} ({clock})"
                    break
        case code if code == NOT_YET_VALID:
            begins = [at_s for info in chain if (at_s := _seconds(info.get("notBefore"))) > now_s]
            words = f"not valid before {format_date(max(begins))} ({clock})" if begins else f"not valid yet ({clock})"
        case code if code in WRONG_HOST:
            names = [str(value) for _, value in own.get("subjectAltName", ())]
            others = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
            known = f" (it is for {', '.join(names[:MAX_NAMES])}{others})" if names else ""
            words = f"not valid for {host}{known}"
        case code if code in UNKNOWN_ISSUER:
            issuer = common_name(chain[-1], "issuer") if chain else ""
            words = f"unknown issuer{f' {issuer}' if issuer else ''}: not in {authorities}"
        case _:
            words = error.verify_message
    return f"certificate: {truncate(words, MAX_WORDS)}"


def common_name(info: Info, whose: str) -> str:
    """Return the common name, else the organisational unit or the organisation, of a certificate.

    `whose` is `subject` or `issuer`. The result is empty if none is given.
    """
    fields = {key: str(value) for part in info.get(whose, ()) for key, value in part}
    return next(
        (fields[key] for key in ("commonName", "organizationalUnitName", "organizationName") if key in fields), ""
    )


def format_date(at_s: float) -> str:
    """Format a time, in seconds since the epoch, for people: to the minute, in UTC."""
    try:
        return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%MZ}"
    except (OverflowError, ValueError, OSError):
        return "an invalid date"


def _chain(tls: object, which: str) -> list[Info]:
    """Return a chain as `which` names it, the peer's own certificate first; empty if Python does not give one.

    CPython has these methods on its private object from 3.10 on, and in public from 3.13 on.
    """
    with contextlib.suppress(AttributeError, ValueError, ssl.SSLError):
        return [certificate.get_info() for certificate in getattr(cast(Any, tls)._sslobj, which)() or ()]
    return []


def _ends_s(info: Info) -> float:
    return _seconds(info.get("notAfter"))


def _seconds(text: object) -> float:
    """Convert a certificate's time to seconds since the epoch; 0 for an invalid one."""
    try:
        return float(ssl.cert_time_to_seconds(str(text)))
    except ValueError:
        return 0.0
