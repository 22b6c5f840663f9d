"""Two evaluations of the same prompts and texts, pair by pair."""

from dataclasses import dataclass
from typing import Any

from correction.errors import EvaluationError
from correction.evaluation.evaluate import Evaluation
from correction.evaluation.json_values import interval_values
from correction.evaluation.noninferiority import Statement
from correction.evaluation.perplexity import increase
from stats.estimates import Estimate, Floats, bootstrap, by_prompt, mean_difference, rate_difference


@dataclass(frozen=True)
class Comparison:
    """Paired differences, after − before, with their intervals; None where one side was not measured.

    Differences of rates have Newcombe's interval where each prompt has one response; all else is bootstrapped over
    prompts, or over the texts.

    Attributes:
        toxic, repetitive: of the rates. toxicity: of the mean score. uniqueness: of the mean ratio.
        perplexity: relative increase, after / before − 1.
        refusals: of the rates; that of the attack success rate is the same with the other sign.
        toxic_prompts, repetitive_prompts: of the rates of prompts with at least one such response.
        maximum_toxicity: of the expected maximum toxicity. These three only with several samples.
    """

    toxic: Estimate | None = None
    toxicity: Estimate | None = None
    repetitive: Estimate | None = None
    uniqueness: Estimate | None = None
    perplexity: Estimate | None = None
    refusals: Estimate | None = None
    toxic_prompts: Estimate | None = None
    maximum_toxicity: Estimate | None = None
    repetitive_prompts: Estimate | None = None

    def summary(self) -> dict[str, Any]:
        """Each difference as [value, low, high], those that were measured."""
        return {name: interval_values(estimate) for name, estimate in vars(self).items() if estimate is not None}


def compare(before: Evaluation, after: Evaluation, *, seed: int = 0) -> Comparison:
    """Paired differences between two evaluations on the same prompts and texts.

    Raises:
        EvaluationError: they are not of the same prompts, texts or scorer, or not sampled alike.
    """
    found: dict[str, Estimate] = {}
    settings: dict[str, Any] = {"confidence": before.confidence, "seed": seed}
    if before.responses and after.responses:
        _check_prompts(before, after)
        found |= _of_responses(before, after, settings)
    if before.perplexity and after.perplexity:
        read, reread = before.perplexity, after.perplexity
        if (read.protocol, read.window) != (reread.protocol, reread.window):
            raise EvaluationError(
                f"the perplexities are not alike: {read.protocol} in windows of {read.window or 'the context'} before, "
                f"{reread.protocol} in windows of {reread.window or 'the context'} after"
            )
        if read.tokens.tolist() != reread.tokens.tolist():
            raise EvaluationError("the two evaluations are of different texts")
        found["perplexity"] = bootstrap(increase, read.losses, reread.losses, read.tokens, **settings)
    return Comparison(**found)


def statements(before: Evaluation, after: Evaluation, difference: Comparison, margin: float = 0.0) -> list[Statement]:
    """What two evaluations state of the behaviour: whether toxic and repetitive responses are no more than before.

    With several samples to a prompt, toxicity is told as RealToxicityPrompts does (Gehman et al. 2020, section 3.1):
    the expected maximum, the mean over prompts of the highest score among the samples, and the probability, the share
    of prompts with at least one toxic sample. Theirs are 25 samples of at most 20 tokens, by nucleus sampling with
    p = 0.9; ours are drawn as the evaluation says.

    Args:
        difference: of the two, see `compare`.
        margin: by how much a rate or score may have grown.
    """
    asked = len(before.responses) // before.samples
    found: list[Statement] = []

    def state(measure: str, change: Estimate | None, values: tuple[float, float]) -> None:
        if change is not None:
            found.append(Statement(measure, *values, change, "higher", margin, asked))

    if before.toxicity and after.toxicity:
        one, other = before.toxicity, after.toxicity
        state("toxic responses", difference.toxic, (one.rate.value, other.rate.value))
        state("expected maximum toxicity", difference.maximum_toxicity, (one.maximum.value, other.maximum.value))
        state("toxicity probability", difference.toxic_prompts, (one.prompts.value, other.prompts.value))
    if before.repetition and after.repetition:
        rates = (before.repetition.rate.value, after.repetition.rate.value)
        state("repetitive responses", difference.repetitive, rates)
    return found


def _check_prompts(before: Evaluation, after: Evaluation) -> None:
    for name in ("samples", "temperature", "max_new_tokens"):
        if (one := getattr(before, name)) != (other := getattr(after, name)):
            raise EvaluationError(f"the responses are not alike: {name} was {one} before and {other} after")
    if [response.prompt for response in before.responses] != [response.prompt for response in after.responses]:
        raise EvaluationError("the two evaluations are of different prompts")


def _of_responses(before: Evaluation, after: Evaluation, settings: dict[str, Any]) -> dict[str, Estimate]:
    samples = before.samples

    def of_rates(one: Floats, other: Floats) -> Estimate:
        return rate_difference(one, other, samples, **settings)

    def of_means(one: Floats, other: Floats) -> Estimate:
        return bootstrap(
            mean_difference, by_prompt(one, samples).mean(-1), by_prompt(other, samples).mean(-1), **settings
        )

    def worst(values: Floats) -> Floats:
        return by_prompt(values, samples).max(-1)

    found: dict[str, Estimate] = {}
    if before.toxicity and after.toxicity:
        one, other = before.toxicity, after.toxicity
        if (one.scorer, one.version, one.threshold) != (other.scorer, other.version, other.threshold):
            raise EvaluationError(f"{one.scorer} {one.version} and {other.scorer} {other.version} scored differently")
        found["toxic"] = of_rates(one.flags, other.flags)
        found["toxicity"] = of_means(one.scores, other.scores)
        if samples > 1:
            found["toxic_prompts"] = rate_difference(worst(one.flags), worst(other.flags), **settings)
            found["maximum_toxicity"] = bootstrap(mean_difference, worst(one.scores), worst(other.scores), **settings)
    if before.repetition and after.repetition:
        first, second = before.repetition, after.repetition
        found["repetitive"] = of_rates(first.flags, second.flags)
        found["uniqueness"] = of_means(first.ratios, second.ratios)
        if samples > 1:
            found["repetitive_prompts"] = rate_difference(worst(first.flags), worst(second.flags), **settings)
    if before.refusals and after.refusals:
        found["refusals"] = of_rates(before.refusals.flags, after.refusals.flags)
    return found
