import math

import pytest

from stats.sequential import Count, Stratum, difference_interval, log_e_value, minimum_detectable, responses_needed

LIMIT = math.log(20)


def stratum(k_a, n_a, k_b, n_b, share=0.5):
    return Stratum(Count(k_a, n_a), Count(k_b, n_b), share)


def test_the_detectable_difference_is_just_detected():
    difference = minimum_detectable([stratum(50, 5000, 50, 5000)], 0.05)
    lower = round(50 - 5000 * difference)
    assert (
        log_e_value([stratum(50, 5000, lower - 1, 5000)]) >= LIMIT > log_e_value([stratum(50, 5000, lower + 2, 5000)])
    )


def test_more_responses_detect_less():
    differences = [minimum_detectable([stratum(n // 50, n, n // 50, n)], 0.05) for n in (1000, 10_000, 100_000)]
    assert differences == sorted(differences, reverse=True)


def test_nothing_is_detectable_without_data():
    assert minimum_detectable([], 0.05) is None
    assert minimum_detectable([stratum(0, 1, 0, 1)], 0.05) is None
    assert minimum_detectable([stratum(1, 10, 0, 0)], 0.05) is None


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_as_many_as_needed_decide_and_fewer_do_not(share):
    n_a, n_b = round(4000 * (1 - share)), round(4000 * share)
    one = stratum(round(0.02 * n_a), n_a, round(0.01 * n_b), n_b, share)
    more = responses_needed([one], 0.05, 0.001)

    def grown(more):
        a, b = round(more * (1 - share)), round(more * share)
        k_a, k_b = one.control.events + round(0.02 * a), one.treatment.events + round(0.01 * b)
        return log_e_value([stratum(k_a, n_a + a, k_b, n_b + b, share)], -0.001)

    assert grown(1.15 * more) >= LIMIT > grown(0.8 * more)


def test_within_the_margin_it_waits_for_the_interval():
    more = responses_needed([stratum(20, 1000, 20, 1000)], 0.05, 0.005)
    for factor, inside in ((1.05, True), (0.9, False)):
        n = 1000 + round(factor * more / 2)
        low, high = difference_interval([stratum(n // 50, n, n // 50, n)], 0.05)
        assert (low > -0.005 and high < 0.005) == inside


def test_what_is_decided_needs_no_more():
    assert responses_needed([stratum(10, 1000, 100, 1000)], 0.05, 0.01) == 0
    assert responses_needed([stratum(10, 100_000, 10, 100_000)], 0.05, 0.01) == 0


def test_what_never_ends_has_no_number():
    assert responses_needed([stratum(20, 1000, 20, 1000)], 0.05, 0.0) is None
    assert responses_needed([stratum(20, 1000, 0, 0)], 0.05, 0.01) is None
    assert responses_needed([], 0.05, 0.01) is None
    assert responses_needed([stratum(200, 10_000, 200, 10_000)], 0.05, 1e-8) is None


def test_responses_come_to_the_last_epoch():
    early = stratum(40, 2000, 1, 20, 0.01)
    slow, fast = ([early, stratum(0, 0, 0, 0, share)] for share in (0.01, 0.5))
    assert responses_needed(fast, 0.05, 0.001) < responses_needed(slow, 0.05, 0.001) / 5
