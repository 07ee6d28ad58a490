"""A connection of the metrics server: reads the head of a request, writes the answer, and closes.

It waits for its socket in the event loop itself. A task and a transport of asyncio would take twice the processor's
time, which a kill needs too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from kill_switch.worker.metrics_http import HEAD_END

HEAD_S = 2.0  # seconds from the connection to the end of the request's head, with TLS's handshake
SEND_S = 5.0  # seconds for the answer to come, and again for a client to read it
HEAD_BYTES = 1 << 14
DRAINS = 64  # reads of `HEAD_BYTES` at most of what nobody wants


class Connection:
    """A client of the metrics server; `answer` gets the connection and the head of its request.

    It calls `send` at once, later or never: the connection is closed in bounded time. `on_close` is called once. A
    client may do whatever it likes, and may close at any time.
    """

    def __init__(
        self,
        client: socket.socket,
        answer: Callable[[Connection, bytes], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = client
        self._tls = client if isinstance(client, ssl.SSLSocket) else None
        self._answer, self._on_close = answer, on_close
        self._head = bytearray()
        self._unsent = memoryview(b"")
        self._work = self._shake_hands if self._tls else self._receive
        self._timer = self._loop.call_later(HEAD_S, self.close)
        self._waits_to_write: bool | None = None  # None: it does not wait for its socket
        self._is_open = True

    def begin(self) -> None:
        """Begin to read; the answer may be sent, and the connection closed, before this returns."""
        self._go_on()

    def send(self, answer: bytes) -> None:
        """Send the answer, and close."""
        if not self._is_open:
            return
        self._unsent = memoryview(answer)
        self._work = self._transmit
        self._close_after(SEND_S)
        self._go_on()

    def close(self) -> None:
        """Close the connection, whatever it is at; a second call does nothing."""
        if not self._is_open:
            return
        self._is_open = False
        self._timer.cancel()
        self._stop_waiting()
        self._drain()
        self._socket.close()
        self._on_close(self)

    def _go_on(self) -> None:
        """Work until the client is awaited, or has nothing more to get."""
        try:
            self._work()
        except ssl.SSLWantReadError:
            self._wait(to_write=False)
        except ssl.SSLWantWriteError:
            self._wait(to_write=True)
        except BlockingIOError:
            self._wait(to_write=bool(self._unsent))
        except OSError:
            self.close()

    def _close_after(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.close)

    def _wait(self, *, to_write: bool) -> None:
        self._stop_waiting()
        self._waits_to_write = to_write
        (self._loop.add_writer if to_write else self._loop.add_reader)(self._socket, self._go_on)

    def _stop_waiting(self) -> None:
        if self._waits_to_write is not None:
            (self._loop.remove_writer if self._waits_to_write else self._loop.remove_reader)(self._socket)
            self._waits_to_write = None

    # ── what it is at ─────────────────────────────────────────────────────────────────────────────────────────────

    def _shake_hands(self) -> None:
        if self._tls:
            self._tls.do_handshake()
        self._work = self._receive
        self._receive()

    def _receive(self) -> None:
        while (end := self._head.find(HEAD_END)) < 0:
            if len(self._head) > HEAD_BYTES:
                self.close()
                return
            if not (received := self._socket.recv(HEAD_BYTES)):
                self.close()
                return
            self._head += received
        head = bytes(self._head[:end])
        self._head.clear()
        self._close_after(SEND_S)
        self._stop_waiting()
        self._answer(self, head)

    def _transmit(self) -> None:
        while self._unsent:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if self._tls:
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()  # says that the answer is whole, and does not wait for the client's word
        self.close()

    def _drain(self) -> None:
        """Read what the client has sent behind its request: else the kernel resets the connection, answer and all."""
        with contextlib.suppress(OSError):  # there is no more yet
            for _ in range(DRAINS):
                if not socket.socket.recv(self._socket, HEAD_BYTES):
                    return
