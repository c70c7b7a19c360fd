"""Histories: how they are read, split and numbered, what batches hold, which negatives are drawn."""

import math
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recrun.data.events.synthetic_retrieval import Watchers
from recrun.data.loaders.queries import in_window
from scipy import stats
from worlds.histories import composed, events, retrieval

from recrun.config.compose import compose
from recrun.data.events.side_tables import Side, Wanted, encode
from recrun.data.loaders.samplers import Positives, Sampler
from recrun.errors import CheckpointError, ConfigError, DataError
from recrun.experiments.run import build

FIVE = {"a": [1, 2, 3, 4, 5], "b": [3, 1, 6], "c": [2, 4], "d": [5, 6, 7, 1]}


@pytest.fixture
def five(tmp_path):
    (tmp_path / "r.csv").write_text(events(FIVE))
    return tmp_path / "r.csv"


def by_id(data, index):
    """The items' ids, as whole numbers."""
    ids = data.vocabulary()["items"].astype(int)
    return [int(ids[item]) for item in index]


def ragged(batch, name):
    bounds = batch[f"{name}_offsets"].tolist()
    return [batch[name][a:b].tolist() for a, b in pairwise(bounds)]


def asked(data, batch):
    """Every question of a batch as (history up to there, target), by the items' ids."""
    offsets, found = batch["items_offsets"].tolist(), []
    for place, target in zip(batch["query"].tolist(), batch["target"].tolist(), strict=True):
        begin = max(at for at in offsets[:-1] if at <= place)
        found.append((tuple(by_id(data, batch["items"][begin : place + 1])), *by_id(data, [target])))
    return found


def epoch(data, size=3, seed=0, start=0, stride=1):
    return list(data.train_batches(size, np.random.default_rng(seed), start, stride))


def same(one, other):
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a) for a, b in zip(one, other, strict=True)
    )


def test_the_last_item_is_for_test_and_the_one_before_for_valid(five):
    data = retrieval(five)
    assert data.units("valid").tolist() == data.units("test").tolist() == ["a", "b", "d"]
    valid, test = (next(data.eval_batches(split, 8)) for split in ("valid", "test"))
    assert [by_id(data, row) for row in ragged(valid, "items")] == [[1, 2, 3], [3], [5, 6]]
    assert [by_id(data, row) for row in ragged(test, "items")] == [[1, 2, 3, 4], [3, 1], [5, 6, 7]]
    assert by_id(data, valid["target"]) == [4, 1, 7]
    assert by_id(data, test["target"]) == [5, 6, 1]
    assert valid["query"].tolist() == [2, 3, 5]
    assert ragged(test, "seen") == ragged(test, "items")


def test_what_training_lacks_is_counted(five):
    told = retrieval(five).describe()
    assert told["users_below_3"] == 1
    assert told["valid_items_unseen_in_training"] == 1  # 7
    assert told["test_items_unseen_in_training"] == 0
    assert (told["n_items"], told["trained_items"]) == (7, 6)
    assert (told["train_interactions"], told["train_targets"]) == (8, 4)


def test_a_row_per_interaction_asks_for_each_item_after_the_first(five):
    data = retrieval(five)
    found = [question for batch in epoch(data) for question in asked(data, batch)]
    assert sorted(found) == [((1,), 2), ((1, 2), 3), ((2,), 4), ((5,), 6)]
    assert data.train_size() == 4


def test_a_row_per_sequence_asks_everywhere(five):
    data = retrieval(five, rows="sequences")
    found = [question for batch in epoch(data) for question in asked(data, batch)]
    assert sorted(found) == [((1,), 2), ((1, 2), 3), ((2,), 4), ((5,), 6)]
    assert data.train_size() == 3


def test_a_long_history_gives_windows_that_change(tmp_path):
    items = list(range(40))
    (tmp_path / "r.csv").write_text(events({"a": items, "b": items[::-1]}))
    data = retrieval(tmp_path / "r.csv", rows="sequences", his_size=5)
    begins = set()
    for seed in range(30):
        (batch,) = epoch(data, seed=seed)
        for row in ragged(batch, "items"):
            assert len(row) == 5
            assert set(np.diff(row)) in ({1}, {-1})
            begins.add(row[0])
        assert (batch["target"] - batch["items"]).abs().tolist() == [1] * 10
    assert len(begins) > 20


def test_no_row_is_longer_than_his_size(five):
    data = retrieval(five, his_size=2)
    assert max(len(history) for batch in epoch(data) for history, _ in asked(data, batch)) == 2
    assert max(map(len, ragged(next(data.eval_batches("test", 8)), "items"))) == 2
    assert max(map(len, ragged(next(data.eval_batches("test", 8)), "seen"))) == 4


def test_the_chance_to_be_in_a_window():
    """Windows of 3 among 4 places begin at 0 or 1."""
    found = in_window(np.array([0, 1, 2, 3, 0, 1]), np.array([4, 4, 4, 4, 2, 2]), 3)
    assert found.tolist() == [0.5, 1, 1, 0.5, 1, 1]


def test_what_is_expected_as_a_target_is_what_windows_ask_for(tmp_path):
    """In a batch that takes all rows: over many epochs, of items of long and of short histories."""
    (tmp_path / "r.csv").write_text(events({"a": [*range(10)], "b": [3, 9, 1, 20, 21], "c": [3, 4, 20, 22]}))
    data = retrieval(tmp_path / "r.csv", rows="sequences", his_size=3, negatives="batch", num_negatives=3)
    count, expected = np.zeros(13), {}
    for seed in range(3000):
        (batch,) = epoch(data, size=3, seed=seed)
        count += np.bincount(batch["target"], minlength=13)
        expected |= dict(zip(batch["columns"].tolist(), batch["in_batch_expected"].tolist(), strict=True))
    questions = len(batch["target"])
    assert questions == 3 + 2 + 1
    law = np.array([expected[item] for item in range(13)]) / (questions - 1)
    assert law.sum() == pytest.approx(1)
    assert count / 3000 / questions == pytest.approx(law, abs=0.01)
    assert law[data.vocabulary()["items"].tolist().index("1")] == pytest.approx((1 / 5 + 1) / 6)


def test_a_unit_is_a_row(five):
    assert retrieval(five).unit == "interactions"
    assert retrieval(five, rows="sequences").unit == "users"


def test_two_cuts_in_time_for_everybody(tmp_path):
    rows = [("a", 1, 0), ("b", 1, 1), ("a", 2, 2), ("b", 2, 3), ("a", 3, 4), ("b", 3, 5), ("c", 1, 6), ("a", 4, 7)]
    rows += [("b", 4, 8), ("a", 5, 9)]
    (tmp_path / "r.csv").write_text("user,item,time\n" + "\n".join(",".join(map(str, row)) for row in rows))
    data = retrieval(tmp_path / "r.csv", split="temporal", valid_fraction=0.2, test_fraction=0.2)
    valid, test = (next(data.eval_batches(split, 8)) for split in ("valid", "test"))
    assert data.units("valid").tolist() == ["a"]
    assert data.describe()["valid_users_without_input"] == 1  # c
    assert data.units("test").tolist() == ["a", "b"]
    assert [by_id(data, row) for row in ragged(valid, "target")] == [[4]]
    assert [by_id(data, row) for row in ragged(test, "items")] == [[1, 2, 3, 4], [1, 2, 3]]
    assert [by_id(data, row) for row in ragged(test, "target")] == [[5], [4]]


def test_ranking_may_keep_what_was_seen(five):
    data = retrieval(five, mask_seen=False)
    assert len(next(data.eval_batches("test", 8))["seen"]) == 0
    assert data.fingerprint == retrieval(five).fingerprint


@pytest.mark.parametrize("rows", ["interactions", "sequences"])
@pytest.mark.parametrize("negatives", ["query", "batch"])
def test_an_epoch_can_be_entered_anywhere_and_differs_from_the_next(rows, negatives):
    words = [f"dataset.rows={rows}", f"dataset.negatives={negatives}", "dataset.num_negatives=5"]
    data = build(composed("model=dssm", *words).config["dataset"])
    whole = epoch(data, size=7)
    for start in (0, 1, len(whole) - 1, len(whole)):
        assert same(epoch(data, size=7, start=start), whole[start:])
    assert not same(epoch(data, size=7, seed=1), whole)


@pytest.mark.parametrize("rows", ["interactions", "sequences"])
@pytest.mark.parametrize("negatives", ["query", "batch"])
def test_parts_hold_together_what_a_whole_batch_holds(rows, negatives):
    """The questions and, whether of one query or of the batch, the negatives."""
    words = [f"dataset.rows={rows}", f"dataset.negatives={negatives}", "dataset.num_negatives=5"]
    data = build(composed("model=dssm", *words).config["dataset"])
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


@pytest.mark.parametrize("rows", ["interactions", "sequences"])
def test_a_users_own_items_are_no_negatives(rows):
    words = [f"dataset.rows={rows}", "dataset.num_negatives=20", "dataset.sampler=popularity"]
    data = build(composed("model=dssm", *words).config["dataset"])
    user, item = data._histories.training()
    own = {(int(u), int(i)) for u, i in zip(user, item, strict=True)}
    for batch in epoch(data, size=16):
        whose = np.searchsorted(batch["items_offsets"].numpy(), batch["query"].numpy(), side="right") - 1
        users = data._users.values["sparse"][:, 0].tolist()
        for row, candidates in zip(whose, batch["columns"][batch["candidates"]].tolist(), strict=True):
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


@pytest.mark.parametrize(
    ("law", "alpha", "weights"),
    [
        ("uniform", 0.75, [1, 1, 1, 1]),
        ("popularity", 1.0, [0, 1, 10, 100]),
        ("popularity", 0.5, [0, 1, math.sqrt(10), 10]),
        ("log", 0.75, [1e-6, math.log(2) + 1e-6, math.log(11) + 1e-6, math.log(101) + 1e-6]),
    ],
)
def test_negatives_follow_their_law(law, alpha, weights):
    sampler = Sampler(np.array([0, 1, 10, 100]), law, alpha)
    share = np.array(weights) / sum(weights)
    assert sampler.share == pytest.approx(share)
    drawn = np.bincount(sampler.draw(np.random.default_rng(5), 40_000), minlength=4)
    likely = share * 40_000 > 5
    assert drawn[~likely].sum() < 5
    assert stats.chisquare(drawn[likely], share[likely] / share[likely].sum() * drawn[likely].sum()).pvalue > 1e-3


def test_what_is_left_for_a_user_follows_the_law_too():
    counts = np.array([50, 30, 10, 5, 5])
    own = Positives.of(np.array([0, 0, 1]), np.array([0, 3, 1]), 2, 5)
    drawn = Sampler(counts, "popularity", 1.0).draw_others(np.random.default_rng(2), np.array([0, 1]), 20_000, own)
    for row, left in ((0, [0, 30, 10, 0, 5]), (1, [50, 0, 10, 5, 5])):
        share = np.array(left) / sum(left)
        found = np.bincount(drawn[row], minlength=5)
        assert (found[share == 0] == 0).all()
        assert stats.chisquare(found[share > 0], share[share > 0] * 20_000).pvalue > 1e-3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), min_size=1, max_size=38), st.integers(0, 99))
def test_draw_others_never_draws_what_was_taken(pairs, seed):
    """Also where a user left one single item, which the law hardly ever draws."""
    pairs = [(user, item) for user, item in pairs if item != 7]
    if not pairs:
        return
    user, item = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    counts = np.bincount(item, minlength=8) * 10_000
    own = Positives.of(user, item, 5, 8)
    drawn = Sampler(counts, "log", 1.0).draw_others(np.random.default_rng(seed), np.arange(5), 6, own)
    assert not own.has(np.repeat(np.arange(5), 6), drawn.ravel()).any()
    assert own.has(user, item).all()


def test_fields_and_lists_by_hand():
    side = Side("t", np.array(["x", "y", "z"], object), {"age": np.array(["3", "", "5"], object)})
    side.columns["tags"] = np.array(["b a", "", "c"], object)
    ids, known = np.array(["y", "x", "z", "w"], object), np.array([True, True, False, True])
    made = encode(side, ids, known, Wanted("item", ["id", "age"], ["tags"]))
    # Of z training knows nothing: its values are unknown. A missing age is a value, an absent row is unknown.
    assert made.names.tolist() == [
        "id=?",
        "id=w",
        "id=x",
        "id=y",
        "age=?",
        "age=",
        "age=3",
        "tags=?",
        "tags=a",
        "tags=b",
    ]
    assert made.values["sparse"].tolist() == [[3, 5], [2, 6], [0, 4], [1, 4]]
    assert made.values["tags_offsets"].tolist() == [0, 0, 2, 3, 3]
    assert made.values["tags"].tolist() == [9, 8, 7]
    assert made.absent == 1
    assert [(field.name, field.first, field.size) for field in made.features.fields] == [("id", 0, 4), ("age", 4, 3)]
    assert made.features.n_ids == 10


def keep_vocabulary(data, folder):
    """As a run keeps it."""
    folder.mkdir()
    for name, ids in data.vocabulary().items():
        (folder / f"{name}.txt").write_text("".join(f"{value}\n" for value in ids))
    return str(folder)


ITEMS = (
    "item_id:token\tyear:token\ttags:token_seq\n1\t1990\ta b\n2\t1991\t\n3\t1990\tb\n4\t\ta\n5\t1992\tc\n6\t1990\ta\n"
)
FIELDS = {"item_fields": ["id", "year"], "item_lists": ["tags"]}


def test_other_data_are_read_as_a_run_knows_them(five, caplog):
    table = five.parent / "items.tsv"
    table.write_text(ITEMS)
    data = retrieval(five, item_table=str(table), **FIELDS)
    vocabulary = keep_vocabulary(data, five.parent / "vocabulary")
    other, table = five.parent / "o.csv", five.parent / "new.tsv"
    other.write_text(events({"z": [9, 6, 8, 2, 1], "a": [6, 4, 2], "y": [5, 1, 9]}))
    table.write_text("item_id:token\tyear:token\ttags:token_seq\n2\t1990\tc d\n6\t2000\ta\n")
    new = retrieval(other, item_table=str(table), vocabulary=vocabulary, **FIELDS)
    assert new.vocabulary()["items"].tolist() == data.vocabulary()["items"].tolist()
    assert new.vocabulary()["item_features"].tolist() == data.vocabulary()["item_features"].tolist()
    assert new.sizes["user_features"] == data.sizes["user_features"]
    # Of z's items 9 and 8 are left out, before the cut; of y's the last one, so that there is nothing to test.
    valid, test = (next(new.eval_batches(split, 8)) for split in ("valid", "test"))
    assert new.units("valid").tolist() == ["a", "y", "z"]
    assert new.units("test").tolist() == ["a", "z"]
    assert [by_id(new, row) for row in ragged(valid, "items")] == [[6], [5], [6]]
    assert by_id(new, valid["target"]) == [4, 1, 2]
    assert [by_id(new, row) for row in ragged(test, "items")] == [[6, 4], [6, 2]]
    names = data.vocabulary()["user_features"].tolist()
    assert [names[value] for value in valid["sparse"][:, 0].tolist()] == ["id=a", "id=?", "id=?"]
    names, values = data.vocabulary()["item_features"].tolist(), new.sizes["item_values"]
    at = {int(item): row for row, item in enumerate(new.vocabulary()["items"])}
    assert [names[value] for value in values["sparse"][at[2]].tolist()] == ["id=2", "year=1990"]
    assert [names[value] for value in values["sparse"][at[6]].tolist()] == ["id=6", "year=?"]
    tags = [[names[value] for value in row] for row in pairs(values, "tags")]
    assert (tags[at[2]], tags[at[6]], tags[at[1]]) == (["tags=c", "tags=?"], ["tags=a"], [])
    told = new.describe()
    assert (told["unknown_users"], told["unknown_items"], told["events_of_unknown_items"]) == (2, 2, 3)
    assert "2 of 3 users are unknown, such as y, z" in caplog.text
    assert "2 items are unknown, such as 8, 9; their 3 events are left out" in caplog.text


def pairs(values, name):
    bounds = values[f"{name}_offsets"].tolist()
    return [values[name][a:b].tolist() for a, b in pairwise(bounds)]


def test_its_own_data_are_the_same_with_a_runs_vocabulary(five, caplog):
    (five.parent / "items.tsv").write_text(ITEMS)
    keys = {"item_table": str(five.parent / "items.tsv"), **FIELDS}
    data = retrieval(five, **keys)
    again = retrieval(five, vocabulary=keep_vocabulary(data, five.parent / "vocabulary"), **keys)
    assert again.fingerprint == data.fingerprint
    assert same(epoch(again), epoch(data))
    assert not caplog.text


def test_data_to_judge_need_not_be_fit_to_train_with(five):
    vocabulary = keep_vocabulary(retrieval(five), five.parent / "vocabulary")
    (five.parent / "o.csv").write_text(events({"z": [1, 2, 3]}))
    with pytest.raises(DataError, match="nothing to train on"):
        retrieval(five.parent / "o.csv")
    data = retrieval(five.parent / "o.csv", vocabulary=vocabulary, sampler="popularity")
    assert (data.units("test").tolist(), data.train_size()) == (["z"], 0)


def test_another_runs_vocabulary_is_refused(five):
    (five.parent / "items.tsv").write_text(ITEMS)
    keys = {"item_table": str(five.parent / "items.tsv"), **FIELDS}
    vocabulary = keep_vocabulary(retrieval(five, **keys), five.parent / "vocabulary")
    with pytest.raises(CheckpointError, match=r"other item_features, id, year, tags: keep dataset\.item_fields"):
        retrieval(five, vocabulary=vocabulary, **{**keys, "item_fields": ["year", "id"]})
    with pytest.raises(CheckpointError, match="no vocabulary of histories"):
        retrieval(five, vocabulary=str(five.parent))
    (five.parent / "o.csv").write_text(events({"z": [7, 8, 9]}))
    with pytest.raises(DataError, match=r"nobody can be judged: 2 of 3 items are unknown, such as 8, 9"):
        retrieval(five.parent / "o.csv", vocabulary=vocabulary, **keys)


def test_an_item_that_its_table_lacks_is_counted(five):
    table = five.parent / "items.tsv"
    table.write_text("item_id:token\tyear:token\n1\t1990\n2\t1991\n3\t1990\n4\t\n5\t1992\n6\t1990\n")
    data = retrieval(five, item_table=str(table), item_fields=["id", "year"])
    assert data.describe()["items_without_features"] == 1
    year = data._items.values["sparse"][:, 1] - data._items.features.fields[1].first
    assert year.tolist() == [2, 3, 2, 1, 4, 2, 0]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["id,year", "1,a", "2,b", "1,c"], "items.csv:4: id '1' is there twice"),
        (["id,year", "1,a", "2"], "items.csv:3: the row has 1 cells, expected 2"),
        (["id"], "items.csv: the header needs"),
        (["id,year"], "items.csv: no rows behind the header"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(five, lines, told):
    (five.parent / "items.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=told):
        retrieval(five, item_table=str(five.parent / "items.csv"), item_fields=["year"])


def test_what_cannot_be_is_refused(five, tmp_path):
    with pytest.raises(ConfigError, match="num_negatives=7, but there are 7 items"):
        retrieval(five, num_negatives=7)
    with pytest.raises(ConfigError, match="mask_seen"):
        retrieval(five, duplicates="keep")
    with pytest.raises(ConfigError, match="user_table is not given"):
        retrieval(five, user_fields=["age"])
    with pytest.raises(DataError, match="item_table=nowhere does not exist"):
        retrieval(five, item_table="nowhere")
    (tmp_path / "short.csv").write_text(events({"a": [1], "b": [2, 3]}))
    with pytest.raises(DataError, match="nobody can be judged on the valid part"):
        retrieval(tmp_path / "short.csv", num_negatives=1)
    (tmp_path / "all.csv").write_text(events({"a": [1, 2, 3, 4, 1, 2], "b": [4, 1, 2]}))
    with pytest.raises(DataError, match="user a took every item that can be drawn"):
        retrieval(tmp_path / "all.csv", num_negatives=1, duplicates="keep", mask_seen=False)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"valid_fraction": 0.2}, "valid_fraction=0.2 does nothing with dataset.split=leave_last_out"),
        ({"test_fraction": 0.1}, "it is for split=temporal"),
        ({"sample_alpha": 0.5}, "sample_alpha=0.5 does nothing with dataset.sampler=uniform"),
        ({"sample_alpha": 0, "sampler": "log"}, "it is for sampler=popularity"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(five, keys, told):
    with pytest.raises(ConfigError, match=told):
        retrieval(five, **keys)


def test_repeats_may_be_kept(tmp_path):
    (tmp_path / "r.csv").write_text(events({"a": [1, 1, 2, 1, 3], "b": [2, 3, 4]}))
    data = retrieval(tmp_path / "r.csv", duplicates="keep", mask_seen=False, num_negatives=1)
    assert sorted(q for batch in epoch(data) for q in asked(data, batch)) == [((1,), 1), ((1, 1), 2)]
    (tmp_path / "r.csv").write_text(events({"a": [1, 2, 1, 3, 5, 4], "b": [2, 3, 4]}))
    once = retrieval(tmp_path / "r.csv", duplicates="last", num_negatives=1)
    assert once.describe()["duplicates"] == 1
    assert sorted(q for batch in epoch(once) for q in asked(once, batch)) == [((2,), 1), ((2, 1), 3)]


def test_the_synthetic_world_is_the_same_each_time_and_has_its_structure():
    config = composed("model=dssm").config["dataset"]
    one, other = build(config), build(config)
    assert one.fingerprint == other.fingerprint
    source = config["source"] | {"seed": 1}
    assert build({**config, "source": source}).fingerprint != one.fingerprint
    rows, (users, items) = Watchers(seed=3).rows(with_time=True), Watchers(seed=3).sides()
    genre = np.array([tags.split()[0] for tags in items.columns["tags"]])[rows.item]
    within = rows.user[1:] == rows.user[:-1]
    # A tenth is of any genre; else 0.7 stay with the genre, and of those who turn a third come back to it.
    assert (genre[1:] == genre[:-1])[within].mean() == pytest.approx(0.81 * 0.8, abs=0.03)
    segment = users.columns["segment"][rows.user]
    for name in np.unique(segment.astype(str)):
        counts = np.sort(np.unique(genre[segment == name], return_counts=True)[1])
        assert counts[-3:].sum() > 0.85 * counts.sum()


@pytest.mark.data
def test_movielens():
    folder = Path(os.environ.get("RECRUN_DATA") or Path(__file__).parents[4] / "shared" / "data")
    if not (folder / "ml-100k" / "ml-100k.item").is_file():
        pytest.skip(f"no ml-100k with its tables in {folder}; RECRUN_DATA names the folder that holds it")
    data = build(compose(["model=dssm", "dataset=ml_100k_match", f"dataset.root={folder}"]).config["dataset"])
    told = data.describe()
    assert (told["n_users"], told["n_items"], told["valid_users"], told["test_users"]) == (943, 1682, 943, 943)
    assert told["train_interactions"] == 100_000 - 2 * 943
    assert told["test_items_unseen_in_training"] == 3
    assert told["users_without_features"] == told["items_without_features"] == 0
    assert [field.size for field in data.sizes["item_features"].sequences] == [20]  # 19 genres
