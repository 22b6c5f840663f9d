"""Scores by a server that speaks OpenAI's moderation API, `POST /v1/moderations`."""

import importlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from behaviours.scorer import ScorerError

KEY_VARIABLE = "EXCISE_MODERATIONS_KEY"
MODEL_VARIABLE = "EXCISE_MODERATIONS_MODEL"


class ModerationsScorer:
    """An HTTP endpoint for moderation: the score of a text is the highest of its `category_scores`.

    Where a server gives no category scores, the score is 1.0 for a text that it `flagged`, else 0.0. A blank text
    scores 0.0 and is not sent. Every other text **leaves this machine** for the server. After a 429, a 5xx or a failed
    connection it tries again, with a growing pause; a redirect is never followed, so that neither key nor text goes
    to a host that was not named.

    Making one asks the server about one harmless word: a wrong address or key is told at once, and `version` is known.

    Attributes:
        name: `moderations:` and the host.
        version: the model that the server says it uses.
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
    ) -> None:
        """Connect to the server.

        Args:
            url: `http://host:8000/v1`, or the whole address, which ends in `/moderations`.
            key: bearer token; by default that of the environment's `EXCISE_MODERATIONS_KEY`, if any.
            model: to ask the server for; by default that of `EXCISE_MODERATIONS_MODEL`, else the server chooses.
            batch: texts in one request.
            timeout: seconds to connect, and to wait for each piece of an answer.
            tries: for one request, the first included.
            pause: seconds before the second try, doubled each time; a server's `Retry-After` of up to 30 s is kept.

        Raises:
            ScorerError: an address or key that cannot be used, or a server that does not answer as it should.
        """
        self._url, host = _address(url)
        self.name = f"moderations:{host}"
        self._key = _key(os.environ.get(KEY_VARIABLE, "") if key is None else key)
        self._model = model or os.environ.get(MODEL_VARIABLE) or None
        self._batch, self._tries, self._pause = batch, tries, pause
        self._httpx = importlib.import_module("httpx")
        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        self._client = self._httpx.Client(headers=headers, timeout=timeout, follow_redirects=False)
        self.version = "unknown"
        self._scores(["hello"])

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Highest category score of each text: float64 in [0, 1], shape (len(texts),).

        Raises:
            ScorerError: the server cannot be reached, refuses, or answers something else.
        """
        scores = np.zeros(len(texts), dtype=np.float64)
        spoken = [index for index, text in enumerate(texts) if text.strip()]
        for start in range(0, len(spoken), self._batch):
            places = spoken[start : start + self._batch]
            scores[places] = self._scores([texts[place] for place in places])
        return scores

    def close(self) -> None:
        """Close the connections to the server."""
        self._client.close()

    def _scores(self, texts: list[str]) -> list[float]:
        asked: dict[str, Any] = {"input": texts} | ({"model": self._model} if self._model else {})
        answer = self._answer(json.dumps(asked).encode())
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(texts):
            raise self._error(f"its answer to {len(texts)} texts has no list 'results' of as many")
        if isinstance(answer.get("model"), str) and answer["model"]:
            self.version = answer["model"]
        return [self._score(result) for result in results]

    def _score(self, result: Any) -> float:
        given = result.get("category_scores") if isinstance(result, dict) else None
        scores = [score for score in given.values() if score is not None] if isinstance(given, dict) else []
        for score in scores:
            if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                raise self._error(f"a category score is {str(score)[:40]!r}, and must be a number from 0 to 1")
        if scores:
            return float(max(scores))
        flagged = result.get("flagged") if isinstance(result, dict) else None
        if not isinstance(flagged, bool):
            raise self._error("a result has neither 'category_scores' nor 'flagged'")
        return float(flagged)

    def _answer(self, body: bytes) -> Any:
        """The JSON that the server answers with status 200, however many tries it took."""
        problem = ""
        wait = 0.0
        for attempt in range(self._tries):
            time.sleep(wait)
            try:
                response = self._client.post(self._url, content=body)
            except self._httpx.TransportError as error:
                problem, wait = f"cannot be reached: {type(error).__name__}: {error}", self._pause * 2**attempt
                continue
            if response.status_code == 200:
                try:
                    return response.json()
                except ValueError:
                    raise self._error(f"its answer is not JSON: {self._shown(response.text)}") from None
            problem = f"answered {response.status_code}: {self._shown(response.text)}"
            if response.is_redirect:
                target = self._shown(response.headers.get("location", ""))
                raise self._error(f"sends elsewhere, to {target}; redirects are not followed: give the final address")
            if response.status_code in (401, 403):
                raise self._error(f"{problem}; is {KEY_VARIABLE} set, and to the key of this server?")
            if response.status_code != 429 and response.status_code < 500:
                raise self._error(problem)
            wait = _pause(response.headers, self._pause * 2**attempt)
        raise self._error(f"{problem} (tried {self._tries} times)")

    def _error(self, problem: str) -> ScorerError:
        return ScorerError(f"the scorer {self.name!r} at {self._url}: {problem}")

    def _shown(self, text: str) -> str:
        """The start of what a server said, without the key that it may have said back."""
        return repr((text.replace(self._key, "***") if self._key else text)[:200])


def _address(url: str) -> tuple[str, str]:
    """The full address, and its host and port. What is refused is not repeated: it may hold a password."""
    example = "write it as moderations:http://host:8000/v1"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ScorerError(f"a moderation server's address is http:// or https://, a host and perhaps a port; {example}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ScorerError(
            "a moderation server's address is shown in results, and must hold no password, query or fragment; "
            f"{example} and put the key into {KEY_VARIABLE}"
        )
    path = parts.path.rstrip("/")
    whole = path if path.endswith("/moderations") else f"{path}/moderations"
    return f"{parts.scheme}://{parts.netloc}{whole}", parts.netloc


def _key(given: str) -> str:
    key = given.strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ScorerError(f"{KEY_VARIABLE} holds white space or letters that no HTTP header can carry; set it again")
    return key


def _pause(headers: Mapping[str, str], own: float) -> float:
    """Seconds to wait: what the server asks for, if that is a number of up to 30; else our own."""
    try:
        asked = float(headers.get("retry-after", ""))
    except ValueError:
        return own
    return asked if 0 <= asked <= 30 else own
