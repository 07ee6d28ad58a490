"""Read the files of `monitoring/`: alerts, their tests, and the expressions of the board."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]  # apprise brings it

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitoring"
BOARD = FOLDER / "grafana-dashboard.json"
_METRIC = re.compile(r"\b(?:kill_switch|process)_[a-z0-9_]+")
_SUFFIX = re.compile(r"_(?:bucket|count|sum)$")  # of a histogram's samples
_VARIABLES = {"$instance": ".*", "$__rate_interval": "10s"}


class Alert(NamedTuple):
    """An alert of `alerts.yml`."""

    name: str
    expr: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def parsed(name: str) -> Any:
    """Return a YAML file of the folder."""
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


def alerts() -> list[Alert]:
    """Return the alerts, in their order."""
    (group,) = parsed("alerts.yml")["groups"]
    return [Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"]) for rule in group["rules"]]


def board() -> dict[str, Any]:
    """Return the board of Grafana."""
    whole: dict[str, Any] = json.loads(BOARD.read_text("utf-8"))
    return whole


def board_exprs() -> Iterator[tuple[str, str]]:
    """Yield each query of the board with its panel's title; Grafana's variables have values."""
    for panel in board()["panels"]:
        for target in panel["targets"]:
            expr: str = target["expr"]
            for variable, value in _VARIABLES.items():
                expr = expr.replace(variable, value)
            yield panel["title"], expr


def metrics_of(expr: str) -> set[str]:
    """Return the names of the metrics in an expression; a histogram's without the suffix of a sample."""
    return {_SUFFIX.sub("", name) for name in _METRIC.findall(expr)}
