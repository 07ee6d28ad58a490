"""Look over the wallet API for what no kill reaches, and for the key's rights (docs/venues/binance.md § 3.7, § 9).

The checks change nothing. Where the API cannot be reached, nothing is known, and nothing is refused for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.calls import Build, PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import NotReady, Outputs, Replied

RIGHTS = "/sapi/v1/account/apiRestrictions"
CHECKED_EVERY_S = 900.0
MOST_NAMED = 3  # algos that a phrase names
PORTFOLIO_MARGIN = "a portfolio-margin account: its orders cannot be reached over this API, and no kill cancels them"


class Check(NamedTuple):
    """A request, and what reads its answer."""

    build: Build
    read: Callable[[Any], None]


class WalletChecks:
    """What the wallet API has shown last."""

    def __init__(self, venue: Adapter, signed: Callable[[str], Build], right: str, space: str) -> None:
        """Make checks that have not been made; `venue` gets the findings.

        `signed` returns the builder of a signed GET of this path. `right` is the permission that cancels need, by its
        name in the answer; `space` is the part of the algo API, `spot` or `futures`.
        """
        self.why_not = ""  # why no kill can reach the account's orders; "": one can, or nothing is known
        self._venue = venue
        self._right = right
        self._checks = (
            Check(signed(RIGHTS), self._read_rights),
            Check(signed(f"/sapi/v1/algo/{space}/openOrders"), self._read_algos),
        )
        self._due_ns: int | None = None  # None: not before the HTTP lane is up

    def start(self, now: Instant) -> None:
        """Note that the lane has come up: the next probe checks."""
        self._due_ns = now.mono_ns

    def check(self, now: Instant) -> Outputs:
        """Request what is due; ends in `NotReady` if no kill can reach the account's orders."""
        if self._due_ns is None or (now.mono_ns < self._due_ns and not self.why_not):
            return ()
        self._due_ns = now.mono_ns + int(CHECKED_EVERY_S * 1e9)
        outputs: Outputs = ()
        for check in self._checks:
            part = CheckPart(self, check)
            outputs += self._venue.calls.start_call("wallet", check.build, now, context=part, on_loss=part.on_loss)
        return outputs

    def _read_rights(self, data: Any) -> None:
        if not isinstance(data, dict) or not isinstance(data.get(self._right), bool):
            return  # in a shape that no document explains
        self.why_not = ""
        if data.get("enablePortfolioMarginTrading") is True:
            self.why_not = PORTFOLIO_MARGIN
        elif not data[self._right]:
            self.why_not = f"the key cannot cancel: {self._right} is false; give it that right, or use another key"
        warnings = [
            f"the key has {right}: a kill needs no such right"
            for right in ("enableWithdrawals", "enableInternalTransfer", "permitsUniversalTransfer")
            if data.get(right) is True
        ]
        if data.get("ipRestrict") is False:
            warnings.append("the key works from every address: restrict it to this host's")
        self._venue.warnings = tuple(warnings)

    def _read_algos(self, data: Any) -> None:
        algos = data.get("orders") if isinstance(data, dict) else None
        if not isinstance(algos, list):
            return
        names = [
            " ".join(as_text(each.get(key)) for key in ("algoType", "symbol", "algoId"))
            for each in algos
            if isinstance(each, dict)
        ]
        unnamed = f" and {len(algos) - MOST_NAMED} more" if len(algos) > MOST_NAMED else ""
        words = f"{', '.join(names[:MOST_NAMED])}{unnamed}, which places orders again until it is stopped at the venue"
        self._venue.out_of_reach = (self._venue.evidence("a running", words),) if algos else ()

    def on_read(self, check: Check, reply: Reply) -> Outputs:
        """Apply an answer; one that is no success changes nothing."""
        if reply.ok:
            check.read(reply.data)
        return (NotReady(Route.HTTP, 0, self.why_not, fatal=True),) if self.why_not else ()


class CheckPart(NamedTuple):
    """A request of the wallet API."""

    checks: WalletChecks
    check: Check

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.checks.on_read(self.check, reply)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # the lanes report their own faults
