"""Define the configuration keys of an account that is served through ccxt; its id's profile bounds their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args

from pydantic import Field, create_model, field_validator, model_validator

from kill_switch.venues.ccxt.profile import IdProfile, Part
from kill_switch.venues.options import HttpOptions

SettingValue = bool | int | str


class CcxtOptions(HttpOptions):
    """The configuration keys of an account that is served through ccxt."""

    PROFILE: ClassVar[IdProfile]

    rest_url: str = Field(description="scheme, host and port, instead of those of every address of the id")
    products: tuple[str, ...] = Field(
        min_length=1, description="the parts of the account that a kill covers; each host needs an account of its own"
    )
    options: dict[str, SettingValue] = Field(default_factory=dict, description="what the id needs to know besides")

    @property
    def parts(self) -> tuple[Part, ...]:
        """The products that a kill covers."""
        return tuple(self.PROFILE.products[name] for name in self.products)

    @property
    def settings(self) -> dict[str, object]:
        """The values of all settings of the id."""
        defaults = {name: setting.default for name, setting in self.PROFILE.settings.items()}
        return {**defaults, **self.options}

    @model_validator(mode="before")
    @classmethod
    def _at_its_host(cls, values: Any) -> Any:
        """Set `rest_url` to the documented host of the products."""
        products = values.get("products") if isinstance(values, Mapping) else None
        if not isinstance(products, list | tuple):
            return values
        values = {**values, "products": tuple(products)}  # behind this validator, an array is no tuple any more
        first = next((each for name, each in cls.PROFILE.products.items() if name in products[:1]), None)
        return values if first is None else {"rest_url": f"https://{first.host}", **values}

    @field_validator("products")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = cls.PROFILE.products
        if not known.keys() >= set(names):
            raise ValueError(f"expected some of {', '.join(known)}")
        if len(set(names)) < len(names):
            raise ValueError("a product is named twice")
        if len(hosts := dict.fromkeys(known[name].host for name in names)) > 1:
            raise ValueError(f"products at different hosts need an account each: {', '.join(hosts)}")
        return names

    @field_validator("options")
    @classmethod
    def _fitting(cls, values: dict[str, SettingValue]) -> dict[str, SettingValue]:
        settings = cls.PROFILE.settings
        for name, value in values.items():
            if name not in settings:
                known = f"known: {', '.join(settings)}" if settings else f"ccxt:{cls.PROFILE.id} has none"
                raise ValueError(f"no option {name!r}; {known}")
            if type(value) is not settings[name].kind:
                raise ValueError(f"{name} is not {_NAMES[settings[name].kind]}")
        return values

    @model_validator(mode="after")
    def _complete(self) -> CcxtOptions:
        for name, setting in self.PROFILE.settings.items():
            if setting.default is None and name not in self.options:
                raise ValueError(f"options has no {name}, {_NAMES[setting.kind]}: {setting.meaning}")
        return self


_EXAMPLES: Mapping[type, SettingValue] = {str: "", int: 1, bool: False}
_NAMES: Mapping[type, str] = {str: "a string", int: "a whole number", bool: "true or false"}
assert set(_NAMES) == set(get_args(SettingValue))  # noqa: S101 - the table beside it


def options_of(profile: IdProfile) -> type[CcxtOptions]:
    """Return the class of the options of accounts of this id."""
    products = profile.default_products
    host = profile.products[products[0]].host
    fields = CcxtOptions.model_fields
    needed = {name: _EXAMPLES[setting.kind] for name, setting in profile.settings.items() if setting.default is None}
    meanings = [f"{name} is {profile.settings[name].meaning}" for name in needed]
    options: Any = {"description": "; ".join((fields["options"].description or "", *meanings))}
    options |= {"examples": [needed]} if needed else {"default_factory": dict}
    meaning, known = fields["products"].description, ", ".join(profile.products)
    model = create_model(
        f"{profile.id.capitalize()}Options",
        __base__=CcxtOptions,
        __module__=__name__,
        rest_url=(str, Field(default=f"https://{host}", description=fields["rest_url"].description)),
        options=(dict[str, SettingValue], Field(**options)),
        products=(tuple[str, ...], Field(default=products, min_length=1, description=f"{meaning} ({known})")),
    )
    model.PROFILE = profile
    return model
