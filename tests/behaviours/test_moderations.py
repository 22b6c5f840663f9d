"""The moderation API, against a real HTTP server on this machine."""

import json
import logging
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from behaviours import ModerationsScorer, ScorerError, ScorerUnavailableError, load_scorer

KEY = "a-key-that-nobody-must-see"


def moderated(texts, **_):
    """An answer in OpenAI's shape: a text scores 0.9 in one category where it holds the word `loud`."""
    results = [
        {"flagged": "loud" in text, "category_scores": {"calm": 0.1, "loud": 0.9 if "loud" in text else 0.2, "x": None}}
        for text in texts
    ]
    return {"id": "m-1", "model": "tiny-moderation-3", "results": results}


class Handler(BaseHTTPRequestHandler):
    """Answers what the test has queued, and after that always `usual`."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        server.seen.append((self.path, self.headers.get("authorization"), body))
        answer = server.queued.popleft() if server.queued else server.usual
        if callable(answer):
            answer = answer(body["input"])
        if answer == "hang":
            server.released.wait(30)
            self.close_connection = True
            return
        status, headers, payload = answer if isinstance(answer, tuple) else (200, {}, answer)
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("EXCISE_MODERATIONS_KEY", "EXCISE_MODERATIONS_MODEL", "http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.seen, httpd.queued, httpd.usual, httpd.released = [], deque(), moderated, threading.Event()
    httpd.host = f"127.0.0.1:{httpd.server_address[1]}"
    httpd.base = f"http://{httpd.host}/v1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.released.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def made(server):
    """Make scorers of the server that are closed afterwards and wait for nothing."""
    scorers = []

    def make(url=None, **options):
        scorers.append(ModerationsScorer(url or server.base, **{"pause": 0.0, "timeout": 5.0, **options}))
        return scorers[-1]

    yield make
    for scorer in scorers:
        scorer.close()


def test_the_score_is_the_highest_of_the_categories(server, made):
    scorer = made()
    scores = scorer.score(["a loud word", "a calm word"])
    assert scores.dtype == float
    assert scores.tolist() == [0.9, 0.2]
    assert (scorer.name, scorer.version) == (f"moderations:{server.host}", "tiny-moderation-3")
    assert scorer.threshold == 0.5
    assert server.seen[-1][2] == {"input": ["a loud word", "a calm word"]}


def test_a_spec_loads_it_with_key_and_model_of_the_environment(server, monkeypatch):
    monkeypatch.setenv("EXCISE_MODERATIONS_KEY", f" {KEY}\n")
    monkeypatch.setenv("EXCISE_MODERATIONS_MODEL", "chosen")
    scorer = load_scorer(f"moderations:{server.base}")
    assert scorer.score(["loud"]).tolist() == [0.9]
    path, authorization, body = server.seen[-1]
    assert (path, authorization, body["model"]) == ("/v1/moderations", f"Bearer {KEY}", "chosen")


@pytest.mark.parametrize("tail", ["", "/", "/moderations", "/moderations/"])
def test_the_base_and_the_whole_address_are_the_same(server, made, tail):
    made(server.base + tail)
    assert server.seen[-1][0] == "/v1/moderations"


def test_texts_go_in_batches_and_blank_ones_stay_here(server, made):
    scorer = made(batch=2)
    server.seen.clear()
    assert scorer.score(["loud 1", "", "2", "\n", "loud 3", "4", "5"]).tolist() == [0.9, 0, 0.2, 0, 0.9, 0.2, 0.2]
    assert [body["input"] for _, _, body in server.seen] == [["loud 1", "2"], ["loud 3", "4"], ["5"]]
    assert scorer.score([]).shape == (0,)
    assert len(server.seen) == 3


def test_any_text_can_be_sent(server, made):
    texts = ["caf\u00e9 \u2028 \U0001f600", 'a "quote"\x00', "half a pair \ud800"]
    assert made().score(texts).tolist() == [0.2] * 3
    assert server.seen[-1][2]["input"] == texts


def test_a_server_without_scores_says_flagged_or_not(server, made):
    server.usual = lambda texts: {"results": [{"flagged": text == "loud", "category_scores": {}} for text in texts]}
    scorer = made()
    assert scorer.score(["loud", "calm"]).tolist() == [1.0, 0.0]
    assert scorer.version == "unknown"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, made, status):
    scorer = made()
    server.seen.clear()
    server.queued.extend([(status, {"retry-after": "0"}, {"error": "busy"})] * 2)
    assert scorer.score(["loud"]).tolist() == [0.9]
    assert len(server.seen) == 3


def test_a_server_that_stays_broken_is_given_up(server, made):
    scorer = made(tries=3)
    server.seen.clear()
    server.usual = (500, {}, {"error": "out of order"})
    with pytest.raises(ScorerError, match=r"moderations:127.*answered 500: .*out of order.*tried 3 times"):
        scorer.score(["loud"])
    assert len(server.seen) == 3


def test_pauses_grow_and_a_servers_own_is_kept(server, made, monkeypatch):
    pauses = []
    monkeypatch.setattr("behaviours.endpoint.time.sleep", pauses.append)
    scorer = made(pause=0.5)
    pauses.clear()
    busy, rate_limited, far = (503, {}, {}), (429, {"retry-after": "7"}, {}), (429, {"retry-after": "86400"}, {})
    server.queued.extend([busy, rate_limited, far])
    scorer.score(["calm"])
    assert pauses == [0.0, 0.5, 7.0, 2.0]


def test_a_server_that_does_not_answer_in_time_is_given_up(server, made):
    scorer = made(timeout=0.2, tries=2)
    server.usual = "hang"
    with pytest.raises(ScorerError, match=r"cannot be reached: ReadTimeout.*tried 2 times"):
        scorer.score(["loud"])


def test_patience_ends_tries_pauses_and_waiting_alike(server, made):
    scorer = made(timeout=5.0, tries=100, pause=0.05, patience=0.4, batch=1)
    for usual in ("hang", (503, {"retry-after": "30"}, {}), (500, {}, {})):
        server.usual = usual
        began = time.monotonic()
        with pytest.raises(ScorerUnavailableError):
            scorer.score(["loud"] * 10)
        assert time.monotonic() - began < 3.0


def test_a_text_that_is_refused_and_a_server_that_is_gone_are_told_apart(server, made):
    scorer = made(tries=1)
    server.queued.append((413, {}, {"error": "too long"}))
    with pytest.raises(ScorerError, match="answered 413") as caught:
        scorer.score(["loud"])
    assert not isinstance(caught.value, ScorerUnavailableError)
    server.queued.append((404, {}, {"error": "no route"}))
    with pytest.raises(ScorerUnavailableError, match="answered 404"):
        scorer.score(["loud"])


def test_no_server_is_told_when_the_scorer_is_made(server, made):
    free = ThreadingHTTPServer(("127.0.0.1", 0), Handler)  # a port that is nobody's once it is closed
    port = free.server_address[1]
    free.server_close()
    with pytest.raises(ScorerError, match=r"cannot be reached: ConnectError.*tried 2 times"):
        made(f"http://127.0.0.1:{port}/v1", tries=2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {}, b"<html>"), "not JSON: '<html>'"),
        ((200, {}, b'"\xff"'), "not JSON"),
        ([], "has no list 'results'"),
        ({"results": {}}, "has no list 'results'"),
        ({"results": []}, "its answer to 1 texts has no list 'results' of as many"),
        ({"results": [5]}, "neither 'category_scores' nor 'flagged'"),
        ({"results": [{"flagged": "no"}]}, "neither 'category_scores' nor 'flagged'"),
        ({"results": [{"category_scores": {"x": 1.5}}]}, "a category score is '1.5'"),
        ({"results": [{"category_scores": {"x": True}}]}, "a category score is 'True'"),
        ({"results": [{"category_scores": {"x": 0.1, "y": float("nan")}}]}, "a category score is 'nan'"),
        ((401, {}, {"error": "no key"}), "answered 401: .*is EXCISE_MODERATIONS_KEY set"),
        ((404, {}, {"error": "no route"}), "answered 404"),
    ],
)
def test_another_answer_is_refused_at_once(server, made, answer, message):
    scorer = made()
    server.seen.clear()
    server.usual = answer
    with pytest.raises(ScorerError, match=message):
        scorer.score(["calm"])
    assert len(server.seen) == 1


def test_a_redirect_is_not_followed(server, made):
    scorer = made(key=KEY)
    server.seen.clear()
    server.queued.append((307, {"location": "http://elsewhere.invalid/v1/moderations"}, {}))
    with pytest.raises(ScorerError, match=r"sends elsewhere, to 'http://elsewhere\.invalid/v1/moderations'"):
        scorer.score(["calm"])
    assert len(server.seen) == 1


def test_the_key_is_in_no_message_and_no_log(server, made, caplog):
    caplog.set_level(logging.DEBUG)
    scorer = made(key=KEY)
    server.usual = (401, {}, {"error": f"the key {KEY} is wrong"})
    with pytest.raises(ScorerError) as caught:
        scorer.score(["calm"])
    assert "***" in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text + repr(scorer) + scorer.name


@pytest.mark.parametrize("key", ["two words", "line\nline", "\u00e9t\u00e9"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key):
    with pytest.raises(ScorerError, match="EXCISE_MODERATIONS_KEY holds") as caught:
        ModerationsScorer("http://127.0.0.1:1", key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000/v1",
        "ftp://127.0.0.1/v1",
        "file:///etc/passwd",
        "http://",
        "http://:80/v1",
        "http://host:secret/v1",
        "http://me:secret@host/v1",
        "http://host/v1?key=secret",
        "http://host/v1#secret",
        "http://[::1/v1",
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused_without_being_shown(url):
    with pytest.raises(ScorerError, match="moderations:http://host:8000/v1") as caught:
        load_scorer(f"moderations:{url}")
    assert "secret" not in str(caught.value)
