"""Generalised binary cross-entropy, against the paper's formulas number by number."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from worlds.event_data import config_of

from recrun.errors import ConfigError
from recrun.objectives.candidates import GBCE, Pointwise


class Given(nn.Module):
    """Scores that are what they are."""

    def __init__(self, logits, n_items):
        super().__init__()
        self.logits, self.n_items = torch.tensor(logits), n_items

    def forward(self, batch):
        return self.logits


def batch_like(logits):
    label = torch.zeros(len(logits), len(logits[0]))
    label[:, 0] = 1
    return {"label": label, "user": torch.arange(len(logits))}


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@given(
    st.lists(st.lists(st.floats(-8, 8, width=32), min_size=4, max_size=4), min_size=1, max_size=5),
    st.floats(0, 1),
    st.integers(5, 1000),
)
def test_it_is_the_papers_loss(logits, t, n_items):
    alpha = 3 / (n_items - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    rows = [
        -(beta * math.log(sigmoid(row[0])) + sum(math.log(1 - sigmoid(score)) for score in row[1:])) / 4
        for row in logits
    ]
    found = GBCE(calibration=t)(Given(logits, n_items), batch_like(logits))["gbce"].item()
    assert found == pytest.approx(sum(rows) / len(rows), rel=1e-4, abs=1e-5)


def test_without_calibration_it_is_binary_cross_entropy():
    logits = [[0.3, -1.0, 2.0], [-0.5, 0.0, 0.1]]
    model, batch = Given(logits, 100), batch_like(logits)
    torch.testing.assert_close(GBCE(0.0)(model, batch)["gbce"], Pointwise()(model, batch)["pointwise"])


def test_fully_calibrated_the_best_score_is_the_items_probability():
    """An item is right in a share p of the queries, and drawn with chance k / (n - 1) in the others."""
    p, k, n = 0.03, 4, 101
    score = torch.tensor(0.0, requires_grad=True)
    optimizer = torch.optim.LBFGS([score], max_iter=100)

    def loss():
        optimizer.zero_grad()
        power = 1 - (1 - k / (n - 1))
        right, drawn = p, (1 - p) * k / (n - 1)
        value = right * power * nn.functional.softplus(-score) + drawn * nn.functional.softplus(score)
        value.backward()
        return value

    optimizer.step(loss)
    assert torch.sigmoid(score).item() == pytest.approx(p, rel=1e-3)


def test_it_stays_finite_for_great_scores():
    logits = [[-200.0, 200.0, 0.0]]
    assert GBCE()(Given(logits, 10), batch_like(logits))["gbce"].isfinite()


def test_negatives_that_are_not_uniform_are_refused():
    with pytest.raises(ConfigError, match=r"objective=gbce does not go with loader\.sampler=popularity"):
        config_of("model=sasrec", "dataset=synthetic_histories", "objective=gbce", "loader.sampler=popularity")
