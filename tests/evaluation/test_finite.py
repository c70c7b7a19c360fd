"""Scores that are no numbers: refused where there is nothing else, last and counted beside numbers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from recrun.errors import RecrunError
from recrun.evaluation.finite import NaNLast
from recrun.evaluation.full_ranking import FullRanking
from recrun.evaluation.next_item import NextItem
from recrun.runtime.device import Device

CPU = Device(torch.device("cpu"))
NAN, INF = math.nan, math.inf


class Given(nn.Module):
    """Scores that were decided in advance."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, batch):
        return self.scores.clone()

    def encode(self, batch):
        return self.scores.clone()

    def embed_users(self, batch):
        return self.scores.clone()

    def score(self, hidden):
        return hidden.clone()


class Users:
    """Two users of four items; item 3 is what both look for, and the first has seen item 0."""

    sizes = {"n_items": 4}

    def eval_batches(self, split, batch_size):
        yield {
            "seen": torch.tensor([0]),
            "seen_offsets": torch.tensor([0, 1, 1]),
            "target": torch.tensor([3, 3]),
            "target_offsets": torch.tensor([0, 1, 2]),
        }

    def units(self, split):
        return np.array(["u", "v"])

    def vocabulary(self):
        return {"items": np.array(list("abcd"))}


class Events(Users):
    def eval_batches(self, split, batch_size):
        yield {"judged": torch.tensor([True, True]), "target": torch.tensor([3, 3])}

    def entities(self, side, split):
        yield self.units(split), {}


EVALUATORS = [(FullRanking(["recall", "mrr"], [1, 4]), Users()), (NextItem(["recall", "mrr"], [1, 4]), Events())]


@pytest.mark.parametrize(("evaluator", "data"), EVALUATORS, ids=["full_ranking", "next_item"])
@pytest.mark.parametrize("bad", [[NAN] * 4, [INF] * 4, [NAN, INF, -INF, NAN]])
def test_a_unit_without_a_finite_score_is_refused(evaluator, data, bad):
    model = Given([[0.1, 0.2, 0.3, 0.4], bad])
    with pytest.raises(RecrunError, match=r"no numbers \(NaN or infinite\) on the test part.*lower lr") as told:
        evaluator(model, data, "test", CPU)
    assert "\n" not in str(told.value)
    with pytest.raises(RecrunError, match="no numbers"):
        list(evaluator.predict(model, data, "test", CPU))


@pytest.mark.parametrize(("evaluator", "data"), EVALUATORS, ids=["full_ranking", "next_item"])
def test_beside_numbers_nan_ranks_last_and_is_counted(evaluator, data, caplog):
    """A target above two NaN is first; one that is NaN comes after all numbers, also very small ones."""
    model = Given([[0.5, NAN, NAN, 0.6], [-1e30, 0.2, 0.3, NAN]])
    found = evaluator(model, data, "valid", CPU)
    assert found.units["recall@1"].tolist() == [1, 0]
    assert found.units["recall@4"].tolist() == [1, 1]
    assert found.units["mrr@4"].tolist() == [1, 1 / 4]
    assert "3 scores are no numbers (NaN) on the valid part; they rank last" in caplog.text


def test_finite_scores_come_out_as_they_are(caplog):
    scores, huge = torch.rand(3, 5), torch.full((2, 3), 3e38)
    check = NaNLast("x")
    assert check(scores) is scores
    assert check(huge) is huge
    check.warn()
    assert not caplog.text
