"""Sweeps, searches and comparisons from Python."""

import json

import pandas as pd
import pytest
from api.test_run import EVENTS, SMALL

import recrun


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return recrun.sweep(
        SMALL, {"output_dir": folder}, over={"model": ["mult_vae", "mult_dae"], "seed": range(2)}, data=EVENTS
    )


def test_a_sweep_is_what_its_files_hold(sweep):
    stored = json.loads((sweep.directory / "results.json").read_text())
    assert sweep.table["changes"].tolist() == [job["changes"] for job in stored["jobs"]]
    assert sweep.table["test ndcg@100"].tolist() == [job["test"]["ndcg@100"] for job in stored["jobs"]]
    assert sweep.best == stored["best"]
    row = sweep.over_seeds.set_index(["changes", "split", "metric"]).loc[("model=mult_dae", "test", "ndcg@100")]
    assert row["mean"] == pytest.approx(sweep.table["test ndcg@100"][2:].mean())
    assert row["seeds"] == 2
    assert [run.config["seed"] for run in sweep.runs] == [0, 1, 0, 1]
    assert sweep.runs[3].metrics.loc["test", "ndcg@100"] == stored["jobs"][3]["test"]["ndcg@100"]
    assert sweep.resume() is sweep


def test_compare_takes_runs_sweeps_and_directories(sweep):
    found = recrun.compare(sweep, metrics="ndcg@100")
    assert found.settings["mean"].tolist() == pytest.approx(
        [sweep.table["test ndcg@100"][:2].mean(), sweep.table["test ndcg@100"][2:].mean()]
    )
    row = found.differences.iloc[0]
    assert row["difference"] == pytest.approx(found.settings["mean"][1] - found.settings["mean"][0])
    assert row["low"] <= row["difference"] <= row["high"]
    assert {"p_t", "corrected_decides", "verdict", "d_z"} <= set(found.differences)
    assert str(found).startswith("|")
    pd.testing.assert_frame_equal(
        recrun.compare(*sweep.runs, metrics=["ndcg@100"]).settings,
        recrun.compare(*(str(run.directory) for run in sweep.runs), metrics=["ndcg@100"]).settings,
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"split": "train"}, "split=train: expected valid, test"),
        ({"baseline": "x", "all_pairs": True}, "exclude each other"),
        ({"metrics": "ndgc@100"}, "has no values per unit"),
    ],
)
def test_what_cannot_be_compared_is_refused(sweep, keys, message):
    with pytest.raises(recrun.ConfigError, match=message):
        recrun.compare(sweep, **keys)


def test_a_bad_job_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(recrun.ConfigError, match="in job 1"):
        recrun.sweep(SMALL, {"output_dir": tmp_path / "no"}, over={"trainer.lr": [0.1, -1]}, data=EVENTS)
    with pytest.raises(recrun.ConfigError, match="give the data as a file"):
        recrun.sweep(SMALL, "launcher=local", over={"seed": [0, 1]}, data=EVENTS)
    assert not (tmp_path / "no").exists()


def test_search(tmp_path):
    pytest.importorskip("optuna")
    space = {"trainer.lr": "tag(log,interval(1e-3,1e-1))", "model.latent_dimension": [2, 3]}
    found = recrun.search(SMALL, {"output_dir": tmp_path}, space=space, sampler="random", trials=2, data=EVENTS)
    assert len(found.runs) == 2
    assert found.best["monitor"] == "ndcg@100"
    assert {run.config["model"]["latent_dimension"] for run in found.runs} <= {2, 3}
