"""Circuits of the real model: the tasks that it can do, in its own tokens."""

import pytest

from correction.attribution.criteria.criterion_settings import Settings
from correction.circuits import task_rows
from correction.circuits.order import relevance, top_components
from correction.circuits.task_answers import TaskReader

HEADS = Settings("head", sign="signed")


@pytest.mark.real
@pytest.mark.parametrize("task", ["ioi", "ioi-names", "greater-than", "induction"])
def test_the_model_can_do_the_task_and_no_row_is_dropped(loaded_real_model, task):
    asked = task_rows(loaded_real_model, task, 24, aligned=True)
    assert len(asked.rows) == 24
    assert dict(asked.dropped) == {}
    assert TaskReader(loaded_real_model, asked.rows, HEADS).read().right.mean() >= 0.75


@pytest.mark.real
def test_heads_that_lrp_puts_first_matter_more_than_those_it_puts_last(loaded_real_model):
    asked = task_rows(loaded_real_model, "ioi", 24)
    one, _, three = asked.thirds()
    order = relevance(loaded_real_model, one, HEADS, "lrp")
    reader = TaskReader(loaded_real_model, three, HEADS)
    first = top_components(order, 27)
    rest = {name: ~flags for name, flags in first.items()}
    last = {name: ~flags for name, flags in top_components(order, 270 - 27).items()}
    model = reader.read().differences.mean()
    without_first = reader.read(rest).differences.mean()
    without_last = reader.read({name: ~flags for name, flags in last.items()}).differences.mean()
    assert without_first < 0.5 * model
    assert without_first < without_last
