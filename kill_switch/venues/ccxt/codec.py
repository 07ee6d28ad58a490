"""Encode requests with an exchange class of ccxt, and decode answers with it, as one account. It sends nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kill_switch.core.domain import Instant
from kill_switch.venues.ccxt import library
from kill_switch.venues.ccxt.profile import CREDENTIALS, Endpoint, IdProfile, value_at
from kill_switch.venues.ccxt.verdict import verdict_of
from kill_switch.venues.clock_offset import ClockOffset, shown_span
from kill_switch.venues.decode import Evidence
from kill_switch.venues.kit.calls import Build, PendingCall
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.signing import RisingNonce
from kill_switch.venues.messages import Replied
from kill_switch.venues.request import Request

MOST_PEM = 240  # characters of an Ed25519 key in PEM; one of RSA has over 800, and a signature takes a millisecond
_ORIGIN = re.compile(r"https://[^/]+")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_TRIAL = Instant(0, 1_700_000_000_000_000_000)  # the moment of a request that is built and not sent
_NEVER = -(10**18)  # monotonic ns: before every event
_SET_BY_LANE = {"accept-encoding", "host", "user-agent", "content-length", "connection"}


class Codec:
    """An account's exchange class: it signs with the account's keys, at the moments that its caller names."""

    def __init__(
        self,
        profile: IdProfile,
        host: str,
        rest_url: str,
        secrets: Mapping[str, str],
        settings: Mapping[str, object],
        clock: ClockOffset,
        evidence: Evidence,
    ) -> None:
        """`rest_url` replaces the scheme and the host of every address, `host` among them; raise ValueError.

        `settings` has the account's options: those of the class, and parameters of requests.
        """
        self._exchange = library.exchange(profile.id)
        self._errors = library.errors()
        self._profile = profile
        self._rest_url = rest_url
        self._documented = f"https://{host}"  # some classes look errors up by it
        self._settings = settings
        self._clock = clock
        self._evidence = evidence
        self._offset_ns = clock.offset_ns  # of the venue's clock, in the newest signature
        self._offset_since_ns = _NEVER  # since when signatures have had it, monotonic
        self.nonce = RisingNonce(unit_us=1000)
        exchange = self._exchange
        for name, form in profile.secret_forms.items():
            if not form.fits(secrets[name]):
                raise ValueError(f"{name} is not {form.words}")
        for name in profile.secrets:
            if "PRIVATE KEY" in secrets[name] and len(secrets[name]) > MOST_PEM:
                raise ValueError(f"{name} is an RSA key, whose signatures hold up other accounts: use HMAC or Ed25519")
            setattr(exchange, CREDENTIALS[name], secrets[name])
        of_class = {name: value for name, value in settings.items() if profile.settings[name].is_ccxt}
        exchange.options.update({**profile.ccxt_options, **of_class})
        if rest_url != self._documented:
            exchange.urls = {**exchange.urls, "api": _moved(exchange.urls["api"], rest_url)}
        self._headers = {"Host": rest_url.removeprefix("https://"), "User-Agent": "kill-switch"}

    def try_to_sign(self, endpoint: Endpoint) -> None:
        """Build a request that is not sent; raise ValueError, without a secret, if the secrets cannot sign it.

        The first request of an instance takes longest: it fills caches.
        """
        try:
            self.build(endpoint, symbol="BTCUSDT")(_TRIAL)
        except Exception as error:  # whatever the library makes of a malformed key
            secret = next((name for name in self._profile.secrets if name != "api_key"), "api_key")
            raise ValueError(f"{secret} cannot sign a request of {self._profile.id}: {type(error).__name__}") from None

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def build(self, endpoint: Endpoint, **values: object) -> Build:
        """Return the builder of a request; each copy has a signature of its own.

        `values` fill the placeholders of the parameters.
        """
        params = {name: self._fill(value, values) for name, value in endpoint.params.items()}
        api, method, path = list(endpoint.api), endpoint.method, endpoint.path

        def build(now: Instant) -> Request:
            self._set_time(now)
            return self._request(self._exchange.sign(path, api, method, dict(params)))

        return build

    def build_page(self, endpoint: Endpoint, param: str, cursor: str) -> Build:
        """Return the builder of a page of a list, which `cursor` in the parameter `param` requests."""
        return self.build(endpoint._replace(params={**endpoint.params, param: cursor}))

    def _fill(self, value: object, values: Mapping[str, object]) -> object:
        match = _PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return value
        name = match[1]
        return values[name] if name in values else self._settings[name]

    def _set_time(self, now: Instant) -> None:
        """Make this moment the clock of the class."""
        profile, wall_ns = self._profile, now.wall_ns
        if profile.clock_window_s is not None:
            if self._clock.offset_ns != self._offset_ns:
                self._offset_ns, self._offset_since_ns = self._clock.offset_ns, now.mono_ns
            wall_ns += self._offset_ns
        now_ms = self.nonce.next(Instant(now.mono_ns, wall_ns)) if profile.is_rising else wall_ns // 1_000_000
        exchange = self._exchange
        exchange.milliseconds = lambda: now_ms
        exchange.seconds = lambda: now_ms // 1000
        exchange.microseconds = lambda: now_ms * 1000

    def _request(self, signed: Mapping[str, Any]) -> Request:
        url, body = signed["url"], signed["body"]
        if not url.startswith(f"{self._rest_url}/"):
            raise ValueError("the address of the request is not the account's")
        signed_headers = {**self._exchange.headers, **(signed["headers"] or {})}
        headers = {name: value for name, value in signed_headers.items() if name.lower() not in _SET_BY_LANE}
        target = url[len(self._rest_url) :]
        return Request(signed["method"], target, {**self._headers, **headers}, (body or "").encode())

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def is_time_off(self, replied: Replied, call: PendingCall, now: Instant) -> bool:
        """Return whether the time in a call's signature was off by more than the venue accepts, by its answer's `Date`.

        A call that was signed before the newest correction of the time counts as such a call.
        """
        window_s, span = self._profile.clock_window_s, shown_span(replied, now)
        if window_s is None:
            return False
        if not call.is_retry and call.asked_ns <= self._offset_since_ns:
            return True
        window_ns = round(window_s * 1e9)
        return span is not None and not span[0] - window_ns <= self._offset_ns <= span[1] + window_ns

    def judge(self, replied: Replied, body: Any, *, is_time_off: bool = False) -> Reply:
        """Judge an answer; `body` is its JSON value, None if it has none.

        `is_time_off`: see the method. Venues refuse such a signature in many words, and most blame the key.
        """
        reply = verdict_of(self._exchange, self._errors, self._documented, replied, body, self._evidence)
        words, nonce_refusal = self._profile.unknown_order, self._profile.nonce_refusal
        if words and reply.outcome is ReplyOutcome.REFUSED:
            reply = reply._replace(not_found=words in reply.evidence)
        if reply.ok or reply.not_found or reply.pause_s:
            return reply
        is_refused = reply.outcome is ReplyOutcome.REFUSED or 400 <= replied.status < 500
        is_of_nonce = nonce_refusal is not None and value_at(body, nonce_refusal[0]) == nonce_refusal[1]
        if is_of_nonce or (is_time_off and is_refused):
            return reply._replace(outcome=ReplyOutcome.WRONG_TIME, key_refused=False)
        return reply


def _moved(addresses: Any, rest_url: str) -> Any:
    """Return a tree of addresses with this scheme and host; paths stay."""
    if isinstance(addresses, dict):
        return {name: _moved(each, rest_url) for name, each in addresses.items()}
    return _ORIGIN.sub(lambda _: rest_url, addresses, count=1) if isinstance(addresses, str) else addresses
