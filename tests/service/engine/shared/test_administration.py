"""Masks and routes over HTTP on a real server: good, careless and hostile."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import replace
from http.client import HTTPResponse

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

import masks
from tests.service.engine.random_masks import ALPHA, BETA, random_mask
from tests.service.server import ADMIN, MODEL

pytestmark = pytest.mark.engine


@pytest.fixture
def http(gated):
    with gated.client() as client:
        yield client
        client.put("/route", json={"target": "base"})


def ask(http, **body):
    answer = http.post("/v1/completions", json={"model": "demo", "prompt": "The sky", "max_tokens": 2, **body})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-excise-mask"]


def test_the_same_bytes_again_are_the_same_version(http):
    answer = http.post("/masks", content=masks.dumps(ALPHA))
    assert (answer.status_code, answer.json()["version"], answer.json()["digest"]) == (200, 1, ALPHA.digest)


def test_a_form_upload_gives_the_next_version_and_its_file_back(http):
    mask = random_mask("formed", 7)
    first = http.post("/masks", files={"file": ("m.safetensors", masks.dumps(mask))})
    assert (first.status_code, first.json()["version"]) == (201, 1)
    second = http.post("/masks", files={"file": ("m.safetensors", masks.dumps(random_mask("formed", 8)))})
    assert second.json()["version"] == 2
    assert http.get("/masks/formed/1/file").content == masks.dumps(mask)
    described = http.get("/masks/formed/1").json()
    assert described["counts"] == {"neurons": 40, "heads": 0, "weights": 0}
    assert described["model"] == "demo:formed@1"
    assert http.get("/masks/formed").json()["total"] == 2


def test_a_file_lost_from_the_store_is_told_and_mended_by_registering_again(http, gated):
    mask = random_mask("lost", 9)
    http.post("/masks", content=masks.dumps(mask))
    stored = gated.log.parent / "store" / "masks" / f"{mask.digest}.safetensors"
    stored.unlink()
    answer = http.get("/masks/lost/1/file")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "mask_file_missing")
    assert http.post("/masks", content=masks.dumps(mask)).status_code == 200
    assert http.get("/masks/lost/1/file").content == masks.dumps(mask)


def test_the_list_is_paged(http):
    whole = http.get("/masks").json()
    page = http.get("/masks", params={"offset": 1, "limit": 1}).json()
    assert page["total"] == whole["total"]
    assert page["data"] == whole["data"][1:2]


def test_the_route_takes_effect_for_the_next_request(http):
    assert ask(http) == "base"
    for target, label in (("alpha@1", "alpha@1"), ("beta", "beta@1"), ("base", "base")):
        assert http.put("/route", json={"target": target}).json()["target"] == target
        assert ask(http) == label
        assert ask(http, model="demo:base") == "base"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"target": ""},
        {"split": [{"target": "base"}]},
        {"target": "../../etc"},
        {"target": "base", "typo": 1},
        {"target": ["base"]},
        {"target": "experiment:"},
    ],
)
def test_a_bad_route_is_400_and_changes_nothing(http, body):
    answer = http.put("/route", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]
    assert http.get("/route").json()["target"] == "base"


def test_errors_have_one_shape_whoever_raises_them(http):
    answers = [
        http.put("/route", content=b"\xff\xfe", headers={"content-type": "application/json"}),
        http.patch("/masks/alpha/1"),
        http.get("/nothing"),
        http.get("/masks/alpha/0"),
    ]
    assert [answer.status_code for answer in answers] == [400, 405, 404, 400]
    assert all(answer.json()["error"]["message"] for answer in answers)


def test_a_route_to_nothing_is_404(http):
    assert http.put("/route", json={"target": "nothing"}).status_code == 404
    assert http.put("/route", json={"target": "alpha@99"}).status_code == 404


def test_bad_masks_get_a_reason_and_the_server_goes_on(http):
    data = masks.dumps(ALPHA)
    base = ALPHA.meta.base
    stranger = masks.Mask({0: [1]}, {}, {}, replace(ALPHA.meta, base=replace(base, fingerprint="f" * 64)))
    for content, status in ((data[:-7], 400), (b"", 400), (b"\x80\x04pickle", 400), (masks.dumps(stranger), 409)):
        answer = http.post("/masks", content=content)
        assert answer.status_code == status, answer.text
        assert len(answer.json()["error"]["message"]) > 20
    assert base.fingerprint in answer.json()["error"]["message"]
    assert "f" * 64 in answer.json()["error"]["message"]
    assert http.post("/masks", files={"other": b"x"}).status_code == 400
    assert http.post("/masks", data={"file": "/etc/passwd"}).status_code == 400
    assert ask(http, model="demo:alpha") == "alpha@1"


def send_raw(server, head: str, chunks) -> tuple[int, str]:
    """Send a request by hand and read the whole answer; the server may stop listening before it is all sent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"{head}\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                connection.sendall(chunk)
        answer = HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read().decode()


def test_a_body_too_large_is_413_declared_or_not(http, gated):
    status, reason = send_raw(gated, "POST /masks HTTP/1.1", [b"Content-Length: 1000000000000\r\n\r\n"])
    assert status == 413
    assert "the limit here is" in reason
    megabyte = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
    endless = (megabyte for _ in range(600))
    status, _ = send_raw(gated, "POST /v1/completions HTTP/1.1", [b"Transfer-Encoding: chunked\r\n\r\n", *endless])
    assert status == 413
    assert ask(http) == "base"


def test_responses_are_scored_and_counted_by_mask(http):
    def count(name: str) -> float:
        prefix = f'{name}{{mask="beta@1"}} '
        return sum(
            float(line.split()[-1]) for line in http.get("/metrics").text.splitlines() if line.startswith(prefix)
        )

    def scored(responses: float) -> bool:
        """Whether so many responses were scored, waiting for scores that are under way."""
        deadline = time.monotonic() + 60
        while count("excise_toxicity_score_count") < responses and time.monotonic() < deadline:
            time.sleep(0.1)
        return count("excise_toxicity_score_count") == responses

    before = count("excise_responses_total")
    assert scored(before)  # those of the tests before
    for _ in range(3):
        ask(http, model="demo:beta", n=2)
    assert count("excise_responses_total") == before + 6
    assert scored(before + 6)
    assert (
        f'excise_mask_info{{digest="{BETA.digest}",granularity="mixed",mask="beta@1"}} 1.0' in http.get("/metrics").text
    )


OURS = ("/masks", "/route", "/ready", "/experiments", "/audit", "/flagged", "/overview", "/traffic", "/jobs")


@pytest.fixture(scope="module")
def schema(gated):
    with gated.client() as client:
        document = client.get("/openapi.json").json()
    ours = {path: item for path, item in document["paths"].items() if path.startswith(OURS)}
    loaded = schemathesis.openapi.from_dict({**document, "paths": ours})
    loaded.config.update(base_url=gated.url)
    return loaded


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_our_routes_keep_their_schema(schema, mode):
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) == 35
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
        )
        def check(case):
            # Any bytes are a valid body of POST /masks to the schema, but only a mask file is a mask.
            excluded = [positive_data_acceptance] if case.method == "POST" else []
            case.call_and_validate(headers={"Authorization": f"Bearer {ADMIN}"}, excluded_checks=excluded)

        with contextlib.suppress(Unsatisfiable):  # a call without input has no bad input
            check()


def test_every_route_of_the_running_server_is_in_the_reference(gated):
    reference = (MODEL.parents[1] / "docs" / "reference" / "http.md").read_text()
    with gated.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    ours = [path for path in paths if path.startswith(OURS)]
    assert len(ours) == 26
    for path in ours:
        assert f" {path}\n" in reference, path
