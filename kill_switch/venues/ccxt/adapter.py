"""Speak to a venue through ccxt: a profile's requests, which ccxt signs, on the account's own HTTP lane.

There is no WebSocket: lists alone show orders. A strike sends every command of the account's products. Where a venue
cancels by symbol, it sends them for each symbol of the book, and reads the lists beside that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import chain
from typing import Any, ClassVar

from kill_switch.core.domain import Instant, Order, Route, SweepTiming
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.ccxt import library
from kill_switch.venues.ccxt.codec import Codec
from kill_switch.venues.ccxt.ids.common import REQUESTS
from kill_switch.venues.ccxt.offered import OFFERED
from kill_switch.venues.ccxt.options import CcxtOptions, options_of
from kill_switch.venues.ccxt.profile import Cancel, Endpoint, IdProfile, Listing, Part, Path, value_at
from kill_switch.venues.ccxt.refused import REFUSED
from kill_switch.venues.ccxt.replies import cursor_of, items_of, judge_cancel, read_order, split_by_reach
from kill_switch.venues.decode import header_safe
from kill_switch.venues.kit.calls import Build, PendingCall
from kill_switch.venues.kit.fan_out import FanOut
from kill_switch.venues.kit.nonce_watch import HINT, NonceWatch
from kill_switch.venues.kit.order_list import OrderList
from kill_switch.venues.kit.order_names import OrderNames
from kill_switch.venues.kit.pools import Cost, Demand, Pool
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.sessions import Message
from kill_switch.venues.kit.strike import CancelCommand, StrikeStep
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.messages import Output, Outputs, Replied

PREFIX = "ccxt:"  # of the venues' names
READ_AFTER_S = 0.1  # seconds from an answer to the read-back: how fast lists follow the engine is not documented
READ_GAP_S = 0.5  # seconds between two reads
STRIKE_GAP_S = 1.0
HEAVY = 40.0  # units of a list that many programs of an address could not read four times a minute
HEAVY_WARM_EVERY_S = 45.0
ALSO_NOT_COVERED = (
    "the account's equity: a pnl trigger cannot watch it",
    "orders that no list of these shows: algos, grids and copy trading that place orders again",
)
SYMBOLS_AGAIN = 8  # of a strike that follows another: each takes a request of the venue's limit; 1 while it refuses


class CcxtAccount(KitAdapter[CcxtOptions]):
    """An account at a venue that ccxt knows; a subclass has the profile of its id."""

    PROFILE: ClassVar[IdProfile]
    PUSHES_ORDERS: ClassVar[bool] = False
    MEASURES_EQUITY: ClassVar[bool] = False
    OVER_LIMIT: ClassVar[frozenset[int]] = frozenset((418, 429))
    SCOPE: ClassVar[tuple[str, ...]] = ("products",)

    @classmethod
    def secrets(cls, options: CcxtOptions) -> tuple[str, ...]:
        return cls.PROFILE.secrets

    @classmethod
    def why_unusable(cls) -> tuple[str, str]:
        why = library.why_unusable()
        return (why, library.INSTALL) if why else ("", "")

    @classmethod
    def not_covered(cls, options: CcxtOptions) -> tuple[str, ...]:
        left_out = [name for name in cls.PROFILE.products if name not in options.products]
        return (*(f"{name} orders: not in products" for name in left_out), *cls.NOT_COVERED)

    @classmethod
    def pools(cls, options: CcxtOptions) -> tuple[Pool, ...]:
        return (options.parts[0].pool or cls.PROFILE.pool,)

    @classmethod
    def demand(cls, options: CcxtOptions) -> Demand:
        parts = options.parts
        harmless = parts[0].harmless
        lists = tuple(part.target(listing.endpoint) for part in parts for listing in part.lists)
        cancels = tuple(part.target(cancel.endpoint) for part in parts for cancel in part.cancels)
        drill = () if harmless is None else (parts[0].target(harmless),)
        ping = tuple(part.target(part.ping) for part in parts[:1] if part.ping is not None)
        return Demand(read=lists, probe=lists[:1], equity=(), drill=drill, strike=cancels, keep_open=ping)

    @classmethod
    def timing(cls, options: CcxtOptions) -> SweepTiming:
        lag_s = max(part.list_lag_s for part in options.parts)
        return SweepTiming(
            clean_reads=2,
            read_after_s=READ_AFTER_S,
            read_gap_s=max(READ_GAP_S, lag_s / 2),
            strike_gap_s=STRIKE_GAP_S,
            residue_after_s=10.0 + 1.75 * lag_s,
            list_lag_s=lag_s,
        )

    def __init__(self, options: CcxtOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        profile, parts = self.PROFILE, options.parts
        if "api_key" in secrets:
            header_safe("api_key", secrets["api_key"])
        self._codec = codec = Codec(
            profile, parts[0].host, options.rest_url, secrets, options.settings, self.clock, self.evidence
        )
        self._names = OrderNames()
        self._usage_header = parts[0].usage_header
        self._not_there: tuple[Path, str] | None = None
        self._replied = Replied("", 0, {}, b"", 0)  # the answer that is judged
        self._is_time_off = False  # its request was signed with a time that the venue does not accept
        self.nonce_watch = NonceWatch() if profile.clock_window_s is None and profile.is_rising else None
        self._wide = tuple((part, cancel) for part in parts if not part.is_by_symbol for cancel in part.cancels)
        by_symbol = tuple((part, cancel) for part in parts if part.is_by_symbol for cancel in part.cancels)
        if self._wide:
            self.account_wide = self._command(*self._wide[0])
        self.lists = tuple(self._order_list(part, listing) for part in parts for listing in part.lists)
        if by_symbol:
            self.fan_out = FanOut(
                self.book,
                lambda symbol: tuple(self._command(*each, symbol) for each in by_symbol),
                self.lists,
                self.read_order,
                commands_each=len(by_symbol),
                list_lag_s=self.timing(options).list_lag_s,
            )
        ping = next((part.ping for part in parts if part.ping is not None), None)
        self.keep_open = None if ping is None else codec.build(ping)
        if parts[0].harmless is not None:
            self.harmless = codec.build(parts[0].harmless)
            self._not_there = parts[0].not_there
            self.drill_routes = (Route.HTTP,)
        codec.try_to_sign(parts[0].cancels[0].endpoint)
        self.assemble()
        self.read_backs.lag_ns = round(self.timing(options).list_lag_s * 1e9)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _command(self, part: Part, cancel: Cancel, symbol: str = "") -> CancelCommand:
        line = part.line(cancel.endpoint)
        return CancelCommand(
            cancel.endpoint.path,
            self._codec.build(cancel.endpoint, symbol=symbol),
            partial(judge_cancel, cancel.answer),
            line=line.replace("{symbol}", symbol) if symbol else line,
        )

    def _order_list(self, part: Part, listing: Listing) -> OrderList:
        return OrderList(
            listing.name,
            partial(self._page, listing),
            partial(self._items, listing),
            partial(cursor_of, listing),
            full=0 if listing.cursor else listing.full,
            line=part.line(listing.endpoint),
        )

    def _items(self, listing: Listing, data: Any) -> object:
        """Return the orders of a page that can be cancelled, and state how many others it has."""
        items = items_of(listing, data)
        if isinstance(items, list) and listing.out_of_reach is not None:
            items, self.out_of_reach = split_by_reach(items, *listing.out_of_reach)
        return items

    def _page(self, listing: Listing, cursor: str) -> Build:
        if not cursor:
            return self._codec.build(listing.endpoint)
        return self._codec.build_page(listing.endpoint, listing.cursor_param, cursor)

    # ── a kill ────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancels(self, now: Instant) -> Iterator[StrikeStep]:
        yield from self._account_wide()
        if self.fan_out is not None:
            yield from self.fan_out.strike(now)

    def _account_wide(self) -> Iterator[CancelCommand]:
        """Yield the commands that need no symbol; the first of them may have left early."""
        for index, each in enumerate(self._wide):
            yield self._command(*each) if index or self.account_wide is None else self.account_wide

    def strike_calls(self) -> int:
        calls = len(self._wide) + super().strike_calls()
        return calls if self.fan_out is not None or calls > self.CONNECTIONS else 0

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        fan_out, is_first = self.fan_out, number == 1
        if fan_out is None:
            yield from super().strike(now, number)
            return
        is_refused = bool(self.budget.refused_ns and self.budget.named_pause_s(now))  # to go on may lead to a ban
        most = 1 if is_refused else SYMBOLS_AGAIN
        by_symbol = fan_out.strike(now) if is_first else fan_out.strike_again(now, most, may_find=not is_refused)
        steps = chain(self._account_wide(), by_symbol)
        yield from self.striker.strike(steps, now, is_later=not is_first, is_wide=True)

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        self._replied = reply
        self._is_time_off = self._codec.is_time_off(reply, call, now)
        return super().on_reply(call, reply, now)

    def read_reply(self, status: int, body: Any) -> Reply:
        return self._codec.judge(self._replied, body, is_time_off=self._is_time_off)

    def read_order(self, item: object) -> Order | None:
        return read_order(self._names, item)

    def is_drill_passed(self, reply: Reply) -> bool:
        path, word = self._not_there or ((), None)
        return reply.not_found or (reply.ok and word is not None and value_at(reply.data, path) == word)

    def usage(self, reply: Replied) -> Iterable[tuple[str, float]]:
        used = reply.headers.get(self._usage_header, "") if self._usage_header else ""
        return ((REQUESTS, float(used)),) if used.isascii() and used.isdigit() else ()

    def note_judged(self, call: PendingCall, reply: Reply, now: Instant) -> Reply:
        watch = self.nonce_watch
        if watch is None:
            return reply
        if reply.ok or reply.not_found:
            watch.on_accepted()
        elif reply.outcome is ReplyOutcome.WRONG_TIME:
            watch.on_refusal(now)
            if watch.is_outrun:
                return reply._replace(evidence=f"{reply.evidence}: {HINT}")
        return reply

    def on_wrong_time(self, reply: Replied, tries: int, now: Instant) -> None:
        if self.PROFILE.clock_window_s is None:
            self._codec.nonce.note_refusal(tries)
        else:
            super().on_wrong_time(reply, tries, now)

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        return ()  # there is no WebSocket


@lru_cache(maxsize=256)
def adapter_of(exchange_id: str) -> type[CcxtAccount]:
    """Return the adapter class of an id that is offered; raise KeyError for any other."""
    profile = OFFERED[exchange_id]
    products = profile.products.values()
    cancels = [(part, cancel.endpoint) for part in products for cancel in part.cancels]
    lists = [(part, listing.endpoint) for part in products for listing in part.lists]
    is_heavy = any(endpoint.weight >= HEAVY for _, endpoint in lists)
    facts = {
        "__doc__": f"One account at {profile.venue}, through ccxt.",
        "NAME": f"{PREFIX}{exchange_id}",
        "PROFILE": profile,
        "Options": options_of(profile),
        "CLOCK_WINDOW_S": profile.clock_window_s,
        "READS_ALONGSIDE": any(
            not part.is_by_symbol and cancel.answer.ids_at is None for part in products for cancel in part.cancels
        ),
        "WARM_EVERY_S": HEAVY_WARM_EVERY_S if is_heavy else CcxtAccount.WARM_EVERY_S,
        "COSTS": tuple(_costs([*cancels, *lists])),
        "DRILLS": (),
        "COMMANDS": tuple(part.line(endpoint) for part, endpoint in cancels),
        "COVERED": (profile.covered, f"proven by {', '.join(part.line(endpoint) for part, endpoint in lists)}"),
        "NOT_COVERED": (*profile.not_covered, *ALSO_NOT_COVERED),
        "GUESSES": profile.all_guesses,
        "SOURCED": profile.sourced,
        "SECRET_FORMS": {name: form.words for name, form in profile.secret_forms.items()},
        "OWN_ADAPTER": profile.own_adapter,
    }
    return type(f"Ccxt{exchange_id.capitalize()}", (CcxtAccount,), facts)


def _costs(requests: Iterable[tuple[Part, Endpoint]]) -> Iterator[Cost]:
    """Yield the requests that take more than one unit of their pool."""
    for part, endpoint in requests:
        if endpoint.weight != 1:
            yield Cost(endpoint.method, f"{part.prefix}{endpoint.path}", ((REQUESTS, endpoint.weight),))


class CcxtVenues(Mapping[str, type[Adapter]]):
    """Adapter classes by their venue's name: others, and those of the offered ids, each made when it is used."""

    def __init__(self, others: Mapping[str, type[Adapter]]) -> None:
        self._others = others

    def __getitem__(self, name: str) -> type[Adapter]:
        return adapter_of(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else self._others[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        yield from (f"{PREFIX}{exchange_id}" for exchange_id in OFFERED)

    def __len__(self) -> int:
        return len(self._others) + len(OFFERED)


def why_not_offered(name: str) -> str:
    """Return why a venue's name is an id of ccxt that is not offered; "" if it is no such id."""
    return REFUSED.get(name.removeprefix(PREFIX), "") if name.startswith(PREFIX) else ""
