import math
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from correction.errors import SelectionError
from correction.selection import smallest
from correction.selection.smallest import k_smallest, k_smallest_in_rows

VALUES = st.sampled_from([-1.0, -0.0, 0.0, 1.0, math.inf, -math.inf, math.nan]) | st.floats(-4, 4, width=32)
LIMITS = st.sampled_from([-1.0, -0.0, 0.0, 1.0, math.inf, -math.inf]) | st.floats(-4, 4, width=32)


@contextmanager
def sizes(chunk, sample=1 << 20, pool=1 << 22, bracket=None):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smallest, "_CHUNK", chunk)
        patch.setattr(smallest, "_SAMPLE", sample)
        patch.setattr(smallest, "_POOL", pool)
        if bracket:
            patch.setattr(smallest, "_bracket", lambda *_: bracket)
        yield


def ranked(values):
    """Indices of the numbers, by score, then by place."""
    return [i for i in np.argsort(values, kind="stable").tolist() if not np.isnan(values[i])]


@settings(deadline=None, max_examples=400)
@given(
    rows=st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=4),
    bracket=st.none() | st.tuples(LIMITS, LIMITS).map(sorted),
    chunk=st.integers(1, 5),
    sample=st.integers(1, 9),
    pool=st.integers(0, 6),
    data=st.data(),
)
def test_any_bracket_gives_what_sorting_gives(rows, bracket, chunk, sample, pool, data):
    scores = {f"s{n}": torch.tensor(row, dtype=torch.float32) for n, row in enumerate(rows)}
    places = [(f"s{n}", i) for n, row in enumerate(rows) for i in range(len(row))]
    order = ranked(np.array([value for row in rows for value in row], np.float32))
    count = data.draw(st.integers(1, len(places)))
    with sizes(chunk, sample, pool, bracket):
        if count > len(order):
            with pytest.raises(SelectionError, match=r"s0.*float32 or bfloat16"):
                k_smallest(scores, count)
            return
        selection = k_smallest(scores, count)
    assert [(name, i) for name, cut in selection.items() for i in cut.tolist()] == sorted(
        places[i] for i in order[:count]
    )
    assert all(cut.dtype == np.int64 and cut.size for cut in selection.values())


def layouts():
    rng = np.random.default_rng(0)
    size = 60_000
    normal = rng.standard_normal(size).astype(np.float32)
    with_nan = normal.copy()
    with_nan[rng.random(size) < 0.4] = np.nan
    late = np.zeros(size, np.float32)
    late[-200:] = np.arange(-200, 0)
    return {
        "random": normal,
        "ascending": np.sort(normal),
        "descending": np.sort(normal)[::-1].copy(),
        "all equal": np.full(size, 2.5, np.float32),
        "all infinite": np.full(size, -np.inf, np.float32),
        "few values": rng.integers(-2, 2, size).astype(np.float32),
        "mostly zero, of both signs": np.where(rng.random(size) < 0.9, rng.choice([-0.0, 0.0], size), normal).astype(
            "f4"
        ),
        "the smallest at the end": late,
        "period of the sample": np.where(np.arange(size) % 61 == 0, 100, normal).astype(np.float32),
        "tiny and huge": (normal.astype(np.float64) ** 41).astype(np.float32),
        "subnormal": (np.arange(size) % 999 * np.float32(1e-45)).astype(np.float32),
        "many NaN": with_nan,
        "infinities": np.where(rng.random(size) < 0.5, rng.choice([-np.inf, np.inf], size), normal).astype(np.float32),
    }


@pytest.mark.parametrize("layout", layouts())
def test_the_layout_does_not_matter(layout):
    values = layouts()[layout]
    order = ranked(values)
    scores = {"a": torch.from_numpy(values[:777]), "b": torch.from_numpy(values[777:]).reshape(-1, 3)}
    for count in (1, 7, 200, 6_000, len(order) // 2, len(order) - 1, len(order)):
        expected = np.sort(order[:count])
        with sizes(1 << 10, sample=1_000, pool=500):
            selection = k_smallest(scores, count)
        joined = [selection[name] + start for name, start in (("a", 0), ("b", 777)) if name in selection]
        np.testing.assert_array_equal(np.concatenate(joined), expected)
    if len(order) < len(values):
        with sizes(1 << 10, sample=1_000, pool=500), pytest.raises(SelectionError, match=f"only {len(order)} of 60000"):
            k_smallest(scores, len(order) + 1)


@pytest.mark.parametrize("layout", ["random", "ascending", "all equal", "few values", "mostly zero, of both signs"])
def test_common_layouts_take_one_counting_pass(layout, monkeypatch):
    passes = []
    counted = smallest._count
    monkeypatch.setattr(smallest, "_count", lambda *given: passes.append(1) or counted(*given))
    with sizes(1 << 12, sample=2_000, pool=20_000):
        for count in (1, 7, 700, 30_000, 60_000):
            passes.clear()
            k_smallest({"a": torch.from_numpy(layouts()[layout])}, count)
            assert len(passes) == 1


@pytest.mark.parametrize(("count", "megabytes"), [(7_000, 8), (2_000_000, 16 + 8)])
def test_memory_is_for_the_result_and_not_for_the_scores(count, megabytes):
    scores = {"a": torch.randn(4_000_000, generator=torch.Generator().manual_seed(0))}  # 16 MB, and 32 MB of indices
    with sizes(1 << 16, sample=1 << 16, pool=1 << 16):
        tracemalloc.start()
        try:
            selection = k_smallest(scores, count)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert len(selection["a"]) == count
    assert peak < megabytes * 1e6


@given(
    a=st.floats(width=32, allow_nan=False),
    b=st.floats(width=32, allow_nan=False),
)
def test_keys_have_the_order_of_the_values(a, b):
    assert (smallest._key(a) < smallest._key(b)) == (a < b)
    assert (smallest._key(a) == smallest._key(b)) == (a == b)
    assert smallest._value(smallest._key(a)) == a


@settings(deadline=None, max_examples=200)
@given(data=st.data(), rows=st.integers(1, 7), columns=st.integers(1, 6), chunk=st.integers(1, 20))
def test_rows_give_what_sorting_each_gives(data, rows, columns, chunk):
    values = np.array(
        data.draw(st.lists(VALUES, min_size=rows * columns, max_size=rows * columns)), np.float32
    ).reshape(rows, columns)
    extra = data.draw(st.integers(0, rows))
    count = data.draw(st.integers(0, columns - bool(extra)))
    wanted = [count + (row < extra) for row in range(rows)]
    orders = [ranked(row) for row in values]
    with sizes(chunk):
        if any(want > len(order) for want, order in zip(wanted, orders, strict=True)):
            with pytest.raises(SelectionError, match=r"weights\.a: in group \d+ of \d+ weights each, only \d+ scores"):
                k_smallest_in_rows("weights.a", torch.from_numpy(values), count, extra)
            return
        indices = k_smallest_in_rows("weights.a", torch.from_numpy(values), count, extra)
    expected = [row * columns + i for row in range(rows) for i in sorted(orders[row][: wanted[row]])]
    assert indices.dtype == np.int64
    assert indices.tolist() == expected


def test_a_row_of_too_few_numbers_is_named():
    scores = torch.zeros(5, 4)
    scores[3, 1:] = math.nan
    with sizes(8), pytest.raises(SelectionError, match=r"m: in group 3 of 4 weights each, only 1 scores .* 2 are"):
        k_smallest_in_rows("m", scores, 2)
