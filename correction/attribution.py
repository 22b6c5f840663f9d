"""Attribution: a reference set and a criterion → the mean relevance of every component."""

from correction import criteria
from correction.criteria import Settings
from correction.criteria.seeds import Sample, seeded
from correction.generation import respond
from correction.models import LoadedModel
from correction.progress import Progress, silent
from correction.references import ReferenceSet
from correction.relevance import Relevance
from correction.tokenisation import encode


def attribute(
    loaded: LoadedModel,
    references: ReferenceSet,
    settings: Settings | None = None,
    *,
    criterion: str = "lrp",
    raw: bool = False,
    max_length: int | None = None,
    tokens: int = 4096,
    progress: Progress = silent,
) -> Relevance:
    """Relevance of every component, averaged over the reference set: R̄ of SparC³, Eq. 7.

    Args:
        settings: what is scored, from which output, by which sign.
        raw: prompts without the chat template.
        max_length: cut texts to this many tokens.
        tokens: size of a batch, padding included. It changes time and memory, not the result.

    Raises:
        CriterionError: an unknown criterion, or one that cannot score what was asked.
        ReferenceSetError: a prompt that does not fit the context.
    """
    settings = settings or Settings.default()
    score = criteria.find(criterion)
    seed = settings.seed
    if seed == "next":
        seed = "last" if references.kind == "prompt" else "all"
    answered = seed == "response" and references.kind == "prompt"
    room = settings.response_tokens if answered else 0
    given = encode(loaded, references, raw=raw, max_length=max_length, room=room)
    if answered:
        responses = respond(loaded, given, max_new_tokens=room, tokens=tokens, progress=progress)
        samples = [Sample(tuple(ids), tuple(answer)) for ids, answer in zip(given, responses, strict=True)]
    elif seed == "response":
        samples = [Sample(tuple(ids[:1]), tuple(ids[1:])) for ids in given]
    else:
        samples = [Sample(tuple(ids)) for ids in given]
    batches = list(seeded(samples, seed, tokens=tokens, device=loaded.device))
    return score(loaded, batches, settings, progress)
