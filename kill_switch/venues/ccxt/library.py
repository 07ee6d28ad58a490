"""Load the exchange classes of the package ccxt, one id at a time, without the rest of the package.

Only its synchronous classes are used, and of these only methods without I/O: `sign`, `handle_errors`. They need no
event loop. To import the whole package takes seconds and a hundred megabytes; one class takes a few.
"""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any

VERSION = "4.5.90"  # the profiles are facts of this version
INSTALL = "in the checkout: pip install '.[ccxt]'"


def why_unusable() -> str:
    """Return why ccxt cannot be used here; "" if it can. Nothing is imported."""
    try:
        installed = importlib.metadata.version("ccxt")
    except importlib.metadata.PackageNotFoundError:
        return "ccxt is not installed"
    return "" if installed == VERSION else f"ccxt {installed} is installed, where {VERSION} is needed"


def errors() -> Any:
    """Return the module of ccxt's exceptions."""
    return _module("base.errors")


def exchange(exchange_id: str) -> Any:
    """Return a new instance of an exchange class, without keys; it shares its tables with the others of this id.

    Raise ValueError if ccxt is not usable.
    """
    instance = copy.copy(_template(exchange_id))
    instance.options = copy.deepcopy(instance.options)
    return instance


@lru_cache(maxsize=256)
def _template(exchange_id: str) -> Any:
    """Return an instance to copy: a copy takes microseconds, a new instance milliseconds."""
    if why := why_unusable():
        raise ValueError(f"{why}: {INSTALL}")
    instance = getattr(_module(exchange_id), exchange_id)({"enableRateLimit": False})
    instance.close()
    instance.session = None  # of the library `requests`; nothing here sends with it
    return instance


@lru_cache(maxsize=256)
def _module(name: str) -> ModuleType:
    with _without_init():
        return importlib.import_module(f"ccxt.{name}")


@contextmanager
def _without_init() -> Iterator[None]:
    """Make submodules of ccxt importable without its `__init__`, which imports every exchange."""
    if "ccxt" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("ccxt")
    if spec is None or spec.submodule_search_locations is None:
        raise ValueError(f"ccxt is not installed: {INSTALL}")
    package = ModuleType("ccxt")
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules["ccxt"] = package
    try:
        yield
    finally:
        del sys.modules["ccxt"]  # so that another importer gets the whole package
