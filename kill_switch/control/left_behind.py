"""Know the orders that a forced re-arm has left, also after a restart; `status_problems` shows them.

Nothing here sends or cancels anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kill_switch.core.records import ReasonRecord
from kill_switch.journal import history
from kill_switch.journal.records import Entry, OrdersLeftRecord

MOST = 1000  # ids of an account that are recorded


class LeftBehind:
    """The orders that forced re-arms have left, by account."""

    def __init__(self, entries: Iterable[Entry], record: Callable[[str, Mapping[str, object]], object]) -> None:
        """Continue what earlier runs recorded in the journal's `entries`; `record` appends a record of a kind."""
        self._record = record
        self._orders: dict[str, dict[str, None]] = {}  # account → ids, in their order
        self._unseen = set[str]()  # accounts whose orders were not known yet since the start
        for past in history.records_of_kind(entries, OrdersLeftRecord, ReasonRecord):
            if isinstance(past, OrdersLeftRecord):
                self._orders[past.account] = dict.fromkeys(past.orders)
            elif isinstance(past, ReasonRecord):  # a kill cancels them
                for name in past.accounts:
                    self._orders.pop(name, None)
        self._unseen.update(self._orders)

    def note(self, name: str, ids: Sequence[str]) -> None:
        """Keep and record which orders a forced re-arm leaves at an account."""
        self._orders[name] = dict.fromkeys(ids)
        self._unseen.discard(name)
        if ids:
            left = OrdersLeftRecord(account=name, orders=tuple(ids[:MOST]))
            self._record(left.kind, left.to_json())

    def forget(self, name: str) -> None:
        """Forget the orders of an account, because a new kill cancels them."""
        self._orders.pop(name, None)

    def still_left(self, name: str, open_ids: Sequence[str], *, are_known: bool) -> list[str]:
        """Return the orders that are not proven gone.

        `open_ids` are the account's open orders; `are_known` says whether they are all. Until they are known for the
        first time after a start, all recorded orders may be open.
        """
        ids = self._orders.get(name, {})  # of which each is found at once: there may be thousands
        if are_known:
            self._unseen.discard(name)
        return list(ids) if name in self._unseen else [order_id for order_id in open_ids if order_id in ids]
