"""One address of a scoring server: asks it over HTTP, in JSON, with patience and without giving a secret away."""

import importlib
import json
import math
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from behaviours.scorer import ScorerError, ScorerUnavailableError

_ABOUT_THE_TEXT = (400, 413, 422)
"""Statuses that say that another text might have been scored."""
_LONGEST_PAUSE = 30.0


class Endpoint:
    """Where texts are sent to be scored.

    After a 429, a 5xx or a failed connection it asks again, with a growing pause; a redirect is never followed, so that
    neither key nor text goes to a host that was not named.
    """

    def __init__(
        self,
        name: str,
        url: str,
        headers: Mapping[str, str],
        *,
        key: str,
        key_variable: str,
        timeout: float,
        tries: int,
        pause: float,
        patience: float | None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            name: Of the scorer, for messages.
            url: The whole address, which may be shown.
            headers: Of every request, the one with the key included.
            key: Is shown in no message.
            key_variable: Of the environment, where the user sets the key.
            timeout: Seconds to connect, and to wait for each piece of an answer.
            tries: For one request, the first included.
            pause: Seconds before the second try, doubled each time; a server's `Retry-After` of up to 30 s is kept.
            patience: Most seconds from `deadline` on, all tries and pauses together; None: no limit.
        """
        self._name, self._url, self._key, self._key_variable = name, url, key, key_variable
        self._timeout, self._tries, self._pause, self._patience = timeout, tries, pause, patience
        self._httpx = importlib.import_module("httpx")
        self._client = self._httpx.Client(
            headers={"content-type": "application/json", **headers}, follow_redirects=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def deadline(self) -> float:
        """The moment, by `time.monotonic`, when patience with what begins now ends."""
        return math.inf if self._patience is None else time.monotonic() + self._patience

    def ask(self, request: Mapping[str, Any], deadline: float) -> Any:
        """Send a request until the server answers with status 200, and return the JSON of that answer.

        Args:
            request: JSON object to send.
            deadline: Moment by `time.monotonic` after which it is not tried again.

        Raises:
            ScorerUnavailableError: The server cannot be reached in time, refuses, or answers something else.
            ScorerError: It refuses what it was sent: a status of 400, 413 or 422.
        """
        body = json.dumps(request).encode()
        problem = ""
        wait = 0.0
        for attempt in range(self._tries):
            if problem and time.monotonic() + wait >= deadline:
                raise self.error(f"{problem} (tried {attempt} times in {self._patience:g} s)")
            time.sleep(wait)
            limit = min(self._timeout, max(0.001, deadline - time.monotonic()))
            try:
                response = self._client.post(self._url, content=body, timeout=limit)
            except self._httpx.TransportError as error:
                problem, wait = f"cannot be reached: {type(error).__name__}: {error}", self._pause * 2**attempt
                continue
            if response.status_code == 200:
                return self._document(response)
            problem = f"answered {response.status_code}: {self._shown(response.text)}"
            self._raise_if_final(response, problem)
            wait = _asked_pause(response.headers, self._pause * 2**attempt)
        raise self.error(f"{problem} (tried {self._tries} times)")

    def _document(self, response: Any) -> Any:
        """The JSON of a response."""
        try:
            return response.json()
        except ValueError:
            raise self.error(f"its answer is not JSON: {self._shown(response.text)}") from None

    def _raise_if_final(self, response: Any, problem: str) -> None:
        """Raise for a status that another try would not change: any but 429 and 5xx."""
        if response.is_redirect:
            target = self._shown(response.headers.get("location", ""))
            raise self.error(f"sends elsewhere, to {target}; redirects are not followed: give the final address")
        if response.status_code in (401, 403):
            raise self.error(f"{problem}; is {self._key_variable} set, and to the key of this server?")
        if response.status_code in _ABOUT_THE_TEXT:
            raise ScorerError(self._message(problem))
        if response.status_code != 429 and response.status_code < 500:
            raise self.error(problem)

    def error(self, problem: str) -> ScorerUnavailableError:
        """An error with this problem, the name of the scorer and its address."""
        return ScorerUnavailableError(self._message(problem))

    def _message(self, problem: str) -> str:
        return f"the scorer {self._name!r} at {self._url}: {problem}"

    def _shown(self, text: str) -> str:
        """The start of a server's answer, without the key that the answer may repeat."""
        return repr((text.replace(self._key, "***") if self._key else text)[:200])


def address(url: str, scorer: str, example: str, key_variable: str) -> tuple[str, str]:
    """A server's address without a slash at its end, and its host and port.

    Raises:
        ScorerError: It is none, or holds what may be a secret. It is not repeated: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ScorerError(
            f"a {scorer} server's address is http:// or https://, a host and perhaps a port; write it as {example}"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ScorerError(
            f"a {scorer} server's address is shown in results, and must hold no password, query or fragment; "
            f"write it as {example} and put the key into {key_variable}"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", parts.netloc


def usable_key(given: str, variable: str) -> str:
    """The key, without white space around it.

    Raises:
        ScorerError: No header can carry it. It is not repeated.
    """
    key = given.strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ScorerError(f"{variable} holds white space or letters that no HTTP header can carry; set it again")
    return key


def probability(value: Any) -> bool:
    """Whether a server's score is a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _asked_pause(headers: Mapping[str, str], own: float) -> float:
    """Seconds to wait: what the server asks for, if that is a number of up to 30; else our own."""
    try:
        asked = float(headers.get("retry-after", ""))
    except ValueError:
        return own
    return asked if 0 <= asked <= _LONGEST_PAUSE else own
