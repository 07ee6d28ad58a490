"""The benchmark's results as tables for people, as JSON for scripts, and as a picture for a page.

`runner` uses it. Nothing here measures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kill_switch.errors import KillSwitchError

Row = Mapping[str, Any]


def print_json(whole: Mapping[str, object]) -> None:
    """Print all figures as one line of JSON."""
    sys.stdout.write(json.dumps(whole) + "\n")


def print_tables(whole: Mapping[str, Any]) -> None:
    """Print the figures as tables for a terminal."""
    console = Console()
    console.print(_systems(whole["rows"]))
    if "mixed" in whole:
        console.print("\naccounts spread over every venue", _mixed(whole["mixed"]), sep="\n")
    if "end_to_end" in whole:
        limit = {"trigger": "flag, as little as can be done", **whole["flag_limit"]}
        console.print(_end_to_end([limit, *whole["end_to_end"]]))
        idle, shell = whole["idle"], whole["shell"]
        console.print(f"idle, {idle['accounts']} accounts: {idle['cpu_percent']} % of a core, {idle['rss_mib']} MiB")
        console.print(f"a shell: `fire` in {shell['fire_ms']} ms, `python -c pass` in {shell['python_ms']} ms")


def _systems(rows: Sequence[Row]) -> Table:
    table = _table("accounts", "system", "received p50", "× limit", "answered p50", "× limit", "p99")
    limits = {row["accounts"]: row for row in rows if row["system"] == "limit"}
    for row in rows:
        limit = limits[row["accounts"]]
        received, answered = row["received_us"], row["answered_us"]
        table.add_row(
            str(row["accounts"]),
            row["system"],
            f"{received['p50']:,.0f} µs",
            f"{received['p50'] / limit['received_us']['p50']:.2f}",
            f"{answered['p50']:,.0f} µs",
            f"{answered['p50'] / limit['answered_us']['p50']:.2f}",
            f"{answered['p99']:,.0f} µs",
        )
    return table


def _mixed(rows: Sequence[Row]) -> Table:
    table = _table("accounts", "system", "commands", "received p50", "× limit", "answered p50", "× limit")
    limits = {row["accounts"]: row for row in rows if row["system"] == "limit"}
    for row in rows:
        cells = [str(row["accounts"]), row["system"], str(row["commands"])]
        for figures in ("received_us", "answered_us"):
            took_us = row[figures]["p50"]
            cells += [f"{took_us:,.0f} µs", f"{took_us / limits[row['accounts']][figures]['p50']:.2f}"]
        table.add_row(*cells)
    return table


def print_round_trips(whole: Mapping[str, Any]) -> None:
    """Print the figures of kills at a distance as a table."""
    table = _table("venue", "system", "commands", "within", "arrived", "answered")
    for row in whole["round_trips"]:
        apart = f"{row['apart_ms']:,.1f} ms"
        trips = [f"{row[key]:.2f}" for key in ("received_rtt", "answered_rtt")]
        table.add_row(row["venue"], row["system"], str(row["commands"]), apart, *trips)
    words = f"a round trip takes {whole['rtt_ms']:g} ms; arrived, answered: round trips until the last one"
    Console().print(words, table, sep="\n")


def _end_to_end(rows: Sequence[Row]) -> Table:
    table = _table("accounts", "trigger", "received p50", "p90", "p99")
    for row in rows:
        figures = (f"{row['received_us'][p]:,.0f} µs" for p in ("p50", "p90", "p99"))
        table.add_row(str(row["accounts"]), row["trigger"], *figures)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column in ("system", "trigger", "venue") else "right", no_wrap=True)
    return table


def need_matplotlib() -> None:
    """Raise `KillSwitchError` if matplotlib is missing: called before the measurement, which takes minutes."""
    try:
        import matplotlib  # noqa: F401 - only its presence is checked
    except ImportError:
        raise KillSwitchError("a plot needs an extra; in the checkout: pip install '.[bench]'") from None


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw latency over the number of accounts, both logarithmic, one line per contender."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.5), sharey=True)
    systems = list(dict.fromkeys(row["system"] for row in rows))
    for axis, figures, title in zip(axes, ("received_us", "answered_us"), ("received", "answered"), strict=True):
        for system in systems:
            points = [(row["accounts"], row[figures]["p50"]) for row in rows if row["system"] == system]
            style = {"linewidth": 2.5} if system == "kill-switch" else {"linestyle": ":" if system == "limit" else "-"}
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=system, **style)
        axis.set(xscale="log", yscale="log", xlabel="accounts", title=f"last command {title}, median")
        axis.grid(visible=True, which="both", alpha=0.25)
        sizes = sorted({row["accounts"] for row in rows})
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
    axes[0].set_ylabel("µs from the reason")
    axes[1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
