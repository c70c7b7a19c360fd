"""Items drawn by popularity: the distribution, and negatives of a step that do not depend on where one starts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recrun.data.loaders.popularity import EpochNegatives, PopularitySampler


def test_draws_are_the_inverted_distribution_function():
    counts = np.random.default_rng(0).integers(0, 50, 300)
    popularity = PopularitySampler(counts, 0.75)
    u = np.random.default_rng(5).random(20_000)
    expected = np.searchsorted(popularity.cdf, u, side="right")
    np.testing.assert_array_equal(popularity.draw(np.random.default_rng(5), 20_000), expected)
    assert (counts[expected] > 0).all()


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any), st.sampled_from([0.3, 1.0, 2.0]))
def test_the_guide_table_never_misleads(counts, alpha):
    popularity = PopularitySampler(np.array(counts), alpha)
    u = np.random.default_rng(1).random(200)
    expected = np.searchsorted(popularity.cdf, u, side="right")
    np.testing.assert_array_equal(popularity.draw(np.random.default_rng(1), 200), expected)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_draws_follow_the_counts_to_the_power_of_alpha(alpha):
    counts, draws = np.array([1, 2, 5, 10, 100, 3]), 200_000
    found = np.bincount(PopularitySampler(counts, alpha).draw(np.random.default_rng(1), draws), minlength=6)
    expected = draws * counts**alpha / (counts**alpha).sum()
    assert ((found - expected) ** 2 / expected).sum() < 20.5  # chi-square with 5 degrees of freedom: p = 0.001


def test_rare_items_of_a_large_catalogue_can_be_drawn():
    counts = np.ones(3_000_000, np.int64)
    counts[0] = 10**9
    popularity = PopularitySampler(counts, 1.0)
    assert (np.diff(popularity.cdf) > 0).all()


def test_negatives_of_a_step_do_not_depend_on_where_one_starts():
    popularity = PopularitySampler(np.arange(1, 50), 0.5)
    whole = EpochNegatives(popularity, 3, np.random.default_rng(2))
    expected = [whole.at(step).copy() for step in range(600)]
    for start in (0, 1, 255, 256, 599):
        again = EpochNegatives(popularity, 3, np.random.default_rng(2))
        np.testing.assert_array_equal(again.at(start), expected[start])
    assert not np.array_equal(expected[0], expected[256])


def test_few_negatives_are_held_at_once():
    negatives = EpochNegatives(PopularitySampler(np.ones(10, np.int64), 1.0), 100_000, np.random.default_rng(0))
    negatives.at(0)
    assert negatives.drawn.nbytes <= 4 << 20
