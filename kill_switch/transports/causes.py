"""Describe why a connection failed: an exception and its causes become one sentence for people.

Lanes and routes use it for `trouble` and for the reason of a lost call. A sentence never shows what was sent or
received, because exceptions of libraries may quote headers, keys and bodies. It contains only texts of this program and
of the operating system.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import h11
from websockets.exceptions import InvalidHandshake, InvalidMessage, WebSocketException

from kill_switch.transports.lane import AddressUnusable, ConnectionNotWanted
from kill_switch.venues.decode import truncate

MAX_CAUSES = 10
MAX_WORDS = 300
# the texts of h11 and httpcore, which raise one class for every violation
_CLOSED_EARLY = ("peer closed connection", "Server disconnected")
_WORDS: dict[type[BaseException], str] = {  # a subclass before its class
    TimeoutError: "timed out",
    ConnectionRefusedError: "Connection refused",
    EOFError: "closed by the venue before a whole answer",
    InvalidMessage: "the answer to the upgrade is not HTTP",
    InvalidHandshake: "the answer to the upgrade accepts no WebSocket",
}


def describe_error(error: BaseException) -> str:
    """Describe a failure in one sentence.

    The sentence is that of the outermost exception that has one. If none has one, the result lists the class names, the
    outermost first.
    """
    chain = list(_causes(error))
    for cause in chain:
        if words := _words(cause):
            return truncate(words, MAX_WORDS)
    return " from ".join(dict.fromkeys(type(cause).__name__ for cause in chain))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(seen) < MAX_CAUSES:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
            continue
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _words(error: BaseException) -> str:
    match error:
        case ConnectionNotWanted() | AddressUnusable():
            return str(error)
        case ssl.SSLCertVerificationError():
            return f"certificate: {error.verify_message}"
        case ssl.SSLError():
            reason = getattr(error, "reason", None) or ""  # OpenSSL's name of the failure
            return f"TLS failed: {reason.lower().replace('_', ' ')}" if reason else ""
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return "connection reset by the venue"
        case OSError(strerror=str() as text) if text:
            return text
        case InvalidMessage() | InvalidHandshake() | TimeoutError() | ConnectionRefusedError() | EOFError():
            return next(words for kind, words in _WORDS.items() if isinstance(error, kind))
        case WebSocketException():
            return f"a violation of the WebSocket protocol: {type(error).__name__}"
        case _:
            return _http_words(error)


def _http_words(error: BaseException) -> str:
    is_h11 = isinstance(error, h11.ProtocolError)
    if (is_h11 or type(error).__module__.startswith("httpcore")) and str(error).startswith(_CLOSED_EARLY):
        return _WORDS[EOFError]
    return "the answer is not HTTP" if is_h11 else ""
