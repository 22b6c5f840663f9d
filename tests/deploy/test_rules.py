"""Scrape configuration and alert rules: valid, tested, and about metrics that exist."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.deploy.programs import DEPLOY, ROOT, files_of, program, run

PROMETHEUS = DEPLOY / "prometheus"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
CASES = yaml.safe_load((PROMETHEUS / "rules.test.yaml").read_text())["tests"]
NAME = re.compile(r"(?<![\w:])(?:excise_|vllm:)\w+")


def metrics_in(expression: str) -> set[str]:
    """Metrics of ours and of vLLM's, without what a histogram adds to its name."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in NAME.findall(expression)}


def defined_metrics() -> set[str]:
    return set(re.findall(r'"(excise_[a-z_]+)"', (ROOT / "service" / "metrics.py").read_text()))


def vllm_metrics() -> set[str]:
    """Names in vLLM's source; its counters get ``_total`` when they are shown."""
    source = (files_of("vllm") / "v1" / "metrics" / "loggers.py").read_text()
    names = set(re.findall(r'name="(vllm:\w+)"', source))
    return names | {f"{name}_total" for name in names}


def test_promtool_takes_configuration_and_rules():
    checked = run(program("promtool"), "check", "config", PROMETHEUS / "prometheus.yaml")
    assert checked.returncode == 0, checked.stdout
    assert f"SUCCESS: {len(RULES)} rules found" in checked.stdout


def test_the_rules_pass_their_unit_tests():
    tested = run(program("promtool"), "test", "rules", "rules.test.yaml", cwd=PROMETHEUS)
    assert tested.returncode == 0, tested.stdout


def test_a_rule_that_is_wrong_fails_its_unit_tests(tmp_path):
    rules = (PROMETHEUS / "rules.yaml").read_text()
    (tmp_path / "rules.yaml").write_text(rules.replace("(excise_database_up) == 0", "(excise_database_up) == 2"))
    case = next(case for case in CASES if "database" in case["name"])
    (tmp_path / "case.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [case]}))
    tested = run(program("promtool"), "test", "rules", "case.yaml", cwd=tmp_path)
    assert tested.returncode == 1
    assert "ExciseDatabaseDown" in tested.stdout


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_is_seen_to_fire_and_to_be_silent_on_the_same_metrics(rule):
    firing = [sample["labels"] for case in CASES for one in case["promql_expr_test"] for sample in one["exp_samples"]]
    firing += [one["alertname"] for case in CASES for one in case.get("alert_rule_test", ()) if one["exp_alerts"]]
    assert any(rule["alert"] in labels for labels in firing)
    healthy = " ".join(series["series"] for series in CASES[0]["input_series"])
    assert metrics_in(rule["expr"]) <= metrics_in(healthy), "silence must not come from a missing series"
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_ask_only_for_metrics_that_exist(rule):
    ours = {name for name in metrics_in(rule["expr"]) if not name.startswith("vllm:")}
    assert ours <= defined_metrics()


def test_rules_ask_only_for_metrics_that_vllm_has():
    asked = set().union(*(metrics_in(rule["expr"]) for rule in RULES))
    assert {name for name in asked if name.startswith("vllm:")} <= vllm_metrics()
