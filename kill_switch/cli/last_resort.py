"""Kill by systemd's last-resort unit, which has the secrets that a shell does not have; `fire --direct` uses it.

The unit runs `fire --direct` with the service's user and credentials. This module starts it, waits for its end, and
passes on its output and its exit code.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kill_switch.cli.next_steps import UNIT

ENDS_WITHIN_S = 180.0  # TimeoutStartSec and TimeoutStopSec of the unit, and a margin
ASKED_WITHIN_S = 10.0  # for systemctl show and journalctl
REASON_FILE = Path("/run/kill-switch-last-resort.env")  # as in the unit's EnvironmentFile
NO_PROOF = 1  # exit code
_EXITED = "1"  # CLD_EXITED, waitid(2)

Run = Callable[[Sequence[str], float], str]


class UnitResult(NamedTuple):
    """The end of the unit's run: the exit code and the output of its `fire --direct`."""

    exit_code: int
    output: str


def kill(reason: str, run: Run | None = None, reason_file: Path = REASON_FILE) -> UnitResult:
    """Start the unit and wait for its end; the exit code is 1 if it has given no proof. Only root may."""
    run = run or _run
    try:
        reason_file.write_text(f'KILL_SWITCH_REASON="{_quoted(reason)}"\n')
        run(("systemctl", "start", UNIT), ENDS_WITHIN_S)
        keys = ("InvocationID", "ExecMainCode", "ExecMainStatus")
        shown = run(("systemctl", "show", UNIT, *(f"-p{key}" for key in keys)), ASKED_WITHIN_S)
        values = dict(line.partition("=")[::2] for line in shown.splitlines())
        run(("journalctl", "--sync"), ASKED_WITHIN_S)
        invocation = f"_SYSTEMD_INVOCATION_ID={values.get('InvocationID', '')}"
        output = run(("journalctl", "--no-pager", "--output=cat", invocation), ASKED_WITHIN_S)
    except (OSError, subprocess.SubprocessError) as error:
        return UnitResult(NO_PROOF, f"{UNIT} could not be run to its end: {error}")
    finally:
        with suppress(OSError):
            reason_file.unlink(missing_ok=True)
    status = values.get("ExecMainStatus", "")
    has_ended = values.get("ExecMainCode") == _EXITED and status.isdigit()
    return UnitResult(int(status) if has_ended else NO_PROOF, output)


def _quoted(reason: str) -> str:
    """Return a reason as a double-quoted value of an EnvironmentFile can hold it; systemd.exec(5)."""
    return reason.replace("\\", "/").replace('"', "'")


def _run(command: Sequence[str], within_s: float) -> str:
    """Run a command; its exit code does not matter, because the unit's own is asked for."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)  # noqa: S603 - fixed
    return done.stdout
