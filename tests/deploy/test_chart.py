"""The Helm chart: it lints, what it makes is what Kubernetes takes, and pods have few rights."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource

from service.settings import Settings
from tests.deploy.programs import DEPLOY, files_of, program, run

CHART = DEPLOY / "helm" / "excise"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
EXAMPLES = {"defaults": None} | {path.stem.removesuffix("-values"): path for path in sorted((CHART / "ci").iterdir())}
KUBERNETES = ("v1.27.0", "v1.37.0")
FOREIGN = ("ServiceMonitor", "PrometheusRule")
"""Kinds of the Prometheus operator, whose schemas are not Kubernetes'."""


@pytest.fixture(scope="module")
def helm(tmp_path_factory):
    """Ask helm, with homes of its own."""
    home = tmp_path_factory.mktemp("helm")
    environment = {**os.environ, **{f"HELM_{name}_HOME": str(home) for name in ("CACHE", "CONFIG", "DATA")}}
    path = program("helm")
    return lambda *arguments: run(path, *arguments, env=environment)


@pytest.fixture(scope="module")
def rendered(helm, tmp_path_factory):
    """Example → its objects."""
    made: dict[str, list[dict]] = {}

    def of(example: str) -> list[dict]:
        if example not in made:
            target = tmp_path_factory.mktemp(example)
            done = helm("template", "live", CHART, "--output-dir", target, *values_of(example))
            assert done.returncode == 0, done.stdout
            files = sorted(target.rglob("*.yaml"))
            made[example] = [one for file in files for one in yaml.safe_load_all(file.read_text()) if one]
        return made[example]

    return of


def values_of(example: str) -> list[str | Path]:
    return ["--values", EXAMPLES[example]] if EXAMPLES[example] else []


def one(objects: list[dict], kind: str, name: str) -> dict:
    return next(o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))


def pods(objects: list[dict]) -> list[dict]:
    return [o["spec"]["template"] for o in objects if o["kind"] in ("Deployment", "StatefulSet")]


def chosen(selector: dict, objects: list[dict]) -> list[str]:
    """Components of the pods that a selector finds."""
    labels = [pod["metadata"]["labels"] for pod in pods(objects)]
    return [each["app.kubernetes.io/component"] for each in labels if selector.items() <= each.items()]


EVERY = pytest.mark.parametrize("example", EXAMPLES)


@EVERY
def test_helm_lints_it(helm, example):
    linted = helm("lint", "--strict", CHART, *values_of(example))
    assert linted.returncode == 0, linted.stdout


@lru_cache
def kubernetes(version: str) -> tuple[Path, Registry]:
    """Folder of the schemas of a version of Kubernetes, in which unknown fields are errors, and what they refer to."""
    folder = files_of("kubernetes_validate") / "kubernetes-json-schema" / f"{version}-local-strict"
    return folder, Resource.from_contents(json.loads((folder / "_definitions.json").read_text())) @ Registry()


def check(made: dict, version: str) -> None:
    """Raises ``jsonschema.ValidationError`` where a cluster of this version would not take the object."""
    folder, registry = kubernetes(version)
    group, _, api = made["apiVersion"].rpartition("/")
    name = "-".join(part for part in (made["kind"].lower(), group.split(".")[0], api) if part)
    schema = json.loads((folder / f"{name}.json").read_text())
    jsonschema.Draft202012Validator(schema, registry=registry).validate(made)


@EVERY
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_object(rendered, example, version):
    objects = [made for made in rendered(example) if made["kind"] not in FOREIGN]
    assert len(objects) >= 5
    for made in objects:
        check(made, version)


@pytest.mark.parametrize("version", KUBERNETES)
def test_an_object_that_kubernetes_does_not_take_is_found(rendered, version):
    made = json.loads(json.dumps(one(rendered("defaults"), "Deployment", "live-excise")))
    made["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFileSystem"] = True
    with pytest.raises(jsonschema.ValidationError, match="readOnlyRootFileSystem"):
        check(made, version)


@EVERY
def test_pods_have_few_rights(rendered, example):
    for pod in (template["spec"] for template in pods(rendered(example))):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} <= set(container["resources"])
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
            mounted = [mount["name"] for mount in container["volumeMounts"]]
            claims = ["data"] if container["name"] == "postgres" else []
            assert sorted(mounted) == sorted([volume["name"] for volume in pod["volumes"]] + claims)


def test_probes_ask_what_they_should(rendered):
    container = one(rendered("defaults"), "Deployment", "live-excise")["spec"]["template"]["spec"]["containers"][0]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == VALUES["startupSeconds"]


def test_a_pod_that_is_told_to_stop_has_time_to_drain(rendered):
    pod = one(rendered("defaults"), "Deployment", "live-excise")["spec"]["template"]["spec"]
    assert f"--shutdown-timeout={VALUES['drainSeconds']}" in pod["containers"][0]["args"]
    assert pod["terminationGracePeriodSeconds"] >= VALUES["drainSeconds"] + 15  # preStop, scoring, outcomes


@EVERY
def test_selectors_find_the_pods_they_mean(rendered, example):
    objects = rendered(example)
    for made in objects:
        spec, name = made.get("spec", {}), made["metadata"]["name"]
        meant = ["postgres"] if name.endswith("-postgres") else ["server"]
        if made["kind"] == "Service":
            assert chosen(spec["selector"], objects) == meant
        elif made["kind"] == "NetworkPolicy":
            assert chosen(spec["podSelector"]["matchLabels"], objects) == meant
            assert spec["policyTypes"] == ["Ingress", "Egress"]
        elif made["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            assert chosen(spec["selector"]["matchLabels"], objects) == meant


def test_the_charts_own_database_is_reached_by_the_servers_alone(rendered):
    objects = rendered("own-postgres")
    (rule,) = one(objects, "NetworkPolicy", "live-excise-postgres")["spec"]["ingress"]
    (peer,) = rule["from"]
    assert chosen(peer["podSelector"]["matchLabels"], objects) == ["server"]
    environment = one(objects, "Deployment", "live-excise")["spec"]["template"]["spec"]["containers"][0]["env"]
    (url,) = [variable["value"] for variable in environment if variable["name"] == "EXCISE_DATABASE"]
    assert one(objects, "Service", url.split("@")[1].split("/")[0])
    assert next(v for v in environment if v["name"] == "PGPASSWORD")["valueFrom"]["secretKeyRef"]["name"]


@EVERY
def test_secrets_are_referred_to_and_never_made(rendered, example):
    objects = rendered(example)
    assert not [o for o in objects if o["kind"] == "Secret"]
    known = {f"EXCISE_{name.upper()}" for name in Settings.model_fields}
    for pod in pods(objects):
        for container in pod["spec"]["containers"]:
            for variable in container["env"]:
                if variable["name"].startswith("EXCISE_"):
                    assert variable["name"] in known
                if any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "KEY")):
                    assert "valueFrom" in variable or variable["name"].endswith("_FILE")


def test_rules_and_dashboard_in_the_chart_are_those_beside_it(rendered):
    objects = rendered("everything")
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())
    assert one(objects, "PrometheusRule", "live-excise")["spec"] == rules
    shown = one(objects, "ConfigMap", "live-excise-dashboard")["data"]["excise.json"]
    assert shown == (DEPLOY / "grafana" / "dashboards" / "excise.json").read_text()
    (endpoint,) = one(objects, "ServiceMonitor", "live-excise")["spec"]["endpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "excise"}]


@EVERY
def test_values_follow_their_schema(example):
    given = yaml.safe_load(EXAMPLES[example].read_text()) if EXAMPLES[example] else {}
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate({**VALUES, **merged(VALUES, given)})


def merged(base: dict, given: dict) -> dict:
    """As Helm does it: maps are merged, everything else is replaced."""
    return {
        name: merged(base[name], value) if isinstance(value, dict) and isinstance(base.get(name), dict) else value
        for name, value in {**base, **given}.items()
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 3},
        {"replicas": "two"},
        {"settings": {"EXCISE_ADMIN_KEYS": "written-here"}},
        {"settings": {"EXCISE_DATABASE": "postgresql+psycopg://u:p@h/d"}},
        {"settings": {"SCORER": "none"}},
        {"arguments": ["--api-key=written-here"]},
        {"image": {"digest": "latest"}},
        {"store": {"size": "lots"}},
        {"networkPolicy": {"clients": [{"pod": {}}]}},
    ],
    ids=str,
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate(merged(VALUES, wrong))


def test_helm_refuses_them_too(helm):
    refused = helm("template", "live", CHART, "--set", "settings.EXCISE_ADMIN_KEYS=x")
    assert refused.returncode != 0
    assert "settings" in refused.stdout
