"""Pairs and their negatives."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from worlds.event_data import data_of, file_of

from recrun.errors import ConfigError, DataError

SETS = [np.random.default_rng(unit).permutation(20)[: 3 + unit % 7].tolist() for unit in range(30)]
SPLIT = ["model=bpr_mf", "split=random", "split.valid_fraction=0.1", "split.test_fraction=0.2"]


@pytest.fixture
def data(tmp_path):
    return data_of(file_of(tmp_path, SETS), *SPLIT, "loader.num_negatives=3")[0]


def epoch_of(data, size=16, seed=0, **keys):
    return list(data.train_batches(size, np.random.default_rng(seed), **keys))


def positives_of(data):
    train = data.log.train
    return set(zip(train.rows().tolist(), train.items.tolist(), strict=True))


def test_every_training_pair_comes_once_and_in_another_order_each_epoch(data):
    first, second = epoch_of(data), epoch_of(data, seed=1)
    pairs = [
        [pair for batch in epoch for pair in zip(batch["user"].tolist(), batch["target"].tolist(), strict=True)]
        for epoch in (first, second)
    ]
    assert sorted(pairs[0]) == sorted(pairs[1]) == sorted(positives_of(data))
    assert pairs[0] != pairs[1]
    assert data.train_size() == len(pairs[0])
    assert data.train_steps(16) == len(first)
    assert data.train_unit == "pairs"


def test_users_can_be_drawn_alike_and_then_one_of_their_items(tmp_path):
    words = ["objective=in_batch", "loader.sampling=users", "loader.negatives=batch", "loader.num_negatives=3"]
    data, _ = data_of(file_of(tmp_path, SETS), *SPLIT, *words)
    epochs = [epoch_of(data, seed=seed) for seed in range(200)]
    assert all(sum(len(batch["user"]) for batch in epoch) == data.train_size() for epoch in epochs)
    drawn = Counter(
        pair
        for epoch in epochs
        for batch in epoch
        for pair in zip(batch["user"].tolist(), batch["target"].tolist(), strict=True)
    )
    taken = positives_of(data)
    length = Counter(user for user, _ in taken)
    expected = {(user, item): 1 / len(length) / length[user] for user, item in taken}
    assert drawn.keys() == taken
    fit = chisquare([drawn[pair] for pair in expected], [share * drawn.total() for share in expected.values()])
    assert fit.pvalue > 1e-3
    share = np.zeros(len(data.log.items))
    for (_, item), value in expected.items():
        share[item] += value
    batch = epochs[0][0]
    n_others = len(batch["user"]) - 1
    assert batch["in_batch_expected"].numpy() == pytest.approx(n_others * share[batch["columns"].numpy()], rel=1e-6)


def test_a_candidate_is_the_target_or_an_item_that_the_user_did_not_take(data):
    taken = positives_of(data)
    for batch in epoch_of(data):
        items = batch["columns"][batch["candidates"]]
        assert torch.equal(items[:, 0], batch["target"])
        assert items.shape == (len(batch["user"]), 4)
        assert torch.equal(batch["label"], torch.tensor([1.0, 0, 0, 0]).expand(len(items), 4))
        pairs = zip(batch["user"].repeat_interleave(3).tolist(), items[:, 1:].flatten().tolist(), strict=True)
        assert taken.isdisjoint(pairs)
        assert torch.equal(batch["columns"], batch["columns"].unique())


def test_negatives_are_drawn_in_proportion_to_popularity(tmp_path):
    words = ["loader.sampler=popularity", "loader.sample_alpha=1", "loader.avoid_positives=false"]
    data, _ = data_of(file_of(tmp_path, SETS), *SPLIT, *words, "loader.num_negatives=15")
    batches = [batch for seed in range(20) for batch in epoch_of(data, seed=seed)]
    drawn = torch.cat([batch["columns"][batch["candidates"][:, 1:]].flatten() for batch in batches])
    share = data.item_counts() / data.item_counts().sum()
    error = np.sqrt(share * (1 - share) / len(drawn))
    assert (abs(np.bincount(drawn, minlength=20) / len(drawn) - share) < 5 * error + 1e-9).all()


def test_an_epoch_goes_on_where_it_stopped(data):
    whole, rest = epoch_of(data), epoch_of(data, start=3)
    assert len(rest) == len(whole) - 3
    for one, other in zip(whole[3:], rest, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_parts_of_a_batch_hold_together_what_the_whole_holds(data):
    whole = epoch_of(data, 16)
    parts = [epoch_of(data, 8, start=rank, stride=2) for rank in (0, 1)]
    for at, batch in enumerate(whole):
        both = [part[at] for part in parts if at < len(part)]
        items = torch.cat([b["columns"][b["candidates"]] for b in both])
        assert torch.equal(items, batch["columns"][batch["candidates"]])
        assert torch.equal(torch.cat([b["user"] for b in both]), batch["user"])


def test_a_repeated_event_is_one_pair(tmp_path):
    path = file_of(tmp_path, [items + items[:1] for items in SETS])
    data, _ = data_of(path, *SPLIT, "dataset.filters.repeats=keep")
    assert data.train_size() == len(positives_of(data)) < len(data.log.train.items)


def test_shared_negatives_say_whose_items_they_are(tmp_path):
    words = ["objective=in_batch", "loader.negatives=batch", "loader.num_negatives=8"]
    data, _ = data_of(file_of(tmp_path, SETS), *SPLIT, *words)
    taken = positives_of(data)
    for batch in epoch_of(data):
        assert torch.equal(batch["columns"][batch["column"]], batch["target"])
        assert float(batch["sampled"].sum()) == 8
        users = batch["user"].unique()
        own = set(zip(users[batch["own_user"]].tolist(), batch["columns"][batch["own_column"]].tolist(), strict=True))
        everything = {(user, item) for user in users.tolist() for item in batch["columns"].tolist()}
        assert own == taken & everything


def test_evaluation_reads_the_input_as_a_set(data):
    found = data.rankings("test")
    batch = data.inputs(found.inputs, found.unit)
    assert batch["user"].tolist() == found.unit.tolist()
    ends = batch["items_offsets"].tolist()
    rows = [batch["items"][a:b].tolist() for a, b in itertools.pairwise(ends)]
    ends = found.inputs.offsets
    wanted = [sorted(set(found.inputs.items[a:b].tolist())) for a, b in itertools.pairwise(ends)]
    assert rows == wanted


def test_an_idle_alpha_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"loader\.sample_alpha=0\.5 does nothing with loader\.sampler=uniform"):
        data_of(file_of(tmp_path, SETS), *SPLIT, "loader.sample_alpha=0.5")


def test_a_user_who_took_everything_is_named(tmp_path):
    path = file_of(tmp_path, [*SETS, [*range(20), 0, 1]])
    words = ["split=leave_last_out", "dataset.order=file", "dataset.filters.repeats=keep"]
    data, _ = data_of(path, "model=bpr_mf", *words)
    with pytest.raises(DataError, match="user u30 took every item that can be drawn"):
        epoch_of(data)
