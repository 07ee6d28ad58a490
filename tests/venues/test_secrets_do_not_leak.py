"""No adapter shows a secret or a signature anywhere but in the bytes for the wire: one test for all venues."""

from __future__ import annotations

import base64
import logging
import re
import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from kill_switch.core.domain import Route
from kill_switch.venues import VENUES
from kill_switch.venues.messages import Call, CallLost, NotReady, Opened, Received, Send, VenueTimerFired
from tests.harness.keys import rsa_pem
from tests.harness.venue_playbook import START, Kill, Pause, Player, Probe, Read, answer, hears
from tests.harness.venue_profiles import STANDS, VenueProfile

every_venue = pytest.mark.parametrize("stand", STANDS.values(), ids=list(STANDS))


def parts(secret: str) -> Iterator[str]:
    """Yield what must not be seen: the secret, and pieces of it that no other text holds."""
    lines = [line for line in secret.splitlines() if not line.startswith("-----")]
    for line in lines:
        yield line
        yield line[: max(12, len(line) // 2)]


def hidden(stand: VenueProfile, secrets: dict[str, str], calls: list[Call], player: Player) -> set[str]:
    """Collect the secrets, and every signature that was made."""
    shown = {part for secret in secrets.values() for part in parts(secret)}
    headers = [call.request.headers for call in calls] + [player.adapter.upgrade(START).headers]
    signatures = [value for header in headers for name, value in header.items() if stand.signature in name]
    shown |= {value.rpartition("sig=")[2] for value in signatures}
    shown |= {signature for call in calls if (signature := in_query(call))}
    for output in player.outputs:
        if isinstance(output, Send) and b"signature" in output.text:
            frame = orjson.loads(output.text)
            shown.add((frame.get("data") or frame["params"])["signature"])
        if isinstance(output, Send) and (found := re.search(rb'"(?:access_|refresh_)?token":"([^"]+)"', output.text)):
            shown.add(found[1].decode())
    assert all(len(part) >= 10 for part in shown)
    return shown


def in_query(call: Call) -> str:
    """Return the signature in the query of a request, as it is sent; "" if it is elsewhere."""
    return call.request.target.partition("&signature=")[2]


def play_everything(stand: VenueProfile, player: Player, echo: list[str]) -> list[str]:
    """Log in, fail, kill, read and be refused, with a venue that echoes what it was sent; return all that is shown."""
    told: list[str] = []

    def put(event: object) -> list[Call]:
        outputs = player.put(event)
        for output in outputs:
            told.append(repr(output._replace(text=b"") if isinstance(output, Send) else output))
            if isinstance(output, Call):
                told.extend((output.tag, repr(output.request), str(output.request)))
        told.extend((repr(player.adapter), str(player.adapter), repr(player.adapter.book.orders)))
        return [output for output in outputs if isinstance(output, Call)]

    for conn in (1, 2):
        for call in put(Opened(Route.WS, conn)):
            if stand.granted is not None:
                put(answer(call.tag, stand.granted(call)))
        for message in stand.login:
            put(hears(conn, message))
    for word in echo:
        put(hears(2, stand.refused_login))
        for said in (
            stand.refused_login,
            {"event": "error", "code": "1"},
            {"success": False},
            {"event": "cancelorder"},
        ):
            assert isinstance(said, dict)
            put(hears(1, {**said, "message": f"no: {word}", "msg": f"no: {word}"}))
            put(hears(1, {**said, "message": {"deep": [word]}, "msg": [word]}))
        put(Received(1, word))
        for step in (Kill(), Read(), Probe()):
            for status, body in (*stand.refused, *stand.unknown, stand.key_refused):
                put(Pause(130.0))  # the longest pause after a refusal
                for call in put(step):
                    if not isinstance(body, dict):
                        continue
                    text = "x" * (150 - len(word) // 2) + word  # such that it is cut in its middle
                    said = {**body, "message": text, "error": body.get("error", text)}
                    put(answer(call.tag, said if stand.worded is None else stand.worded(text), status))
            put(Pause(130.0))
            for call in put(step):
                for again in [*put(CallLost(call.tag, True, "gone")), *put(VenueTimerFired(call.tag))]:
                    put(answer(again.tag, word.encode(), 500))
    return told


@every_venue
def test_no_output_or_log_line_of_an_adapter_has_a_secret(
    stand: VenueProfile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = stand.secrets()
    player = Player(stand.make(secrets, **stand.strong))
    echo = [secret for secret in secrets.values() if "\n" not in secret]
    told = play_everything(stand, player, [*echo, *([] if stand.token is None else [stand.token])])
    forbidden = hidden(stand, secrets, player.calls, player)
    assert len(player.calls) > 10 and any(isinstance(output, NotReady) for output in player.outputs)
    for text in (*told, caplog.text):
        for part in forbidden:
            assert part not in text


@every_venue
def test_a_secret_that_cannot_be_used_is_not_shown(stand: VenueProfile) -> None:
    for name, right in stand.secrets().items():
        for wrong in (f"\n{right}\n", "ключ" + right, right + "\udcff", right[: len(right) // 2] + "\x00", ""):
            try:
                player = Player(stand.make({**stand.secrets(), name: wrong}, **stand.strong))
                play_everything(stand, player, [])
            except ValueError as error:
                said = "".join(traceback.format_exception(error)) + repr(error)
                for part in parts(wrong):
                    assert not part or part not in said
                assert str(error).startswith(name)


@every_venue
def test_the_request_on_the_wire_has_the_key_and_the_signature(stand: VenueProfile) -> None:
    """The other side of the coin: the tests above look for what is really sent."""
    player = Player(stand.make(**stand.strong))
    player.put(Kill())
    call = player.calls[-1]
    key = stand.secrets()[stand.header]
    assert key.encode() in call.request.wire
    if not stand.signed:
        return
    in_headers = [value for name, value in call.request.headers.items() if stand.signature in name]
    [signature] = in_headers or [in_query(call)]
    *_, made = signature.split("sig=")  # one venue has it behind the key's id
    assert base64.b64decode(unquote(made), validate=True) and signature.encode() in call.request.wire


def test_every_registered_venue_is_looked_at() -> None:
    assert set(STANDS) == set(VENUES)
    everything: dict[str, Any] = {name: stand.secrets() for name, stand in STANDS.items()}
    assert all(secret for secrets in everything.values() for secret in secrets.values())
    assert rsa_pem(2048) in everything["roxom"].values()
