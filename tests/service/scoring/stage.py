"""What the tests of scoring share: scorers that misbehave on cue, as a package, and a queue with its result."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import REGISTRY

from service.scoring.queue import ScoringQueue
from service.scoring.response import Response, Scored

MODULE = '''
import os
import signal
import time

from behaviours import ScorerError, ScorerUnavailableError


class Cued:
    """Does what the text says; scores 0.9 where it holds `bad`, else 0.1."""

    name, version, threshold = "cued", "1", 0.5

    def score(self, texts):
        for text in texts:
            for cue in text.split():
                if cue == "DIE":
                    os.kill(os.getpid(), signal.SIGKILL)
                if cue.startswith("DIE-ONCE:") and not os.path.exists(cue[9:]):
                    open(cue[9:], "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                if cue.startswith("SLEEP:"):
                    time.sleep(float(cue[6:]))
                if cue == "FAIL":
                    raise RuntimeError("cannot read this")
                if cue == "GONE":
                    raise ScorerUnavailableError("nobody there")
        return [0.9 if "bad" in text else 0.1 for text in texts]


class Slow(Cued):
    """One at a time."""

    batch = 1


class Broken(Cued):
    def __init__(self):
        raise ScorerError("cannot be made")


class Dying(Cued):
    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)
'''
POINTS = """[excise.scorers]
cued = cued_scorers:Cued
slow = cued_scorers:Slow
broken = cued_scorers:Broken
dying = cued_scorers:Dying
"""


def install(folder: Path) -> None:
    """Make a package of the scorers in a folder that is on the path."""
    info = folder / "cued-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cued\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (folder / "cued_scorers.py").write_text(MODULE)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def said(text: str, mask: str = "base", tokens=(1, 2, 3), **fields) -> Response:
    return Response(mask, text, list(tokens), **fields)


class Stage:
    """A queue, what it handed on, and what the metrics have gained since it was made."""

    def __init__(self, scorer: str = "cued", capacity: int = 1000, **options):
        self.scored: list[Scored] = []
        self.queue = ScoringQueue(scorer, capacity, on_scored=self.scored.append, **options)
        self.before = {name: value(name) for name in ("excise_scoring_dropped_total", "excise_scorer_restarts_total")}

    def put(self, *texts: str) -> None:
        for text in texts:
            self.queue.put(said(text))

    async def until(self, count: int, limit: float = 120.0) -> dict[str, float | None]:
        """Wait until that many were handed on; returns the toxicity of each text."""
        async with asyncio.timeout(limit):
            while len(self.scored) < count:
                await asyncio.sleep(0.01)
        return {one.response.text: one.toxicity for one in self.scored}

    @property
    def dropped(self) -> float:
        return value("excise_scoring_dropped_total") - self.before["excise_scoring_dropped_total"]

    @property
    def restarts(self) -> float:
        return value("excise_scorer_restarts_total") - self.before["excise_scorer_restarts_total"]


@asynccontextmanager
async def staged(*args, **options):
    """A stage whose queue is started, and closed at the end."""
    stage = Stage(*args, **options)
    stage.queue.start()
    try:
        yield stage
    finally:
        await stage.queue.close()
