"""Behaviour sets by what the model answers: of candidate prompts, those whose responses show the behaviour.

A list of prompts that bring a behaviour out in one model need not do so in another. A mask is made from those that do.
"""

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from correction.data.detectors import (
    Detector,
    Flags,
    RegexDetector,
    RepetitionDetector,
    Scores,
    ToxicityDetector,
    parse_detector,
)
from correction.data.references import ReferenceSet, normalise_text
from correction.data.tokenisation import encode, fitting_prompts
from correction.errors import ReferenceSetError
from correction.evaluation import Response
from correction.evaluation.evaluate import generate_responses
from correction.models import LoadedModel
from correction.progress import Progress, silent

__all__ = [
    "BehaviourSet",
    "Detector",
    "RegexDetector",
    "RepetitionDetector",
    "ToxicityDetector",
    "build",
    "parse_detector",
    "save",
]


@dataclass(frozen=True)
class BehaviourSet:
    """Candidates that were answered, and those whose responses show the behaviour.

    Attributes:
        answered: Those that the model was asked: each once, and not too long for its context.
        responses: `samples` to each answered one, side by side: text, and token ids without the one that ended it.
        scores: Of each response by the detector, see `Detector`: float64 (responses,).
        flags: Which responses show the behaviour: bool (responses,).
        detector: What decided which responses show the behaviour.
        candidates: How many there were.
        duplicates: How many of them were copies of an earlier one, but for letter case and white space.
        too_long: How many left no room for a response in the context.
        raw: Whether prompts were read without the chat template.
        max_new_tokens: Most tokens of a response.
        samples: Responses to each prompt.
        temperature: Of the sampling; 0 is greedy.
        seed: Of the sampling.
    """

    answered: ReferenceSet
    responses: tuple[Response, ...]
    scores: Scores
    flags: Flags
    detector: Detector
    candidates: int
    duplicates: int
    too_long: int
    raw: bool
    max_new_tokens: int
    samples: int
    temperature: float
    seed: int

    @property
    def selected(self) -> ReferenceSet:
        """The prompts whose responses show the behaviour, in order, each with the first response that does.

        Raises:
            ReferenceSetError: There are none.
        """
        first: dict[str, int] = {}
        for place in np.flatnonzero(self.flags).tolist():
            first.setdefault(self.responses[place].prompt, place)
        return self._where(np.isin(np.arange(len(self.responses)), list(first.values())))

    @property
    def positives(self) -> ReferenceSet:
        """Every response that shows the behaviour, with its prompt: some prompts more than once."""
        return self._where(self.flags)

    @property
    def negatives(self) -> ReferenceSet | None:
        """Every response that does not even count as showing it, with its prompt; None where there is none."""
        counted = self.detector.counted(self.responses, self.scores) | self.flags
        spoken = np.array([bool(response.text.strip()) for response in self.responses])
        return self._where(~counted & spoken) if (~counted & spoken).any() else None

    def _where(self, flags: Flags) -> ReferenceSet:
        responses = [response for response, flag in zip(self.responses, flags, strict=True) if flag]
        prompts, texts = tuple(each.prompt for each in responses), tuple(each.text for each in responses)
        return ReferenceSet(prompts, self.answered.name, "prompt", texts)

    def described(self) -> dict[str, Any]:
        """How the set came about, as JSON values, for a mask to record; few, because small masks stay small."""
        sampling = {"samples": self.samples, "temperature": self.temperature, "seed": self.seed}
        return {
            "shows": self.detector.described(),
            "answered": len(self.answered),
            **(sampling if self.temperature else {}),
        }

    def counts(self) -> dict[str, int]:
        """What became of the candidates."""
        return {
            "candidates": self.candidates,
            "duplicates": self.duplicates,
            "too_long": self.too_long,
            "kept": len({each.prompt for each, flag in zip(self.responses, self.flags, strict=True) if flag}),
        }


def build(loaded: LoadedModel, candidates: ReferenceSet, detector: Detector, **generation_options: Any) -> BehaviourSet:
    """Let the model answer candidates, of which some must show the behaviour; `generation_options`: those of `answer`.

    Raises:
        ReferenceSetError: Not prompts, no candidate that fits the context, or no response shows the behaviour.
        ScorerError: Of `behaviours`, where the detector's scorer fails.
    """
    behaviour_set = answer(loaded, candidates, detector, **generation_options)
    if not behaviour_set.flags.any():
        raise ReferenceSetError(
            f"{candidates.name}: of {len(behaviour_set.responses)} that were answered, no response shows the "
            f"behaviour: wanted is {detector.nearest(behaviour_set.scores)}. Change --threshold or --shows, or give "
            "other prompts"
        )
    return behaviour_set


def answer(
    loaded: LoadedModel,
    candidates: ReferenceSet,
    detector: Detector,
    *,
    raw: bool = False,
    max_new_tokens: int = 50,
    samples: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    tokens: int = 4096,
    progress: Progress = silent,
) -> BehaviourSet:
    """Let the model answer candidates, and detect which responses show the behaviour, if any.

    Args:
        loaded: The model.
        candidates: Prompts. Copies are answered once; prompts too long for the context are left out and counted.
            Responses that come with them are ignored.
        detector: See `parse_detector`.
        raw: Whether prompts are read without the chat template.
        max_new_tokens: Most tokens of a response.
        samples: Responses to each prompt.
        temperature: Of the sampling; 0 is greedy. See `generate`.
        seed: Of the sampling.
        tokens: Tokens of a batch, padding included: it changes time and memory, not the result.
        progress: Called after every batch.

    Raises:
        ReferenceSetError: Not prompts, or no candidate that fits the context.
        ScorerError: Of `behaviours`, where the detector's scorer fails.
    """
    if candidates.kind != "prompt":
        raise ReferenceSetError(f"{candidates.name}: candidates are prompts; read them with kind prompt")
    first: dict[str, str] = {}
    for text in candidates.texts:
        first.setdefault(normalise_text(text), text)
    distinct = ReferenceSet(tuple(first.values()), candidates.name, candidates.kind)
    answered = fitting_prompts(loaded, distinct, raw=raw, room=max_new_tokens)
    responses = generate_responses(
        loaded,
        answered.texts,
        encode(loaded, answered, raw=raw, room=max_new_tokens),
        max_new_tokens=max_new_tokens,
        samples=samples,
        temperature=temperature,
        seed=seed,
        tokens=tokens,
        progress=progress,
    )
    scores = detector.scores(responses)
    flags = detector.flags(responses, scores)
    return BehaviourSet(
        answered=answered,
        responses=responses,
        scores=scores,
        flags=flags,
        detector=detector,
        candidates=len(candidates),
        duplicates=len(candidates) - len(distinct),
        too_long=len(distinct) - len(answered),
        raw=raw,
        max_new_tokens=max_new_tokens,
        samples=samples,
        temperature=temperature,
        seed=seed,
    )


def save(references: ReferenceSet, path: str | Path) -> None:
    """Write a `.jsonl` file that `references.read` reads back, replacing what is there in one step.

    Raises:
        ReferenceSetError: Another suffix, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        raise ReferenceSetError(f"{path.name}: a reference set is written as .jsonl; change the name")
    records: list[dict[str, str]] = [{references.kind: text} for text in references.texts]
    for record, response in zip(records, references.responses or (), strict=references.responses is not None):
        record["response"] = response
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    data = "".join(lines).encode()
    draft = path.with_name(f".set-{secrets.token_hex(8)}.tmp")
    try:
        with open(draft, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ReferenceSetError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):  # there is none after the rename
            draft.unlink()
