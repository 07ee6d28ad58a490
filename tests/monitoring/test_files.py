"""Rules, routes and board are valid, name metrics that there are, and agree with the pages."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from kill_switch.outbound.metric_table import BY_NAME
from tests.harness.metrics_exposure import exposed, scrape
from tests.monitoring import files
from tests.monitoring.conftest import Tool
from tests.monitoring.files import FOLDER, ROOT
from tests.unit.outbound.test_metrics import Stage

GUIDE = ROOT / "docs/guides/metrics.md"


def test_promtool_finds_no_fault_in_the_rules_and_the_example_of_prometheus(promtool: Tool) -> None:
    for words in (("check", "rules", "alerts.yml"), ("check", "config", "--syntax-only", "prometheus.yml")):
        done = promtool(*words[:-1], str(FOLDER / words[-1]))
        assert done.returncode == 0, done.stdout + done.stderr


def test_amtool_finds_no_fault_in_the_routes_and_pages_and_tickets_take_different_ones(amtool: Tool) -> None:
    file = str(FOLDER / "alertmanager.yml")
    assert amtool("check-config", file).returncode == 0
    for severity, receiver in (("page", "pages"), ("ticket", "tickets")):
        done = amtool(
            "config", "routes", "test", f"--config.file={file}", "alertname=KillSwitchX", f"severity={severity}"
        )
        assert done.stdout.strip() == receiver


def test_each_alert_fires_and_resolves_as_its_test_says(promtool: Tool) -> None:
    done = promtool("test", "rules", str(FOLDER / "alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    tests = files.parsed("alerts_test.yml")["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if case["exp_alerts"]}
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert firing == quiet == {alert.name for alert in files.alerts()}


def test_a_wrong_expectation_of_an_alert_fails(promtool: Tool, tmp_path: Path) -> None:
    text = (FOLDER / "alerts_test.yml").read_text("utf-8").replace("[alerts.yml]", f"[{FOLDER}/alerts.yml]")
    (tmp_path / "wrong.yml").write_text(text.replace("trigger: daily, figure: loss", "trigger: daily, figure: x", 1))
    assert promtool("test", "rules", str(tmp_path / "wrong.yml")).returncode != 0


def test_each_alert_has_a_sentence_about_the_next_step_and_a_page_that_is_there() -> None:
    for alert in files.alerts():
        assert alert.labels["severity"] in ("page", "ticket"), alert.name
        assert re.fullmatch(r"[A-Z].{15,}\.", alert.annotations["action"]), alert.name
        assert (ROOT / alert.annotations["runbook_url"]).is_file(), alert.name
        assert alert.annotations["summary"], alert.name


def test_the_table_of_the_guide_has_each_alert_with_its_expression_and_its_page() -> None:
    rows = re.findall(r"^\| `(KillSwitch\w+)` \| `(.+)` \| .+ \| \[[^\]]+\]\(([^)]+)\) \|$", GUIDE.read_text(), re.M)
    wanted = []
    for alert in files.alerts():
        page = alert.annotations["runbook_url"].removeprefix("docs/")
        link = page.removeprefix("guides/") if page.startswith("guides/") else f"../{page}"
        wanted.append((alert.name, alert.expr.replace("|", "\\|"), link))
    assert rows == wanted


def test_promtool_finds_no_fault_in_the_exposition(promtool: Tool) -> None:
    with exposed(Stage().meter.snapshot) as port:
        done = promtool("check", "metrics", text=scrape(port))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_metric_of_a_rule_or_of_the_board_is_one_that_the_daemon_has() -> None:
    exprs = [*(alert.expr for alert in files.alerts()), *(expr for _, expr in files.board_exprs())]
    assert {name for expr in exprs for name in files.metrics_of(expr)} <= BY_NAME.keys()


def test_promtool_understands_every_query_of_the_board(promtool: Tool, tmp_path: Path) -> None:
    rules = [{"record": f"query:{n}", "expr": expr} for n, (_, expr) in enumerate(files.board_exprs())]
    (tmp_path / "board.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    done = promtool("check", "rules", str(tmp_path / "board.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_the_panels_of_the_board_have_different_numbers_and_titles_and_do_not_overlap() -> None:
    panels = files.board()["panels"]
    assert len(panels) > 20
    for key in ("id", "title"):
        assert len({panel[key] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["h"] > 0, panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references), panel["title"]
    overlaps = [(one["title"], other["title"]) for one, other in itertools.combinations(panels, 2) if meet(one, other)]
    assert overlaps == []


def meet(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two panels share a cell."""
    first, second = one["gridPos"], other["gridPos"]
    return all(
        first[at] < second[at] + second[size] and second[at] < first[at] + first[size]
        for at, size in (("x", "w"), ("y", "h"))
    )


def test_the_guide_names_the_folder() -> None:
    assert "`monitoring/`" in GUIDE.read_text("utf-8")
