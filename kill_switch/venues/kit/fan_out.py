"""Cancel an account's orders symbol by symbol, where the venue has no account-wide cancel.

An adapter owns one `FanOut`. It yields the commands of strikes, for the symbols with the most orders first, and counts
the commands of the next strike. It sends nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

from kill_switch.core.domain import Instant, Order
from kill_switch.venues.kit.batches import TryCounter
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.order_list import ListPage, OrderList, ReadOrder, read_page
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.strike import CancelCommand, LeftOut, StrikeStep

FIND = "find"  # the kind of the calls for the lists of a strike
MAX_PAGES = 50  # pages of a list that a strike reads at most: a venue's cursor must not lead on for ever

SymbolCommands = Callable[[str], Sequence[CancelCommand]]
_symbol_of = attrgetter("symbol")


class FanOut:
    """The symbols of one account's orders, and the commands that cancel them.

    A strike cancels by each symbol of the book, and reads the lists beside that. It cancels by a symbol that only a
    list shows as soon as the list comes. The first symbol's commands precede the lists, the other symbols' commands
    follow them. With more commands than connections, only the symbols with the fewest orders wait.
    """

    def __init__(
        self,
        book: OrderBook,
        commands: SymbolCommands,
        lists: Sequence[OrderList],
        read_order: ReadOrder,
        *,
        commands_each: int = 1,
        list_lag_s: float = 0.0,
    ) -> None:
        """`commands` returns the `commands_each` commands that together cancel every order of a symbol.

        It is called once a symbol, before a kill if a list has shown the symbol; a strike then signs and sends only.
        `lists` together show every order, as it was up to `list_lag_s` seconds before. `read_order` is the adapter's.
        """
        self._book = book
        self._make = commands
        self._commands_of: dict[str, Sequence[CancelCommand]] = {}  # by symbol
        self._lists = tuple(lists)
        self._read_order = read_order
        self._commands_each = commands_each
        self._lag_ns = round(list_lag_s * 1e9)
        self._tries = TryCounter()
        self._first = ""  # the symbol that had the most orders when they were counted last
        book.on_whole_list = self.look_ahead

    def symbols(self) -> list[str]:
        """Return the symbols of a kill's first strike: those of the book, with the most orders first.

        Then come those whose orders only a list has omitted, that may lag.
        """
        return list(dict.fromkeys([*self._ranked(), *self._book.rounds.omitted_symbols(self._lag_ns)]))

    def _ranked(self) -> list[str]:
        return _ranked(self._book.orders.values())

    def look_ahead(self) -> None:
        """Note the symbol that a strike begins with, and make the commands: a kill then need not wait for either."""
        ranked = self._ranked()
        self._first = next(iter(ranked), "")
        self._commands_of = {symbol: self._commands(symbol) for symbol in ranked}

    def _commands(self, symbol: str) -> Sequence[CancelCommand]:
        """Return the commands of a symbol."""
        if symbol not in self._commands_of:
            self._commands_of[symbol] = self._make(symbol)
        return self._commands_of[symbol]

    def count_calls(self) -> int:
        """Return how many commands and lists the next strike would have now, for `Adapter.strike_calls`."""
        symbols = set(map(_symbol_of, self._book.orders.values())).union(
            self._book.rounds.omitted_symbols(self._lag_ns)
        )
        symbols.discard("")
        return len(symbols) * self._commands_each + len(self._lists)

    def strike(self, now: Instant, *, lists: bool = True, is_first: bool = True) -> Iterator[StrikeStep]:
        """Yield the commands of one strike, each as it is built; with `lists`, read the lists too.

        `now` is the moment of the strike. `is_first`: it is a kill's first, of all `symbols`; a later one has those of
        the book. The second symbol is looked at only when the first symbol's commands have been taken.
        """
        strike = _StrikeBySymbol(self._book, self._commands, self._read_order, now)
        yield from strike.cancel(self._begin_with())
        yield from strike.steps(self.symbols() if is_first else self._ranked(), self._lists if lists else ())

    def strike_again(self, now: Instant, most: int, *, may_find: bool) -> Iterator[StrikeStep]:
        """Yield the commands of a strike that follows another, for `most` symbols, the least tried first.

        The symbol with the most orders is cancelled in any case. The lists are read where no symbol is known, if
        `may_find`.
        """
        strike = _StrikeBySymbol(self._book, self._commands, self._read_order, now)
        yield from strike.cancel(self._begin_with())
        symbols = self._tries.choose(self._ranked(), most)
        yield from strike.steps(symbols, self._lists if may_find and not symbols else ())

    def _begin_with(self) -> tuple[str, ...]:
        """Return the symbol that had the most orders, if it still has one: with thousands, to count them takes long."""
        known = self._first and any(order.symbol == self._first for order in self._book.orders.values())
        return (self._first,) if known else ()


class _StrikeBySymbol:
    """A strike in progress, and the symbols by which it has cancelled."""

    __slots__ = ("_book", "_commands", "_now", "_read_order", "_struck")

    def __init__(self, book: OrderBook, commands: SymbolCommands, read_order: ReadOrder, now: Instant) -> None:
        self._book = book
        self._commands = commands
        self._read_order = read_order
        self._now = now
        self._struck: set[str] = set()

    def steps(self, symbols: Sequence[str], lists: Iterable[OrderList]) -> Iterator[StrikeStep]:
        if not self._struck:
            yield from self.cancel(symbols[:1])
        for order_list in lists:
            yield self._find(order_list)
        yield from self.cancel(symbols)
        if unnamed := sum(not order.symbol for order in self._book.orders.values()):
            yield LeftOut(f"{unnamed} order(s) whose symbol is unknown")

    def cancel(self, symbols: Iterable[str]) -> Iterator[StrikeStep]:
        """Yield the commands of the symbols by which the strike has not cancelled yet."""
        for symbol in symbols:
            if symbol not in self._struck:
                self._struck.add(symbol)
                yield from self._commands(symbol)

    def _find(self, order_list: OrderList, cursor: str = "", number: int = 1) -> CancelCommand:
        """Return the command that reads a page of a list, and cancels by the symbols that the strike lacks."""

        def judge(reply: Reply) -> CancelResult:
            page = read_page(order_list, reply, self._read_order)
            if page.cursor and number >= MAX_PAGES and not page.why:
                page = page._replace(why=f"the {order_list.name} list has over {MAX_PAGES} pages: there may be more")
            why = page.why or page.full
            if reply.ok and why:
                reply = reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=why)
            return CancelResult(reply._replace(data=page))

        def follow(reply: Reply, then: Instant) -> Iterator[StrikeStep]:
            page: ListPage = reply.data
            yield from self.cancel(_ranked(page.orders))
            if page.cursor and number < MAX_PAGES:
                yield self._find(order_list, page.cursor, number + 1)
            # only a read-back ends the orders that a list lacks
            yield from self._book.apply_listing(order_list.name, page.orders, self._now.mono_ns, whole=False)

        return CancelCommand(FIND, order_list.page(cursor), judge, follow, reads=True, line=order_list.line)


def _ranked(orders: Iterable[Order]) -> list[str]:
    """Return the symbols of orders, those with the most orders first."""
    counts = Counter(map(_symbol_of, orders))  # there may be thousands, and the first command waits for this
    counts.pop("", None)
    return sorted(counts, key=counts.__getitem__, reverse=True)
