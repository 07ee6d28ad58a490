"""Run simulators without the command line.

`python -m kill_switch.sim --venue oxfun [--venue roxom] [--accounts N] [--host H] [--tls-dir D]
[--option venue.name=value]…`
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from kill_switch.sim import read_options, run

_FLAGS = ("--venue", "--accounts", "--host", "--tls-dir", "--option")


def main(arguments: Sequence[str]) -> int:
    """Read pairs of a flag and a value, and serve; 64 on bad usage."""
    given: dict[str, list[str]] = {flag: [] for flag in _FLAGS}
    try:
        if len(arguments) % 2 or not given.keys() >= set(arguments[::2]):
            raise ValueError(f"use pairs of a flag and a value. Known flags: {', '.join(_FLAGS)}.")
        for flag, value in zip(arguments[::2], arguments[1::2], strict=True):
            given[flag].append(value)
        return run(
            given["--venue"],
            host=(given["--host"] or ["127.0.0.1"])[-1],
            tls_dir=Path(given["--tls-dir"][-1]) if given["--tls-dir"] else None,
            accounts=int((given["--accounts"] or ["1"])[-1]),
            options=read_options(given["--option"]),
        )
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
