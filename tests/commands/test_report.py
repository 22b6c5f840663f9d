from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
import typer
from typer.testing import CliRunner

from commands.report import ReportError
from commands.report import report as command
from service.experiments.report.decision import report
from tests.service.experiments.report.tallies import HARMFUL, LATER, experiment, tally, totals

TALLIES = [tally("base", totals(20_000, 600)), tally("detox", totals(20_000, 200))]
FOUND, WARNED = (report(experiment(), TALLIES, LATER, measured) for measured in ({}, {"detox@1": HARMFUL}))
app = typer.Typer()
app.command()(command)


def error(message):
    return {"error": {"message": message, "type": "x", "code": "x", "param": None}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.removeprefix("/experiments/").removesuffix("/report")
        status, body = {
            "tone": (200, FOUND),
            "warned": (200, WARNED),
            "a%2Fb%20%3Fc": (200, FOUND),
            "new": (200, {**FOUND, "format": 3}),
            "other": (200, {"hello": "world"}),
            "bad": (503, error("the database does not answer")),
            "words": (500, "oops"),
        }.get(name, (404, error(f"there is no experiment {name!r}")))
        if self.headers.get("Authorization") != "Bearer first":
            status, body = 401, error("no key, or an unknown one")
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments, key="first"):
    return CliRunner().invoke(app, arguments, env={"EXCISE_API_KEYS": key, "COLUMNS": "160"})


def told(*arguments, key="first"):
    """The error that the command ended with."""
    result = run(*arguments, key=key)
    assert isinstance(result.exception, ReportError), result.output
    return str(result.exception)


def test_the_decision_and_a_table_are_shown(url):
    result = run("tone", "--url", url)
    assert result.exit_code == 0, result.output
    assert "tone (running): detox is better than base" in result.output.splitlines()[0]
    assert "detox@1" in result.output and "as often as you like" in result.output


def test_warnings_of_masks_are_shown_beside_what_was_measured_offline(url, tmp_path):
    shown = run("warned", "--url", url)
    assert shown.exit_code == 0, shown.output
    assert "⚠ detox (detox@1): Perplexity rose by 245.0% (interval 210.0% to 290.0%)." in shown.output
    assert "But its mask detox@1 has warnings: Perplexity rose" in " ".join(shown.output.split())
    assert "perplexity, offline" in shown.output and "+245.0%" in shown.output and "35.7% → 100.0%" in shown.output
    assert "offline" not in run("tone", "--url", url).output.partition("•")[0]
    written = run("warned", "--url", url, "-o", str(tmp_path / "r.json"))
    assert "⚠ detox (detox@1): Perplexity rose" in written.output.splitlines()[1]


def test_json_is_the_document_and_nothing_else(url):
    assert json.loads(run("tone", "--url", f"{url}/", "--json").output) == FOUND


def test_of_several_keys_in_the_environment_the_first_is_sent(url):
    assert run("tone", "--url", url, key="first, second").exit_code == 0
    assert run("tone", "--url", url, "--key", "first", key="wrong").exit_code == 0


@pytest.mark.parametrize(("name", "begins"), [("r.html", b"<!doctype html>"), ("r.png", b"\x89PNG"), ("r.json", b"{")])
def test_a_file_is_written_by_its_suffix(url, tmp_path, name, begins):
    result = run("tone", "--url", url, "-o", str(tmp_path / name))
    assert result.exit_code == 0 and "better" in result.output
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_any_name_is_asked_for_as_it_is(url):
    assert run("a/b ?c", "--url", url).exit_code == 0


def test_errors_say_what_to_do(url, tmp_path):
    assert "--key or EXCISE_API_KEYS" in told("tone", "--url", url, key="wrong")
    assert "there is no experiment 'nobody'" in told("nobody", "--url", url)
    assert "answered 503: the database does not answer" in told("bad", "--url", url)
    assert "answered 500: status 500" in told("words", "--url", url)
    assert "is not a report" in told("other", "--url", url)
    assert "format 3" in told("new", "--url", url)
    assert "--url nonsense" in told("tone", "--url", "nonsense")
    assert ".json, .html or .png" in told("tone", "--url", url, "-o", str(tmp_path / "r.pdf"))
    assert "no folder" in told("tone", "--url", url, "-o", str(tmp_path / "none" / "r.png"))
    (tmp_path / "r.json").mkdir()
    assert "cannot be written" in told("tone", "--url", url, "-o", str(tmp_path / "r.json"))


def test_a_server_that_is_not_there_is_named():
    message = told("tone", "--url", "http://127.0.0.1:9")
    assert "no server answers at http://127.0.0.1:9" in message and "excise serve" in message


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(monkeypatch):
    def slow(*_, timeout, **__):
        raise httpx.ReadTimeout(f"{timeout}")

    monkeypatch.setattr(httpx, "get", slow)
    assert "did not answer within 60 seconds" in told("tone")
