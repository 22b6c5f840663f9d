"""The console's files as they are served: their headers, who gets them, and that they are those of the sources."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from pathlib import Path

import pytest

from service.api import console
from tests.service.replica import READER, code

ROOT = Path(__file__).resolve().parents[2]
PATHS = {"/console": "text/html", "/console/app.js": "text/javascript", "/console/app.css": "text/css"}


def fetch(replica, path, key=None, method="GET"):
    async def run():
        async with replica.client(key) as http:
            return await http.request(method, path)

    return asyncio.run(run())


@pytest.mark.parametrize("path", PATHS)
def test_its_files_need_no_key_for_they_hold_nothing(replicas, path):
    replica = replicas(open_probes=False)
    answer = fetch(replica, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(PATHS[path])
    assert fetch(replica, path, method="HEAD").headers["content-length"] == str(len(answer.content))
    assert code(fetch(replica, "/overview")) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", PATHS)
def test_nothing_of_another_origin_runs_in_it_and_nobody_frames_it(replicas, path):
    headers = fetch(replicas(), path).headers
    policy = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == policy["form-action"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"


def test_the_page_has_no_script_or_style_of_its_own_and_asks_nobody_else():
    page = (console.BUILT / "index.html").read_text()
    assert re.findall(r"<script[^>]*>([^<]*)</script>|style=|<style|onload|onclick", page) == [""]
    for name in ("index.html", "app.css", "app.js"):
        hosts = set(re.findall(r"https?://[\w.-]+", (console.BUILT / name).read_text()))
        assert hosts <= {"http://www.w3.org"}, name  # names of SVG and MathML, which nobody fetches


def test_with_a_key_of_either_kind_it_is_there_and_without_it_is_not(replicas):
    assert fetch(replicas(api_keys=()), "/console").status_code == 200
    assert fetch(replicas(admin_keys=()), "/console").status_code == 200
    bare = replicas(api_keys=(), admin_keys=())
    for path in (*PATHS, "/console/"):
        answer = fetch(bare, path)
        assert code(answer) == (404, "console_off")
    assert "EXCISE_CONSOLE=on" in answer.json()["error"]["message"]


def test_a_setting_opens_it_and_closes_it(replicas):
    assert fetch(replicas(api_keys=(), admin_keys=(), console="on"), "/console").status_code == 200
    answer = fetch(replicas(console="off"), "/console")
    assert code(answer) == (404, "console_off")
    assert "EXCISE_CONSOLE=off" in answer.json()["error"]["message"]


def test_with_a_slash_behind_it_leads_to_the_page(replicas):
    answer = fetch(replicas(), "/console/")
    assert (answer.status_code, answer.headers["location"]) == (308, "../console")


@pytest.mark.parametrize(
    "path",
    (
        "/console/built.json",
        "/console/../settings.py",
        "/console/..%2f..%2fsettings.py",
        "/console/%2e%2e/settings.py",
        "/console/..%5c..%5csettings.py",
        "/console//etc/passwd",
        "/console/%2fetc%2fpasswd",
        "/console/app.js/",
        "/console/app.js%00",
        "/console/APP.JS",
        "/console/app.js.map",
    ),
)
def test_no_other_name_is_a_file(replicas, path):
    assert fetch(replicas(), path).status_code == 404


def test_it_is_only_read(replicas):
    assert code(fetch(replicas(), "/console", method="POST")) == (405, "method_not_allowed")
    assert "/console" not in fetch(replicas(), "/openapi.json", READER).text


def test_what_is_served_is_what_its_sources_make():
    """`make console` builds it again; this needs no Node, for the build writes down what it was made of."""
    built = json.loads((console.BUILT / "built.json").read_text())
    assert set(built["files"]) == set(console.FILES)
    for name, digest in built["files"].items():
        assert hashlib.sha256((console.BUILT / name).read_bytes()).hexdigest() == digest, f"{name} was changed by hand"
    folder = ROOT / "console"
    inside = [path.relative_to(folder).as_posix() for path in (folder / "src").rglob("*") if path.is_file()]
    lines = [
        f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"
        for name in sorted(["build.mjs", "package-lock.json", "tsconfig.json", *inside])
    ]
    made_of = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert made_of == built["sources"], "console/ has changed since it was built: run make console"
