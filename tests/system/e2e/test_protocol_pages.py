"""Every request on the pages about the protocols is sent to a real daemon, whose answer has what the page shows."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kill_switch.triggers.intake import datagrams
from tests.repository import pages

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

REFERENCE = pages.ROOT / "docs/reference"
BLOCK = re.compile(r"<!-- (\w+)(?:: ([^>]+))? -->\n```(?:json|text)\n(.*?)\n```", re.DOTALL)
TRIGGERS = """
[triggers.quoter-alive]
kind = "heartbeat"
timeout = "60s"
allow_bye = true
[triggers.daily-loss]
kind = "pnl"
source = "intake"
currency = "USD"
max_loss = "5000"
reset = "00:00 UTC"
stale_after = "60s"
confirm = 1
on_blind = "alarm"
"""


class Exchange(NamedTuple):
    request: str
    answers: list[Any]


def exchanges(page: Path) -> Iterator[Exchange]:
    """Yield each request with the answers that follow it."""
    found: list[Exchange] = []
    for kind, _, text in BLOCK.findall(page.read_text("utf-8")):
        if kind == "request":
            found.append(Exchange(text, []))
        elif kind == "answer":
            found[-1].answers.append(json.loads(text))
    yield from found


def differences(shown: Any, answer: Any, path: str = "") -> Iterator[str]:
    """Yield where an answer is not as the page shows it: a key is missing, a type is another, a state differs."""
    if isinstance(shown, dict) and isinstance(answer, dict):
        for key, value in shown.items():
            if key not in answer:
                yield f"{path}{key} is missing"
            else:
                yield from differences(value, answer[key], f"{path}{key}.")
    elif type(shown) is not type(answer):
        yield f"{path} {shown!r} is {answer!r}"
    elif isinstance(shown, list) or path.endswith(("state.", "verdict.", "protocol.", "exit.")):
        if shown != answer:
            yield f"{path} {shown!r} is {answer!r}"
    elif path == "error." and not re.match(re.escape(shown).replace("…", ".*") + "$", answer):
        yield f"{path} {shown!r} is {answer!r}"


@pytest.fixture(scope="module")
def host() -> Iterator[pages.Host]:
    with pages.Host() as made:
        made.write_config(TRIGGERS)
        made.begin()
        yield made


def test_each_request_of_the_page_about_the_control_socket_is_answered_as_the_page_shows(host: pages.Host) -> None:
    found = list(exchanges(REFERENCE / "control-socket.md"))
    assert {json.loads(each.request)["cmd"] for each in found} > {"status", "fire", "rearm", "report", "silence"}
    with socket.socket(socket.AF_UNIX) as sock, contextlib.ExitStack() as stack:
        sock.settimeout(60)
        sock.connect(str(host.runtime_dir / "control.sock"))
        lines = stack.enter_context(sock.makefile("rb"))
        for request, answers in found:
            sock.sendall(request.encode() + b"\n")
            for shown in answers:
                answer = json.loads(lines.readline())
                assert list(differences(shown, answer)) == [], f"{request}\n{answer}"


def test_each_datagram_of_the_page_about_the_intake_is_counted_as_the_page_says(host: pages.Host) -> None:
    blocks = BLOCK.findall((REFERENCE / "intake.md").read_text("utf-8"))
    sent = [(effect, text) for kind, effect, text in blocks if kind == "datagram"]
    assert len(sent) == 7
    before = host.status()["intake"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for effect, text in sent:
            datagram = text.replace("1700000000.123", f"{time.time():.3f}").encode()
            sock.sendto(datagram, str(host.runtime_dir / "intake.sock"))
            if effect in ("bye", "figure"):
                trigger, state = ("quoter-alive", "waiting") if effect == "bye" else ("daily-loss", "ok")
                host.wait_for(lambda status: status["triggers"][trigger]["state"] == state, 10.0)  # noqa: B023
    wanted = Counter(effect for effect, _ in sent if effect not in ("bye", "figure"))
    beats = before["beats"] + wanted.pop("beats")
    after = host.wait_for(lambda status: status["intake"]["ignored"] >= before["ignored"] + wanted.total(), 10.0)
    assert after["intake"]["beats"] == beats
    assert Counter(after["intake"]["why_ignored"]) - Counter(before["why_ignored"]) == wanted


def test_the_signed_datagram_of_the_page_about_the_intake_has_the_signature_of_its_key() -> None:
    blocks = BLOCK.findall((REFERENCE / "intake.md").read_text("utf-8"))
    ((key, text),) = [(key, text) for kind, key, text in blocks if kind == "signed"]
    signed = datagrams.verify(text.encode(), key.encode())
    assert signed is not None and datagrams.parse_messages(signed[1]) == [datagrams.Beat("quoter-alive", "quoter-7")]
