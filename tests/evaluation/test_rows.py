"""AUC and the metrics over all rows, against scikit-learn."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from recrun.errors import DataError, RecrunError
from recrun.evaluation.auc import auc
from recrun.evaluation.rows import RowMetrics, group_auc
from recrun.features import Task
from recrun.runtime.device import Device

CPU = Device.named("cpu", "fp32")
CLICK, DWELL = Task("click"), Task("dwell", "regression")


class Logits(torch.nn.Module):
    """Gives the scores that the batch holds."""

    def forward(self, batch):
        return batch["sparse"]


class Rows:
    """Rows with given scores, labels and groups, as a data set."""

    def __init__(self, scores, labels, tasks=(CLICK,), **others):
        self.columns = {"sparse": as_columns(scores), "label": as_columns(labels)}
        self.columns |= {name: torch.as_tensor(np.array(values)) for name, values in others.items()}
        self.sizes = {"tasks": tasks}

    def eval_batches(self, split, size):
        for first in range(0, len(self.columns["sparse"]), size):
            yield {name: values[first : first + size] for name, values in self.columns.items() if values is not None}

    def units(self, split):
        return np.array([f"row{at}" for at in range(len(self.columns["sparse"]))])


def as_columns(values):
    return (
        None
        if values is None
        else torch.tensor(np.array(values), dtype=torch.float32).reshape(len(values), -1 if len(values) else 1)
    )


def judge(data, limit=None, **settings):
    return RowMetrics(**settings)(Logits(), data, "valid", CPU, limit)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-1.5, 0.0, -0.0, 0.25, 3.0, np.inf, -np.inf]), st.booleans()), min_size=2))
def test_auc_is_the_share_of_pairs_in_order_ties_half(pairs):
    scores, positive = np.array([score for score, _ in pairs]), np.array([label for _, label in pairs])
    wins = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    found = auc(scores, positive)
    assert (np.isnan(found) and not wins) or found == pytest.approx(np.mean(wins), abs=1e-15)


@pytest.mark.parametrize("share", [0.003, 0.3, 0.9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("digits", [1, 3, 12])
def test_auc_equals_sklearn(rng, share, dtype, digits):
    positive = rng.random(20_000) < share
    scores = (rng.normal(size=20_000) + positive).round(digits).astype(dtype)
    assert auc(scores, positive) == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-12)


def test_auc_of_a_million_rows_takes_no_time(rng):
    scores = rng.normal(size=1_000_000).astype(np.float32)
    positive = rng.random(1_000_000) < 0.3
    auc(scores[:1000], positive[:1000])
    started = time.process_time()
    auc(scores, positive)
    assert time.process_time() - started < 0.6  # 0.04 s; the bound is for slow and busy machines


def test_a_classification_has_auc_and_logloss_and_its_rows_their_logloss(rng):
    labels = rng.random(1000) < 0.3
    logits = (rng.normal(size=1000) + labels).astype(np.float32)
    found = judge(Rows(logits, labels), batch_size=64)
    chance = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert found.metrics == {
        "auc": pytest.approx(sk.roc_auc_score(labels, logits), abs=1e-12),
        "logloss": pytest.approx(sk.log_loss(labels, chance), abs=1e-12),
    }
    np.testing.assert_allclose(found.units["logloss"], -np.log(np.where(labels, chance, 1 - chance)), rtol=1e-12)
    assert list(found.ids[[0, -1]]) == ["row0", "row999"]
    assert not found.instead


def test_a_confident_mistake_has_a_finite_logloss_that_counts_in_full():
    found = judge(Rows([200.0, -1.0], [0, 1]))
    assert found.units["logloss"] == pytest.approx([200.0, np.log1p(np.e)])


def test_several_tasks_are_judged_each_by_its_kind(rng):
    clicks, seconds = rng.random(500) < 0.4, rng.normal(size=500)
    scores = np.stack([rng.normal(size=500), seconds + rng.normal(size=500)], 1).astype(np.float32)
    found = judge(Rows(scores, np.stack([clicks, seconds], 1), (CLICK, DWELL)))
    kept = seconds.astype(np.float32)
    assert list(found.metrics) == ["click/auc", "click/logloss", "dwell/rmse", "dwell/mae"]
    assert found.metrics["click/auc"] == pytest.approx(sk.roc_auc_score(clicks, scores[:, 0]), abs=1e-12)
    assert found.metrics["dwell/rmse"] == pytest.approx(sk.root_mean_squared_error(kept, scores[:, 1].astype(float)))
    assert found.metrics["dwell/mae"] == pytest.approx(sk.mean_absolute_error(kept, scores[:, 1].astype(float)))
    assert found.units["dwell/squared_error"].mean() == pytest.approx(found.metrics["dwell/rmse"] ** 2)
    assert found.units["dwell/mae"].mean() == pytest.approx(found.metrics["dwell/mae"])


@pytest.mark.parametrize("weights", ["rows", "equal"])
def test_group_auc_is_the_mean_over_groups_that_have_both_classes(rng, weights):
    groups, labels = rng.integers(0, 40, 300) * 10**12, rng.random(300) < 0.4
    scores = (rng.normal(size=300) + labels).round(1).astype(np.float32)
    areas, rows = [], []
    for group in np.unique(groups):
        own = groups == group
        if 0 < labels[own].sum() < own.sum():
            areas.append(sk.roc_auc_score(labels[own], scores[own]))
            rows.append(own.sum())
    found = judge(Rows(scores, labels, group=groups), batch_size=50, group_weights=weights)
    expected = np.average(areas, weights=rows if weights == "rows" else None)
    assert found.metrics["group_auc"] == pytest.approx(expected, abs=1e-12)
    values = found.groups["group_auc"]
    assert values.values == pytest.approx(areas)
    assert values.weights.tolist() == (rows if weights == "rows" else [1] * len(rows))
    with_both = [g for g in np.unique(groups) if 0 < labels[groups == g].sum() < (groups == g).sum()]
    assert values.ids.tolist() == with_both


def test_a_group_of_one_class_has_no_auc():
    areas, rows = group_auc(np.float32([1, 2, 3, 3]), np.array([True, False, True, True]), np.array([7, 7, 5, 5]))
    np.testing.assert_array_equal(areas, [np.nan, 0.0])
    np.testing.assert_array_equal(rows, [2, 2])


def test_a_part_of_one_class_says_which_metric_takes_the_place_of_the_undefined_one():
    found = judge(Rows([[1.0, 2.0], [0.0, 1.0]], [[0, 1], [0, 0]], (CLICK, Task("buy")), group=[1, 2]))
    assert list(found.metrics) == ["click/logloss", "buy/auc", "buy/logloss"]
    assert found.instead == {
        "click/auc": "click/logloss",
        "click/group_auc": "click/logloss",
        "buy/group_auc": "buy/auc",
    }


def test_a_limit_counts_batches():
    found = judge(Rows([3.0, 1.0, 2.0, -5.0], [1, 0, 0, 1]), limit=1, batch_size=3)
    assert found.metrics["auc"] == 1.0
    assert list(found.ids) == ["row0", "row1", "row2"]


def test_nothing_to_evaluate_and_scores_that_are_no_numbers_are_said_so():
    with pytest.raises(DataError, match="the valid split has no row"):
        judge(Rows([], []))
    with pytest.raises(DataError, match="the valid split has no labels"):
        judge(Rows([1.0], None))
    with pytest.raises(RecrunError, match=r"NaN.* valid split"):
        judge(Rows([np.nan, 1.0], [0, 1]))


def test_predictions_are_probabilities_and_values_and_need_no_labels():
    rows = Rows([[0.0, -3.25], [np.log(3), 1e-9], [-200.0, 7.0]], None, (CLICK, DWELL))
    lines = list(RowMetrics(batch_size=2).predict(Logits(), rows, "test", CPU))
    assert lines == ["row0\t0.5\t-3.25", "row1\t0.75\t1e-09", "row2\t1.383897e-87\t7"]
