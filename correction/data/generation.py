"""Answers, greedy or sampled, batched, with their token ids."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from correction.data.tokenisation import batches
from correction.errors import EvaluationError
from correction.models import LoadedModel
from correction.progress import Progress, silent

Choice = Callable[[Tensor, int], Tensor]
"""The tokens to go on with, int64 (rows,), given the logits (rows, vocabulary) and the number of tokens so far."""


@torch.no_grad()
def generate(
    loaded: LoadedModel,
    sequences: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 50,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    tokens: int = 4096,
    progress: Progress = silent,
) -> list[list[int]]:
    """Generate responses to each sequence of token ids, regardless of sampling settings that come with the model.

    A response ends before the first end-of-sequence token, which is no part of it; it may be empty.

    Sample j of sequence i draws from random numbers of its own, those of (seed, i, j): neither the batch, nor the other
    sequences, nor the number of samples changes them. So two variants of a model that answer the same
    prompts do so with common random numbers, and differ only where the variants do. (In another batch the last bits of
    the logits may differ, as they may for greedy answers.)

    Args:
        loaded: The model.
        sequences: Token ids, each leaving `max_new_tokens` free in the context.
        max_new_tokens: Most tokens of a response.
        temperature: The logits are divided by it; 0 always takes the most likely token.
        samples: Responses to each sequence.
        seed: Of the draws, in [0, 2**64).
        tokens: Tokens of a batch, padding included, without the responses.
        progress: Called after every batch.

    Returns:
        `len(sequences) * samples` responses; that to sequence i, sample j, lies at i * samples + j.

    Raises:
        EvaluationError: A temperature, number of samples or seed that cannot be used.
    """
    check_sampling(temperature, samples, seed)
    ends = end_tokens(loaded)
    repeated = [sequence for sequence in sequences for _ in range(samples)]
    responses: list[list[int]] = [[] for _ in repeated]
    done = 0
    for places, batch in batches(repeated, tokens, loaded.device):
        choose = _greedy if temperature == 0 else _sampler(places, samples, temperature, seed, max_new_tokens, loaded)
        tell = partial(_report_progress, progress, done, len(places), max_new_tokens, len(repeated))
        produced = _continued(loaded, batch.input_ids, batch.lengths, ends, max_new_tokens, choose, tell)
        for place, row in zip(places, produced.tolist(), strict=True):
            ended = next((step for step, token in enumerate(row) if token in ends), len(row))
            responses[place] = row[:ended]
        done += len(places)
        progress("responses", done, len(repeated))
    return responses


def check_sampling(temperature: float, samples: int, seed: int) -> None:
    """Whether these go together.

    Raises:
        EvaluationError: They do not fit; the message says which, and what would.
    """
    if not isfinite(temperature) or temperature < 0:
        raise EvaluationError(f"temperature is {temperature}; it must be 0 (greedy) or a positive number")
    if samples < 1:
        raise EvaluationError(f"samples is {samples}; at least one response to each prompt is needed")
    if samples > 1 and temperature == 0:
        raise EvaluationError(
            f"{samples} samples at temperature 0 are {samples} times the same response; "
            "give a temperature, such as 1.0, or take one sample"
        )
    if not 0 <= seed < 1 << 64:
        raise EvaluationError(f"seed is {seed}; it must be from 0 to 2**64 - 1")


def end_tokens(loaded: LoadedModel) -> frozenset[int]:
    """Ids of the tokens that end a response: those of the model's generation settings, and the tokenizer's own."""
    eos_token_id = loaded.model.generation_config.eos_token_id if loaded.model.generation_config else None
    listed = eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
    return frozenset(token for token in (*listed, loaded.tokenizer.eos_token_id) if token is not None)


def uniform_numbers(seed: int, prompt: int, sample: int, count: int) -> np.ndarray:
    """The first `count` random numbers of one response: float64 in [0, 1), shape (count,).

    Philox (Salmon et al. 2011) is a function of a key and a counter: the seed is the key, prompt and sample are the
    upper half of the counter, and only its lower half counts on.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, sample, prompt])).random(count)


def sample_tokens(logits: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """Tokens by the inverse of the cumulative softmax(logits / temperature), in float64.

    Args:
        logits: (rows, vocabulary).
        temperature: Over 0.
        uniform: float64 (rows,), in [0, 1).

    Returns:
        int64 (rows,): the first token whose cumulative probability exceeds the row's uniform number.
    """
    scores = logits.double()
    scores = (scores - scores.amax(-1, keepdim=True)) / temperature  # no overflow, however small the temperature
    cumulative = scores.exp().cumsum(-1)
    places = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    return places[:, 0].clamp_max(logits.shape[-1] - 1)


def _greedy(logits: Tensor, step: int) -> Tensor:
    return logits.argmax(-1)


def _sampler(
    places: Sequence[int], samples: int, temperature: float, seed: int, count: int, loaded: LoadedModel
) -> Choice:
    """What draws the tokens of a batch whose rows are these places among all responses."""
    rows = [uniform_numbers(seed, *divmod(place, samples), count) for place in places]
    draws = torch.from_numpy(np.stack(rows)).to(loaded.device)
    return lambda logits, step: sample_tokens(logits, temperature, draws[:, step])


def _report_progress(progress: Progress, done: int, rows: int, steps: int, total: int, step: int) -> None:
    """Of a batch that is under way, the part of its rows that its steps so far stand for."""
    part, before = rows * step // steps, rows * (step - 1) // steps
    if before < part < rows:
        progress("responses", done + part, total)


def _continued(
    loaded: LoadedModel,
    input_ids: Tensor,
    lengths: Tensor,
    ends: frozenset[int],
    steps: int,
    choose: Choice,
    tell: Callable[[int], None],
) -> Tensor:
    """Continue right-padded rows by `steps` tokens, or fewer once all have ended: int64 (rows, steps)."""
    width = input_ids.shape[1]
    # Generation needs the last tokens in line: move the padding to the left.
    columns = torch.arange(width, device=input_ids.device)
    attended = (columns >= width - lengths[:, None]).long()
    ids = input_ids.gather(1, (columns - (width - lengths[:, None])) % width)
    positions = (attended.cumsum(-1) - 1).clamp_min(0)
    ending = torch.tensor(sorted(ends), device=ids.device)
    cache = DynamicCache(config=loaded.model.config)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    produced: list[Tensor] = []
    for step in range(steps):
        logits = loaded.model(
            input_ids=ids,
            attention_mask=attended,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        ids = choose(logits, step)[:, None]
        produced.append(ids)
        tell(step + 1)
        ended |= torch.isin(ids[:, 0], ending)
        if bool(ended.all()):
            break
        attended = torch.cat([attended, attended.new_ones(len(ids), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return torch.cat(produced, dim=1)
