"""Evaluation: what a model does on prompts and texts that no mask was made from, and how a mask changes it."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import masks
from behaviours import ToxicityScorer, load_scorer
from correction.ablation import ablated
from correction.errors import EvaluationError
from correction.evaluation.bootstrap import Estimate, bootstrap, mean_difference
from correction.evaluation.perplexity import Perplexity, increase, perplexity
from correction.evaluation.repetition import Repetition, repetition
from correction.evaluation.toxicity import Toxicity, toxicity
from correction.generation import respond
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.references import ReferenceSet
from correction.tokenisation import encode

__all__ = ["Comparison", "Estimate", "Evaluation", "Response", "compare", "evaluate"]


@dataclass(frozen=True)
class Response:
    """What the model answered to one prompt: the text, and its token ids without the one that ended it."""

    prompt: str
    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Evaluation:
    """What one model, as it is or with one mask, does.

    Attributes:
        mask: digest of the mask that was applied, or None.
        responses, toxicity, repetition: of the prompts; empty and None where there were none.
        perplexity: of the texts; None where there were none.
        max_new_tokens: the length that responses were cut at.
        confidence: of every interval.
    """

    mask: str | None
    responses: tuple[Response, ...]
    toxicity: Toxicity | None
    repetition: Repetition | None
    perplexity: Perplexity | None
    max_new_tokens: int
    confidence: float

    def summary(self) -> dict[str, Any]:
        """The figures as JSON values; each rate as [count, total, low, high], each estimate as [value, low, high]."""
        figures: dict[str, Any] = {}
        if self.toxicity and self.repetition:
            scored = self.toxicity
            figures |= {
                "toxic": _rounded(scored.rate.count, scored.rate.total, scored.rate.low, scored.rate.high),
                "toxicity": _rounded(scored.mean.value, scored.mean.low, scored.mean.high),
                "repetitive": _rounded(
                    self.repetition.rate.count,
                    self.repetition.rate.total,
                    self.repetition.rate.low,
                    self.repetition.rate.high,
                ),
                "uniqueness": _rounded(self.repetition.mean.value, self.repetition.mean.low, self.repetition.mean.high),
                "scorer": {"name": scored.scorer, "version": scored.version, "threshold": scored.threshold},
                "max_new_tokens": self.max_new_tokens,
            }
        if self.perplexity:
            estimate = self.perplexity.estimate
            figures["perplexity"] = _rounded(estimate.value, estimate.low, estimate.high)
            figures["passages"] = len(self.perplexity.losses)
        return figures


@dataclass(frozen=True)
class Comparison:
    """Paired differences, after − before, with bootstrap intervals; None where one side was not measured.

    Attributes:
        toxic, repetitive: of the rates. toxicity: of the mean score. uniqueness: of the mean ratio.
        perplexity: relative increase, after / before − 1.
    """

    toxic: Estimate | None
    toxicity: Estimate | None
    repetitive: Estimate | None
    uniqueness: Estimate | None
    perplexity: Estimate | None

    def summary(self) -> dict[str, Any]:
        """Each difference as [value, low, high], those that were measured."""
        return {name: _rounded(e.value, e.low, e.high) for name, e in vars(self).items() if e is not None}


def evaluate(
    loaded: LoadedModel,
    prompts: ReferenceSet | None,
    text: ReferenceSet | None = None,
    *,
    mask: masks.Mask | None = None,
    scorer: ToxicityScorer | None = None,
    raw: bool = False,
    max_new_tokens: int = 50,
    tokens: int = 4096,
    window: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    allow_other_base: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Answer the prompts greedily and score the answers; read the texts and take their perplexity.

    Args:
        mask: applied meanwhile.
        scorer: of toxicity; by default `behaviours.load_scorer()`.
        raw: prompts without the chat template.
        tokens: size of a batch, padding included.
        window: of the perplexity, in tokens.
        seed: of the bootstrap.

    Raises:
        EvaluationError: neither prompts nor texts.
    """
    if prompts is None and text is None:
        raise EvaluationError("there is nothing to measure: give prompts, texts or both")
    responses: tuple[Response, ...] = ()
    measured: dict[str, Any] = {"toxicity": None, "repetition": None, "perplexity": None}
    interval: dict[str, Any] = {"confidence": confidence, "seed": seed}
    with nullcontext() if mask is None else ablated(loaded, mask, allow_other_base=allow_other_base):
        if prompts is not None:
            given = encode(loaded, prompts, raw=raw, room=max_new_tokens)
            answers = respond(loaded, given, max_new_tokens=max_new_tokens, tokens=tokens, progress=progress)
            responses = tuple(
                Response(prompt, str(loaded.tokenizer.decode(answer, skip_special_tokens=True)), tuple(answer))
                for prompt, answer in zip(prompts.texts, answers, strict=True)
            )
            said = [response.text for response in responses]
            measured["toxicity"] = toxicity(said, scorer or load_scorer(), **interval)
            measured["repetition"] = repetition(answers, **interval)
        if text is not None:
            measured["perplexity"] = perplexity(
                loaded, text, window=window, tokens=tokens, progress=progress, **interval
            )
    return Evaluation(
        mask=mask.digest if mask else None,
        responses=responses,
        max_new_tokens=max_new_tokens,
        confidence=confidence,
        **measured,
    )


def compare(before: Evaluation, after: Evaluation, *, seed: int = 0) -> Comparison:
    """Paired differences between two evaluations on the same prompts and texts.

    Raises:
        EvaluationError: they are not of the same prompts, texts or scorer.
    """
    toxic = toxic_mean = repetitive = unique = increased = None
    settings: dict[str, Any] = {"confidence": before.confidence, "seed": seed}
    if before.toxicity and after.toxicity and before.repetition and after.repetition:
        one, other = before.toxicity, after.toxicity
        if [response.prompt for response in before.responses] != [response.prompt for response in after.responses]:
            raise EvaluationError("the two evaluations are of different prompts")
        if (one.scorer, one.version, one.threshold) != (other.scorer, other.version, other.threshold):
            raise EvaluationError(f"{one.scorer} {one.version} and {other.scorer} {other.version} scored differently")
        toxic = bootstrap(mean_difference, one.flags, other.flags, **settings)
        toxic_mean = bootstrap(mean_difference, one.scores, other.scores, **settings)
        repetitive = bootstrap(mean_difference, before.repetition.flags, after.repetition.flags, **settings)
        unique = bootstrap(mean_difference, before.repetition.ratios, after.repetition.ratios, **settings)
    if before.perplexity and after.perplexity:
        read, reread = before.perplexity, after.perplexity
        if read.tokens.tolist() != reread.tokens.tolist():
            raise EvaluationError("the two evaluations are of different texts")
        increased = bootstrap(increase, read.losses, reread.losses, read.tokens, **settings)
    return Comparison(toxic, toxic_mean, repetitive, unique, increased)


def _rounded(*values: float) -> list[float]:
    return [value if isinstance(value, int) else float(f"{value:.4g}") for value in values]
