"""The quality card of a mask: what it leaves as it was, each figure with a paired statement of non-inferiority.

Texts: perplexity, KL(base ‖ cut) and top-1 agreement. Neutral prompts: the same KL and agreement over the base's own
answers, read by the cut model token for token, and what both models answer: length, uniqueness, refusals. Random
sequences: how well they are copied. All answers are greedy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import masks
from behaviours import response_uniqueness_ratio
from behaviours.refusal import is_refusal
from correction.ablation import ablated
from correction.data.references import ReferenceSet
from correction.data.tokenisation import encode
from correction.errors import EvaluationError
from correction.evaluation.copying import random_copies
from correction.evaluation.divergence import Baseline, Cut, Divergence
from correction.evaluation.evaluate import Response, generate_responses
from correction.evaluation.noninferiority import Margins, Statement, Worse
from correction.evaluation.perplexity import Protocol, joined_windows, of_passages
from correction.models import LoadedModel
from correction.progress import Progress, silent
from stats.estimates import Estimate, Floats, bootstrap, mean_difference, rate_difference


@dataclass(frozen=True)
class CardOptions:
    """How a card is measured.

    Attributes:
        protocol: Of perplexity, see `perplexity`.
        window: Of perplexity, see `perplexity`.
        limit: Most texts, or windows of joined ones, that are read of each set, from the start.
        raw: Prompts without the chat template.
        max_new_tokens: Of an answer.
        copies: Number of random sequences.
        copy_length: Tokens of one copy.
        tokens: Size of a batch, padding included.
        confidence: Of every interval.
        seed: Of the bootstrap and of the random sequences.
    """

    protocol: Protocol = "passages"
    window: int | None = None
    limit: int | None = None
    raw: bool = False
    max_new_tokens: int = 50
    copies: int = 50
    copy_length: int = 50
    tokens: int = 4096
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Card:
    """What was stated of a mask, and how it was measured."""

    mask: str
    statements: tuple[Statement, ...]
    reading: CardOptions

    def summary(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "mask": self.mask,
            "statements": [statement.summary() for statement in self.statements],
            "reading": vars(self.reading),
        }


def card(
    loaded: LoadedModel,
    mask: masks.Mask,
    texts: Mapping[str, ReferenceSet],
    neutral: ReferenceSet | None = None,
    *,
    reading: CardOptions | None = None,
    margins: Margins | None = None,
    allow_other_base: bool = False,
    progress: Progress = silent,
) -> Card:
    """Measure the base and the mask, and state where the mask is not worse.

    Args:
        loaded: The model.
        mask: The mask.
        texts: Name in the card to text; may be empty.
        neutral: Prompts that have nothing to do with what the mask is against.
        reading: How texts are read and prompts answered.
        margins: How much worse each figure may be.
        allow_other_base: Whether a mask that was made for another fingerprint is taken, where the geometry fits.
        progress: Called after every batch.

    Raises:
        EvaluationError: A text with no token to predict, or settings that cannot be used.
    """
    measuring = _Measuring(loaded, reading or CardOptions(), margins or Margins(), progress)

    def cut() -> Any:
        return ablated(loaded, mask, allow_other_base=allow_other_base)

    statements: list[Statement] = []
    for name, text in texts.items():
        statements += measuring.text(name, text, cut)
    if neutral is not None:
        statements += measuring.answers(neutral, cut)
    statements.append(measuring.copying(cut))
    return Card(mask.digest, tuple(statements), measuring.reading)


@dataclass(frozen=True)
class _Measuring:
    loaded: LoadedModel
    reading: CardOptions
    margins: Margins
    progress: Progress

    @property
    def _interval(self) -> dict[str, Any]:
        return {"confidence": self.reading.confidence, "seed": self.reading.seed}

    def _baseline(self, texts: Any, **options: Any) -> Baseline:
        return Baseline(self.loaded, texts, tokens=self.reading.tokens, progress=self.progress, **options)

    def text(self, name: str, text: ReferenceSet, cut: Cut) -> list[Statement]:
        """Perplexity, KL and agreement of one set of texts."""
        window, limit = self.reading.window, self.reading.limit
        items: Any = text
        if self.reading.protocol == "joined":
            items = joined_windows(self.loaded, text, window or self.loaded.context_length)[:limit]
        elif limit is not None:
            items = text.taken(range(min(limit, len(text))))
        divergence = self._baseline(items, window=window).divergence(cut)
        before, after = (
            float(of_passages(losses, divergence.tokens.astype(np.float64)))
            for losses in (divergence.losses_before, divergence.losses_after)
        )
        size, margin = int((divergence.tokens > 0).sum()), self.margins.perplexity
        change = divergence.perplexity_increase(**self._interval)
        perplexity = Statement(f"{name}: perplexity", before, after, change, "higher", margin, size, relative=True)
        return [perplexity, *self._nearness(name, divergence)]

    def _nearness(self, name: str, found: Divergence) -> list[Statement]:
        """KL and agreement: of the base with itself 0 and 1."""
        size = int((found.tokens > 0).sum())
        kl, agreement = found.kl_per_token(**self._interval), found.agreement_rate(**self._interval)
        lost = Estimate(agreement.value - 1, agreement.low - 1, agreement.high - 1)
        return [
            Statement(f"{name}: KL, nats a token", 0.0, kl.value, kl, "higher", self.margins.kl, size),
            Statement(f"{name}: top-1 agreement", 1.0, agreement.value, lost, "lower", self.margins.agreement, size),
        ]

    def answers(self, neutral: ReferenceSet, cut: Cut) -> list[Statement]:
        """Statements about the answers to neutral prompts."""
        asked = encode(self.loaded, neutral, raw=self.reading.raw, room=self.reading.max_new_tokens)

        def answered() -> tuple[Response, ...]:
            settings: dict[str, Any] = {"tokens": self.reading.tokens, "progress": self.progress}
            return generate_responses(
                self.loaded, neutral.texts, asked, max_new_tokens=self.reading.max_new_tokens, **settings
            )

        before = answered()
        with cut():
            after = answered()
        answers = [(ids, [*ids, *said.tokens]) for ids, said in zip(asked, before, strict=True) if said.tokens]
        if not answers:
            raise EvaluationError(f"{neutral.name}: the base model answers none of these prompts; give others")
        near = self._baseline([whole for _, whole in answers], starts=[len(ids) for ids, _ in answers]).divergence(cut)
        return [*self._nearness("own answers", near), *self._said(before, after)]

    def _said(self, before: tuple[Response, ...], after: tuple[Response, ...]) -> list[Statement]:
        """Length, uniqueness and refusals of the answers of both."""

        def each(value: Any) -> tuple[Floats, Floats]:
            first, second = ([float(value(said)) for said in side] for side in (before, after))
            return np.array(first), np.array(second)

        def state(
            measure: str,
            sides: tuple[Floats, Floats],
            difference: Estimate,
            worse: Worse,
            margin: float,
            relative: bool = False,
        ) -> Statement:
            means = [float(side.mean()) for side in sides]
            return Statement(measure, means[0], means[1], difference, worse, margin, len(before), relative)

        lengths = each(lambda said: len(said.tokens))
        ratios = each(lambda said: response_uniqueness_ratio(said.tokens))
        refused = each(lambda said: is_refusal(said.text))
        longer = bootstrap(relative_increase, *lengths, **self._interval)
        varied = bootstrap(mean_difference, *ratios, **self._interval)
        refusing = rate_difference(*refused, **self._interval)
        margins = self.margins
        return [
            state("answers: tokens", lengths, longer, "either", margins.length, relative=True),
            state("answers: uniqueness", ratios, varied, "lower", margins.uniqueness),
            state("answers: refusals", refused, refusing, "higher", margins.refusals),
        ]

    def copying(self, cut: Cut) -> Statement:
        """Accuracy on the second copy of random sequences."""
        count, length = self.reading.copies, self.reading.copy_length
        sequences, starts = random_copies(self.loaded, count, length, self.reading.seed)
        divergence = self._baseline(sequences, starts=starts).divergence(cut)
        total = int(divergence.tokens.sum())
        before, after = (float(hits.sum()) / total for hits in (divergence.hits_before, divergence.hits_after))
        change = divergence.hits_difference(**self._interval)
        return Statement("random copies: accuracy", before, after, change, "lower", self.margins.copying, count)


def relative_increase(before: Floats, after: Floats) -> Floats:
    """Mean after / mean before − 1, along the last axis; of nothing before, as of a total of 1."""
    return (after - before).sum(-1) / np.maximum(before.sum(-1), 1)
