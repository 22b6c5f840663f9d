"""Perspective, against a real HTTP server on this machine that answers in the documented shape."""

import json
import logging
import threading
import time
from collections import deque
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from behaviours import PerspectiveScorer, ScorerError, ScorerUnavailableError, load_scorer

KEY = "a-key-that-nobody-must-see"


def analyzed(text):
    """An answer of `comments:analyze`: 0.9 where the text holds the word `loud`."""
    score = {"value": 0.9 if "loud" in text else 0.2, "type": "PROBABILITY"}
    spans = [{"begin": 0, "end": len(text), "score": score}]
    return {
        "attributeScores": {"TOXICITY": {"spanScores": spans, "summaryScore": score}},
        "languages": ["en"],
        "detectedLanguages": ["en"],
    }


def refused(status, message):
    return status, {"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, self.headers.get("x-goog-api-key"), body))
        answer = self.server.queued.popleft() if self.server.queued else analyzed(body["comment"]["text"])
        status, payload = answer if isinstance(answer, tuple) else (200, answer)
        data = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("EXCISE_PERSPECTIVE_KEY", "EXCISE_PERSPECTIVE_QPS", "http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.seen, httpd.queued = [], deque()
    httpd.base = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def made(server):
    """Make scorers of the server that are closed afterwards and have a large quota."""
    scorers = []

    def make(**options):
        given = {"key": KEY, "rate": 10_000, "pause": 0.0, "timeout": 5.0, **options}
        scorers.append(PerspectiveScorer(server.base, **given))
        return scorers[-1]

    yield make
    for scorer in scorers:
        scorer.close()


def test_each_text_is_asked_about_as_documented(server, made):
    scorer = made()
    server.seen.clear()
    assert scorer.score(["a loud word", "  ", "a calm word"]).tolist() == [0.9, 0.0, 0.2]
    assert len(server.seen) == 2
    path, key, body = server.seen[0]
    assert (path, key) == ("/v1alpha1/comments:analyze", KEY)
    assert body == {
        "comment": {"text": "a loud word"},
        "languages": ["en"],
        "requestedAttributes": {"TOXICITY": {}},
        "doNotStore": True,
    }


def test_a_spec_loads_it_with_the_key_of_the_environment(server, monkeypatch):
    monkeypatch.setenv("EXCISE_PERSPECTIVE_KEY", KEY)
    monkeypatch.setenv("EXCISE_PERSPECTIVE_QPS", "500")
    scorer = load_scorer(f"perspective:{server.base}")
    assert scorer.score(["loud"]).tolist() == [0.9]
    assert (scorer.name, scorer.version) == (f"perspective:{server.base[7:]}", "v1alpha1 TOXICITY")
    assert (scorer.threshold, scorer.batch) == (0.5, 500)


def test_without_a_key_it_is_refused_at_once(monkeypatch):
    monkeypatch.delenv("EXCISE_PERSPECTIVE_KEY", raising=False)
    with pytest.raises(ScorerError, match="EXCISE_PERSPECTIVE_KEY"):
        load_scorer("perspective")


@pytest.mark.parametrize("rate", ["0", "-1", "many", "nan", "1e9"])
def test_a_quota_that_is_none_is_refused(monkeypatch, rate):
    monkeypatch.setenv("EXCISE_PERSPECTIVE_QPS", rate)
    with pytest.raises(ScorerError, match=f"EXCISE_PERSPECTIVE_QPS is '{rate}'"):
        PerspectiveScorer(key=KEY)


def test_requests_are_spread_as_the_quota_says(server, made):
    began = time.monotonic()
    scorer = made(rate=25)
    assert scorer.batch == 25
    scorer.score(["a", "b", "c", "d"])
    assert time.monotonic() - began > 4 / 25
    assert len(server.seen) == 5


def test_by_default_it_asks_once_a_second_one_text_at_a_time(server, made, monkeypatch):
    pauses = []
    monkeypatch.setattr("behaviours.endpoint.time.sleep", pauses.append)
    scorer = made(rate=None)
    scorer.score(["a"])
    assert scorer.batch == 1
    assert 0.5 < max(pauses) <= 1.0


def test_what_the_quota_does_not_allow_in_time_is_not_waited_for(made):
    scorer = made(rate=2, patience=0.1)
    with pytest.raises(ScorerUnavailableError, match="nobody waits that long"):
        scorer.score(["a", "b"])


def test_a_long_text_is_cut_to_what_the_server_takes(server, made):
    scorer = made()
    scorer.score(["\u00e9" * 5000, "half \ud800"])
    sent = [seen[2]["comment"]["text"] for seen in server.seen[-2:]]
    assert sent == ["\u00e9" * 1500, "half ?"]


def test_a_spent_quota_is_waited_for(server, made):
    scorer = made()
    server.queued.append(refused(429, "Quota exceeded for quota metric 'Analysis requests (AnalyzeComment)'"))
    assert scorer.score(["loud"]).tolist() == [0.9]


def test_a_refused_text_and_a_refused_key_are_told_apart(server, made):
    scorer = made()
    server.queued.append(refused(400, "Attribute TOXICITY does not support request languages: xx"))
    with pytest.raises(ScorerError, match="does not support request languages") as caught:
        scorer.score(["x"])
    assert not isinstance(caught.value, ScorerUnavailableError)
    server.queued.append(refused(403, f"key {KEY} not valid"))
    with pytest.raises(ScorerUnavailableError, match=r"answered 403: .*is EXCISE_PERSPECTIVE_KEY set") as caught:
        scorer.score(["x"])
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [[], {}, {"attributeScores": {"TOXICITY": {}}}, {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 2}}}}],
)
def test_another_answer_is_refused(server, made, answer):
    scorer = made()
    server.queued.append(answer)
    with pytest.raises(ScorerUnavailableError, match="its summary score of TOXICITY is"):
        scorer.score(["x"])


@pytest.mark.parametrize(("today", "word"), [(date(2026, 12, 31), "closes"), (date(2027, 1, 1), "closed")])
def test_its_end_is_told_when_it_is_made_and_when_it_fails(server, made, caplog, today, word):
    scorer = made(today=lambda: today)
    assert f"Perspective {word} on 2026-12-31" in caplog.text
    server.queued.append((410, {"error": "gone"}))
    with pytest.raises(ScorerUnavailableError, match=rf"answered 410: .*\(Perspective {word} on 2026-12-31\)"):
        scorer.score(["x"])


def test_the_key_is_in_no_log(server, made, caplog):
    caplog.set_level(logging.DEBUG)
    scorer = made()
    scorer.score(["loud"])
    assert KEY not in caplog.text + repr(scorer)
