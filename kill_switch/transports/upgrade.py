"""Read the answer to a WebSocket upgrade: one that accepts is handed on, one that refuses is kept for people.

A refusal counts from its status line on. Its body may come whole, cut, endless or not at all, and its connection may
end by a close, an EOF or a reset: none of it hides the status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

import h11

from kill_switch.venues.decode import brief

MOST_HEAD_BYTES = 32 << 10
MOST_BODY_BYTES = 4 << 10  # of a refusal's, to be shown in part
MOST_WORDS = 120
HIDDEN_FROM = 6  # characters of a header that we have sent: a shorter part may be of any sentence
_STATUS = re.compile(rb"\s*HTTP/1\.\d ([1-9]\d\d)\b")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


class UpgradeAnswer:
    """Take the bytes that come before a connection is open."""

    def __init__(self) -> None:
        self.raw = b""
        self.status = 0  # 0: not known yet
        self.headers: dict[str, str] = {}
        self.body = b""
        self.whole = False  # nothing more is worth waiting for
        self._garbled = False
        self._reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        asked = [("Host", "-"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
        self._reader.send(h11.Request(method="GET", target="/", headers=asked))
        self._reader.send(h11.EndOfMessage())

    @property
    def refuses(self) -> bool:
        return self.status not in (0, 101)

    @property
    def for_websocket(self) -> bool:
        """Tell that it accepts, or is none of HTTP: the WebSocket's own parser is to judge it."""
        return self.status == 101 or (self._garbled and not self.status)

    def feed(self, data: bytes) -> None:
        """Take more of it; nothing for the end of the connection."""
        self.raw += data
        try:
            self._reader.receive_data(data)
            self._read()
        except (h11.ProtocolError, ValueError):
            self._garbled = self.whole = True
        if not self.status and (self._garbled or not data) and (found := _STATUS.match(self.raw)):
            self.status = int(found[1])  # of a head that is cut, or that only our own parser understands
        if len(self.raw) > MOST_HEAD_BYTES + MOST_BODY_BYTES:
            self.whole = self._garbled = True

    def _read(self) -> None:
        while not self.whole:
            match self._reader.next_event():
                case h11.Response(status_code=status, headers=headers):
                    self.status = status
                    self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
                case h11.InformationalResponse(status_code=101):
                    self.status, self.whole = 101, True
                case h11.InformationalResponse():
                    pass
                case h11.Data(data=data):
                    self.body += data
                    self.whole = len(self.body) >= MOST_BODY_BYTES
                case h11.NEED_DATA:
                    return
                case _:
                    self.whole = True

    def words(self, hidden: Iterable[str]) -> str:
        """Say what the refusal is, without any part of the `hidden` texts, which we have sent."""
        try:
            phrase = f" {HTTPStatus(self.status).phrase}"
        except ValueError:
            phrase = ""
        text = "" if "content-encoding" in self.headers else _plain(self.body.decode("utf-8", "replace"))
        for secret in _secrets(hidden):
            text = text.replace(secret, "[secret]")
        shown = brief(text, MOST_WORDS)
        return f"upgrade refused: HTTP {self.status}{phrase}{f': {shown}' if shown else ''}"


def _plain(text: str) -> str:
    """Return the title of a page, or its text; what is no page as it is."""
    if "<" in text:
        title = _TITLE.search(text)
        text = title[1] if title else _MARKUP.sub(" ", text)
    return " ".join(text.split())


def _secrets(hidden: Iterable[str]) -> list[str]:
    """Return what is to be taken out: each text and each of its words, the longest first."""
    parts = {part for text in hidden for part in (text, *text.split()) if len(part) >= HIDDEN_FROM}
    return sorted(parts, key=len, reverse=True)
