"""Refuse duplicates that cannot be intended: a login, a listening address, a command, a channel.

The loader uses this. Each problem names both places. Secrets are compared and never shown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, TypeVar

from pydantic import SecretStr

from kill_switch.config.accounts import AccountConfig
from kill_switch.config.messages import config_path
from kill_switch.core.identity import plain_host
from kill_switch.errors import Problem
from kill_switch.system.host_port import HostPort

T = TypeVar("T", bound=Hashable)

_PUBLIC = ("api_key", "public_key")  # secrets that identify a login, besides the one that the venue names
_TWICE = "its equity would count twice, and its orders be struck twice"
_MEND = "Give each account a key of its own sub-account, or leave one out"
_LOGIN = f"expected one account for each login: {_TWICE}. {_MEND}"
_ADAPTERS = (
    "expected one account for each login: two adapters would use up one rate limit, and each would have the other's"
    f" nonces refused. {_MEND}"
)
_KEY = (
    "expected a key for each account: the nonces of one would get those of the other refused. Create another key, with"
    " the same rights"
)
_PART = f"expected each of them in one account only: {_TWICE}"


class _Use(NamedTuple):
    """The use of a key by an account; `name` is the secret's name."""

    account: AccountConfig
    name: str

    @property
    def path(self) -> str:
        return config_path("accounts", self.account.name, self.name)

    @property
    def is_login(self) -> bool:
        """Whether the account is that of the key: its orders are there."""
        return self.name not in self.account.adapter_class.OTHER_LOGINS


def duplicate_logins(accounts: Mapping[str, AccountConfig]) -> Iterator[Problem]:
    """Yield a problem for each account whose login, or a part of it, an earlier account has."""
    known: dict[tuple[str, str], list[_Use]] = {}  # (host, key) → its uses
    for account in accounts.values():
        uses = list(_uses(account))
        clashes = (
            problem
            for way, use in uses
            for earlier in known.get(way, ())
            if (problem := _clash(earlier, use)) is not None
        )
        if (first := next(clashes, None)) is not None:
            yield first
        for way, use in uses:
            known.setdefault(way, []).append(use)


def _clash(earlier: _Use, use: _Use) -> Problem | None:
    """Return the problem of two accounts with one key; None if they are disjoint parts of its login."""
    first, second = earlier.account, use.account
    description = f"the same key at the same venue as {earlier.path}"
    if not (earlier.is_login and use.is_login):
        return Problem(use.path, description, _KEY)
    if first.venue != second.venue:
        names = f'under venue = "{second.venue}" and "{first.venue}"'
        return Problem(use.path, f"{description}, {names}", _ADAPTERS)
    shared = _shared_part(first, second)
    if shared is None:
        return None
    if shared:
        option, value = shared
        description = f"{value} is in {config_path('accounts', first.name, option)} too, with the same {use.name}"
        return Problem(config_path("accounts", second.name, option), description, _PART)
    return Problem(use.path, description, _LOGIN)


def _uses(account: AccountConfig) -> Iterator[tuple[tuple[str, str], _Use]]:
    """Yield each host and key of an account, with the use; the venue's own login key comes first."""
    kind, secrets = account.adapter_class, account.secrets
    names = dict.fromkeys((kind.key_name(account.options), *_PUBLIC))
    name_of_secret: dict[str, str] = {}
    for name in names:
        if name in secrets:
            name_of_secret.setdefault(secrets[name], name)
    for host in sorted(account.login.hosts):
        yield from (((host, key), _Use(account, name)) for key, name in name_of_secret.items())
    for name, option in kind.OTHER_LOGINS.items():
        if name in secrets:
            yield (plain_host(getattr(account.options, option)), secrets[name]), _Use(account, name)


def _shared_part(earlier: AccountConfig, other: AccountConfig) -> tuple[str, str] | tuple[()] | None:
    """Return an option and its value that two accounts of one login share.

    (): the login has no parts. None: the accounts' parts are disjoint.
    """
    first: tuple[str, str] | tuple[()] = ()
    for option in other.adapter_class.PARTS:
        mine = {str(value).casefold() for value in _values(earlier, option)}
        theirs = _values(other, option)
        common = [value for value in theirs if str(value).casefold() in mine]
        if not common:
            return None
        if common[0] and not first:
            first = option, str(common[0])
    return first


def _values(account: AccountConfig, option: str) -> Sequence[object]:
    value = getattr(account.options, option, "")
    return value if isinstance(value, list | tuple) else (value,)


def duplicate_addresses(listening: Mapping[str, HostPort | None]) -> Iterator[Problem]:
    """Yield a problem for each listening address, by its key's path, that equals or overlaps an earlier one."""
    known = {path: address for path, address in listening.items() if address is not None}
    for (earlier_path, first), (later_path, second) in combinations(known.items(), 2):
        if first.port == second.port and _overlap(first.host, second.host):
            description = (
                f"the same address as {earlier_path}"
                if first == second
                else f"the same address as {earlier_path}, in other words"
            )
            yield Problem(later_path, description, "expected an address and a port for each")


def _overlap(first_host: str, second_host: str) -> bool:
    """Return whether a socket on one IP address receives what is sent to the other."""
    first, second = _plain(first_host), _plain(second_host)
    if first == second or _ANY_6 in (first, second):  # because `::` receives IPv4 too: the sockets are not IPv6 only
        return True
    return first.version == second.version and (first.is_unspecified or second.is_unspecified)


_ANY_6 = ipaddress.ip_address("::")


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def duplicate_commands(on_trip: Sequence[tuple[str, ...]]) -> Iterator[Problem]:
    """Yield a problem for each command that a trip would start a second time."""
    for first, repeat in _repeats(on_trip):
        description = f"the same command as {config_path('hooks.on_trip', first)}"
        yield Problem(config_path("hooks.on_trip", repeat), description, "it would be started twice: leave one out")


def duplicate_channels(urls: Sequence[SecretStr | None]) -> Iterator[Problem]:
    """Yield a problem for each address that would get every message twice; None: an address that could not be read."""
    for first, repeat in _repeats(number if url is None else url.get_secret_value() for number, url in enumerate(urls)):
        description = f"the same address as {config_path('notify.urls', first)}"
        yield Problem(config_path("notify.urls", repeat), description, "each message would come twice: leave one out")


def _repeats(values: Iterable[T]) -> Iterator[tuple[int, int]]:
    """Yield, for each repeated value, the index of its first occurrence and its own."""
    first: dict[T, int] = {}
    for place, value in enumerate(values):
        if first.setdefault(value, place) != place:
            yield first[value], place
