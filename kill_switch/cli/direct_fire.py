"""Kill without the daemon, for `fire --direct` and `fire --direct-after`: by the last-resort unit, or in this process.

The last-resort unit is used where the secrets are systemd credentials. Nothing here asks the daemon.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kill_switch import printable
from kill_switch.cli import kill_verb
from kill_switch.cli.common import print_json, say
from kill_switch.core.domain import without_reason


def fire_by_unit(config: Path | None, reason: str, scope: Sequence[str], as_json: bool) -> None:
    """Kill by the last-resort unit and end, if its secrets are missing here; else return."""
    from kill_switch.cli import next_steps

    facts = next_steps.look(config)
    if not facts.needs_unit or not facts.has_unit:
        return
    if not facts.is_root or scope:
        why = "only root may start it" if not facts.is_root else "it kills every account, and no --scope"
        say(f"kill-switch: the secrets are systemd credentials; {next_steps.UNIT} has them: {why}", err=True)
        say("\n".join(f"  {line}" for line in next_steps.ways(facts)), err=True)
        return
    from kill_switch.cli import last_resort

    say(f"kill-switch: the secrets are systemd credentials: starting {next_steps.UNIT}, which has them", err=True)
    result = last_resort.kill(reason)
    if as_json:
        print_json({"unit": next_steps.UNIT, "exit": result.exit_code, "output": result.output.splitlines()})
    else:
        say(result.output.rstrip("\n"))
    if result.exit_code:
        say(f"kill-switch: {next_steps.UNIT} gave no proof for every account; it tries again by itself", err=True)
    sys.exit(result.exit_code)


def fire_directly(
    path: Path | None,
    reason: str,
    scope: Sequence[str],
    wait_s: float,
    dry_run: bool,
    say_all: Callable[[], object],
) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Kill without the daemon, or only list what would be hit.

    `say_all` says that all accounts are killed; it is called only where that is so, and before the kill. Return the
    report, and the accounts or selectors in scope that were not reached, each with the reason.
    """
    import anyio

    from kill_switch import logging_setup, unexpected
    from kill_switch.config.rescue import rescue
    from kill_switch.system.hardening import forbid_dumps

    logging_setup.set_up()
    unexpected.be_brief()
    forbid_dumps()
    rescued = rescue(path)
    for problem in rescued.problems:
        say(f"{problem.place or rescued.config.source}: {problem}", err=True)
    accounts, left_out, unknown = rescued.select(scope)
    missed_accounts = {name: "; ".join(map(str, rescued.left_out[name])) for name in left_out}
    if unknown or not scope:
        missed_accounts |= rescued.unread
    missed_accounts |= dict.fromkeys(unknown, "no account and no tag is called that")
    if not accounts and (dry_run or not left_out):
        return {}, missed_accounts
    if dry_run:
        from kill_switch.direct import connect_check

        shown, unseen = anyio.run(connect_check.dry_run, rescued.config, accounts)
        return {"dry_run": True, "accounts": shown}, {**missed_accounts, **unseen}
    from kill_switch.direct import direct_kill as direct

    if not missed_accounts:
        say_all()
    elif accounts and not scope:
        names = ", ".join(accounts[: kill_verb.SHOWN]) + (", …" if len(accounts) > kill_verb.SHOWN else "")
        count = f"{len(accounts)} of {len(accounts) + len(missed_accounts)}"
        say(f"kill-switch: killing the accounts that can be used, {count}: {names}", err=True)
    evidence = {"uid": os.getuid(), "user": str(os.getuid()), "pid": os.getpid()}
    name = os.environ.get("LOGNAME") or os.environ.get("USER") or str(os.getuid())
    reason = reason.strip() or without_reason(printable.line(name))
    report, failed = anyio.run(direct.fire, rescued.config, reason, accounts, wait_s, evidence, left_out)
    return report, {**missed_accounts, **failed}
