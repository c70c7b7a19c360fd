"""Histories: what batches hold, which negatives are drawn, exact resume, parts of a batch on several devices."""

import numpy as np
import pytest
import torch
from worlds.events import batch_lists, lists
from worlds.histories import composed, events, retrieval

from recrun.data.loaders.histories import Histories
from recrun.errors import ConfigError, DataError
from recrun.experiments.build import build_dataset

FIVE = {"a": [1, 2, 3, 4, 5], "b": [3, 1, 6], "c": [2, 4], "d": [5, 6, 7, 1]}
ROWS = pytest.mark.parametrize("rows", ["interactions", "sequences"])
NEGATIVES = pytest.mark.parametrize("negatives", ["query", "batch"])


@pytest.fixture
def five(tmp_path):
    (tmp_path / "r.csv").write_text(events(FIVE))
    return tmp_path / "r.csv"


def by_id(data, index):
    """The items' ids, as whole numbers."""
    ids = data.vocabulary()["items"].astype(int)
    return [int(ids[item]) for item in index]


def asked(data, batch):
    """Every query of a batch as (history up to there, target), by the items' ids."""
    offsets, found = batch["items_offsets"].tolist(), []
    for position, target in zip(batch["query"].tolist(), batch["target"].tolist(), strict=True):
        begin = max(at for at in offsets[:-1] if at <= position)
        found.append((tuple(by_id(data, batch["items"][begin : position + 1])), *by_id(data, [target])))
    return found


def epoch(data, size=3, seed=0, start=0, stride=1):
    return list(data.train_batches(size, np.random.default_rng(seed), start, stride))


def same(one, other):
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a) for a, b in zip(one, other, strict=True)
    )


def synthetic(*words):
    return build_dataset(composed("model=dssm", *words).config)


# ---- training batches


def test_a_row_per_interaction_asks_for_each_item_after_the_first(five):
    data = retrieval(five)
    found = [query for batch in epoch(data) for query in asked(data, batch)]
    assert sorted(found) == [((1,), 2), ((1, 2), 3), ((2,), 4), ((5,), 6)]
    assert (data.train_size(), data.train_steps(3), data.train_unit) == (4, 2, "interactions")


def test_a_row_per_sequence_asks_everywhere(five):
    data = retrieval(five, rows="sequences")
    found = [query for batch in epoch(data) for query in asked(data, batch)]
    assert sorted(found) == [((1,), 2), ((1, 2), 3), ((2,), 4), ((5,), 6)]
    assert (data.train_size(), data.train_steps(3), data.train_unit) == (3, 1, "users")


def test_no_row_is_longer_than_his_size(five):
    data = retrieval(five, his_size=2)
    assert max(len(history) for batch in epoch(data) for history, _ in asked(data, batch)) == 2
    assert data.sizes["max_length"] == 2


@ROWS
@NEGATIVES
def test_fields_and_their_types(rows, negatives):
    data = synthetic(f"loader.rows={rows}", f"loader.negatives={negatives}")
    (batch, *_) = epoch(data, size=8)
    shared = {"sparse", "items", "items_offsets", "longest", "query", "target", "columns"}
    own = {"candidates", "label"}
    of_batch = {"column", "sampled", "in_batch_expected", "sampled_expected", "owner", "own_user", "own_column"}
    assert set(batch) == shared | (own if negatives == "query" else of_batch)
    for name, tensor in batch.items():
        kind = {"sparse": torch.int32, "label": torch.float32, "sampled": torch.float32}.get(name, torch.int64)
        assert tensor.dtype == (torch.float32 if name.endswith("expected") else kind), name
    lengths = batch["items_offsets"].diff()
    assert batch["longest"].tolist() == list(range(int(lengths.max())))
    assert batch["sparse"].shape == (8, 3)
    assert (batch["query"].diff() > 0).all()


def test_rows_have_the_fields_of_their_user(five):
    data = retrieval(five)
    names = data.vocabulary()["user_features"]
    for batch in epoch(data):
        users = [str(names[value]) for value in batch["sparse"][:, 0].tolist()]
        for user, (history, target) in zip(users, asked(data, batch), strict=True):
            row = FIVE[user.removeprefix("id=")]
            assert (*history, target) == tuple(row[: len(history) + 1])


def test_what_is_expected_as_a_target_is_what_windows_ask_for(tmp_path):
    """In a batch that takes all rows: over many epochs, of items of long and of short histories."""
    (tmp_path / "r.csv").write_text(events({"a": [*range(10)], "b": [3, 9, 1, 20, 21], "c": [3, 4, 20, 22]}))
    data = retrieval(tmp_path / "r.csv", rows="sequences", his_size=3, negatives="batch", num_negatives=3)
    count, expected = np.zeros(13), {}
    for seed in range(3000):
        (batch,) = epoch(data, size=3, seed=seed)
        count += np.bincount(batch["target"], minlength=13)
        expected |= dict(zip(batch["columns"].tolist(), batch["in_batch_expected"].tolist(), strict=True))
    queries = len(batch["target"])
    assert queries == 3 + 2 + 1
    share = np.array([expected[item] for item in range(13)]) / (queries - 1)
    assert share.sum() == pytest.approx(1)
    assert count / 3000 / queries == pytest.approx(share, abs=0.01)
    assert share[data.vocabulary()["items"].tolist().index("1")] == pytest.approx((1 / 5 + 1) / 6)


@ROWS
@NEGATIVES
def test_an_epoch_can_be_entered_anywhere_and_differs_from_the_next(rows, negatives):
    data = synthetic(f"loader.rows={rows}", f"loader.negatives={negatives}", "loader.num_negatives=5")
    whole = epoch(data, size=7)
    for start in (0, 1, len(whole) - 1, len(whole)):
        assert same(epoch(data, size=7, start=start), whole[start:])
    assert not same(epoch(data, size=7, seed=1), whole)


@ROWS
@NEGATIVES
def test_parts_hold_together_what_a_whole_batch_holds(rows, negatives):
    """The queries and, whether of one query or of the batch, the negatives."""
    data = synthetic(f"loader.rows={rows}", f"loader.negatives={negatives}", "loader.num_negatives=5")
    whole = epoch(data, size=12)
    parts = [epoch(data, size=4, start=rank, stride=3) for rank in range(3)]
    assert same(epoch(data, size=4, start=2 * 3 + 1, stride=3), parts[1][2:])
    for at, batch in enumerate(whole):
        mine = [part[at] for part in parts if at < len(part)]
        assert torch.cat([part["target"] for part in mine]).equal(batch["target"])
        if negatives == "query":
            drawn = [part["columns"][part["candidates"]] for part in mine]
            assert torch.cat(drawn).equal(batch["columns"][batch["candidates"]])
        else:
            drawn = [sorted(torch.repeat_interleave(b["columns"], b["sampled"].int()).tolist()) for b in (batch, *mine)]
            assert all(one == drawn[0] for one in drawn)


@ROWS
def test_a_users_own_items_are_no_negatives(rows):
    data = synthetic(f"loader.rows={rows}", "loader.num_negatives=20", "loader.sampler=popularity")
    own = {(unit, item) for unit, row in enumerate(lists(data.log.train)) for item in row}
    users = data.features.users.values["sparse"][:, 0].tolist()
    for batch in epoch(data, size=16):
        row_of_query = np.searchsorted(batch["items_offsets"].numpy(), batch["query"].numpy(), side="right") - 1
        for row, candidates in zip(row_of_query, batch["columns"][batch["candidates"]].tolist(), strict=True):
            who = users.index(int(batch["sparse"][row, 0]))
            assert (who, candidates[0]) in own
            assert not any((who, candidate) in own for candidate in candidates[1:])
        assert (batch["label"].sum(1) == 1).all()
        assert (batch["label"][:, 0] == 1).all()
        assert batch["columns"][batch["candidates"][:, 0]].equal(batch["target"])
        assert len(batch["columns"].unique()) == len(batch["columns"])


def test_columns_are_what_a_batch_compares_with(five):
    data = retrieval(five, negatives="batch", num_negatives=4, sampler="popularity", sample_alpha=1.0)
    counts = {1: 1, 2: 2, 3: 2, 4: 1, 5: 1, 6: 1, 7: 0}  # in training
    for batch in epoch(data, size=3):
        columns = by_id(data, batch["columns"])
        assert len(set(columns)) == len(columns)
        assert batch["columns"][batch["column"]].equal(batch["target"])
        assert set(columns) >= {target for _, target in asked(data, batch)}
        assert batch["sampled"].sum() == 4
        assert batch["sampled_expected"].tolist() == pytest.approx([4 * counts[item] / 8 for item in columns])
        others = len(batch["target"]) - 1
        as_target = {2: 1, 3: 1, 4: 1, 6: 1}
        expected = [others * as_target.get(item, 0) / 4 for item in columns]
        assert batch["in_batch_expected"].tolist() == pytest.approx(expected)
        mask = np.zeros((len(batch["owner"]), len(columns)), bool)
        mask[batch["own_user"], batch["own_column"]] = True
        for row, (history, target) in zip(batch["owner"].tolist(), asked(data, batch), strict=True):
            name = next(name for name, items in FIVE.items() if (*history, target) == tuple(items[: len(history) + 1]))
            trained = FIVE[name][: len(FIVE[name]) - 2] if len(FIVE[name]) > 2 else FIVE[name]
            assert mask[row].tolist() == [item in trained for item in columns]


def test_repeats_may_be_kept(tmp_path):
    (tmp_path / "r.csv").write_text(events({"a": [1, 1, 2, 1, 3], "b": [2, 3, 4]}))
    data = retrieval(tmp_path / "r.csv", filters={"repeats": "keep"}, num_negatives=1)
    assert sorted(query for batch in epoch(data) for query in asked(data, batch)) == [((1,), 1), ((1, 1), 2)]
    (tmp_path / "r.csv").write_text(events({"a": [1, 2, 1, 3, 5, 4], "b": [2, 3, 4]}))
    once = retrieval(tmp_path / "r.csv", filters={"repeats": "last"}, num_negatives=1)
    assert once.describe()["repeats"] == 1
    assert sorted(query for batch in epoch(once) for query in asked(once, batch)) == [((2,), 1), ((2, 1), 3)]


# ---- evaluation batches


def test_evaluation_batches_have_a_query_at_the_end_of_each_history(five):
    data = retrieval(five, his_size=3)
    valid, test = (next(data.eval_batches(split, 8)) for split in ("valid", "test"))
    assert [by_id(data, row) for row in batch_lists(valid, "items")] == [[1, 2, 3], [3], [5, 6]]
    assert [by_id(data, row) for row in batch_lists(test, "items")] == [[2, 3, 4], [3, 1], [5, 6, 7]]
    assert valid["query"].tolist() == [2, 3, 5]
    assert set(test) == {"user", "sparse", "items", "items_offsets", "longest", "query"}
    names = data.vocabulary()["user_features"]
    assert [str(names[value]) for value in test["sparse"][:, 0].tolist()] == ["id=a", "id=b", "id=d"]
    # What a ranking leaves out is not cut.
    assert [by_id(data, row) for row in lists(data.rankings("test").seen)] == [[1, 2, 3, 4], [3, 1], [5, 6, 7]]


def test_an_empty_batch_has_no_longest(five):
    data = retrieval(five)
    empty = data.rankings("test").inputs.take(np.zeros(0, np.int64))
    assert data.inputs(empty, np.zeros(0, np.int64))["longest"].tolist() == []


# ---- what it is, and refusals


def test_sizes_and_vocabulary(five):
    data = retrieval(five)
    assert Histories.kind == "histories"
    assert (data.sizes["n_users"], data.sizes["n_items"], data.sizes["max_length"]) == (4, 7, 50)
    assert data.vocabulary()["user_features"].tolist() == ["id=?", "id=a", "id=b", "id=c", "id=d"]
    assert set(data.vocabulary()) == {"users", "items", "user_features", "item_features"}


@pytest.mark.parametrize("sampler", ["uniform", "log"])
def test_a_key_that_would_do_nothing_is_refused(sampler):
    told = rf"loader.sample_alpha=0 does nothing with loader.sampler={sampler}; it is for loader.sampler=popularity"
    with pytest.raises(ConfigError, match=told):
        Histories(sampler=sampler, sample_alpha=0)
    assert Histories(sampler="popularity").alpha == 0.75
    assert Histories(sampler="popularity", sample_alpha=0).alpha == 0


def test_what_cannot_be_drawn_is_refused_when_training_begins(five, tmp_path):
    with pytest.raises(ConfigError, match="num_negatives=7, but there are 7 items"):
        epoch(retrieval(five, num_negatives=7))
    assert retrieval(five, num_negatives=7).eval_size("test") == 3
    (tmp_path / "all.csv").write_text(events({"a": [1, 2, 3, 4, 1, 2], "b": [4, 1, 2]}))
    with pytest.raises(DataError, match="user a took every item that can be drawn"):
        epoch(retrieval(tmp_path / "all.csv", num_negatives=1, filters={"repeats": "keep"}))
    (tmp_path / "short.csv").write_text(events({"a": [1, 2, 3], "b": [2, 3, 1]}))
    with pytest.raises(DataError, match="there is nothing to train on: none of 2 units has two training events"):
        epoch(retrieval(tmp_path / "short.csv", num_negatives=1))
