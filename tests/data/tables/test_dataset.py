"""Tables: what is served of what was read, how rows are divided, and what is refused."""

import gzip
import io
import logging
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.tables import CLICKS, Given, decoded, rows_of, table

from recrun.data.tables import dataset as table_module
from recrun.data.tables.dataset import Table
from recrun.data.tables.split import random_rows
from recrun.errors import CheckpointError, ConfigError, DataError
from recrun.evaluation.rows import RowMetrics
from recrun.features import Task

ALL = ("train", "valid", "test")


def all_rows(data):
    """Everything that a table serves, by part, as sorted lists of cells."""
    found = {}
    for split in ALL:
        batches = data.train_batches(7, np.random.default_rng(0)) if split == "train" else data.eval_batches(split, 7)
        found[split] = [tuple(row) for batch in batches for row in cells(data, batch)]
    return found


def cells(data, batch):
    ids = np.array([decoded(data, row) for row in batch["sparse"].tolist()], object)
    return np.concatenate([ids, batch["dense"].numpy(), batch["label"].numpy()], 1).tolist()


def test_a_batch_is_what_the_contract_says(tmp_path):
    text = "user,film,age,genres,click,stars\nu1,f1,30,a|b,1,4\nu2,f2,,b,0,2.5\nu1,f2,40,,0,3\n"
    data = table(
        tmp_path,
        text,
        sparse=["user", "film"],
        dense=["age"],
        sequences={"genres": None},
        tasks={"click": "classification", "stars": "regression", "liked": {"column": "stars", "at_least": 3}},
        group="user",
        valid_fraction=0.0,
        test_fraction=0.0,
    )
    batch = next(data.train_batches(10, np.random.default_rng(0)))
    assert list(batch) == ["sparse", "dense", "genres", "genres_offsets", "label"]
    kinds = {"sparse": torch.int32, "dense": torch.float32, "genres": torch.int32, "genres_offsets": torch.int64}
    assert {name: batch[name].dtype for name in kinds} == kinds
    assert batch["label"].dtype == torch.float32
    order = batch["label"][:, 1].argsort()
    assert batch["label"][order].tolist() == [[0, 2.5, 0], [0, 3, 1], [1, 4, 1]]
    assert [decoded(data, row) for row in batch["sparse"][order].tolist()] == [["u2", "f2"], ["u1", "f2"], ["u1", "f1"]]
    assert batch["dense"][order, 0].tolist() == [0, 1, -1]  # 40 is one deviation above 35
    parts = [batch["genres"][a:b] for a, b in pairwise(batch["genres_offsets"])]
    assert [decoded(data, parts[at].tolist()) for at in order] == [["b"], [], ["a", "b"]]
    assert data.sizes["tasks"] == (Task("click"), Task("stars", "regression"), Task("liked"))
    assert data.monitor == "click/auc"


def test_groups_are_told_to_those_who_judge_alone_and_tell_unknown_users_apart(tmp_path):
    text = "user,click\n" + "".join(f"u{n},{n % 2}\n" for n in range(20))
    data = table(tmp_path, text, sparse=["user"], group="user", split="temporal", test_fraction=0.2)
    found = rows_of(data, "test")
    assert found["sparse"].tolist() == [[0]] * 4
    assert len(set(found["group"])) == 4
    assert "group" not in next(data.train_batches(4, np.random.default_rng(0)))


@settings(deadline=None)
@given(st.integers(1, 300), st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 3))
def test_a_random_split_is_one_permutation_cut_twice(n, valid, test, seed):
    part = random_rows(n, valid, test, seed)
    assert np.isclose((part == 2).sum(), n * test, atol=1)
    assert np.isclose((part == 1).sum(), n * valid, atol=1)
    order = np.random.default_rng(seed).permutation(n)
    assert (np.diff(part[order]) >= 0).all()


def test_the_random_split_of_a_hundred_rows():
    order = np.random.default_rng(5).permutation(100)
    part = random_rows(100, 0.1, 0.2, 5)
    assert set(np.flatnonzero(part == 0)) == set(order[:70])
    assert set(np.flatnonzero(part == 2)) == set(order[80:])


def test_rows_keep_their_number_in_the_input(tmp_path):
    data = table(tmp_path, dense=["age"], scale="none")
    ages = [f"{n % 4}.5" for n in range(50)]
    for split in ("valid", "test"):
        numbers = data.units(split).astype(int)
        assert [ages[number - 1] for number in numbers] == [str(x) for x in rows_of(data, split)["dense"][:, 0]]


def test_numbers_of_rows_take_no_more_room_than_their_digits(tmp_path):
    data = table(tmp_path)
    assert data.units("test").dtype == data.units("valid").dtype == np.dtype("U2")  # of 50 rows
    assert data.eval_size("test") == len(data.units("test")) == 5


def test_a_temporal_split_cuts_by_numbers_dates_or_as_rows_come(tmp_path):
    days = [*range(2, 12), 1]
    for name, times in {
        "numbers": [str(day) for day in days],
        "dates": [f"2024-05-{day:02}T03:00:00" for day in days],
    }.items():
        text = "user,when,click\n" + "".join(f"{day},{time},1\n" for day, time in zip(days, times, strict=True))
        keys = {"split": "temporal", "valid_fraction": 0.2, "test_fraction": 0.3}
        data = table(tmp_path / name, text, sparse=["user"], time_column="when", **keys)
        assert data.units("test").tolist() == ["8", "9", "10"]
        assert data.units("valid").tolist() == ["6", "7"]
    data = table(tmp_path, text, sparse=["user"], **keys)
    assert (data.units("valid").tolist(), data.units("test").tolist()) == (["7", "8"], ["9", "10", "11"])


def test_a_column_may_be_a_time_a_number_and_a_label_at_once(tmp_path):
    text = "user,when,click\n" + "".join(f"u1,{10 - n},1\n" for n in range(10))
    tasks = {"late": {"column": "click", "at_least": 1}, "paid": {"column": "click", "equals": "1"}}
    keys = {"dense": ["when"], "time_column": "when", "split": "temporal", "scale": "none", "tasks": tasks}
    data = table(tmp_path, text, sparse=["user"], **keys)
    assert rows_of(data, "test")["dense"].tolist() == [[10]]
    assert rows_of(data, "test")["label"].tolist() == [[1, 1]]


def test_a_column_may_say_the_part(tmp_path):
    parts = ["train", "test", "valid", "train", "train"]
    text = "user,part,click\n" + "".join(f"u{n},{part},0\n" for n, part in enumerate(parts))
    data = table(tmp_path, text, sparse=["user"], split="column", split_column="part")
    assert (data.train_size(), data.units("valid").tolist(), data.units("test").tolist()) == (3, ["3"], ["2"])
    with pytest.raises(DataError, match=r"t.csv:4: column part is 'dev'; it must say train, valid, test"):
        table(tmp_path, text.replace("valid", "dev"), sparse=["user"], split="column", split_column="part")


def test_files_of_the_parts_and_validation_rows_from_train_where_there_is_no_file(tmp_path):
    (tmp_path / "train.csv").write_text(CLICKS)
    (tmp_path / "test.tsv").write_text("user\titem\tclick\nu1\tnew\t1\n")
    keys = {"sparse": ["user", "item"], "tasks": {"click": None}, "path": str(tmp_path), "split": "provided"}
    data = Table(RowMetrics(), valid_fraction=0.2, **keys)
    assert (data.train_size(), len(data.units("valid")), data.units("test").tolist()) == (40, 10, ["51"])
    assert decoded(data, rows_of(data, "test")["sparse"][0]) == ["u1", None]
    named = Table(RowMetrics(), valid_fraction=0.0, part_files={"train": "test.tsv", "valid": "train.csv"}, **keys)
    assert (named.train_size(), len(named.units("valid")), len(named.units("test"))) == (1, 50, 0)
    for part_files, fault in {
        "lacking": ({"valid": "train.csv"}, "it takes train"),
        "absent": ({"train": "none.csv"}, "none.csv does not exist"),
    }.values():
        with pytest.raises((ConfigError, DataError), match=fault):
            Table(RowMetrics(), part_files=part_files, **keys)
    (tmp_path / "train.csv.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"more than one train file: train\.csv, train\.csv\.gz"):
        Table(RowMetrics(), **keys)
    with pytest.raises(DataError, match=r"needs a folder .* dataset\.test_path takes a single file"):
        Table(RowMetrics(), **{**keys, "path": str(tmp_path / "test.tsv")})
    with pytest.raises(DataError, match="no train file"):
        Table(RowMetrics(), **{**keys, "path": str(tmp_path.parent)})


def test_a_folder_of_files_that_continue_each_other(tmp_path):
    for name, rows in {"b": "u3,1\nu4,0\n", "a": "u1,1\nu2,0\n"}.items():
        (tmp_path / f"{name}.csv").write_text("user,click\n" + rows)
    keys = {"sparse": ["user"], "tasks": {"click": None}, "path": str(tmp_path), "test_fraction": 0.5}
    data = Table(RowMetrics(), split="temporal", valid_fraction=0.0, **keys)
    assert decoded(data, next(data.train_batches(9, np.random.default_rng(0)))["sparse"][:, 0].sort().values) == [
        "u1",
        "u2",
    ]
    (tmp_path / "b.csv").write_text("user,click\nu1,1\nu2,x\n")
    with pytest.raises(DataError, match=r"b.csv:3: column click is 'x', not a finite number"):
        Table(RowMetrics(), **keys)
    (tmp_path / "b.csv").write_text("usr,click\nu1,1\n")
    with pytest.raises(DataError, match=r"b.csv: no column 'user', which the first file has; did you mean 'usr'"):
        Table(RowMetrics(), **keys)


@pytest.mark.parametrize("kind", ["csv", "tsv.gz", "headless", "parquet", "npz"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind):
    frame = pd.read_csv(io.StringIO(CLICKS), keep_default_na=False)
    expected = all_rows(table(tmp_path / "csv", CLICKS, dense=["age"]))
    path, keys = tmp_path / f"t.{kind}", {}
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "npz":
        np.savez(path, **{name: frame[name].to_numpy(str if name in ("user", "item") else float) for name in frame})
    elif kind == "headless":
        path = tmp_path / "t.txt"
        path.write_text(CLICKS.split("\n", 1)[1])
        keys = {"columns": ["user", "item", "age", "click"]}
    else:
        text = frame.to_csv(sep="\t" if kind == "tsv.gz" else ",", index=False)
        path.write_bytes(gzip.compress(text.encode()) if kind == "tsv.gz" else text.encode())
    data = Table(RowMetrics(), tasks={"click": None}, path=str(path), sparse=["user", "item"], dense=["age"], **keys)
    assert all_rows(data) == expected


def test_two_dimensional_arrays_are_columns_by_number(tmp_path):
    sparse, click = np.arange(20).reshape(10, 2) % 3, np.arange(10) % 2
    np.savez(tmp_path / "t.npz", sparse=sparse, click=click, n=8, vocab=np.arange(2))
    data = Table(
        RowMetrics(),
        tasks={"click": None},
        path=str(tmp_path / "t.npz"),
        sparse=["sparse1"],
        split="temporal",
        test_fraction=0.3,
    )
    assert decoded(data, rows_of(data, "test")["sparse"][:, 0]) == [str(value) for value in sparse[7:, 1]]


def test_parquet_lists_nulls_and_numbers_that_are_none(tmp_path):
    frame = {
        "user": [1, None, 3, 1],
        "seen": [["a"], [], None, ["b", "a"]],
        "age": [1.0, None, 2.0, 3.0],
        "click": [0, 1, 1, 0],
    }
    pd.DataFrame(frame).astype({"user": "Int64"}).to_parquet(tmp_path / "t.parquet")
    keys = {
        "tasks": {"click": None},
        "path": str(tmp_path / "t.parquet"),
        "sparse": ["user"],
        "sequences": {"seen": None},
    }
    data = Table(
        RowMetrics(), dense=["age"], scale="none", split="temporal", valid_fraction=0.0, test_fraction=0.0, **keys
    )
    batch = next(data.train_batches(4, np.random.default_rng(0)))
    order = batch["sparse"][:, 0].argsort(stable=True)
    assert decoded(data, batch["sparse"][order, 0]) == ["1", "1", "", "3"]
    assert sorted(batch["dense"][:, 0].tolist()) == [1, 2, 2, 3]
    assert batch["seen_offsets"].diff().sort().values.tolist() == [0, 0, 1, 2]
    frame["age"] = [1.0, float("inf"), 2.0, 3.0]
    pd.DataFrame(frame).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet: row 2: column age is inf"):
        Table(RowMetrics(), dense=["age"], **keys)


def test_side_tables_are_put_beside_the_rows(tmp_path):
    (tmp_path / "users.user").write_text("user:token\tage:float\tjob:token\nu1\t30\tcook\nu2\t40\tcook\n")
    (tmp_path / "films.item").write_text("film:token\tgenres:token_seq\nf1\ta b\nf2\t\n")
    text = "user,film,click\nu1,f1,1\nu2,f2,0\nu3,f3,1\n"
    keys = {"sparse": ["user", "job"], "dense": ["age"], "sequences": {"genres": {"separator": " "}}, "scale": "none"}
    join = {"user": str(tmp_path / "users.user"), "film": str(tmp_path / "films.item")}
    whole = {"split": "temporal", "valid_fraction": 0.0, "test_fraction": 0.0}
    data = table(tmp_path, text, join=join, **keys, **whole)
    batch = next(data.train_batches(9, np.random.default_rng(0)))
    order = batch["sparse"][:, 0].argsort()
    assert [decoded(data, row) for row in batch["sparse"][order].tolist()] == [
        ["u1", "cook"],
        ["u2", "cook"],
        ["u3", ""],
    ]
    assert batch["dense"][order, 0].tolist() == [30, 40, 35]  # who is missing is as old as the others
    assert batch["genres_offsets"].diff()[order].tolist() == [2, 0, 0]
    (tmp_path / "nobody.csv").write_text("user,job,age\n")
    with pytest.raises(DataError, match=r"nobody.csv describes 0 of 3 rows .* it has no rows \(dataset.join.user\)"):
        table(tmp_path, text, join={**join, "user": str(tmp_path / "nobody.csv")}, **keys, **whole)
    with pytest.raises(DataError, match=r"users.user: no column 'film' \(dataset.join\)"):
        table(tmp_path, text, join={**join, "film": join["user"]}, sparse=["user", "job"])
    (tmp_path / "users.user").write_text("user:token\tage:float\tjob:token\nu1\t30\tcook\nu1\t40\tcook\n")
    with pytest.raises(DataError, match=r"users.user:3: user 'u1' is there twice"):
        table(tmp_path, text, join=join, **keys)
    (tmp_path / "films.item").write_text("film:token\tgenres:token_seq\tjob:token\nf1\ta b\tx\n")
    (tmp_path / "users.user").write_text("user:token\tage:float\tjob:token\nu1\t30\tcook\n")
    with pytest.raises(DataError, match="column 'job' is in two side tables"):
        table(tmp_path, text, join=join, **keys)


FAULTS = {
    "unknown column": ({"sparse": ["usr"]}, None, r"t.csv: no column 'usr' \(dataset.sparse\); did you mean 'user'"),
    "unknown label": (
        {"tasks": {"clik": None}},
        None,
        r"no column 'clik' \(dataset.tasks.clik\); did you mean 'click'",
    ),
    "unknown group": ({"group": "session"}, None, r"no column 'session' \(dataset.group\); there are user, item, age"),
    "label outside its type": (
        {"tasks": {"age": "classification"}, "dense": []},
        None,
        r"t.csv:2: the label age is 0.5, and a classification label is 0 or 1; dataset.tasks.age may be regression",
    ),
    "label of text": (
        {"tasks": {"user": None}, "sparse": ["item"]},
        None,
        r"t.csv:2: column user is 'u0', not a finite",
    ),
    "large label": (
        {"tasks": {"age": "regression"}, "dense": []},
        "user,item,age\nu1,i1,-1e39\n",
        r"is -1e\+39, which float32 cannot hold",
    ),
    "no label": ({}, "user,item,age,click\nu1,i1,3,1\nu1,i1,3,\n", r"t.csv:3: the label click is missing"),
    "text that no row has": (
        {"tasks": {"u": {"column": "user", "equals": "U1"}}, "sparse": ["item"]},
        None,
        r"column user is 'U1' in no row \(dataset.tasks.u.equals\); did you mean 'u1'",
    ),
    "not a number": (
        {},
        "user,item,age,click\nu1,i1,3,1\nu1,i1,NA,1\n",
        r"t.csv:3: column age is 'NA', not a finite number",
    ),
    "nan": ({}, "user,item,age,click\nu1,i1,nan,1\n", r"t.csv:2: column age is 'nan', not a finite number"),
    "inf": ({}, 'user,item,age,click\n\n"u\n1",i1,3,1\nu1,i1,-inf,1\n', r"t.csv:5: column age is '-inf', not a finite"),
    "too large": (
        {"scale": "none"},
        "user,item,age,click\n" + "u1,i1,1e39,1\n" * 5,
        r"column age has numbers too large",
    ),
    "missing number": (
        {"dense_missing": "error"},
        "user,item,age,click\nu1,i1,3,1\nu1,i1,,1\n",
        r"t.csv:3: column age is empty; dataset.dense_missing=mean or indicator",
    ),
    "short row": ({}, "user,item,age,click\nu1,i1,3,1\nu1,i1\n", r"t.csv:3: the row has 2 cells, expected 4"),
    "long row": ({}, "user,item,age,click\nu1,i1,3,1\nu1,i1,2,1,5\n", r"t.csv:3: the row has 5 cells, expected 4"),
    "open quote": (
        {},
        'user,item,age,click\nu1,i1,3,1\nu1,"i1,2,1\n' + "u1,i1,3,1\n" * 20_000,
        r"t.csv:3: unexpected end of data \(a quote that is not closed\?\)",
    ),
    "no rows": ({}, "user,item,age,click\n", r"t.csv: there are no rows"),
    "empty": ({}, "", r"t.csv: the file is empty"),
    "twice": ({}, "user,item,age,user,click\nu1,i1,3,1,1\n", r"t.csv:1: two columns are called 'user'"),
    "not UTF-8": ({}, CLICKS.encode() + b"\xff,i1,1,0\n", r"t.csv:52: not UTF-8 text"),
    "names do not fit": ({"columns": ["a", "b"]}, None, r"t.csv:1: the row has 4 cells, but dataset.columns names 2"),
    "separator": ({"separator": "::"}, None, "no column 'user'"),
    "time": ({"split": "temporal", "time_column": "user"}, None, r"t.csv:2: the time is 'u0', neither a number nor"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_refused_with_its_place(tmp_path, fault):
    keys, text, message = FAULTS[fault]
    with pytest.raises(DataError, match=message) as caught:
        table(tmp_path, CLICKS if text is None else text, **{"dense": ["age"], **keys})
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("label", "kept"), [("16777216", True), ("-16777218", True), ("16777217", False), ("1e8", True)]
)
def test_labels_are_exact_or_refused(tmp_path, label, kept):
    """float32 holds whole numbers to 2^24, and above it those that are even enough."""
    keys = {"tasks": {"age": "regression"}, "split": "temporal", "valid_fraction": 0.0, "test_fraction": 0.0}
    text = f"user,item,age\nu1,i1,0.1\nu1,i1,{label}\n"
    if kept:
        [batch] = table(tmp_path, text, **keys).train_batches(9, np.random.default_rng(0))
        assert float(label) in batch["label"].double().flatten().tolist()
    else:
        with pytest.raises(DataError, match=r"t.csv:3: the label age is 16777217.0, which float32 cannot hold; divide"):
            table(tmp_path, text, **keys)


CONTRADICTIONS = {
    "a sequence that a batch calls something else": (
        {"sequences": {"group": {}}},
        "dataset.sequences or histories: 'group' is what a batch calls something else; rename the column",
    ),
    "a sequence like the numbers": ({"sequences": {"dense": {}}}, "'dense' is what a batch calls something else"),
    "a sequence like the offsets of another": (
        {"sequences": {"past": {}, "past_offsets": {}}},
        "'past_offsets' is what a batch calls something else",
    ),
    "a history like the labels": (
        {"histories": {"label": {"of": "item", "by": "user"}}},
        "'label' is what a batch calls something else",
    ),
    "no tasks": ({"tasks": {}}, "dataset.tasks is missing"),
    "a task called mean": ({"tasks": {"mean": {"column": "click"}}}, "mean.auc is the mean over the tasks"),
    "no features": ({"sparse": []}, "no features"),
    "twice": ({"dense": ["user"]}, "'user' is a feature more than once"),
    "a label too": ({"sparse": ["click"]}, "'click' is the label of task click and a feature too"),
    "unknown kind": ({"tasks": {"click": "clasification"}}, "did you mean 'classification'"),
    "unknown key": (
        {"tasks": {"click": {"atleast": 3}}},
        r"unknown key dataset.tasks.click.atleast; did you mean 'at_least'",
    ),
    "two ways": ({"tasks": {"click": {"at_least": 3, "equals": 4}}}, "give one"),
    "a number from a threshold": (
        {"tasks": {"click": {"kind": "regression", "at_least": 3}}},
        "make labels of 0 and 1",
    ),
    "threshold of text": ({"tasks": {"click": {"at_least": "3"}}}, "expected a number"),
    "shares with a stranger": ({"share": {"item": "film"}}, "'film' is no id feature"),
    "shares in a row": ({"sparse": ["user", "item", "age"], "share": {"item": "user", "age": "item"}}, "shares too"),
    "separator": ({"sequences": {"age": {"separator": ""}}}, "expected text"),
    "length": ({"sequences": {"age": {"max_length": 0}}}, "whole number of 1 or more"),
    "scale of a stranger": ({"dense": ["age"], "scale": {"aeg": "log"}}, "did you mean 'age'"),
    "buckets of a stranger": ({"buckets": {"usr": 9}}, "dataset.buckets.usr: no id feature"),
    "both sources": ({"source": Given({"user": []})}, "dataset.path does nothing with dataset.source"),
    "no rows left": ({"valid_fraction": 0.5, "test_fraction": 0.5}, "leave no rows to train on"),
    "column without a name": ({"split": "column"}, "needs dataset.split_column"),
    "name without effect": ({"time_column": "age"}, "dataset.time_column=age does nothing with split=random"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_refused(tmp_path, case):
    keys, message = CONTRADICTIONS[case]
    with pytest.raises(ConfigError, match=message) as caught:
        table(tmp_path, **keys)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_path_that_is_not_there():
    with pytest.raises(DataError, match=r"dataset.path=none.csv does not exist; looked for .*none.csv and .*none.csv"):
        Table(RowMetrics(), tasks={"click": None}, path="none.csv", root="/somewhere", sparse=["user"])
    with pytest.raises(ConfigError, match=r"dataset.path is missing"):
        Table(RowMetrics(), tasks={"click": None}, sparse=["user"])


def test_na_is_a_text_an_empty_cell_a_value_and_no_number_too_long_for_an_id(tmp_path):
    ids = ["NA", "", "nan", "99999999999999999999999", "007", "7", "None", '"a,b"', "é"]
    text = "user,click\n" + "".join(f"{text},{n % 2}\n" for n, text in enumerate(ids * 2))
    data = table(tmp_path, text, sparse=["user"], split="temporal", valid_fraction=0.0, test_fraction=0.5)
    assert decoded(data, rows_of(data, "test")["sparse"][:, 0]) == [text.strip('"') for text in ids]
    assert data.sizes["features"].n_ids == 1 + len(ids)


@pytest.mark.parametrize("ids", [["7", "007", "+7"], ["1.5", "1.50"], ["true", "True"], ["12345678901234567890123"]])
def test_ids_that_look_like_numbers_are_texts_too(tmp_path, ids):
    text = "user,click\n" + "".join(f"{text},1\n" for text in ids * 2)
    data = table(tmp_path, text, sparse=["user"], split="temporal", valid_fraction=0.0, test_fraction=0.5)
    assert decoded(data, rows_of(data, "test")["sparse"][:, 0]) == ids


def test_unseen_values_are_counted_and_have_the_unknown_id(tmp_path):
    text = "user,click\n" + "u1,1\n" * 6 + "u2,0\nu1,0\n" + "u3,1\nu1,1\n"
    data = table(tmp_path, text, sparse=["user"], split="temporal", valid_fraction=0.2, test_fraction=0.2)
    assert rows_of(data, "valid")["sparse"].tolist() == [[0], [1]]
    assert data.describe() == {
        "n_ids": 2,
        "train_rows": 6,
        "train_positive/click": 1.0,
        "valid_rows": 2,
        "valid_unknown/user": 0.5,
        "valid_positive/click": 0.0,
        "test_rows": 2,
        "test_unknown/user": 0.5,
        "test_positive/click": 1.0,
    }


def test_labels_all_alike_and_columns_without_a_known_id_are_remarked(tmp_path, caplog):
    table(tmp_path, CLICKS)
    assert not caplog.text
    table(tmp_path, "user,item,click\n" + "".join(f"u{n},i{n % 3},1\n" for n in range(40)), min_count=2)
    assert "task click: all labels of the training split are 1" in caplog.text
    assert "column user: no id of the test split is known" in caplog.text
    assert "column item" not in caplog.text


def columns_of(n, rng):
    return {
        "a": [f"a{value}" for value in rng.integers(0, 30, n)],
        "b": [f"b{value}" for value in rng.integers(0, 9, n)],
        "x": rng.normal(0, 1, n),
        "past": [[f"a{value}" for value in rng.integers(0, 30, size)] for size in rng.integers(0, 5, n)],
        "y": rng.integers(0, 2, n),
    }


KEYS = {"tasks": {"y": None}, "sparse": ["a", "b"], "dense": ["x"], "sequences": {"past": None}, "share": {"past": "a"}}


def flat_rows(batches):
    """Rows of batches as tuples that can be compared."""
    for batch in batches:
        offsets = batch["past_offsets"]
        past = [tuple(batch["past"][a:b].tolist()) for a, b in pairwise(offsets)]
        plain = torch.cat([batch["sparse"].float(), batch["dense"], batch["label"]], 1).tolist()
        yield from ((*row, own) for row, own in zip(plain, past, strict=True))


@settings(deadline=None, max_examples=15)
@given(st.integers(30, 120), st.integers(1, 40), st.integers(0, 5))
def test_rows_on_the_disk_are_those_in_memory_once_an_epoch_and_go_on_where_they_stopped(n, size, start):
    columns = columns_of(n, np.random.default_rng(n))
    resident, mapped = (Table(RowMetrics(), source=Given(columns), memory_mb=mb, **KEYS) for mb in (1, 0))
    assert (resident.resident, mapped.resident) == (True, False)
    assert resident.fingerprints == mapped.fingerprints
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_module, "WINDOW_ROWS", 20)
        patch.setattr(table_module, "BLOCK_ROWS", 4)
        epochs = {}
        for data in (resident, mapped):
            whole = [*data.train_batches(size, np.random.default_rng(3))]
            left = [*data.train_batches(size, np.random.default_rng(3), start=start)]
            assert len(left) == max(0, len(whole) - start)
            assert all(torch.equal(a[k], b[k]) for a, b in zip(whole[start:], left, strict=True) for k in a)
            assert sum(len(batch["label"]) for batch in whole) == data.train_size()
            epochs[data.resident] = sorted(flat_rows(whole))
    assert epochs[True] == epochs[False]
    for split in ("valid", "test"):
        assert [*flat_rows(resident.eval_batches(split, 7))] == [*flat_rows(mapped.eval_batches(split, 7))]


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(["random", "temporal"]), st.floats(0, 0.3), st.floats(0, 0.3))
def test_parts_are_disjoint_and_exhaustive(split, valid, test):
    n = 60
    columns = {"a": [str(row) for row in range(n)], "x": list(range(n)), "y": [0] * n}
    keys = {"tasks": {"y": None}, "sparse": ["a"], "dense": ["x"], "scale": "none", "split": split}
    data = Table(RowMetrics(), source=Given(columns), valid_fraction=valid, test_fraction=test, **keys)
    train = [batch["dense"][:, 0] for batch in data.train_batches(9, np.random.default_rng(0))]
    held_out = [batch["dense"][:, 0] for part in ("valid", "test") for batch in data.eval_batches(part, 9)]
    assert torch.cat([*train, *held_out]).sort().values.tolist() == list(range(n))


def test_two_epochs_differ_and_equal_generators_give_equal_epochs(tmp_path):
    data = table(tmp_path, dense=["age"])
    epochs = [list(data.train_batches(8, np.random.default_rng(seed))) for seed in (1, 1, 2)]
    assert all(torch.equal(a["sparse"], b["sparse"]) for a, b in zip(epochs[0], epochs[1], strict=True))
    assert not all(torch.equal(a["sparse"], b["sparse"]) for a, b in zip(epochs[0], epochs[2], strict=True))


def test_what_was_prepared_is_found_again_until_something_changes(tmp_path, caplog):
    cache = str(tmp_path / "cache")
    first = table(tmp_path, cache=cache)
    (folder,) = (tmp_path / "cache").glob("table-*")
    made = (folder / "about.json").stat().st_ino
    again = table(tmp_path, cache=cache)
    assert (folder / "about.json").stat().st_ino == made
    assert again.fingerprints == first.fingerprints
    assert all_cells(again) == all_cells(first)
    for keys in ({"text": CLICKS + "u1,i1,1,1\n"}, {"min_count": 7}, {"split_seed": 1}, {"sparse": ["user"]}):
        other = table(tmp_path, **{**keys, "cache": cache})
        assert other.fingerprints["dataset_fingerprint"] != first.fingerprints["dataset_fingerprint"]
    (folder / "train" / "layout.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert table(tmp_path, cache=cache).fingerprints == first.fingerprints
    assert "is damaged and is made anew" in caplog.text


def test_what_a_killed_or_failed_process_left_is_cleared_away(tmp_path):
    cache = tmp_path / "cache"
    first = table(tmp_path, cache=str(cache))
    (folder,) = cache.glob("table-*")
    folder.rename(cache / f".{folder.name}")
    assert table(tmp_path, cache=str(cache)).fingerprints == first.fingerprints
    with pytest.raises(DataError, match="not a finite number"):
        table(tmp_path, CLICKS + "u1,i1,1,x\n", cache=str(cache))
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [folder.name]


def all_cells(data):
    return [batch["sparse"].tolist() for split in ("valid", "test") for batch in data.eval_batches(split, 9)]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        data = table(tmp_path, cache=str(tmp_path / "file" / "cache"))
    assert data.train_size() == 40
    assert "not cached" in caplog.text


def test_other_rows_are_read_with_what_a_run_learned(tmp_path):
    first = table(tmp_path, dense=["age"])
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    for name, lines in first.vocabulary().items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    text = "user,item,age,click\nu6,i9,0.5,1\nu9,i4,1.5,0\n"
    other = table(
        tmp_path / "other", text, dense=["age"], run_vocabulary=str(folder), test_fraction=0.5, valid_fraction=0.0
    )
    assert other.sizes == first.sizes
    assert list(other.vocabulary()["dense"]) == list(first.vocabulary()["dense"])
    (batch,) = [*other.eval_batches("test", 9)]
    row = int(other.units("test")[0])
    assert decoded(other, batch["sparse"][0]) == [["u6", None], [None, "i4"]][row - 1]
    with pytest.raises(CheckpointError, match="learned from the columns user, item, not from item, user"):
        table(tmp_path, dense=["age"], run_vocabulary=str(folder), sparse=["item", "user"])


def test_a_file_to_predict_takes_the_place_of_the_test_part_and_needs_no_labels(tmp_path):
    (tmp_path / "new.csv").write_text("item,user\ni1,u1\ni9,u2\n")
    data = table(tmp_path, test_path=str(tmp_path / "new.csv"), group="age")
    (batch,) = data.eval_batches("test", 9)
    assert list(batch) == ["sparse", "dense"]
    assert [decoded(data, row) for row in batch["sparse"].tolist()] == [["u1", "i1"], ["u2", None]]
    assert data.units("test").tolist() == ["1", "2"]
    assert (data.eval_size("valid"), data.eval_size("test")) == (5, 0)
    assert (data.train_size(), len(data.units("valid"))) == (45, 5)  # no row is kept for a test part that is not used
    assert (data.describe()["test_rows"], data.describe()["test_unknown/item"]) == (2, 0.5)
    assert data.fingerprints != table(tmp_path).fingerprints
    (tmp_path / "new.csv").write_text("item,usr\ni1,u1\n")
    with pytest.raises(DataError, match=r"new.csv: no column 'user' \(dataset.sparse\); did you mean 'usr'"):
        table(tmp_path, test_path=str(tmp_path / "new.csv"))


@pytest.mark.parametrize(
    "text", ["user,click\nu1,1\n", "user,click\r\nu1,1\r\n", "\ufeffuser, click\nu1, 1\n", "user;click\nu1;1"]
)
def test_odd_but_fine_files(tmp_path, text):
    data = table(tmp_path, text.encode(), sparse=["user"], valid_fraction=0.0, test_fraction=0.0)
    (batch,) = data.train_batches(4, np.random.default_rng(0))
    assert (decoded(data, batch["sparse"][0]), batch["label"].tolist()) == (["u1"], [[1]])
