from typing import get_args

import pytest

from correction.choices import MethodName
from correction.compression import METHODS, Plan
from correction.errors import CompressionError, CorrectionError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "obs", "fraction": 0.5}, "method 'obs' does not exist; there is: magnitude, wanda, ria, sparsegpt"),
        ({"fraction": 0.5, "scope": "column"}, "scope 'column' does not exist"),
        ({}, "fraction is None; it must be over 0 and under 1, or give a pattern"),
        ({"fraction": 1.0}, "fraction is 1.0"),
        ({"fraction": 0.5, "pattern": "2:4"}, "leave out fraction and scope"),
        ({"scope": "row", "pattern": "2:4"}, "leave out fraction and scope"),
        ({"pattern": "4:2"}, "N:M needs N over 0 and under M"),
        ({"method": "lrp", "fraction": 0.5, "sequential": True}, "cannot go block by block; sequential is for: wanda"),
        ({"method": "sparsegpt", "fraction": 0.5, "sequential": False}, "defined block by block"),
        ({"method": "sparsegpt", "fraction": 0.5, "scope": "row"}, "leave out scope row"),
        ({"method": "lrp", "fraction": 0.5, "sign": "lower"}, "there is: absolute, signed"),
        ({"method": "lrp", "fraction": 0.5, "output": "shown"}, "a text has no output 'shown'"),
        ({"method": "wanda", "fraction": 0.5, "scope": "global"}, "use --no-sequential, or another scope"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_work(given, words):
    with pytest.raises(CorrectionError, match=words):
        Plan(**given)


@pytest.mark.parametrize(
    ("method", "scope", "by_block"),
    [
        ("magnitude", "matrix", False),
        ("wanda", "row", True),
        ("ria", "matrix", True),
        ("sparsegpt", "matrix", True),
        ("lrp", "row", False),
        ("gradient", "row", False),
        ("snip", "row", False),
        ("random", "row", False),
    ],
)
def test_scope_and_order_are_those_of_the_source_unless_asked_otherwise(method, scope, by_block):
    description = Plan(method, 0.5).described()
    assert (description["scope"], description["sequential"], description["fraction"]) == (scope, by_block, 0.5)


def test_only_random_records_a_seed_of_its_own():
    assert "seed" not in Plan("wanda", 0.5, seed=3).described()
    assert Plan("random", 0.5, seed=3).described()["seed"] == 3


def test_only_lrp_and_gradient_record_sign_and_output():
    assert {"sign": "absolute", "output": "last"}.items() <= Plan("lrp", 0.5).described().items()
    assert not {"sign", "output"} & Plan("snip", 0.5).described().keys()


def test_a_pattern_that_does_not_divide_a_matrix_is_told_with_its_name(model):
    with pytest.raises(CompressionError, match=r"layers\.0\.self_attn\.q_proj.*32 columns.*divisible by the 5"):
        Plan("wanda", pattern="2:5").check(model)


def test_the_command_knows_every_method():
    assert list(get_args(MethodName)) == list(METHODS)
