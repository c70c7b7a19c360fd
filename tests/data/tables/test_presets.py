"""Presets on real data, against pandas reading the same files."""

import gzip
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from worlds.tables import decoded, rows_of

from recrun.config.compose import compose
from recrun.errors import DataError
from recrun.experiments.build import build_dataset

DENSE = ["age", "wage", "gains", "losses", "dividends", "employers", "weeks"]


def folder_with(name):
    folder = Path(os.environ.get("RECRUN_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (folder / name).exists():
        pytest.skip(f"no {name} in {folder}; RECRUN_DATA names the folder that holds it")
    return folder


def preset(name, model, folder):
    words = [f"dataset={name}", f"model={model}", f"dataset.root={folder}", "dataset.cache=null"]
    config = compose(words).config
    return build_dataset(config), config["dataset"]


@pytest.mark.parametrize(
    ("name", "model", "file"),
    [
        ("criteo", "deepfm", "criteo/train.txt"),
        ("avazu", "deepfm", "avazu/train.gz"),
    ],
)
def test_absent_files_that_a_person_must_get_say_where(tmp_path, name, model, file):
    with pytest.raises(DataError, match=rf"{file} does not exist and cannot be downloaded without you: see https://"):
        build_dataset(compose([f"dataset={name}", f"model={model}", f"dataset.root={tmp_path}"]).config)


@pytest.mark.parametrize(
    ("name", "model"),
    [("ml_100k_ctr", "deepfm"), ("ml_100k_past", "din"), ("ml_100k_mtl", "mmoe"), ("ml_100k", "dssm")],
)
def test_absent_movielens_is_downloaded(tmp_path, name, model):
    address = "http://127.0.0.1:9/ml-100k.zip"
    words = [f"dataset={name}", f"model={model}", f"dataset.root={tmp_path}", f"dataset.download.url={address}"]
    with pytest.raises(DataError, match=rf"cannot download {address}.*u.data and ml-100k/u.user and ml-100k/u.item"):
        build_dataset(compose(words).config)


@pytest.mark.data
def test_census_has_the_rows_features_and_labels_that_pandas_finds():
    folder = folder_with("census/census-income.test.gz")
    data, config = preset("census", "shared_bottom", folder)
    frame = pd.read_csv(
        folder / "census/census-income.test.gz",
        header=None,
        names=list(config["columns"]),
        skipinitialspace=True,
        keep_default_na=False,
    )
    order = np.random.default_rng(0).permutation(len(frame))
    parts = {"train": order[: int(0.7 * 99762)], "valid": order[int(0.7 * 99762) : int(0.8 * 99762)]}
    parts["test"] = order[int(0.8 * 99762) :]
    assert {part: data.describe()[f"{part}_rows"] for part in parts} == {
        part: len(rows) for part, rows in parts.items()
    }
    features = data.sizes["features"]
    assert set(frame) - {field.name for field in features.fields} == {*DENSE, "income", "marital", "weight"}
    assert list(features.dense) == DENSE
    test, train = frame.iloc[np.sort(parts["test"])], frame.iloc[parts["train"]]
    found = rows_of(data, "test", 10**6)
    assert found["label"][:, 0].tolist() == (test.income == "50000+.").astype(int).tolist()
    assert found["label"][:, 1].tolist() == (test.marital == "Never married").astype(int).tolist()
    for at, field in enumerate(features.fields):
        known = set(train[field.name].astype(str))
        expected = [text if text in known else None for text in test[field.name].astype(str)]
        assert decoded(data, found["sparse"][:, at]) == expected, field.name
    scaled = (test[DENSE] - train[DENSE].min()) / (train[DENSE].max() - train[DENSE].min())
    np.testing.assert_allclose(found["dense"], scaled, rtol=1e-5, atol=1e-6)


@pytest.mark.data
def test_ml_100k_has_the_features_of_users_and_films_beside_its_ratings():
    folder = folder_with("ml-100k")
    data, _ = preset("ml_100k_ctr", "deepfm", folder)
    inter, users, films = (
        pd.read_csv(folder / f"ml-100k/ml-100k.{kind}", sep="\t", dtype=str, keep_default_na=False, quoting=3)
        for kind in ("inter", "user", "item")
    )
    for frame in (inter, users, films):
        frame.columns = [name.split(":")[0] for name in frame]
    whole = inter.merge(users, on="user_id", how="left").merge(films, on="item_id", how="left")
    rows = whole.iloc[data.units("test").astype(int) - 1]
    found = rows_of(data, "test", 10**6)
    assert found["label"][:, 0].tolist() == (rows.rating.astype(int) >= 4).astype(int).tolist()
    for at, field in enumerate(data.sizes["features"].fields):
        texts = decoded(data, found["sparse"][:, at])
        assert all(own in (None, other) for own, other in zip(texts, rows[field.name], strict=True)), field.name
        assert sum(own is None for own in texts) < 30
    genres, offsets = decoded(data, found["class"]), found["class_offsets"]
    assert [" ".join(genres[a:b]) for a, b in pairwise(offsets)] == rows["class"].tolist()
    assert len(np.unique(found["group"])) == rows.user_id.nunique()


@pytest.mark.data
def test_the_tasks_of_ml_100k_are_three_views_of_a_rating():
    data, _ = preset("ml_100k_mtl", "mmoe", folder_with("ml-100k"))
    label = rows_of(data, "valid", 10**6)["label"]
    assert (label[:, 0] == (label[:, 2] >= 4)).all()
    assert (label[:, 1] == (label[:, 2] == 5)).all()
    assert [task.kind for task in data.sizes["tasks"]] == ["classification", "classification", "regression"]


def write(path, content):
    path.parent.mkdir()
    path.write_bytes(content)


def test_criteo_reads_rows_as_the_challenge_has_them(tmp_path):
    numbers = [["1", "-1", "", *["20"] * 10], ["", "3", "7", *["5"] * 10]]
    ids = [["68fd1e64", "", *["a"] * 24], ["68fd1e64", "05db9164", *["a"] * 24]]
    rows = ["\t".join([str(n % 2), *numbers[n % 2], *ids[n % 2]]) for n in range(60)]
    write(tmp_path / "criteo" / "train.txt", "\n".join(rows).encode())
    data, _ = preset("criteo", "deepfm", tmp_path)
    features = data.sizes["features"]
    assert (len(features.fields), len(features.dense)) == (26, 13)
    found = rows_of(data, "test")
    assert [decoded(data, row[:3]) for row in found["sparse"]] == [
        ["68fd1e64", "05db9164" if label else "", "a"] for label in found["label"][:, 0]
    ]
    assert found["dense"][found["label"][:, 0] == 1, 0] == pytest.approx(0)  # missing: the mean, and I1 has one value
    assert (np.abs(found["dense"]) < 3).all()


def test_avazu_reads_rows_as_the_challenge_has_them(tmp_path):
    names = "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,"
    names += "device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
    row = "{},{},14102100,1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,ddd2926e,44956a24,1,2,"
    row += "15706,320,50,1722,0,35,-1,79"
    text = "\n".join([names, *(row.format(10**19 + n, n % 2) for n in range(40))])
    write(tmp_path / "avazu" / "train.gz", gzip.compress(text.encode()))
    data, _ = preset("avazu", "deepfm", tmp_path)
    assert len(data.sizes["features"].fields) == 22
    assert decoded(data, rows_of(data, "test")["sparse"][0])[:4] == ["14102100", "1005", "0", "1fbe01fe"]


@pytest.mark.data
def test_films_liked_before_are_those_that_pandas_finds():
    folder = folder_with("ml-100k/ml-100k.inter")
    data, _ = preset("ml_100k_past", "deepfm", folder)
    frame = pd.read_csv(folder / "ml-100k/ml-100k.inter", sep="\t", header=0, names=["user", "item", "stars", "time"])
    order = np.random.default_rng(0).permutation(len(frame))
    train, test = frame.iloc[np.sort(order[:80_000])], frame.iloc[np.sort(order[90_000:])]
    found = rows_of(data, "test", 10_000)
    for name, wanted in (("liked", train.stars >= 4), ("disliked", train.stars < 4)):
        bounds = found[f"{name}_offsets"]
        for at in range(0, 10_000, 97):
            row = test.iloc[at]
            past = train[wanted & (train.user == row.user) & (train.time < row.time)].sort_values("time", kind="stable")
            assert decoded(data, found[name][bounds[at] : bounds[at + 1]]) == past.item.astype(str).tolist()[-100:]
