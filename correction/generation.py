"""Greedy answers, batched, with their token ids."""

from collections.abc import Sequence

import torch
from transformers import DynamicCache

from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.tokenisation import batches


@torch.no_grad()
def respond(
    loaded: LoadedModel,
    sequences: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 50,
    tokens: int = 4096,
    progress: Progress = silent,
) -> list[list[int]]:
    """The model's greedy response to each sequence of token ids.

    Always the most likely token, whatever sampling settings come with the model. A response ends before the first
    end-of-sequence token, which is no part of it; it may be empty.

    Args:
        sequences: token ids, each leaving `max_new_tokens` free in the context.
        max_new_tokens: at most this many tokens a response.
        tokens: size of a batch, padding included, without the responses.
    """
    ends = end_tokens(loaded)
    responses: list[list[int]] = [[] for _ in sequences]
    done = 0
    for places, batch in batches(sequences, tokens, loaded.device):
        produced = _greedy(loaded, batch.input_ids, batch.lengths, ends, max_new_tokens)
        for place, row in zip(places, produced.tolist(), strict=True):
            ended = next((step for step, token in enumerate(row) if token in ends), len(row))
            responses[place] = row[:ended]
        done += len(places)
        progress("responses", done, len(sequences))
    return responses


def end_tokens(loaded: LoadedModel) -> frozenset[int]:
    """Ids of the tokens that end a response: those of the model's generation settings, and the tokenizer's own."""
    own = loaded.model.generation_config.eos_token_id if loaded.model.generation_config else None
    listed = own if isinstance(own, list) else [own]
    return frozenset(token for token in (*listed, loaded.tokenizer.eos_token_id) if token is not None)


def _greedy(
    loaded: LoadedModel, input_ids: torch.Tensor, lengths: torch.Tensor, ends: frozenset[int], steps: int
) -> torch.Tensor:
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
    produced = []
    for _ in range(steps):
        logits = loaded.model(
            input_ids=ids,
            attention_mask=attended,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        ids = logits.argmax(-1, keepdim=True)
        produced.append(ids)
        ended |= torch.isin(ids[:, 0], ending)
        if bool(ended.all()):
            break
        attended = torch.cat([attended, attended.new_ones(len(ids), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return torch.cat(produced, dim=1)
