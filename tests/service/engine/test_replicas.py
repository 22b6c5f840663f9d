"""Two real replicas on one PostgreSQL and one store: they see the same, outlive the database, and count once."""

import time

import pytest

import masks
from tests.service.engine.random_masks import ALPHA, BETA
from tests.service.server import Server

pytestmark = pytest.mark.engine

LIMIT = 2.0
"""Seconds until a change on one replica must be in force on the other."""


@pytest.fixture(scope="module")
def replicas(tmp_path_factory, postgres):
    folder, url = tmp_path_factory.mktemp("replicas"), postgres.url()
    servers = [Server(folder, "--database", url) for _ in range(2)]
    try:
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.kill()
        postgres.drop(url)


def ask(server, user, model="demo"):
    with server.client() as http:
        body = {"model": model, "prompt": "Hello", "max_tokens": 4, "temperature": 0, "user": user}
        answer = http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.headers


def call(server, method, path, status=200, **settings):
    with server.client() as http:
        answer = http.request(method, path, **settings)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def soon(condition, limit=LIMIT):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_what_one_replica_learns_the_other_serves_within_two_seconds(replicas):
    one, other = replicas
    call(one, "POST", "/masks", 201, content=masks.dumps(ALPHA))
    soon(lambda: call(other, "GET", "/masks")["total"] == 1)
    soon(lambda: any(card["id"] == "demo:alpha@1" for card in call(other, "GET", "/v1/models")["data"]))
    assert ask(other, "ann", "demo:alpha@1")["x-excise-digest"] == ALPHA.digest
    call(other, "POST", "/masks", 201, content=masks.dumps(BETA))
    call(one, "PUT", "/route", json={"target": "alpha@1"})
    soon(lambda: ask(other, "ann")["x-excise-mask"] == "alpha@1")
    call(other, "POST", "/route/rollback")
    soon(lambda: ask(one, "ann")["x-excise-mask"] == "base")


def test_a_user_has_one_variant_on_both_and_is_counted_once_even_if_one_of_them_is_killed(replicas, postgres):
    one, other = replicas
    arms = [{"name": "control", "mask": "base", "weight": 1}, {"name": "treated", "mask": "alpha@1", "weight": 1}]
    call(one, "POST", "/experiments", 201, json={"name": "ab", "variants": arms})
    call(one, "PUT", "/route", json={"target": "experiment:ab"})
    soon(lambda: call(other, "GET", "/route")["target"] == "experiment:ab")
    users = [f"user-{number}" for number in range(12)]
    variants = [[ask(server, user)["x-excise-variant"] for user in users] for server in (one, other)]
    assert variants[0] == variants[1]
    assert set(variants[0]) == {"control", "treated"}

    def counted():
        variants = call(other, "GET", "/experiments/ab/report")["variants"]
        return sum(variant["responses"] for variant in variants), sum(variant["units"] for variant in variants)

    soon(lambda: counted() == (24, 12), 30)

    postgres.kill()  # the replicas go on with what they know, and say so
    assert ask(one, "user-0")["x-excise-variant"] == variants[0][0]
    soon(lambda: "lost" in call(one, "GET", "/ready")["database"], 20)
    assert "what is known is served on" in one.log.read_text()
    with one.client() as http:
        assert "excise_database_up 0.0" in http.get("/metrics").text
    answer = call(one, "PUT", "/route", 503, json={"target": "base"})
    assert answer["error"]["code"] == "database_lost"
    ask(one, "user-99")
    postgres.start()
    soon(lambda: call(one, "GET", "/ready")["database"] == "ok", 20)
    soon(lambda: counted() == (26, 13), 30)

    one.kill()  # SIGKILL: what was written stays, and is not written again
    assert counted() == (26, 13)
    assert ask(other, "user-3")["x-excise-variant"] == variants[0][3]
    call(other, "POST", "/experiments/ab/stop", json={})
    assert ask(other, "user-3")["x-excise-mask"] == "base"
