"""Define what is known of a venue before any account of it is made: its limits, its timing, its options and secrets.

The configuration and the dispatcher's wiring read a `VenueProfile` off the adapter's class. It holds no state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal

from kill_switch.core.domain import Route, SweepTiming
from kill_switch.venues.messages import NOT_PROCESSED
from kill_switch.venues.options import VenueOptions

if TYPE_CHECKING:  # the default is for type checkers alone: `Adapter` without an argument is one of any venue
    from typing_extensions import TypeVar

    OptionsT = TypeVar("OptionsT", bound=VenueOptions, default=Any)
else:
    from typing import TypeVar

    OptionsT = TypeVar("OptionsT", bound=VenueOptions)


class VenueProfile(ABC, Generic[OptionsT]):
    """State a venue's facts; `OptionsT` is the class of its accounts' options."""

    NAME: ClassVar[str]  # the venue's name in the configuration
    TIMING: ClassVar[SweepTiming] = SweepTiming()  # how fast an account may be struck and read
    WARM_EVERY_S: ClassVar[float] = 15.0  # an idle HTTP connection is used at least that often
    CONNECTIONS: ClassVar[int] = 2  # of the HTTP lane: so many requests of a strike leave at once
    WS_MAX_AGE_S: ClassVar[float] = 12 * 3600.0  # a WebSocket connection is replaced before it is older
    WS_OVERLAP: ClassVar[bool] = True  # False: the venue allows one connection, so the old one goes first
    CURRENCIES: ClassVar[tuple[str, ...]] = ()  # that each `Equity` has; there may be others in it
    MEASURE_EVERY_S: ClassVar[float] = 5.0  # between two `measure`, while somebody wants the account's equity
    CLOCK_WINDOW_S: ClassVar[float | None] = None  # a signature whose time is further off is refused; None: untimed
    PUSHES_ORDERS: ClassVar[bool] = True  # False: new orders are only found by reading
    NOT_PROCESSED: ClassVar[frozenset[int]] = NOT_PROCESSED  # statuses that are no answer; another route is asked
    DRILLS: ClassVar[tuple[Route, ...]] = (Route.WS, Route.HTTP)  # lanes that carry a kill: `drill` tells of each
    LIMIT: ClassVar[tuple[int, float] | None] = None  # requests within seconds that the venue allows; None: unknown
    LIMITED_BY: ClassVar[Literal["address", "key"]] = "key"  # whose requests it counts together
    SCOPE: ClassVar[tuple[str, ...]] = ()  # options that decide what of an account is struck and read
    PARTS: ClassVar[tuple[str, ...]] = ()  # that name sub-accounts: one login with other ones is another account
    Options: ClassVar[type[VenueOptions]]  # the class that `OptionsT` names

    @classmethod
    @abstractmethod
    def secrets(cls, options: OptionsT) -> tuple[str, ...]:
        """Return the names of the secrets that an account with these options needs."""

    @classmethod
    def key_name(cls, options: OptionsT) -> str:
        """Return the name of the secret that says whose account it is.

        It is the secret's public part, where it has one, and by default the first of `secrets`.
        """
        return cls.secrets(options)[0]

    @classmethod
    def timing(cls, together: int) -> SweepTiming:
        """Return how fast one of `together` accounts that share a limit may be struck and read."""
        return cls.TIMING


def shared_timing(pace: SweepTiming, together: int) -> SweepTiming:
    """Return the pace of one of `together` accounts that share what is enough for one: each is served in its turn."""
    if together == 1:
        return pace
    return replace(
        pace,
        guard_every_s=together * pace.guard_every_s,
        strike_gap_s=together * pace.strike_gap_s,
        gap_cap_s=together * pace.gap_cap_s,
    )
