"""Synthetic interactions: seeded, of the promised size, with a structure to learn."""

import numpy as np
import pytest

from recrun.data.events.interactions import Interactions
from recrun.data.events.synthetic import LatentTaste
from recrun.errors import ConfigError


@pytest.fixture(scope="module")
def rows():
    return LatentTaste().rows(with_time=False)


def matrix(rows):
    dense = np.zeros((len(rows.users), len(rows.items)))
    dense[rows.user, rows.item] = 1
    return dense


def test_same_arguments_same_rows(rows):
    again, other = LatentTaste().rows(False), LatentTaste(seed=1).rows(False)
    np.testing.assert_array_equal(rows.user, again.user)
    np.testing.assert_array_equal(rows.item, again.item)
    assert not np.array_equal(rows.item[:1000], other.item[:1000])
    assert LatentTaste().identity() != LatentTaste(seed=1).identity()


def test_size_and_activity(rows):
    assert 0.97 * 60_000 < len(rows) <= 1.01 * 60_000
    pairs = rows.user.astype(np.int64) * 1000 + rows.item
    assert (np.diff(pairs) > 0).all()  # sorted and distinct
    activity = np.bincount(rows.user, minlength=2000)
    assert activity.min() >= 5
    assert activity.max() > 5 * np.median(activity)  # lognormal: a few are very active


def test_popularity_is_skewed(rows):
    popularity = np.sort(np.bincount(rows.item, minlength=1000))[::-1]
    assert popularity[:100].mean() > 5 * popularity[-500:].mean()


def test_neighbours_know_more_than_popularity(rows):
    """Half of each user's items, scored by co-occurrence with the other half, rank above popular ones."""
    dense = matrix(rows)
    rng = np.random.default_rng(0)
    shown = dense * (rng.random(dense.shape) < 0.5)
    hidden = dense - shown
    together = shown.T @ shown
    norm = np.sqrt(np.maximum(np.diag(together), 1))
    scores = {"neighbours": shown @ (together / norm / norm[:, None]), "popularity": shown.sum(0) + 0 * shown}
    recall = {}
    for name, score in scores.items():
        score[shown > 0] = -np.inf
        top = np.argsort(-score, axis=1)[:, :50]
        recall[name] = np.take_along_axis(hidden, top, 1).sum() / hidden.sum()
    assert recall["neighbours"] > 1.5 * recall["popularity"]


def test_chunks_do_not_show(monkeypatch):
    monkeypatch.setattr("recrun.data.events.synthetic.DRAWS_AT_ONCE", 500)
    rows = LatentTaste(300, 100, 3000, 5).rows(False)
    assert 2900 < len(rows) <= 3030
    assert len(np.unique(rows.user)) == 300


@pytest.mark.parametrize("sizes", [(1, 2, 1, 1), (3, 7, 10, 20), (50, 20, 100, 1)])
def test_tiny_sizes(sizes):
    rows = LatentTaste(*sizes).rows(False)
    assert len(rows) >= 1
    assert rows.item.max() < sizes[1]


def test_too_dense_is_refused():
    with pytest.raises(ConfigError, match=r"dataset.source.n_interactions=60 is more than half of n_users x n_items"):
        LatentTaste(10, 10, 60)


@pytest.mark.parametrize("split", ["random", "temporal", "leave_last_out", "strong"])
def test_all_splits_work(split):
    dataset = Interactions(evaluator=None, source=LatentTaste(200, 100, 3000, 5), split=split)
    assert dataset.sizes["n_users"] == 200
    assert next(dataset.eval_batches("test", 1000))["target"].numel() > 0


def test_provided_split_is_refused():
    with pytest.raises(ConfigError, match=r"dataset.split=provided needs files"):
        Interactions(evaluator=None, source=LatentTaste(20, 10, 50, 2), split="provided")
