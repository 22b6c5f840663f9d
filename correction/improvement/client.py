"""What a worker says to the server: jobs, prompts, masks, results. A server that is away is waited for."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from correction.errors import CorrectionError

Document = dict[str, Any]

_TIMEOUT = 120.0
_WAITS = (0.5, 1, 2, 5, 10)
"""Seconds between tries; the last again and again."""
_AWAY = (429, 500, 502, 503, 504)


class ServerError(CorrectionError):
    """The server does not answer, or refuses; the message says which and why."""


class JobLostError(ServerError):
    """The job is no longer this worker's: cancelled, or taken by another."""


class Client:
    """One worker's side of `/jobs` and `/masks`.

    Args:
        key_file: its first line is an admin key; read for each call, so it may change.
        worker: the name that this worker has jobs under.
        patience: seconds for which a server that is away is waited for.
    """

    def __init__(
        self,
        url: str,
        key_file: Path,
        worker: str,
        patience: float = 600.0,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url, self._key_file, self.worker = url.rstrip("/"), key_file, worker
        self._patience, self._sleep = patience, sleep
        self._http = httpx.Client(base_url=self._url, timeout=_TIMEOUT, transport=transport)

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def take(self, wanted: Callable[[Document], bool]) -> Document | None:
        """Take a job that is free: one of its own first, then the oldest. None where there is none.

        Raises:
            ServerError: the server refuses, or is away for too long.
        """
        jobs = [job for state in ("queued", "correcting", "measuring") for job in self._listed(state)]
        leased = [job for job in jobs if job["lease"] and job["lease"]["holder"] == self.worker]
        free = [job for job in jobs if job["free"] and job not in leased]
        for job in (*leased, *sorted(free, key=lambda job: str(job["created_at"]))):
            if wanted(job):
                try:
                    return self.claim(job["id"])
                except JobLostError:  # another was first
                    continue
        return None

    def claim(self, id: str) -> Document:
        """Take a job, or keep it. Raises `JobLostError` where another has it or it is over, and `ServerError`."""
        job: Document = self._call("POST", f"/jobs/{id}/claim", json={"worker": self.worker}).json()
        return job

    def beat(self, id: str) -> None:
        """Keep a job, if the server is there. Raises `JobLostError`."""
        try:
            self._call("POST", f"/jobs/{id}/claim", json={"worker": self.worker}, patience=0.0)
        except JobLostError:
            raise
        except ServerError:
            return  # it may come back before the lease runs out, and if not, the result is handed in all the same

    def prompts(self, id: str) -> list[str]:
        """Distinct prompts whose responses were flagged, the confirmed ones first. Raises `ServerError`."""
        records = self._call("GET", f"/jobs/{id}/prompts", params={"limit": 10_000}).json()["data"]
        return [str(each["prompt"]) for each in records]

    def register(self, data: bytes) -> str:
        """Register a mask file; the same bytes give the same `name@version`. Raises `ServerError`."""
        mask = self._call("POST", "/masks", content=data).json()
        return f"{mask['name']}@{mask['version']}"

    def mask(self, label: str) -> bytes:
        """The bytes of `name@version`. Raises `ServerError`."""
        name, _, version = label.partition("@")
        return self._call("GET", f"/masks/{name}/{version}/file").content

    def hand_in(self, id: str, **result: Any) -> Document:
        """Hand in a result. Raises `JobLostError`, `ServerError`."""
        job: Document = self._call("POST", f"/jobs/{id}/result", json={"worker": self.worker, **result}).json()
        return job

    def _listed(self, state: str) -> list[Document]:
        data: list[Document] = self._call("GET", "/jobs", params={"state": state, "limit": 1000}).json()["data"]
        return data

    def _call(self, method: str, path: str, *, patience: float | None = None, **more: Any) -> httpx.Response:
        left = self._patience if patience is None else patience
        for attempt in range(10**6):
            answer, why = None, ""
            try:
                answer = self._http.request(method, path, headers={"Authorization": f"Bearer {self._key()}"}, **more)
                if answer.is_success:
                    return answer
                why = _message(answer)
            except httpx.TransportError as error:
                why = f"it does not answer ({type(error).__name__})"
            if answer is not None and answer.status_code not in _AWAY:
                kind = JobLostError if answer.status_code == 409 and path.startswith("/jobs/") else ServerError
                raise kind(f"{self._url}: {why}")
            wait = _WAITS[min(attempt, len(_WAITS) - 1)]
            if left < wait:
                break
            left -= wait
            self._sleep(wait)
        raise ServerError(f"{self._url}: {why}")

    def _key(self) -> str:
        try:
            lines = self._key_file.read_text().split()
        except (OSError, UnicodeDecodeError) as error:
            raise ServerError(f"--key-file {self._key_file} cannot be read: {error}") from error
        if not lines:
            raise ServerError(f"--key-file {self._key_file} is empty; put an admin key of the server in it")
        return lines[0]


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"it answers {answer.status_code}"
