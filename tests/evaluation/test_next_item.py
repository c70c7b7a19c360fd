"""Next-item evaluation against literal ranking; the same for every order and batch size."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.ranked import Held, LastItem, LastItemAtOnce, Table
from worlds.sessions import random_sessions, sessions_of

from recrun.errors import DataError
from recrun.evaluation import next_item
from recrun.evaluation.metrics import Metric
from recrun.evaluation.next_item import NextItem, harmonic, target_ranks
from recrun.models.gru4rec import GRU4Rec
from recrun.runtime.device import Device

CPU = Device(torch.device("cpu"))


def literal(table, sessions, ties):
    """Ranks by counting, one event after another."""
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
    data = sessions_of(sessions, test=sessions)
    evaluator = NextItem(["mrr"], [5], ties="conservative")
    one, other = (
        evaluator(LastItemAtOnce(table), data, "test", Device(CPU.torch, precision)) for precision in ("bf16", "fp32")
    )
    assert one.metrics == other.metrics
    lines = list(evaluator.predict(LastItemAtOnce(table), data, "test", Device(CPU.torch, "bf16")))
    assert lines == list(evaluator.predict(LastItemAtOnce(table), data, "test", CPU))


@pytest.mark.parametrize("ties", ["conservative", "standard", "median"])
def test_every_event_is_ranked_among_all_items(ties):
    sessions = random_sessions(30, 12)
    table = torch.randint(0, 4, (12, 12), generator=torch.Generator().manual_seed(0)).float()  # many ties
    data = sessions_of(sessions, test=sessions)
    evaluator = NextItem(["recall", "mrr", "ndcg", "precision", "warp"], [1, 3, 5], ties=ties)
    found = evaluator(LastItemAtOnce(table), data, "test", CPU)
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
    found = NextItem(["bpr"], [1])(LastItemAtOnce(table), data, "test", CPU).metrics["bpr"]
    assert found == pytest.approx((math.log(1 + math.exp(0.5)) + math.log(1 + math.exp(1.5))) / 2)
    assert not NextItem().greater_is_better("bpr")
    assert not NextItem().greater_is_better("warp")


def test_ranks_do_not_depend_on_batch_size_memory_or_order(monkeypatch):
    sessions = random_sessions(80, 50, seed=3)
    torch.manual_seed(0)
    model = GRU4Rec(50, layers=[16])
    with torch.no_grad():
        model.output[10:20] = model.output[20:30]  # equal scores
    rng = np.random.default_rng(0)
    expected = None
    for at_once, rows in ((4096, 4096), (1, 4096), (7, 1), (16, 13)):
        monkeypatch.setattr(next_item, "SEQUENCES_AT_ONCE", at_once)
        monkeypatch.setattr(next_item, "MB", 4 * 50 * rows)
        order = rng.permutation(len(sessions)) if expected else np.arange(len(sessions))
        data = sessions_of(sessions, test=[sessions[at] for at in order])
        found = NextItem(["mrr"], [50], memory_mb=1)(model, data, "test", CPU)
        number = {str(len(sessions) + place): at for place, at in enumerate(order)}
        names = [(number[name.split(":")[0]], name.split(":")[1]) for name in found.ids]
        values = dict(zip(names, found.units["mrr@50"].tolist(), strict=True))
        expected = expected or values
        assert values == expected


def test_a_session_is_evaluated_from_an_empty_state():
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
        assert target_ranks(scores, torch.tensor([[1]]), ties).item() == 3


def test_harmonic():
    np.testing.assert_allclose(harmonic(np.array([0.0, 1.0, 2.5, 3.0])), [0, 1, 1.5, 1.5 + 1 / 3])


def test_a_split_without_events_is_refused():
    with pytest.raises(DataError, match="no event to predict"):
        NextItem()(LastItemAtOnce(torch.zeros(2, 2)), sessions_of([[0, 1]]), "test", CPU)


def test_a_limit_takes_the_first_batches(monkeypatch):
    monkeypatch.setattr(next_item, "SEQUENCES_AT_ONCE", 2)
    sessions = random_sessions(9, 6)
    data = sessions_of(sessions, test=sessions)
    found = NextItem(["mrr"], [3])(LastItemAtOnce(torch.zeros(6, 6)), data, "test", CPU, limit=2)
    assert len(found.ids) == sum(len(session) - 1 for session in sessions[:4]) == len(found.units["mrr@3"])


def test_a_model_that_reads_beginnings_ranks_as_one_that_reads_sequences(monkeypatch):
    """Whatever the block of events; the values are those of the literal walk."""
    sessions = random_sessions(30, 12, seed=1)
    table = torch.randint(0, 4, (12, 12), generator=torch.Generator().manual_seed(1)).float()
    data, evaluator = sessions_of(sessions, test=sessions), NextItem(["mrr", "bpr"], [12], ties="median", memory_mb=1)
    whole = evaluator(LastItemAtOnce(table), data, "test", CPU)
    for rows in (4096, 1, 13):
        monkeypatch.setattr(next_item, "MB", 4 * 12 * rows)
        found = evaluator(LastItem(table), data, "test", CPU)
        assert found.ids.tolist() == whole.ids.tolist()
        np.testing.assert_array_equal(found.units["mrr@12"], whole.units["mrr@12"])
        np.testing.assert_allclose(found.units["bpr"], whole.units["bpr"], rtol=1e-6)
    np.testing.assert_allclose(whole.units["mrr@12"], 1 / literal(table, sessions, "median"))


def test_beginnings_grow_by_one_event_and_belong_to_their_unit():
    """What the model is given, event by event."""
    read = []

    class Noted(LastItem):
        def forward(self, batch):
            bounds = batch["items_offsets"].tolist()
            rows = [batch["items"][begin:end].tolist() for begin, end in pairwise(bounds)]
            read.extend(zip(batch["user"].tolist(), rows, strict=True))
            return super().forward(batch)

    data = sessions_of([[0, 1, 2, 3]], test=[[3, 1, 2], [0, 3]])
    found = NextItem(["mrr"], [4])(Noted(torch.zeros(4, 4)), data, "test", CPU)
    assert read == [(1, [3]), (1, [3, 1]), (2, [0])]
    assert found.ids.tolist() == ["1:2", "1:3", "2:2"]


def test_gru4rec_in_one_pass_equals_gru4rec_on_beginnings():
    sessions = random_sessions(25, 14, seed=5)
    torch.manual_seed(1)
    model = GRU4Rec(14, layers=[8, 5])
    data = sessions_of(sessions, test=sessions)
    once = NextItem(["mrr", "bpr"], [14])(model, data, "test", CPU)
    model.encodes_sequences = False
    beginnings = NextItem(["mrr", "bpr"], [14])(model, data, "test", CPU)
    assert beginnings.ids.tolist() == once.ids.tolist()
    np.testing.assert_array_equal(beginnings.units["mrr@14"], once.units["mrr@14"])
    np.testing.assert_allclose(beginnings.units["bpr"], once.units["bpr"], rtol=1e-5)


@pytest.mark.parametrize("model_of", [LastItem, LastItemAtOnce])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_seen_items_are_left_out_if_asked(model_of, seed):
    """Events whose target is among the items before it are left out too; the others are ranked without these."""
    rng = np.random.default_rng(seed)
    n_items = int(rng.integers(2, 7))
    sessions = [rng.integers(0, n_items, rng.integers(2, 6)).tolist() for _ in range(4)]
    table = torch.from_numpy(rng.integers(0, 4, (n_items, n_items)).astype(np.float32))
    data = sessions_of([[*range(n_items)]], test=sessions)
    ids, expected = [], []
    for number, session in enumerate(sessions, 1):
        for at in range(1, len(session)):
            before, target = session[:at], session[at]
            if target in before:
                continue
            row = table[before[-1]].tolist()
            others = [row[item] for item in range(n_items) if item not in before and item != target]
            ids.append(f"{number}:{at + 1}")
            expected.append(1 + sum(score >= row[target] for score in others))
    evaluator = NextItem(["mrr"], [n_items], mask_seen=True)
    if not ids:
        with pytest.raises(DataError, match="no event to predict"):
            evaluator(model_of(table), data, "test", CPU)
        return
    found = evaluator(model_of(table), data, "test", CPU)
    assert found.ids.tolist() == ids
    np.testing.assert_allclose(1 / found.units["mrr@" + str(n_items)], expected)


def test_predictions_leave_out_what_was_seen_if_asked():
    data = Held(4, [[0, 2], [3]], [[1], [1]])
    model = Table([[4.0, 3, 2, 1], [1, 2, 3, 4]])
    assert list(NextItem(ks=[2]).predict(model, data, "test", CPU)) == [
        *("u0\ti0\t1\t4", "u0\ti1\t2\t3"),
        *("u1\ti3\t1\t4", "u1\ti2\t2\t3"),
    ]
    assert list(NextItem(ks=[2], mask_seen=True).predict(model, data, "test", CPU)) == [
        *("u0\ti1\t1\t3", "u0\ti3\t2\t1"),
        *("u1\ti2\t1\t3", "u1\ti1\t2\t2"),
    ]


def test_valid_sample_takes_the_same_sequences_each_time_with_all_their_events():
    sessions = random_sessions(40, 9, seed=2)
    data = sessions_of([[*range(9)]], valid=sessions, test=sessions)
    evaluator, model = NextItem(["mrr"], [9], valid_sample=6), LastItemAtOnce(torch.rand(9, 9))
    one, other = (evaluator(some, data, "valid", CPU) for some in (model, LastItem(torch.zeros(9, 9))))
    assert one.ids.tolist() == other.ids.tolist()
    chosen = sorted({int(name.split(":")[0]) for name in one.ids})
    assert len(chosen) == 6
    assert one.ids.tolist() == [f"{n}:{at}" for n in chosen for at in range(2, len(sessions[n - 1]) + 1)]
    whole = NextItem(["mrr"], [9])(model, data, "valid", CPU)
    mine = np.isin(whole.ids.astype(str), one.ids.astype(str))
    np.testing.assert_array_equal(whole.units["mrr@9"][mine], one.units["mrr@9"])
    assert len(evaluator(model, data, "test", CPU).ids) == len(whole.ids)


def test_a_metric_of_ones_own_gets_ranks():
    def late(rank, k):
        return rank - k

    own = {"late": Metric(late, greater_is_better=False)}
    evaluator = NextItem(["recall"], [1, 2], own_metrics=own)
    found = evaluator(Table([[1.0, 3, 2], [3, 2, 1]]), Held(3, [[0], [0]], [[1], [2]]), "test", CPU)
    assert found.units["late@1"].tolist() == [0, 2]
    assert found.metrics == {"recall@1": 0.5, "recall@2": 0.5, "late@1": 1.0, "late@2": 0.0}
    assert evaluator.names(None) == ["recall@1", "recall@2", "late@1", "late@2"]
    assert not evaluator.greater_is_better("late@2")
