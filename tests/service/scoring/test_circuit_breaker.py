from prometheus_client import REGISTRY

from service.scoring.circuit_breaker import CircuitBreaker


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def opened(clock, **options):
    breaker = CircuitBreaker(3, first=5.0, longest=15.0, clock=clock, **options)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    return breaker


def gauge():
    return REGISTRY.get_sample_value("excise_scorer_circuit_open")


def test_it_opens_after_some_failures_in_a_row():
    breaker = opened(Clock())
    assert breaker.open
    assert not breaker.allows()
    assert gauge() == 1


def test_a_success_between_failures_keeps_it_closed():
    breaker = CircuitBreaker(3, clock=Clock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.worked()
    assert not breaker.open
    assert gauge() == 0


def test_after_the_pause_one_trial_is_allowed_and_closes_it():
    clock = Clock()
    breaker = opened(clock)
    clock.now += 4.9
    assert not breaker.allows()
    clock.now += 0.2
    assert breaker.allows()
    assert not breaker.allows()  # another client waits for the trial
    assert gauge() == 1
    breaker.worked()
    assert breaker.allows()
    assert breaker.allows()
    assert gauge() == 0


def test_a_trial_of_which_nothing_is_heard_is_followed_by_another():
    clock = Clock()
    breaker = opened(clock)
    clock.now += 5
    assert breaker.allows()
    clock.now += 4.9
    assert not breaker.allows()
    clock.now += 0.1
    assert breaker.allows()


def test_each_failed_trial_doubles_the_pause_up_to_the_longest():
    clock = Clock()
    breaker = opened(clock)
    pauses = []
    for _ in range(4):
        pauses.append(breaker.pause)
        clock.now += breaker.pause
        assert breaker.allows()
        breaker.failed()
    assert pauses == [5.0, 10.0, 15.0, 15.0]


def test_attempts_that_began_before_it_opened_do_not_lengthen_the_pause():
    breaker = opened(Clock())
    breaker.failed()
    breaker.failed()
    assert breaker.pause == 5.0


def test_after_it_closed_the_first_pause_is_short_again():
    clock = Clock()
    breaker = opened(clock)
    clock.now += 5
    breaker.allows()
    breaker.failed()
    clock.now += 10
    breaker.allows()
    breaker.worked()
    for _ in range(3):
        breaker.failed()
    assert breaker.pause == 5.0
