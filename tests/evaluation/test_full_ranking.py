"""Full ranking against brute force, in worlds small enough to check by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from recrun.errors import DataError
from recrun.evaluation.full_ranking import FullRanking
from recrun.runtime.device import Device


class Table(nn.Module):
    """Scores that are known in advance, one row per user."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.as_tensor(scores, dtype=torch.float32)

    def forward(self, batch):
        return self.scores[batch["user"]].clone()


class Held:
    """Users with seen and held-out items."""

    def __init__(self, n_items, seen, target):
        self.sizes, self.seen, self.target = {"n_items": n_items}, seen, target

    def eval_batches(self, split, batch_size):
        for start in range(0, len(self.seen), batch_size):
            batch = {"user": torch.arange(start, min(start + batch_size, len(self.seen)))}
            for name, lists in (("seen", self.seen), ("target", self.target)):
                part = lists[start : start + batch_size]
                batch[name] = torch.tensor([item for row in part for item in row], dtype=torch.int64)
                batch[f"{name}_offsets"] = torch.tensor([0, *np.cumsum([len(row) for row in part])])
            yield batch

    def units(self, split):
        return np.array([f"u{n}" for n in range(len(self.seen))])


CPU = Device(torch.device("cpu"))


def test_a_world_worked_out_by_hand():
    # user 0 ranks 2 1 3 0 and has seen 2: 1 3 0 remain, targets 3 and 0 -> ranks 2 and 3
    # user 1 ranks 0 1 2 3 and has seen nothing, target 0 -> rank 1
    model = Table([[0.1, 0.5, 0.9, 0.2], [0.9, 0.5, 0.3, 0.1]])
    data = Held(4, seen=[[2], []], target=[[3, 0], [0]])
    evaluator = FullRanking(["recall", "mrr", "coverage"], ks=[1, 2])
    found = evaluator(model, data, "test", CPU)
    assert found.metrics == pytest.approx(
        {
            "recall@1": 0.5,
            "recall@2": 0.75,
            "mrr@1": 0.5,
            "mrr@2": 0.75,
            "coverage@1": 2 / 4,
            "coverage@2": 3 / 4,
        }
    )
    assert list(found.ids) == ["u0", "u1"]
    assert found.units["recall@2"].tolist() == [0.5, 1.0]
    assert evaluator.names(data) == ["recall@1", "recall@2", "mrr@1", "mrr@2", "coverage@1", "coverage@2"]


@pytest.mark.parametrize("users", [1, 2, 7, 100])
def test_ties_go_to_the_lower_index_whatever_the_batch(monkeypatch, users):
    monkeypatch.setattr("recrun.evaluation.full_ranking.MOST_USERS", users)
    data = Held(50, seen=[[0]] * 7, target=[[1 + user] for user in range(7)])
    found = FullRanking(["mrr"], ks=[10])(Table(np.zeros((7, 50))), data, "valid", CPU)
    assert found.units["mrr@10"].tolist() == pytest.approx([1 / (1 + user) for user in range(7)])


def test_seen_items_are_never_recommended_even_when_nothing_else_is_left():
    data = Held(3, seen=[[0, 1]], target=[[2]])
    found = FullRanking(["precision", "coverage"], ks=[3])(Table([[3, 2, 1]]), data, "valid", CPU)
    assert found.metrics == pytest.approx({"precision@3": 1 / 3, "coverage@3": 1 / 3})


def test_a_limit_judges_the_first_batches_only():
    evaluator = FullRanking(["hit"], ks=[1], memory_mb=1)
    rows = evaluator.batch_size(100_000)
    data = Held(100_000, seen=[[]] * (rows + 3), target=[[5]] * (rows + 3))
    found = evaluator(Table(np.zeros((rows + 3, 100_000))), data, "valid", CPU, limit=1)
    assert len(found.ids) == len(found.units["hit@1"]) == rows


def test_nothing_to_judge_is_an_error():
    with pytest.raises(DataError, match="test part has no unit"):
        FullRanking()(Table([[1.0]]), Held(1, [], []), "test", CPU)
