"""Two evaluations of the same prompts and texts, pair by pair."""

from dataclasses import dataclass
from typing import Any

from correction.errors import EvaluationError
from correction.evaluation.evaluate import Evaluation
from correction.evaluation.json_values import interval_values
from correction.evaluation.noninferiority import Statement
from correction.evaluation.perplexity import Perplexity, increase
from correction.evaluation.repetition import Repetition
from correction.evaluation.toxicity import Toxicity
from stats.estimates import Estimate, Floats, bootstrap, by_prompt, mean_difference, rate_difference


@dataclass(frozen=True)
class Comparison:
    """Paired differences, after − before, with their intervals; None where one side was not measured.

    Differences of rates have Newcombe's interval where each prompt has one response; all else is bootstrapped over
    prompts, or over the texts.

    Attributes:
        toxic: Of the rates.
        repetitive: Of the rates.
        empty: Of the rates.
        toxicity: Of the mean score.
        uniqueness: Of the mean ratio.
        perplexity: Relative increase, after / before − 1.
        refusals: Of the rates; that of the attack success rate is the same with the other sign.
        toxic_prompts: Of the rates of prompts with at least one such response.
        repetitive_prompts: Of the rates of prompts with at least one such response.
        maximum_toxicity: Of the expected maximum toxicity. These three only with several samples.
    """

    toxic: Estimate | None = None
    toxicity: Estimate | None = None
    repetitive: Estimate | None = None
    empty: Estimate | None = None
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
        EvaluationError: They are not of the same prompts, texts or scorer, or not sampled alike.
    """
    differences: dict[str, Estimate] = {}
    settings: dict[str, Any] = {"confidence": before.confidence, "seed": seed}
    if before.responses and after.responses:
        _check_prompts(before, after)
        paired = _PairedDifferences(before.samples, settings)
        if before.toxicity and after.toxicity:
            differences |= _toxicity_differences(before.toxicity, after.toxicity, paired)
        if before.repetition and after.repetition:
            differences |= _repetition_differences(before.repetition, after.repetition, paired)
        if before.refusals and after.refusals:
            differences["refusals"] = paired.of_rates(before.refusals.flags, after.refusals.flags)
    if before.perplexity and after.perplexity:
        _check_texts(before.perplexity, after.perplexity)
        one, other = before.perplexity, after.perplexity
        differences["perplexity"] = bootstrap(increase, one.losses, other.losses, one.tokens, **settings)
    return Comparison(**differences)


def statements(before: Evaluation, after: Evaluation, difference: Comparison, margin: float = 0.0) -> list[Statement]:
    """State what two evaluations show of the behaviour: whether toxic and repetitive responses are no more than before.

    With several samples to a prompt, toxicity is reported as in RealToxicityPrompts (Gehman et al. 2020, section 3.1):
    the expected maximum, the mean over prompts of the highest score among the samples, and the probability, the share
    of prompts with at least one toxic sample. Theirs are 25 samples of at most 20 tokens, by nucleus sampling with
    p = 0.9; ours are drawn with the settings of the evaluation.

    Args:
        before: Of the base model.
        after: Of the model with the mask.
        difference: Of the two, see `compare`.
        margin: By how much a rate or score may grow.
    """
    asked = len(before.responses) // before.samples
    findings: list[Statement] = []

    def state(measure: str, change: Estimate | None, values: tuple[float, float]) -> None:
        if change is not None:
            findings.append(Statement(measure, *values, change, "higher", margin, asked))

    if before.toxicity and after.toxicity:
        one, other = before.toxicity, after.toxicity
        state("toxic responses", difference.toxic, (one.rate.value, other.rate.value))
        state("expected maximum toxicity", difference.maximum_toxicity, (one.maximum.value, other.maximum.value))
        state("toxicity probability", difference.toxic_prompts, (one.prompts.value, other.prompts.value))
    if before.repetition and after.repetition:
        rates = (before.repetition.rate.value, after.repetition.rate.value)
        state("repetitive responses", difference.repetitive, rates)
    return findings


def _check_prompts(before: Evaluation, after: Evaluation) -> None:
    for name in ("samples", "temperature", "max_new_tokens"):
        if (one := getattr(before, name)) != (other := getattr(after, name)):
            raise EvaluationError(f"the responses are not alike: {name} was {one} before and {other} after")
    if [response.prompt for response in before.responses] != [response.prompt for response in after.responses]:
        raise EvaluationError("the two evaluations are of different prompts")


def _check_texts(before: Perplexity, after: Perplexity) -> None:
    if (before.protocol, before.window) != (after.protocol, after.window):
        raise EvaluationError(
            f"the perplexities are not alike: {before.protocol} in windows of {before.window or 'the context'} before, "
            f"{after.protocol} in windows of {after.window or 'the context'} after"
        )
    if before.tokens.tolist() != after.tokens.tolist():
        raise EvaluationError("the two evaluations are of different texts")


@dataclass(frozen=True)
class _PairedDifferences:
    """Differences between values of the same responses, `samples` to each prompt: float64 (responses,) each."""

    samples: int
    settings: dict[str, Any]

    def of_rates(self, before: Floats, after: Floats) -> Estimate:
        return rate_difference(before, after, self.samples, **self.settings)

    def of_means(self, before: Floats, after: Floats) -> Estimate:
        means = (by_prompt(values, self.samples).mean(-1) for values in (before, after))
        return bootstrap(mean_difference, *means, **self.settings)

    def of_rates_of_prompts(self, before: Floats, after: Floats) -> Estimate:
        return rate_difference(self._largest(before), self._largest(after), **self.settings)

    def of_mean_maxima(self, before: Floats, after: Floats) -> Estimate:
        return bootstrap(mean_difference, self._largest(before), self._largest(after), **self.settings)

    def _largest(self, values: Floats) -> Floats:
        return by_prompt(values, self.samples).max(-1)


def _toxicity_differences(before: Toxicity, after: Toxicity, paired: _PairedDifferences) -> dict[str, Estimate]:
    if (before.scorer, before.version, before.threshold) != (after.scorer, after.version, after.threshold):
        raise EvaluationError(f"{before.scorer} {before.version} and {after.scorer} {after.version} scored differently")
    differences = {
        "toxic": paired.of_rates(before.flags, after.flags),
        "toxicity": paired.of_means(before.scores, after.scores),
    }
    if paired.samples > 1:
        differences["toxic_prompts"] = paired.of_rates_of_prompts(before.flags, after.flags)
        differences["maximum_toxicity"] = paired.of_mean_maxima(before.scores, after.scores)
    return differences


def _repetition_differences(before: Repetition, after: Repetition, paired: _PairedDifferences) -> dict[str, Estimate]:
    differences = {
        "repetitive": paired.of_rates(before.flags, after.flags),
        "empty": paired.of_rates(before.empty_flags, after.empty_flags),
        "uniqueness": paired.of_means(before.ratios, after.ratios),
    }
    if paired.samples > 1:
        differences["repetitive_prompts"] = paired.of_rates_of_prompts(before.flags, after.flags)
    return differences
