"""Next-item evaluation against literal ranking; the same for every order and batch size."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from worlds.sessions import random_sessions, sessions_of

from recrun.errors import DataError
from recrun.evaluation import next_item
from recrun.evaluation.metrics import lower_is_better
from recrun.evaluation.next_item import NextItem, harmonic, ranks
from recrun.models.gru4rec import GRU4Rec
from recrun.runtime.device import Device

CPU = Device(torch.device("cpu"))


class Fixed:
    """A model whose score of an item depends on the item before alone: a row of a table."""

    def __init__(self, table) -> None:
        self.table = table

    def eval(self):
        return self

    def encode(self, batch):
        return torch.nn.functional.one_hot(batch["items"], len(self.table)).float()

    def embed_users(self, batch):
        return self.encode(batch)[batch["items_offsets"][1:] - 1]

    def score(self, hidden):
        return hidden @ self.table


def literal(table, sessions, ties):
    """ProcessGroup by counting, one event after another."""
    found = []
    for session in sessions:
        for before, target in pairwise(session):
            scores = [float(score) for score in table[before]]
            better = sum(score > scores[target] for score in scores)
            equal = sum(score == scores[target] for score in scores) - 1
            found.append(1 + better + {"conservative": equal, "standard": 0, "median": equal / 2}[ties])
    return np.array(found)


def test_scores_that_16_bits_cannot_tell_apart_do_not_tie_in_bf16():
    sessions = random_sessions(30, 12)
    table = 1 + torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) / 1000
    data, judge = sessions_of(sessions, test=sessions), NextItem(["mrr"], [5], "conservative")
    one, other = (judge(Fixed(table), data, "test", Device(CPU.torch, precision)) for precision in ("bf16", "fp32"))
    assert one.metrics == other.metrics
    lines = list(judge.predict(Fixed(table), data, "test", Device(CPU.torch, "bf16")))
    assert lines == list(judge.predict(Fixed(table), data, "test", CPU))


@pytest.mark.parametrize("ties", ["conservative", "standard", "median"])
def test_every_event_is_ranked_among_all_items(ties):
    sessions = random_sessions(30, 12)
    table = torch.randint(0, 4, (12, 12), generator=torch.Generator().manual_seed(0)).float()  # many ties
    data = sessions_of(sessions, test=sessions)
    judge = NextItem(["recall", "mrr", "ndcg", "precision", "warp"], [1, 3, 5], ties)
    found = judge(Fixed(table), data, "test", CPU)
    rank = literal(table, sessions, ties)
    assert len(rank) == sum(map(len, sessions)) - len(sessions) == len(found.ids) == len(set(found.ids))
    for k in (1, 3, 5):
        hit = rank <= k
        np.testing.assert_allclose(found.units[f"recall@{k}"], hit)
        np.testing.assert_allclose(found.units[f"mrr@{k}"], hit / rank)
        np.testing.assert_allclose(found.units[f"ndcg@{k}"], hit / np.log2(rank + 1))
        np.testing.assert_allclose(found.units[f"precision@{k}"], hit / k)
        assert found.metrics[f"recall@{k}"] == pytest.approx(hit.mean())
    np.testing.assert_allclose(found.units["warp"], [sum(1 / r for r in range(1, int(n))) for n in rank])


def test_bpr_is_the_mean_over_the_other_items():
    data = sessions_of([[0, 1, 2]], test=[[0, 2]])
    table = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = NextItem(["bpr"], [1])(Fixed(table), data, "test", CPU).metrics["bpr"]
    assert found == pytest.approx((math.log(1 + math.exp(0.5)) + math.log(1 + math.exp(1.5))) / 2)
    assert lower_is_better("bpr")
    assert lower_is_better("warp")


def test_ranks_do_not_depend_on_batch_size_memory_or_order(monkeypatch):
    sessions = random_sessions(80, 50, seed=3)
    torch.manual_seed(0)
    model = GRU4Rec(50, layers=[16])
    with torch.no_grad():
        model.output[10:20] = model.output[20:30]  # equal scores
    rng = np.random.default_rng(0)
    expected = None
    for at_once, rows in ((4096, 4096), (1, 4096), (7, 1), (16, 13)):
        monkeypatch.setattr(next_item, "SESSIONS_AT_ONCE", at_once)
        monkeypatch.setattr(next_item, "MB", 4 * 50 * rows)
        order = rng.permutation(len(sessions)) if expected else np.arange(len(sessions))
        data = sessions_of(sessions, test=[sessions[at] for at in order])
        found = NextItem(["mrr"], [50], memory_mb=1)(model, data, "test", CPU)
        number = {str(len(sessions) + place): at for place, at in enumerate(order)}
        names = [(number[name.split(":")[0]], name.split(":")[1]) for name in found.ids]
        values = dict(zip(names, found.units["mrr@50"].tolist(), strict=True))
        expected = expected or values
        assert values == expected


def test_a_session_is_judged_from_an_empty_state():
    """What was read before, in training or in another session, leaves no trace."""
    sessions = random_sessions(10, 9)
    torch.manual_seed(0)
    model = GRU4Rec(9, layers=[6])
    data = sessions_of(sessions, test=sessions)
    before = NextItem(["mrr"], [9])(model, data, "test", CPU).units["mrr@9"]
    for batch in data.train_batches(3, np.random.default_rng(0)):
        model.advance(batch)
    after = NextItem(["mrr"], [9])(model, data, "test", CPU).units["mrr@9"]
    np.testing.assert_array_equal(before, after)


def test_scores_that_are_no_numbers_rank_last():
    scores = torch.tensor([[1.0, math.nan, 0.0]])
    for ties in ("conservative", "standard", "median"):
        assert ranks(scores, torch.tensor([[1]]), ties).item() == 3


def test_harmonic():
    np.testing.assert_allclose(harmonic(np.array([0.0, 1.0, 2.5, 3.0])), [0, 1, 1.5, 1.5 + 1 / 3])


def test_a_part_without_events_is_told():
    with pytest.raises(DataError, match="no event to predict"):
        NextItem()(Fixed(torch.zeros(2, 2)), sessions_of([[0, 1]]), "test", CPU)


def test_a_limit_takes_the_first_batches(monkeypatch):
    monkeypatch.setattr(next_item, "SESSIONS_AT_ONCE", 2)
    sessions = random_sessions(9, 6)
    data = sessions_of(sessions, test=sessions)
    found = NextItem(["mrr"], [3])(Fixed(torch.zeros(6, 6)), data, "test", CPU, limit=2)
    assert len(found.ids) == sum(len(session) - 1 for session in sessions[:4]) == len(found.units["mrr@3"])
