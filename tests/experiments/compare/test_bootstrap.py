"""Intervals against scipy's and standard errors against brute force."""

import math

import numpy as np
import pytest
from scipy import stats

from recrun.experiments.compare.bootstrap import bca, resampled_means, seed_weights, spread


def test_the_interval_of_a_mean_is_scipys_bca():
    values = np.random.default_rng(0).exponential(size=400) ** 1.5
    drawn = resampled_means(values[None], np.ones(400), np.random.default_rng(1), 20_000)[:, 0]
    found = bca(values.mean(), drawn, spread(values, np.ones(400)))
    known = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=np.random.default_rng(2), vectorized=True)
    low, high = known.confidence_interval
    near = 0.02 * (high - low)
    assert (found.low, found.high) == pytest.approx((low, high), abs=near)
    assert high - values.mean() > 1.05 * (values.mean() - low)  # it leans, which a symmetric interval would miss


def test_the_spread_of_one_seed_is_the_standard_error():
    values = np.random.default_rng(3).normal(size=50)
    found = spread(values, np.ones(50), values[None])
    assert found.variance == pytest.approx(values.var(ddof=1) / 50, rel=1e-12)
    assert found.freedom == pytest.approx(49, rel=1e-12)


def test_the_spread_of_a_ratio_is_the_jackknifes():
    rng = np.random.default_rng(4)
    values, events = rng.normal(size=30), rng.integers(1, 40, 30).astype(float)
    whole = np.average(values, weights=events)
    without = [np.average(np.delete(values, at), weights=np.delete(events, at)) for at in range(30)]
    expected = 29 / 30 * ((np.array(without) - whole) ** 2).sum()
    found = spread(values, events / events.mean())
    assert found.variance == pytest.approx(expected, rel=1e-12)
    assert found.freedom < 29
    assert found.acceleration == pytest.approx(((whole - without) ** 3).sum() / 6 / (expected**1.5), rel=1e-9)


def test_the_spread_over_seeds_by_hand():
    """Two seeds that move all units alike, by -1 and +1: their mean varies by 2 / 2, the units by what they do."""
    units = np.array([0.0, 1.0, 2.0, 3.0])
    found = spread(units, np.ones(4), np.stack([units - 1, units + 1]))
    assert found.variance == pytest.approx(units.var(ddof=1) / 4 + 1, rel=1e-12)


def test_what_seeds_do_to_single_units_counts_once():
    """In worlds of noise alone the variance of a mean over 3 seeds and 50 units is 1 / 150; counted twice, 2 / 150.

    What is beyond that is at least 0, hence on average 1 / e of it too much: chi-square of 2 degrees, over 2, less 1.
    """
    rng = np.random.default_rng(5)
    worlds = [rng.normal(size=(3, 50)) for _ in range(4000)]
    found = np.array([spread(values.mean(0), np.ones(50), values).variance for values in worlds])
    assert found.mean() == pytest.approx((1 + math.exp(-1)) / 150, rel=0.03)


def test_seeds_never_make_an_interval_narrower():
    rng = np.random.default_rng(8)
    for _ in range(50):
        values = rng.normal(size=(3, 40))
        over_units, over_both = (spread(values.mean(0), np.ones(40), *sides) for sides in ((), (values,)))
        assert over_both.variance >= over_units.variance


def test_seeds_that_are_resampled_vary_as_means_of_seeds_do():
    means = np.array([0.2, 0.5, 0.3])
    drawn = seed_weights(3, np.random.default_rng(6), 200_000) @ means
    assert drawn.mean() == pytest.approx(means.mean(), rel=1e-2)
    assert drawn.var() == pytest.approx(means.var(ddof=1) / 3, rel=2e-2)
    assert (seed_weights(1, np.random.default_rng(0), 5) == 1).all()


def test_units_are_drawn_with_their_weights_the_same_for_all_rows():
    values = np.stack([np.arange(5.0), 10 * np.arange(5.0)])
    weights = np.array([1.0, 1, 1, 1, 6]) / 2
    drawn = resampled_means(values, weights, np.random.default_rng(7), 4000)
    assert drawn[:, 1] == pytest.approx(10 * drawn[:, 0], rel=1e-12)
    assert drawn[:, 0].min() >= 0
    assert drawn[:, 0].max() == 4  # the last unit, drawn five times
    assert np.median(drawn[:, 0]) == pytest.approx(3, abs=0.2)


def test_what_never_varies_has_an_interval_without_width():
    found = bca(0.25, np.full(100, 0.25), spread(np.full(10, 0.25), np.ones(10)))
    assert (found.low, found.high) == (0.25, 0.25)


def test_one_unit_that_outweighs_all_leaves_one_degree_of_freedom():
    weights = np.array([1e-6, 1e-6, 1.0])
    found = spread(np.array([0.1, 0.2, 0.4]), weights / weights.mean())
    assert found.freedom == 1
    assert found.variance > 0
