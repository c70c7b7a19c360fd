"""The best k: the same as a stable full sort, ties, infinities and odd sizes included."""

import os
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recrun.evaluation.top_k import top_k


def by_full_sort(scores, k):
    return torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k]


@given(
    st.integers(0, 7),
    st.integers(1, 3000),
    st.integers(1, 120),
    st.sampled_from([1.0, 3.0, 1000.0]),
    st.integers(0, 2**31),
)
def test_equals_a_stable_full_sort(rows, items, k, grid, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = (torch.randn(rows, items, generator=generator) * grid).round()
    scores[torch.rand(rows, items, generator=generator) < 0.2] = -torch.inf
    assert torch.equal(top_k(scores, k), by_full_sort(scores, k))


@pytest.mark.parametrize("items", [1, 100, 20_011])
def test_all_equal_scores_rank_in_catalogue_order(items):
    best = top_k(torch.zeros(3, items), 50)
    assert best.tolist() == [list(range(min(50, items)))] * 3


def test_minus_zero_equals_zero():
    assert top_k(torch.tensor([[-0.0, 0.0, -0.0, -1.0]]), 3).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types(dtype):
    scores = torch.randn(5, 400, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(top_k(scores, 10), by_full_sort(scores.float(), 10))


def test_nan_gives_valid_indices():
    scores = torch.randn(3, 500)
    scores[1] = torch.nan
    scores[2, 7] = torch.nan
    best = top_k(scores, 20)
    assert best.shape == (3, 20)
    assert ((best >= 0) & (best < 500)).all()
    assert torch.equal(best[:1], by_full_sort(scores[:1], 20))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_same_on_a_gpu():
    scores = (torch.randn(20, 5000) * 10).round()
    assert torch.equal(top_k(scores.cuda(), 100).cpu(), top_k(scores, 100))


def test_a_forked_process_has_threads_of_its_own():
    scores = torch.randn(8, 50)
    torch.set_num_threads(2)
    try:
        expected = top_k(scores, 5)
        child = os.fork()
        if not child:
            signal.alarm(20)  # else the test waits as long as the child
            os._exit(0 if torch.equal(top_k(scores, 5), expected) else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(1)
