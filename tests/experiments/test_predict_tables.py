"""Finished runs on tables: judged on other rows, asked about rows without labels."""

import json
from pathlib import Path

import numpy as np
import pytest
from worlds.tables import CLICKS

from recrun import cli, train
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.data.tables.dataset import Table
from recrun.errors import CheckpointError, ConfigError, DataError
from recrun.evaluation.rows import RowMetrics
from recrun.experiments import load, run
from recrun.experiments.directories import prepare

DATA = ["dataset=table", "dataset.sparse=[user,item]", "dataset.dense=[age]", "dataset.cache=null"]
DATA += ["dataset.tasks={click: classification}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def finished(folder):
    (folder / "clicks.csv").write_text(CLICKS)
    words = ["model=deepfm", *DATA, f"dataset.path={folder / 'clicks.csv'}", "model.mlp_hidden_size=[4]", "threads=1"]
    composed = compose([*words, "model.embedding_dim=4", "epochs=1", f"output_dir={folder / 'runs'}"])
    check(composed)
    directory = prepare(composed)
    run.execute(directory)
    return directory


def scores(path):
    return {int(line.split("\t")[0]): float(line.split("\t")[1]) for line in path.read_text().splitlines()}


def test_a_run_keeps_its_ids_and_scales(finished):
    ids = (finished / "vocabulary" / "ids.txt").read_text().splitlines()
    assert (ids[0], ids[8]) == ("user", "item")
    assert {line.split("\t")[1] for line in ids[1:8]} == {f"u{n}" for n in range(7)}
    assert (finished / "vocabulary" / "dense.txt").read_text().startswith("age\tstandard\t")
    about = json.loads((finished / "run.json").read_text())["dataset"]
    assert about["train_rows"] + about["valid_rows"] + about["test_rows"] == 50


def test_rows_without_labels_are_scored_as_the_run_knows_them(finished, folder):
    lines = CLICKS.splitlines()
    (folder / "new.csv").write_text(
        "\n".join(["item,user,age", *(",".join((i, u, a)) for u, i, a, _ in map(parts, lines[1:]))])
    )
    outputs = [folder / "test.tsv", folder / "new.tsv"]
    assert cli.main(["predict", str(finished), "--output", str(outputs[0])]) == 0
    assert cli.main(["predict", str(finished), "--input", str(folder / "new.csv"), "--output", str(outputs[1])]) == 0
    of_test, of_all = map(scores, outputs)
    assert len(of_test) == 5
    assert list(of_all) == list(range(1, 51))
    assert {row: of_all[row] for row in of_test} == pytest.approx(of_test, abs=1e-6)


def test_predicting_needs_no_training_rows(finished, folder):
    (folder / "one.csv").write_text("user,item,age\nu1,i1,1.5\n")
    (folder / "clicks.csv").rename(folder / "elsewhere.csv")
    try:
        words = ["--input", str(folder / "one.csv"), "--output", str(folder / "one.tsv")]
        assert cli.main(["predict", str(finished), *words]) == 0
    finally:
        (folder / "elsewhere.csv").rename(folder / "clicks.csv")
    assert list(scores(folder / "one.tsv")) == [1]


def data_of(directory, **changes):
    config = run.load_config(directory)
    _, dataset, *_ = load.load(directory, {**config, "dataset": {**config["dataset"], **changes}})
    return dataset


def counts(dataset):
    return [int(dataset.describe()[f"{part}_rows"]) for part in ("train", "valid", "test")]


def test_its_own_rows_stay_divided_whatever_their_file_is_called(finished, folder, monkeypatch):
    (folder / "new.csv").write_text("user,item,age,click\nu1,i1,1.5,1\nu2,i2,,0\n")
    monkeypatch.chdir(folder)
    for changes in ({"path": "clicks.csv"}, {"path": "clicks.csv", "root": str(folder)}, {"memory_mb": 3}):
        assert counts(data_of(finished, **changes)) == [40, 5, 5]
    assert counts(data_of(finished, path="new.csv")) == [0, 0, 2]
    assert counts(data_of(finished, test_path="new.csv")) == [0, 0, 2]


def test_rows_that_are_judged_alone_are_not_said_to_lack_labels_to_train_on(finished, folder, caplog):
    (folder / "new.csv").write_text("user,item,age,click\nu1,i1,1.5,1\nu2,i2,,0\n")
    data_of(finished, path=str(folder / "new.csv"))
    assert "all 2 rows of" in caplog.text
    assert "training split" not in caplog.text


def test_other_rows_that_say_their_part_are_judged_by_it(finished, folder):
    (folder / "said.csv").write_text("user,item,age,click,part\nu1,i1,1.5,1,test\nu2,i2,,0,valid\nu3,i2,1,0,train\n")
    changes = {"path": str(folder / "said.csv"), "split": "column", "split_column": "part"}
    assert counts(data_of(finished, **changes)) == [1, 1, 1]


def test_other_rows_take_the_place_of_a_test_file(finished, folder):
    for name, rows in {"test": "u1,i1,1,1\n", "newer": "u1,i1,1,1\n" * 3}.items():
        (folder / f"{name}.csv").write_text("user,item,age,click\n" + rows)
    trained = {"path": "a.csv", "test_path": str(folder / "test.csv")}
    assert load.other_rows({**trained, "path": "b.csv"}, trained)
    assert not load.other_rows({**trained, "path": "b.csv", "test_path": "c.csv"}, trained)
    keys = {"run_vocabulary": str(finished / "vocabulary"), "sparse": ["user", "item"], "dense": ["age"]}
    keys |= {"tasks": {"click": None}, "path": str(folder / "newer.csv"), "test_path": str(folder / "test.csv")}
    assert counts(Table(RowMetrics(), **keys)) == [0, 0, 1]
    assert counts(Table(RowMetrics(), unseen=True, **keys)) == [0, 0, 3]
    with pytest.raises(ConfigError, match=r"dataset\.unseen=true .* dataset\.run_vocabulary"):
        Table(RowMetrics(), **{**keys, "run_vocabulary": None}, unseen=True)


def test_a_test_file_without_labels_is_for_predicting_alone(finished, folder):
    (folder / "bare.csv").write_text("user,item,age\nu1,i1,1.5\nu2,i2,\n")
    words = ["model=deepfm", *DATA, f"dataset.path={folder / 'clicks.csv'}", f"dataset.test_path={folder / 'bare.csv'}"]
    results = train(*words, "model.mlp_hidden_size=[4]", "epochs=1", "threads=1", f"output_dir={folder / 'runs'}")
    assert results["valid"]
    assert results["test"] == {}
    assert cli.main(["predict", results["directory"], "--output", str(folder / "bare.tsv")]) == 0
    assert list(scores(folder / "bare.tsv")) == [1, 2]
    config = run.load_config(finished)
    with pytest.raises(
        DataError, match="the valid and the test split have nothing to evaluate: empty, or without labels"
    ):
        load.evaluate(finished, {**config, "dataset": {**config["dataset"], "path": str(folder / "bare.csv")}})


def parts(line):
    return line.split(",")


def test_other_rows_are_judged_without_the_old_ones(finished, folder):
    """A file that trains differently would number its ids differently; the weights know the old numbers."""
    other = [line for line in CLICKS.splitlines() if not line.startswith(("u0", "u1"))]
    (folder / "other.csv").write_text("\n".join([*other, "u9,i9,,1"]))
    assert cli.main(["evaluate", str(finished), f"dataset.path={folder / 'other.csv'}"]) == 0
    (line,) = (finished / "evaluations.jsonl").read_text().splitlines()
    assert set(json.loads(line)["test"]) >= {"logloss"}
    assert "valid" not in json.loads(line)
    dataset = data_of(finished, path=str(folder / "other.csv"))
    assert dataset.sizes["features"].n_ids == len((finished / "vocabulary" / "ids.txt").read_text().splitlines())
    (batch,) = dataset.eval_batches("test", 100)
    assert len(batch["label"]) == len(other)  # all of them, of which one is new
    assert dataset.train_size() == len(dataset.units("valid")) == 0
    kept = (finished / "vocabulary" / "ids.txt").read_text().splitlines()
    shown = {kept[row] for row in batch["sparse"][:, 0].tolist()}
    assert shown <= {"user", *(f"user\tu{n}" for n in range(2, 7))}
    assert "user\tu6" in shown


def test_changed_data_under_the_same_name_are_refused(finished, folder):
    (folder / "clicks.csv").write_text(CLICKS.replace("u3", "u8"))
    try:
        with pytest.raises(CheckpointError, match="was trained with other ids"):
            load.evaluate(finished)
    finally:
        (folder / "clicks.csv").write_text(CLICKS)


def test_validated_on_one_class_it_stops_by_logloss(folder, caplog):
    rng = np.random.default_rng(0)
    part = np.repeat(["train", "valid", "test"], [200, 40, 60])
    click = np.where(part == "valid", 1, rng.integers(0, 2, 300))
    rows = zip(rng.integers(0, 40, 300), click, part, strict=True)
    (folder / "one.csv").write_text("user,click,part\n" + "".join(f"u{user},{y},{where}\n" for user, y, where in rows))
    words = ["model=deepfm", "dataset=table", f"dataset.path={folder / 'one.csv'}", "dataset.cache=null", "threads=1"]
    words += ["dataset.sparse=[user]", "dataset.tasks={click: classification}", "dataset.split=column"]
    words += ["dataset.split_column=part", "model.embedding_dim=4", "model.mlp_hidden_size=[8]", "trainer.lr=0.05"]
    results = train(*words, "trainer.patience=3", "trainer.epochs=40", "trainer.batch_size=20", f"output_dir={folder}")
    directory = Path(results["directory"])
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    logloss = [line["metrics"]["logloss"] for line in lines if line["split"] == "valid"]
    assert all("auc" not in line["metrics"] for line in lines if line["split"] == "valid")
    best = int(np.argmin(logloss))
    assert results["stages"]["train"]["best_epoch"] == best + 1
    assert len(logloss) == best + 1 + 3 < 40
    assert results["valid"] == {"logloss": logloss[best]}
    assert set(results["test"]) == {"auc", "logloss"}  # of a part with both classes
    told = "auc is undefined on the validation split; logloss decides instead"
    assert told in caplog.text
    assert told in (directory / "recrun.log").read_text()


def test_another_split_of_the_rows_of_a_run_is_a_warning(finished, caplog):
    told = "the data split differs from the training run's: evaluated rows may overlap its training rows"
    for words, expected in ((["dataset.split_seed=5"], True), (["dataset.root=null"], False), ([], False)):
        caplog.clear()
        assert cli.main(["evaluate", str(finished), *words]) == 0
        assert (told in caplog.text) == expected


def test_a_file_of_predictions_that_cannot_be_written_is_one_line(finished, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert cli.main(["predict", str(finished), "--output", str(tmp_path / "p.tsv")]) == 1
    assert f"error: {tmp_path}/p.tsv: cannot be written (No space left on device)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("trainer.lr=5", "trainer.lr=5 changes nothing: evaluate uses the stored weights"),
        ("objective=pairwise", "objective=pairwise changes nothing"),
        ("seed=9", "seed=9 changes nothing"),
        ("dataset.scale=log", "dataset.scale cannot change: the weights rely on what the run learned"),
    ],
)
def test_keys_that_stored_weights_do_not_heed_are_refused(finished, capsys, word, told):
    assert cli.main(["evaluate", str(finished), word]) == 2
    assert told in capsys.readouterr().err
