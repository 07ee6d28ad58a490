"""Check an account now and then: its key's rights, and orders out of a kill's reach (§ 3.7, § 9).

Each check is due when the HTTP lane comes up, and every `account.CHECKED_EVERY_S`. It is made again until the venue has
answered it. After a bad answer it is made with each probe, because an operator may have changed something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import NotReady, Outputs, Replied
from kill_switch.venues.retry_after import retry_after_s

NAMED = 3  # most symbols that a finding names
MOST_PAIRS = 20  # of isolated margin that are asked for: each takes a call of its own
DANGERS = {  # rights that no kill needs (§ 9)
    "enableWithdrawals": "the key may withdraw",
    "permitsUniversalTransfer": "the key may transfer between accounts",
    "enableInternalTransfer": "the key may transfer to other users",
}


class Findings(NamedTuple):
    """The findings of one answer; they replace those of the same check's earlier answers."""

    why_not: str = ""  # why the key or the account cannot carry a kill
    out_of_reach: str = ""  # orders or machines that a kill does not reach
    warnings: tuple[str, ...] = ()  # what an operator should change
    further: tuple[Check, ...] = ()  # checks of the same name, whose answers complete these findings
    key_rights: Mapping[str, bool | str] = MappingProxyType({})  # as `Adapter.key_rights` has them


class Check(NamedTuple):
    """A question, and how its answer is read."""

    name: str
    build: Build
    read: Callable[[Any], Findings]


class AccountChecks:
    """The checks of one account."""

    def __init__(
        self, checks: Iterable[Check], calls: CallStarter, on_findings: Callable[[AccountChecks], None]
    ) -> None:
        """Make checks that have not been made; `on_findings` is called with each answer that was read."""
        self._checks = tuple(checks)
        self._calls = calls
        self._on_findings = on_findings
        self._found: dict[str, Findings] = {}  # check → what its last answer shows
        self._open: set[str] = set()  # checks that are due
        self._further: list[Check] = []  # checks that an answer has made necessary, and that have no answer yet
        self._not_before_ns = 0  # the venue has asked for a pause until then, monotonic

    @property
    def why_not(self) -> str:
        """Why the account cannot carry a kill, "" if it can or if nothing is known."""
        return "; ".join(filter(None, (findings.why_not for findings in self._in_order())))

    @property
    def out_of_reach(self) -> tuple[str, ...]:
        """Orders and machines that a kill does not reach, as phrases."""
        return tuple(findings.out_of_reach for findings in self._in_order() if findings.out_of_reach)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Rights that an operator should take from the key, as phrases."""
        return tuple(warning for findings in self._in_order() for warning in findings.warnings)

    @property
    def key_rights(self) -> Mapping[str, bool | str]:
        """Rights of the key, of the checks that the venue has answered."""
        return {right: may for findings in self._in_order() for right, may in findings.key_rights.items()}

    def _in_order(self) -> Iterable[Findings]:
        return (self._found[check.name] for check in self._checks if check.name in self._found)

    def begin(self) -> None:
        """Mark every check as due."""
        self._open = {check.name for check in self._checks}

    def run(self, now: Instant) -> Outputs:
        """Make the checks that are due, and again those whose finding keeps a lane from being ready."""
        if now.mono_ns < self._not_before_ns:
            return ()
        due = [check for check in self._checks if check.name in self._open or self._is_bad(check.name)]
        due += [check for check in self._further if check.name not in self._open]
        return tuple(output for check in due for output in self._ask(check, now))

    def _is_bad(self, name: str) -> bool:
        return name in self._found and bool(self._found[name].why_not)

    def _ask(self, check: Check, now: Instant) -> Outputs:
        part = CheckPart(self, check)
        return self._calls.start_call("check", check.build, now, context=part, on_loss=part.on_loss)

    def on_answer(self, check: Check, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Apply an answer; a refusal ends the check without a finding, because the product may not be in use.

        An overload is no such refusal: the check is due again, after the pause that the venue asks for.
        """
        pause_s = max(reply.pause_s, retry_after_s(replied.headers, now.wall_ns))
        self._not_before_ns = max(self._not_before_ns, now.mono_ns + int(pause_s * 1e9))
        if reply.outcome not in (ReplyOutcome.ACCEPTED, ReplyOutcome.REFUSED) or replied.status >= 500:
            return ()
        if check in self._further:
            self._further.remove(check)
        else:
            self._open.discard(check.name)
            self._further = [each for each in self._further if each.name != check.name]
        if not reply.ok:
            return ()
        findings = self._found[check.name] = check.read(reply.data)
        self._further += findings.further
        self._on_findings(self)
        outputs = tuple(output for each in findings.further for output in self._ask(each, now))
        return (NotReady(Route.HTTP, 0, findings.why_not, fatal=True), *outputs) if findings.why_not else outputs


class CheckPart(NamedTuple):
    """The call of one check."""

    checks: AccountChecks
    check: Check

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.checks.on_answer(self.check, reply, replied, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # it is made again with the next probe: the lanes report their own faults


def read_rights(data: Any, needed: str, words: str) -> Findings:
    """Read `apiRestrictions`; the key needs the right `needed`, whose name in the venue's pages is `words` (§ 9)."""
    rights: Mapping[str, Any] = data if isinstance(data, dict) else {}
    why_not = f'the key cannot cancel: give it the right "{words}", or use another key'
    if rights.get("enableReading") is False:
        why_not = 'the key cannot read: give it the right "Enable Reading", or use another key'
    is_good = rights.get(needed) is not False and rights.get("enableReading") is not False
    dangers = [text for right, text in DANGERS.items() if rights.get(right) is True]
    unbound = ["the key is bound to no address"] if rights.get("ipRestrict") is False else []
    named = {"cancel": needed, "trade": needed, "read": "enableReading", "withdraw": "enableWithdrawals"}
    named["ip_bound"] = "ipRestrict"
    key_rights = {right: rights[name] for right, name in named.items() if isinstance(rights.get(name), bool)}
    return Findings("" if is_good else why_not, warnings=(*dangers, *unbound), key_rights=key_rights)


def read_account(data: Any) -> Findings:
    """Read `canTrade` of the account (§ 9)."""
    if isinstance(data, dict) and data.get("canTrade") is False:
        return Findings("the venue has closed the account to trading, so that it cannot cancel: ask the venue")
    return Findings()


def read_algos(data: Any) -> Findings:
    """Read the running TWAP and VP of `algo/…/openOrders`: they place orders again after each cancel (§ 3.7)."""
    orders = data.get("orders") if isinstance(data, dict) else None
    names = [
        f"{as_text(each.get('algoType')) or 'algo'} {as_text(each.get('symbol'))}".strip()
        for each in (orders if isinstance(orders, list) else ())
        if isinstance(each, dict)
    ]
    return Findings(out_of_reach=f"running {_name(names)}, which place orders again" if names else "")


def read_margin(data: Any) -> Findings:
    """Read the open orders of cross margin, a space of orders of its own (§ 3.2)."""
    orders = [each for each in (data if isinstance(data, list) else ()) if isinstance(each, dict)]
    if not orders:
        return Findings()
    symbols = sorted({as_text(each.get("symbol")) for each in orders})
    return Findings(out_of_reach=f"{len(orders)} order(s) on cross margin: {_name(symbols)}")


class IsolatedMargin:
    """The open orders of isolated margin: each pair has a space of its own, which no list shows without its pair."""

    def __init__(self, orders_of: Callable[[str], Build]) -> None:
        """`orders_of` returns the request for the open orders of a pair."""
        self._orders_of = orders_of
        self._orders: dict[str, int | None] = {}  # pair → its open orders; None: not known

    def read_pairs(self, data: Any) -> Findings:
        """Read the pairs of the account, and ask for the orders of each; of many pairs, of the first `MOST_PAIRS`."""
        assets = data.get("assets") if isinstance(data, dict) else None
        entries = [each for each in (assets if isinstance(assets, list) else ()) if isinstance(each, dict)]
        pairs = [as_text(each.get("symbol")) for each in entries if each.get("enabled") is not False]
        self._orders = dict.fromkeys(filter(None, pairs))
        further = [Check("isolated", self._orders_of(pair), partial(self._read_orders, pair)) for pair in self._orders]
        return self._findings()._replace(further=tuple(further[:MOST_PAIRS]))

    def _read_orders(self, pair: str, data: Any) -> Findings:
        if pair in self._orders and isinstance(data, list):
            self._orders[pair] = len(data)
        return self._findings()

    def _findings(self) -> Findings:
        count = sum(number or 0 for number in self._orders.values())
        with_orders = _name(pair for pair, number in self._orders.items() if number)
        unknown = _name(pair for pair, number in self._orders.items() if number is None)
        phrases = [
            f"{count} order(s) on isolated margin: {with_orders}" if count else "",
            f"orders on isolated margin, if there are any: {unknown}" if unknown else "",
        ]
        return Findings(out_of_reach="; ".join(filter(None, phrases)))


def _name(names: Iterable[str]) -> str:
    each = list(names)
    return ", ".join(each[:NAMED]) + (f" and {len(each) - NAMED} more" if len(each) > NAMED else "")
