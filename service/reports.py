"""Reports on demand. One takes a second or more, so they wait for each other in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from service.experiments import Experiment
from service.outcomes.totals import Tally
from service.report import decision, figure, page
from service.report.document import Report

Form = Literal["html", "png"]


class Reports:
    """Makes reports and remembers each experiment's last one: it changes only with what was counted."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "excise-report")
        self._last: dict[str, tuple[Experiment, Sequence[Tally], Report]] = {}

    async def document(
        self, experiment: Experiment, tallies: Sequence[Tally], measured: Mapping[str, object]
    ) -> Report:
        """What the outcomes say so far, beside what was ``measured`` of the masks (which never change)."""
        return await self._in_thread(self._made, experiment, tallies, measured)

    async def drawn(self, document: Report, form: Form) -> bytes:
        """The document as a page or a picture."""
        return await self._in_thread(self._draw, document, form)

    def close(self) -> None:
        """Take no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _made(self, experiment: Experiment, tallies: Sequence[Tally], measured: Mapping[str, object]) -> Report:
        last = self._last.get(experiment.name)
        if last is None or last[:2] != (experiment, tallies):
            made = decision.report(experiment, tallies, self._clock(), measured)
            self._last = {experiment.name: (experiment, tallies, made)}  # one is enough: who looks, looks again
            return made
        return last[2]

    def _draw(self, document: Report, form: Form) -> bytes:
        return page.html(document).encode() if form == "html" else figure.png(document)
