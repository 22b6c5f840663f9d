from __future__ import annotations

import pytest

from service.report import words


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.percent(0.02314), "2.31%"),
        (words.percent(0.5), "50.0%"),
        (words.percent(None), "–"),
        (words.points(-0.0062), "−0.62"),
        (words.points(-0.000001), "0.00"),
        (words.points(0.0), "0.00"),
        (words.level(0.05 / 3), "1.67%"),
        (words.percent_points(0.01), "1 point"),
        (words.percent_points(0.005), "0.5 points"),
        (words.between("0.10%", "0.20%"), "0.10 to 0.20%"),
        (words.between("–", "0.20%"), "up to 0.20%"),
        (words.between("120 s", "–"), "over 120 s"),
        (words.between("–", "–"), ""),
        (words.evidence(0.4321), "0.43"),
        (words.evidence(12_345.6), "12,346"),
        (words.evidence(1e300), "over a million"),
        (words.chance(1e-9), "under 0.0001"),
        (words.chance(0.0241), "0.024"),
        (words.count(1, "unit"), "1 unit"),
        (words.count(1_200, "unit"), "1,200 units"),
        (words.rough(10_480), 10_000),
        (words.rough(7), 7),
        (words.duration(1), "1 minute"),
        (words.duration(7_200), "2 hours"),
        (words.duration(86_400 * 12.4), "12 days"),
        (words.moment(0), "1970-01-01 00:00 UTC"),
    ],
)
def test_figures_in_words(said, expected):
    assert said == expected
