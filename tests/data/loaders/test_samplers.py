"""Negatives follow their distribution, also among what is left for a user; nothing that a user took is drawn."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from recrun.data.loaders.samplers import Positives, Sampler, refuse_too_many
from recrun.errors import ConfigError, DataError

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), min_size=1, max_size=38)


def positives(pairs, n_users=5, n_items=8):
    user, item = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    return Positives.of(user, item, n_users, n_items)


@given(PAIRS)
def test_positives_are_what_each_user_took(pairs):
    own = positives(pairs)
    user, item = (grid.ravel() for grid in np.meshgrid(np.arange(5), np.arange(8), indexing="ij"))
    found = own.has(user, item).tolist()
    assert found == [(u, i) in set(pairs) for u, i in zip(user.tolist(), item.tolist(), strict=True)]
    for u in range(5):
        mine = own.item[own.offsets[u] : own.offsets[u + 1]].tolist()
        assert mine == sorted({i for who, i in pairs if who == u})


@pytest.mark.parametrize(
    ("distribution", "alpha", "weights"),
    [
        ("uniform", 0.75, [1, 1, 1, 1]),
        ("popularity", 1.0, [0, 1, 10, 100]),
        ("popularity", 0.5, [0, 1, math.sqrt(10), 10]),
        ("log", 0.75, [1e-6, math.log(2) + 1e-6, math.log(11) + 1e-6, math.log(101) + 1e-6]),
    ],
)
def test_negatives_follow_their_distribution(distribution, alpha, weights):
    sampler = Sampler(np.array([0, 1, 10, 100]), distribution, alpha)
    share = np.array(weights) / sum(weights)
    assert sampler.share == pytest.approx(share)
    drawn = np.bincount(sampler.draw(np.random.default_rng(5), 40_000), minlength=4)
    likely = share * 40_000 > 5
    assert drawn[~likely].sum() < 5
    assert stats.chisquare(drawn[likely], share[likely] / share[likely].sum() * drawn[likely].sum()).pvalue > 1e-3


def test_what_is_left_for_a_user_follows_the_distribution_too():
    counts = np.array([50, 30, 10, 5, 5])
    own = Positives.of(np.array([0, 0, 1]), np.array([0, 3, 1]), 2, 5)
    drawn = Sampler(counts, "popularity", 1.0).draw_others(np.random.default_rng(2), np.array([0, 1]), 20_000, own)
    for row, left in ((0, [0, 30, 10, 0, 5]), (1, [50, 0, 10, 5, 5])):
        share = np.array(left) / sum(left)
        found = np.bincount(drawn[row], minlength=5)
        assert (found[share == 0] == 0).all()
        assert stats.chisquare(found[share > 0], share[share > 0] * 20_000).pvalue > 1e-3


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.integers(0, 99))
def test_draw_others_never_draws_what_was_taken(pairs, seed):
    """Also where a user left one single item, which the distribution hardly ever draws."""
    pairs = [(user, item) for user, item in pairs if item != 7]
    assume(pairs)
    counts = np.bincount([item for _, item in pairs], minlength=8) * 10_000
    own = positives(pairs)
    drawn = Sampler(counts, "log", 1.0).draw_others(np.random.default_rng(seed), np.arange(5), 6, own)
    assert drawn.shape == (5, 6)
    assert not own.has(np.repeat(np.arange(5), 6), drawn.ravel()).any()


def test_a_user_who_took_everything_that_can_be_drawn_is_refused():
    names = np.array(["ann", "bob"], object)
    own = Positives.of(np.array([0, 1, 1]), np.array([0, 0, 1]), 2, 3)
    counts = np.array([2, 1, 0])
    told = r"user bob took every item that can be drawn as a negative; use loader.avoid_positives=false"
    with pytest.raises(DataError, match=told):
        Sampler(counts, "popularity", 1.0).refuse_if_nothing_is_left(own, names)
    Sampler(counts, "uniform", 1.0).refuse_if_nothing_is_left(own, names)


@pytest.mark.parametrize("num_negatives", [7, 8])
def test_more_negatives_than_other_items_are_refused(num_negatives):
    refuse_too_many(6, 7)
    told = rf"loader.num_negatives={num_negatives}, but there are 7 items in the catalogue; lower it"
    with pytest.raises(ConfigError, match=told):
        refuse_too_many(num_negatives, 7)
