"""Be one account at its venue: the strict simulator without its sockets, its true book, and what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from kill_switch.config.accounts import AccountConfig as Configured
from kill_switch.config.secrets import Secrets
from kill_switch.core.domain import Route, SweepTiming
from kill_switch.core.identity import Login
from kill_switch.sim.binance.venue import Binance
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.protocol import Request, SimAnswer, Understood
from kill_switch.sim.kit.venue import Venue
from kill_switch.sim.main import VENUES as SIMULATORS
from kill_switch.testbed.config_files import THROUGH_CCXT, through_ccxt
from kill_switch.venues import EVERY_VENUE
from kill_switch.venues import VENUES as ADAPTERS
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import Call

from .network import Link, Weather
from .scheduler import World

if TYPE_CHECKING:
    from .daemon_under_test import Life
    from .oracle import Judge

HEDGE_AFTER_S = 0.06
FEW_REQUESTS = 500  # of a limit: a kill can use them up
SALT = "5a17"  # the same one each time: a seed tells the same story
INFERRED = "/v1/api/orders"  # a path of CrossTrade's that is not documented
NO_MORE = (
    b'"20007"',
    b"Exceeded msg rate",
    b'"code":10028',
    b'"code":-1003',
)  # what a refusal for too many messages says where its status does not
WIDE = ("CancelOrders", "cancel_all", "private/cancel_all", "openOrders.cancelAll")
"""Frames that cancel everything, or everything of a symbol."""
BY_SYMBOL = ("binance-coinm", "binance-spot", "binance-usdm")  # venues without a cancel of everything
SYMBOLS = 5  # that orders of an account are in, at such a venue
NO_ORDER = f"orderId={2**63 - 1}"  # a cancel of it looks whether cancels get through
CCXT = {through: name for name, through in THROUGH_CCXT.items()}  # venues through ccxt → their simulators
VENUES = tuple(sorted({*ADAPTERS} & {*SIMULATORS}))
"""The venues that have both an adapter and a simulator."""


class Book(dict[str, Order]):
    """An account's open orders, with the true time at which each came to rest."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__()
        self.born_ns: dict[str, int] = {}
        self._world = world
        self._name = name

    def __setitem__(self, order_id: str, order: Order) -> None:
        self.born_ns[order_id] = self._world.ns
        self._world.note(self._name, "rests", order_id, order.kind)
        super().__setitem__(order_id, order)

    def older_than(self, ns: int) -> list[str]:
        """Return the orders that rested before; one that is about to trigger rests no more, and comes back as new."""
        return [one for one, order in self.items() if self.born_ns[one] < ns and order.state != "TRIGGERING"]


class _Watched(Venue):
    """Put into a simulator, ahead of its own class: note what it refuses for too many requests."""

    house: House

    def shows(self, order: Order) -> bool:
        """Hide an order from lists only if its push has reached us: what nobody was told, nobody can know."""
        if order.id in self.hidden and order.id not in self.house.heard_ids:
            self.hidden.discard(order.id)  # for good: what a list has shown once, a list covers
        return super().shows(order)

    def throttle(self, connection: Any, request: Request) -> SimAnswer | None:
        answer = super().throttle(connection, request)  # type: ignore[safe-super]
        if answer is not None:
            self.house.refused_for_rate(f"{request.method} {request.path}")
        return answer

    def parse_message(self, session: Any, message: str | bytes) -> Understood:
        heard = super().parse_message(session, message)  # type: ignore[safe-super]
        answer = heard.answer
        if answer is not None and answer.bodies and any(sign in answer.bodies[0] for sign in NO_MORE):
            self.house.refused_for_rate(f"message {heard.operation}")
        return heard


_KINDS = {name: type(f"Watched{kind.__name__}", (_Watched, kind), {}) for name, kind in SIMULATORS.items()}
_UNAVAILABLE = ("gone", "overloaded", "unknown", "unavailable", "internal")
_OPTIONS = {
    **dict.fromkeys(
        ("binance-coinm", "binance-usdm"),
        (("auth", ("hmac", "ed25519")), ("nothing", ("200", "-2011")), ("dead_key", ("silent", "refuse")),
         ("listen_key_s", (20.0, 3600.0)), ("sweep_reaches_algo", (False, True)), ("race", (0, 2)),
         ("trigger_ms", (0.0, 700.0, 6000.0)), ("triggering_listed", (False, True)), ("unavailable", _UNAVAILABLE)),
    ),
    "binance-spot": (("auth", ("hmac", "ed25519")), ("tells_end", (True, False)), ("race", (0, 2)),
                     ("unavailable", _UNAVAILABLE)),
    "crosstrade": (("nothing", ("empty", "warning", "400")), ("lists_terminal", (True, False)),
                   ("order_events", (False, True)), ("ws_errors", ("error", "data", "data-old")),
                   ("errors", ("new", "old")), ("nt_accounts", ("Sim101", "Sim101,Sim102"))),
    "deribit": (("token_in_params", (True, False)), ("expires_in", (120, 900)), ("limited", ("close", "drop")),
                ("tier", ("T1", "unlimited")), ("error_status", (0, 200)), ("echoes", (False, True)),
                ("cross_collateral", (False, True))),
    "kraken": (("token_kept", (False, True)), ("token_single", (False, True)), ("token_s", (120, 900)),
               ("nonce_window", (0, 5000)), ("cancel_all_charged", (False, True)), ("tier", ("pro", "unlimited"))),
    "kraken-futures": (("unified", (True, False)), ("token_s", (120, 900)), ("nonce_window", (0, 100))),
    "kuna": (("wrap", (True, False)), ("id_key", ("id", "orderId")), ("active_has_stops", (False, True)),
             ("auth", ("api-key", "hmac")), ("nonce", ("increasing", "unique", "any")),
             ("numbered_pushes", (False, True)), ("token", ("before", "after", "none")), ("batch_max", (0, 0, 2))),
    "oxfun": (("engine_ms", (5.0, 0.0, 60.0)), ("greeting", (True, False)), ("nonce_unique", (False, True)),
              ("error_status", (0, 200))),
    "roxom": (("engine_ms", (0.0, 30.0)), ("cancel_all_includes_stops", (True, False)), ("fields", ("new", "old")),
              ("path_prefix", ("/api/v1", "/v1"))),
}  # fmt: skip


class House:
    """One account, its venue and the network between."""

    def __init__(
        self,
        world: World,
        name: str,
        kind: str,
        judge: Judge,
        chance: Random,
        options: Mapping[str, object] | None = None,
    ) -> None:
        """Make it; `options` of the simulator go before those that are drawn."""
        self.through = kind if kind in CCXT else ""  # the venue that serves it through ccxt; "": none does
        kind = CCXT.get(kind, kind)
        self.world, self.name, self.kind, self.judge = world, name, kind, judge
        self.host = f"{name}.test"
        self.sight_ns = -(10**18)  # when an account of it was last put out of sight, or back
        self.weather = Weather()
        self.links: set[Link] = set()
        self._link_number = 0
        self.heard_ns = 0  # when the last frame of the venue's came
        self.heard_ids: set[str] = set()  # unlisted orders that the process which lives has been told of
        settings = SIMULATORS[kind].options_type()
        for option, choices in _OPTIONS[kind]:
            if chance.random() < 0.5:
                settings.set(option, str(chance.choice(choices)), starting=True)
        if kind == "roxom":
            settings.set("auth", "api-key", starting=True)  # RSA is as slow as all the rest of a seed
        if kind == "deribit":
            settings.set("connections", "0", starting=True)  # the lives' second routes keep theirs until the answer
        settings.set_all(options or {}, starting=True)
        self.venue: Venue = _KINDS[kind](settings, 1)
        self.venue.house = self
        self.lag_s = 0.0  # the lists show the account as it was up to so long ago
        self.account: Account = self.venue.account()
        self.book = Book(world, name)
        self.account.open = self.book

    @property
    def remembers(self) -> bool:
        """The venue takes no nonce below its highest: whoever signed with a clock that ran ahead is locked out.

        The adapter gets over that while its process lives. Nobody could after a crash, until the time has come.
        """
        options = self.venue.base_options
        if self.kind == "kraken":
            return True
        return getattr(options, "auth", "") == "hmac" and getattr(options, "nonce", "") == "increasing"

    @property
    def patience_s(self) -> float:
        """How long a cancel call may be without an answer before it goes out once more: longer where that costs."""
        return 3.5 if self.kind == "crosstrade" else HEDGE_AFTER_S

    @property
    def configured(self) -> Configured:
        """Return it as the configuration has it."""
        if self.through:
            ready = {"venues": {self.kind: self.venue.urls(self.host)}}
            login = {"credentials": self.account.credentials, "options": {}}
            _, venue, entry = through_ccxt(ready, (self.name, self.kind, login))
            served = EVERY_VENUE[venue]
            plain = served.Options.model_validate(entry["urls"])
            return Configured(self.name, venue, (), plain, Secrets(entry["credentials"]), served)
        kind = ADAPTERS[self.kind]
        options = kind.Options.model_validate({**self.venue.urls(self.host), **self.venue.account_options()})
        return Configured(self.name, self.kind, (), options, Secrets(self.account.credentials), kind)

    def adapter(self) -> Adapter:
        """Make the real adapter, as the configuration would."""
        return self.configured.build_adapter(HEDGE_AFTER_S)

    def paced(self, timing: SweepTiming) -> SweepTiming:
        """Return the planned timing; where lists lag for longer than it says, it says so, as that of a venue would."""
        lag_s = self.lag_s
        if lag_s <= timing.list_lag_s:
            return timing
        return replace(timing, list_lag_s=lag_s, residue_after_s=timing.residue_after_s + lag_s)

    @property
    def awaited_lag_s(self) -> float:
        """Return how long clean reads have to span, because lists may lag for so long."""
        configured = self.configured
        return max(self.lag_s, configured.adapter_class.timing(configured.options).list_lag_s)

    def rest(self, chance: Random, kind: str, category: str = "") -> None:
        """Rest an order, in one of the account's symbols."""
        venue = self.venue
        symbol = chance.choice(venue.symbols[:SYMBOLS]) if self.kind in BY_SYMBOL else venue.symbol
        venue.rest(self.account, 1, symbol, kind, category)

    def first_to_fill(self) -> Order | None:
        """Return the oldest order; a conditional one of an id space of its own triggers, and is never filled itself."""
        return next((order for order in self.book.values() if order.category != "algo"), None)

    @property
    def cancels_by_symbol(self) -> bool:
        """Whether a strike has many commands; their copies wait until an answer can have come."""
        return self.kind in BY_SYMBOL

    @property
    def window_s(self) -> float:
        """Return how long the venue takes to give a limit back that a kill can use up."""
        pools = self.configured.adapter_class.pools(self.configured.options)
        few = max((pool.size / pool.rate for pool in pools if pool.size <= FEW_REQUESTS), default=0.0)
        return max(few, self.loop_s)

    @property
    def loop_s(self) -> float:
        """Return the same of a limit that only processes which crash, one after the other, use up.

        Each reads lists, which cost much where there is no cancel of everything; the venue may ban the address then.
        """
        if not isinstance(self.venue, Binance):
            return 0.0
        pools = self.configured.adapter_class.pools(self.configured.options)
        return max(pool.size / pool.rate for pool in pools) + self.venue.options.ban_s

    @property
    def lag_ns(self) -> int:
        return int(self.lag_s * 1e9)

    def lag(self) -> None:
        """Have lists show the account as it was, from now on at most `lag_s` ago, each time as of another moment."""
        if self.lag_s:
            ago_s = self.world.ids.choice((0.0, 0.5, 1.0, 1.0)) * self.lag_s
            self.venue.clear_faults("stale_reads")
            self.venue.put_fault("stale_reads", {"seconds": ago_s})

    @property
    def login(self) -> Login:
        """Say who it is, as the configuration would."""
        return self.configured.login

    @property
    def mark(self) -> tuple[str, str]:
        """Return the host and the key's digest that are on record of it."""
        identity = self.login.identity(SALT)
        return str(identity["host"]), str(identity["key"])

    def next_link(self) -> int:
        self._link_number += 1
        return self._link_number

    # what our lanes send

    def asks(self, route: Route, call: Call, request: Request) -> None:
        """Take note of a request that leaves on a lane."""
        self.judge.asked(self, f"{request.method} {request.path}")
        known = self.venue.route(request)
        self.world.note(self.name, route, call.tag, request.method, request.path)
        if known is None and (request.path, getattr(self.venue.base_options, "has_orders", True)) != (INFERRED, False):
            self.judge.wrong(f"{self.name}: {request.method} {request.path} is no request that the venue knows")
        elif known is not None and known.kind == "cancel" and NO_ORDER not in request.query:
            self.judge.commanded(self, f"{request.method} {request.path}", call.tag if call.cancel else None)

    def told(self, call: Call, status: int, body: bytes) -> None:
        """Take note of an answer."""
        self.world.note(self.name, "<-", call.tag, status, body[:80])

    def sends(self, life: Life, text: bytes) -> None:
        """Take note of a frame that leaves on the WebSocket lane."""
        self.world.note(self.name, "ws", text[:60])
        self.judge.asked(self, "a frame")
        if b"ancel" in text or b"latten" in text:
            message = orjson.loads(text)
            what = str(message.get("api") or message.get("op") or message.get("method"))
            if "/get_" in what:
                return  # a read whose name speaks of cancels
            self.judge.commanded(self, what, "")
            if what in WIDE:
                self.judge.framed(life, self)

    def hears(self, text: bytes) -> None:
        """Take note of a frame that reaches us."""
        self.heard_ns = self.world.ns
        self.heard_ids.update(one for one in self.venue.hidden if one.encode() in text)

    def refused_for_rate(self, what: str) -> None:
        self.judge.refused_for_rate(self, what)
