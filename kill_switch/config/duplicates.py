"""Refuse what is written twice and cannot be meant twice: a login, a listening address, a command, a channel.

Each problem names both places. Secrets are compared and never shown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from pydantic import SecretStr

from kill_switch.config.accounts import Account
from kill_switch.config.messages import at
from kill_switch.errors import Problem
from kill_switch.system.host_port import HostPort

T = TypeVar("T", bound=Hashable)

_PUBLIC = ("api_key", "public_key")  # secrets that say whose account it is, besides the one that the venue names
_TWICE = "its equity would count twice, and its orders be struck twice"
_LOGIN = (
    f"expected one account for each login: {_TWICE}. Give each account a key of its own sub-account, or leave one out"
)
_PART = f"expected each of them in one account only: {_TWICE}"


def logins(accounts: Mapping[str, Account]) -> Iterator[Problem]:
    """Yield a problem for each account that has a login, or a part of one, that an earlier account has."""
    known: dict[tuple[str, str, str], list[tuple[Account, str]]] = {}  # by venue, host and key; with the key's name
    for account in accounts.values():
        keys = _keys(account)
        ways = [(venue, host, key) for venue, host in sorted(account.login.places) for key in keys]
        found = (
            problem
            for way in ways
            for one, name in known.get(way, ())
            if (problem := _clash(one, name, account, keys[way[-1]])) is not None
        )
        if (first := next(found, None)) is not None:
            yield first
        for way in ways:
            known.setdefault(way, []).append((account, keys[way[-1]]))


def _clash(one: Account, its_key: str, other: Account, key: str) -> Problem | None:
    """Return what is wrong with two accounts that have one login; None if they are disjoint parts of it."""
    shared = _shared_part(one, other)
    if shared is None:
        return None
    if shared:
        option, value = shared
        found = f"{value} is in {at('accounts', one.name, option)} too, with the same {key}"
        return Problem(at("accounts", other.name, option), found, _PART)
    found = f"the same key at the same venue as {at('accounts', one.name, its_key)}"
    return Problem(at("accounts", other.name, key), found, _LOGIN)


def _keys(account: Account) -> dict[str, str]:
    """Return the secrets that say whose account it is, each with its name; the one that the venue names first."""
    names = dict.fromkeys((account.kind.key_name(account.options), *_PUBLIC))
    found: dict[str, str] = {}
    for name in names:
        if name in account.secrets:
            found.setdefault(account.secrets[name], name)
    return found


def _shared_part(one: Account, other: Account) -> tuple[str, str] | tuple[()] | None:
    """Return an option and its value that both accounts of a login have; () where it has no parts; None: disjoint."""
    first: tuple[str, str] | tuple[()] = ()
    for option in other.kind.PARTS:
        mine = {str(value).casefold() for value in _values(one, option)}
        theirs = _values(other, option)
        common = [value for value in theirs if str(value).casefold() in mine]
        if not common:
            return None
        if common[0] and not first:
            first = option, str(common[0])
    return first


def _values(account: Account, option: str) -> Sequence[object]:
    value = getattr(account.options, option, "")
    return value if isinstance(value, list | tuple) else (value,)


def addresses(listening: Mapping[str, HostPort | None]) -> Iterator[Problem]:
    """Yield a problem for each listening address, by its place in the file, that an earlier one has or covers."""
    known = {path: address for path, address in listening.items() if address is not None}
    for (one, first), (other, second) in combinations(known.items(), 2):
        if first.port == second.port and _meet(first.host, second.host):
            found = f"the same address as {one}" if first == second else f"the same address as {one}, in other words"
            yield Problem(other, found, "expected an address and a port for each")


def _meet(one: str, other: str) -> bool:
    """Tell whether what listens on one host hears what is sent to the other: both are IP addresses."""
    first, second = _plain(one), _plain(other)
    if first == second or _ANY_6 in (first, second):  # `::` hears IPv4 too: the sockets are not IPv6 only
        return True
    return first.version == second.version and (first.is_unspecified or second.is_unspecified)


_ANY_6 = ipaddress.ip_address("::")


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def commands(on_trip: Sequence[tuple[str, ...]]) -> Iterator[Problem]:
    """Yield a problem for each command that a trip would start a second time."""
    for one, other in _repeats(on_trip):
        found = f"the same command as {at('hooks.on_trip', one)}"
        yield Problem(at("hooks.on_trip", other), found, "it would be started twice: leave one out")


def channels(urls: Sequence[SecretStr | None]) -> Iterator[Problem]:
    """Yield a problem for each address that would hear every message a second time; None: one that cannot be read."""
    for one, other in _repeats(number if url is None else url.get_secret_value() for number, url in enumerate(urls)):
        found = f"the same address as {at('notify.urls', one)}"
        yield Problem(at("notify.urls", other), found, "each message would come twice: leave one out")


def _repeats(values: Iterable[T]) -> Iterator[tuple[int, int]]:
    """Yield the places of what comes first, and of each repetition."""
    first: dict[T, int] = {}
    for place, value in enumerate(values):
        if first.setdefault(value, place) != place:
            yield first[value], place
