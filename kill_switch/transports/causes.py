"""Turn an exception, with what caused it, into one sentence for people: why a connection failed.

Nothing that was sent or received is shown: exceptions of libraries may quote headers, keys and bodies. Only texts that
this program or the operating system has written are passed on.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import h11
from websockets.exceptions import InvalidHandshake, InvalidMessage, WebSocketException

from kill_switch.transports.lane import Declined
from kill_switch.venues.decode import brief

MOST_CAUSES = 10
MOST_WORDS = 300
_CLOSED_EARLY = ("peer closed connection", "Server disconnected")  # h11 and httpcore, which have one class for all


def why(error: BaseException) -> str:
    """Return the sentence of the outermost exception that has one, else the names of all, the outermost first."""
    chain = list(_causes(error))
    for one in chain:
        if words := _words(one):
            return brief(words, MOST_WORDS)
    return " from ".join(dict.fromkeys(type(one).__name__ for one in chain))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(seen) < MOST_CAUSES:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
            continue
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _words(error: BaseException) -> str:
    match error:
        case Declined():
            return str(error)
        case ssl.SSLCertVerificationError():
            return f"certificate: {error.verify_message}"
        case ssl.SSLError():
            reason = getattr(error, "reason", None) or ""  # OpenSSL's name for it
            return f"TLS failed: {reason.lower().replace('_', ' ')}" if reason else ""
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return "connection reset by the venue"
        case OSError(strerror=str() as text) if text:
            return text
        case TimeoutError():
            return "timed out"
        case ConnectionRefusedError():
            return "Connection refused"
        case EOFError():
            return "closed by the venue before a whole answer"
        case InvalidMessage():
            return "the answer to the upgrade is not HTTP"
        case InvalidHandshake():
            return "the answer to the upgrade accepts no WebSocket"
        case WebSocketException():
            return f"a WebSocket's rules are broken: {type(error).__name__}"
        case h11.ProtocolError() if str(error).startswith(_CLOSED_EARLY):
            return "closed by the venue before a whole answer"
        case h11.ProtocolError():
            return "the answer is not HTTP"
        case _ if type(error).__module__.startswith("httpcore") and str(error).startswith(_CLOSED_EARLY):
            return "closed by the venue before a whole answer"
        case _:
            return ""
