"""Define the profile of one id of ccxt: requests, where their answers have what, limits, gaps.

`offered` has the profiles. They are data; `adapter` makes an adapter of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kill_switch.venues.kit.pools import Pool
from kill_switch.venues.profile import Guess

Path = tuple[str | int, ...]  # the keys and indices that lead to a value; (): the value itself

# the secrets of an account → the attributes of an exchange class
CREDENTIALS: Mapping[str, str] = {
    "api_key": "apiKey",
    "api_secret": "secret",
    "passphrase": "password",
    "uid": "uid",
    "wallet_address": "walletAddress",
    "private_key": "privateKey",
    "token": "token",
}


_OVER_LIMIT = "a refusal because of a limit pauses all but the cancels of a kill"
_LEFT_OUT = "a full page is not the whole list; orders that a shorter page leaves out show once others are gone"
_WRONG_TIME = "a refusal whose Date shows that the time was off by more is signed again by the venue's clock"


class SecretForm(NamedTuple):
    """The form of a secret of an id, because ccxt or the venue takes no other."""

    words: str  # for people
    fits: Callable[[str], bool]


class Endpoint(NamedTuple):
    """A request as ccxt's `sign` takes it: the section of its API, verb, path, parameters.

    A parameter "{name}" is the account's option of this name, "{symbol}" the symbol that is cancelled.
    """

    api: tuple[str, ...]
    method: str
    path: str
    params: Mapping[str, Any] = {}
    weight: float = 1.0  # the units that it takes of the id's pool


class Proof(NamedTuple):
    """The proof in an answer that a cancel was carried out; without it the outcome is unknown."""

    path: Path = ()
    kind: type | tuple[type, ...] = dict
    good: tuple[object, ...] = ()  # the values that say so; (): any of this kind
    bad: tuple[Path, tuple[object, ...]] | None = None  # where it may say that the cancel failed, and how
    is_count: bool = False  # it says how many orders the command has cancelled
    pending_at: Path | None = None  # where a true value says that the cancels have not ended yet
    ids_at: Path | None = None  # where the list of the cancelled orders is; None: the answer names none
    inner: Path = ()  # each item of this list is a group, and has its orders there; without them it has failed
    id: Path = ()  # where an item of this list has the order's id; (): it is the id
    rejects_at: Path | None = None  # where the list of the orders is whose cancel was refused
    each: tuple[Path, tuple[object, ...]] | None = None  # where an item says how its cancel went, and what is good
    none_is_error: bool = False  # an account without orders is answered by an error that no order was found


class Cancel(NamedTuple):
    """A command of a strike."""

    endpoint: Endpoint
    answer: Proof


class Listing(NamedTuple):
    """A list of open orders: its request, where the answer has it, where an order has what."""

    name: str
    endpoint: Endpoint
    path: Path
    id: Path = ("id",)
    symbol: Path = ("symbol",)
    status: Path = ("status",)
    is_keyed: bool = False  # an object of orders by their ids
    inner: Path = ()  # each item of the list is a group, and has its orders there
    # where an order that nobody can cancel has which value, and the words for such orders
    out_of_reach: tuple[Path, object, str] | None = None
    prefix: str = ""  # of these orders' ids, where another list may have the same ids
    is_id_of_symbol: bool = False  # another symbol may have an order of the same id
    full: int = 0  # a page of so many orders may not be the last; 0: the answer has all orders
    cursor: Path = ()  # where a full page names the next one; (): nobody can request it
    cursor_param: str = ""  # the parameter that the cursor goes into


class Part(NamedTuple):
    """A part of an account: its host, the commands that cancel it, the lists that show it."""

    host: str
    prefix: str  # of the targets of its requests
    cancels: tuple[Cancel, ...]
    lists: tuple[Listing, ...]
    is_by_symbol: bool = False  # the commands are of one symbol each
    ping: Endpoint | None = None  # costs next to nothing, and keeps a connection open
    harmless: Endpoint | None = None  # the cancel of an order that cannot exist
    not_there: tuple[Path, str] | None = None  # where a success of it says that there is no such order, and how
    pool: Pool | None = None  # instead of the id's
    usage_header: str = ""  # in lower case: it states the units of the pool that are in use
    list_lag_s: float = 0.0  # a list may show the account as it was so long before

    def target(self, endpoint: Endpoint) -> str:
        """Return a request as the venue's limits see it: verb and target."""
        return f"{endpoint.method} {self.prefix}{endpoint.path}"

    def line(self, endpoint: Endpoint) -> str:
        """Return a request for people: verb and target, then its parameters."""
        values = ", ".join(f"{name}={value}" for name, value in endpoint.params.items())
        return f"{self.target(endpoint)}{values and f' ({values})'}"


class Setting(NamedTuple):
    """An entry of an account's `options`."""

    kind: type
    meaning: str
    default: object = None  # None: the account must name it
    is_ccxt: bool = False  # an option of ccxt's class; else it is a parameter of requests


@dataclass(frozen=True, slots=True)
class Sources:
    """The source of each number of a profile, with its words; "": nobody has confirmed the number."""

    limit: str = ""
    page: str = ""
    clock: str = ""
    lag: str = ""


@dataclass(frozen=True, slots=True)
class IdProfile:
    """The facts of an id. § numbers in `guesses` are those of docs/venues/ccxt.md."""

    id: str
    venue: str  # its name for people
    secrets: tuple[str, ...]  # those that ccxt requires, by our names
    products: Mapping[str, Part]
    pool: Pool
    secret_forms: Mapping[str, SecretForm] = field(default_factory=dict)  # of those that must have a form
    clock_window_s: float | None = None  # how far the time of a signature may be off; None: it has a nonce
    is_rising: bool = False  # no two signatures may have the same time or nonce
    settings: Mapping[str, Setting] = field(default_factory=dict)
    ccxt_options: Mapping[str, object] = field(default_factory=dict)  # of its class, for every account
    # part of the error that there is no order, where ccxt's `OrderNotFound` has other errors too, or lacks this one
    unknown_order: str = ""
    # where an error has which value that may be of the nonce, though ccxt blames the key
    nonce_refusal: tuple[Path, object] | None = None
    covered: str = ""
    not_covered: tuple[str, ...] = ()
    guesses: tuple[Guess, ...] = ()
    own_adapter: str = ""  # the venue that serves the same accounts without ccxt
    sources: Sources = Sources()

    @property
    def numbers(self) -> dict[str, Guess]:
        """The profile's numbers by their names in `sources`, each as a guess that nobody has confirmed."""
        parts = self.products.values()
        pools = dict.fromkeys(str(part.pool or self.pool) for part in parts)
        pages = dict.fromkeys(str(listing.full) for part in parts for listing in part.lists if listing.full)
        lag_s = max(part.list_lag_s for part in parts)
        numbers = {"limit": Guess(f"the limit is no lower than {' or '.join(pools)}", _OVER_LIMIT)}
        if pages:
            numbers["page"] = Guess(f"a page has {' or '.join(pages)} orders if it is asked for so many", _LEFT_OUT)
        if self.clock_window_s is not None:
            numbers["clock"] = Guess(f"a signature's time may be off by {self.clock_window_s:g} s", _WRONG_TIME)
        if lag_s:
            numbers["lag"] = Guess(f"lists lag by {lag_s:g} s at most", "clean reads span that, and the guard reads on")
        return numbers

    @property
    def all_guesses(self) -> tuple[Guess, ...]:
        """The guesses, and the numbers that no source states."""
        unconfirmed = (guess for name, guess in self.numbers.items() if not getattr(self.sources, name))
        return (*self.guesses, *unconfirmed)

    @property
    def sourced(self) -> tuple[tuple[str, str], ...]:
        """The numbers that a source states, each with the source."""
        sources = ((guess.fact, getattr(self.sources, name)) for name, guess in self.numbers.items())
        return tuple((fact, source) for fact, source in sources if source)

    @property
    def default_products(self) -> tuple[str, ...]:
        """The names of the products that an account covers by default: those at the host of the first."""
        first = next(iter(self.products.values()))
        return tuple(name for name, product in self.products.items() if product.host == first.host)


def value_at(data: Any, path: Path) -> Any:
    """Return the value that a path leads to; None where it leads nowhere."""
    for step in path:
        if isinstance(data, dict) and isinstance(step, str):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and -len(data) <= step < len(data):
            data = data[step]
        else:
            return None
    return data
