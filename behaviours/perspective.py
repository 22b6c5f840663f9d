"""Scores by Perspective, the comment analyzer of Jigsaw and Google, for as long as it lives: until 2026-12-31.

Source: https://developers.perspectiveapi.com, methods `AnalyzeComment` and limits; `x-goog-api-key` is Google Cloud's
header for a key that is not to stand in an address, where logs would show it.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behaviours.endpoint import Endpoint, address, probability, usable_key
from behaviours.scorer import ScorerError

KEY_VARIABLE = "EXCISE_PERSPECTIVE_KEY"
RATE_VARIABLE = "EXCISE_PERSPECTIVE_QPS"
URL = "https://commentanalyzer.googleapis.com"
LAST_DAY = date(2026, 12, 31)
"""On which the service closes for good."""
MOST_BYTES = 3000
"""Of a text in UTF-8; what is longer is cut at its end."""
_ATTRIBUTE = "TOXICITY"

_log = logging.getLogger(__name__)


class PerspectiveScorer:
    """Perspective's attribute TOXICITY, its summary score, which is a probability.

    One request a text, and no more of them a second than the quota has: 1 by default. A text is taken for English,
    since text that reads like no language is refused otherwise. A blank text scores 0.0 and is not sent. Every other
    text **leaves this machine** for Google, which is asked not to keep it (`doNotStore`).

    Perspective closes on 2026-12-31; making one warns of it in the log, and so does every error of the server. Making
    one asks about one harmless word: a wrong key shows at once.

    Attributes:
        name: `perspective`, with the host where it is another than Google's.
        version: The attribute and the API's version; Perspective names its model no further.
        batch: Most texts for one call of `score`, so that a call lasts about a second.
    """

    threshold = 0.5

    def __init__(
        self,
        url: str = URL,
        *,
        key: str | None = None,
        rate: float | None = None,
        timeout: float = 20.0,
        tries: int = 4,
        pause: float = 1.0,
        patience: float | None = None,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        """Connect to the server.

        Args:
            url: Of the server, without a path.
            key: By default that of the environment's `EXCISE_PERSPECTIVE_KEY`.
            rate: Requests a second that the quota has; by default `EXCISE_PERSPECTIVE_QPS`, else 1.
            timeout: Seconds to connect, and to wait for each piece of an answer.
            tries: For one request, the first included.
            pause: Seconds before the second try, doubled each time; a server's `Retry-After` of up to 30 s is kept.
            patience: Most seconds for one call of `score`; None: no limit.
            today: The date, in UTC.

        Raises:
            ScorerError: No key, a key or rate that cannot be used, or a server that does not answer as it should.
        """
        base, host = address(url, "Perspective", "perspective:https://host", KEY_VARIABLE)
        key = usable_key(os.environ.get(KEY_VARIABLE, "") if key is None else key, KEY_VARIABLE)
        if not key:
            raise ScorerError(f"the scorer 'perspective' needs a key of a Google Cloud project in {KEY_VARIABLE}")
        self._between = 1.0 / (_rate() if rate is None else rate)
        self.batch = max(1, int(1 / self._between))
        self.name = "perspective" if base == URL else f"perspective:{host}"
        self.version = f"v1alpha1 {_ATTRIBUTE}"
        closes = f"Perspective {'closes' if today() <= LAST_DAY else 'closed'} on {LAST_DAY}"
        _log.warning("%s; choose another scorer for what is to last longer", closes)
        self._endpoint = Endpoint(
            self.name,
            f"{base}/v1alpha1/comments:analyze",
            {"x-goog-api-key": key},
            key=key,
            key_variable=KEY_VARIABLE,
            timeout=timeout,
            tries=tries,
            pause=pause,
            patience=patience,
            remark=f" ({closes})",
        )
        self._next = 0.0
        self._score("hello", self._endpoint.deadline())

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Toxicity of each text: float64 in [0, 1], shape (len(texts),).

        Raises:
            ScorerUnavailableError: The server cannot be reached, refuses, or answers something else; or the quota does
                not allow as many texts within the patience.
            ScorerError: The server refuses one of the texts.
        """
        deadline = self._endpoint.deadline()
        return np.array([self._score(text, deadline) if text.strip() else 0.0 for text in texts], dtype=np.float64)

    def close(self) -> None:
        """Close the connections to the server."""
        self._endpoint.close()

    def _score(self, text: str, deadline: float) -> float:
        self._endpoint.wait(max(0.0, self._next - time.monotonic()), deadline)
        self._next = time.monotonic() + self._between
        asked: dict[str, Any] = {
            "comment": {"text": text.encode("utf-8", "replace")[:MOST_BYTES].decode("utf-8", "ignore")},
            "languages": ["en"],
            "requestedAttributes": {_ATTRIBUTE: {}},
            "doNotStore": True,
        }
        answer: Any = self._endpoint.ask(asked, deadline)
        for part in ("attributeScores", _ATTRIBUTE, "summaryScore", "value"):
            answer = answer.get(part) if isinstance(answer, dict) else None
        if not probability(answer):
            raise self._endpoint.error(
                f"its summary score of {_ATTRIBUTE} is {str(answer)[:40]!r}, and must be a number from 0 to 1"
            )
        return float(answer)


def _rate() -> float:
    given = os.environ.get(RATE_VARIABLE) or "1"
    try:
        rate = float(given)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 10_000:
        raise ScorerError(f"{RATE_VARIABLE} is {given!r}, and must be the requests a second of your quota, such as 1")
    return rate
