"""The lower bound for a flag trigger: a process that only watches for the flag file and writes prebuilt commands.

`end_to_end` starts it as `python -m kill_switch.bench.bare_flag CONFIG` and compares the daemon with it. It connects to
every account, prints `ready`, and writes each account's command whenever the flag file appears. It has no engine, no
journal, no proof and no re-arm, so the daemon cannot be faster.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

import uvloop
from asyncinotify import Inotify, Mask

from kill_switch.bench.contenders import READY_WITHIN_S, SECOND_ROUTE_S, AnswerCounter, command, raw
from kill_switch.config import loader
from kill_switch.config.schema import FlagConfig
from kill_switch.transports.lane import tls_context

ANEW_AFTER_S = 0.05  # after a flag; the answers have arrived by then, and the next commands are signed


async def main(file: Path) -> None:
    """Connect to all accounts, print `ready`, and write their commands at each flag; never return.

    `file` is the configuration, which must have exactly one flag trigger.
    """
    loaded = loader.load(file)
    [flag] = [trigger.path for trigger in loaded.triggers.values() if isinstance(trigger, FlagConfig)]
    answers, adapters, wires = AnswerCounter(), [], []
    async with asyncio.timeout(READY_WITHIN_S):
        for account in loaded.accounts.values():
            adapters.append(account.build_adapter(SECOND_ROUTE_S))
            wires.append(await raw(tls_context(account.options.ca_file), adapters[-1], answers))
    commands: list[bytes] = []
    loop = asyncio.get_running_loop()

    def build_commands() -> None:
        commands[:] = [command(adapter) for adapter in adapters]

    def strike() -> None:
        os.read(inotify.fd, 4096)
        for wire, sent in zip(wires, commands, strict=True):
            wire.transport.write(sent)
        loop.call_later(ANEW_AFTER_S, build_commands)

    with Inotify() as inotify:
        inotify.add_watch(flag.parent, Mask.CREATE)
        loop.add_reader(inotify.fd, strike)
        build_commands()
        gc.collect()
        gc.freeze()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
