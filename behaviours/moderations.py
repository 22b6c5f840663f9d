"""Scores by a server that speaks OpenAI's moderation API, `POST /v1/moderations`."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviours.endpoint import Endpoint, address, probability, usable_key

KEY_VARIABLE = "EXCISE_MODERATIONS_KEY"
MODEL_VARIABLE = "EXCISE_MODERATIONS_MODEL"


class ModerationsScorer:
    """An HTTP endpoint for moderation: the score of a text is the highest of its `category_scores`.

    Where a server gives no category scores, the score is 1.0 for a text that it `flagged`, else 0.0. A blank text
    scores 0.0 and is not sent. Every other text **leaves this machine** for the server, see `Endpoint`.

    Making one asks the server about one harmless word: a wrong address or key shows at once, and `version` is known.

    Attributes:
        name: `moderations:` and the host.
        version: The model that the server reports.
    """

    threshold = 0.5

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        batch: int = 32,
        timeout: float = 20.0,
        tries: int = 4,
        pause: float = 0.5,
        patience: float | None = None,
    ) -> None:
        """Connect to the server.

        Args:
            url: `http://host:8000/v1`, or the whole address, which ends in `/moderations`.
            key: Bearer token; by default that of the environment's `EXCISE_MODERATIONS_KEY`, if any.
            model: To ask the server for; by default that of `EXCISE_MODERATIONS_MODEL`, else the server chooses.
            batch: Texts in one request.
            timeout: Seconds to connect, and to wait for each piece of an answer.
            tries: For one request, the first included.
            pause: Seconds before the second try, doubled each time; a server's `Retry-After` of up to 30 s is kept.
            patience: Most seconds for one call of `score`; None: no limit.

        Raises:
            ScorerError: An address or key that cannot be used, or a server that does not answer as it should.
        """
        whole, host = address(url, "moderation", "moderations:http://host:8000/v1", KEY_VARIABLE)
        whole = whole if whole.endswith("/moderations") else f"{whole}/moderations"
        self.name = f"moderations:{host}"
        key = usable_key(os.environ.get(KEY_VARIABLE, "") if key is None else key, KEY_VARIABLE)
        self._model = model or os.environ.get(MODEL_VARIABLE) or None
        self._batch = batch
        self._endpoint = Endpoint(
            self.name,
            whole,
            {"authorization": f"Bearer {key}"} if key else {},
            key=key,
            key_variable=KEY_VARIABLE,
            timeout=timeout,
            tries=tries,
            pause=pause,
            patience=patience,
        )
        self.version = "unknown"
        self._scores(["hello"], self._endpoint.deadline())

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Highest category score of each text: float64 in [0, 1], shape (len(texts),).

        Raises:
            ScorerUnavailableError: The server cannot be reached, or answers something else.
            ScorerError: The server refuses one of the texts.
        """
        scores = np.zeros(len(texts), dtype=np.float64)
        spoken = [index for index, text in enumerate(texts) if text.strip()]
        deadline = self._endpoint.deadline()
        for start in range(0, len(spoken), self._batch):
            places = spoken[start : start + self._batch]
            scores[places] = self._scores([texts[place] for place in places], deadline)
        return scores

    def close(self) -> None:
        """Close the connections to the server."""
        self._endpoint.close()

    def _scores(self, texts: list[str], deadline: float) -> list[float]:
        asked: dict[str, Any] = {"input": texts} | ({"model": self._model} if self._model else {})
        answer = self._endpoint.ask(asked, deadline)
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(texts):
            raise self._endpoint.error(f"its answer to {len(texts)} texts has no list 'results' of as many")
        if isinstance(answer.get("model"), str) and answer["model"]:
            self.version = answer["model"]
        return [self._score(result) for result in results]

    def _score(self, result: Any) -> float:
        given = result.get("category_scores") if isinstance(result, dict) else None
        scores = [score for score in given.values() if score is not None] if isinstance(given, dict) else []
        for score in scores:
            if not probability(score):
                raise self._endpoint.error(f"a category score is {str(score)[:40]!r}, and must be a number from 0 to 1")
        if scores:
            return float(max(scores))
        flagged = result.get("flagged") if isinstance(result, dict) else None
        if not isinstance(flagged, bool):
            raise self._endpoint.error("a result has neither 'category_scores' nor 'flagged'")
        return float(flagged)
