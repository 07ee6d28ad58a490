"""Read the tables [notify], [ping] and [intake], whose URLs and keys may be kept where secrets are."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from kill_switch.config import duplicates, secrets
from kill_switch.config.messages import (
    InvalidValue,
    Raw,
    config_path,
    keys_of,
    safe_description,
    unknown_keys,
    validate,
)
from kill_switch.config.schema import ConfigTable, IntakeConfig, NotifyConfig, PingConfig
from kill_switch.errors import Problem

T = TypeVar("T", bound=ConfigTable)
_SECRET = secrets.WHERE.removeprefix("expected ")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S.*")


def plain(model: type[T], table: Raw, name: str, problems: list[Problem]) -> T | None:
    """Validate a table that needs no other checks than its model's."""
    problems += unknown_keys(table, keys_of(model), name)
    parsed, wrong, _ = validate(model, table, name)
    problems += wrong
    return parsed


def notify(table: Raw, environ: Mapping[str, str], problems: list[Problem]) -> NotifyConfig | None:
    """Return the configuration of the table `[notify]`; append its problems to `problems`."""
    notify = plain(NotifyConfig, {key: value for key, value in table.items() if key != "urls"}, "notify", problems)
    written = table.get("urls", [])
    if not isinstance(written, list):
        problems.append(
            Problem("notify.urls", safe_description(written), f"expected an array of URLs; each may be {_SECRET}")
        )
        return notify
    urls = [_url(url, config_path("notify.urls", n), environ, problems) for n, url in enumerate(written)]
    for number, url in enumerate(urls):
        if url is not None and _URL.fullmatch(url.get_secret_value()) is None:
            problems.append(
                Problem(config_path("notify.urls", number), "not a URL", 'expected one of apprise\'s: "SERVICE://…"')
            )
    problems += duplicates.duplicate_channels(urls)
    if urls and importlib.util.find_spec("apprise") is None:
        hint = "in the checkout: pip install '.[notify]'; or use command"
        problems.append(Problem("notify.urls", "set, but apprise is not installed", hint))
    return notify and notify.model_copy(update={"urls": tuple(filter(None, urls))})


def ping(table: Raw, environ: Mapping[str, str], problems: list[Problem]) -> PingConfig | None:
    """Return the configuration of the table `[ping]`; append its problems to `problems`."""
    ping = plain(PingConfig, {key: value for key, value in table.items() if key != "url"}, "ping", problems)
    if "url" not in table:
        if "every" in table:
            problems.append(Problem("ping.url", "missing, although every is set", "set url, or leave both keys out"))
        return ping
    url = _url(table["url"], "ping.url", environ, problems)
    if url is not None and not _safe(url.get_secret_value()):
        problems.append(Problem("ping.url", "not a https:// address", "only one on this machine may be http://"))
    return ping and ping.model_copy(update={"url": url})


def _url(value: object, path: str, environ: Mapping[str, str], problems: list[Problem]) -> SecretStr | None:
    """Read a URL that is given as it is, or as a secret's source."""
    try:
        if not isinstance(value, str | dict):
            raise InvalidValue(safe_description(value), f"expected a URL, or {_SECRET}")
        if isinstance(value, str):
            return SecretStr(value)
        url = secrets.resolve(value, environ)
        secrets.refuse_unlikely(url, value, is_url=True)
        return SecretStr(url)
    except InvalidValue as error:
        problems.append(Problem(path, error.description, error.hint))
        return None


def _safe(url: str) -> bool:
    """Return whether a URL is encrypted on its way, or stays on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if not url.isprintable() or " " in url or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1"))


def intake(table: Raw, environ: Mapping[str, str], problems: list[Problem]) -> IntakeConfig | None:
    """Return the configuration of the table `[intake]`; append its problems to `problems`."""
    problems += unknown_keys(table, keys_of(IntakeConfig), "intake")
    intake, wrong, _ = validate(IntakeConfig, {key: value for key, value in table.items() if key != "key"}, "intake")
    problems += wrong
    if "key" in table:
        try:
            key = SecretStr(secrets.resolve(table["key"], environ))
            secrets.refuse_unlikely(key.get_secret_value(), table["key"], is_typed=True)
        except InvalidValue as error:
            problems.append(Problem("intake.key", error.description, error.hint))
        else:
            return intake and intake.model_copy(update={"key": key})
    elif intake and intake.udp and not intake.udp.is_loopback:
        hint = "set key, or listen on 127.0.0.1"
        problems.append(Problem("intake.udp", "an address that other hosts can reach, without a key", hint))
    return intake
