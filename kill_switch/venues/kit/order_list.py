"""Read the lists of open orders that a venue has, page by page, for read-backs and probes.

An adapter states its `OrderList`s; `ListReader` requests them and passes their orders to the book and the read-backs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant, Order, OrderState, Route
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.readback import ReadBack, ReadBackRunner
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.second_route import SecondRoute
from kill_switch.venues.messages import NotReady, Outputs, Ready, Replied

BESIDE = "beside"  # the kind of the calls for lists beside a strike
MAX_PAGES = 50  # pages of a list that are read at most: a venue's cursor must not lead on for ever

ReadOrder = Callable[[object], Order | None]


def last_page(data: Any) -> str:
    """Return that no page follows, for a list of one page."""
    return ""


def one_page(build: Build) -> Callable[[str], Build]:
    """Return the `page` of a list of one page, whose request is always the same."""
    return lambda cursor: build


class OrderList(NamedTuple):
    """A list of open orders: how to request a page, where its orders are, and how it goes on."""

    name: str
    page: Callable[[str], Build]  # the cursor of a page ("": the first) → the builder of its request
    items: Callable[[Any], object]  # a reply's data → the list of its orders; anything else cannot be read
    cursor: Callable[[Any], str] = last_page  # a reply's data → the cursor of the next page, "" for the last page
    full: int = 0  # of a list without a cursor: a page of so many orders may not have all; 0: a page always has all
    line: str = ""  # its request as `describe_strike` shows it, where a strike reads it


class ListPage(NamedTuple):
    """The orders of a page that are not gone; `why` is the reason why it may have others, "" if it has all."""

    orders: tuple[Order, ...]
    why: str = ""
    cursor: str = ""  # of the next page
    full: str = ""  # why another page may follow that nobody can request; the page itself was read


def read_page(order_list: OrderList, reply: Reply, read_order: ReadOrder) -> ListPage:
    """Read a page; an order that cannot be read, or an error beside the orders, makes it incomplete and hides none."""
    name = order_list.name
    items = order_list.items(reply.data)
    if not isinstance(items, list):
        return ListPage((), f"the {name} list cannot be read" if reply.ok else reply.evidence)
    orders: list[Order] = []
    unreadable = 0
    for item in items:  # there may be thousands
        order = read_order(item)
        if order is None:
            unreadable += 1
        elif order.state is not OrderState.GONE:
            orders.append(order)
    if not reply.ok:
        return ListPage(tuple(orders), reply.evidence)
    why = f"the {name} list cannot be read: {unreadable} of {len(items)} orders" if unreadable else ""
    is_full = 0 < order_list.full <= len(items)
    full = f"the {name} list is full: {len(items)} orders, there may be more" if is_full else ""
    return ListPage(tuple(orders), why, order_list.cursor(reply.data), full)


class ListReader:
    """Request an account's lists, and process their pages."""

    def __init__(
        self,
        lists: Sequence[OrderList],
        read_order: ReadOrder,
        calls: CallStarter,
        book: OrderBook,
        read_backs: ReadBackRunner,
        second_route: SecondRoute,
        why_not_ready: Callable[[Route], str],
    ) -> None:
        """Make a reader; `why_not_ready` returns why a lane whose probe succeeds cannot carry a kill, else ""."""
        self.read_order = read_order
        self.book = book
        self.read_backs = read_backs
        self.why_not_ready = why_not_ready
        self.by_name = {each.name: each for each in lists}
        self._calls = calls
        self._second_route = second_route
        book.lists = tuple(self.by_name)
        self._turn = 0  # of the list that the next probe reads
        self.is_read_seldom = False  # a lighter request probes: a list that cannot be read keeps the lane unready
        self.troubles: dict[str, str] = {}  # list → why it could not be read last, without a kill

    @property
    def is_single(self) -> bool:
        """Whether one list shows every order."""
        return len(self.by_name) == 1

    def read(self, now: Instant, *, urgent: bool) -> Outputs:
        """Request every list; ends in one `OrdersRead`."""
        read = ReadBack(now.mono_ns, set(self.by_name), urgent)
        return tuple(
            output
            for each in self.by_name.values()
            for output in self.request(ListPart(each.name, read, each, self), now)
        )

    def request(self, part: ListPart, now: Instant, cursor: str = "") -> Outputs:
        """Request the page of a read-back's list that `part` waits for."""
        return self._calls.start_call(
            "orders",
            part.order_list.page(cursor),
            now,
            urgent=part.read.urgent,
            second_route_after_s=self._second_route.read_s,
            context=part,
            on_loss=part.on_loss,
        )

    def on_page(self, part: ListPart, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Add a page to its read-back's list, and request the next page or end the list."""
        page = read_page(part.order_list, reply, self.read_order)
        if part.read.urgent or reply.pause_s:
            lane: Outputs = ()
        else:
            lane = self._note_read(part.name, page.why, is_key_refused=reply.key_refused)
        orders, trouble = part.earlier + page.orders, part.trouble or page.why or page.full
        if page.cursor and part.number < MAX_PAGES:
            part.read.orders.update((order.id, order) for order in page.orders)  # a page that is late hides none
            following = part._replace(number=part.number + 1, earlier=orders, trouble=trouble)
            return (*lane, *self.request(following, now, page.cursor))
        if page.cursor and not trouble:
            trouble = f"the {part.name} list has over {MAX_PAGES} pages: there may be more"
        return (*lane, *self.end_list(part, orders, trouble, now))

    def on_page_lost(self, part: ListPart, call: PendingCall, why: str, now: Instant) -> Outputs:
        """End a list whose page will not come, with the orders of the pages before."""
        lane = () if part.read.urgent else self._note_read(part.name, why)
        return (*lane, *self.end_list(part, part.earlier, why, now))

    def _note_read(self, name: str, why: str, *, is_key_refused: bool = False) -> Outputs:
        """Note the end of a list's read that no kill waits for; return that the lane is not ready, if it is not."""
        self.note_trouble(name, why)
        if not why or not self.is_read_seldom:
            return ()
        return (NotReady(Route.HTTP, 0, why, fatal=is_key_refused),)

    def end_list(self, part: ListPart, orders: Sequence[Order], why: str, now: Instant) -> Outputs:
        """Pass a list's orders to its read-back; `why` is the reason why there may be more, "" if it is whole."""
        why = f"{part.name}: {why}" if why else ""
        return self.read_backs.take_list(part.read, part.name, orders, why, now)

    def probe(self, now: Instant) -> Outputs:
        """Request the first page of the next list in turn, and of stale lists; each ends in `Ready` or `NotReady`."""
        names = tuple(self.by_name)  # an adapter may leave lists out
        next_name = names[self._turn % len(names)]
        self._turn += 1
        due = dict.fromkeys((next_name, *self.book.stale))
        return tuple(output for name in due for output in self.probe_list(name, now))

    def probe_list(self, name: str, now: Instant) -> Outputs:
        """Request the first page of a list as a probe."""
        part = ProbePart(self.by_name[name], self)
        return self._calls.start_call("probe", part.order_list.page(""), now, context=part, on_loss=part.on_loss)

    def note_trouble(self, name: str, why: str) -> None:
        """Keep why a list could not be read without a kill; "": it could."""
        self.troubles.pop(name, None)
        if why:
            self.troubles[name] = why

    def lane(self, why: str, *, is_key_refused: bool) -> Ready | NotReady:
        """Return the state of the HTTP lane after a probe; `why` is what keeps a list, or the probe, from its answer.

        A reason of the account's own, for example a key without the right, is final, as a refused key is.
        """
        own = "" if why else self.why_not_ready(Route.HTTP)
        if not why and not own:
            return Ready(Route.HTTP, 0)
        return NotReady(Route.HTTP, 0, why or own, fatal=is_key_refused or not why)

    @property
    def trouble(self) -> str:
        """Why the lists cannot all be read, as far as this has been tried; "": nothing is known against them."""
        return next(iter(self.troubles.values()), "")

    def read_alongside(self, now: Instant) -> Outputs:
        """Request every list beside a strike, for the orders that it hits; nothing waits for the answers.

        While an earlier such request is not answered, request nothing.
        """
        if any(call.kind == BESIDE for call in self._calls.pending.values()):
            return ()
        outputs: Outputs = ()
        for each in self.by_name.values():
            part = AlongsidePart(each, self)
            outputs += self._calls.start_call(
                BESIDE,
                each.page(""),
                now,
                urgent=True,
                second_route_after_s=self._second_route.cancel_s,
                context=part,
                on_loss=part.on_loss,
            )
        return outputs


class ListPart(NamedTuple):
    """A page of a read-back's list; `ReadBackRunner.report_late_list` reads the first two."""

    name: str
    read: ReadBack
    order_list: OrderList
    reader: ListReader
    number: int = 1  # of the page
    earlier: tuple[Order, ...] = ()  # the orders of the pages before
    trouble: str = ""  # why one of these was incomplete

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.reader.on_page(self, call, reply, replied, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.reader.on_page_lost(self, call, why, now)


class ProbePart(NamedTuple):
    """A list that keeps the HTTP lane warm, and proves the key."""

    order_list: OrderList
    reader: ListReader

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        reader, name = self.reader, self.order_list.name
        orders, why, cursor, full = read_page(self.order_list, reply, reader.read_order)
        reader.note_trouble(name, why)
        lane = reader.lane(why or (reader.trouble if reader.is_read_seldom else ""), is_key_refused=reply.key_refused)
        trouble = isinstance(lane, NotReady)
        whole = not (why or cursor or full)
        if whole and reader.is_single:
            read = ReadBack(call.asked_ns, set(), urgent=False)
            return (lane, *reader.read_backs.take_list(read, name, orders, "", now))
        seen = reader.book.apply_probe(name, orders, call.asked_ns, whole=whole)
        return (lane, *seen, *(() if trouble else reader.read_backs.look_over(now)))

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        self.reader.note_trouble(self.order_list.name, why)
        return (NotReady(Route.HTTP, 0, why),)


class AlongsidePart(NamedTuple):
    """A list that is read beside a strike."""

    order_list: OrderList
    reader: ListReader

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        orders = read_page(self.order_list, reply, self.reader.read_order).orders
        self.reader.book.note_open((order.id for order in orders), call.asked_ns)
        return self.reader.book.apply_listing(self.order_list.name, orders, call.asked_ns, whole=False)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()


class LookUpPart(NamedTuple):
    """The look-up of one order or of several; `ReadBackRunner.looked_up` reads the first two."""

    read: ReadBack | None
    ids: tuple[str, ...]
    read_backs: ReadBackRunner
    read_item: Callable[[Any, str], Order | None]  # a reply's data and an order's id → the order

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        if reply.not_found and len(self.ids) == 1:
            if self.read_backs.is_new(self.ids[0], now):
                return self.read_backs.looked_up(call, (), f"it may be too new: {reply.evidence}", now)
            gone = Order(self.ids[0], "", OrderState.GONE, "not found")  # the venue's words may name a cancel
            return self.read_backs.looked_up(call, (gone,), "", now)
        if not reply.ok:
            is_final = reply.outcome is ReplyOutcome.REFUSED and not reply.key_refused
            return self.read_backs.looked_up(call, (), reply.evidence, now, ask_alone=is_final)
        items = ((order_id, self.read_item(reply.data, order_id)) for order_id in self.ids)
        orders = [order for order_id, order in items if order is not None and order.id == order_id]
        return self.read_backs.looked_up(call, orders, "the answer cannot be read", now, ask_alone=True)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.read_backs.looked_up(call, (), why, now)
