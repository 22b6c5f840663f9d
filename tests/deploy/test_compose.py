"""The Compose file: valid, closed to other machines, without a secret in it."""

from __future__ import annotations

import json
import re
import shutil
import stat

import jsonschema
import pytest
import yaml

from service.settings import Settings
from tests.deploy.programs import DEPLOY, ROOT, files_of, run

COMPOSE = DEPLOY / "compose"
FILES = ("compose.yaml", "compose.gpu.yaml")
DOCUMENT = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
SERVICES = DOCUMENT["services"]
EVERY = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


@pytest.mark.parametrize("name", FILES)
def test_compose_files_follow_the_specification(name):
    vendored = files_of("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(yaml.safe_load((COMPOSE / name).read_text()), json.loads(vendored.read_text()))


@EVERY
def test_a_service_runs_with_few_rights(service):
    user = service["user"].split(":")[0]
    assert user.isdigit() and user != "0"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "privileged" not in service and "cap_add" not in service


@EVERY
def test_ports_are_bound_to_localhost(service):
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_servers_and_database_have_no_port_and_no_way_out():
    assert DOCUMENT["networks"]["inner"] == {"internal": True}
    for name in ("excise", "postgres"):
        assert SERVICES[name]["networks"] == ["inner"]
        assert "ports" not in SERVICES[name]


@EVERY
def test_secrets_come_from_files(service):
    for name, value in service.get("environment", {}).items():
        if re.search("PASSWORD|KEY|SECRET|TOKEN", name):
            assert re.search("FILE$", name) and value.startswith("/run/secrets/"), name
            assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert set(service.get("secrets", ())) <= set(DOCUMENT["secrets"])


@EVERY
def test_what_is_mounted_from_here_is_here(service):
    for volume in service.get("volumes", ()):
        source = volume["source"] if isinstance(volume, dict) and "source" in volume else str(volume).split(":")[0]
        if isinstance(volume, str) and source.startswith("."):
            assert (COMPOSE / source).exists(), source
            assert volume.endswith(":ro"), source
        elif isinstance(volume, str):
            assert source in DOCUMENT["volumes"], source


def test_settings_are_those_of_the_server():
    known = {f"EXCISE_{name.upper()}" for name in Settings.model_fields}
    given = {name for name in SERVICES["excise"]["environment"] if name.startswith("EXCISE_")}
    assert given <= known


def test_variables_are_in_the_example():
    text = "".join((COMPOSE / name).read_text() for name in FILES[:1])
    example = (COMPOSE / ".env.example").read_text()
    for name, default in re.findall(r"\$\{([A-Z_]+)(?::-([^}]*))?", text):
        assert re.search(rf"^#?{name}={re.escape(default)}", example, re.MULTILINE), name


def test_the_servers_user_is_the_images():
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert dockerfile.count(f"USER {SERVICES['excise']['user']}\n") == 2
    uid = SERVICES["excise"]["user"].split(":")[0]
    assert dockerfile.count(f"useradd --uid {uid} ") == 2


def test_secrets_are_written_once_and_kept(tmp_path):
    shutil.copy(COMPOSE / "secrets.sh", tmp_path)
    first = run("sh", tmp_path / "secrets.sh")
    assert first.returncode == 0, first.stdout
    folder = tmp_path / "secrets"
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(written) == set(DOCUMENT["secrets"])
    assert {f"./secrets/{name}" for name in written} == {secret["file"] for secret in DOCUMENT["secrets"].values()}
    assert len(set(written.values())) == len(written)
    assert re.fullmatch("[0-9a-f]{64}\n", written["admin_keys"])
    assert f"password={written['postgres_password']}" in written["postgres_service"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert run("sh", tmp_path / "secrets.sh").returncode == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == written


def test_written_secrets_are_not_committed():
    assert "secrets/" in (COMPOSE / ".gitignore").read_text().splitlines()
