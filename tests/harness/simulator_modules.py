"""Find the modules of the simulators that use a clock or chance, so that a test can replace them in all."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

import kill_switch.sim

_REAL = {"kill_switch.sim.kit.server", "kill_switch.sim.main", "kill_switch.sim.tls"}  # sockets, which have real time


@cache
def modules_that_import(name: str) -> tuple[ModuleType, ...]:
    """Return the modules of `kill_switch.sim` in which the module `name` of the standard library is a global."""
    wanted = importlib.import_module(name)
    names = sorted(found.name for found in pkgutil.walk_packages(kill_switch.sim.__path__, "kill_switch.sim."))
    modules = [importlib.import_module(module) for module in names if module not in _REAL]
    return tuple(module for module in modules if getattr(module, name, None) is wanted)
