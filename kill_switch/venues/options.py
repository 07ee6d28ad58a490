"""Define the configuration keys that the accounts of every venue have; each venue's options extend `VenueOptions`.

Those of a venue that is served over HTTP alone extend `HttpOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _WebSocketOptions(BaseModel):
    """The configuration key of an account that has a WebSocket."""

    ws_url: str = Field(description="the private WebSocket's address, path included")

    @field_validator("ws_url")
    @classmethod
    def _wss(cls, url: str) -> str:
        return secure(url, "wss")


class HttpOptions(BaseModel):
    """The keys that the adapter of a venue reads which is served over HTTP alone.

    A subclass adds keys and states the defaults. A field's `description` says what the key means. The reference page
    and `kill-switch init` print it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    TESTNET: ClassVar[Mapping[str, str]] = {}  # address option → its value in the venue's test environment; {}: none

    environment: Literal["production", "testnet"] = Field(
        default="production",
        description="the venue's production or its test environment, which has its own accounts and keys; an address"
        " that is given goes before that of the environment",
    )
    rest_url: str = Field(description="scheme, host and port")
    ca_file: str | None = Field(
        default=None,
        description="certificate authorities in PEM, instead of the system's",
        examples=["/etc/ssl/certs/ca-certificates.crt"],
    )

    max_connections: int = Field(
        default=128,
        ge=2,
        le=1024,
        description="most HTTP connections to the venue, for a strike of many calls; a strike of few calls needs fewer",
    )

    @classmethod
    def describe(cls, name: str) -> str:
        """Return what an option means; a subclass that only changes a default keeps the description. "" if none."""
        fields = [kind.model_fields for kind in cls.__mro__ if issubclass(kind, BaseModel) and kind is not BaseModel]
        return next(filter(None, (each[name].description for each in fields if name in each)), "")

    @field_validator("environment")
    @classmethod
    def _known_environment(cls, environment: str) -> str:
        if environment == "testnet" and not cls.TESTNET:
            raise ValueError("no test environment of this venue is known: leave the key out")
        return environment

    @model_validator(mode="after")
    def _of_one_environment(self) -> Self:
        """Fill in the addresses of the test environment; refuse a mixture, which would be shown as what it is not.

        An address of the test environment implies it.
        """
        addresses = {
            name: url for name in self.TESTNET if name in self.model_fields_set and (url := getattr(self, name))
        }
        tests = [name for name, url in addresses.items() if _has_host(url, self.TESTNET[name])]
        production = [name for name, url in addresses.items() if _has_host(url, type(self).model_fields[name].default)]
        is_testnet = self.environment == "testnet"
        if "environment" in self.model_fields_set and (wrong := production if is_testnet else tests):
            other = "production" if is_testnet else "test"
            raise ValueError(f'{wrong[0]} is the {other} address, and environment = "{self.environment}"')
        if tests and production:
            raise ValueError(f"{tests[0]} is the test address, and {production[0]} the production one")
        if is_testnet or tests:
            # a frozen model is completed before anybody else has it
            self.__dict__.update({**self.TESTNET, **addresses, "environment": "testnet"})
        return self

    @field_validator("rest_url")
    @classmethod
    def _https(cls, url: str) -> str:
        url = secure(url, "https").rstrip("/")
        if urlsplit(url).path:
            raise ValueError("must be https://HOST[:PORT] without a path: the paths are the venue's, and are signed")
        return url


def _has_host(url: str, known: str) -> bool:
    """Return whether an address has the host of a known one."""
    return urlsplit(url).hostname == urlsplit(known).hostname


class VenueOptions(HttpOptions, _WebSocketOptions):
    """The keys that an account's adapter reads; a venue's subclass adds keys and states the defaults."""


def ws_url_of(options: HttpOptions) -> str:
    """Return the address of an account's WebSocket; "" if its venue is served over HTTP alone."""
    return options.ws_url if isinstance(options, VenueOptions) else ""


def secure(url: str, scheme: str) -> str:
    """Return an address that TLS protects; raise ValueError for any other."""
    parts = urlsplit(url)
    host_is_fine = (
        parts.hostname and parts.netloc.isascii() and parts.port != 0
    )  # `port` raises ValueError for an invalid port
    if parts.scheme != scheme or not host_is_fine or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"must be {scheme}://HOST[:PORT][/PATH]: keys travel over verified TLS only")
    return url
