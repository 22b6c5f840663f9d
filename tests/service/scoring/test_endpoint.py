"""A scorer behind a network that stops answering: scoring gives way, and comes back."""

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.scoring.circuit_breaker import CircuitBreaker
from tests.service.scoring.stage import staged


class Moderator(BaseHTTPRequestHandler):
    """Answers in OpenAI's shape while `answers` is set, else lets everybody wait."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked += 1
        if not self.server.answers.is_set():
            self.server.ended.wait(30)
            self.close_connection = True
            return
        if "refused" in body["input"]:
            status, data = 400, b"{}"
        else:
            results = [{"category_scores": {"harm": 0.9 if "bad" in text else 0.1}} for text in body["input"]]
            status, data = 200, json.dumps({"model": "m", "results": results}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("EXCISE_MODERATIONS_KEY", "EXCISE_MODERATIONS_MODEL", "http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Moderator)
    httpd.asked, httpd.answers, httpd.ended = 0, threading.Event(), threading.Event()
    httpd.answers.set()
    httpd.spec = f"moderations:http://127.0.0.1:{httpd.server_address[1]}/v1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.ended.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_a_server_that_stops_answering_is_left_alone_soon_and_taken_up_again(server):
    now = [0.0]
    breaker = CircuitBreaker(3, first=5.0, clock=lambda: now[0])

    async def story():
        async with staged(server.spec, breaker=breaker, patience=0.6) as stage:
            stage.put("good", "bad")
            assert await stage.until(2) == {"good": 0.1, "bad": 0.9}
            server.answers.clear()
            began = time.monotonic()
            count = 2
            while not breaker.open:
                stage.put(f"text {count}")
                count += 1
                await stage.until(count)
            assert time.monotonic() - began < 10
            asked = server.asked
            stage.put(*map(str, range(300)))
            await stage.until(count + 300)
            assert server.asked == asked  # nobody was asked
            assert stage.dropped == count + 298
            server.answers.set()
            now[0] = 5.0
            stage.put("bad again")
            assert (await stage.until(count + 301))["bad again"] == 0.9
            assert not breaker.open

    asyncio.run(story())


def test_a_text_that_the_server_refuses_costs_no_other_its_score(server):
    async def story():
        async with staged(server.spec) as stage:
            stage.put("good", "bad", "refused", "bad too")
            return await stage.until(4), stage.restarts

    assert asyncio.run(story()) == ({"good": 0.1, "bad": 0.9, "refused": None, "bad too": 0.9}, 0)
