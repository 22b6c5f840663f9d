"""Faithfulness, areas and the search for a size, on figures whose answers are known; and a circuit that is known."""

import numpy as np
import pytest
import torch

from benchmarks import planted
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.relevance import Relevance
from correction.circuits.checks import incompleteness, measure_necessity, minimality
from correction.circuits.circuit_ablation import ZERO
from correction.circuits.circuit_size import CircuitEvaluator, curve, smallest_faithful
from correction.circuits.known_circuit import auroc
from correction.circuits.metric import SHARES, areas, distance, faithfulness, necessity
from correction.circuits.order import relevance, top_components
from correction.circuits.prompt_pairs import TaskRow
from correction.circuits.task_answers import TaskAnswers, TaskReader
from correction.errors import EvaluationError, SelectionError
from correction.models import load
from tests.correction.conftest import save_tiny

MODEL = np.array([3.0, 5.0, 4.0, 4.0])
NOTHING = np.array([1.0, 1.0, 0.0, 2.0])
HALF = (MODEL + NOTHING) / 2


def test_faithfulness_is_the_share_of_the_way():
    for share in (-0.5, 0.0, 0.3, 1.0, 1.7):
        circuit = NOTHING + share * (MODEL - NOTHING)
        estimate = faithfulness(circuit, MODEL, NOTHING)
        # Each row lies the same share of its own way: paired, the interval has no width.
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((share, share, share))


def test_its_interval_is_that_of_a_bootstrap_over_rows():
    circuit = np.array([1.0, 4.0, 3.0, 2.0])
    estimate = faithfulness(circuit, MODEL, NOTHING)
    assert estimate.value == pytest.approx((2.5 - 1) / (4 - 1))
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(4000):
        rows = generator.integers(4, size=4)
        m, n, e = circuit[rows].mean(), MODEL[rows].mean(), NOTHING[rows].mean()
        drawn.append((m - e) / (n - e))
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.04)


def test_it_is_undefined_where_there_is_nothing_to_explain():
    same = np.array([4.0, 2.0, 5.0, 1.0])
    assert faithfulness(HALF, MODEL, same) is None
    assert necessity(HALF, MODEL, same) is None
    assert areas(SHARES, [HALF] * 10, MODEL, same) is None


def test_areas_are_trapezoids_over_the_shares_themselves():
    perfect = areas(SHARES, [MODEL] * 10, MODEL, NOTHING)
    assert (perfect.performance.value, perfect.distance.value) == pytest.approx((1, 0))
    rising = [NOTHING + share * (MODEL - NOTHING) for share in SHARES]
    curve_areas = areas(SHARES, rising, MODEL, NOTHING)
    assert curve_areas.performance.value == pytest.approx((1 - 0.001**2) / 2 / 0.999)  # the integral of k, by its width
    assert curve_areas.distance.value == pytest.approx(1 - curve_areas.performance.value)
    over = [NOTHING + 1.5 * (MODEL - NOTHING)] * 9 + [MODEL]
    curve_areas = areas(SHARES, over, MODEL, NOTHING)
    assert curve_areas.performance.value == pytest.approx((1.5 * 0.499 + 1.25 * 0.5) / 0.999)
    assert curve_areas.distance.value == pytest.approx((0.5 * 0.499 + 0.25 * 0.5) / 0.999)


def test_distance_has_no_sign():
    assert distance(HALF, MODEL, MODEL, NOTHING).value == pytest.approx(0.5)
    assert distance(MODEL, HALF, MODEL, NOTHING).value == pytest.approx(0.5)


class Counted:
    """A reader of 100 components, each of which is worth so much as `worth` says of their number."""

    def __init__(self, worth):
        self.worth, self.read_sizes = worth, []

    def read(self, kept, how):
        size = int(kept["heads.0"].sum())
        self.read_sizes.append(size)
        return TaskAnswers(NOTHING + self.worth(size) * (MODEL - NOTHING))


def trier(worth):
    order = Relevance("head", {"heads.0": torch.arange(100.0)}, 1)
    return CircuitEvaluator(Counted(worth), order, ZERO, TaskAnswers(MODEL), TaskAnswers(NOTHING))


def test_a_curve_reads_each_size_once_and_rounds_down():
    tried = trier(lambda size: size / 100)
    lrp_curve = curve(tried, "lrp")
    assert lrp_curve.counts == (0, 0, 0, 1, 2, 5, 10, 20, 50, 100)
    assert tried.reader.read_sizes == [1, 2, 5, 10, 20, 50]
    assert [each.value for each in lrp_curve.faithfulness] == pytest.approx([count / 100 for count in lrp_curve.counts])


@pytest.mark.parametrize("needed", [1, 3, 17, 20, 21, 63, 99])
def test_the_smallest_size_that_is_faithful_enough(needed):
    tried = trier(lambda size: 1.0 if size >= needed else 0.2)
    assert smallest_faithful(tried, 0.9) == needed
    assert len(set(tried.reader.read_sizes)) == len(tried.reader.read_sizes)


def test_a_size_that_is_all_or_undefined_is_refused():
    with pytest.raises(SelectionError, match="no part of the universe but all of it"):
        smallest_faithful(trier(lambda size: 0.1), 0.9)
    flat = trier(lambda size: 1.0)
    flat.nothing = TaskAnswers(np.array([4.0, 2.0, 5.0, 1.0]))
    with pytest.raises(SelectionError, match="faithfulness is not defined"):
        smallest_faithful(flat, 0.9)


def test_auroc_is_the_chance_to_rank_a_member_higher():
    circuit = {"heads.0": torch.tensor([True, False, True, False])}

    def of(*scores):
        return auroc(Relevance("head", {"heads.0": torch.tensor(scores)}, 1), circuit)

    assert of(4.0, 1.0, 3.0, 2.0) == 1
    assert of(1.0, 4.0, 2.0, 3.0) == 0
    assert of(1.0, 1.0, 1.0, 1.0) == 0.5
    assert of(4.0, 3.0, 2.0, 1.0) == 0.75
    with pytest.raises(EvaluationError):
        auroc(Relevance("head", {"heads.0": torch.tensor([1.0])}, 1), {"heads.0": torch.tensor([True])})


@pytest.fixture(scope="module")
def one_neuron(tmp_path_factory):
    """A model of 1,040 neurons of which all but one in the last layer write nothing: S is that one."""
    folder = tmp_path_factory.mktemp("one")
    save_tiny(folder, seed=3, intermediate_size=520)
    loaded = load(folder, device="cpu")
    with torch.no_grad():
        for layer, block in enumerate(loaded.blocks):
            written = block.down_proj.weight[:, 7].clone()
            block.down_proj.weight.zero_()
            if layer == 1:
                block.down_proj.weight[:, 7] = 4 * written
    truth = {f"neurons.{layer}": torch.zeros(520, dtype=torch.bool) for layer in range(2)}
    truth["neurons.1"][7] = True
    return loaded, truth


def asked(loaded, settings):
    """Rows where the neuron speaks for the correct answer."""
    generator = np.random.default_rng(5)
    rows = []
    while len(rows) < 16:
        clean = (1, *(int(each) for each in generator.choice(range(6, 40), 4)))
        one, other = (int(each) for each in generator.choice(range(6, 40), 2, replace=False))
        pair = [TaskRow(clean, clean, one, other), TaskRow(clean, clean, other, one)]
        reader = TaskReader(loaded, pair, settings)
        gains = reader.read().differences - reader.read(reader.nothing).differences
        rows.append(pair[int(gains.argmax())])
    return rows


@pytest.mark.parametrize("criterion", ["lrp", "gradient"])
def test_where_all_paths_outside_are_zero_the_area_is_one(one_neuron, criterion):
    loaded, truth = one_neuron
    settings = Settings("neuron", sign="absolute")
    rows = asked(loaded, settings)
    order = relevance(loaded, rows, settings, criterion)
    assert auroc(order, truth) == 1
    reader = TaskReader(loaded, rows, settings)
    model, nothing = reader.read(), reader.read(reader.nothing)
    criterion_curve = curve(CircuitEvaluator(reader, order, ZERO, model, nothing), criterion)
    assert criterion_curve.counts[0] == 1  # .001 of 1,040
    assert criterion_curve.areas.performance.value == pytest.approx(1, abs=1e-4)
    assert criterion_curve.areas.distance.value == pytest.approx(0, abs=1e-4)
    kept = top_components(order, 1)
    assert measure_necessity(reader, kept, ZERO, model, nothing).value == pytest.approx(1, abs=1e-4)
    alone = reader.read(kept)
    lost = minimality(reader, kept, ZERO, alone, model, nothing)
    assert (lost.needed, lost.of) == (1, 1)
    assert lost.falls["neurons.1", 7].value == pytest.approx(1, abs=1e-4)
    # Ten more that do nothing: circuit and model stay together whatever is taken out, and none of the ten is needed.
    wide = top_components(order, 11)
    assert incompleteness(reader, wide, ZERO, model, nothing).worst.value == pytest.approx(0, abs=1e-4)
    lost = minimality(reader, wide, ZERO, reader.read(wide), model, nothing)
    assert (lost.needed, lost.of) == (1, 11)
    floor = relevance(loaded, rows, settings, "random")
    assert curve(CircuitEvaluator(reader, floor, ZERO, model, nothing), "random").areas.performance.value < 0.9


def test_brute_force_over_all_circuits_of_a_size(tiny):
    """The order's circuit is not better than the best of all, and both read as masks do."""
    settings = Settings("head", sign="signed")
    rows = [TaskRow((1, 8, 17, 30, 9), (1, 8, 17, 30, 9), 12, 20), TaskRow((1, 9, 14, 6), (1, 9, 14, 6), 7, 33)]
    reader = TaskReader(tiny, rows, settings)
    everything = {}
    for chosen in range(1 << 8):
        if chosen.bit_count() == 3:
            bits = torch.tensor([bool(chosen >> place & 1) for place in range(8)])
            kept = {"heads.0": bits[:4], "heads.1": bits[4:]}
            everything[chosen] = reader.read(kept).differences.mean()
    kept = top_components(relevance(tiny, rows, settings, "gradient"), 3)
    key = sum(1 << place for place, flag in enumerate([*kept["heads.0"], *kept["heads.1"]]) if flag)
    assert reader.read(kept).differences.mean() == everything[key] <= max(everything.values())


@pytest.fixture(scope="module")
def with_planted(tmp_path_factory):
    """A model that was trained with all heads but two gated off: 20 s."""
    return planted.train(tmp_path_factory.mktemp("planted"))


def test_a_planted_circuit_is_found(with_planted):
    figures = planted.measure(with_planted, ("lrp", "gradient", "random"), ("absolute",))
    assert figures["accuracy"] > 0.95
    assert figures["faithfulness of the planted"] > 0.9
    assert figures["auroc"]["lrp absolute"] == figures["auroc"]["gradient absolute"] == 1
    floors = [
        auroc(relevance(with_planted, (), Settings("head", random_seed=seed), "random"), planted.planted(with_planted))
        for seed in range(200)
    ]
    assert np.mean(floors) == pytest.approx(0.5, abs=0.06)
