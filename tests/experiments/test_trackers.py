"""Trackers are told every row of metrics.jsonl, once, also after a resume."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recrun import cli
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError, Interrupted, RecrunError
from recrun.experiments import directories, mlflow_tracker, run, trackers
from recrun.experiments.directories import prepare
from recrun.experiments.units_summary import units_summary

TINY = [
    "model=mmoe",
    "weighting=uwl",
    "dataset=synthetic_tasks",
    "dataset.source.n_rows=300",
    "trainer.batch_size=50",
    "epochs=3",
    "threads=1",
]


def prepared(tmp_path, *overrides):
    composed = compose([*TINY, f"output_dir={tmp_path}", *overrides])
    check(composed)
    return prepare(composed)


def rows_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def curves(directory):
    """{name: [(step, value)]} of the event files."""
    events = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def expected(rows):
    found = {}
    for row in rows:
        values = {f"train/{row['split']}/{name}": value for name, value in row["metrics"].items()}
        values |= {f"train/loss/{name}": value for name, value in row["losses"].items()}
        values |= {f"train/weight/{name}": value for name, value in row.get("weights", {}).items()}
        values |= {f"train/{name}": row[name] for name in ("lr", "samples_per_second") if name in row}
        for name, value in values.items():
            found.setdefault(name, []).append((row["step"], pytest.approx(value, rel=1e-6)))
    return found


def test_tensorboard_draws_what_metrics_jsonl_holds_also_after_a_resume(tmp_path, monkeypatch):
    directory = prepared(tmp_path, "tracker=tensorboard", "trainer.save_seconds=1000")
    asked = iter([False] * 9 + [True])
    place = run.Run.context
    monkeypatch.setattr(
        run.Run,
        "context",
        lambda *given: type(place(*given))(**{**vars(place(*given)), "stop": lambda: next(asked, False)}),
    )
    with pytest.raises(Interrupted):
        run.execute(directory)
    before = rows_of(directory)
    assert curves(directory) == expected(before)
    run.execute(directory)
    after = rows_of(directory)
    assert after[: len(before)] == before
    assert [row["split"] for row in after] == ["valid", "valid", "valid", "test"]
    assert curves(directory) == expected(after)


class FakeRun:
    """Stands for a run at Weights & Biases."""

    def __init__(self):
        self.logged, self.metrics, self.finished, self.id = [], set(), False, "x"
        self.summary, self.artifacts = {}, []

    def log_artifact(self, artifact):
        self.artifacts.append(artifact.files)

    def define_metric(self, name, step_metric):
        self.metrics.add((name, step_metric))

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished = True


class FakeArtifact:
    """Stands for one of theirs."""

    def __init__(self, name, type):
        self.files = []

    def add_file(self, path):
        self.files.append(Path(path).name)


def test_wandb_without_an_account_says_what_to_do(tmp_path, monkeypatch):
    def init(**given):
        raise ValueError("No API key configured.\nSee elsewhere")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=ValueError))
    with pytest.raises(RecrunError, match=r"^tracker=wandb: No API key configured\.\nlog in, add tracker.mode=offline"):
        trackers.WeightsAndBiases(tmp_path, {}, "ours")


def test_wandb_is_told_by_the_steps_of_a_stage(tmp_path, monkeypatch):
    begun, told = {}, FakeRun()
    monkeypatch.setitem(
        sys.modules,
        "wandb",
        SimpleNamespace(init=lambda **given: begun.update(given) or told, Error=OSError, Artifact=FakeArtifact),
    )
    monkeypatch.setattr("recrun.config.validate.installed", lambda package: True)
    directory = prepared(tmp_path, "tracker=wandb", "tracker.entity=us", "tracker.mode=offline")
    run.execute(directory)
    rows = rows_of(directory)
    assert told.logged == [{**trackers.scalars(row), "train/step": row["step"]} for row in rows]
    assert told.metrics == {("train/*", "train/step")}
    assert told.finished
    assert told.summary["units"] == units_summary(directory)
    assert told.artifacts == [["model.json", "model.safetensors"]]
    assert {begun[key] for key in ("project", "entity", "mode", "resume")} == {"recrun", "us", "offline", "allow"}
    assert begun["config"] == run.load_config(directory)


def test_a_tracker_is_closed_when_a_run_fails(tmp_path):
    class Recording(FakeRun):
        def close(self):
            self.finished = True

    tracker = Recording()
    with pytest.raises(ZeroDivisionError), trackers.tracked(None, tracker):
        1 / 0  # noqa: B018
    assert tracker.finished


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tracker=tensorbord"], "unknown tracker 'tensorbord'; did you mean 'tensorboard'"),
        (["tracker=wandb", "tracker.mode=later"], "tracker.mode=later: expected one of online, offline"),
        (["tracker=wandb", "tracker.directory=x"], "tracker.directory cannot be set: set output_dir"),
        (["tracker=wandb"], r'needs the package wandb: pip install "recrun\[wandb\]", or choose tracker=none'),
    ],
)
def test_refused_before_anything_is_read(monkeypatch, words, told):
    monkeypatch.setattr("recrun.config.validate.installed", lambda package: False)
    with pytest.raises(ConfigError, match=told):
        check(compose([*TINY, *words]))


def test_a_run_is_judged_without_its_tracker(monkeypatch):
    monkeypatch.setattr("recrun.config.validate.installed", lambda package: False)
    check(compose([*TINY, "tracker=wandb"]), training=False)


CATALOGUE = [
    *("model=mult_vae", "model.mlp_hidden_size=[6]", "model.latent_dimension=3", "threads=1", "epochs=3", "device=cpu"),
    *("dataset.source.n_users=40", "dataset.source.n_items=20", "dataset.source.n_interactions=400"),
    *("trainer.batch_size=10", "name=mine", "tags=[paper]"),
]


THEIRS = pytest.mark.filterwarnings("ignore:.*noload:DeprecationWarning")  # MLflow and a new SQLAlchemy


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One MLflow database for all tests: its first use takes seconds."""
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    folder = tmp_path_factory.mktemp("mlflow")
    words = ["tracker=mlflow", f"tracker.uri=sqlite:///{folder}/mlflow.db", f"tracker.artifacts={folder}/files"]
    return folder, words


@THEIRS
def test_mlflow_has_parameters_metrics_results_and_files_also_after_a_resume(database, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    folder, words = database
    composed = compose([*CATALOGUE, f"output_dir={tmp_path}", "report=true", "trainer.save_seconds=1000", *words])
    check(composed)
    directory = prepare(composed)
    asked = iter([False] * 6 + [True])
    place = run.Run.context
    with monkeypatch.context() as patch:
        patch.setattr(
            run.Run,
            "context",
            lambda *given: type(place(*given))(**{**vars(place(*given)), "stop": lambda: next(asked, False)}),
        )
        with pytest.raises(Interrupted):
            run.execute(directory)
    client = MlflowClient(tracking_uri=words[1].partition("=")[2])
    place = client.get_experiment_by_name("recrun").experiment_id
    (before,) = client.search_runs([place])
    assert before.info.status == "KILLED"
    directories.execute(directory)
    (found,) = client.search_runs([place])
    assert (found.info.run_id, found.info.status, found.info.run_name) == (before.info.run_id, "FINISHED", "mine")
    assert found.data.tags["tag.paper"] == "true"
    assert (found.data.params["trainer.lr"], found.data.params["model.latent_dimension"]) == ("0.001", "3")
    rows = rows_of(directory)
    history = client.get_metric_history(found.info.run_id, "train/valid/ndcg_at_10")
    expected = [(row["step"], row["metrics"]["ndcg@10"]) for row in rows if row["split"] == "valid"]
    assert sorted({(one.step, one.value) for one in history}) == expected
    results = json.loads((directory / "results.json").read_text())
    assert found.data.metrics["test/ndcg_at_10"] == results["test"]["ndcg@10"]
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "units_summary.json", "model.safetensors", "model.json"} <= files.keys()
    assert files["model.safetensors"].read_bytes() == (directory / "train/best/model.safetensors").read_bytes()
    assert json.loads(files["units_summary.json"].read_text()) == units_summary(directory)


@THEIRS
def test_mlflow_has_every_job_of_a_sweep_in_workers(database, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    _, words = database
    jobs = ["-m", *CATALOGUE, "seed=0,1", "launcher=local", "launcher.workers=2", "tracker.experiment=sweep", *words]
    assert cli.main(jobs) == 0
    client = MlflowClient(tracking_uri=words[1].partition("=")[2])
    runs = client.search_runs([client.get_experiment_by_name("sweep").experiment_id])
    assert {(one.data.params["seed"], one.info.status) for one in runs} == {("0", "FINISHED"), ("1", "FINISHED")}


def test_names_that_mlflow_takes():
    assert mlflow_tracker.metric_name("train/valid/ndcg@10") == "train/valid/ndcg_at_10"
    assert mlflow_tracker.metric_name("a(b)") == "a_b_"
    nested = {"a": {"b": 1, "c": {}}, "d": [1]}
    assert dict(mlflow_tracker.flat(nested)) == {"a.b": 1, "a.c": {}, "d": [1]}


def test_mlflow_without_a_server_says_what_to_do(tmp_path):
    pytest.importorskip("mlflow")
    with pytest.raises(RecrunError, match=r"^tracker=mlflow: .*\nset tracker.uri=…, or choose tracker=none"):
        mlflow_tracker.MLflow(tmp_path, {}, uri="ftp://nowhere")


def test_the_summary_of_units_by_hand(tmp_path):
    (tmp_path / "units").mkdir()
    np.savez(tmp_path / "units" / "test.npz", ids=np.array(["a", "b", "c"]), **{"ndcg@10": np.array([0.0, 0.5, 1.0])})
    assert units_summary(tmp_path) == {
        "test/ndcg@10": {"count": 3, "mean": 0.5, "sd": 0.5, "q25": 0.25, "median": 0.5, "q75": 0.75}
    }


@pytest.mark.skipif(
    "RECRUN_TEST_ALL" not in os.environ or find_spec("wandb") is None,
    reason="starts W&B's own process: make test-all does it, where wandb is installed",
)
def test_the_real_wandb_takes_a_run_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    composed = compose([*CATALOGUE, f"output_dir={tmp_path}", "report=true", "tracker=wandb", "tracker.mode=offline"])
    check(composed)
    directory = prepare(composed)
    directories.execute(directory)
    logs = [path.read_bytes() for path in (directory / "wandb").rglob("*.wandb")]
    assert logs
    assert any(b"train/valid/ndcg@10" in log for log in logs)
