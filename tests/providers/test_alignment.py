from itertools import pairwise, product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from providers.alignment import align, path, smoothed


def cheapest(cost: np.ndarray) -> float:
    """By trying every way."""
    rows, columns = cost.shape
    best = np.inf
    for starts in product(range(1, columns), repeat=rows - 1):
        bounds = [0, *starts, columns]
        if all(one < other for one, other in pairwise(bounds)):
            best = min(best, sum(cost[row, bounds[row] : bounds[row + 1]].sum() for row in range(rows)))
    return float(best)


@given(st.integers(1, 4), st.integers(4, 7), st.integers(0, 10_000))
def test_the_way_that_is_found_is_the_cheapest(rows: int, columns: int, seed: int) -> None:
    cost = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)

    starts = path(cost)

    assert starts[0] == 0
    assert all(one < other for one, other in pairwise([*starts, columns]))
    bounds = [*starts, columns]
    total = sum(cost[row, bounds[row] : bounds[row + 1]].sum() for row in range(rows))
    assert np.isclose(total, cheapest(cost), atol=1e-4)


def test_more_rows_than_columns_share_them_evenly() -> None:
    assert path(np.zeros((6, 3), np.float32)) == [0, 0, 1, 1, 2, 2]


def test_each_row_begins_where_it_looks() -> None:
    attention = np.full((2, 3, 60), 0.001, np.float32)
    for row, (begin, end) in enumerate([(0, 20), (20, 35), (35, 60)]):
        attention[:, row, begin:end] = 0.05

    assert align(attention) == [0, 20, 35]


def test_one_frame_out_of_line_is_smoothed_away() -> None:
    weights = np.zeros((1, 1, 30), np.float32)
    weights[0, 0, 15] = 1.0

    assert smoothed(weights).max() == 0.0
    assert smoothed(weights).shape == weights.shape


def test_a_few_frames_are_left_as_they_are() -> None:
    weights = np.ones((1, 2, 3), np.float32)

    assert smoothed(weights) is weights
