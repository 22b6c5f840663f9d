"""Commands that a worker runs: what they print, and that they end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import masks
from correction.improvement.child import run
from correction.improvement.folder import WorkerFolder, WorkerFolderError, read_json, write, write_rows
from tests.service.server import MODEL, ROOT

FOREVER = ["improve", "--server", "http://127.0.0.1:1", "--model", "m", "--general", "g"]
"""Waits ten minutes for a server that is not there."""


def test_a_command_is_run_and_what_it_prints_is_read(tmp_path):
    mask = tmp_path / "calm.safetensors"
    masks.save(masks.for_model(MODEL, "calm", neurons={0: [1, 2]}), mask)
    ended = run(["inspect", str(mask)], tmp_path / "inspect.log", lambda: None, 60)
    assert (ended.code, ended.document["name"]) == (0, "calm")
    failed = run(["inspect", str(tmp_path / "none")], tmp_path / "inspect.log", lambda: None, 60)
    assert failed.code == 2 and failed.document == {} and "Usage: excise inspect" in failed.error


def test_who_loses_the_job_ends_the_command(tmp_path):
    (tmp_path / "key").write_text("k")

    class LostError(Exception):
        pass

    def beat() -> None:
        raise LostError

    arguments = [*FOREVER, "--key-file", str(tmp_path / "key"), "--folder", str(tmp_path / "w")]
    with pytest.raises(LostError):
        run(arguments, tmp_path / "x.log", beat, 0.5)
    assert running(str(tmp_path / "w")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own")
def test_a_command_dies_with_a_worker_that_is_killed(tmp_path):
    (tmp_path / "key").write_text("k")
    arguments = [*FOREVER, "--key-file", str(tmp_path / "key"), "--folder", str(tmp_path / "w")]
    program = "import sys; from pathlib import Path; from correction.improvement.child import run; "
    program += "run(sys.argv[2:], Path(sys.argv[1]), lambda: None, 60)"
    worker = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "x.log"), *arguments], cwd=ROOT)
    wait(lambda: len(running(str(tmp_path / "w"))) == 2)  # the worker's own line has the folder, too
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    wait(lambda: running(str(tmp_path / "w")) == [])


def running(word: str) -> list[int]:
    """Processes with this in their command line."""
    process_ids = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in file.read_bytes():
                process_ids.append(int(file.parent.name))
        except OSError:
            continue
    return process_ids


def wait(true, limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_folder_is_of_one_worker_whose_name_stays(tmp_path):
    first = WorkerFolder(tmp_path / "w")
    with pytest.raises(WorkerFolderError, match="another worker's"):
        WorkerFolder(tmp_path / "w")
    first.close()
    again = WorkerFolder(tmp_path / "w")
    assert again.worker == first.worker
    again.close()
    other = WorkerFolder(tmp_path / "other")
    assert other.worker != first.worker
    other.close()


def test_what_people_wrote_is_forgotten_when_a_job_is_over(tmp_path):
    folder = WorkerFolder(tmp_path / "w")
    of = folder.of("j1")
    write_rows(of / "prompts.jsonl", "prompt", ["Hello", "„You“\n"])
    assert (of / "prompts.jsonl").read_text() == '{"prompt": "Hello"}\n{"prompt": "\\u201eYou\\u201c\\n"}\n'
    write(of / "card.json", '{"a": 1}')
    (of / "journal").mkdir()
    folder.clear("j1")
    folder.close()
    assert sorted(file.name for file in of.iterdir()) == ["card.json"]
    assert read_json(of / "card.json") == {"a": 1} and read_json(of / "none.json") is None
