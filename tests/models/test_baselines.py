"""Baselines without parameters of their own give the same metrics whatever makes their batches."""

import numpy as np
import pytest
import torch
from worlds.events import event_data, raw_events

from recrun.data.events import splits
from recrun.data.loaders.histories import Histories
from recrun.data.loaders.pairs import Pairs
from recrun.data.loaders.session_parallel import SessionParallel
from recrun.data.loaders.user_rows import UserRows
from recrun.evaluation.full_ranking import FullRanking
from recrun.evaluation.next_item import NextItem
from recrun.models.popularity import Popularity
from recrun.models.random_scores import RandomScores
from recrun.runtime.device import Device

N_ITEMS = 15
CPU = Device.named("cpu", "fp32")
LOADERS = (UserRows(), Histories(his_size=4), SessionParallel(num_negatives=3), Pairs())
EVALUATORS = (FullRanking(("ndcg", "recall"), (1, 5), monitor="ndcg@5"), NextItem(ks=(1, 5), monitor="recall@5"))


def log():
    rng = np.random.default_rng(0)
    pairs = [(unit, item) for unit in range(20) for item in rng.permutation(N_ITEMS)[: rng.integers(4, 9)].tolist()]
    return raw_events(pairs, range(len(pairs)))


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("split", [splits.Random(), splits.LeaveLastOut(), splits.Strong(0.2, min_events=2)])
@pytest.mark.parametrize("make", [Popularity, RandomScores])
def test_metrics_are_the_same_through_every_loader(make, split, evaluator):
    found = []
    for loader in LOADERS:
        data = event_data(log(), split, loader, evaluator=evaluator)
        model = make(data.sizes["n_items"])
        model.solve(data.training_events())
        found.append(evaluator(model, data, "test", CPU))
    for other in found[1:]:
        assert other.metrics == found[0].metrics
        assert other.ids.tolist() == found[0].ids.tolist()
        for name, values in found[0].units.items():
            np.testing.assert_array_equal(other.units[name], values)


def test_popularity_counts_training_events():
    data = event_data(log(), splits.LeaveLastOut(), UserRows(), evaluator=EVALUATORS[0])
    model = Popularity(N_ITEMS)
    model.solve(data.training_events())
    counts = np.zeros(N_ITEMS)
    for item in data.log.train.items.tolist():
        counts[item] += 1
    assert model.counts.tolist() == counts.tolist()


def test_random_scores_are_uniform_and_depend_on_unit_item_and_seed():
    offsets = torch.arange(401)
    batch = {"user": torch.arange(400), "items": torch.zeros(400, dtype=torch.int64), "items_offsets": offsets}
    scores = RandomScores(500)(batch)
    assert 0 <= scores.min() < scores.max() < 1
    share = torch.histc(scores, 10, 0, 1) / scores.numel()
    assert (share - 0.1).abs().max() < 0.005  # 200,000 draws: six standard deviations are .004
    assert len(scores[0].unique()) > 495
    assert not torch.equal(scores[0], scores[1])
    assert not torch.equal(scores, RandomScores(500, seed=1)(batch))
    later = {"user": batch["user"][200:], "items": batch["items"][200:], "items_offsets": offsets[:201]}
    assert torch.equal(RandomScores(500)(later), scores[200:])
