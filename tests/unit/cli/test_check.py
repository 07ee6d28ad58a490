"""`check`: triggers in sentences, every problem at once; with `--connect`, refused keys and their rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kill_switch.cli import main, trigger_sentences
from kill_switch.config.messages import validate
from kill_switch.config.schema import KINDS
from kill_switch.terminal import report_views
from kill_switch.venues.binance.checks import read_rights

SENTENCES: list[tuple[dict[str, Any], str]] = [
    (
        {"kind": "flag", "path": "/run/x/KILL"},
        "x (flag) cancels the orders of all accounts once the file /run/x/KILL exists",
    ),
    (
        {"kind": "heartbeat", "timeout": "3s", "accounts": ["b"], "on_blind": "fire", "allow_bye": True},
        "x (heartbeat) cancels the orders of b when no beat has come for 3s, from the first beat on, "
        "unless a goodbye was sent",
    ),
    (
        {"kind": "schedule", "cron": "55 16 * * fri", "timezone": "UTC", "missed": "skip"},
        "x (schedule) cancels the orders of all accounts at the times of '55 16 * * fri' in UTC, "
        "and a missed time is left out",
    ),
    (
        {"kind": "link", "timeout": "10s"},
        "x (link) cancels the orders of each of a, b whose lanes have all been down for 10s",
    ),
    (
        {
            "kind": "pnl",
            "currency": "USD",
            "max_loss": "5000",
            "floor": "100000.5",
            "reset": "17:00 UTC",
            "on_blind": "alarm",
        },
        "x (pnl) cancels the orders of all accounts when their equity together has fallen by 5,000 USD since "
        "17:00 UTC or their equity together is 100,000.5 USD or less, in 2 samples in a row",
    ),
    (
        {"kind": "order-rate", "max_new": 200, "window": "10s"},
        "x (order-rate) cancels the orders of each of a, b that has more than 200 new orders within 10s",
    ),
]


@pytest.mark.parametrize(("table", "sentence"), SENTENCES)
def test_each_kind_of_trigger_is_described_in_a_sentence(table: dict[str, Any], sentence: str) -> None:
    trigger, wrong, _ = validate(KINDS[table["kind"]], table, "triggers.x")
    assert trigger is not None and wrong == []
    trigger = trigger.model_copy(update={"accounts": tuple(table.get("accounts", ("a", "b")))})
    blind = "it fires" if trigger.on_blind == "fire" else "it only notifies"
    assert trigger_sentences.sentence("x", trigger, ("a", "b")) == f"{sentence}; when it is blind, {blind}"


def test_the_sentences_cover_every_kind() -> None:
    assert {table["kind"] for table, _ in SENTENCES} == set(KINDS)


def test_directories_that_cannot_be_used_are_reported_together_with_the_other_problems(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    (tmp_path / "file").touch()
    path.write_text(f'[daemon]\nstate_dir = "{tmp_path}/file"\nruntime_dir = "{tmp_path}/run"\nbudget = 1\n')
    done = CliRunner().invoke(main, ["check", "-c", str(path)])
    assert done.exit_code == 78
    assert f"{path}:4: daemon.budget: 1, a number without a unit" in done.stderr
    assert f"{path}:2: daemon.state_dir: not a directory" in done.stderr


@pytest.mark.parametrize(
    ("rights", "sentence"),
    [
        ({}, "the venue does not say what the key may do"),
        ({"cancel": True, "withdraw": False}, "the key may cancel; not withdraw"),
        (
            {"cancel": True, "trade": False, "read": True, "withdraw": True, "ip_bound": False, "expires": "never"},
            "the key may cancel, read, withdraw; not trade; it is bound to no address; it expires: never",
        ),
    ],
)
def test_the_rights_of_a_key_are_named_as_far_as_the_venue_names_them(rights: dict[str, Any], sentence: str) -> None:
    assert report_views.key_sentence(rights) == sentence


def test_binances_rights_are_those_of_the_answer_and_no_others() -> None:
    answer = {"enableReading": True, "enableFutures": True, "ipRestrict": False}
    found = read_rights(answer, "enableFutures", "Enable Futures").key_rights
    assert found == {"cancel": True, "trade": True, "read": True, "ip_bound": False}
