"""The interactions data set: batches equal brute force, the cache changes nothing, errors are clear."""

import inspect
import logging
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from recrun.data.events.interactions import Interactions

from recrun.data.events.synthetic import LatentTaste
from recrun.errors import ConfigError, DataError

CONF = Path(__file__).parents[3] / "conf" / "dataset"


def table(n_users=12, n_items=15, n_rows=240, seed=0):
    """Rows (user id, item id, rating, time), some pairs repeated; ids are not their indices."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, n_users, n_rows) * 3 + 10, rng.integers(0, n_items, n_rows) * 2 + 5
    rows = zip(users, items, rng.integers(1, 6, n_rows), rng.integers(0, 40, n_rows), strict=True)
    return [tuple(map(int, row)) for row in rows]


def write(path, rows, columns=("user", "item", "rating", "time")):
    lines = [",".join(columns), *(",".join(map(str, row[: len(columns)])) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def build(path, **changes):
    return Interactions(**{"evaluator": None, "path": path, **changes})


@pytest.fixture
def csv(tmp_path):
    return write(tmp_path / "ratings.csv", table())


def ragged(batch, name):
    offsets = batch[f"{name}_offsets"].tolist()
    assert offsets[0] == 0
    assert offsets[-1] == len(batch[name])
    return [batch[name][a:b].tolist() for a, b in pairwise(offsets)]


def by_user(batches, name):
    """{user id index: list of items} over all batches."""
    return {u: row for batch in batches for u, row in zip(batch["user"].tolist(), ragged(batch, name), strict=True)}


def train_rows(dataset):
    return by_user(dataset.train_batches(5, np.random.default_rng(0)), "items")


def pairs(dataset, rows):
    """Rows {user: items} as pairs of ids."""
    words = dataset.vocabulary()
    return {(int(words["users"][u]), int(words["items"][i])) for u, items in rows.items() for i in items}


SPLITS = ["random", "temporal", "leave_last_out", "strong"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_parts_together_are_the_distinct_rows(csv, split):
    dataset = build(csv, split=split)
    parts = dataset._parts
    found = []
    for part in (parts.known, parts.valid, parts.test):
        rows = {u: part.items[part.offsets[u] : part.offsets[u + 1]].tolist() for u in range(len(parts.users))}
        found.append(pairs(dataset, rows))
    assert sum(map(len, found)) == len(set.union(*found))  # nothing is in two parts
    assert set.union(*found) == {row[:2] for row in table()}
    assert dataset.sizes == {"n_users": 12, "n_items": 15}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_batches_equal_brute_force(csv, split, batch_size):
    dataset = build(csv, split=split)
    parts = dataset._parts

    def row(part, u):
        return part.items[part.offsets[u] : part.offsets[u + 1]].tolist()

    batches = list(dataset.train_batches(batch_size, np.random.default_rng(0)))
    assert [len(b["user"]) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    trained = by_user(batches, "items")
    assert len(trained) == dataset.train_size() == sum(len(b["user"]) for b in batches)
    assert trained == {u: row(parts.known, u) for u in parts.train_users.tolist()}
    for name, held_out in (("valid", parts.valid), ("test", parts.test)):
        batches = list(dataset.eval_batches(name, batch_size))
        judged = [u for u in range(12) if row(held_out, u) and row(parts.known, u)]
        assert [u for b in batches for u in b["user"].tolist()] == judged
        assert dataset.units(name).tolist() == [str(parts.users[u]) for u in judged]
        inputs, seen, targets = (by_user(batches, field) for field in ("items", "seen", "target"))
        for u in judged:
            assert inputs[u] == row(parts.known, u)
            assert targets[u] == row(held_out, u)
            assert seen[u] == row(parts.known, u) + (row(parts.valid, u) if name == "test" else [])
            assert not set(seen[u]) & set(targets[u])


def test_batches_are_int64_tensors(csv):
    dataset = build(csv)
    batch = next(dataset.train_batches(4, np.random.default_rng(0)))
    assert set(batch) == {"user", "items", "items_offsets"}
    assert {t.dtype for t in batch.values()} == {torch.int64}
    batch = next(dataset.eval_batches("test", 4))
    assert {t.dtype for t in batch.values()} == {torch.int64}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_start_and_stride_give_those_batches(batch_size, start, stride, seed):
    dataset = synthetic()
    whole = list(dataset.train_batches(batch_size, np.random.default_rng(seed)))
    rest = list(dataset.train_batches(batch_size, np.random.default_rng(seed), start, stride))
    for expected, batch in zip(whole[start::stride], rest, strict=True):
        assert all(torch.equal(expected[name], batch[name]) for name in expected)


def synthetic(**changes):
    return Interactions(evaluator=None, source=LatentTaste(30, 40, 300, 4), **changes)


def test_an_epoch_draws_from_the_generator_when_it_is_asked_for():
    dataset, rng = synthetic(), np.random.default_rng(0)
    first, second = dataset.train_batches(30, rng), dataset.train_batches(30, rng)
    order = next(second)["user"].tolist(), next(first)["user"].tolist()
    expected = np.random.default_rng(0)
    assert (order[1], order[0]) == (expected.permutation(30).tolist(), expected.permutation(30).tolist())


def test_leave_last_out_of_a_file(tmp_path):
    rows = [(1, 5, 0, 30), (1, 6, 0, 10), (1, 7, 0, 20), (2, 5, 0, 1), (2, 6, 0, 1), (2, 7, 0, 1), (3, 6, 0, 9)]
    dataset = build(write(tmp_path / "a.csv", rows), split="leave_last_out")
    assert pairs(dataset, train_rows(dataset)) == {(1, 6), (2, 5), (3, 6)}
    assert pairs(dataset, by_user(dataset.eval_batches("valid", 9), "target")) == {(1, 7), (2, 6)}
    assert pairs(dataset, by_user(dataset.eval_batches("test", 9), "target")) == {(1, 5), (2, 7)}
    assert dataset.describe()["test_users"] == 2


def test_strong_holds_out_whole_users_and_keeps_the_training_catalogue(tmp_path):
    rows = [(u, (u + i) % 7, 5, 0) for u in range(30) for i in range(5)] + [(u, 100 + u, 5, 0) for u in range(30)]
    dataset = build(write(tmp_path / "a.csv", rows), split="strong", heldout_users=4)
    trained = train_rows(dataset)
    assert len(trained) == 22
    held_out = [by_user(dataset.eval_batches(split, 9), "target") for split in ("valid", "test")]
    assert [len(rows) for rows in held_out] == [4, 4]
    assert not set(trained) & set(held_out[0])
    assert not set(trained) & set(held_out[1])
    assert not set(held_out[0]) & set(held_out[1])
    assert dataset.sizes == {"n_users": 30, "n_items": 7 + 22}  # an item that only a held-out user has is not there
    counts = dataset.describe()
    assert counts["unknown_items"] == 8
    assert (counts["valid_interactions"], counts["fold_in_interactions"]) == (4, 32)  # 4 of 5 shown, 8 users


def test_strong_takes_a_share_or_a_number_of_users(csv):
    assert build(csv, split="strong", heldout_users=0.25).describe()["train_users"] == 6
    with pytest.raises(
        ConfigError, match=r"dataset.heldout_users=6 holds out 6 users for valid and as many for test, of 12"
    ):
        build(csv, split="strong", heldout_users=6)
    with pytest.raises(ConfigError, match="at least one is needed"):
        build(csv, split="strong", heldout_users=0.01)


def provided(tmp_path, ending="tsv", **parts):
    folder = tmp_path / "split"
    folder.mkdir()
    content = {"train": [(1, 5), (1, 6), (2, 5)], "valid": [(1, 7), (9, 5)], "test": [(1, 8), (2, 6)], **parts}
    for part, rows in content.items():
        lines = ["user_id\titem_id", *(f"{u}\t{i}" for u, i in rows)]
        (folder / f"{part}.{ending}").write_text("\n".join(lines) + "\n")
    return folder


def test_provided_parts_are_taken_as_they_are(tmp_path):
    dataset = build("split", root=str(provided(tmp_path).parent), split="provided")
    assert pairs(dataset, train_rows(dataset)) == {(1, 5), (1, 6), (2, 5)}
    assert pairs(dataset, by_user(dataset.eval_batches("valid", 9), "target")) == {(1, 7)}
    assert pairs(dataset, by_user(dataset.eval_batches("test", 9), "target")) == {(1, 8), (2, 6)}
    assert dataset.sizes == {"n_users": 3, "n_items": 4}
    assert dataset.describe()["valid_users_without_input"] == 1  # user 9


def test_provided_repeated_pair_stays_in_the_first_part(tmp_path):
    dataset = build(str(provided(tmp_path, test=[(1, 5), (2, 6)])), split="provided")
    assert pairs(dataset, by_user(dataset.eval_batches("test", 9), "target")) == {(2, 6)}
    assert dataset.describe()["duplicates"] == 1


def test_provided_names(tmp_path):
    folder = provided(tmp_path)
    renamed = {"train": "a.tsv", "valid": "b.tsv", "test": "c.tsv"}
    expected = build(str(folder), split="provided").fingerprint
    for part, name in renamed.items():
        (folder / f"{part}.tsv").rename(folder / name)
    with pytest.raises(DataError, match=r"no train file; looked for train with one of the endings .csv, .tsv"):
        build(str(folder), split="provided")
    assert build(str(folder), split="provided", part_files=renamed).fingerprint == expected
    with pytest.raises(DataError, match=r"x.tsv does not exist \(dataset.part_files.test\)"):
        build(str(folder), split="provided", part_files={**renamed, "test": "x.tsv"})
    with pytest.raises(DataError, match=r"dataset.part_files names train; it must name train, valid and test"):
        build(str(folder), split="provided", part_files={"train": "a.tsv"})
    for part, name in renamed.items():
        (folder / name).rename(folder / f"split.{part}.inter")
    assert build(str(folder), split="provided").fingerprint == expected
    (folder / "train.csv").write_text("")
    with pytest.raises(DataError, match=r"more than one train file: train.csv, split.train.inter"):
        build(str(folder), split="provided")
    with pytest.raises(DataError, match="needs a folder"):
        build(str(folder / "train.csv"), split="provided")


def test_fingerprint_does_not_depend_on_the_order_of_the_file(tmp_path, csv):
    turned = write(tmp_path / "turned.csv", table()[::-1])
    for split in ("random", "strong"):
        assert build(turned, split=split).fingerprint == build(csv, split=split).fingerprint
    seeds = {build(csv, split_seed=seed).fingerprint for seed in (0, 0, 1)}
    assert len(seeds) == 2


def test_fingerprint_depends_on_ids(tmp_path, csv):
    renamed = [(user + 1000, *rest) for user, *rest in table()]
    assert build(write(tmp_path / "b.csv", renamed)).fingerprint != build(csv).fingerprint


def test_describe_adds_up(tmp_path):
    rows = [*table(), (999, 5, 5, 0)]
    path = write(tmp_path / "a.csv", rows)
    counts = build(path, threshold=3, min_user_count=2).describe()
    kept = counts["train_interactions"] + counts["valid_interactions"] + counts["test_interactions"]
    dropped = counts["below_threshold"] + counts["duplicates"] + counts["below_min_count"]
    assert kept + dropped == counts["rows_read"] == 241
    assert counts["below_threshold"] == sum(rating < 3 for _, _, rating, _ in rows)
    assert counts["below_min_count"] == 1


# ---- cache


def contents(dataset):
    parts = dataset._parts
    ragged = [a for part in (parts.known, parts.valid, parts.test) for a in (part.offsets, part.items)]
    return [parts.users, parts.items, parts.train_users, *ragged]


@pytest.mark.parametrize("ids", ["integers", "text"])
def test_cache_hit_changes_nothing(tmp_path, monkeypatch, ids):
    rows = table() if ids == "integers" else [(f"ü{user}", *rest) for user, *rest in table()]
    path, cache = write(tmp_path / "a.csv", rows), tmp_path / "deep" / "cache"
    built = build(path, cache=str(cache))
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("recrun.data.io.files.read_rows", None)  # a hit must not read
    found = build(path, cache=str(cache))
    assert found.fingerprint == built.fingerprint == found._parts.fingerprint()
    assert found.describe() == built.describe()
    for expected, array in zip(contents(built), contents(found), strict=True):
        assert expected.dtype == array.dtype
        np.testing.assert_array_equal(expected, array)


def test_cache_misses_on_other_content_and_settings(tmp_path, csv):
    cache = tmp_path / "cache"
    changes = [
        {},
        {"split_seed": 1},
        {"threshold": 2},
        {"duplicates": "last"},
        {"min_user_count": 2},
        {"split": "leave_last_out"},
        {"user_column": "item", "item_column": "user"},
    ]
    for number, change in enumerate(changes, 1):
        cached, plain = build(csv, cache=str(cache), **change), build(csv, **change)
        assert cached.fingerprint == plain.fingerprint
        assert len(list(cache.iterdir())) == number
    write(Path(csv), table(seed=1))
    assert build(csv, cache=str(cache)).fingerprint == build(csv).fingerprint
    Path(csv).rename(tmp_path / "renamed.csv")
    build(str(tmp_path / "renamed.csv"), cache=str(cache))  # the same content under another name is a hit
    assert len(list(cache.iterdir())) == len(changes) + 1


@pytest.mark.parametrize("damage", [b"", b"rubbish", "half", "flip"])
def test_corrupt_cache_is_made_anew_with_a_warning(tmp_path, csv, caplog, damage):
    cache = tmp_path / "cache"
    expected = build(csv, cache=str(cache))
    (file,) = cache.iterdir()
    whole = bytearray(file.read_bytes())
    if damage == "half":
        damage = whole[: len(whole) // 2]
    elif damage == "flip":
        whole[whole.find(b"known_items.npy") + 200] ^= 1
        damage = whole
    file.write_bytes(damage)
    with caplog.at_level(logging.WARNING, "recrun"):
        assert build(csv, cache=str(cache)).fingerprint == expected.fingerprint
    assert "cannot be read" in caplog.text
    caplog.clear()
    build(csv, cache=str(cache))
    assert caplog.text == ""
    assert list(cache.iterdir()) == [file]


def test_unwritable_cache_warns(tmp_path, csv, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "recrun"):
        dataset = build(csv, cache=str(tmp_path / "file" / "cache"))
    assert "are not cached in" in caplog.text
    assert dataset.fingerprint == build(csv).fingerprint


def test_an_interrupted_write_leaves_no_cache_entry(tmp_path, csv, monkeypatch):
    def broken(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recrun.data.io.cache.np.savez", broken)
    build(csv, cache=str(tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


# ---- bad input


def test_missing_path_says_where_it_looked(tmp_path):
    with pytest.raises(DataError) as error:
        build("no/such.csv", root=str(tmp_path))
    for place in (tmp_path / "no/such.csv", Path("no/such.csv").absolute(), "RECRUN_DATA"):
        assert str(place) in str(error.value)
    with pytest.raises(ConfigError, match=r"dataset.path is missing"):
        build(None)
    with pytest.raises(ConfigError, match=r"do nothing with dataset.source"):
        build("a.csv", source=LatentTaste())


def test_a_relative_path_is_looked_up_under_root_then_here(tmp_path, csv, monkeypatch):
    expected = build(csv).fingerprint
    assert build("ratings.csv", root=str(tmp_path)).fingerprint == expected
    monkeypatch.chdir(tmp_path)
    assert build("ratings.csv", root="elsewhere").fingerprint == expected
    assert build(".").fingerprint == expected  # a folder with a ratings.csv
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"a folder without a ratings file; looked for .*u.data.*dataset.split=provided"
    ):
        build("empty")


def test_fractions_must_leave_something(csv):
    with pytest.raises(ConfigError, match="their sum must be below 1"):
        build(csv, valid_fraction=0.5, test_fraction=0.5)


def test_filters_that_leave_nothing_say_what_they_dropped(csv):
    with pytest.raises(DataError, match=r"no interactions are left of 240 rows: dataset.threshold dropped 240"):
        build(csv, threshold=6)
    with pytest.raises(
        DataError, match=r"dataset.duplicates dropped \d+, dataset.min_user_count and min_item_count dropped"
    ):
        build(csv, min_user_count=1000)


def test_one_user(tmp_path):
    dataset = build(write(tmp_path / "a.csv", [(1, i, 5, i) for i in range(10)]))
    assert dataset.sizes == {"n_users": 1, "n_items": 10}
    (batch,) = dataset.train_batches(500, np.random.default_rng(0))
    assert batch["user"].tolist() == [0]
    assert len(batch["items"]) == 8


def test_one_item(tmp_path):
    path = write(tmp_path / "a.csv", [(u, 1, 5, u) for u in range(10)])
    for split in ("random", "leave_last_out", "strong"):
        with pytest.raises(
            DataError, match=r"nobody can be judged on the valid part: 10 users, 1 items, 10 interactions"
        ):
            build(path, split=split)


def test_users_without_test_items_are_left_out(tmp_path):
    rows = [(1, i, 5, i) for i in range(10)] + [(2, 1, 5, 0)]
    dataset = build(write(tmp_path / "a.csv", rows))
    assert dataset.units("test").tolist() == ["1"]
    assert dataset.train_size() == 2
    assert dataset.describe()["test_users"] == 1


def test_last_batch_of_one_user(csv):
    sizes = [len(batch["user"]) for batch in build(csv).train_batches(11, np.random.default_rng(0))]
    assert sizes == [11, 1]


def test_time_is_asked_for_by_the_splits_that_need_it(tmp_path):
    path = write(tmp_path / "a.csv", table(), columns=("user", "item"))
    build(path)
    for split in ("temporal", "leave_last_out"):
        with pytest.raises(DataError, match=r"a.csv:1: no time column"):
            build(path, split=split)


# ---- configuration


@pytest.mark.parametrize("name", ["interactions", "ml_100k", "ml_1m", "ml_20m", "synthetic_interactions"])
def test_every_key_can_be_set(name):
    """What Hydra lets one override is what the constructor takes, with the same defaults."""
    shared = yaml.safe_load((CONF / "_interactions.yaml").read_text())
    own = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    parameters = inspect.signature(Interactions).parameters
    assert set(shared) - {"_target_"} == set(parameters)
    assert set(own) - {"defaults"} <= set(shared)
    for key in set(shared) - {"_target_", "evaluator", "root", "cache"}:
        assert shared[key] == parameters[key].default, key
    if "source" in own:
        source = {key: p.default for key, p in inspect.signature(LatentTaste).parameters.items()}
        assert {key: value for key, value in own["source"].items() if key != "_target_"} == source


def test_importing_and_reading_does_not_import_torch():
    code = (
        "import sys; from recrun.data.events.interactions import Interactions; from recrun.data.events.synthetic import LatentTaste;"
        "assert 'pandas' not in sys.modules and 'scipy' not in sys.modules;"
        "Interactions(evaluator=None, source=LatentTaste(20, 30, 200, 2)).describe();"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- real data


def data(name):
    folder = Path(os.environ.get("RECRUN_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (folder / name).exists():
        pytest.skip(f"no {name} in {folder}; RECRUN_DATA names the folder that holds it")
    return str(folder)


@pytest.mark.data
def test_ml_100k():
    counts = build("ml-100k", root=data("ml-100k")).describe()
    assert (counts["n_users"], counts["n_items"], counts["rows_read"]) == (943, 1682, 100_000)
    assert [counts[f"{part}_interactions"] for part in ("train", "valid", "test")] == [80_808, 9_596, 9_596]
    assert counts["valid_users"] == counts["test_users"] == 943


@pytest.mark.data
def test_ml_100k_split_of_recbole():
    dataset = build("ml-100k-recbole-split", root=data("ml-100k-recbole-split"), split="provided")
    counts = dataset.describe()
    assert dataset.sizes == {"n_users": 943, "n_items": 1682}
    assert [counts[f"{part}_interactions"] for part in ("train", "valid", "test")] == [80_808, 9_596, 9_596]
    assert counts["duplicates"] == 0


@pytest.mark.parametrize("dropped", [[], [5, 9, 13]])
def test_a_given_catalogue_decides_numbers_and_what_is_known(tmp_path, csv, dropped):
    own = build(csv)
    items = [item for item in reversed(own.vocabulary()["items"].tolist()) if int(item) not in dropped]
    catalogue = tmp_path / "items.txt"
    catalogue.write_text("".join(f"{item}\n" for item in [*items, "never seen"]))
    given = build(csv, catalogue=str(catalogue))
    assert given.vocabulary()["items"].tolist() == [*items, "never seen"]
    for name in ("items", "seen", "target"):
        there, here = (
            {pair for pair in pairs(data, by_user(data.eval_batches("test", 4), name)) if pair[1] not in dropped}
            for data in (own, given)
        )
        assert here <= there
        assert there - here == set() or dropped  # a user may lose the whole input or target
    lost = [row for row in {row[:2] for row in table()} if row[1] in dropped]
    assert given.describe()["unknown_items"] == len(lost)
    assert all(row == sorted(row) for row in by_user(given.eval_batches("test", 4), "items").values())


def test_a_catalogue_without_any_known_item_is_refused(tmp_path, csv):
    (tmp_path / "items.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="nobody can be judged"):
        build(csv, catalogue=str(tmp_path / "items.txt"))
    with pytest.raises(DataError, match=r"dataset\.catalogue=.*nowhere\.txt cannot be read"):
        build(csv, catalogue=str(tmp_path / "nowhere.txt"))
