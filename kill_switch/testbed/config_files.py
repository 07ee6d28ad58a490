"""The configuration and key files of accounts at simulators.

The testbed and `kill-switch sim --write` write them; nothing here starts a process.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Login = tuple[str, str, Mapping[str, Any]]  # an account's name, its venue, and its part of the ready line
# the simulators that ccxt knows → the venue that serves their accounts through it
THROUGH_CCXT: Mapping[str, str] = {
    "binance-coinm": "ccxt:binancecoinm",
    "binance-spot": "ccxt:binance",
    "binance-usdm": "ccxt:binanceusdm",
    "deribit": "ccxt:deribit",
    "kraken": "ccxt:kraken",
    "kraken-futures": "ccxt:krakenfutures",
}
_CCXT_AT = {venue: simulator for simulator, venue in THROUGH_CCXT.items()}
_CCXT_KEYS = {
    "api_key": "api_key",
    "api_secret": "api_secret",
    "client_id": "api_key",
    "client_secret": "api_secret",
    "private_key": "api_secret",
}


class Layout(NamedTuple):
    """The paths of a configuration and of everything that it names."""

    config: Path
    keys: Path
    state_dir: Path
    runtime_dir: Path
    flag: Path


def logins(ready: Mapping[str, Any]) -> Iterator[Login]:
    """Yield every account of a ready line; its name is the venue's, with a number where the venue has several."""
    for venue, entry in ready["venues"].items():
        entries = [entry, *entry.get("accounts", ())]
        for number, login in enumerate(entries, 1):
            yield (venue if len(entries) == 1 else f"{venue}{number}"), venue, login


def simulator_of(venue: str) -> str:
    """Return the simulator that plays a venue, which may be served through ccxt."""
    return _CCXT_AT.get(venue, venue)


def logins_for(ready: Mapping[str, Any], venues: Sequence[str]) -> Iterator[Login]:
    """Yield an account for each of these venues, in their order; each has an account of its own at its simulator.

    An account is named after its venue, with a number where the venue occurs several times. The simulators need as many
    accounts as the venues take of one of them.
    """
    times, taken, named = Counter(venues), Counter[str](), Counter[str]()
    for venue in venues:
        simulator = simulator_of(venue)
        first = ready["venues"][simulator]
        entry = [first, *first.get("accounts", ())][taken[simulator]]
        taken[simulator] += 1
        named[venue] += 1
        name = venue.replace(":", "-") + (str(named[venue]) if times[venue] > 1 else "")
        login = (name, simulator, entry)
        yield login if venue == simulator else through_ccxt(ready, login)


def through_ccxt(ready: Mapping[str, Any], login: Login) -> Login:
    """Return the login of an account that is served through ccxt instead of its own adapter."""
    name, venue, entry = login
    credentials = {_CCXT_KEYS[key]: secret for key, secret in entry["credentials"].items() if key in _CCXT_KEYS}
    urls = {"rest_url": ready["venues"][venue]["rest_url"]}
    return name, THROUGH_CCXT[venue], {**entry, "credentials": credentials, "options": {}, "urls": urls}


def write(
    layout: Layout,
    ready: Mapping[str, Any],
    accounts: Iterable[Login],
    *,
    head: str = "",
    daemon: str = "",
    extra: str = "",
) -> None:
    """Write a configuration for these accounts, with a flag trigger and a key file (mode 0600) for each secret.

    `head` goes above the configuration, `daemon` into its first table, `extra` behind the last one. Each file is
    replaced as a whole. Raises `OSError`.
    """
    text = f"{head}[daemon]\nstate_dir = {toml(layout.state_dir)}\nruntime_dir = {toml(layout.runtime_dir)}\n"
    text += f"{daemon}\n" if daemon else ""
    for name, venue, login in accounts:
        urls = login.get("urls") or {key: ready["venues"][venue][key] for key in ("ws_url", "rest_url")}
        text += f'\n[accounts.{name}]\nvenue = "{venue}"\nca_file = {toml(ready["ca_file"])}\n'
        text += "".join(f'{key} = "{url}"\n' for key, url in urls.items())
        for key, value in login["options"].items():
            text += f"{key} = {toml(value)}\n"
        for key, secret in login["credentials"].items():
            path = layout.keys / f"{name}-{key}"
            replace(path, secret, 0o600)
            text += f"{key} = {{ file = {toml(path)} }}\n"
    replace(layout.config, f'{text}\n[triggers.panic]\nkind = "flag"\npath = {toml(layout.flag)}\n{extra}', 0o644)


def replace(path: Path, text: str, mode: int) -> None:
    """Replace `path` by a file with this content and mode; a link there is replaced, not followed.

    Raises `OSError`.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def toml(value: object) -> str:
    """Format a value as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(str(key))} = {toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    # the other values are written as in JSON, but for the escapes: TOML has no surrogates, and escapes DEL
    text = json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")
