"""The split: did each variant get the units that it was to get? If not, some were lost, and nothing can be compared."""

from __future__ import annotations

from service.experiments.report.report_document import Split, e_value
from service.experiments.report.samples import Samples
from stats.sequential import split_log_e_value

ALPHA = 0.001
"""Chance to call a sound split broken, ever: small, for a broken split overrides every other finding."""


def split(samples: Samples) -> Split:
    """Units counted against the designed shares, epoch by epoch. Mirrored variants are no part of it."""
    arms = [variant.name for variant in samples.experiment.arms]
    counted, expected = dict.fromkeys(arms, 0), dict.fromkeys(arms, 0.0)
    strata = []
    for epoch in samples.epochs:
        shares = samples.experiment.shares[epoch]
        units = [samples.units_in(epoch, name) for name in arms]
        seen = [each.responses + each.errors for each in units]
        for name, number in zip(arms, seen, strict=True):
            counted[name] += number
            expected[name] += shares[name] * sum(seen)
        if sum(seen) and len(arms) > 1:
            strata.append((seen, [shares[name] for name in arms]))
    log_e = split_log_e_value(strata) if strata else None
    return {
        "broken": log_e is not None and e_value(log_e) >= 1 / ALPHA,
        "e_value": None if log_e is None else e_value(log_e),
        "alpha": ALPHA,
        "counted": counted,
        "expected": expected,
    }
