"""Ranking metrics against brute force and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from recrun.evaluation import metrics


def brute_force(name, ranking, relevant, k):
    """One unit, from the textbook definitions: `ranking` lists items best first, `relevant` is a set."""
    top = ranking[:k]
    hits = [item in relevant for item in top]
    match name:
        case "recall":
            return sum(hits) / len(relevant)
        case "calibrated_recall":
            return sum(hits) / min(k, len(relevant))
        case "precision":
            return sum(hits) / k
        case "hit":
            return float(any(hits))
        case "mrr":
            return next((1 / (rank + 1) for rank, is_hit in enumerate(hits) if is_hit), 0.0)
        case "map":
            total = sum(sum(hits[: rank + 1]) / (rank + 1) for rank, is_hit in enumerate(hits) if is_hit)
            return total / min(k, len(relevant))
        case "ndcg":
            gained = sum(1 / math.log2(rank + 2) for rank, is_hit in enumerate(hits) if is_hit)
            return gained / sum(1 / math.log2(rank + 2) for rank in range(min(k, len(relevant))))


@given(seed=st.integers(0, 10_000), items=st.integers(1, 30), k=st.integers(1, 40))
def test_every_metric_equals_its_definition(seed, items, k):
    rng = np.random.default_rng(seed)
    rankings = [rng.permutation(items) for _ in range(4)]
    relevants = [set(rng.choice(items, rng.integers(1, items + 1), replace=False)) for _ in range(4)]
    hits = torch.tensor([[item in some for item in order] for order, some in zip(rankings, relevants, strict=True)])
    relevant = torch.tensor([len(some) for some in relevants])
    for name, metric in metrics.RANKING.items():
        expected = [brute_force(name, order, some, k) for order, some in zip(rankings, relevants, strict=True)]
        assert metric(hits, relevant, k).tolist() == pytest.approx(expected, abs=1e-6), name


@given(seed=st.integers(0, 10_000), k=st.integers(1, 25))
def test_ndcg_and_average_precision_equal_scikit_learn(seed, k):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(20).astype(float)[None]
    truth = rng.random((1, 20)) < 0.3
    truth[0, rng.integers(20)] = True
    order = np.argsort(-scores, axis=1)
    hits = torch.tensor(np.take_along_axis(truth, order, axis=1))
    relevant = torch.tensor(truth.sum(1))
    assert metrics.ndcg(hits, relevant, k).item() == pytest.approx(ndcg_score(truth, scores, k=k), abs=1e-6)
    whole = metrics.average_precision(hits, relevant, 20).item()
    assert whole == pytest.approx(average_precision_score(truth[0], scores[0]), abs=1e-6)


def test_direction_of_metrics():
    for name in ("ndcg@100", "income/auc", "recall@5", "group_auc"):
        assert metrics.greater_is_better(name)
    for name in ("logloss", "income/rmse", "bpr", "warp", "dwell/mae"):
        assert not metrics.greater_is_better(name)


def test_a_metric_of_ones_own_has_the_direction_that_it_says():
    own = {"age": metrics.Metric(len, greater_is_better=False), "loss": metrics.Metric(len)}
    assert not metrics.greater_is_better("age@10", own)
    assert metrics.greater_is_better("loss@3", own), "its own word counts, whatever its name"
    assert metrics.greater_is_better("ndcg@10", own)
    assert metrics.greater_is_better("age@10"), "elsewhere the name means nothing"
