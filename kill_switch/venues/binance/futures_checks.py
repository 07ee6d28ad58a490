"""Check an account at intervals: whether cancels get through, and machines run (§ 3.5, § 9).

A portfolio-margin account can be read here, and its cancels are refused. So a cancel that cannot hit anything is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.binance.checks import Check, Findings, read_algos, read_rights
from kill_switch.venues.binance.replies import is_wrong_key
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import NotReady, Outputs, Replied

PORTFOLIO_MARGIN = (
    "a portfolio-margin account: its orders cannot be reached over the futures API, and no kill would cancel them"
)


def wallet_checks(get: Callable[[str], Build]) -> tuple[Check, ...]:
    """Return the checks over the wallet API; `get` returns the builder of a signed GET of this path."""
    return (
        Check("rights", get("/sapi/v1/account/apiRestrictions"), _read_rights),
        Check("algos", get("/sapi/v1/algo/futures/openOrders"), read_algos),
    )


def _read_rights(data: Any) -> Findings:
    """Read `apiRestrictions`: a key has the right to portfolio margin only at an account that has it."""
    findings = read_rights(data, "enableFutures", "Enable Futures")
    if isinstance(data, dict) and data.get("enablePortfolioMarginTrading") is True:
        return findings._replace(why_not=PORTFOLIO_MARGIN)
    return findings


class CancelCheck:
    """A cancel of an order that cannot exist: what refuses it would refuse the cancels of a kill."""

    def __init__(self, harmless: Build, calls: CallStarter) -> None:
        self.why_not = ""  # why no cancel gets through; "": one does, or nothing is known
        self._harmless = harmless
        self._calls = calls
        self._is_due = False

    def begin(self) -> None:
        """Mark the check as due: the next probe makes it."""
        self._is_due = True

    def run(self, now: Instant) -> Outputs:
        """Make the check if it is due; a refused check is due again."""
        if not (self._is_due or self.why_not):
            return ()
        return self._calls.start_call("check", self._harmless, now, context=self, on_loss=self.on_loss)

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Apply the answer; only a refusal of the key or the account says that no cancel gets through.

        An answer that has not looked for the order says nothing: what was known goes on, and the check is due again.
        """
        if not (reply.ok or reply.not_found or reply.key_refused):
            return ()
        self._is_due, self.why_not = False, ""
        if not reply.key_refused:
            return ()
        self.why_not = f"the venue refuses cancels: {reply.evidence}"
        if not is_wrong_key(reply):
            self.why_not += f"; the key may not trade futures, or it is {PORTFOLIO_MARGIN}"
        return (NotReady(Route.HTTP, 0, self.why_not, fatal=True),)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Make the check again with the next probe: the lanes report their own faults."""
        return ()
