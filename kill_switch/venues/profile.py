"""Define the facts of a venue that hold for all its accounts: limits, timing, options and secrets.

The configuration and `dispatch.connect` read a `VenueProfile` from the adapter's class. It holds no state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple

from kill_switch.core.domain import Route, SweepTiming
from kill_switch.venues.messages import NOT_PROCESSED
from kill_switch.venues.options import VenueOptions

if TYPE_CHECKING:  # the default is for type checkers: `Adapter` without an argument is the adapter of any venue
    from typing_extensions import TypeVar

    OptionsT = TypeVar("OptionsT", bound=VenueOptions, default=Any)
else:
    from typing import TypeVar

    OptionsT = TypeVar("OptionsT", bound=VenueOptions)


class Guess(NamedTuple):
    """A fact that decides whether an order survives, and that nobody has confirmed."""

    fact: str
    covered_by: str  # what the adapter does in case the guess is wrong; "nothing: …" if nothing can be done


class VenueProfile(ABC, Generic[OptionsT]):
    """Hold a venue's facts as class attributes; `OptionsT` is the class of its accounts' options."""

    NAME: ClassVar[str]  # the venue's name in the configuration
    TIMING: ClassVar[SweepTiming] = SweepTiming()  # how fast an account may be struck and read
    WARM_EVERY_S: ClassVar[float] = 15.0  # an idle HTTP connection is used at least that often
    CONNECTIONS: ClassVar[int] = 2  # of the HTTP lane: requests of a strike that leave at once
    WS_MAX_AGE_S: ClassVar[float] = 12 * 3600.0  # a WebSocket connection is replaced before it is older
    WS_OVERLAP: ClassVar[bool] = True  # False: the venue allows one connection, and the old connection closes first
    CURRENCIES: ClassVar[tuple[str, ...]] = ()  # currencies that each `Equity` has; it may have others too
    MEASURE_EVERY_S: ClassVar[float] = 5.0  # between two `request_equity`, while a trigger needs the account's equity
    CLOCK_WINDOW_S: ClassVar[float | None] = (
        None  # a signature whose time is further off is refused; None: signatures have no time
    )
    PUSHES_ORDERS: ClassVar[bool] = True  # False: only lists show new orders
    NOT_PROCESSED: ClassVar[frozenset[int]] = (
        NOT_PROCESSED  # statuses that count as no answer: the call takes its second route
    )
    DRILLS: ClassVar[tuple[Route, ...]] = (Route.WS, Route.HTTP)  # lanes that carry a kill: `drill` tries each
    LIMIT: ClassVar[tuple[int, float] | None] = None  # requests within seconds that the venue allows; None: unknown
    LIMITED_BY: ClassVar[Literal["address", "key"]] = (
        "key"  # the requests of one address, or of one key, count together
    )
    SCOPE: ClassVar[tuple[str, ...]] = ()  # options that select the part of an account that is struck and read
    PARTS: ClassVar[
        tuple[str, ...]
    ] = ()  # options that name sub-accounts: the same login with others is another account
    Options: ClassVar[type[VenueOptions]]  # the class that `OptionsT` names
    # what a kill reaches, in short phrases for people; `kill-switch venues` shows all of it
    COMMANDS: ClassVar[tuple[str, ...]] = ()  # that a kill sends, the widest first
    COVERED: ClassVar[tuple[str, ...]] = ()  # orders that it cancels, and that reads prove gone
    NOT_COVERED: ClassVar[tuple[str, ...]] = ()  # what it does not reach: other parts, machines that place orders again
    GUESSES: ClassVar[tuple[Guess, ...]] = ()
    VERIFIED: ClassVar[str | None] = None  # date of a proof against the live venue, "2026-11-29"; None: never

    @classmethod
    @abstractmethod
    def secrets(cls, options: OptionsT) -> tuple[str, ...]:
        """Return the names of the secrets that an account with these options needs."""

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
    def timing(cls, together: int) -> SweepTiming:
        """Return the sweep timing of an account if `together` accounts share the venue's limit."""
        return cls.TIMING


def shared_timing(pace: SweepTiming, together: int) -> SweepTiming:
    """Return `pace` slowed down for `together` accounts that share a limit of one account: each has its turn."""
    if together == 1:
        return pace
    return replace(
        pace,
        guard_every_s=together * pace.guard_every_s,
        strike_gap_s=together * pace.strike_gap_s,
        gap_cap_s=together * pace.gap_cap_s,
    )
