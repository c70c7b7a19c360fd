"""Full ranking against brute force, in worlds small enough to check by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.events import event_data, raw_events
from worlds.ranked import Held, LastItem, Table

from recrun.data.events.splits import LeaveLastOut
from recrun.data.loaders.histories import Histories
from recrun.errors import DataError
from recrun.evaluation.full_ranking import FullRanking
from recrun.evaluation.metrics import Metric
from recrun.runtime.device import Device

CPU = Device(torch.device("cpu"))


def test_a_world_worked_out_by_hand():
    # user 0 ranks 2 1 3 0 and has seen 2: 1 3 0 remain, targets 3 and 0 -> ranks 2 and 3
    # user 1 ranks 0 1 2 3 and has seen nothing, target 0 -> rank 1
    model = Table([[0.1, 0.5, 0.9, 0.2], [0.9, 0.5, 0.3, 0.1]])
    data = Held(4, [[2], []], [[3, 0], [0]])
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
    monkeypatch.setattr("recrun.evaluation.full_ranking.MOST_UNITS", users)
    data = Held(50, [[0]] * 7, [[1 + user] for user in range(7)])
    found = FullRanking(["mrr"], ks=[10])(Table(np.zeros((7, 50))), data, "valid", CPU)
    assert found.units["mrr@10"].tolist() == pytest.approx([1 / (1 + user) for user in range(7)])


def test_seen_items_are_never_recommended_even_when_nothing_else_is_left():
    data = Held(3, [[0, 1]], [[2]])
    found = FullRanking(["precision", "coverage"], ks=[3])(Table([[3, 2, 1]]), data, "valid", CPU)
    assert found.metrics == pytest.approx({"precision@3": 1 / 3, "coverage@3": 1 / 3})


def test_a_limit_evaluates_the_first_batches_only():
    evaluator = FullRanking(["hit"], ks=[1], memory_mb=1)
    rows = evaluator.batch_size(100_000)
    data = Held(100_000, [[]] * (rows + 3), [[5]] * (rows + 3))
    found = evaluator(Table(np.zeros((rows + 3, 100_000))), data, "valid", CPU, limit=1)
    assert len(found.ids) == len(found.units["hit@1"]) == rows


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(DataError, match="test split has no unit"):
        FullRanking()(Table([[1.0]]), Held(1, [], []), "test", CPU)


def brute_force(scores, inputs, seen, targets, k, mask_seen):
    """Recall, MRR and the ids of the units that have something to find, one unit after another."""
    recall, mrr, ids = [], [], []
    for unit, (row, known, wanted) in enumerate(zip(scores, seen, targets, strict=True)):
        allowed = [item for item in range(len(row)) if not (mask_seen and item in known)]
        wanted = [item for item in set(wanted) if item in allowed]
        if not wanted:
            continue
        order = sorted(allowed, key=lambda item: (-float(row[item]), item))[:k]
        hits = [item in wanted for item in order]
        recall.append(sum(hits) / len(wanted))
        mrr.append(1 / (1 + hits.index(True)) if True in hits else 0.0)
        ids.append(f"u{unit}")
    return recall, mrr, ids


@pytest.mark.parametrize("mask_seen", [True, False])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_seen_items_are_left_out_or_not(mask_seen, seed):
    """Targets among them too: a unit that has seen all of its targets is not evaluated."""
    rng = np.random.default_rng(seed)
    n_items, n_units = int(rng.integers(2, 9)), int(rng.integers(1, 7))
    scores = rng.integers(0, 4, (n_units, n_items)).astype(float)  # ties
    inputs = [rng.integers(0, n_items, rng.integers(1, 4)).tolist() for _ in range(n_units)]
    seen = [[*row, *rng.integers(0, n_items, rng.integers(0, 2)).tolist()] for row in inputs]
    targets = [np.unique(rng.integers(0, n_items, rng.integers(1, 4))).tolist() for _ in range(n_units)]
    recall, mrr, ids = brute_force(scores, inputs, seen, targets, 3, mask_seen)
    evaluator, data = FullRanking(["recall", "mrr"], [3], mask_seen=mask_seen), Held(n_items, inputs, targets, seen)
    if not ids:
        with pytest.raises(DataError, match=r"evaluator\.mask_seen=false ranks items that were seen before"):
            evaluator(Table(scores), data, "test", CPU)
        return
    found = evaluator(Table(scores), data, "test", CPU)
    assert found.ids.tolist() == ids
    assert found.units["recall@3"].tolist() == pytest.approx(recall)
    assert found.units["mrr@3"].tolist() == pytest.approx(mrr)


def test_targets_that_were_seen_are_counted(caplog):
    caplog.set_level("INFO")
    data = Held(4, [[0], [1]], [[0, 3], [1]])
    found = FullRanking(["recall"], [4])(Table(np.zeros((2, 4))), data, "test", CPU)
    assert found.ids.tolist() == ["u0"]
    assert found.metrics == {"recall@4": 1.0}
    assert "2 targets of the test split are left out: their units have seen them" in caplog.text


def test_validation_items_are_seen_at_test_time_and_not_before():
    """u takes a b c d: at test time c is left out, whether or not it is input; at validation time d could be found."""
    made = event_data(
        raw_events([("u", item) for item in "abcd"], times=range(4)),
        LeaveLastOut(test_input="train"),
        Histories(his_size=9),
        FullRanking(["mrr"], [4]),
    )
    table = torch.tensor([[0.0, 0, 0, 0], [9, 2, 3, 4], [4, 3, 2, 1], [0, 0, 0, 0]])  # of an item, given the one before
    valid = made.evaluator(LastItem(table), made, "valid", CPU)
    assert valid.metrics == {"mrr@4": 1 / 2}, "d scores 4, c scores 3; a and b were seen"
    test = made.evaluator(LastItem(table), made, "test", CPU)
    assert test.metrics == {"mrr@4": 1.0}, "the input ends with b; c was seen, which leaves d alone"
    assert FullRanking(["mrr"], [4], mask_seen=False)(LastItem(table), made, "valid", CPU).metrics == {"mrr@4": 1 / 3}


class TestOwnMetrics:
    """A function of rankings: a value per unit, or one for all."""

    # u0 has seen 2: 1 3 0 are left, its targets 3 and 0. u1 ranks 0 1 2 3, its target 0
    model = Table([[0.1, 0.5, 0.9, 0.2], [0.9, 0.5, 0.3, 0.1]])
    data = Held(4, [[2], []], [[3, 0], [0]])

    def found(self, own, ks=(1, 2), **keys):
        return FullRanking(["hit"], ks, own_metrics=own, **keys)(self.model, self.data, "test", CPU)

    def test_over_units(self):
        def misses(ranking, k):
            return (~ranking.hits_BK[:, :k]).sum(1)

        found = self.found({"misses": Metric(misses, greater_is_better=False)})
        assert found.units["misses@1"].tolist() == [1, 0]
        assert found.units["misses@2"].tolist() == [1, 1]
        assert found.metrics == {"hit@1": 0.5, "hit@2": 1, "misses@1": 0.5, "misses@2": 1}

    def test_over_the_catalogue_it_sees_all_units_at_once(self, monkeypatch):
        """Also where they were ranked in several batches; item i has i training events here."""

        def mean_count(ranking, k):
            shown = ranking.top_BK[:, :k].unique()
            return ranking.item_counts_I[shown[shown >= 0]].double().mean()

        own = {"count": Metric(mean_count, over="catalogue")}
        expected = {"hit@1": 0.5, "hit@4": 1, "count@1": (1 + 0) / 2, "count@4": (0 + 1 + 2 + 3) / 4}
        for at_once in (4096, 1):
            monkeypatch.setattr("recrun.evaluation.full_ranking.MOST_UNITS", at_once)
            found = self.found(own, ks=(1, 4))
            assert found.metrics == expected
            assert "count@1" not in found.units

    def test_both_together_with_the_numbers_of_the_data(self):
        seen = {}

        def look(ranking, k):
            seen[k] = (ranking.n_items, ranking.top_BK.tolist(), ranking.relevant_B.tolist())
            return torch.zeros(len(ranking.relevant_B))

        found = self.found({"zero": Metric(look), "none": Metric(lambda ranking, k: k, over="catalogue")}, ks=(4,))
        assert seen == {4: (4, [[1, 3, 0, -1], [0, 1, 2, 3]], [2, 1])}
        assert found.metrics == {"hit@4": 1.0, "zero@4": 0.0, "none@4": 4.0}

    def test_they_are_among_the_names_and_say_their_direction(self):
        own = {"misses": Metric(len, greater_is_better=False), "reach": Metric(len, over="catalogue")}
        evaluator = FullRanking(["ndcg"], [5], own_metrics=own)
        assert evaluator.names(self.data) == ["ndcg@5", "misses@5", "reach@5"]
        assert [evaluator.greater_is_better(name) for name in evaluator.names(self.data)] == [True, False, True]


class TestValidSample:
    def test_the_same_units_each_time_and_only_for_validation(self):
        data = Held(5, [[0]] * 40, [[1]] * 40)
        evaluator = FullRanking(["hit"], [1], valid_sample=7)
        one, other = (evaluator(Table(np.zeros((40, 5))), data, "valid", CPU) for _ in range(2))
        assert len(set(one.ids)) == 7
        assert one.ids.tolist() == other.ids.tolist() == sorted(one.ids, key=lambda name: int(name[1:]))
        again = FullRanking(["mrr"], [3], valid_sample=7)(Table(np.ones((40, 5))), data, "valid", CPU)
        assert again.ids.tolist() == one.ids.tolist(), "whatever the model and the metrics"
        assert len(evaluator(Table(np.zeros((40, 5))), data, "test", CPU).ids) == 40

    @pytest.mark.parametrize("size", [40, 41])
    def test_no_fewer_units_than_that_are_all_of_them(self, size):
        data = Held(5, [[0]] * 40, [[1]] * 40)
        found = FullRanking(["hit"], [1], valid_sample=size)(Table(np.zeros((40, 5))), data, "valid", CPU)
        assert found.ids.tolist() == data.ids.tolist()
