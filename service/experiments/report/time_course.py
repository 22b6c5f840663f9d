"""The course of an experiment over time, as the page draws it: descriptive, over every response."""

from __future__ import annotations

from collections.abc import Sequence

from service.experiments.experiment import Experiment
from service.experiments.outcomes.queries import Moment
from service.experiments.report.report_document import Course
from service.experiments.report.samples import count, mean, moments, value

MOST = 48
"""Points of each variant."""
_WIDTHS = (1, 5, 15, 60, 180, 360, 720, 1440, 2880, 10_080)
"""Minutes of a point."""


def width(first: float, last: float) -> int:
    """Minutes of a point for a course from `first` to `last`, seconds since 1970."""
    minutes = max(0.0, last - first) / 60 + 1
    return next((each for each in _WIDTHS if minutes <= MOST * each), -int(-minutes // MOST))


def course(experiment: Experiment, found: Sequence[Moment]) -> list[Course]:
    """Of what was read `found`, in order of time; variants that are not known are left out."""
    known = {variant.name for variant in experiment.variants}
    points: list[Course] = []
    for moment in found:
        if moment.variant not in known:
            continue
        metric = experiment.metric
        level = mean(moments(moment.all, metric)) if metric == "feedback" else value(count(moment.all, metric))
        points.append(
            {
                "start": moment.start,
                "minutes": moment.minutes,
                "variant": moment.variant,
                "responses": moment.all.responses,
                "value": level,
            }
        )
    return points
