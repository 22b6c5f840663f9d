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
        given: what the model reads.
        response: what it is seeded at, for the seed `response`.
        throughout: a text: where the model is to go on is after every token, not only after the last.
        weights: of the tokens of the response, where they do not all count for 1 / their number; those of 0 are not
            seeded.
        negatives: another response to the same, that activations are held against; empty for none.
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
        batch: what was given with the other response, row by row.
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
        batch: the sequences.
        rows, positions: int64 (seeds,).
        tokens: int64 (seeds,), −1 for the largest logit there, −2 for the second.
        weights: float32 (seeds,).
        margins: what is seeded is not the logit alone, but the logit less the largest other one there.
        negatives: what activations are held against, if anything.
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


def seeded_batches(
    samples: Sequence[Sample], seed: OutputSeed, *, tokens: int = 4096, device: torch.device | str = "cpu"
) -> Iterator[SeededBatch]:
    """Batches of the samples, of at most `tokens` tokens each, seeded as `Settings.seed` says.

    A sample without a response is seeded at its last token where a response was asked for: there, the model chose to
    say nothing.
    """
    answered = seed in ("response", "shown")
    sequences = [sample.given + (sample.response[:-1] if answered else ()) for sample in samples]
    for places, batch in batches(sequences, tokens, device):
        seeds: list[tuple[int, int, int]] = []
        weights: list[float] = []
        for row, place in enumerate(places):
            given, response = samples[place].given, samples[place].response
            last = len(given) - 1
            throughout = seed == "all" or (samples[place].throughout and seed in ("next", "contrastive"))
            starts = range(len(given)) if throughout else range(last, last + 1)
            if answered and response:
                new = [(row, last + step, token) for step, token in enumerate(response)]
            else:
                new = [(row, position, -1) for position in starts]
            share = 1 / len(new)  # the mean: a long sample counts no more than a short one
            own = samples[place].weights
            if answered and response and own is not None:
                new, counting = _counting(new, own)
                weights += counting
            else:
                weights += [share] * len(new)
            if seed == "contrastive":
                new += [(row, position, -2) for position in starts]
                weights += [-share] * len(starts)
            seeds += new
        rows, positions, targets = torch.tensor(seeds, device=device).unbind(-1)
        negatives = None
        if all(samples[place].negatives for place in places):
            others = Batch.of([samples[place].given + samples[place].negatives for place in places], device)
            negatives = NegativeResponses(
                others, torch.tensor([len(samples[place].given) for place in places], device=device)
            )
        own_weights = torch.tensor(weights, device=device)
        yield SeededBatch(batch, rows, positions, targets, own_weights, seed == "shown", negatives)


def _counting(
    seeds: list[tuple[int, int, int]], weights: Sequence[float]
) -> tuple[list[tuple[int, int, int]], list[float]]:
    """Without the seeds that weigh nothing; one of them stays where all do, for a batch without seeds has no output."""
    kept = [(seed, weight) for seed, weight in zip(seeds, weights, strict=True) if weight] or [(seeds[0], 0.0)]
    return [seed for seed, _ in kept], [weight for _, weight in kept]
