"""The state of Deribit's WebSockets: logins, heartbeats, cancel-on-disconnect (docs/venues/deribit.md §2, §5, §6)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kill_switch.sim.deribit.grants import Grant, is_short_number, narrowed, parse_scope, unauthorized, wrong
from kill_switch.sim.deribit.rpc import Call, Method, invalid, notice
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.tables import Frames, Refused

if TYPE_CHECKING:
    from kill_switch.sim.deribit.venue import Deribit

_INACTIVE_S = 600.0


@dataclass(slots=True, eq=False)
class Beat:
    """The heartbeat of a WebSocket: how many test requests were sent, and which was the last at an answer."""

    interval_s: int
    sent: int = 0
    answered: int = 0


@dataclass(slots=True, eq=False)
class State:
    """The state of a WebSocket besides its subscriptions."""

    grant: Grant | None = None
    beat: Beat | None = None
    cancels: bool = False  # its orders are cancelled when it ends


class SessionCalls:
    """The methods that change the state of a session, and its end."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue
        self._states: dict[Session, State] = {}
        self._account_wide: set[str] = set()  # accounts whose new WebSockets cancel when they end

    def methods(self) -> dict[str, Method]:
        """Return the methods."""
        scope = "account:read_write"
        return {
            "public/auth": Method(
                "login", "login", self._auth,
                "grant_type! client_id client_secret timestamp nonce data signature refresh_token scope state",
            ),
            "private/logout": Method("other", "logout", self._log_out, "invalidate_token"),
            "public/test": Method("ping", "test", self._test, "expected_result"),
            "public/hello": Method("other", "hello", lambda call: {"version": "2.1.1"}, "client_name client_version"),
            "public/set_heartbeat": Method("other", "heartbeat", self._set_heartbeat, "interval!"),
            "public/disable_heartbeat": Method("other", "heartbeat", self._disable_heartbeat),
            "private/enable_cancel_on_disconnect": Method(
                "other", "cod", lambda call: self._set_cod(call, on=True), "scope", scope
            ),
            "private/disable_cancel_on_disconnect": Method(
                "other", "cod", lambda call: self._set_cod(call, on=False), "scope", scope
            ),
            "private/get_cancel_on_disconnect": Method("read", "cod", self._get_cod, "scope", "account:read"),
        }  # fmt: skip

    def state(self, session: Session) -> State:
        """Return the state of a WebSocket."""
        return self._states.setdefault(session, State())

    # logins

    def _auth(self, call: Call) -> object:
        params, venue = call.params, self._venue
        asked = parse_scope(params.get("scope", ""))
        client_id = params.get("client_id", "")
        match params["grant_type"]:
            case "client_credentials":
                account = venue.auth.by_secret(client_id, params.get("client_secret", ""))
            case "client_signature":
                for name in ("client_id", "timestamp", "nonce", "signature"):
                    if name not in params:
                        raise invalid(name, "value required")
                stamp, nonce, data = str(params["timestamp"]), params["nonce"], params.get("data", "")
                account = venue.auth.by_signature(client_id, stamp, nonce, data, params["signature"])
            case "refresh_token":
                grant = venue.grants.by_refresh(params.get("refresh_token"))
                if grant is None or grant.connection not in (None, call.connection):
                    raise unauthorized()
                return self._granted(call, grant, {})
            case _:
                raise invalid("grant_type", "invalid grant_type")
        if venue.vanished(account.name):
            raise wrong()
        read_only = venue.faults.on("read_only_key", account.name) is not None
        scopes = narrowed(asked, venue.options.max_scope, read_only=read_only)
        session = asked.get("session", "") or ("" if call.session else f"rest-{venue.desk.next_number()}")
        bound = None if session else call.connection
        return self._granted(call, Grant(account, scopes, session, bound, asked.get("ip", "")), asked)

    def _granted(self, call: Call, grant: Grant, asked: Mapping[str, str]) -> object:
        venue, life_s = self._venue, self._venue.options.expires_in
        wanted = asked.get("expires", "")
        life_s = min(life_s, int(wanted)) if is_short_number(wanted) else life_s
        venue.grants.issue(grant, life_s)
        if session := call.session:
            state = self.state(session)
            if session.account is not grant.account:
                self.end_login(session)
                state.cancels = grant.account.name in self._account_wide
            state.grant = grant
            venue.attach(session, grant.account)
            venue.later(life_s, self._lapse, session, grant, grant.access)
        return {
            "access_token": grant.access, "expires_in": life_s, "refresh_token": grant.refresh,
            "scope": grant.text(), "enabled_features": [], "token_type": "bearer",
        }  # fmt: skip

    def _lapse(self, session: Session, grant: Grant, access: str) -> None:
        if self.state(session).grant is grant and grant.access == access:
            self._venue.expire(session)

    def end_login(self, session: Session) -> None:
        """End a session's login and its subscriptions; the WebSocket stays open."""
        if session.account is not None:
            self._venue.listeners[session.account.name].pop(session.connection, None)
            session.account = None
        session.channels.clear()
        self.state(session).grant = None

    def _log_out(self, call: Call) -> object:
        session, grant = call.socket(), call.grant
        self.state(session).cancels = False  # a logout does not count as a disconnect (§6)
        if call.params.get("invalidate_token", True):
            self._venue.grants.revoke(lambda other: other is grant)
        self._venue.later(0.001, session.connection.close_websocket, 1000, "logout")
        return Frames(())

    # heartbeats (§5, as measured)

    def _test(self, call: Call) -> object:
        if call.session and (beat := self.state(call.session).beat):
            beat.answered = beat.sent
        if call.params.get("expected_result") == "exception":
            raise Refused("10001", 400)
        return {"version": "2.1.1"}

    def _set_heartbeat(self, call: Call) -> object:
        session, interval = call.socket(), call.params["interval"]
        if interval < 10:
            raise invalid("interval", "must be at least 10")
        beat = self.state(session).beat = Beat(interval)
        self._venue.later(interval, self._heartbeat, session, beat)
        self._venue.later(interval + 2.3, self._test_request, session, beat)
        return "ok"

    def _disable_heartbeat(self, call: Call) -> object:
        self.state(call.socket()).beat = None
        return "ok"

    def _is_on(self, session: Session, beat: Beat) -> bool:
        return self.state(session).beat is beat and not session.connection.closing

    def _heartbeat(self, session: Session, beat: Beat) -> None:
        if self._is_on(session, beat):
            session.connection.say(notice("heartbeat", {"type": "heartbeat"}))
            self._venue.later(beat.interval_s, self._heartbeat, session, beat)

    def _test_request(self, session: Session, beat: Beat) -> None:
        if self._is_on(session, beat):
            session.connection.say(notice("heartbeat", {"type": "test_request"}))
            beat.sent += 1
            self._venue.later(beat.interval_s, self._check, session, beat, beat.sent)
            self._venue.later(beat.interval_s + 0.6, self._test_request, session, beat)

    def _check(self, session: Session, beat: Beat, number: int) -> None:
        if self._is_on(session, beat) and beat.answered < number and not session.connection.frozen:
            session.connection.close_websocket(4000, "heartbeat close")

    # cancel-on-disconnect, and the end of a session (§5, §6)

    def _set_cod(self, call: Call, *, on: bool) -> object:
        session, account = call.socket(), call.account
        if call.choice("scope", "connection", "account") == "account":
            (self._account_wide.add if on else self._account_wide.discard)(account.name)
        else:
            self.state(session).cancels = on
        return "ok"

    def _get_cod(self, call: Call) -> object:
        session, scope = call.socket(), call.choice("scope", "connection", "account") or "connection"
        is_on = call.account.name in self._account_wide if scope == "account" else self.state(session).cancels
        return {"scope": scope, "enabled": is_on}

    def watch(self, session: Session) -> None:
        """End a session that is silent and has neither a heartbeat nor a subscription, and look again later.

        A session that stays open in silence loses its orders after 10 minutes.
        """
        options, connection, state = self._venue.options, session.connection, self.state(session)
        if connection.closing or options.idle_s <= 0:
            return
        silent_s = time.monotonic() - session.heard_at
        if session.channels or state.beat:
            if silent_s >= _INACTIVE_S:
                self._cancel_own(session)
        elif silent_s >= options.idle_s and not connection.frozen:
            if options.idle_close_code == 1006:
                connection.abort()
            else:
                connection.close_websocket(options.idle_close_code, "idle")
            return
        left_s = options.idle_s - silent_s
        self._venue.later(left_s if left_s > 0 else options.idle_s, self.watch, session)

    def _cancel_own(self, session: Session) -> None:
        if self.state(session).cancels and session.account is not None:
            self._venue.desk.end_session(session.account, session.id)

    def ended(self, session: Session) -> None:
        """Cancel the orders of a WebSocket that asked for it; forget it, and the tokens that end with it."""
        self._cancel_own(session)
        self._venue.grants.revoke(lambda grant: grant.connection is session.connection)
        self._states.pop(session, None)
