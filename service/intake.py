"""The intake: what becomes of a response that left the engine. It is scored, judged, written down, and remembered."""

from __future__ import annotations

from collections.abc import Callable

from service.experiments.outcomes.answers import Answers
from service.experiments.outcomes.ledger import Ledger
from service.experiments.outcomes.recorder import Recorder
from service.scoring.coherence import Coherence, Judge
from service.scoring.flagged import Flagged
from service.scoring.queue import ScoringQueue
from service.scoring.response import Response
from service.settings import Settings
from service.storage.database import Database
from service.traffic import Traffic


class Intake:
    """Of one server. ``put`` never blocks.

    Attributes:
        scores: whether any response is scored.
        judges: whether the coherence of a response is ever known.
    """

    def __init__(
        self, settings: Settings, database: Database, ledger: Ledger, judge: Judge, clock: Callable[[], float]
    ) -> None:
        """Start nothing yet. ``judge``: asks the engine, see ``service.engine_protocol``."""
        self.ledger = ledger
        self.flagged = Flagged(database, settings.keep_flagged, settings.flagged_days, clock)
        self.traffic = Traffic(database, clock)
        self.recorder = Recorder(ledger, self.flagged, self.traffic)
        self.scores = settings.scorer != "none" and settings.scoring_rate > 0
        self.judges = settings.coherence_rate > 0
        self.scoring = ScoringQueue(
            settings.scorer,
            settings.scoring_queue,
            rate=settings.scoring_rate if self.scores else 0.0,
            workers=settings.scoring_workers,
            on_scored=self.recorder.scored,
            drain=settings.scoring_drain,
        )
        self.coherence = Coherence(settings.coherence_rate, settings.coherence_queue, judge, self.recorder.judged)
        self.answers = Answers(database, settings.feedback_hours, clock)

    def start(self, *, baked: bool) -> None:
        """Start, on the running event loop. ``baked``: the engine has no uncorrected model that could judge."""
        self.judges = self.judges and not baked
        if self.scores:
            self.scoring.start()
        if self.judges:
            self.coherence.start()
        self.flagged.start()

    def put(self, response: Response) -> None:
        """A response has left the engine."""
        self.scoring.put(response)
        if self.judges:
            self.coherence.put(response)
        self.answers.put(response)

    async def close(self, *, drain: bool) -> None:
        """Score what is waiting, within a limit, unless not to ``drain``; what is not judged by now will not be."""
        await self.coherence.close()
        await self.scoring.close(drain=drain)
        await self.flagged.close()
