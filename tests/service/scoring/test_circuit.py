from prometheus_client import REGISTRY

from service.scoring.circuit import Circuit


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def opened(clock, **options):
    circuit = Circuit(3, first=5.0, longest=15.0, clock=clock, **options)
    for _ in range(3):
        assert circuit.allows()
        circuit.failed()
    return circuit


def gauge():
    return REGISTRY.get_sample_value("excise_scorer_circuit_open")


def test_it_opens_after_some_failures_in_a_row():
    circuit = opened(Clock())
    assert circuit.open
    assert not circuit.allows()
    assert gauge() == 1


def test_a_success_between_failures_keeps_it_closed():
    circuit = Circuit(3, clock=Clock())
    for _ in range(5):
        circuit.failed()
        circuit.failed()
        circuit.worked()
    assert not circuit.open
    assert gauge() == 0


def test_after_the_pause_one_trial_is_allowed_and_closes_it():
    clock = Clock()
    circuit = opened(clock)
    clock.now += 4.9
    assert not circuit.allows()
    clock.now += 0.2
    assert circuit.allows()
    assert not circuit.allows()  # another lane waits for the trial
    assert gauge() == 1
    circuit.worked()
    assert circuit.allows()
    assert circuit.allows()
    assert gauge() == 0


def test_a_trial_of_which_nothing_is_heard_is_followed_by_another():
    clock = Clock()
    circuit = opened(clock)
    clock.now += 5
    assert circuit.allows()
    clock.now += 4.9
    assert not circuit.allows()
    clock.now += 0.1
    assert circuit.allows()


def test_each_failed_trial_doubles_the_pause_up_to_the_longest():
    clock = Clock()
    circuit = opened(clock)
    pauses = []
    for _ in range(4):
        pauses.append(circuit.pause)
        clock.now += circuit.pause
        assert circuit.allows()
        circuit.failed()
    assert pauses == [5.0, 10.0, 15.0, 15.0]


def test_attempts_that_began_before_it_opened_do_not_lengthen_the_pause():
    circuit = opened(Clock())
    circuit.failed()
    circuit.failed()
    assert circuit.pause == 5.0


def test_after_it_closed_the_first_pause_is_short_again():
    clock = Clock()
    circuit = opened(clock)
    clock.now += 5
    circuit.allows()
    circuit.failed()
    clock.now += 10
    circuit.allows()
    circuit.worked()
    for _ in range(3):
        circuit.failed()
    assert circuit.pause == 5.0
