"""Circuits against values derived in another way: by hand, by masks, by brute force."""

import numpy as np
import pytest
import torch

import masks
from correction.ablation import ablated
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.scored_modules import find_scored_modules
from correction.circuits import tasks
from correction.circuits.circuit import CircuitSearch, find_circuit
from correction.circuits.circuit_ablation import circuit_only, make_ablation
from correction.circuits.order import circuit_size, jaccard_index, relevance, top_components
from correction.circuits.prompt_pairs import Pair, TaskRow, TaskRows, tokenise_pairs
from correction.circuits.task_answers import TaskReader
from correction.circuits.tasks import greater_than, induction, ioi
from correction.errors import CriterionError, EvaluationError, ReferenceSetError
from correction.models import load
from correction.report.circuit_report import write
from tests.correction.conftest import WORDS
from tests.correction.families import save_family

HEADS = Settings("head", sign="signed")
ROWS = tuple(
    TaskRow((1, *clean), (1, *corrupted), correct, wrong)
    for clean, corrupted, correct, wrong in (
        ((8, 17, 30, 9), (8, 17, 30, 11), 12, 20),
        ((9, 14, 6, 25, 11), (9, 14, 6, 25, 12), 7, 33),
        ((10, 14), (11, 14), 30, 8),
    )
)


def logits(loaded, row):
    with torch.no_grad():
        return loaded.model(torch.tensor([row])).logits[0, -1].double()


def by_hand(loaded, rows=ROWS):
    row_logits = [logits(loaded, row.clean) for row in rows]
    return np.array([float(each[row.correct] - each[row.wrong]) for each, row in zip(row_logits, rows, strict=True)])


def flags(loaded, settings, kept):
    return {
        place.name: torch.tensor([(place.name, index) in kept for index in range(place.shape[0])])
        for place in find_scored_modules(loaded, settings)
    }


def test_the_model_as_it_is_reads_as_each_prompt_alone(tiny):
    reading = TaskReader(tiny, ROWS, HEADS).read(whole=True)
    np.testing.assert_allclose(reading.differences, by_hand(tiny), atol=1e-5)
    for row, log_probs in zip(ROWS, reading.log_probs, strict=True):
        torch.testing.assert_close(log_probs.double(), logits(tiny, row.clean).log_softmax(-1), atol=1e-5, rtol=1e-5)


def test_zero_ablation_is_the_mask_that_cuts_the_complement(tiny):
    kept = flags(tiny, HEADS, {("heads.0", 1), ("heads.1", 2)})
    reading = TaskReader(tiny, ROWS, HEADS).read(kept)
    with ablated(tiny, masks.for_model(tiny.path, "m", heads={0: [0, 2, 3], 1: [0, 1, 3]})):
        np.testing.assert_allclose(reading.differences, by_hand(tiny), atol=1e-5)


def test_weights_outside_are_zero_and_are_put_back(tiny):
    settings = Settings("weight", sign="signed")
    before = {name: parameter.clone() for name, parameter in tiny.model.named_parameters()}
    reader = TaskReader(tiny, ROWS, settings)
    kept = {name: torch.rand(each.shape) < 0.5 for name, each in reader.everything.items()}
    reading = reader.read(kept)
    cut = {name.removeprefix("weights."): (~each).numpy() for name, each in kept.items()}
    assert all(torch.equal(parameter, before[name]) for name, parameter in tiny.model.named_parameters())
    with ablated(tiny, masks.for_model(tiny.path, "m", weights=cut)):
        np.testing.assert_allclose(reading.differences, by_hand(tiny), atol=1e-5)


@pytest.mark.parametrize("granularity", ["head", "neuron"])
def test_counterfactual_ablation_puts_in_what_the_corrupted_prompt_says(tiny, granularity):
    settings = Settings(granularity, sign="signed")
    reader = TaskReader(tiny, ROWS, settings)
    how = make_ablation(tiny, "counterfactual", settings)
    kept = top_components(relevance(tiny, ROWS, settings, "gradient"), 3)
    expected = []
    for row in ROWS:  # by hand: record the corrupted run, then overwrite the clean one
        said: dict = {}
        handles = []
        for place in reader.places:
            handles.append(
                place.module.register_forward_pre_hook(
                    lambda module, inputs, name=place.name, said=said: said.__setitem__(name, inputs[0].clone())
                )
            )
        logits(tiny, row.corrupted)
        for handle in handles:
            handle.remove()

        def overwrite(module, inputs, name, width, said=said):
            x = inputs[0].clone()
            for index in (~kept[name]).nonzero()[:, 0].tolist():
                x[..., index * width : (index + 1) * width] = said[name][..., index * width : (index + 1) * width]
            return (x,)

        handles = [
            place.module.register_forward_pre_hook(
                lambda module, inputs, place=place: overwrite(module, inputs, place.name, place.width)
            )
            for place in reader.places
        ]
        ablated_logits = logits(tiny, row.clean)
        expected.append(float(ablated_logits[row.correct] - ablated_logits[row.wrong]))
        for handle in handles:
            handle.remove()
    np.testing.assert_allclose(reader.read(kept, how).differences, expected, atol=1e-5)
    np.testing.assert_allclose(reader.read(reader.everything, how).differences, by_hand(tiny), atol=1e-5)


def test_the_mean_is_taken_over_corrupted_prompts_with_the_first_position_apart(tiny):
    how = make_ablation(tiny, "mean", HEADS, ROWS, tokens=12)
    said = []
    handle = tiny.blocks[1].o_proj.register_forward_pre_hook(lambda module, inputs: said.append(inputs[0][0]))
    for row in ROWS:
        logits(tiny, row.corrupted)
    handle.remove()
    first = torch.stack([each[0] for each in said]).mean(0)
    others = torch.cat([each[1:] for each in said]).mean(0)
    torch.testing.assert_close(how.means["heads.1"], torch.stack([first, others]), atol=1e-6, rtol=1e-5)
    seen = []
    kept = flags(tiny, HEADS, {("heads.1", 0)})
    places = list(find_scored_modules(tiny, HEADS))
    with circuit_only(tiny, kept, how, places, 1):
        handle = tiny.blocks[1].o_proj.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
        logits(tiny, ROWS[0].clean)
        handle.remove()
    torch.testing.assert_close(seen[0][0, 8:], first[8:])
    torch.testing.assert_close(seen[0][2, 8:], others[8:])
    assert not torch.allclose(seen[0][2, :8], others[:8])


def test_only_zero_is_for_weights(tiny):
    with pytest.raises(CriterionError, match="weights have none"):
        make_ablation(tiny, "mean", Settings("weight"), ROWS)


def test_gradient_relevance_is_that_of_the_logit_difference(tiny):
    order = relevance(tiny, ROWS, HEADS, "gradient", tokens=8)
    expected = torch.zeros(4)
    for row in ROWS:
        said = []

        def keep(module, inputs, said=said):
            said.append(inputs[0].detach().requires_grad_())
            return (said[0],)

        handle = tiny.blocks[0].o_proj.register_forward_pre_hook(keep)
        out = tiny.model(torch.tensor([row.clean])).logits[0, -1]
        (out[row.correct] - out[row.wrong]).backward()
        handle.remove()
        expected += (said[0] * said[0].grad).detach().sum((0, 1)).view(4, 8).sum(-1) / len(ROWS)
    torch.testing.assert_close(order.scores["heads.0"], expected, atol=1e-5, rtol=1e-4)


def test_the_top_keeps_exactly_so_many_of_the_largest(tiny):
    order = relevance(tiny, ROWS, HEADS, "lrp")
    everything = torch.cat([order.scores["heads.0"], order.scores["heads.1"]])
    for count in range(9):
        kept = top_components(order, count)
        assert circuit_size(kept) == count
        chosen = torch.cat([kept["heads.0"], kept["heads.1"]])
        assert set(chosen.nonzero()[:, 0].tolist()) == set(everything.argsort(descending=True)[:count].tolist())
    assert jaccard_index(top_components(order, 2), top_components(order, 4)) == 0.5
    assert jaccard_index(top_components(order, 0), top_components(order, 0)) == 1


def test_rows_that_cannot_be_asked_are_dropped_and_counted(tiny):
    pairs = [
        Pair("the cat sees", "the dog sees", " sea", " key"),
        Pair("the cat sees", "the dog sees", " sea", " lamp"),  # again
        Pair("a cat sees", "the dog sees", " sea key", " key"),
        Pair("a cat sees", "the dog sees", " key", " key"),
        Pair("a cat sees", "the old dog sees", " sea", " key"),
    ]
    task = tokenise_pairs(tiny, pairs, "few", aligned=True)
    assert len(task.rows) == 1
    assert dict(task.dropped) == {
        "the same prompt again": 1,
        "an answer is not one token": 1,
        "the answers are the same token": 1,
        "clean and corrupted differ in length": 1,
    }
    assert len(tokenise_pairs(tiny, pairs, "few").rows) == 2
    with pytest.raises(ReferenceSetError, match="no row is left"):
        tokenise_pairs(tiny, pairs[3:4], "none")


def test_three_parts_share_no_row():
    rows = TaskRows("r", tuple(TaskRow((1, n), (1, n + 1), 2, 3) for n in range(20)), {})
    parts = rows.thirds(4)
    assert [len(part) for part in parts] == [6, 6, 8]
    assert len({row.clean for part in parts for row in part}) == 20
    assert rows.thirds(4) == parts != rows.thirds(5)
    with pytest.raises(ReferenceSetError, match="at least 6"):
        TaskRows("r", rows.rows[:5], {}).thirds()


def test_a_model_that_cannot_do_the_task_is_refused_with_its_accuracy(tiny):
    fours = zip(WORDS, WORDS[1:], WORDS[2:], WORDS[3:], strict=False)
    pairs = [Pair(f"the {a} sees", f"the {b} sees", f" {c}", f" {d}") for a, b, c, d in fours]
    task = tokenise_pairs(tiny, pairs, "nonsense")
    right = TaskReader(tiny, task.rows, HEADS).read().right
    with pytest.raises(
        EvaluationError, match=rf"right in {int(right.sum())} of {len(right)} rows \({right.mean():.1%}"
    ):
        find_circuit(tiny, task)


def test_tasks_are_found_by_name_or_file(tiny, tmp_path):
    with pytest.raises(
        ReferenceSetError,
        match=r"task 'riddles' does not exist; there is: greater-than, induction, ioi, ioi-names, or a \.csv",
    ):
        tasks.task_rows(tiny, "riddles")
    file = tmp_path / "pairs.csv"
    file.write_text("clean,corrupted,correct,wrong\nthe cat sees,the dog sees, sea, key\n")
    task = tasks.task_rows(tiny, str(file))
    assert (task.name, len(task.rows)) == ("pairs.csv", 1)
    file.write_text("clean,corrupted,correct\nthe cat sees,the dog sees, sea\n")
    with pytest.raises(ReferenceSetError, match=r"pairs.csv, line 2: nothing under wrong"):
        tasks.task_rows(tiny, str(file))


def people(text):
    return [word for word in text.replace(",", "").replace(".", " ").split() if word in ioi.NAMES]


def test_ioi_is_balanced_and_corrupted_in_both_ways():
    pairs = ioi.make(lambda text: text != " Mary", 40, 0)
    for number, pair in enumerate(pairs):
        named = people(pair.clean)
        receiver, giver = pair.correct.strip(), pair.wrong.strip()
        assert named == ([receiver, giver, giver] if number % 2 == 0 else [giver, receiver, giver])
        assert "Mary" not in named
        swapped = [word for word in pair.corrupted.replace(",", "").replace(".", " ").split() if word in ioi.NAMES]
        assert swapped == [*named[:2], receiver]
    for pair in ioi.make(lambda text: True, 40, 0, renamed=True):
        named = people(pair.corrupted)
        assert len(set(named) | {pair.correct.strip(), pair.wrong.strip()}) == 5
    with pytest.raises(ReferenceSetError, match="0 names are one token"):
        ioi.make(lambda text: False, 1, 0)


@pytest.mark.parametrize("digits", [True, False])
def test_greater_than_has_a_later_answer_and_an_earlier_one(digits):
    for pair in greater_than.make(lambda text: not digits, 100, 0):
        began = pair.clean.split(" to the year ")[0][-2:]
        began = began[0] if digits else began
        assert int(pair.wrong) < int(began) < int(pair.correct)
        assert len(pair.correct) == len(pair.wrong) == (1 if digits else 2)
        assert pair.clean[-2:] == pair.clean.split(" to the year ")[0][-4:-2]


def test_induction_goes_on_as_before():
    for pair in induction.make(lambda text: True, 50, 0):
        words = pair.clean.split()
        listed, run = words[:10], words[10:]
        assert listed[listed.index(run[0]) :][:4] == [*run, pair.correct.strip()]
        other = pair.corrupted.split()[10:]
        assert listed[listed.index(other[0]) :][:4] == [*other, pair.wrong.strip()]
        assert listed[0] not in (run[0], other[0])


def solvable(loaded, count=30, words=range(6, 40)):
    """Rows that the model gets right: the correct answer is the likelier of two tokens that were drawn."""
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        clean, corrupted = (tuple(int(each) for each in generator.choice(words, 5)) for _ in range(2))
        said = logits(loaded, clean)
        one, other = (int(each) for each in generator.choice(words, 2, replace=False))
        correct, wrong = (one, other) if said[one] > said[other] else (other, one)
        rows.append(TaskRow(clean, corrupted, correct, wrong))
    return TaskRows("solvable", tuple(rows), {"the same prompt again": 2})


@pytest.mark.parametrize("granularity", ["head", "neuron", "weight"])
def test_the_mask_cuts_all_but_the_circuit_and_says_what_it_is(tiny, tmp_path, granularity):
    beside = () if granularity == "weight" else ("mean", "counterfactual")
    search = CircuitSearch(
        "gradient", Settings(granularity, sign="signed"), "zero", beside, kept=3, rivals=("lrp",), seeds=(0, 1)
    )
    task = solvable(tiny)
    small_circuit = find_circuit(tiny, task, search, name="little")
    total = sum(flags.numel() for flags in small_circuit.kept.values())
    assert small_circuit.mask.count == total - 3
    assert small_circuit.mask.granularity == granularity
    made = small_circuit.mask.meta.made["circuit"]
    assert made["task"] == {**task.described(), "dropped": {"the same prompt again": 2}}
    assert made["universe"] == {"granularity": granularity, "size": total}
    assert made["metric"] == "logit(correct) - logit(wrong) at the last token"
    assert (made["kept"], made["ablation"], small_circuit.mask.meta.made["criterion"]) == (3, "zero", "gradient")
    report = task.thirds()[2]
    with ablated(tiny, small_circuit.mask):
        circuit = by_hand(tiny, report)
    with ablated(tiny, _all_cut(tiny, small_circuit)):
        nothing = by_hand(tiny, report)
    model = by_hand(tiny, report)
    ratio = (circuit.mean() - nothing.mean()) / (model.mean() - nothing.mean())
    measured = small_circuit.mask.meta.measured["circuit"]
    if small_circuit.faithfulness is None:
        assert measured["faithfulness"] is None
        assert small_circuit.spread.low <= 0 <= small_circuit.spread.high
    else:
        assert small_circuit.faithfulness.value == pytest.approx(ratio, abs=1e-4)
    assert [(each.label, each.seed, each.ablation) for each in small_circuit.curves] == [
        (label, seed, kind)
        for kind in ("zero", *beside)
        for label, seed in (("gradient", 0), ("lrp", 0), ("random", 0), ("random", 1))
    ]
    assert small_circuit.mask.warnings == ()
    masks.save(small_circuit.mask, tmp_path / "little.safetensors")
    assert masks.load(tmp_path / "little.safetensors") == small_circuit.mask
    write(small_circuit, tmp_path / "report")
    page = (tmp_path / "report" / "circuit.html").read_text()
    assert "for solvable" in page
    assert page.count("<img ") == 2
    lines = (tmp_path / "report" / "curves.csv").read_text().splitlines()
    assert len(lines) == 1 + 10 * len(small_circuit.curves)


def _all_cut(loaded, found):
    if found.mask.granularity == "weight":
        names = [name.removeprefix("weights.") for name in found.kept]
        shapes = {name: loaded.model.get_parameter(name).shape for name in names}
        return masks.for_model(
            loaded.path, "all", weights={name: np.ones(tuple(shape), bool) for name, shape in shapes.items()}
        )
    every = {layer: range(len(flags)) for layer, flags in enumerate(found.kept.values())}
    return masks.for_model(loaded.path, "all", **{f"{found.mask.granularity}s": {k: list(v) for k, v in every.items()}})


@pytest.mark.parametrize("family", ["opt", "qwen3"])
@pytest.mark.parametrize("granularity", ["head", "neuron"])
def test_other_families_are_cut_at_the_same_places(tmp_path, family, granularity):
    loaded = load(save_family(family, tmp_path / family), device="cpu")
    settings = Settings(granularity, sign="signed")
    reader = TaskReader(loaded, ROWS, settings)
    kept = top_components(relevance(loaded, ROWS, settings, "lrp"), 4)
    cut = {layer: (~flags).nonzero()[:, 0].tolist() for layer, flags in enumerate(kept.values())}
    with ablated(loaded, masks.for_model(loaded.path, "m", **{f"{granularity}s": cut})):
        np.testing.assert_allclose(reader.read(kept).differences, by_hand(loaded), atol=1e-4)
    for kind in ("mean", "counterfactual"):
        how = make_ablation(loaded, kind, settings, ROWS)
        np.testing.assert_allclose(reader.read(reader.everything, how).differences, by_hand(loaded), atol=1e-4)
        assert np.isfinite(reader.read(kept, how).differences).all()
