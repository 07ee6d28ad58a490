"""The name service hangs for two accounts' hosts; the one beside them connects, loses its lanes and kills in time.

The daemon is a real process, and it is the C library that waits: `resolv.conf` names a server that takes every
question and answers none. All accounts' hosts have names; `/etc/hosts` has only the healthy one's.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any, Self

import pytest

from kill_switch.testbed.testbed import START_WITHIN_S
from tests.system.e2e.mounted import Mounted

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

HEALTHY, SICK = "oxfun", ("kuna", "roxom")
GONE_WITHIN_S = 3.0  # on a busy machine; alone it is some 100 ms. Behind the others' look-ups it was 30 to 60 s
PATIENCE = "options timeout:30 attempts:5"  # the most that the C library takes: one look-up hangs for 150 s


class Named(Mounted):
    """A daemon whose accounts' hosts have names; nobody is at the name server's address before `silent`.

    Until then the sick accounts' names fail at once, and from then on they hang.
    """

    def __init__(self) -> None:
        super().__init__([*SICK, HEALTHY])
        self._address = f"127.53.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"
        self._server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server.setblocking(False)
        self._questions: list[bytes] = []
        texts = {
            "resolv.conf": f"nameserver {self._address}\n{PATIENCE}\n",
            "nsswitch.conf": "hosts: files dns\n",
            "hosts": "127.0.0.1 localhost\n",
        }
        for name, text in texts.items():
            path = self.directory / name
            path.write_text(text)
            self.files[f"/etc/{name}"] = path

    def __enter__(self) -> Self:
        super().__enter__()
        for venue, urls in self.venues.items():
            for url in ("ws_url", "rest_url"):
                host = "localhost" if venue == HEALTHY else f"{url[:-4]}.{venue}.test"
                urls[url] = urls[url].replace("127.0.0.1", host)
        self.write_config(daemon='ready = "degraded"')
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)
        self._server.close()

    def silent(self) -> None:
        """Take all questions from now on, and answer none."""
        self._server.bind((self._address, 53))

    def questions(self) -> list[bytes]:
        """Return all that has come since: two of each look-up, for its IPv4 and its IPv6 addresses."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._questions.append(self._server.recv(512))
        return self._questions

    def unanswered(self) -> set[str]:
        """Return the hosts of which the status says that the name service does not answer."""
        words = "the name service has not answered for "
        return {line.split()[-1] for line in self.status()["trouble"] if line.startswith(words)}

    def until_ready(self) -> None:
        self.wait_for(lambda status: status["accounts"][HEALTHY]["ready"], START_WITHIN_S)

    def until_hanging(self) -> None:
        """Wait until two look-ups hang, which is as many as libuv makes at a time."""
        self.until(lambda: len(self.questions()) >= 4)


@pytest.fixture
def named() -> Iterator[Named]:
    with Named() as made:
        yield made


def test_an_account_is_ready_though_the_name_service_hangs_for_the_others_hosts(named: Named) -> None:
    named.silent()
    named.start_daemon(wait=False)
    named.until_ready()
    named.until(lambda: named.unanswered() == {f"{lane}.{venue}.test" for lane in ("ws", "rest") for venue in SICK})
    ready = {name: account["ready"] for name, account in named.status()["accounts"].items()}
    assert ready == {HEALTHY: True, **dict.fromkeys(SICK, False)}
    assert not any(b"localhost" in question for question in named.questions())


def test_a_kill_leaves_though_lanes_were_lost_while_the_name_service_hangs_for_the_others(named: Named) -> None:
    named.start_daemon(wait=False)
    named.until_ready()
    named.silent()
    named.until_hanging()
    named.rest(HEALTHY, 3)
    named.admin("DELETE", "/requests")
    named.admin("POST", "/faults", venue=HEALTHY, fault="disconnect")
    began_ns = time.monotonic_ns()
    named.flag.touch()
    named.until(lambda: named.book(HEALTHY) == 0, GONE_WITHIN_S)
    cancels = [one["t_ns"] for one in named.admin("GET", "/requests") if one["what"].startswith("cancel")]
    assert 0 < min(cancels) - began_ns < GONE_WITHIN_S * 1e9
    named.wait_for(lambda status: status["accounts"][HEALTHY]["state"] == "CLEAR", 10.0)
    named.stop_daemon(signal.SIGKILL)  # SIGTERM would wait for the sick accounts' kill
