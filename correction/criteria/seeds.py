"""Output seeds: which logits relevance starts from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from correction.criteria.settings import OutputSeed
from correction.models import LoadedModel
from correction.tokenisation import Batch, batches


@dataclass(frozen=True)
class Sample:
    """One sequence of a reference set: what is given, and the response that it is seeded at (empty where not asked)."""

    given: tuple[int, ...]
    response: tuple[int, ...] = ()


@dataclass(frozen=True)
class SeededBatch:
    """A batch and the logits that relevance starts from: weights[k] times that of tokens[k] at (rows[k], positions[k]).

    Attributes:
        batch: the sequences.
        rows, positions: int64 (seeds,).
        tokens: int64 (seeds,), −1 for the largest logit there.
        weights: float32 (seeds,).
    """

    batch: Batch
    rows: Tensor
    positions: Tensor
    tokens: Tensor
    weights: Tensor

    def output(self, loaded: LoadedModel) -> Tensor:
        """Weighted sum of the seeded logits over the batch: a scalar in float32.

        Rows do not meet inside the model, so that its gradient is that of every row's own output.
        """
        hidden = loaded.decoder(input_ids=self.batch.input_ids, use_cache=False).last_hidden_state
        logits = loaded.model.get_output_embeddings()(hidden[self.rows, self.positions]).float()
        tokens = torch.where(self.tokens < 0, logits.detach().argmax(-1), self.tokens)
        return self.weights @ logits.gather(-1, tokens[:, None])[:, 0]


def seeded(
    samples: Sequence[Sample], seed: OutputSeed, *, tokens: int = 4096, device: torch.device | str = "cpu"
) -> Iterator[SeededBatch]:
    """Batches of the samples, of at most `tokens` tokens each, seeded as `Settings.seed` says (`next` as `last`).

    A sample without a response is seeded at its last token where a response was asked for: there, the model chose to
    say nothing.
    """
    sequences = [sample.given + (sample.response[:-1] if seed == "response" else ()) for sample in samples]
    for places, batch in batches(sequences, tokens, device):
        seeds: list[tuple[int, int, int]] = []
        weights: list[float] = []
        for row, place in enumerate(places):
            given, response = samples[place].given, samples[place].response
            last = len(given) - 1
            if seed == "all":
                seeds += [(row, position, -1) for position in range(len(given))]
            elif seed == "response" and response:
                seeds += [(row, last + step, token) for step, token in enumerate(response)]
            else:
                seeds.append((row, last, -1))
            new = len(seeds) - len(weights)
            weights += [1 / new] * new  # the mean: a long sample counts no more than a short one
        rows, positions, targets = torch.tensor(seeds, device=device).unbind(-1)
        yield SeededBatch(batch, rows, positions, targets, torch.tensor(weights, device=device))
