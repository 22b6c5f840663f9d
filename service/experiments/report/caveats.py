"""What a reader should know before believing a report."""

from __future__ import annotations

from collections.abc import Sequence

from service.experiments.experiment import Experiment
from service.experiments.report.number_format import NAMES, count, level, percent
from service.experiments.report.report_document import VariantFigures

CUT_OFF = 0.1
"""Share of a variant's responses that end at the token limit from which on a warning says so."""
FEW = 200
"""Counted units of a variant below which a note says so."""


def caveats(experiment: Experiment, variants: Sequence[VariantFigures]) -> list[str]:
    """In order of weight, one idea each."""
    return [
        *_about_data(experiment, variants),
        *_about_units(experiment),
        *_about_levels(experiment),
        "Intervals of mean length and mean latency, and of their differences, are asymptotic, and left out under 100 "
        "units. Those of rates and of the 95th percentile hold for any number.",
        "Toxicity, repetition and refusal are what the scorer finds. The offline scorer hears words, not meaning.",
    ]


def cautions(experiment: Experiment, variants: Sequence[VariantFigures]) -> list[str]:
    """What speaks against trusting a decision of any kind."""
    warnings = []
    if anonymous := sum(each["anonymous"] for each in variants):
        every = sum(each["responses"] + each["errors"] for each in variants)
        warnings.append(
            f"{anonymous:,} of {count(every, 'request')} named no user and are in no test; send 'user' or "
            "'safety_identifier', or make an experiment by request."
        )
    for each in variants:
        if each["truncated"] >= CUT_OFF * max(each["responses"], 20):
            warnings.append(
                f"{percent(each['truncated'] / each['responses'])} of the responses of {each['name']} "
                f"({each['truncated']:,} of {each['responses']:,}) were cut off by the token limit: what would have "
                "come after was not seen, and their length is the limit's."
            )
    return warnings


def _about_data(experiment: Experiment, variants: Sequence[VariantFigures]) -> list[str]:
    notes = []
    if few := [f"{each['name']} ({each['units']:,})" for each in variants if each["units"] < FEW]:
        notes.append(f"Few counted units so far: {', '.join(few)}.")
    for each in variants:
        if each["scored"] < each["responses"]:
            known = f"{each['scored']:,} of {count(each['responses'], 'response')} of {each['name']}"
            notes.append(f"{known} were scored ({percent(each['scored'] / each['responses'])}).")
    if any(guardrail.metric == "coherence" for guardrail in experiment.guardrails):
        judged = ", ".join(f"{each['judged']:,} of {each['name']}" for each in variants)
        notes.append(
            f"Coherence is what the base model thinks of a sample of the responses ({judged}): low for gibberish, high "
            "also for loops. It stops masks that write gibberish and is no measure of quality."
        )
    else:
        notes.append("Nothing guards the coherence of responses here, so a mask that writes gibberish may look better.")
    if experiment.status == "paused":
        notes.append("The experiment is paused: everybody gets the control, and nobody is counted.")
    return notes


def _about_units(experiment: Experiment) -> list[str]:
    if experiment.unit == "user":
        counts = (
            "One response of each user who is named counts in tests and intervals, the first: answers to one user are "
            "alike."
        )
    else:
        counts = "One response of each request counts in tests and intervals, its first choice: its choices are alike."
    notes = [f"{counts} The rates over all responses are only descriptive."]
    if experiment.mirrors:
        notes.append(
            "Mirrored variants answer copies that nobody sees, at lower priority, so their latency says nothing; a "
            "copied request counts for the shown or for the mirrored answer, by a fair coin."
        )
    if experiment.epoch:
        notes.append(
            f"There were {experiment.epoch + 1} periods, each with its own weights or begun anew after a pause. "
            "Variants are compared within each, so a rate that drifts while weights change misleads nobody."
        )
        if experiment.unit == "user":
            notes.append("A user who was moved to another variant between periods counts where they came first.")
    return notes


def _about_levels(experiment: Experiment) -> list[str]:
    variants = len(experiment.variants) - 1
    notes = []
    if variants > 1:
        notes.append(
            f"{variants} variants are compared with the control, so each is tested at "
            f"{level(experiment.alpha / variants)}. Which of two variants is the better one is not tested."
        )
    notes.append(
        f"The decision is about {NAMES[experiment.metric]} alone. The other rates are tested by themselves, at the "
        "same level each: of many such findings one may be chance."
    )
    return notes
