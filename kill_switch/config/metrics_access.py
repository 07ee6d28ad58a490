"""Check who could read the metrics: beyond this machine only with a token over TLS, or in plain on a private address.

The loader calls `problems` once the table [daemon] is read. The worker process reads the same files again, so they are
only looked at here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from kill_switch.config import secrets
from kill_switch.config.messages import InvalidValue
from kill_switch.config.schema import DaemonConfig
from kill_switch.errors import Problem
from kill_switch.system.host_port import HostPort
from kill_switch.worker.access_files import LEAST_TOKEN, MOST_TOKEN

_PRIVATE = [
    *map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),  # RFC 1918
    ipaddress.ip_network("fc00::/7"),  # RFC 4193
    *map(ipaddress.ip_network, ("169.254.0.0/16", "fe80::/10")),  # link-local
]
_TOKEN, _CERT, _KEY, _PLAIN = "metrics_token_file", "metrics_cert_file", "metrics_key_file", "metrics_plain"
_ADDRESS = "daemon.metrics"
_MAKE_TOKEN = "write one: openssl rand -hex 32"  # noqa: S105


def problems(daemon: DaemonConfig) -> Iterator[Problem]:
    """Yield a problem for each key about the metrics that contradicts the others, and for each unusable file."""
    keys_set = [key for key in (_TOKEN, _CERT, _KEY) if getattr(daemon, key) is not None]
    if daemon.metrics is None:
        for key in (*keys_set, *([_PLAIN] if daemon.metrics_plain else [])):
            yield Problem(f"daemon.{key}", "given, without an address", 'set metrics = "HOST:PORT", or leave it out')
        return
    for key, other in ((_CERT, _KEY), (_KEY, _CERT)):
        if key in keys_set and other not in keys_set:
            yield Problem(f"daemon.{other}", f"missing, although {key} is set", "set both, or leave both out")
    yield from _reach(daemon.metrics, keys_set, is_plain=daemon.metrics_plain)
    yield from _unusable(daemon)


def _reach(listening: HostPort, keys_set: list[str], *, is_plain: bool) -> Iterator[Problem]:
    """Yield why the address may not be listened at with these keys."""
    host = _address(listening.host)
    shown, is_private = f'"{listening.host}"', any(host in network for network in _PRIVATE)
    if is_plain:
        if _CERT in keys_set or _KEY in keys_set:
            yield Problem(f"daemon.{_PLAIN}", f"true, although {_CERT} or {_KEY} is set", "leave one of both out")
        if not (is_private or host.is_loopback):
            kind = "every address of this host" if host.is_unspecified else "not a private address"
            needed = f"{_TOKEN}, {_CERT} and {_KEY}"
            hint = f'expected a private one of this host, such as "10.0.0.5:9464"; any other needs {needed}'
            yield Problem(_ADDRESS, f"{shown}, {kind}, with {_PLAIN} = true", hint)
        return
    missing = [key for key in (_TOKEN, _CERT, _KEY) if key not in keys_set]
    if missing and not host.is_loopback:
        hint = f"set {' and '.join(missing)}, or listen on 127.0.0.1"
        hint += f", or set {_PLAIN} = true" if is_private else ""
        yield Problem(_ADDRESS, f"{shown}, an address that other hosts can reach, without {', '.join(missing)}", hint)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address; of an IPv4 address within IPv6, the former."""
    address = ipaddress.ip_address(host)
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


def _unusable(daemon: DaemonConfig) -> Iterator[Problem]:
    """Yield the faults of the files."""
    if daemon.metrics_token_file is not None:
        try:
            _check_token(daemon.metrics_token_file)
        except InvalidValue as error:
            yield Problem(f"daemon.{_TOKEN}", error.description, error.hint)
    certificate, key = daemon.metrics_cert_file, daemon.metrics_key_file
    if certificate is None or key is None:
        return
    # imported here, because TLS takes 20 ms, and most commands and configurations need none
    import ssl

    from kill_switch.worker.metrics_access import load_certificate

    try:
        _check_key(secrets.resolve({"file": str(key)}, {}))
    except InvalidValue as error:
        yield Problem(f"daemon.{_KEY}", error.description, error.hint)
        return
    try:
        if b"CERTIFICATE-----" not in certificate.read_bytes():
            yield Problem(f"daemon.{_CERT}", "its file has no certificate in PEM", "expected it, with its chain")
            return
        load_certificate(str(certificate), str(key))
    except ssl.SSLError as error:
        why = (error.reason or "one of them cannot be read").lower().replace("_", " ")
        yield Problem(f"daemon.{_CERT}", f"it does not go with {_KEY}: {why}", "expected the key of the certificate")
    except OSError as error:
        yield Problem(f"daemon.{_CERT}", f"its file cannot be read: {error.strerror}", "check the path")


def _check_key(pem: str) -> None:
    """Raise `InvalidValue` if a text has no private key in PEM, or if only a password opens the key."""
    if "PRIVATE KEY-----" not in pem:
        raise InvalidValue("its file has no private key in PEM", "expected the key of the certificate")
    if "ENCRYPTED" in pem:
        raise InvalidValue("its file has a key with a password", "expected one without: openssl pkey -in OLD -out NEW")


def _check_token(path: Path) -> None:
    """Raise `InvalidValue` if a file has no token that can be sent in a header and not be guessed."""
    source = {"file": str(path)}
    token = secrets.resolve(source, {})
    secrets.refuse_unlikely(token, source)
    if not LEAST_TOKEN <= len(token) <= MOST_TOKEN:
        expected = f"expected {LEAST_TOKEN} to {MOST_TOKEN}; {_MAKE_TOKEN}"
        raise InvalidValue(f"its token has {len(token)} characters", expected)
