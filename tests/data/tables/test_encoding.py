"""Ids and scales against pandas and numpy."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.tables import Given, decoded, rows_of

from recrun.data.tables.dataset import Table
from recrun.data.tables.encoding import Encoding, Moments, Scale, Vocabulary, most_frequent
from recrun.errors import CheckpointError
from recrun.evaluation.rows import RowMetrics

TEXTS = st.text(st.sampled_from("ab\\\t\n\r é0"), max_size=3)


def objects(values):
    found = np.empty(len(values), object)
    found[:] = values
    return found


def served(columns, **keys):
    keys = {"sparse": ["x"], "tasks": {"y": None}, "valid_fraction": 0.2, "test_fraction": 0.2, **keys}
    keys["split"] = keys.get("split", "temporal")
    return Table(
        RowMetrics(), source=Given({**columns, "y": [n % 2 for n in range(len(next(iter(columns.values()))))]}), **keys
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(TEXTS, min_size=5, max_size=60), st.integers(1, 3))
def test_ids_are_those_of_the_training_part_by_frequency(values, min_count):
    data = served({"x": values}, min_count=min_count)
    train, held_out = pd.Series(values[: data.train_size()]), values[data.train_size() :]
    counts = train.value_counts()
    known = sorted(counts[counts >= min_count].index, key=lambda text: (-counts[text], text))
    (field,) = data.sizes["features"].fields
    assert (field.first, field.size) == (0, 1 + len(known))
    found = [
        row for split in ("valid", "test") for batch in data.eval_batches(split, 3) for row in batch["sparse"][:, 0]
    ]
    assert found == [known.index(text) + 1 if text in known else 0 for text in held_out]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(TEXTS, max_size=4), min_size=2, max_size=5))
def test_what_a_run_keeps_is_what_it_knew(tmp_path_factory, columns):
    folder = tmp_path_factory.mktemp("kept")
    vocabularies, first = [], 0
    for number, values in enumerate(columns):
        vocabularies.append(Vocabulary(f"col\t{number}", first, objects(list(dict.fromkeys(values)))))
        first += vocabularies[-1].size
    encoding = Encoding(tuple(vocabularies), (Scale("a\\b", "log", 0.1, 1 / 3, -2e-300),))
    encoding.save(folder)
    again = Encoding.load(folder)
    assert again.scales == encoding.scales
    assert again.digest() == encoding.digest()
    for one, other in zip(again.vocabularies, encoding.vocabularies, strict=True):
        assert (one.owner, one.first, list(one.values)) == (other.owner, other.first, list(other.values))


def test_a_folder_without_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no vocabulary of a table"):
        Encoding.load(tmp_path)


def test_shared_ids_count_together_and_sequences_keep_their_last():
    data = served(
        {"x": list("abcabcaaab"), "past": [["c"], ["c", "a"], [], ["c", "d", "a"]] + [["c"]] * 6},
        sequences={"past": {"max_length": 2}},
        share={"past": "x"},
        valid_fraction=0.0,
    )
    features = data.sizes["features"]
    assert features.sequences[0].first == features.fields[0].first
    assert decoded(data, range(5)) == [None, "c", "a", "b", "d"]  # c 8 times, a 5, b 2, d once
    batch = next(data.train_batches(100, np.random.default_rng(0)))
    offsets, past = batch["past_offsets"], batch["past"]
    lists = [decoded(data, past[a:b]) for a, b in pairwise(offsets)]
    assert sorted(map("".join, lists)) == sorted(["c", "ca", "", "da", "c", "c", "c", "c"])


def test_hashed_ids_stay_in_their_rows_and_depend_on_the_text_alone():
    data = served({"x": [f"t{n}" for n in range(100)], "z": list("ab") * 50}, sparse=["x", "z"], buckets={"x": 16})
    first, second = data.sizes["features"].fields
    assert (first.first, first.size, second.first) == (0, 17, 17)
    batch = rows_of(data, "test")["sparse"][:, 0]
    assert batch.min() >= 1
    assert batch.max() <= 16
    other = served({"x": [f"t{n}" for n in reversed(range(100))]}, buckets={"x": 16})
    assert sorted(rows_of(other, "valid")["sparse"][:, 0]) != sorted(batch)
    texts = objects(["t1", "t99", ""])
    assert (
        Vocabulary("x", 0, buckets=16).encode(texts).tolist() == Vocabulary("y", 0, buckets=16).encode(texts).tolist()
    )


NUMBERS = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=10, max_size=40)


@settings(deadline=None, max_examples=40)
@given(NUMBERS, st.sampled_from(["standard", "log", "minmax", "none"]))
def test_numbers_are_scaled_by_the_training_part(numbers, kind):
    x = np.array([np.nan if number is None else number for number in numbers])
    data = served({"x": ["a"] * len(x), "n": x}, dense=["n"], scale=kind, dense_missing="indicator")
    curved = np.sign(x) * np.log1p(np.abs(x)) if kind == "log" else x
    train = pd.Series(curved[: data.train_size()])
    mean = 0.0 if train.isna().all() else train.mean()
    spread = {"standard": train.std(ddof=0), "log": train.std(ddof=0), "minmax": train.max() - train.min()}.get(
        kind, 1.0
    )
    shift = {"minmax": train.min(), "none": 0.0}.get(kind, mean)
    if train.isna().all():
        shift, spread = 0.0, 1.0
    expected = (np.where(np.isnan(curved), mean, curved) - shift) / (spread if spread > 1e-9 else 1.0)
    found = np.concatenate([rows_of(data, split)["dense"] for split in ("valid", "test")])
    if spread == 0 or spread > 1e-6:  # between these rounding decides
        held_out = slice(data.train_size(), None)
        np.testing.assert_allclose(found[:, 0], expected[held_out], rtol=1e-4, atol=1e-4)
    assert found[:, 1].tolist() == np.isnan(x)[data.train_size() :].tolist()
    assert data.sizes["features"].dense == ("n", "n_missing")


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50), st.integers(1, 7))
def test_moments_added_up_in_parts_are_those_of_the_whole(numbers, size):
    moments = Moments.none(1)
    for begin in range(0, len(numbers), size):
        moments.add(np.array(numbers[begin : begin + size])[:, None])
    assert moments.mean[0] == pytest.approx(np.mean(numbers), abs=1e-9)
    assert moments.squares[0] == pytest.approx(np.var(numbers) * len(numbers), abs=1e-5)
    assert (moments.low[0], moments.high[0]) == (min(numbers), max(numbers))


@pytest.mark.parametrize("value", [0.1, 1e9 / 3, 1e-40])
def test_a_constant_column_is_none_after_scaling(value):
    moments = Moments.none(1)
    for size in (3, 7, 11):
        moments.add(np.full((size, 1), value))
    moments.add(np.array([[np.nan]]))
    scale = moments.scale(0, "n", "standard")
    assert np.abs(scale.apply(np.array([value, np.nan]))).max() < 1e-6


def test_the_most_frequent_come_first_and_equal_ones_by_text():
    values, counts = objects(["d", "b", "a", "c"]), np.array([2, 5, 2, 1])
    assert most_frequent(values, counts, 2).tolist() == ["b", "a", "d"]
