"""Read what an answer has where its profile says: the cancelled orders, the lists of open orders. It sends nothing."""

from __future__ import annotations

from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.ccxt.profile import Listing, Path, Proof, value_at
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.order_names import OrderNames
from kill_switch.venues.kit.replies import Reply, ReplyOutcome

KEY = ""  # in an order of an object of orders: its key there


def judge_cancel(answer: Proof, reply: Reply) -> CancelResult:
    """Judge the answer to a cancel: without the proof that its profile names, the outcome is unknown."""
    if not reply.ok:
        return CancelResult(reply._replace(not_found=reply.not_found and answer.none_is_error))
    value = value_at(reply.data, answer.path)
    is_right = isinstance(value, answer.kind) and (bool in _kinds(answer) or not isinstance(value, bool))
    if not is_right or (answer.good and value not in answer.good):
        where = ".".join(map(str, answer.path)) or "the answer"
        return CancelResult(reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=f"a success without {where}"))
    if answer.bad is not None and (bad := value_at(reply.data, answer.bad[0])) in answer.bad[1]:
        words = f"a success with {'.'.join(map(str, answer.bad[0]))} {as_text(bad)}"
        return CancelResult(reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=words))
    if answer.rejects_at is not None and (rejects := value_at(reply.data, answer.rejects_at)):
        words = f"{len(rejects)} cancel(s) refused" if isinstance(rejects, list) else "cancels were refused"
        return CancelResult(reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=words))
    if answer.is_count and answer.pending_at is not None and value_at(reply.data, answer.pending_at):
        words = f"{value} order(s) will be cancelled; the venue has not finished"
        return CancelResult(reply._replace(evidence=words))
    if answer.is_count:
        return CancelResult(reply._replace(evidence=f"{value} order(s) cancelled"), int(value))
    if answer.ids_at is None:
        return CancelResult(reply)
    items = value_at(reply.data, answer.ids_at)
    if not isinstance(items, list):
        return CancelResult(reply)
    return _of_items(answer, items, reply)


def _of_items(answer: Proof, items: list[Any], reply: Reply) -> CancelResult:
    """Judge an answer that names the orders; with an item whose cancel has failed, the outcome is unknown."""
    good = [item for item in items if answer.each is None or value_at(item, answer.each[0]) in answer.each[1]]
    orders = good
    if answer.inner:
        good = [item for item in good if isinstance(value_at(item, answer.inner), list)]
        orders = [order for item in good for order in value_at(item, answer.inner)]
    ids = [as_text(value_at(order, answer.id)) for order in orders]
    if len(good) < len(items):
        words = f"{len(items) - len(good)} of {len(items)} cancels failed"
        reply = reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=words)
    if not all(ids):
        return CancelResult(reply)
    if len(good) < len(items):
        return CancelResult(reply, len(ids), ids)
    return CancelResult(reply._replace(evidence=f"{len(ids)} order(s) cancelled"), len(ids), ids)


def _kinds(answer: Proof) -> tuple[type, ...]:
    return answer.kind if isinstance(answer.kind, tuple) else (answer.kind,)


def items_of(listing: Listing, data: Any) -> object:
    """Return the orders of a page, each beside its listing; None if the list is not where it should be."""
    value = value_at(data, listing.path)
    if listing.is_keyed:
        if not isinstance(value, dict):
            return None
        return [(listing, {KEY: key, **order} if isinstance(order, dict) else None) for key, order in value.items()]
    if not isinstance(value, list):
        return None
    if listing.inner:
        groups = [value_at(group, listing.inner) for group in value]
        return [(listing, order) for group in groups for order in (group if isinstance(group, list) else (None,))]
    return [(listing, order) for order in value]


def split_by_reach(items: list[Any], path: Path, value: object, words: str) -> tuple[list[Any], tuple[str, ...]]:
    """Return the orders of `items_of` that can be cancelled, and a phrase for people that counts the others.

    The arguments behind `items` are those of `Listing.out_of_reach`.
    """
    ours = [item for item in items if value_at(item[1], path) != value]
    count = len(items) - len(ours)
    return ours, (f"{count} {words}",) if count else ()


def cursor_of(listing: Listing, data: Any) -> str:
    """Return the cursor of the page that follows; "" if none does."""
    items = value_at(data, listing.path)
    if not isinstance(items, list) or len(items) < listing.full:
        return ""
    return as_text(value_at(data, listing.cursor)) if listing.cursor else ""


def read_order(names: OrderNames, item: object) -> Order | None:
    """Read an order of `items_of`; an order of a list of open orders is alive, whatever its status."""
    listing, order = item if isinstance(item, tuple) else (None, None)
    if listing is None:
        return None
    order_id = as_text(value_at(order, listing.id))
    if not order_id:
        return None
    symbol, status = as_text(value_at(order, listing.symbol)), as_text(value_at(order, listing.status))
    name = names.name(symbol, order_id) if listing.is_id_of_symbol else listing.prefix + order_id
    return Order(name, symbol, OrderState.LIVE, status)
