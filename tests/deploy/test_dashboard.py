"""The Grafana dashboard: well formed, its questions parse, and its intervals are Wilson's."""

from __future__ import annotations

import json
import re
from math import sqrt

import pytest
import yaml

from tests.deploy.programs import DEPLOY, program, run
from tests.deploy.test_rules import defined_metrics, metrics_in, vllm_metrics

GRAFANA = DEPLOY / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "excise.json").read_text())
PANELS = DASHBOARD["panels"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
QUERIES = [
    (f"panel_{panel['id']}_{target['refId']}", target["expr"])
    for panel in PANELS
    for target in panel.get("targets", ())
]

BOUND, INFINITE = ', le="1"', ', le="+Inf"'


def filled(expression: str) -> str:
    """As Grafana sends it: with all masks and variants, experiment ``x`` and a window of an hour."""
    for name, value in {
        "__rate_interval": "1m",
        "window": "1h",
        "mask": ".*",
        "variant": ".*",
        "experiment": "x",
    }.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression
    return expression


def test_every_panel_has_its_own_id_and_place():
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def test_panels_and_variables_ask_the_chosen_source():
    for panel in PANELS:
        for source in [panel, *panel.get("targets", ())] if panel["type"] != "row" else ():
            assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    assert VARIABLES["datasource"]["type"] == "datasource"
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert used <= set(VARIABLES)


def test_the_dashboard_shows_what_an_operator_looks_for():
    titles = " ".join(panel["title"] for panel in PANELS)
    for word in ("by mask", "by variant", "Split", "queue", "dropped", "circuit", "Latency", "Outcomes", "Database"):
        assert word in titles, word
    assert "guardrails" in titles


def test_every_query_parses(tmp_path):
    rules = [{"record": name, "expr": filled(expression)} for name, expression in QUERIES]
    annotations = [{"record": f"note_{i}", "expr": a["expr"]} for i, a in enumerate(DASHBOARD["annotations"]["list"])]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules + annotations}]}))
    checked = run(program("promtool"), "check", "rules", file)
    assert checked.returncode == 0, checked.stdout


def test_queries_ask_only_for_metrics_that_exist():
    asked = [expression for _, expression in QUERIES]
    asked += [variable["definition"] for variable in VARIABLES.values() if variable["type"] == "query"]
    names = set().union(*map(metrics_in, asked))
    assert {name for name in names if not name.startswith("vllm:")} <= defined_metrics()


def test_queries_ask_only_for_metrics_that_vllm_has():
    names = set().union(*(metrics_in(expression) for _, expression in QUERIES))
    assert {name for name in names if name.startswith("vllm:")} <= vllm_metrics()


def test_every_query_finds_something_where_two_servers_count(tmp_path):
    """Every series has every label, in all combinations: what matches many with many fails here, not on the screen."""
    shown = " ".join(expression for _, expression in QUERIES)
    raw = set(re.findall(r"(?:excise_|vllm:)\w+|http_requests_total|\bup\b", shown))
    common = 'job="excise", experiment="x", reason="guardrail", status="2xx", handler="/v1/completions"'
    series = [
        {
            "series": f'{name}{{{common}, instance="{instance}", mask="{mask}", variant="{variant}"{bound}}}',
            "values": f"0+{3 if INFINITE in bound else 2}x60",
        }
        for name in sorted(raw)
        for instance in ("a:8000", "b:8000")
        for mask in ("base", "m@1")
        for variant in ("control", "treated")
        for bound in ((BOUND, INFINITE) if name.endswith("_bucket") else ("",))
    ]
    questions = [
        {
            "expr": f"count({filled(expression)}) >= bool 1",
            "eval_time": "60m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for _, expression in QUERIES
    ]
    file = tmp_path / "test.yaml"
    file.write_text(
        yaml.safe_dump({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": questions}]})
    )
    tested = run(program("promtool"), "test", "rules", file)
    assert tested.returncode == 0, tested.stdout


def wilson(events: int, trials: int) -> tuple[float, float, float]:
    """Rate, low and high of Wilson's interval, solved from |p̂ − p| = z √(p (1 − p) / n)."""
    z, rate = 1.96, events / trials
    a, b, c = 1 + z * z / trials, -(2 * rate + z * z / trials), rate * rate
    root = sqrt(b * b - 4 * a * c)
    return rate, (-b - root) / (2 * a), (-b + root) / (2 * a)


@pytest.mark.parametrize(("by", "prefix"), [("mask", "excise_"), ("variant", "excise_experiment_")])
@pytest.mark.parametrize(("toxic", "repetitive", "scored"), [(0, 1, 2), (1, 8, 10), (10, 0, 10)])
def test_rates_come_with_wilsons_interval(tmp_path, by, prefix, toxic, repetitive, scored):
    panel = next(panel for panel in PANELS if panel.get("repeat") == by)
    labels = '{mask="m@1"}' if by == "mask" else '{experiment="x", variant="v"}'
    counts = {"scored": scored, "toxic": toxic, "repetitive": repetitive}
    expected = {}
    for what in ("toxic", "repetitive"):
        rate, low, high = wilson(60 * counts[what], 60 * scored)
        expected |= {what: rate, f"{what}, low": low, f"{what}, high": high}
    near = 1e-4  # 1.92 stands for z²/2, and so on
    questions = [
        {
            "expr": f"count(abs({filled(target['expr'])} - {max(expected[target['legendFormat']], 0):.9f}) < {near})",
            "eval_time": "60m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for target in panel["targets"]
    ]
    assert len(questions) == 6
    series = [
        {"series": f"{prefix}{what}_responses_total{labels}", "values": f"0+{n}x60"} for what, n in counts.items()
    ]
    file = tmp_path / "test.yaml"
    file.write_text(
        yaml.safe_dump({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": questions}]})
    )
    tested = run(program("promtool"), "test", "rules", file)
    assert tested.returncode == 0, tested.stdout


def test_grafana_is_provisioned_from_files():
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert [(one["type"], one["url"]) for one in source] == [("prometheus", "http://prometheus:9090")]
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "excise.yaml").read_text())["providers"]
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    mounts = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert provider[0]["options"]["path"] in mounts
