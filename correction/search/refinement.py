"""Refinement: the gates of the best candidates alone, trained by gradient while every weight stays as it is.

Attribution scores one component at a time; the gates learn together: against the behaviour where it begins, and
for the base model's own distribution over general text. The objective is

    mean over samples of softplus(1 − log Σ exp(−margin))  +  β · KL(base ‖ gated)  +  γ · mean(1 − g)

where the margin is the logit of a token that shows the behaviour less the largest other one, and the sum is over the
first such tokens of a response: a soft minimum, for to say something else at one of them is enough. KL is a mean over
positions. What comes out is a score of every component, −(1 − g), to be rounded and verified like any other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from correction.ablation import scaled_input
from correction.attribution.criteria.output_seeds import Sample, SeededBatch, logit_margin, seeded_batches
from correction.attribution.relevance import Relevance
from correction.data.tokenisation import Batch
from correction.errors import SelectionError
from correction.instances import frozen_parameters
from correction.models import LoadedModel
from correction.progress import Progress, silent

Item = TypeVar("Item")


@dataclass(frozen=True)
class Refinement:
    """Settings.

    Attributes:
        candidates: So many of the best are trained.
        steps: Of Adam.
        rate: Its learning rate, on 1 − g; it falls to a tenth on the way.
        divergence: β.
        sparsity: γ.
        tokens: Of the behaviour and of the general text, in each step.
        longest: Of one text.
        onset: Of a response, so many tokens that show the behaviour count.
        seed: Of the order in which they are read.
    """

    candidates: int = 2000
    steps: int = 60
    rate: float = 0.05
    divergence: float = 20.0
    sparsity: float = 0.0
    tokens: int = 200
    longest: int = 100
    onset: int = 10
    seed: int = 0


def refine(
    loaded: LoadedModel,
    begun: Relevance,
    samples: Sequence[Sample],
    general: Sequence[Sequence[int]],
    settings: Refinement,
    *,
    progress: Progress = silent,
) -> Relevance:
    """Scores of the refined gates: −(1 − g) for a candidate, else +1, so that it is never cut.

    Args:
        loaded: The model.
        begun: −(1 − g) to start from, of neurons or heads; the smallest are the candidates.
        samples: Responses that show the behaviour, with the weights of their tokens.
        general: Token ids of texts.
        settings: Of the training.
        progress: Called after every batch.

    Raises:
        SelectionError: Nothing to start from: no score is under 0.
    """
    places = _candidates(begun, settings.candidates)
    if not places:
        raise SelectionError("no component is better cut than kept, so there is nothing to refine")
    starts = {name: (-begun.scores[name][at]).clamp(0.02, 0.9) for name, at in places.items()}
    dampened = {name: nn.Parameter(start.to(loaded.device)) for name, start in starts.items()}
    optimiser = torch.optim.Adam(dampened.values(), lr=settings.rate, betas=(0.9, 0.99))
    random = np.random.default_rng(settings.seed)
    onsets = [_onset(sample, settings.onset) for sample in samples]
    texts = [tuple(text[: settings.longest]) for text in general if len(text) > 1]
    behaviour_stream, general_stream = _shuffled_forever(onsets, random), _shuffled_forever(texts, random)
    with frozen_parameters(loaded.model):
        base_states: dict[tuple[int, ...], Tensor] = {}
        for step in range(1, settings.steps + 1):
            optimiser.param_groups[0]["lr"] = settings.rate * (1 - 0.9 * (step - 1) / settings.steps)
            optimiser.zero_grad()
            step_samples = _take_tokens(behaviour_stream, settings.tokens, _sample_length)
            step_texts = _take_tokens(general_stream, settings.tokens, len)
            base = torch.cat([_cached_states(loaded, row, base_states) for row in step_texts])
            with _gated(loaded, places, dampened):
                batches = seeded_batches(step_samples, "shown", tokens=1 << 30, device=loaded.device)
                losses = torch.stack([_margin_loss(loaded, batch) for batch in batches])
                gated = _states(loaded, step_texts)
            behaviour_loss = losses.sum() / len(step_samples)
            divergence = _divergence(loaded, base, gated)
            size = torch.cat(list(dampened.values())).mean()
            (behaviour_loss + settings.divergence * divergence + settings.sparsity * size).backward()
            optimiser.step()
            with torch.no_grad():
                for parameter in dampened.values():
                    parameter.clamp_(0, 1)
            progress("refinement", step, settings.steps)
    scores = {name: torch.ones_like(score) for name, score in begun.scores.items()}
    for name, at in places.items():
        scores[name][at] = -dampened[name].detach().cpu()
    return Relevance(begun.granularity, scores, len(samples))


def _onset(sample: Sample, count: int) -> Sample:
    """The response up to the last of its first `count` tokens that weigh anything, these alike and no others."""
    weights = sample.weights or (1.0,) * len(sample.response)
    places = [place for place, weight in enumerate(weights) if weight > 0][:count]
    flags = tuple(float(place in places) for place in range(places[-1] + 1))
    return replace(sample, response=sample.response[: len(flags)], weights=flags)


def _candidates(scores: Relevance, count: int) -> dict[str, Tensor]:
    """Name → places of the smallest scores under 0, int64."""
    flat = torch.cat([score.view(-1) for score in scores.scores.values()])
    count = min(count, int((flat < 0).sum()))
    if not count:
        return {}
    limit = flat.kthvalue(count).values
    places = {name: (score <= limit).nonzero()[:, 0] for name, score in scores.scores.items()}
    return {name: at for name, at in places.items() if len(at)}


def _shuffled_forever(items: Sequence[Item], random: np.random.Generator) -> Iterator[Item]:
    while True:
        for place in random.permutation(len(items)):
            yield items[place]


def _sample_length(sample: Sample) -> int:
    return len(sample.given) + len(sample.response)


def _take_tokens(items: Iterator[Item], tokens: int, length: Callable[[Item], int]) -> list[Item]:
    taken = [next(items)]
    while sum(map(length, taken)) < tokens:
        taken.append(next(items))
    return taken


def _margin_loss(loaded: LoadedModel, batch: SeededBatch) -> Tensor:
    """Σ over the rows of softplus(1 + the soft minimum of the margins of the row)."""
    head = loaded.model.get_output_embeddings()
    states = loaded.decoder(input_ids=batch.batch.input_ids, use_cache=False).last_hidden_state
    margins = logit_margin(head(states[batch.rows, batch.positions]).float(), batch.tokens)
    least = [-torch.logsumexp(-margins[batch.rows == row], 0) for row in batch.rows.unique()]
    return F.softplus(torch.stack(least) + 1).sum()


def _states(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> Tensor:
    """What enters the output head at every real position, row by row: (positions, hidden)."""
    batch = Batch.of(rows, loaded.device)
    states: Tensor = loaded.decoder(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    return states[torch.arange(states.shape[1], device=states.device) < batch.lengths[:, None]]


def _cached_states(loaded: LoadedModel, row: tuple[int, ...], known: dict[tuple[int, ...], Tensor]) -> Tensor:
    """What enters the head of the model as it is: computed once for each text."""
    if row not in known:
        with torch.no_grad():
            known[row] = _states(loaded, [row])
    return known[row]


def _divergence(loaded: LoadedModel, base: Tensor, gated: Tensor) -> Tensor:
    """The mean over positions of KL(base ‖ gated), in nats, given what enters the head: (positions, hidden) each."""
    head = loaded.model.get_output_embeddings()
    with torch.no_grad():
        expected = head(base).float().log_softmax(-1)
    return (expected.exp() * (expected - head(gated).float().log_softmax(-1))).sum(-1).mean()


@contextmanager
def _gated(loaded: LoadedModel, places: Mapping[str, Tensor], dampened: Mapping[str, Tensor]) -> Iterator[None]:
    """Inputs of `down_proj` and `o_proj` times gates that gradients reach."""
    with ExitStack() as stack:
        for block in loaded.blocks:
            for name, module, width in (
                (f"neurons.{block.index}", block.down_proj, 1),
                (f"heads.{block.index}", block.o_proj, loaded.base.geometry.head_dim),
            ):
                if name in places:
                    gate = torch.ones(module.in_features // width, device=loaded.device)
                    gate = gate.index_put((places[name].to(loaded.device),), 1 - dampened[name])
                    gate = gate.repeat_interleave(width).to(module.weight.dtype)
                    stack.enter_context(scaled_input(module, gate))
        yield
