import hashlib

from service.scoring.sampling import sampled

UNITS = [f"user-{number}" for number in range(20_000)]


def test_as_many_units_are_sampled_as_the_rate_says():
    for rate in (0.01, 0.1, 0.5):
        count = sum(sampled(unit, rate) for unit in UNITS)
        sigma = (len(UNITS) * rate * (1 - rate)) ** 0.5
        assert abs(count - len(UNITS) * rate) < 3.5 * sigma


def test_a_unit_that_is_sampled_stays_so_at_a_higher_rate():
    few = {unit for unit in UNITS if sampled(unit, 0.1)}
    assert few <= {unit for unit in UNITS if sampled(unit, 0.2)}


def test_all_and_none():
    assert all(sampled(unit, 1.0) for unit in UNITS)
    assert not any(sampled(unit, 0.0) for unit in UNITS)


def test_the_choice_is_the_same_in_every_process():
    numbers = [number for number, unit in enumerate(UNITS[:40]) if sampled(unit, 0.2)]
    assert numbers == [8, 10, 16, 17, 20, 38]


def test_it_has_nothing_to_do_with_a_plain_hash_of_the_unit():
    low = [unit for unit in UNITS if hashlib.blake2b(unit.encode(), digest_size=8).digest()[0] < 128]
    share = sum(sampled(unit, 0.5) for unit in low) / len(low)
    assert 0.48 < share < 0.52


def test_any_text_may_be_a_unit():
    assert sampled("\ud800 \x00", 0.5) in (True, False)
