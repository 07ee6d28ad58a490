"""The metrics of the triggers, the silences and the intake. Label values are configured names, or in `IGNORED`.

`outbound.metrics` collects them. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isnan

from kill_switch.core.domain import Instant
from kill_switch.outbound.metric_table import Family, Sample, family, single
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.pnl.trigger import PnlTrigger
from kill_switch.triggers.supervisor import TriggerSupervisor

FIGURES: Mapping[str, tuple[str, str]] = {  # as `measurements` names a figure → unit, name without its unit
    "silent_s": ("seconds", "silent"),
    "down_s": ("seconds", "down"),
    "age_s": ("seconds", "age"),
    "equity": ("amount", "equity"),
    "loss": ("amount", "loss"),
    "drawdown": ("amount", "drawdown"),
    "new_orders": ("orders", "new"),
    "open_orders": ("orders", "open"),
}
FLAG = "present"  # what a flag measures: no figure
FALLS = "equity"  # to its limit, the floor; every other figure rises to its limit
IGNORED: Mapping[str, str] = {  # reasons as the intake has them → the value of the label
    "too long": "too_long",
    "not signed with the key": "not_signed",
    "too many before the start was over": "too_many_at_start",
    "not understood": "not_understood",
    "no such trigger": "unknown_trigger",
    "no figure": "no_figure",
    "goodbye not allowed": "goodbye_not_allowed",
    "sent twice": "sent_twice",
}
OTHER = "other"  # a reason that is not in `IGNORED`
WRONG_TIME = "wrong_time"  # signed datagrams whose stamp did not rise


def trigger_metrics(supervisor: TriggerSupervisor) -> Iterator[Family]:
    """Yield the metrics of all triggers: one metric for each unit."""
    states, triggers = supervisor.states(), supervisor.triggers
    yield family("trigger_state", [([name, each.kind], states[name][0]) for name, each in triggers.items()])
    values: dict[str, list[Sample]] = {unit: [] for unit, _ in FIGURES.values()}
    limits: dict[str, list[Sample]] = {unit: [] for unit in values}
    ratios: list[Sample] = []
    flags: list[Sample] = []
    for name, trigger in triggers.items():
        for measured, (value, limit) in trigger.measurements().items():
            if measured == FLAG:
                flags.append(([name], value))
                continue
            unit, figure = FIGURES[measured]
            labels = [name, figure]
            if unit == "amount":
                labels.append(trigger.terms.currency if isinstance(trigger, PnlTrigger) else "")
            values[unit].append((labels, value))
            if not isnan(limit):
                limits[unit].append((labels, limit))
                if figure != FALLS and limit > 0:
                    ratios.append(([name, figure], value / limit))
    for unit, samples in values.items():
        yield family(f"trigger_{unit}", samples)
        yield family(f"trigger_limit_{unit}", limits[unit])
    yield family("trigger_limit_used_ratio", ratios)
    yield family("trigger_flag_present", flags)


def silence_metrics(supervisor: TriggerSupervisor, now: Instant) -> Iterator[Family]:
    """Yield the metrics of the silences in force."""
    silences = {name: each for name, each in supervisor.silences.all_active().items() if name in supervisor.triggers}
    ends = [([name], now.wall_ns / 1e9 + silence.left_s(now)) for name, silence in silences.items()]
    yield family("silence_end_timestamp_seconds", ends)
    yield family("silence_holds_reason", [([name], int(bool(silence.held))) for name, silence in silences.items()])


def intake_metrics(intake: Intake) -> Iterator[Family]:
    """Yield the counters of the intake; each reason has a sample from the start on."""
    counts = dict.fromkeys([*IGNORED.values(), OTHER, WRONG_TIME], 0)
    for why, count in intake.why_ignored.items():
        counts[IGNORED.get(why, OTHER)] += count
    counts[WRONG_TIME] = intake.wrong_time
    yield single("intake_beats_total", intake.beats)
    yield family("intake_ignored_total", [([reason], count) for reason, count in counts.items()])
    yield single("intake_lost_total", intake.lost)
