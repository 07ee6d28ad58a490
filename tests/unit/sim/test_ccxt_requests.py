"""Compare the product's requests with ccxt's: same call, same parameters, same moment, same nonce.

A part that differs is named in `DIFFERENCES`, with the reason. `python -m tests.unit.sim.test_ccxt_requests` prints
each request.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from operator import methodcaller
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import pytest

from kill_switch.core.domain import Route
from kill_switch.venues.messages import Call, Closed, Send
from kill_switch.venues.request import Request
from tests.harness.venue_playbook import Drill, Kill, Measure, Pause, Probe, Read, answer, hears
from tests.harness.venue_profiles import STANDS

ccxt = pytest.importorskip("ccxt.async_support")
pro = pytest.importorskip("ccxt.pro")

CLIENTS = {
    "kraken": "kraken", "kraken-futures": "krakenfutures", "binance-spot": "binance", "binance-usdm": "binanceusdm",
    "binance-coinm": "binancecoinm", "deribit": "deribit",
}  # fmt: skip
OWN_HEADERS = {"host", "user-agent", "content-length"}  # the transport's: ccxt's library adds its own
_SIGNED_AS_SENT = "ccxt puts the time stamp first; Binance signs the parameters in the order in which they are sent"
DIFFERENCES: Mapping[tuple[str, str], str] = {
    ("binance", "order"): _SIGNED_AS_SENT,
    ("binance", "headers"): "ccxt sends a content type with a listenKey call, which has no body",
    ("kraken-futures", "place"): "ccxt writes a POST's arguments into the address; kraken.md §2.3: both are right",
    ("kraken-futures", "headers"): "ccxt sends Accept, and a content type with requests that have no body",
    ("kraken-futures", "coding"): "ccxt sends a batch's JSON without percent-encoding; kraken.md §2.3: signed as sent",
    ("deribit", "headers"): "ccxt writes the signature before the nonce; the words have names",
}


class Compared(NamedTuple):
    """One request of ours and the parts in which ccxt's differs; None: ccxt has no such call."""

    venue: str
    name: str
    parts: tuple[str, ...] | None


def requests_of(venue: str) -> list[Request]:
    """Return each request that an account makes in its life: start, reads, drill, kills over either route."""
    profile = STANDS[venue]
    seen: dict[tuple[str, str], Request] = {}
    for has_socket in (True, False):
        player = profile.ready()
        if not has_socket:
            player.put(Closed(Route.WS, 1, "gone"))
        player.put(Read())
        for call in player.calls:
            if profile.is_read(call.request) and call.tag in player.adapter.calls.pending:
                player.put(profile.reads(call, *profile.ids, status=profile.live[0]))
        for step in (Measure(), Drill(), Probe(), Kill(), Kill(), Pause(400), Probe(), Read(), Kill()):
            player.put(step)
        for call in player.calls:
            request = call.request
            seen.setdefault((request.method, request.target.partition("?")[0]), request)
    return list(seen.values())


def client(venue: str, kind: Any = ccxt) -> Any:
    secrets = list(STANDS[venue].secrets().values())
    exchange = getattr(kind, CLIENTS[venue])({"apiKey": secrets[0], "secret": secrets[1]})
    exchange.options["recvWindow"] = None
    return exchange


def calls_of(exchange: Any) -> Iterator[tuple[str, str, str]]:
    """Yield API, verb and path of every call that ccxt knows."""
    for api, verbs in exchange.api.items():
        for verb, paths in verbs.items() if isinstance(verbs, dict) else ():
            yield from ((api, verb.upper(), path) for path in paths)


def address(venue: str, exchange: Any, api: str, path: str) -> str:
    urls = exchange.urls["api"]
    if venue == "kraken":
        return f"{urls[api]}/0/{api}/{path}" if api in urls else ""
    if venue == "kraken-futures":
        return f"{urls['private']}v3/{path}" if api == "private" else ""
    if venue == "deribit":
        return f"{urls['rest']}/api/v2/{api}/{path}"
    return f"{urls[api]}/{path}" if isinstance(urls.get(api), str) else ""


def compare(venue: str, exchange: Any, request: Request) -> Compared:
    """Have ccxt build the same request, and compare the parts."""
    path, _, query = request.target.partition("?")
    where = f"https://{request.headers['Host']}{path}"
    found = [call for call in calls_of(exchange) if call[1] == request.method]
    found = [call for call in found if address(venue, exchange, call[0], call[2]) == where]
    name = f"{request.method} {path}"
    if not found:
        return Compared(venue, name, None)
    api, verb, its_path = found[0]
    ours = parse_qsl(query, keep_blank_values=True) + parse_qsl(request.body.decode(), keep_blank_values=True)
    freeze(exchange, dict(ours), request)
    kept = [(key, value) for key, value in ours if key not in ("nonce", "timestamp", "signature")]
    [params] = [json.loads(value) for key, value in kept if key == "json"] or [{k: typed(v) for k, v in kept}]
    theirs = exchange.sign(its_path, [api], verb, params)
    url, _, its_query = theirs["url"].partition("?")
    its_body = theirs["body"] or ""
    same_text = (query, request.body.decode()) == (its_query, its_body)
    its_pairs = parse_qsl(its_query, keep_blank_values=True) + parse_qsl(its_body, keep_blank_values=True)
    parts = []
    if (theirs["method"], url) != (request.method, where):
        parts.append("address")
    if unsigned(ours) != unsigned(its_pairs):
        parts.append("parameters")
    elif not same_text:
        is_coded = bool(its_body) and unquote(request.body.decode()) == its_body
        parts.append("place" if bool(query) != bool(its_query) else "coding" if is_coded else "order")
    if headers(request.headers) != headers(theirs["headers"] or {}):
        parts.append("headers")
    if not same_signature(venue, exchange, request, dict(ours), theirs):
        parts.append("signature")
    return Compared(venue, name, tuple(parts))


def freeze(exchange: Any, ours: Mapping[str, str], request: Request) -> None:
    """Let ccxt have the moment and the nonce of our request."""
    words = authorization(request.headers)
    nonce = int(ours.get("nonce") or ours.get("timestamp") or 0) if not words else words["nonce"]
    exchange.nonce = lambda: nonce
    exchange.incrementing_nonce = lambda: nonce
    exchange.milliseconds = lambda: int(words.get("ts", 0))


def typed(value: str) -> object:
    return {"true": True, "false": False}.get(value, value)


def unsigned(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((key, value) for key, value in pairs if key != "signature")


def authorization(values: Mapping[str, str]) -> dict[str, str]:
    """Return the words of a header Authorization; none without one."""
    _, _, words = values.get("Authorization", "").partition(" ")
    return dict(word.split("=", 1) for word in words.split(",") if word)


def headers(values: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are not the transport's; a signature is compared apart."""
    kept = {name.lower(): value for name, value in values.items() if name.lower() not in OWN_HEADERS}
    return {name: "" if name in ("api-sign", "authent") else value for name, value in kept.items()}


def same_signature(
    venue: str, exchange: Any, request: Request, ours: Mapping[str, str], theirs: Mapping[str, Any]
) -> bool:
    """Return whether both signatures are equal; where the order differs, whether ccxt signs our text as we do."""
    its_headers = theirs["headers"] or {}
    if venue.startswith("binance"):
        if "signature" not in ours:
            return "signature" not in theirs["url"]
        text = request.target.partition("?")[2].rpartition("&signature=")[0]
        signed = exchange.hmac(exchange.encode(text), exchange.encode(exchange.secret), hashlib.sha256)
        return bool(signed == unquote(ours["signature"]))
    if venue == "deribit":
        return authorization(request.headers) == authorization(its_headers)
    if venue == "kraken":
        return bool(request.headers["API-Sign"] == its_headers["API-Sign"])
    path, _, query = request.target.removeprefix("/derivatives").partition("?")
    text = exchange.hash(exchange.encode(query + request.body.decode() + path), "sha256", "binary")
    secret = exchange.base64_to_binary(exchange.secret)
    return bool(request.headers["Authent"] == exchange.hmac(text, secret, hashlib.sha512, "base64"))


def family(venue: str) -> str:
    return "binance" if venue.startswith("binance") else venue


@pytest.fixture(scope="module")
def compared() -> list[Compared]:
    return [compare(venue, client(venue), request) for venue in CLIENTS for request in requests_of(venue)]


def test_each_request_that_ccxt_makes_too_is_equal_or_its_difference_has_a_reason(compared: list[Compared]) -> None:
    both = [each for each in compared if each.parts is not None]
    unexplained = [
        f"{each.venue}: {each.name}: {part}"
        for each in both
        for part in each.parts or ()
        if (family(each.venue), part) not in DIFFERENCES
    ]
    assert not unexplained
    assert len(both) > 20, "the table has shrunk"


def test_each_difference_that_has_a_reason_is_there(compared: list[Compared]) -> None:
    assert {(family(each.venue), part) for each in compared for part in each.parts or ()} == DIFFERENCES.keys()


def test_the_page_has_the_figures(compared: list[Compared]) -> None:
    both = [each for each in compared if each.parts is not None]
    equal = sum(not each.parts for each in both)
    page = " ".join((Path(__file__).parents[3] / "docs/venues/ccxt.md").read_text("utf-8").split())
    assert f"Of the {len(both)} that ccxt also makes, {equal} are equal in every part, and {len(both) - equal}" in page


def test_a_frame_of_binances_websocket_api_is_signed_as_ccxt_signs_it() -> None:
    profile, exchange = STANDS["binance-spot"], client("binance-spot", pro)
    player = profile.ready()
    player.put(Kill())
    frames = [json.loads(output.text) for output in player.outputs if isinstance(output, Send)]
    signed = [frame for frame in frames if "signature" in frame.get("params", {})]
    assert signed
    for frame in signed:
        params = dict(frame["params"])
        stamp = params["timestamp"]
        exchange.nonce = lambda stamp=stamp: stamp
        exchange.milliseconds = lambda stamp=stamp: stamp
        asked = {key: value for key, value in params.items() if key not in ("signature", "timestamp", "apiKey")}
        assert exchange.sign_params(asked) == params


def sent_by(venue: str) -> list[dict[str, Any]]:
    """Return the frames of an account that logs in and strikes."""
    player = STANDS[venue].ready()
    player.put(Kill())
    return [json.loads(output.text) for output in player.outputs if isinstance(output, Send)]


class RecordingClient:
    """A client of ccxt.pro whose frames are recorded and not sent."""

    def __init__(self, venue: str, token: str = "") -> None:
        async def watch(url: str, name: str, frame: dict[str, Any], *more: object) -> list[object]:
            self.frames.append(frame)
            return []

        async def done(*arguments: object) -> str:
            return token

        self.frames: list[dict[str, Any]] = []
        self.exchange = client(venue, pro)
        self.exchange.newUpdates = False
        self.exchange.watch, self.exchange.load_markets = watch, done
        if token:
            self.exchange.authenticate = done

    def frame(self, call: Callable[[Any], Coroutine[Any, Any, object]], number: int) -> dict[str, Any]:
        """Return the frame that a call would send, with the number of ours."""
        self.exchange.request_id = lambda: number
        asyncio.run(call(self.exchange))
        return self.frames.pop()


def test_kraken_futures_look_up_of_two_orders_has_the_text_and_the_signature_of_ccxt() -> None:
    profile, exchange = STANDS["kraken-futures"], client("kraken-futures")
    player = profile.ready()
    for one in profile.ids:
        player.put(hears(1, profile.pushed(one, profile.live[0])))
    player.put(Pause(1))
    [read] = [output for output in player.put(Read()) if isinstance(output, Call)]
    outputs = player.put(answer(read.tag, profile.listed(status="")))
    [look_up] = [output for output in outputs if isinstance(output, Call)]

    theirs = exchange.sign("orders/status", ["private"], "POST", {"orderIds": list(profile.ids)})

    assert look_up.request.body.decode() == theirs["url"].partition("?")[2]
    assert look_up.request.headers["Authent"] == theirs["headers"]["Authent"]


def test_krakens_frames_are_those_of_ccxt_with_the_same_token_and_number() -> None:
    frames = {(frame["method"], frame["params"].get("channel")): frame for frame in sent_by("kraken")}
    recording = RecordingClient("kraken", frames["cancel_all", None]["params"]["token"])

    cancel, orders = frames["cancel_all", None], frames["subscribe", "executions"]
    asked = {key: value for key, value in orders["params"].items() if key.startswith("snap_")}
    assert recording.frame(lambda exchange: exchange.cancel_all_orders_ws(), cancel["req_id"]) == cancel
    watching = recording.frame(lambda exchange: exchange.watch_private("orders", params=asked), orders["req_id"])
    assert watching == orders


def test_deribits_login_is_that_of_ccxt_but_for_its_nonce_and_scope() -> None:
    [ours] = [frame for frame in sent_by("deribit") if frame["method"] == "public/auth"]
    recording, exchange = RecordingClient("deribit"), client("deribit", pro)
    recording.exchange.milliseconds = lambda: ours["params"]["timestamp"]
    recording.exchange.client = lambda url: SimpleNamespace(subscriptions={})

    theirs = recording.frame(lambda exchange: exchange.authenticate(), ours["id"])

    own = {"scope": ours["params"]["scope"]}  # ccxt takes the default of the key
    for frame in (ours, theirs):  # ccxt takes the time as nonce
        nonce, words = frame["params"].pop("nonce"), f"{frame['params']['timestamp']}\n"
        signed = exchange.hmac(exchange.encode(f"{words}{nonce}\n"), exchange.encode(exchange.secret), hashlib.sha256)
        assert frame["params"].pop("signature") == signed
    assert ours["params"] == {**theirs["params"], **own}
    assert {**ours, "params": {}} == {**theirs, "params": {}}


def test_deribit_watches_the_orders_channel_of_ccxt() -> None:
    [ours] = [frame for frame in sent_by("deribit") if frame["method"] == "private/subscribe"]
    recording = RecordingClient("deribit", "not used: ccxt leaves the token to the connection")

    theirs = recording.frame(lambda exchange: exchange.watch_orders(), ours["id"])

    assert {**theirs, "params": {}} == {**ours, "params": {}}
    assert set(theirs["params"]["channels"]) <= set(ours["params"]["channels"])


def test_kraken_futures_frames_are_those_of_ccxt_with_the_same_challenge() -> None:
    asked, *subscribed = sent_by("kraken-futures")
    recording = RecordingClient("kraken-futures", "not used: the challenge is in the frames")
    answered = SimpleNamespace(futures={"challenge": SimpleNamespace(resolve=lambda _: None)})
    recording.exchange.handle_authenticate(answered, {"message": subscribed[0]["original_challenge"]})

    for ours in subscribed:
        assert recording.frame(methodcaller("subscribe_private", ours["feed"], ours["feed"]), 0) == ours
    assert subscribed and asked == {"event": "challenge", "api_key": recording.exchange.apiKey}


def main() -> None:
    rows = [compare(venue, client(venue), request) for venue in CLIENTS for request in requests_of(venue)]
    for each in rows:
        what = "ccxt has no such call" if each.parts is None else ", ".join(each.parts) or "equal"
        print(f"{each.venue}: {each.name}: {what}")
    both = [each for each in rows if each.parts is not None]
    equal = sum(not each.parts for each in both)
    print(f"{len(both)} of {len(both)}: {equal} equal in every part, {len(both) - equal} with a reason:")
    for (venue, part), reason in DIFFERENCES.items():
        print(f"  {venue}, {part}: {reason}")


if __name__ == "__main__":
    main()
