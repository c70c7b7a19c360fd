"""Multirun: all jobs are checked before one starts, a failing one does not stop the others."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from worlds.fake_run import run  # noqa: F401  # a fixture

from recrun import cli
from recrun.errors import DataError, Interrupted, InUse
from recrun.experiments import sweep_results
from recrun.runtime import process


def sweep_directory():
    (directory,) = Path("outputs/multirun").iterdir()
    return directory


def test_one_directory_per_job_and_a_plan(run):  # noqa: F811
    assert cli.main(["-m", "seed=0,1", "model=ract,mult_vae", "epochs=1"]) == 0
    directory = sweep_directory()
    assert run.seen == [directory / str(number) for number in range(4)]
    plan = json.loads((directory / "sweep.json").read_text())
    assert [job["overrides"] for job in plan["jobs"]] == [
        ["seed=0", "model=ract", "epochs=1"],
        ["seed=0", "model=mult_vae", "epochs=1"],
        ["seed=1", "model=ract", "epochs=1"],
        ["seed=1", "model=mult_vae", "epochs=1"],
    ]
    assert [OmegaConf.load(job / "config.yaml").seed for job in run.seen] == [0, 0, 1, 1]
    assert OmegaConf.load(run.seen[1] / ".hydra/overrides.yaml") == ["seed=0", "model=mult_vae", "epochs=1"]


def test_a_bad_job_stops_all_before_the_first(run, capsys):  # noqa: F811
    assert cli.main(["-m", "seed=0,1", "trainer.epochs=1,0"]) == 2
    told = capsys.readouterr().err
    assert "trainer.epochs=0: expected a whole number >= 1" in told
    assert "in job 1: seed=0 trainer.epochs=0" in told
    assert not run.seen
    assert not Path("outputs").exists()


def test_a_failing_job_is_named_and_the_others_finish(run, capsys):  # noqa: F811
    run.ends = {1: DataError("no such user"), 2: RuntimeError("boom")}
    assert cli.main(["-m", "seed=range(0,4)"]) == 1
    assert len(run.seen) == 4
    told = capsys.readouterr()
    assert "error: job 1 (seed=1) failed: no such user" in told.err
    assert f"error: job 2 (seed=2) failed: RuntimeError: boom (traceback in {run.seen[2]}/recrun.log)" in told.err
    assert "2 of 4 jobs failed: 1, 2" in told.err
    rows = [line.split() for line in told.out.splitlines() if line.strip()[:1].isdigit()]
    assert rows == [
        ["0", "seed=0", "finished", "0.1000"],
        ["1", "seed=1", "failed", "-"],
        ["2", "seed=2", "failed", "-"],
        ["3", "seed=3", "finished", "0.4000"],
    ]


def test_mean_and_deviation_over_seeds(run, capsys):  # noqa: F811
    """The pretended jobs find 0.1, 0.2, … in turn: the first setting 0.1, 0.3, 0.5, the second 0.2 alone of three."""
    run.ends = {3: DataError("no"), 5: DataError("no")}
    assert cli.main(["-m", "seed=0,1,2", "model=ract,mult_vae"]) == 1
    results = json.loads((sweep_directory() / "results.json").read_text())
    (setting,) = results["over_seeds"]
    assert (setting["changes"], setting["jobs"]) == ("model=ract", [0, 2, 4])
    assert setting["test"]["mean"] == {"ndcg@100": pytest.approx(0.3)}
    assert setting["test"]["sd"] == {"ndcg@100": pytest.approx(0.2)}  # sqrt((0.04 + 0 + 0.04) / 2)
    assert [job["test"].get("ndcg@100") for job in results["jobs"]][:3] == pytest.approx([0.1, 0.2, 0.3])
    told = capsys.readouterr().out
    assert ["model=ract", "3", "0.3000", "±", "0.2000"] in [line.split()[:5] for line in told.splitlines()]
    assert "Mean and standard deviation over seeds" in told


def test_a_sweep_without_seeds_has_nothing_to_average(run, capsys):  # noqa: F811
    assert cli.main(["-m", "model=ract,mult_vae"]) == 0
    assert json.loads((sweep_directory() / "results.json").read_text())["over_seeds"] == []
    assert "deviation" not in capsys.readouterr().out


def test_resume_skips_what_is_finished_and_retries_the_rest(run, capsys):  # noqa: F811
    run.ends = {1: DataError("disk full"), 2: Interrupted("")}
    assert cli.main(["-m", "seed=range(0,4)"]) == 130
    assert len(run.seen) == 3
    directory = sweep_directory()
    assert f"recrun resume {directory}" in capsys.readouterr().err
    assert cli.main(["resume", str(directory)]) == 0
    assert [place.name for place in run.seen] == ["0", "1", "2", "1", "2", "3"]
    assert cli.main(["resume", str(directory)]) == 0
    assert len(run.seen) == 6
    assert capsys.readouterr().out.count("finished") >= 8


def line(job, valid, test, seed=0, lr=1, monitor="ndcg@10", greater=True):
    """A finished job's line."""
    words = {"changes": f"lr={lr} seed={seed}", "overrides": [f"lr={lr}", f"seed={seed}"]}
    metrics = {"valid": {"ndcg@10": valid, "rmse": valid}, "test": {"ndcg@10": test, "rmse": test}}
    return {"job": job, "status": "finished", "monitor": monitor, "greater_is_better": greater, **words, **metrics}


def test_validation_chooses_and_test_is_shown_of_what_it_chose():
    rows = [line(0, 0.3, 0.1, lr=1), line(1, 0.2, 0.9, lr=2), {**line(2, 0.9, 0.9, lr=3), "status": "failed"}]
    assert sweep_results.best_of(rows, []) == {
        "changes": "lr=1 seed=0", "jobs": [0], "monitor": "ndcg@10", "valid": 0.3, "test": 0.1
    }  # fmt: skip
    lower = [{**row, "monitor": "rmse", "greater_is_better": False} for row in rows]
    assert sweep_results.best_of(lower, [])["jobs"] == [1]
    assert sweep_results.best_of(rows[:1], []) is None
    assert sweep_results.best_of([rows[0], lower[1]], []) is None  # what is not the same metric is not compared


def test_over_seeds_the_mean_of_validation_chooses():
    """Setting 1: 0.1 and 0.5; setting 2: 0.35 and 0.45. The best job is one of setting 1, the better setting is 2."""
    rows = [line(0, 0.1, 0.2, 0, 1), line(1, 0.5, 0.4, 1, 1), line(2, 0.35, 0.1, 0, 2), line(3, 0.45, 0.3, 1, 2)]
    settings = sweep_results.over_seeds(rows)
    assert [setting["valid"]["mean"]["ndcg@10"] for setting in settings] == pytest.approx([0.3, 0.4])
    best = sweep_results.best_of(rows, settings)
    assert (best["changes"], best["jobs"]) == ("lr=2", [2, 3])
    assert (best["valid"], best["test"]) == (pytest.approx(0.4), pytest.approx(0.2))


def test_values_that_begin_with_an_underscore_are_values(run):  # noqa: F811
    assert cli.main(["-m", "model=deepfm", "dataset.group=_u,v"]) == 0
    assert [OmegaConf.load(job / "config.yaml").dataset.group for job in run.seen] == ["_u", "v"]


def test_a_glob_finds_no_hidden_options(run):  # noqa: F811
    assert cli.main(["-m", "dataset=glob([synthetic_i*,_i*])", "model=mult_vae"]) == 0
    assert len(run.seen) == 1
    assert OmegaConf.load(run.seen[0] / ".hydra/overrides.yaml")[0] == "dataset=synthetic_interactions"


@pytest.mark.parametrize(("words", "jobs"), [(["seed=0,0"], 1), (["seed=0,0,1"], 2), (["seed=0,1", "epochs=1,1"], 2)])
def test_the_same_job_is_run_once_and_said(run, capsys, words, jobs):  # noqa: F811
    assert cli.main(["-m", *words]) == 0
    told = capsys.readouterr()
    assert len(run.seen) == jobs
    assert "left out: seed=0" in told.err
    assert "± 0.0000" not in told.out


def test_a_sweep_is_carried_out_by_one_process(run, capsys):  # noqa: F811
    run.ends[1] = Interrupted("")
    assert cli.main(["-m", "seed=0,1"]) == 130
    directory, before = sweep_directory(), len(run.seen)
    capsys.readouterr()
    with process.exclusive(directory):
        assert cli.main(["resume", str(directory)]) == 1
    assert capsys.readouterr().err == f"error: {directory} is being run by another process\n"
    assert len(run.seen) == before
    assert not (directory / "results.json").exists()


def test_a_job_that_another_process_runs_did_not_fail(run, capsys):  # noqa: F811
    run.ends[1] = InUse("1 is being run by another process")
    assert cli.main(["-m", "seed=0,1,2"]) == 1
    directory = sweep_directory()
    assert [job["status"] for job in json.loads((directory / "results.json").read_text())["jobs"]] == [
        "finished", "running", "finished"
    ]  # fmt: skip
    told = capsys.readouterr().err
    assert "failed" not in told
    assert (
        f"not finished: jobs 1, which another process runs\n       when it has ended: recrun resume {directory}" in told
    )


def test_every_sweep_has_a_directory_of_its_own(run):  # noqa: F811
    for _ in range(3):
        assert cli.main(["-m", "seed=0,1"]) == 0
    assert len(list(Path("outputs/multirun").iterdir())) == 3


def test_output_dir_is_one(run, capsys):  # noqa: F811
    assert cli.main(["-m", "output_dir=a,b"]) == 2
    assert "output_dir must be the same" in capsys.readouterr().err


def test_launchers_are_refused(run, capsys):  # noqa: F811
    assert cli.main(["-m", "hydra/launcher=joblib", "seed=0,1"]) == 2
    assert "hydra/launcher=joblib has no effect here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([["a=1", "b=1"], ["a=2", "b=1"]], ["a=1", "a=2"]),
        ([["a=1", "b=1"]], ["a=1 b=1"]),
        ([[], []], ["", ""]),
    ],
)
def test_a_job_is_named_by_what_tells_it_from_the_others(overrides, told):
    assert sweep_results.distinct(overrides) == told
