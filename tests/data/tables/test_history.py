"""Histories that are made of earlier training rows, against a loop over the rows."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.tables import Given, decoded, rows_of, table

from recrun.data.tables import prepare
from recrun.data.tables.column_store import ColumnStore
from recrun.data.tables.dataset import Table
from recrun.data.tables.history import History, Past, time_ranks
from recrun.errors import ConfigError, DataError
from recrun.evaluation.rows import RowMetrics
from recrun.models.din import targets_of

HISTORIES = {
    "liked": {"of": "item", "by": "user", "where": "like", "max_length": 3},
    "skipped": {"of": "item", "by": "user", "unless": "like"},
    "past": {"of": "item", "by": "user"},
}
KEYS = {"sparse": ["user", "item"], "tasks": {"like": None}, "split": "column", "split_column": "part"}

rows = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from("vwxyz"),
        st.integers(0, 5),
        st.integers(0, 1),
        st.sampled_from(["train", "train", "valid", "test"]),
    ),
    max_size=25,
)


def before(frame, row, wanted, length):
    """Items of the training rows before a row, oldest first."""
    past = frame[(frame.user == row.user) & (frame.time < row.time) & (frame.part == "train") & wanted(frame)]
    return past.sort_values("time", kind="stable").item.tolist()[-length:]


def histories(data, found, name):
    bounds = found[f"{name}_offsets"]
    return [decoded(data, found[name][a:b]) for a, b in pairwise(bounds)]


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(1, 9))
def test_a_past_is_what_a_loop_finds(rows, size):
    rows = [("a", "v", 0, 1, "train"), ("a", "w", 3, 0, "valid"), *rows]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "like", "part"])
    source = Given({name: [str(value) for value in frame[name]] for name in frame} | {"like": frame.like.tolist()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "ROWS_AT_ONCE", size)
        data = Table(RowMetrics(), source=source, time_column="time", histories=HISTORIES, **KEYS)
    for part in ("valid", "test"):
        judged = frame[frame.part == part]
        found = rows_of(data, part) if len(judged) else None
        for name, wanted, length in (
            ("liked", lambda some: some.like == 1, 3),
            ("skipped", lambda some: some.like == 0, 50),
            ("past", lambda some: some.like >= 0, 50),
        ):
            expected = [before(frame, row, wanted, length) for row in judged.itertuples()]
            assert not len(judged) or histories(data, found, name) == expected
    (batch,) = data.train_batches(100, np.random.default_rng(0))
    lengths = sorted(batch["past_offsets"].diff().tolist())
    train = frame[frame.part == "train"]
    assert lengths == sorted(len(before(frame, row, lambda some: some.like >= 0, 50)) for row in train.itertuples())


def test_without_a_time_rows_are_in_order_and_a_group_need_not_be_a_feature():
    columns = {"user": list("aabab"), "item": list("vwxyz"), "like": [1, 1, 0, 1, 0], "part": ["train"] * 4 + ["valid"]}
    keys = {**KEYS, "sparse": ["item"], "group": "user"}
    data = Table(RowMetrics(), source=Given(columns), histories={"past": {"of": "item", "by": "user"}}, **keys)
    assert histories(data, rows_of(data, "valid"), "past") == [["x"]]
    features = data.sizes["features"]
    assert [field.name for field in features.sequences] == ["past"]
    assert targets_of(features) == {"past": 0}  # its ids are those of the items
    assert data.describe()["n_ids"] == 5  # unknown, v, w, x, y: a past counts for nothing


def test_a_held_out_label_reaches_no_input():
    columns = {"user": ["a"] * 6, "item": list("vwxyzv"), "part": ["train", "valid", "test", "train", "valid", "train"]}
    found = []
    for labels in ([1, 0, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1]):
        data = Table(RowMetrics(), source=Given({**columns, "like": labels}), histories=HISTORIES, **KEYS)
        batches = [*data.train_batches(9, np.random.default_rng(0)), *data.eval_batches("test", 9)]
        found.append([{name: values for name, values in batch.items() if name != "label"} for batch in batches])
    for one, other in zip(*found, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_file_to_predict_has_its_histories_as_columns(tmp_path):
    text = "user,item,like,part\na,v,1,train\na,w,0,train\na,v,1,valid\nb,x,1,train\nb,v,1,test\n"
    data = table(tmp_path, text, histories=HISTORIES, **KEYS)
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    for name, lines in data.vocabulary().items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "new.csv").write_text("item,user,liked,skipped,past\nw,b,v|w|x|q|x,,x\n")
    keys = {**KEYS, "run_vocabulary": str(folder), "test_path": str(tmp_path / "new.csv"), "histories": HISTORIES}
    found = rows_of(table(tmp_path, text, **keys), "test")
    assert histories(data, found, "liked") == [["x", None, "x"]]
    assert histories(data, found, "skipped") == [[]]
    (tmp_path / "new.csv").write_text("item,user\nw,b\n")
    with pytest.raises(DataError, match=r"no column .liked.: rows to evaluate .* histories as columns"):
        table(tmp_path, text, **keys)


@pytest.mark.parametrize("flat", [{}, {"time": np.random.default_rng(1).integers(0, 999, 100_000).astype(float)}])
def test_the_memory_that_a_history_takes(flat):
    size = 100_000
    flat = {"sparse": np.zeros((size, 2), np.int32), "label": np.ones((size, 1), np.float32), **flat}
    tracemalloc.start()
    past = Past(History("h", "item", "user"), ColumnStore(flat), np.zeros(size, np.int8), ["user", "item"], ["like"])
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(past.codes) == size
    assert held / size < 20.1
    assert most / size < 35.1


@given(st.lists(st.integers(-3, 3), min_size=1))
def test_equal_times_have_equal_ranks(times):
    expected = np.unique(times, return_inverse=True)[1]
    assert time_ranks(ColumnStore({"time": np.array(times, float)})).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"of": "thing", "by": "user"}, r"histories\.h\.of=thing: expected a sparse column; there are user, item"),
        ({"of": "item"}, r"histories\.h\.by=None: expected a sparse column or group; there are user, item"),
        ({"of": "item", "by": "user", "where": "likes"}, r"where=likes: no classification; did you mean 'like'"),
        ({"of": "item", "by": "user", "unless": "stars"}, r"unless=stars: no classification"),
        ({"of": "item", "by": "user", "max_length": 0}, r"max_length=0: expected a whole number of 1 or more"),
        ({"of": "item", "by": "user", "label": 1}, r"unknown key dataset\.histories\.h\.label"),
    ],
)
def test_a_history_of_nothing_is_refused(keys, told):
    with pytest.raises(ConfigError, match=told):
        Table(RowMetrics(), **{**KEYS, "tasks": {"like": None, "stars": "regression"}}, path="x", histories={"h": keys})


def test_a_history_is_no_column_of_another_name():
    with pytest.raises(ConfigError, match="feature more than once"):
        Table(RowMetrics(), **KEYS, path="x", histories={"item": {"of": "item", "by": "user"}})
