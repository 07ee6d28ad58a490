"""Define the facts of a venue that hold for all its accounts: limits, timing, options and secrets.

The configuration and `dispatch.connect` read a `VenueProfile` from the adapter's class. It holds no state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple

from kill_switch.core.domain import Route, SweepTiming
from kill_switch.venues.kit.account_limits import AccountLimits
from kill_switch.venues.kit.cadence import Cadence, plan
from kill_switch.venues.kit.pool_count import PoolCount
from kill_switch.venues.kit.pools import Cost, Demand, Pool
from kill_switch.venues.messages import NOT_PROCESSED, Replied
from kill_switch.venues.options import HttpOptions

if TYPE_CHECKING:  # the default is for type checkers: `Adapter` without an argument is the adapter of any venue
    from typing_extensions import TypeVar

    OptionsT = TypeVar("OptionsT", bound=HttpOptions, default=Any)
else:
    from typing import TypeVar

    OptionsT = TypeVar("OptionsT", bound=HttpOptions)


class Guess(NamedTuple):
    """A fact that decides whether an order survives, and that nobody has confirmed."""

    fact: str
    covered_by: str  # what the adapter does in case the guess is wrong; "nothing: …" if nothing can be done


SHOWN_EVERY_S = 7.5  # 10 s from a venue's last answer until `status` shows its silence, less 2 s for the next answer


class VenueProfile(ABC, Generic[OptionsT]):
    """Hold a venue's facts as class attributes; `OptionsT` is the class of its accounts' options."""

    NAME: ClassVar[str]  # the venue's name in the configuration
    TIMING: ClassVar[SweepTiming] = SweepTiming()  # how fast an account may be struck and read
    WARM_EVERY_S: ClassVar[float] = 15.0  # an idle HTTP connection is used so often, where the limits allow
    IDLE_S: ClassVar[float] = 45.0  # it is used at least that often: servers close one after 60 s, or later
    CONNECTIONS: ClassVar[int] = 2  # of the HTTP lane, always; `strike_calls` may want more
    CONNECTS_PER_S: ClassVar[float] = 10.0  # further connections that all accounts of an address open in a second
    ADDRESS_CONNECTIONS: ClassVar[int] = 0  # connections that the venue allows an address; 0: it states none
    WS_MAX_AGE_S: ClassVar[float] = 12 * 3600.0  # a WebSocket connection is replaced before it is older
    WS_CONNECTIONS: ClassVar[int] = 1  # kept open; the newest that is ready carries commands, and if it ends the next
    WS_OVERLAP: ClassVar[bool] = True  # False: the venue allows one connection, and the old connection closes first
    CURRENCIES: ClassVar[tuple[str, ...]] = ()  # currencies that each `Equity` has; it may have others too
    MEASURE_EVERY_S: ClassVar[float] = 5.0  # or more between two `request_equity`, while a trigger needs it
    CLOCK_WINDOW_S: ClassVar[float | None] = (
        None  # a signature whose time is further off is refused; None: signatures have no time
    )
    PUSHES_ORDERS: ClassVar[bool] = True  # False: only lists show new orders
    NOT_PROCESSED: ClassVar[frozenset[int]] = (
        NOT_PROCESSED  # statuses that count as no answer: the call takes its second route
    )
    OVER_LIMIT: ClassVar[frozenset[int]] = frozenset((429,))  # statuses of a request that exceeds a limit
    BANS: ClassVar[frozenset[int]] = frozenset()  # of those, statuses that refuse every request of the address
    STATUS_ACCEPTS: ClassVar[bool] = True  # a status below 400 accepts a cancel, whatever the answer's text
    DRILLS: ClassVar[tuple[Route, ...]] = (
        Route.WS,
        Route.HTTP,
    )  # lanes that carry a kill: `drill` tries each. `drill_routes` are those of one account
    POOLS: ClassVar[tuple[Pool, ...]] = ()  # the venue's limits; (): unknown
    COSTS: ClassVar[tuple[Cost, ...]] = ()  # the first that matches a request counts; without one it takes 1 of each
    DEMAND: ClassVar[Demand] = Demand()  # the requests of each activity
    LIMITS: ClassVar[type[AccountLimits]] = AccountLimits  # decides when requests wait for room
    COUNT: ClassVar[type[PoolCount]] = PoolCount  # counts a pool; a venue with its own book-keeping has a subclass
    SCOPE: ClassVar[tuple[str, ...]] = ()  # options that select the part of an account that is struck and read
    PARTS: ClassVar[
        tuple[str, ...]
    ] = ()  # options that name sub-accounts: the same login with others is another account
    # secrets with a nonce or a limit of their own at another host → the option that has its address
    OTHER_LOGINS: ClassVar[Mapping[str, str]] = {}
    Options: ClassVar[type[HttpOptions]]  # the class that `OptionsT` names
    SECRET_FORMS: ClassVar[Mapping[str, str]] = {}  # what a secret must be, for people; another one is refused
    # what a kill reaches, in short phrases for people; `kill-switch venues` shows all of it
    COMMANDS: ClassVar[tuple[str, ...]] = ()  # that a kill sends, the widest first
    COVERED: ClassVar[tuple[str, ...]] = ()  # orders that it cancels, and that reads prove gone
    NOT_COVERED: ClassVar[tuple[str, ...]] = ()  # what it does not reach: other parts, machines that place orders again
    GUESSES: ClassVar[tuple[Guess, ...]] = ()
    SOURCED: ClassVar[tuple[tuple[str, str], ...]] = ()  # numbers, each with the document that states it
    OWN_ADAPTER: ClassVar[str] = ""  # the venue that serves the same accounts better; "": there is none
    MEASURES_EQUITY: ClassVar[bool] = True  # `request_equity` or pushes report it: a pnl trigger can watch an account
    VERIFIED: ClassVar[str | None] = None  # date of a proof against the live venue, "2026-11-29"; None: never

    @classmethod
    @abstractmethod
    def secrets(cls, options: OptionsT) -> tuple[str, ...]:
        """Return the names of the secrets that an account with these options needs."""

    @classmethod
    def why_unusable(cls) -> tuple[str, str]:
        """Return why no account of this venue can be used on this machine, and how to mend it; "" and "" if it can."""
        return "", ""

    @classmethod
    def optional_secrets(cls, options: OptionsT) -> tuple[tuple[str, ...], ...]:
        """Return sets of secrets that an account with these options can do without; each is given whole or left out."""
        return ()

    @classmethod
    def alternatives(cls, options: OptionsT) -> Mapping[str, str]:
        """Return, for some of `secrets`, the secret that may be given instead: an account has one of the two."""
        return {}

    @classmethod
    def key_name(cls, options: OptionsT) -> str:
        """Return the name of the secret that identifies the account: its public part, if there is one.

        By default it is the first of `secrets`.
        """
        return cls.secrets(options)[0]

    @classmethod
    def not_covered(cls, options: OptionsT) -> tuple[str, ...]:
        """Return what a kill of an account with these options does not reach; options may leave more out."""
        return cls.NOT_COVERED

    @classmethod
    def currencies(cls, options: OptionsT) -> tuple[str, ...]:
        """Return the currencies that each `Equity` of an account with these options has."""
        return cls.CURRENCIES

    @classmethod
    def pools(cls, options: OptionsT) -> tuple[Pool, ...]:
        """Return the venue's limits for an account with these options: a tier may be one of them."""
        return cls.POOLS

    @classmethod
    def timing(cls, options: OptionsT) -> SweepTiming:
        """Return how fast an account with these options may be struck and read."""
        return cls.TIMING

    @classmethod
    def demand(cls, options: OptionsT) -> Demand:
        """Return the requests of each activity of an account with these options."""
        return cls.DEMAND

    @classmethod
    def most_probe_s(cls) -> float:
        """Return the most seconds between two probes that an HTTP lane without other requests bears."""
        return min(cls.most_unused_s(), max(cls.IDLE_S, cls.WARM_EVERY_S) / cls.CONNECTIONS)

    @classmethod
    def most_unused_s(cls) -> float:
        """Return the most seconds between two requests of an HTTP lane, if other requests keep its connections open.

        Where HTTP alone carries a kill, a request is also what shows a person in time that the venue is silent. The
        venue's limits may want rarer ones at any time (`WARM_EVERY_S`).
        """
        is_watched = Route.WS not in cls.DRILLS and cls.WARM_EVERY_S / cls.CONNECTIONS <= SHOWN_EVERY_S
        return SHOWN_EVERY_S if is_watched else cls.IDLE_S

    def usage(self, reply: Replied) -> Iterable[tuple[str, float]]:
        """Return what the reply states to be in use, by the pools' names; () if the venue states nothing."""
        return ()

    def is_over_limit(self, reply: Replied) -> bool:
        """Return whether the venue has refused the request because a limit is used up."""
        return reply.status in self.OVER_LIMIT

    @classmethod
    def others_idle_s(cls) -> float:
        """Return the most seconds between two requests of those that do not go to the connection used last."""
        return max(cls.IDLE_S, cls.WARM_EVERY_S) / (cls.CONNECTIONS - 1) if cls.CONNECTIONS > 1 else math.inf

    @classmethod
    def plan(cls, options: OptionsT, sharers: Mapping[str, int], *, is_measured: bool = True) -> Cadence:
        """Return the cadence of an account if so many accounts share each pool, by the pool's name.

        `is_measured`: a trigger needs the account's equity; else nothing of the limits is reserved for it.
        """
        demand = cls.demand(options) if is_measured else cls.demand(options)._replace(equity=())
        bound = Cadence(cls.timing(options), cls.WARM_EVERY_S / cls.CONNECTIONS, cls.MEASURE_EVERY_S)
        return plan(
            bound, cls.most_probe_s(), cls.pools(options), cls.COSTS, demand, sharers, others_idle_s=cls.others_idle_s()
        )
