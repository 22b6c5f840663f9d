"""Coherence: how likely the base model finds a response, in nats a token. A guardrail against gibberish.

The mean log-probability of a response's first tokens after the end of its prompt, under the uncorrected model.
Gibberish scores low. **A loop scores high**, for a text that repeats itself is easy to foretell, and so does whatever
the base itself would say: coherence tells whether a mask broke the model, not whether a response is good.

A sample of the responses of experiments is judged by the engine that answers, one at a time, after everything that
somebody waits for, and for at most a twentieth of the time while somebody does. When the queue is full a response goes
unjudged, and counts as dropped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from service import metrics
from service.scoring.response import Response
from service.scoring.sampling import sampled

_log = logging.getLogger(__name__)

CONTEXT = 256
"""Tokens of the prompt, its last ones, that the judge reads."""
SAID = 256
"""Tokens of the response, its first ones, that are judged: the cost of a judgement is bounded."""
LEAST = -100.0
"""Nats: what the base finds impossible counts as that."""
PAUSE = 19.0
"""Times as long as a judgement took that the next one waits while somebody is answered."""
_LONGEST_PAUSE = 60.0
_STEP = 0.05

Judge = Callable[[Sequence[int], Sequence[int]], Awaitable[float]]


class Coherence:
    """Takes finished responses on the event loop and has a sample of them judged.

    Attributes:
        users: requests that somebody waits for now.
    """

    def __init__(
        self,
        rate: float,
        capacity: int,
        judge: Judge,
        on_judged: Callable[[Response, float], None],
        *,
        limit: float = 60.0,
    ) -> None:
        """Start nothing yet.

        Args:
            rate: share of an experiment's units that is judged of each variant, 0 to 1, so that a canary with few users
                is known as well as its control. What is in no experiment is not judged, and costs nothing.
            capacity: responses that may wait; those beyond are dropped.
            judge: asks the engine, with the tokens of context and response.
            on_judged: gets each response that was judged, and its coherence.
            limit: seconds until a judgement is given up.
        """
        self._rate, self._capacity, self._judge, self._on_judged, self._limit = rate, capacity, judge, on_judged, limit
        self._waiting: deque[Response] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self.users = 0

    def start(self) -> None:
        """Start judging on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="excise-coherence")

    def put(self, response: Response) -> None:
        """Hand over a response; never blocks. Of several choices the first is judged."""
        if not self.chooses(response):
            return
        if len(self._waiting) >= self._capacity:
            metrics.COHERENCE_DROPPED.inc()
            return
        self._waiting.append(response)
        self._arrived.set()

    async def close(self) -> None:
        """End; what waits is dropped."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def chooses(self, response: Response) -> bool:
        """Whether it is one of the sample: of each variant as many, whatever its share."""
        where = response.assigned
        if where is None or not response.counted or not response.tokens or not response.context:
            return False
        return sampled(where.unit, min(1.0, self._rate / where.share) if where.share > 0 else 1.0)

    async def _run(self) -> None:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            response = self._waiting.popleft()
            began = time.perf_counter()
            try:
                coherence = await asyncio.wait_for(self._judge(response.context, response.tokens[:SAID]), self._limit)
                self._on_judged(response, max(LEAST, min(0.0, coherence)))
                self._problem = ""
            except Exception as error:  # inference must not suffer from it
                metrics.COHERENCE_DROPPED.inc()
                if repr(error) != self._problem:  # once, not with every response
                    _log.warning("a response could not be judged: %r", error)
                self._problem = repr(error)
            await self._rest(time.perf_counter() - began)

    async def _rest(self, took: float) -> None:
        """Leave the engine to its users for a while, if there are any."""
        until = time.perf_counter() + min(PAUSE * took, _LONGEST_PAUSE)
        await asyncio.sleep(0)
        while self.users and time.perf_counter() < until:
            await asyncio.sleep(_STEP)
