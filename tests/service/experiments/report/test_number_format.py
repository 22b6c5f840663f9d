from __future__ import annotations

import pytest

from service.experiments.report import number_format


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (number_format.percent(0.02314), "2.31%"),
        (number_format.percent(0.5), "50.0%"),
        (number_format.percent(None), "–"),
        (number_format.points(-0.0062), "−0.62"),
        (number_format.points(-0.000001), "0.00"),
        (number_format.points(0.0), "0.00"),
        (number_format.level(0.05 / 3), "1.67%"),
        (number_format.percent_points(0.01), "1 point"),
        (number_format.percent_points(0.005), "0.5 points"),
        (number_format.between("0.10%", "0.20%"), "0.10 to 0.20%"),
        (number_format.between("–", "0.20%"), "up to 0.20%"),
        (number_format.between("120 s", "–"), "over 120 s"),
        (number_format.between("–", "–"), ""),
        (number_format.evidence(0.4321), "0.43"),
        (number_format.evidence(12_345.6), "12,346"),
        (number_format.evidence(1e300), "over a million"),
        (number_format.chance(1e-9), "under 0.0001"),
        (number_format.chance(0.0241), "0.024"),
        (number_format.count(1, "unit"), "1 unit"),
        (number_format.count(1_200, "unit"), "1,200 units"),
        (number_format.rough(10_480), 10_000),
        (number_format.rough(7), 7),
        (number_format.duration(1), "1 minute"),
        (number_format.duration(7_200), "2 hours"),
        (number_format.duration(86_400 * 12.4), "12 days"),
        (number_format.moment(0), "1970-01-01 00:00 UTC"),
    ],
)
def test_figures_in_words(said, expected):
    assert said == expected
