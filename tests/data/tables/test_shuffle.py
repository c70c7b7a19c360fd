"""The order of an epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.data.tables.shuffle import windows

SIZES = st.tuples(
    st.integers(1, 400),  # rows
    st.integers(1, 50),  # of a batch
    st.integers(1, 500),  # of a window
    st.integers(1, 60),  # of a block
)


def epoch(sizes, seed=0, start=0, stride=1):
    """Batches of row numbers."""
    batches = []
    for window in windows(*sizes, np.random.default_rng(seed), start, stride):
        rows = np.concatenate([np.arange(begin, end) for begin, end in window.blocks])
        batches += [rows[places] for places in window.batches]
    return batches


@settings(deadline=None)
@given(SIZES)
def test_every_row_once_in_batches_of_the_right_size(sizes):
    batches = epoch(sizes)
    n_rows, size = sizes[:2]
    assert sorted(np.concatenate(batches)) == list(range(n_rows))
    assert [len(batch) for batch in batches] == [size] * (n_rows // size) + [n_rows % size] * (n_rows % size > 0)


@settings(deadline=None)
@given(SIZES, st.integers(0, 60), st.integers(1, 7))
def test_start_and_stride_give_exactly_those_batches(sizes, start, stride):
    whole, some = epoch(sizes), epoch(sizes, start=start, stride=stride)
    assert all(np.array_equal(one, other) for one, other in zip(whole[start::stride], some, strict=True))


def test_an_epoch_follows_from_its_generator():
    sizes = (1000, 16, 200, 20)
    assert all(map(np.array_equal, epoch(sizes, seed=1), epoch(sizes, seed=1)))
    assert not all(map(np.array_equal, epoch(sizes, seed=1), epoch(sizes, seed=2)))


def test_a_window_reads_whole_blocks_and_mixes_them():
    found = list(windows(10_000, 10, 1000, 100, np.random.default_rng(0)))
    assert len(found) == 11  # ten of ten blocks, and an empty one for rows that fill none
    for window in found[:-1]:
        assert (np.diff(window.blocks) == 100).all()
        places = np.concatenate(window.batches)
        assert np.abs(np.diff(places)).mean() == pytest.approx(1000 / 3, rel=0.2)  # as in any permutation
    begins = np.concatenate([window.blocks[:, 0] for window in found[:-1]])
    assert np.abs(np.diff(begins)).mean() == pytest.approx(10_000 / 3, rel=0.3)


def test_rows_that_fit_one_window_are_permuted_whole():
    (window,) = windows(1000, 10, 1000, 1000, np.random.default_rng(0))
    assert window.blocks.tolist() in ([[0, 1000]], [[0, 1000], [1000, 1000]])
    assert np.abs(np.diff(np.concatenate(window.batches))).mean() == pytest.approx(1000 / 3, rel=0.1)
