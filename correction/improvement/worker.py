"""The worker: takes a job, has it done by processes of its own, hands in what came of it. Killed, it goes on."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from correction.data.references import ReferenceSet, read
from correction.errors import CorrectionError
from correction.improvement.child import Ended, run
from correction.improvement.client import Client, Document
from correction.improvement.folder import WorkerFolder, read_json, write, write_rows
from masks import harm

_HARMFUL = 3
"""Exit code of `excise correct` where it writes no mask since that does harm, or no good."""
HELD_OUT = 0.2
"""Part of the prompts and of the text that the correction never sees: the quality card is measured on it."""
_RATES = {"toxicity": "toxic", "repetition": "repetitive"}


@dataclass(frozen=True)
class Setup:
    """What a worker works with.

    Attributes:
        model, general: of `excise correct`; the model must be the server's.
        prompts: that promoted masks are measured again on; without, such jobs are left to others.
        neutral: prompts of the quality card that have nothing to do with any behaviour.
        options: further options of every command, as `--dtype float32`.
    """

    model: str
    general: str
    prompts: str | None = None
    neutral: str | None = None
    options: tuple[str, ...] = ()


class _FailedError(CorrectionError):
    """The job cannot be done: the sentence that the server is told."""


class Worker:
    """Does jobs, one at a time.

    Args:
        say: told what is being done.
    """

    def __init__(self, client: Client, folder: WorkerFolder, setup: Setup, say: Callable[[str], None]) -> None:
        self._client, self._folder, self._setup, self._say = client, folder, setup, say

    def once(self) -> Document | None:
        """Do one job, and return it as it is then; None where none is free.

        Raises:
            JobLostError: it was cancelled or taken by another meanwhile.
            ServerError: the server refuses, or is away for too long.
        """
        job = self._client.take(lambda job: job["kind"] == "improve" or self._setup.prompts is not None)
        if job is None:
            return None
        self._say(f"job {job['id']}: {job['kind']} {job['spec']['mask']}")
        try:
            finished_job = self._improve(job) if job["kind"] == "improve" else self._measure_again(job)
        except _FailedError as error:
            finished_job = self._client.hand_in(job["id"], failed=str(error)[:4000])
        self._folder.clear(job["id"])
        self._say(f"job {job['id']}: {finished_job['state']}: {finished_job['reason']}")
        return finished_job

    def _improve(self, job: Document) -> Document:
        folder, spec = self._folder.of(job["id"]), job["spec"]
        mask = folder / f"{spec['mask']}.safetensors"
        count = self._prepare(job, folder)
        if not mask.exists():
            self._say(f"job {job['id']}: a correction from {count} prompts")
            self._correct(job, folder, mask)
        card = self._card(job, folder, mask)
        label = self._client.register(mask.read_bytes())
        return self._client.hand_in(job["id"], mask=label, measured=card, prompts=count)

    def _prepare(self, job: Document, folder: Path) -> int:
        """Write what the correction sees and what it does not; what a former run has written stays.

        Returns:
            How many prompts there are.
        """
        done = read_json(folder / "prepared.json")
        if done is not None:
            return int(done["prompts"])
        flagged, least = self._client.prompts(job["id"]), job["spec"]["minimum"]
        if len(flagged) < least:
            raise _FailedError(
                f"There are {len(flagged)} flagged prompts, and {least} are needed: wait for more traffic."
            )
        prompts, general = ReferenceSet(tuple(flagged), "flagged", "prompt"), read(self._setup.general, kind="text")
        for name, column, whole in (("prompts", "prompt", prompts), ("general", "text", general)):
            seen, unseen = whole.split(HELD_OUT)
            write_rows(folder / f"{name}.jsonl", column, seen.texts)
            write_rows(folder / f"{name}_held_out.jsonl", column, unseen.texts)
        write(folder / "prepared.json", json.dumps({"prompts": len(flagged)}))
        return len(flagged)

    def _correct(self, job: Document, folder: Path, mask: Path) -> None:
        spec = job["spec"]
        arguments = [
            *("correct", "--behaviour", str(folder / "prompts.jsonl"), "--general", str(folder / "general.jsonl")),
            *("--name", spec["mask"], "--output", str(mask), "--shows", spec["test"]),
            *("--max-perplexity-increase", str(spec["increase"]), "--resume", str(folder / "journal")),
        ]
        ended = self._run(job, folder / "correct.log", arguments)
        if ended.code == _HARMFUL:
            reason = " ".join(ended.document.get("warnings", ())) or ended.error
            raise _FailedError(f"The correction does harm, or no good: {reason}")
        if ended.code or not mask.exists():
            raise _FailedError(_died("correct", ended))

    def _card(self, job: Document, folder: Path, mask: Path) -> Document:
        """What the mask does on what it never saw, with the quality card."""
        if (known := read_json(folder / "card.json")) is not None:
            return known
        self._say(f"job {job['id']}: quality card")
        neutral = ("--neutral", self._setup.neutral) if self._setup.neutral else ()
        ended = self._run(
            job,
            folder / "evaluate.log",
            [
                *("evaluate", "--mask", str(mask), "--card", "--prompts", str(folder / "prompts_held_out.jsonl")),
                *("--text", f"general={folder / 'general_held_out.jsonl'}", *neutral),
            ],
        )
        if ended.code:
            raise _FailedError(_died("evaluate", ended))
        figures = _sides(ended.document, job["spec"]["mask"]) | {"card": ended.document["card"]}
        stated = {each["measure"]: each["difference"] for each in figures["card"]["statements"]}
        figures["difference"] = figures["difference"] | {"perplexity": stated["general: perplexity"]}
        figures["warnings"] = list(harm.derived({**figures, "shown": _shown(figures, job["spec"]["test"])}))
        write(folder / "card.json", json.dumps(figures))
        return figures

    def _measure_again(self, job: Document) -> Document:
        label = job["spec"]["mask"]
        folder, name = self._folder.of(job["id"]), label.partition("@")[0]
        mask = folder / f"{name}.safetensors"
        mask.write_bytes(self._client.mask(label))
        arguments = [
            "evaluate",
            "--mask",
            str(mask),
            "--prompts",
            str(self._setup.prompts),
            "--text",
            self._setup.general,
        ]
        ended = self._run(job, folder / "evaluate.log", arguments)
        if ended.code:
            raise _FailedError(_died("evaluate", ended))
        return self._client.hand_in(job["id"], measured=_sides(ended.document, name))

    def _run(self, job: Document, log: Path, arguments: Sequence[str]) -> Ended:
        raw = ("--raw",) if job["spec"]["raw"] else ()
        given = [*arguments, "--model", self._setup.model, *raw, *self._setup.options]
        return run(given, log, lambda: self._client.beat(job["id"]), job["lease_seconds"] / 4)


def _sides(document: Mapping[str, Any], name: str) -> Document:
    """Of `excise evaluate`: figures without the mask, with it, and their differences."""
    return {"before": document["base"], "after": document[name], "difference": document["difference"]}


def _shown(found: Document, test: str) -> Document:
    return {side: found[side].get(_RATES[test]) for side in ("before", "after", "difference")}


def _died(command: str, ended: Ended) -> str:
    last = ended.error.splitlines()[-1] if ended.error else "it said nothing"
    return f"excise {command} ended with {ended.code}: {last}"
