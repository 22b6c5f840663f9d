"""Attribution: a reference set and a criterion → the mean relevance of every component."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from correction import distributed
from correction.attribution import criteria
from correction.attribution.criteria import Settings
from correction.attribution.criteria.criterion import on_device
from correction.attribution.criteria.output_seeds import Sample, SeededBatch, seeded_batches
from correction.attribution.journal import Journal
from correction.attribution.relevance import Relevance
from correction.data.detectors import Detector
from correction.data.generation import generate
from correction.data.references import ReferenceSet
from correction.data.tokenisation import encode
from correction.errors import ReferenceSetError
from correction.evaluation import Response
from correction.instances import replaced_attribute
from correction.models import LoadedModel
from correction.progress import Progress, silent


def attribute(
    loaded: LoadedModel,
    references: ReferenceSet,
    settings: Settings | None = None,
    *,
    criterion: str | criteria.Criterion = "lrp",
    raw: bool = False,
    shows: Detector | None = None,
    negatives: ReferenceSet | None = None,
    max_length: int | None = None,
    tokens: int = 4096,
    checkpointing: bool = False,
    scores_in: Path | None = None,
    resume: Path | None = None,
    state: str = "",
    progress: Progress = silent,
) -> Relevance:
    """Relevance of every component, averaged over the reference set: R̄ of SparC³, Eq. 7.

    Processes of `distributed.process_group` share the batches, and all get the whole result. Those with
    fewer batches idle through the rest, for a model that is sharded runs in all of them or in none.

    Args:
        loaded: The model.
        references: What relevance is averaged over.
        settings: What is scored, from which output, by which sign.
        criterion: By name, or one that has none, as `criteria.cost`.
        raw: Whether prompts are read without the chat template.
        shows: For the seed `shown`, the detector of where in a response the behaviour happens.
        negatives: For the baseline `spared`, responses that do not show the behaviour, with their prompts.
        max_length: Texts are cut to this many tokens.
        tokens: Tokens of a batch, padding included. This and what follows change time and memory, not the result.
        checkpointing: Keep only what enters each decoder layer, and compute the rest twice.
        scores_in: A folder for memory-mapped files, where the scores add up instead of beside the weights. The files
            have no names, and go with the result.
        resume: A folder for a journal: written after every batch, and read by a later run of the same attribution.
        state: Anything else by which a journal differs: a digest of what is cut during the attribution.
        progress: Called after every batch.

    Raises:
        CriterionError: An unknown criterion, or one that cannot score what was asked.
        ReferenceSetError: A prompt that does not fit the context, or no prompt that has responses of both kinds.
        JournalError: A journal that cannot be written or does not fit.
    """
    settings = settings or Settings()
    if isinstance(criterion, str):
        criterion = criteria.find_criterion(criterion)
    criterion.check(settings)
    samples = _samples(loaded, references, settings, criterion, raw, shows, negatives, max_length, tokens, progress)
    batches: list[SeededBatch] = []
    if criterion.reads:
        seed = criterion.seed or settings.seed
        batches = list(seeded_batches(samples, seed, tokens=tokens, device=loaded.device))
    own_batches = batches[distributed.rank() :: distributed.world_size()]
    zeros = on_device if scores_in is None else partial(_mapped, scores_in)
    checkpoints = _checkpointed(loaded) if checkpointing else nullcontext()
    with criterion.attach(loaded, settings, zeros) as attached, checkpoints:
        journal, done = None, 0
        if resume is not None and criterion.reads:
            journal = Journal(resume, _identity(loaded, criterion, settings, samples, state, tokens))
            done = journal.resume(attached.scores)
        remaining = own_batches[done:]
        idle_passes = distributed.all_reduce_max(len(remaining)) - len(remaining)
        for number, batch in enumerate(remaining, done + 1):
            attached.see(batch)
            if journal:
                journal.write(attached.scores, number)
            progress("attribution", number, len(own_batches))
        for _ in range(idle_passes):
            attached.see(batches[0].idle())
        for score in attached.scores.values():
            distributed.all_reduce_sum(score.sum)
        scores = {name: score.mean(len(samples)).cpu() for name, score in attached.scores.items()}
    return Relevance(settings.granularity, scores, len(samples))


def _identity(
    loaded: LoadedModel,
    criterion: criteria.Criterion,
    settings: Settings,
    samples: Sequence[Sample],
    state: str,
    tokens: int,
) -> dict[str, Any]:
    """Everything that the sums in a journal depend on."""
    return {
        "criterion": criterion.name,
        **asdict(settings),
        "fingerprint": loaded.base.fingerprint,
        "dtype": str(loaded.dtype),
        "samples": sha256(repr(samples).encode()).hexdigest(),
        "state": state,
        "share": [distributed.rank(), distributed.world_size(), tokens],
    }


def _samples(
    loaded: LoadedModel,
    references: ReferenceSet,
    settings: Settings,
    criterion: criteria.Criterion,
    raw: bool,
    shows: Detector | None,
    negatives: ReferenceSet | None,
    max_length: int | None,
    tokens: int,
    progress: Progress,
) -> list[Sample]:
    """What is read: prompts with responses for a seed in the response, else prompts or texts alone."""
    seed = criterion.seed or settings.seed
    reads_response = seed in ("response", "shown")
    if reads_response and references.kind == "prompt" and criterion.reads:
        options: dict[str, Any] = {"raw": raw, "tokens": tokens, "progress": progress}
        if settings.baseline == "spared":
            samples = _paired_samples(loaded, references, negatives, settings, options)
        else:
            samples = answered_samples(loaded, references, settings, **options)
        return weight_by_detector(loaded, samples, shows) if seed == "shown" and shows is not None else samples
    sequences = encode(loaded, references, raw=raw, max_length=max_length)
    if reads_response:
        samples = [Sample(tuple(ids[:1]), tuple(ids[1:])) for ids in sequences]
        return [replace(sample, weights=criterion.weights(len(sample.response))) for sample in samples]
    return [Sample(tuple(ids), throughout=references.kind == "text") for ids in sequences]


def _paired_samples(
    loaded: LoadedModel,
    references: ReferenceSet,
    negatives: ReferenceSet | None,
    settings: Settings,
    options: dict[str, Any],
) -> list[Sample]:
    """Responses that show the behaviour, each with one to the same prompt that does not."""
    positives, others = pair_responses(references, negatives)
    samples = answered_samples(loaded, positives, settings, **options)
    without_behaviour = answered_samples(loaded, others, settings, **options)
    return [replace(sample, negatives=other.response) for sample, other in zip(samples, without_behaviour, strict=True)]


def answered_samples(
    loaded: LoadedModel,
    references: ReferenceSet,
    settings: Settings,
    *,
    raw: bool = False,
    tokens: int = 4096,
    progress: Progress = silent,
) -> list[Sample]:
    """Prompts with the responses that came with them, else the model's own greedy ones."""
    room, responses = settings.response_tokens, None
    if references.responses is not None:
        tokenised = [loaded.tokenizer(text, add_special_tokens=False, verbose=False) for text in references.responses]
        responses = [list(encoding["input_ids"])[:room] for encoding in tokenised]
        room = max(map(len, responses))
    sequences = encode(loaded, references, raw=raw, room=room)
    if responses is None:
        responses = generate(loaded, sequences, max_new_tokens=room, tokens=tokens, progress=progress)
    return [Sample(tuple(ids), tuple(answer)) for ids, answer in zip(sequences, responses, strict=True)]


def pair_responses(positives: ReferenceSet, negatives: ReferenceSet | None) -> tuple[ReferenceSet, ReferenceSet]:
    """Responses that show the behaviour, and as many to the same prompts that do not, in turn where there are several.

    Raises:
        ReferenceSetError: No prompt has both.
    """
    places = defaultdict[str, list[int]](list)
    for place, prompt in enumerate(negatives.texts if negatives else ()):
        places[prompt].append(place)
    both = [place for place, prompt in enumerate(positives.texts) if prompt in places]
    if negatives is None or positives.responses is None or not both:
        raise ReferenceSetError(
            f"{positives.name}: no prompt has both a response that shows the behaviour and one that does not, which "
            "the baseline spared compares; draw several --samples at a --temperature over 0"
        )
    turns = {prompt: cycle(of_prompt) for prompt, of_prompt in places.items()}
    return positives.taken(both), negatives.taken([next(turns[positives.texts[place]]) for place in both])


def weight_by_detector(loaded: LoadedModel, samples: Sequence[Sample], shows: Detector) -> list[Sample]:
    """Weight the tokens of each response by where the behaviour happens.

    Returns:
        The samples with weights that add up to 1; without weights, so that all tokens count alike, where the behaviour
        does not happen.
    """

    def decode(tokens: Sequence[int]) -> str:
        return str(loaded.tokenizer.decode(list(tokens), skip_special_tokens=True))

    responses = [Response("", decode(sample.response), sample.response) for sample in samples]
    weighted = []
    for sample, weights in zip(samples, shows.weights(responses, decode), strict=True):
        total = float(weights.sum())
        weighted.append(replace(sample, weights=tuple((weights / total).tolist()) if total > 0 else None))
    return weighted


def _mapped(folder: Path, name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A memory-mapped tensor of zeros; its file has no name any more, and goes with the tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    size = torch.Size(shape).numel()
    with NamedTemporaryFile(dir=folder, prefix="scores-") as file:
        file.truncate(4 * size)
        return torch.from_file(file.name, shared=True, size=size, dtype=torch.float32).view(shape)


@contextmanager
def _checkpointed(loaded: LoadedModel) -> Iterator[None]:
    """Within the block, each decoder layer keeps its input alone and is run again on the way back."""
    with ExitStack() as stack:
        for block in loaded.blocks:
            again = partial(checkpoint, block.layer.forward, use_reentrant=False, preserve_rng_state=False)
            stack.enter_context(replaced_attribute(block.layer, "forward", again))
        yield
