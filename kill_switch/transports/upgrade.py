"""Parse the answer to a WebSocket upgrade, and describe a refusal for people.

The WebSocket lane feeds it until the upgrade is decided. An answer that accepts is passed on unchanged; this module
never parses WebSocket frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

import h11

from kill_switch.venues.decode import truncate

MAX_HEAD_BYTES = 32 << 10
MAX_BODY_BYTES = 4 << 10  # of a refusal's body, part of which is shown
MAX_WORDS = 120
HIDDEN_FROM = 6  # characters of a header that was sent: a shorter part may occur in any sentence
_STATUS = re.compile(rb"\s*HTTP/1\.\d ([1-9]\d\d)\b")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


class UpgradeResponse:
    """Collect the bytes that arrive before the upgrade is decided.

    A refusal is known from its status line on. Its body may come complete, cut, endless or not at all. Its connection
    may end by a close, an EOF or a reset. None of these hides the status.
    """

    def __init__(self) -> None:
        self.raw = b""
        self.status = 0  # 0: not known yet
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False  # no further bytes are needed
        self._garbled = False
        self._reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        asked = [("Host", "-"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
        self._reader.send(h11.Request(method="GET", target="/", headers=asked))
        self._reader.send(h11.EndOfMessage())

    @property
    def refuses(self) -> bool:
        return self.status not in (0, 101)

    @property
    def for_websocket(self) -> bool:
        """Return whether the WebSocket parser must judge the answer: it accepts the upgrade, or is not HTTP."""
        return self.status == 101 or (self._garbled and not self.status)

    def feed(self, data: bytes) -> None:
        """Parse more bytes; empty `data` is the end of the connection."""
        self.raw += data
        try:
            self._reader.receive_data(data)
            self._read()
        except (h11.ProtocolError, ValueError):
            self._garbled = self.is_complete = True
        if not self.status and (self._garbled or not data) and (matched := _STATUS.match(self.raw)):
            self.status = int(matched[1])  # of a head that is cut, or that h11 refuses
        if len(self.raw) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            self.is_complete = self._garbled = True

    def _read(self) -> None:
        while not self.is_complete:
            match self._reader.next_event():
                case h11.Response(status_code=status, headers=headers):
                    self.status = status
                    self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
                case h11.InformationalResponse(status_code=101):
                    self.status, self.is_complete = 101, True
                case h11.InformationalResponse():
                    pass
                case h11.Data(data=data):
                    self.body += data
                    self.is_complete = len(self.body) >= MAX_BODY_BYTES
                case h11.NEED_DATA:
                    return
                case _:
                    self.is_complete = True

    def describe_refusal(self, hidden: Hidden) -> str:
        """Describe the refusal in one sentence, without any part of the `hidden` texts, which this program has sent."""
        try:
            phrase = f" {HTTPStatus(self.status).phrase}"
        except ValueError:
            phrase = ""
        text = "" if "content-encoding" in self.headers else _plain(self.body.decode("utf-8", "replace"))
        shown = truncate(hidden.remove_from(text), MAX_WORDS)
        return f"upgrade refused: HTTP {self.status}{phrase}{f': {shown}' if shown else ''}"


def _plain(text: str) -> str:
    """Return the title of an HTML page, else its text; other text unchanged, with spaces collapsed."""
    if "<" in text:
        title = _TITLE.search(text)
        text = title[1] if title else _MARKUP.sub(" ", text)
    return " ".join(text.split())


class Hidden:
    """Texts that were sent and that no message may show; a venue may echo them, whole or in part."""

    def __init__(self, texts: Iterable[str]) -> None:
        parts = {part for text in texts for part in (text, *text.split()) if len(part) >= HIDDEN_FROM}
        self._parts = sorted(parts, key=len, reverse=True)

    def remove_from(self, text: str) -> str:
        """Return `text` without the texts and without their words."""
        for part in self._parts:
            text = text.replace(part, "[secret]")
        return text
