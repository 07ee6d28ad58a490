"""Check whether an account's key may cancel orders (docs/venues/kraken.md § 9); the check changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from datetime import UTC, datetime
from typing import Any

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import NotReady, Outputs, Replied

MAX_DIGITS = 11  # of the second in which a key ends, before the year 5138
CANCEL_RIGHTS = frozenset({"close-trades", "modify-trades"})  # either one suffices
MAY_WITHDRAW = 'the key may withdraw: use a key without the right "Withdraw funds"'


class KeyRights:
    """The rights of a key, as `GetApiKeyInfo` has named them last."""

    def __init__(
        self,
        build: Build,
        calls: CallStarter,
        on_rights: Callable[[Mapping[str, bool | str]], None],
        warn: Callable[[str], None],
    ) -> None:
        """Make a check that has not been made; `build` builds its request, `on_rights` gets what the venue names.

        `warn` gets the operator's warning, "" if there is none.
        """
        self.why_not = ""  # why the key cannot cancel; "": it can, or nothing is known
        self.is_settled = True  # no answer is wanted: the venue has named the rights, or refuses to
        self._build = build
        self._calls = calls
        self._on_rights = on_rights
        self._warn = warn

    @property
    def is_due(self) -> bool:
        """Whether the next probe requests the rights: no answer has come yet, or an operator may have added one."""
        return bool(self.why_not) or not self.is_settled

    def check(self, now: Instant) -> Outputs:
        """Request the rights; ends in `NotReady` if the key cannot cancel."""
        return self._calls.start_call("key", self._build, now, context=self, on_loss=self.on_loss)

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Apply the rights; an answer that does not name them changes nothing."""
        self.is_settled = self.is_settled or reply.outcome in (ReplyOutcome.ACCEPTED, ReplyOutcome.REFUSED)
        rights: Any = reply.data.get("permissions") if reply.ok and isinstance(reply.data, dict) else None
        if not isinstance(rights, list):
            return ()
        names = {right.lower().replace("_", "-") for right in rights if isinstance(right, str)}
        if rights and not names:
            return ()  # in a shape that no document explains
        rights_by_name = _named_rights(reply.data, names)
        self._on_rights(rights_by_name)
        self._warn(MAY_WITHDRAW if rights_by_name["withdraw"] else "")
        self.why_not = ""
        if CANCEL_RIGHTS & names:
            return ()
        self.why_not = 'the key cannot cancel: give it the right "Cancel & close orders", or use another key'
        return (NotReady(Route.HTTP, 0, self.why_not, fatal=True),)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Request the rights again with the next probe: the lanes report their own faults."""
        return ()


def _named_rights(data: Mapping[str, Any], names: Set[str]) -> Mapping[str, bool | str]:
    """Return the rights as `Adapter.key_rights` has them; `names` are those of `permissions`."""
    rights: dict[str, bool | str] = {
        "cancel": bool(CANCEL_RIGHTS & names),
        "trade": "modify-trades" in names,
        "read": "query-open-trades" in names,
        "withdraw": "withdraw-funds" in names,
    }
    addresses, until = data.get("ip_allowlist"), data.get("valid_until")
    if isinstance(addresses, list):
        rights["ip_bound"] = any(addresses)
    if isinstance(until, str) and until.isascii() and until.isdigit() and len(until) <= MAX_DIGITS:
        rights["expires"] = f"{datetime.fromtimestamp(int(until), UTC):%Y-%m-%d}" if int(until) else "never"
    return rights
