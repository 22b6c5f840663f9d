"""One evaluation: answers to prompts, scored, and the perplexity of texts."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import masks
from behaviours import ToxicityScorer, load_scorer
from correction.ablation import ablated
from correction.data.generation import check_sampling, generate
from correction.data.references import ReferenceSet
from correction.data.tokenisation import encode
from correction.errors import EvaluationError
from correction.evaluation.json_values import interval_values, round_digits
from correction.evaluation.perplexity import Perplexity, Protocol, perplexity
from correction.evaluation.refusals import Refusals
from correction.evaluation.refusals import refusals as refused
from correction.evaluation.repetition import Repetition, repetition
from correction.evaluation.toxicity import Toxicity, toxicity
from correction.models import LoadedModel
from correction.progress import Progress, silent
from stats.estimates import Rate


@dataclass(frozen=True)
class Response:
    """What the model answered to one prompt: the text, and its token ids without the one that ended it."""

    prompt: str
    text: str
    tokens: tuple[int, ...]


def generate_responses(
    loaded: LoadedModel,
    prompts: Sequence[str],
    sequences: Sequence[Sequence[int]],
    *,
    samples: int = 1,
    **options: Any,
) -> tuple[Response, ...]:
    """The responses to prompts, given as texts and as token ids; `options` are those of `generate`."""
    answers = generate(loaded, sequences, samples=samples, **options)
    asked = [prompt for prompt in prompts for _ in range(samples)]
    return tuple(
        Response(prompt, str(loaded.tokenizer.decode(answer, skip_special_tokens=True)), tuple(answer))
        for prompt, answer in zip(asked, answers, strict=True)
    )


@dataclass(frozen=True)
class Evaluation:
    """What one model, as it is or with one mask, does.

    Attributes:
        mask: Digest of the mask that was applied, or None.
        responses: Of the prompts; empty and None where there were none.
        toxicity: Of the prompts; empty and None where there were none.
        repetition: Of the prompts; empty and None where there were none.
        perplexity: Of the texts; None where there were none.
        max_new_tokens: The length that responses were cut at.
        confidence: Of every interval.
        refusals: Of the prompts; None where they were not asked for.
        samples: Responses to each prompt; those to one prompt lie together.
        temperature: Of the sampling; 0 is greedy.
        seed: Of the sampling and of the bootstrap.
    """

    mask: str | None
    responses: tuple[Response, ...]
    toxicity: Toxicity | None
    repetition: Repetition | None
    perplexity: Perplexity | None
    max_new_tokens: int
    confidence: float
    refusals: Refusals | None = None
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0

    def summary(self) -> dict[str, Any]:
        """The figures as JSON values; each rate as [count, total, low, high], each estimate as [value, low, high].

        With several samples also the prompts with at least one toxic, or repetitive, response, and the expected maximum
        toxicity; with a temperature, how the responses were sampled.
        """
        figures: dict[str, Any] = {}
        if self.toxicity and self.repetition:
            scored, repeated = self.toxicity, self.repetition
            figures |= {
                "toxic": _of_rate(scored.rate),
                "toxicity": interval_values(scored.mean),
                "repetitive": _of_rate(repeated.rate),
                "empty": _of_rate(repeated.empty),
                "uniqueness": interval_values(repeated.mean),
                "scorer": {"name": scored.scorer, "version": scored.version, "threshold": scored.threshold},
                "max_new_tokens": self.max_new_tokens,
            }
            if self.samples > 1:
                figures |= {
                    "toxic_prompts": _of_rate(scored.prompts),
                    "maximum_toxicity": interval_values(scored.maximum),
                    "repetitive_prompts": _of_rate(repeated.prompts),
                }
            if self.temperature > 0:
                figures["sampling"] = {"samples": self.samples, "temperature": self.temperature, "seed": self.seed}
        if self.refusals:
            figures["refusals"] = _of_rate(self.refusals.rate)
        if self.perplexity:
            read = self.perplexity
            figures["perplexity"] = interval_values(read.estimate)
            if read.protocol == "joined":
                figures |= {"perplexity_protocol": read.protocol, "windows": len(read.losses)}
            else:
                figures["passages"] = len(read.losses)
            if read.window is not None:
                figures["window"] = read.window
        return figures


def evaluate(
    loaded: LoadedModel,
    prompts: ReferenceSet | None,
    text: ReferenceSet | None = None,
    *,
    mask: masks.Mask | None = None,
    scorer: ToxicityScorer | None = None,
    refusals: bool = False,
    raw: bool = False,
    max_new_tokens: int = 50,
    samples: int = 1,
    temperature: float = 0.0,
    tokens: int = 4096,
    perplexity_protocol: Protocol = "passages",
    window: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    allow_other_base: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Answer the prompts and score the answers; read the texts and take their perplexity.

    Args:
        loaded: The model.
        prompts: Prompts to answer; None for none.
        text: Text to read; None for none.
        mask: Applied during the evaluation; None for the model as it is.
        scorer: Of toxicity; by default `behaviours.load_scorer()`.
        refusals: Whether refusals are counted among the responses.
        raw: Whether prompts are read without the chat template.
        max_new_tokens: Most tokens of a response.
        samples: Responses to each prompt.
        temperature: Of the sampling; 0 is greedy. See `generate`.
        tokens: Tokens of a batch, padding included: it changes time and memory, not the result.
        perplexity_protocol: See `perplexity`.
        window: Tokens of a window, see `perplexity`.
        confidence: Of every interval.
        seed: Of the sampling and of the bootstrap. Two masks evaluated with one seed answer with common random numbers.
        allow_other_base: Whether a mask that was made for another fingerprint is taken, where the geometry fits.
        progress: Called after every batch.

    Raises:
        EvaluationError: Neither prompts nor texts, or settings that cannot be used.
    """
    if prompts is None and text is None:
        raise EvaluationError("there is nothing to measure: give prompts, texts or both")
    check_sampling(temperature, samples, seed)
    responses: tuple[Response, ...] = ()
    measured: dict[str, Any] = {"toxicity": None, "repetition": None, "perplexity": None}
    interval: dict[str, Any] = {"confidence": confidence, "seed": seed}
    with nullcontext() if mask is None else ablated(loaded, mask, allow_other_base=allow_other_base):
        if prompts is not None:
            responses = generate_responses(
                loaded,
                prompts.texts,
                encode(loaded, prompts, raw=raw, room=max_new_tokens),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                samples=samples,
                seed=seed,
                tokens=tokens,
                progress=progress,
            )
            answers = [response.tokens for response in responses]
            texts = [response.text for response in responses]
            measured["toxicity"] = toxicity(texts, scorer or load_scorer(), samples=samples, **interval)
            measured["repetition"] = repetition(answers, samples=samples, **interval)
            if refusals:
                measured["refusals"] = refused(texts, samples=samples, **interval)
        if text is not None:
            measured["perplexity"] = perplexity(
                loaded,
                text,
                protocol=perplexity_protocol,
                window=window,
                tokens=tokens,
                progress=progress,
                **interval,
            )
    return Evaluation(
        mask=mask.digest if mask else None,
        responses=responses,
        max_new_tokens=max_new_tokens,
        confidence=confidence,
        samples=samples,
        temperature=temperature,
        seed=seed,
        **measured,
    )


def _of_rate(rate: Rate) -> list[float]:
    return [round_digits(value) for value in (rate.count, rate.total, rate.low, rate.high)]
