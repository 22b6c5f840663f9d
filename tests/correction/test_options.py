"""Options are what the work they go to takes, by the same names and with the same defaults."""

from dataclasses import FrozenInstanceError
from inspect import Parameter, signature

import pytest

from correction.attribution.attribution import attribute
from correction.data.behaviour_set import answer
from correction.data.detectors import RegexDetector
from correction.options import AttributionOptions, GenerationOptions


@pytest.mark.parametrize(("options", "work"), [(GenerationOptions(), answer), (AttributionOptions(), attribute)])
def test_options_are_arguments_of_the_work_they_go_to(options, work):
    taken = {name: each for name, each in signature(work).parameters.items() if each.kind is Parameter.KEYWORD_ONLY}
    for name, value in options.as_arguments().items():
        assert taken[name].default == value, name


def test_some_are_changed_and_the_rest_stays():
    shows = RegexDetector("x")
    one = AttributionOptions(tokens=5, shows=shows)
    other = one.replace(tokens=6)
    assert (one.tokens, other.tokens, other.shows) == (5, 6, shows)
    assert other.as_arguments()["shows"] is shows
    with pytest.raises(TypeError):
        one.replace(nothing=1)
    with pytest.raises(FrozenInstanceError):
        one.tokens = 7
