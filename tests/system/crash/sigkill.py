"""Kill the daemon with SIGKILL at random moments around a kill, start it again, and compare with what it had promised.

The moments, as they are drawn:

    before     dead when the flag is touched: the next start must see it
    touch      0 to 3 ms after the touch: between the reason, its record and the strike
    strike     up to 40 ms: answers come in, reads go out
    read-back  up to 1.2 s
    guarding   clear, the guard reads, a bot rests another order
    re-arm     while the gate is asked
    start      again, within 1.5 s of the start that follows any of these

If the journal holds the reason, or the intent does, the flag is taken away while the daemon is dead: the latch alone
must trip it. If neither does, no venue may have seen a cancel: one of them comes before the first byte.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from kill_switch.errors import Unreachable

from .counters import Figures
from .daemon_fixture import GUARDED_WITHIN_S, VENUES, Stand

MOMENTS = ("before", "touch", "touch", "strike", "strike", "read-back", "guarding", "re-arm")


def run(kills: int, seed: int, venues: tuple[str, ...] = VENUES) -> Figures:
    """Survive `kills` kills."""
    with Stand(venues, seed) as stand:
        stand.write_config()
        stand.start_daemon()
        while stand.figures.rounds < kills and not stand.figures.failures:
            _round(stand, stand.random.choice(MOMENTS))
        return stand.figures


def _round(stand: Stand, moment: str) -> None:
    random, figures = stand.random, stand.figures
    stand.rest_some()
    stand.forget()
    if moment == "before":
        stand.kill()
        stand.flag.touch()
    else:
        stand.flag.touch()
        match moment:
            case "touch":
                time.sleep(random.uniform(0, 0.003))
            case "strike":
                time.sleep(random.uniform(0, 0.04))
            case "read-back":
                time.sleep(random.uniform(0.04, 1.2))
            case "guarding":
                if not stand.expect_clear(moment):
                    return
                stand.rest_some(3)
                time.sleep(random.uniform(0, 0.3))
            case _:
                if not stand.expect_clear(moment) or _killed_in_rearm(stand):
                    return
        if stand.daemon is not None:
            stand.kill()
    figures.rounds += 1
    latched = stand.latched()
    if latched:
        stand.flag.unlink(missing_ok=True)
    elif stand.struck():
        figures.strikes_without_record += 1
    _again(stand, latched, moment)
    stand.rearm()
    if not stand.latched() and stand.state() != "ARMED":
        figures.false_trips += 1


def _again(stand: Stand, latched: bool, moment: str) -> None:
    """Start once more, perhaps be killed once more, and end clear; a bot has quoted on meanwhile."""
    figures = stand.figures
    stand.rest_some(3)
    stand.start_daemon(wait=False)
    while stand.random.random() < 0.35:
        time.sleep(stand.random.uniform(0, 1.5))
        stand.kill()
        figures.rounds += 1
        if latched and not stand.latched():
            figures.latches_lost += 1
        latched = stand.latched()
        if latched:
            stand.flag.unlink(missing_ok=True)
        stand.start_daemon(wait=False)
    if latched and (status := stand.wait(lambda s: True, 20.0, "no answer")) and status["state"] == "ARMED":
        figures.latches_lost += 1
        figures.failures.append(f"{moment}: armed after the restart, and nobody has re-armed it")
    stand.expect_clear(f"{moment}, started again", within_s=GUARDED_WITHIN_S)


def _killed_in_rearm(stand: Stand) -> bool:
    """Kill it while a re-arm is asked for; True if it is armed again, which the journal must then say."""
    figures, answer = stand.figures, dict[str, Any]()
    stand.flag.unlink()
    time.sleep(0.05)  # for inotify to have seen that

    def ask() -> None:
        with contextlib.suppress(Unreachable):  # the daemon may be killed before it answers
            answer.update(stand.ask(cmd="rearm", reason="crash test"))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(stand.random.uniform(0, 0.06))
    stand.kill()
    asking.join()
    figures.rounds += 1
    granted = not stand.latched()
    if "rearmed" in answer and not granted:
        figures.failures.append("a re-arm was answered, and is not on record")
    if not granted:
        _again(stand, True, "re-arm")
        stand.rearm()
        return True
    stand.start_daemon(wait=False)
    status = stand.wait(lambda s: True, 20.0, "no answer")
    if status and status["state"] != "ARMED":
        figures.false_trips += 1
    return True
