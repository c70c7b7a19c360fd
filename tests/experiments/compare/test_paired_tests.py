"""Tests of no difference against scipy's, corrections against tables worked by hand and scipy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from recrun.experiments.compare.paired_tests import (
    benjamini_hochberg,
    holm,
    p_of_t,
    sign_flip,
    t_test,
    wilcoxon,
)


def pairs(size, seed):
    """Two models' values of some units: many equal, as those of recall@k are."""
    rng = np.random.default_rng(seed)
    one, other = rng.beta(0.5, 1.5, (2, size))
    same = rng.random(size) < 0.3
    return np.where(same, other, one + 0.02), other


@pytest.mark.parametrize("size", [5, 12, 60, 3000])
def test_p_values_are_scipys(size):
    one, other = pairs(size, seed=size)
    assert t_test(one - other) == pytest.approx(stats.ttest_rel(one, other).pvalue, rel=1e-12)
    assert wilcoxon(one - other) == pytest.approx(stats.wilcoxon(one, other).pvalue, rel=1e-12)


@pytest.mark.parametrize("size", [2, 3, 7, 12])
def test_the_permutation_test_of_few_units_is_scipys_exact_one(size):
    one, other = np.random.default_rng(size).normal([[0.8], [0]], size=(2, size))
    exact = stats.permutation_test((one, other), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples")
    assert sign_flip(one - other, np.random.default_rng(0)) == pytest.approx(exact.pvalue, rel=1e-12)


def test_random_patterns_come_near_all_of_them():
    differences = np.random.default_rng(4).normal(0.35, 1, 16)
    every = sign_flip(differences, np.random.default_rng(0), flips=2**16)
    some = sign_flip(differences, np.random.default_rng(0), flips=2**16 - 1)
    assert 0.05 < every < 0.5
    assert some == pytest.approx(every, abs=4 * np.sqrt(every * (1 - every) / 2**16))


def test_patterns_that_give_the_observed_sum_count_in_spite_of_rounding():
    """Of 0.1, 0.2 and 0.3 the sums of size 0.6 are two of eight; 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1."""
    assert sign_flip(np.array([0.1, 0.2, 0.3]), np.random.default_rng(0)) == 2 / 8
    assert sign_flip(np.array([0.3, 0.0, 0.2, 0.1]), np.random.default_rng(0)) == 2 / 8


def test_a_random_pattern_never_gives_p_0():
    assert sign_flip(np.ones(1000), np.random.default_rng(0), flips=99) == 1 / 100


def test_no_difference_at_all():
    nothing = np.zeros(40)
    assert (t_test(nothing), wilcoxon(nothing), sign_flip(nothing, np.random.default_rng(0))) == (1, 1, 1)


def test_a_difference_without_any_spread():
    assert t_test(np.full(8, 0.25)) == 0
    assert p_of_t(0.1, 0.05, 4) == pytest.approx(2 * stats.t.sf(2, 4), rel=1e-12)


def test_holm_by_hand():
    """Sorted: .005 * 4 = .02, .01 * 3 = .03, .03 * 2 = .06, .04 * 1 = .04, which is not below the one before."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=1e-12)
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert holm(np.array([0.3])).tolist() == [0.3]


def test_benjamini_hochberg_by_hand():
    """Sorted: .04 * 4/4 = .04, .03 * 4/3 = .04, .01 * 4/2 = .02, .005 * 4/1 = .02."""
    found = benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.02, 0.04, 0.04, 0.02], rel=1e-12)


@given(arrays.arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)))
def test_benjamini_hochberg_is_scipys(p):
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p), rel=1e-12, abs=1e-300)
    assert (holm(p) >= benjamini_hochberg(p) * (1 - 1e-12)).all()
