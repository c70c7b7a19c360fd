"""Metrics of impressions against sklearn, brute force over all orders of ties, and a peer's figures."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from recrun.evaluation.impressions import impression_metrics, ranks_in_rows

KS = (2, 5)
NAMES = ["group_auc", "mean_mrr", "ndcg@2", "ndcg@5"]


def metrics_of(*impressions):
    """Metrics of impressions given as (scores, labels)."""
    offsets = np.cumsum([0, *(len(scores) for scores, _ in impressions)])
    scores = np.array([s for row, _ in impressions for s in row], np.float32)
    labels = np.array([y for _, row in impressions for y in row], bool)
    return impression_metrics(scores, labels, offsets, KS)


def by_definition(labels):
    """mean_mrr and ndcg of labels in ranked order."""
    ranks = [rank for rank, label in enumerate(labels, 1) if label]
    values = [sum(1 / rank for rank in ranks) / len(ranks)]
    for k in KS:
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(ranks)) + 1))
        values.append(sum(1 / math.log2(rank + 1) for rank in ranks if rank <= k) / ideal)
    return values


def by_brute_force(scores, labels):
    """AUC pair by pair; the others as means over every order that the scores allow."""
    clicks = [s for s, y in zip(scores, labels, strict=True) if y]
    others = [s for s, y in zip(scores, labels, strict=True) if not y]
    auc = np.mean([(a > b) + (a == b) / 2 for a in clicks for b in others])
    found = []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            found.append(by_definition([labels[at] for at in order]))
    return [auc, *np.mean(found, axis=0)]


impression = st.integers(2, 6).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([-2.5, -0.0, 0.0, 1.0, 3.0]), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n),
    )
)


@given(st.lists(impression, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_ties_get_the_mean_over_their_orders(impressions):
    found = metrics_of(*impressions)
    for at, (scores, labels) in enumerate(impressions):
        values = [found[name][at] for name in NAMES]
        if len(set(labels)) == 1:
            assert np.isnan(values).all()
        else:
            assert values == pytest.approx(by_brute_force(scores, labels))


def test_sklearn_agrees_without_ties():
    rng = np.random.default_rng(0)
    rows = []
    for n in rng.integers(2, 200, 60):
        labels = rng.random(n) < 0.2
        labels[:2] = [True, False]
        rows.append((rng.permutation(n) - n / 2, labels))
    found = metrics_of(*rows)
    assert found["group_auc"] == pytest.approx([roc_auc_score(y, s) for s, y in rows])
    assert found["ndcg@5"] == pytest.approx([ndcg_score([y], [s], k=5) for s, y in rows])


def test_figures_worked_out_by_hand():
    found = metrics_of(([0.1, 0.9, 0.5], [1, 0, 1]), ([1, 2], [1, 0]))
    assert found["group_auc"] == pytest.approx([0, 0])
    assert found["mean_mrr"] == pytest.approx([(1 / 2 + 1 / 3) / 2, 1 / 2])
    ndcg = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    assert found["ndcg@2"] == pytest.approx([ndcg, 1 / math.log2(3)])


def test_ranks_follow_scores_and_keep_the_order_of_equal_ones():
    scores = np.array([0.5, 0.9, 0.5, -1, 7, 7], np.float32)
    assert ranks_in_rows(scores, np.array([0, 4, 6])).tolist() == [2, 1, 3, 4, 1, 2]


def test_an_empty_part_has_no_metrics():
    assert impression_metrics(np.zeros(0, np.float32), np.zeros(0, bool), np.array([0]), KS)["group_auc"].size == 0
