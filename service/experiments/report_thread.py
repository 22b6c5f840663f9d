"""Reports on demand. One takes a second or more, so they wait for each other in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from service.experiments.experiment import Experiment
from service.experiments.outcomes.queries import Moment, course
from service.experiments.outcomes.totals import Tally
from service.experiments.report import decision, experiment_page, figure
from service.experiments.report.report_document import Report
from service.experiments.report.time_course import width
from service.storage.database import Database

_DAY = 86_400.0

Form = Literal["html", "png"]


class Reports:
    """Makes reports and remembers each experiment's last one: it changes only with what was counted."""

    def __init__(self, clock: Callable[[], float], days: float = 30.0) -> None:
        """Start no thread yet.

        Args:
            clock: seconds since 1970.
            days: for which outcomes are kept by the minute.
        """
        self._clock, self._days = clock, days
        self._thread = ThreadPoolExecutor(1, "excise-report")
        self._last: dict[str, tuple[Experiment, Sequence[Tally], Report]] = {}

    async def document(
        self,
        experiment: Experiment,
        tallies: Sequence[Tally],
        measured: Mapping[str, object],
        database: Database | None = None,
    ) -> Report:
        """The report of what is known so far.

        Args:
            experiment: as it stands.
            tallies: its sums.
            measured: of its masks, which never change.
            database: where the course over time is read, if anything changed; none is shown without.
        """
        return await self._in_thread(self._made, experiment, tallies, measured, database)

    async def drawn(self, document: Report, form: Form) -> bytes:
        """The document as a page or a picture."""
        return await self._in_thread(self._draw, document, form)

    def close(self) -> None:
        """Take no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _made(
        self,
        experiment: Experiment,
        tallies: Sequence[Tally],
        measured: Mapping[str, object],
        database: Database | None,
    ) -> Report:
        last = self._last.get(experiment.name)
        if last is None or last[:2] != (experiment, tallies):
            moments: Sequence[Moment] = ()
            if database:
                now = self._clock()
                since = max(experiment.created_at, now - self._days * _DAY)
                moments = course(database, experiment.name, width(since, now), since)
            made = decision.report(experiment, tallies, self._clock(), measured, moments)
            self._last = {experiment.name: (experiment, tallies, made)}  # one is enough: who looks, looks again
            return made
        return last[2]

    def _draw(self, document: Report, form: Form) -> bytes:
        return experiment_page.html(document).encode() if form == "html" else figure.png(document)
