"""Watch for a flag and write: the least that a process of its own can do between a `touch` and the venues.

`python -m kill_switch.bench.bare_flag CONFIG` connects to every account of a configuration, says so in a line, and
from then on writes each account's command, made beforehand, whenever a file appears where the configuration has its
flag. There is no engine, no record, no proof and nothing that would be armed again: only what the daemon cannot be
faster than.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

import uvloop
from asyncinotify import Inotify, Mask

from kill_switch.bench.contenders import HEDGE_S, READY_WITHIN_S, Answers, command, raw
from kill_switch.config import loader
from kill_switch.config.schema import Flag
from kill_switch.transports.lane import tls_context

ANEW_AFTER_S = 0.05  # a strike's answers are there by then: sign the next one


async def main(file: Path) -> None:
    loaded = loader.load(file)
    [flag] = [trigger.path for trigger in loaded.triggers.values() if isinstance(trigger, Flag)]
    answers, adapters, wires = Answers(), [], []
    async with asyncio.timeout(READY_WITHIN_S):
        for account in loaded.accounts.values():
            adapters.append(account.adapter(HEDGE_S))
            wires.append(await raw(tls_context(account.options.ca_file), adapters[-1], answers))
    made: list[bytes] = []
    loop = asyncio.get_running_loop()

    def make() -> None:
        made[:] = [command(adapter) for adapter in adapters]

    def strike() -> None:
        os.read(inotify.fd, 4096)
        for wire, sent in zip(wires, made, strict=True):
            wire.transport.write(sent)
        loop.call_later(ANEW_AFTER_S, make)

    with Inotify() as inotify:
        inotify.add_watch(flag.parent, Mask.CREATE)
        loop.add_reader(inotify.fd, strike)
        make()
        gc.collect()
        gc.freeze()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
