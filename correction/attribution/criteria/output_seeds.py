"""Output seeds: which logits relevance starts from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from correction.attribution.criteria.criterion_settings import OutputSeed
from correction.data.tokenisation import Batch, batches
from correction.models import LoadedModel


@dataclass(frozen=True)
class Sample:
    """One sequence of a reference set.

    Attributes:
        given: What the model reads.
        response: What it is seeded at, for the seed `response`.
        throughout: A text: where the model is to go on is after every token, not only after the last.
        weights: Of the tokens of the response, where they do not all count for 1 / their number; those of 0 are not
            seeded.
        negatives: Another response to the same, that activations are held against; empty for none.
    """

    given: tuple[int, ...]
    response: tuple[int, ...] = ()
    throughout: bool = False
    weights: tuple[float, ...] | None = None
    negatives: tuple[int, ...] = ()


@dataclass(frozen=True)
class NegativeResponses:
    """The other responses to what the rows of a batch were given.

    Attributes:
        batch: What was given with the other response, row by row.
        starts: int64 (rows,): the tokens given, so that responses start at these positions, in both batches.
    """

    batch: Batch
    starts: Tensor

    def responses(self, batch: Batch) -> Tensor:
        """Where a response is read, in either batch: bool (rows, tokens)."""
        positions = torch.arange(batch.input_ids.shape[1], device=self.starts.device)
        return (positions >= self.starts[:, None]) & (positions < batch.lengths[:, None])


@dataclass(frozen=True)
class SeededBatch:
    """A batch and the logits that relevance starts from: weights[k] times that of tokens[k] at (rows[k], positions[k]).

    Attributes:
        batch: The sequences.
        rows: int64 (seeds,).
        positions: int64 (seeds,).
        tokens: int64 (seeds,), −1 for the largest logit there, −2 for the second.
        weights: float32 (seeds,).
        margins: What is seeded is not the logit alone, but the logit less the largest other one there.
        negatives: What activations are held against, if anything.
    """

    batch: Batch
    rows: Tensor
    positions: Tensor
    tokens: Tensor
    weights: Tensor
    margins: bool = False
    negatives: NegativeResponses | None = None

    def idle(self) -> "SeededBatch":
        """One token of it, that counts for nothing: a pass through the model that adds 0 to every score."""
        batch = Batch(self.batch.input_ids[:1, :1], torch.zeros_like(self.batch.lengths[:1]))
        nothing = torch.zeros_like(self.rows[:1])
        negatives = self.negatives and NegativeResponses(batch, nothing)  # the model runs as often as elsewhere
        return SeededBatch(batch, nothing, nothing, nothing, torch.zeros_like(self.weights[:1]), negatives=negatives)

    def output(self, loaded: LoadedModel) -> Tensor:
        """Weighted sum of the seeded logits, or margins, over the batch: a scalar in float32.

        Rows do not meet inside the model, so that its gradient is that of every row's own output.
        """
        return self.total(loaded, logit_margin if self.margins else gather_logits)

    def loss(self, loaded: LoadedModel) -> Tensor:
        """Weighted sum of the cross entropies of the seeded tokens, in nats: a scalar in float32."""
        return self.total(loaded, lambda logits, tokens: F.cross_entropy(logits, tokens, reduction="none"))

    def total(self, loaded: LoadedModel, value: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Weighted sum of a value of each seed, given its logits (seeds, vocabulary) and token: float32."""
        head = loaded.model.get_output_embeddings()
        hidden = loaded.decoder(input_ids=self.batch.input_ids, use_cache=False).last_hidden_state

        def part(states: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
            logits = head(states).float()
            return weights @ value(logits, resolve_tokens(logits, tokens))

        size = max(1, _LOGITS // head.weight.shape[0])
        parts = list(
            zip(
                *(each.split(size) for each in (hidden[self.rows, self.positions], self.tokens, self.weights)),
                strict=True,
            )
        )
        if len(parts) == 1:
            return part(*parts[0])
        # More logits than fit comfortably: a part at a time, and again on the way back.
        return torch.stack([checkpoint(part, *each, use_reentrant=False) for each in parts]).sum()


def resolve_tokens(logits: Tensor, tokens: Tensor) -> Tensor:
    """The tokens, with those for which −1 and −2 stand: the likeliest by these logits, and the next."""
    if not bool((tokens < 0).any()):
        return tokens
    best = logits.detach().topk(2).indices
    return torch.where(tokens == -1, best[:, 0], torch.where(tokens == -2, best[:, 1], tokens))


def gather_logits(logits: Tensor, tokens: Tensor) -> Tensor:
    """The logit of each token: (seeds, vocabulary) and int64 (seeds,) → (seeds,)."""
    return logits.gather(-1, tokens[:, None])[:, 0]


def logit_margin(logits: Tensor, tokens: Tensor) -> Tensor:
    """The logit of each token less the largest other one: over 0 where greedy decoding takes the token."""
    others = logits.scatter(-1, tokens[:, None], float("-inf"))
    return gather_logits(logits, tokens) - others.amax(-1)


_LOGITS = 1 << 26
"""Logits that are kept at one time."""


Seed = tuple[int, int, int]
"""Row, position and token of a seeded logit; the token is −1 for the largest logit there, −2 for the second."""


def seeded_batches(
    samples: Sequence[Sample], seed: OutputSeed, *, tokens: int = 4096, device: torch.device | str = "cpu"
) -> Iterator[SeededBatch]:
    """Batch the samples, and seed each as `Settings.seed` says.

    A sample without a response is seeded at its last token where a response was asked for: there, the model chose to
    say nothing.

    Args:
        samples: What is batched; long ones are not cut.
        seed: Which logits are seeded.
        tokens: Most tokens of a batch, padding included.
        device: Where the batches are put.

    Yields:
        Batches that hold every sample once.
    """
    reads_response = seed in ("response", "shown")
    sequences = [sample.given + (sample.response[:-1] if reads_response else ()) for sample in samples]
    for places, batch in batches(sequences, tokens, device):
        in_batch = [samples[place] for place in places]
        seeds: list[Seed] = []
        weights: list[float] = []
        for row, sample in enumerate(in_batch):
            row_seeds, row_weights = _seeds_of(sample, row, seed)
            seeds += row_seeds
            weights += row_weights
        rows, positions, targets = torch.tensor(seeds, device=device).unbind(-1)
        yield SeededBatch(
            batch,
            rows,
            positions,
            targets,
            torch.tensor(weights, device=device),
            margins=seed == "shown",
            negatives=_negatives_of(in_batch, device),
        )


def _seeds_of(sample: Sample, row: int, seed: OutputSeed) -> tuple[list[Seed], list[float]]:
    """The seeds of one sample and their weights, which are a mean: a long sample counts no more than a short one."""
    last = len(sample.given) - 1
    if seed in ("response", "shown") and sample.response:
        response = [(row, last + step, token) for step, token in enumerate(sample.response)]
        return _weighted(response, sample.weights)
    throughout = seed == "all" or (sample.throughout and seed in ("next", "contrastive"))
    positions = range(last + 1) if throughout else range(last, last + 1)
    share = 1 / len(positions)
    largest = [(row, position, -1) for position in positions]
    if seed != "contrastive":
        return largest, [share] * len(positions)
    second = [(row, position, -2) for position in positions]
    return largest + second, [share] * len(positions) + [-share] * len(positions)


def _weighted(seeds: list[Seed], weights: Sequence[float] | None) -> tuple[list[Seed], list[float]]:
    """The seeds that weigh anything, and their weights; all alike where none are given.

    One seed stays where all weigh nothing, for a batch without seeds has no output.
    """
    if weights is None:
        return seeds, [1 / len(seeds)] * len(seeds)
    kept = [(seed, weight) for seed, weight in zip(seeds, weights, strict=True) if weight] or [(seeds[0], 0.0)]
    return [seed for seed, _ in kept], [weight for _, weight in kept]


def _negatives_of(samples: Sequence[Sample], device: torch.device | str) -> NegativeResponses | None:
    """The other responses to the same; None unless every sample has one."""
    if not all(sample.negatives for sample in samples):
        return None
    batch = Batch.of([sample.given + sample.negatives for sample in samples], device)
    return NegativeResponses(batch, torch.tensor([len(sample.given) for sample in samples], device=device))
