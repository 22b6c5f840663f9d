"""The log: one format, a line that no message can forge, and one for each change that was really made."""

import asyncio
import json
import logging
import re
import subprocess
import sys

import pytest

import masks
from service import logs
from service.errors import ConflictError
from service.keys import fingerprint
from service.storage import audit
from tests.service.replica import ADMIN, arms, made
from tests.service.server import MODEL, ROOT

LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([A-Z]+) \[(\S+) (\d+) (\S+)\] (.*)", re.DOTALL)


def record(message, *args, level=logging.INFO, **fields):
    made_of = {"name": "service.audit", "levelno": level, "levelname": logging.getLevelName(level), "msg": message}
    return logging.makeLogRecord({**made_of, "args": args, "created": 1_800_000_000.25, "process": 42, **fields})


def test_a_line_of_text():
    assert logs.Lines().format(record("%s is %d", "this", 1)) == (
        "2027-01-15T08:00:00.250Z INFO [APIServer 42 service.audit] this is 1"
    )
    of_vllm = record("x", vllm_process_name="EngineCore", name="vllm.v1", level=logging.WARNING)
    assert logs.Lines().format(of_vllm) == "2027-01-15T08:00:00.250Z WARNING [EngineCore 42 vllm.v1] x"


@pytest.mark.parametrize("bad", ["\n", "\r\n", "\u2028", "\x85", "\x0b", "\x1b[2J", "\ud800", "\x00"])
def test_no_message_looks_like_two_lines_or_moves_the_cursor(bad):
    forged = "2027-01-15T08:00:00.250Z INFO [APIServer 42 service.audit] set route, by key 1"
    for shown in (logs.Lines().format(record(f"a{bad}{forged}")), logs.JsonLines().format(record(f"a{bad}{forged}"))):
        assert all(line.startswith(("    ", shown[:10])) for line in shown.splitlines())
        assert [line for line in shown.splitlines() if line == forged] == []
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)
        shown.encode()


def test_a_line_of_json_is_one_line_with_what_is_known():
    try:
        raise ConflictError("in\nuse", code="in_use")
    except ConflictError:
        failed = record("failed: %r", 'ü\n"', exc_info=sys.exc_info(), **{logs.FIELDS: {"who": "key 3f9a01bc"}})
    shown = logs.JsonLines().format(failed)
    assert len(shown.splitlines()) == 1
    entry = json.loads(shown)
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("ConflictError: in\nuse")
    del entry["exception"]
    assert entry == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "INFO",
        "process": "APIServer",
        "pid": 42,
        "logger": "service.audit",
        "message": "failed: 'ü\\n\"'",
        "who": "key 3f9a01bc",
    }
    assert logs.Lines().format(failed).splitlines()[1].startswith("    Traceback")


def test_the_list_of_routes_is_left_out_and_nothing_else():
    kept = logs.WithoutRoutes()
    assert not kept.filter(record("Available routes are:"))
    assert not kept.filter(record("Route: %s, Methods: %s", "/health", "GET"))
    assert not kept.filter(record("Route: %s, Endpoint: %s", "/metrics", "x"))
    assert kept.filter(record("[shutdown] API server: shutdown triggered"))
    assert kept.filter(record("port %s is used by process %s", 1, 2))


def test_each_change_is_a_line_once_it_is_made_and_none_where_it_is_not(replicas, caplog):
    replica = replicas()
    detox = made("detox", 1)

    async def run() -> None:
        async with replica.client() as http:
            await http.post("/masks", content=masks.dumps(detox))
            await http.post("/masks", content=masks.dumps(detox))  # the same again: nothing changes
            await http.put("/masks/detox/aliases/live", json={"version": 1})
            await http.put("/route", json={"target": "detox@1"})
            await http.delete("/masks/detox/1")  # in use
            await http.post("/route/rollback")
            await http.post("/experiments", json={"name": "ab", "variants": arms(1, 1)})
            await http.post("/experiments/ab/stop", json={})
            await http.delete("/flagged")

    with caplog.at_level(logging.INFO, logger="service.audit"):
        asyncio.run(run())
    records = [one for one in caplog.records if one.name == "service.audit"]
    by = f", by key {fingerprint(ADMIN)}: "
    assert [one.getMessage() for one in records] == [
        f"register detox@1{by}digest {detox.digest}",
        f"set alias detox live{by}1",
        f"set route{by}detox@1",
        f"roll back route{by}detox@1 -> base",
        f"create experiment ab{by}revision 1, status running",
        f"stop experiment ab{by}revision 1, status running -> revision 2, status stopped; by an operator",
        f"delete flagged{by}kept 0",
    ]
    line = json.loads(logs.JsonLines().format(records[2]))
    assert (line["who"], line["action"], line["subject"]) == (f"key {fingerprint(ADMIN)}", "set route", "route")
    assert (line["before"], line["after"], line["reason"]) == (None, "detox@1", None)


def test_a_change_that_is_taken_back_is_no_line(replicas, caplog):
    database = replicas().database
    with caplog.at_level(logging.INFO, logger="service.audit"):
        with pytest.raises(RuntimeError, match="stop"), database.change() as connection:
            audit.write(connection, "set route", "route", before="base", after="detox@1")
            raise RuntimeError("stop")
        with database.change() as connection:
            audit.write(connection, "set route", "route", after="base", reason="a\nb")
            assert caplog.records == []
    assert [one.getMessage() for one in caplog.records] == ["set route, by server: base; a; b"]


PROGRAM = """
import json, logging, sys, warnings
from service import logs
logs.begin(sys.argv[1])
logging.getLogger("service.start").warning("early")
from service.engine import server, vllm_logs
from service.settings import parse
launch = server.prepare(sys.argv[2], ["--disable-access-log-for-endpoints", "/ready, /health", *sys.argv[3:]])
options = server.configured(launch, parse(log_format=sys.argv[1]), mask=None, gated=True)
options.logging_config = vllm_logs.adopt(options)
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.logger import configure_logging, init_logger
configure_logging(options.logging_config)  # as each of its processes does
print(options.logging_config.pylogging_config_file, file=sys.stdout)
import uvicorn
uvicorn.Config("x:y", log_config=get_uvicorn_log_config(options))
logging.getLogger("service.engine").info("ours\\nsecond")
init_logger("vllm.x").info("theirs")
init_logger("vllm.x").debug("more of theirs")
init_logger("vllm.entrypoints.launchers.launcher").info("Route: %s, Methods: %s", "/x", "GET")
logging.getLogger("uvicorn.error").info("started")
for path in ("/masks", "/ready"):
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", path, "1.1", 200)
warnings.warn("old", FutureWarning)
logging.getLogger("torch").warning("heavy")
"""
SAID = ["early", "ours", "theirs", "started", '127.0.0.1:1 - "GET /masks HTTP/1.1" 200']


def said_by(form, *options):
    run = subprocess.run(
        [sys.executable, "-W", "always::FutureWarning", "-c", PROGRAM, form, str(MODEL), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    return run


def test_all_speak_in_one_format(tmp_path):
    run = said_by("text")
    matches = [LINE.fullmatch(line) for line in run.stderr.splitlines() if not line.startswith("    ")]
    ours = [match[6] for match in matches if match and match[5] not in ("vllm.platforms", "torch._library.triton")]
    assert [said for said in ours if said in SAID] == SAID, run.stderr
    assert "    second" in run.stderr.splitlines()
    assert any("FutureWarning: old" in said for said in ours)
    assert "heavy" in ours
    assert not re.search("Route:|more of theirs|GET /ready", run.stderr)
    unlike = [line for line in run.stderr.splitlines() if not line.startswith("    ") and not LINE.fullmatch(line)]
    assert [line for line in unlike if "Triton not available" not in line] == []


def test_all_speak_in_json_and_at_the_level_that_is_asked_for(tmp_path):
    run = said_by("json", "--log-level", "DEBUG")
    entries = [json.loads(line) for line in run.stderr.splitlines() if line.startswith("{")]
    messages = [one["message"] for one in entries]
    assert [said for said in messages if said in (*SAID, "ours\nsecond")] == [SAID[0], "ours\nsecond", *SAID[2:]]
    assert "more of theirs" in messages
    assert {"early", "started"} <= {one["message"] for one in entries if one["process"] == "APIServer"}
    assert [line for line in run.stderr.splitlines() if not line.startswith("{") and "Triton" not in line] == []


def test_an_operators_own_configuration_is_left_alone(tmp_path):
    configuration = {"version": 1, "disable_existing_loggers": False, "loggers": {"vllm": {"level": "ERROR"}}}
    file = tmp_path / "own.json"
    file.write_text(json.dumps(configuration))
    run = said_by("text", "--logging-config.pylogging_config_file", str(file))
    assert run.stdout.split() == [str(file)]
    assert "theirs" not in run.stderr
    assert re.search(r"Z INFO \[APIServer \d+ service.engine\] ours$", run.stderr, re.MULTILINE)
