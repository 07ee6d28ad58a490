"""Define the configuration keys that the accounts of every venue have; each venue's options extend `VenueOptions`.

Those of a venue that is served over HTTP alone extend `HttpOptions`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator


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

    @field_validator("rest_url")
    @classmethod
    def _https(cls, url: str) -> str:
        url = secure(url, "https").rstrip("/")
        if urlsplit(url).path:
            raise ValueError("must be https://HOST[:PORT] without a path: the paths are the venue's, and are signed")
        return url


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
