"""Lists of another program in place of a model's rankings: values by hand, and those of full ranking itself."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.events import event_data, lists, ratings, raw_events, write_ratings

from recrun.data.events import splits
from recrun.data.ragged import Ragged
from recrun.evaluation.full_ranking import FullRanking
from recrun.evaluation.lists import UNKNOWN, evaluate_lists
from recrun.runtime.device import Device

# u has taken a, b, c and then d (valid) and e (test); v has a, c, b, then e and d
EVENTS = [("u", item) for item in "abcde"] + [("v", item) for item in "acbed"]


def data(evaluator):
    return event_data(
        raw_events(EVENTS, range(10)), splits.LeaveLastOut(), evaluator=evaluator, filters={"repeats": "keep"}
    )


def ragged(rows):
    return Ragged.of_lengths(np.array([len(row) for row in rows]), np.array(list(chain.from_iterable(rows)), np.int64))


def test_values_by_hand():
    keys = FullRanking(metrics=["recall", "mrr", "coverage"], ks=[1, 2], monitor="recall@2", mask_seen=False)
    found, counts = evaluate_lists(keys, data(keys), "test", ragged([[UNKNOWN, 4, 3]]), {"u": 0})
    assert found.ids.tolist() == ["u", "v"]
    assert found.units["recall@1"].tolist() == [0, 0]  # the first rank is taken by an item that is unknown
    assert found.units["recall@2"].tolist() == [1, 0]  # v has no list
    assert found.units["mrr@2"].tolist() == [0.5, 0]
    assert found.metrics["coverage@2"] == 1 / 5
    assert (counts.units, counts.units_without_list, counts.short_lists, counts.seen_items) == (2, 1, 1, 0)


def test_seen_items_leave_the_list_as_they_leave_a_ranking():
    keys = FullRanking(metrics=["mrr"], ks=[2], monitor="mrr@2")
    found, counts = evaluate_lists(keys, data(keys), "test", ragged([[0, 3, 4], [3]]), {"u": 0, "v": 1})
    assert found.units["mrr@2"].tolist() == [1, 1]
    assert counts.seen_items == 2
    assert counts.short_lists == 2  # one item of two is left to each


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(["valid", "test"]))
@settings(max_examples=25, deadline=None)
def test_the_lists_of_a_model_have_its_metrics(tmp_path_factory, seed, mask_seen, split):
    path = write_ratings(tmp_path_factory.mktemp("log") / "r.csv", ratings(seed=seed % 7))
    keys = FullRanking(
        metrics=["recall", "calibrated_recall", "precision", "hit", "mrr", "map", "ndcg", "coverage"],
        ks=[1, 3, 20],
        monitor="ndcg@3",
        mask_seen=mask_seen,
    )
    dataset = event_data(path, splits.Random(), evaluator=keys, filters={"repeats": "first"})
    table = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(dataset.log.units), 15))).float()

    class Scores(torch.nn.Module):
        def forward(self, batch):
            return table[batch["user"], : dataset.sizes["n_items"]].clone()

    expected = keys(Scores(), dataset, split, Device.named("cpu", "fp32"))
    ranked = table[:, : dataset.sizes["n_items"]].argsort(1, descending=True).tolist()
    list_of = {str(name): at for at, name in enumerate(dataset.log.units.tolist())}
    found, _ = evaluate_lists(keys, dataset, split, ragged(ranked), list_of)
    assert found.metrics == pytest.approx(expected.metrics, abs=1e-12)
    assert found.ids.tolist() == expected.ids.tolist()
    for name, values in expected.units.items():
        assert found.units[name] == pytest.approx(values, abs=1e-12)


def test_the_limit_is_that_of_the_evaluator():
    keys = FullRanking(metrics=["recall"], ks=[1], monitor="recall@1")
    keys.batch_size = lambda n_items: 1
    found, counts = evaluate_lists(keys, data(keys), "test", ragged([[4]]), {"u": 0}, limit=1)
    assert found.ids.tolist() == ["u"]
    assert counts.units == 1
    assert lists(ragged([[4]])) == [[4]]
