"""Worker processes: the same bits as one process, and what happens when one dies, fails or is interrupted."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from worlds.fake_run import run  # noqa: F401  # a fixture
from worlds.small_run import WORDS

from recrun import cli
from recrun.errors import DataError
from recrun.experiments import launchers, sweep_results

POOL = ["launcher=local", "launcher.workers=2"]
DIES = """
import os, signal
from pathlib import Path
from recrun.models.popularity import Popularity

class Dies(Popularity):
    def solve(self, events):
        if Path("die").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        super().solve(events)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep_in(folder):
    """The only sweep under an output folder."""
    (directory,) = (Path(folder) / "multirun").iterdir()
    return directory


def statuses(sweep):
    """Of each job what run.json says."""
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    records = [sweep / job["directory"] / "run.json" for job in jobs]
    return [json.loads(path.read_text())["status"] if path.exists() else "prepared" for path in records]


def found(sweep, name):
    """What a job found, without times and memory."""
    results = json.loads((sweep / name / "results.json").read_text())
    weights = (sweep / name / "train" / "best" / "model.safetensors").read_bytes()
    with np.load(sweep / name / "units" / "test.npz") as arrays:
        units = {key: arrays[key].tolist() for key in arrays}
    return results["valid"], results["test"], units, weights


def test_workers_give_the_bits_that_one_process_gives(here):
    words = ["-m", *WORDS, "seed=0,1", "trainer.lr=1e-3,1e-2"]
    assert cli.main([*words, "output_dir=one"]) == 0
    assert cli.main([*words, "output_dir=two", *POOL]) == 0
    one, two = sweep_in("one"), sweep_in("two")
    for name in map(str, range(4)):
        assert found(one, name) == found(two, name)
    assert [job["overrides"] for job in json.loads((two / "sweep.json").read_text())["jobs"]] == [
        [*WORDS, f"seed={seed}", f"trainer.lr={lr}", "output_dir=two"] for seed in (0, 1) for lr in ("0.001", "0.01")
    ]


def test_a_worker_that_dies_marks_its_job_and_the_others_go_on(here, capsys):
    (here / "dies.py").write_text(DIES)
    (here / "die").touch()
    words = ["-m", "model=popularity", "model._target_=recrun.models.popularity.Popularity,dies.Dies", "seed=0,1"]
    sources = [word for word in WORDS if word.startswith("dataset") or word == "threads=1"]
    assert cli.main([*words, *sources, "launcher=local", "launcher.workers=1"]) == 1
    sweep = sweep_in("outputs")
    told = capsys.readouterr().err
    assert "failed: its worker process died (killed by signal SIGKILL, perhaps because memory ran out)" in told
    assert "2 of 4 jobs failed: 2, 3" in told
    assert statuses(sweep) == ["finished", "finished", "failed", "failed"]
    (here / "die").unlink()
    started = (sweep / "0" / "run.json").read_bytes()
    assert cli.main(["resume", str(sweep), "plugins=[dies]"]) == 0
    assert statuses(sweep) == ["finished"] * 4
    assert (sweep / "0" / "run.json").read_bytes() == started


def test_ctrl_c_stops_all_workers_and_each_job_goes_on_exactly(here, capsys):
    # A job of 400 epochs takes longer than it takes to notice that it has begun.
    words = ["-m", *WORDS, "seed=0,1", "epochs=400", "trainer.eval_every=50"]
    assert cli.main([*words, "output_dir=whole"]) == 0

    def when_both_have_begun():
        begun = []
        while len(begun) < 2:
            begun = [*Path("cut").glob("multirun/*/[01]/metrics.jsonl")]
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=when_both_have_begun, daemon=True).start()
    assert cli.main([*words, *POOL, "output_dir=cut"]) == 130
    cut, whole = sweep_in("cut"), sweep_in("whole")
    assert "interrupted" in statuses(cut)
    assert f"interrupted; go on with: recrun resume {cut}" in capsys.readouterr().err
    assert cli.main(["resume", str(cut)]) == 0
    assert [found(cut, name) for name in "01"] == [found(whole, name) for name in "01"]


def test_workers_of_a_sweep_that_was_killed_save_their_jobs_and_end(here):
    words = [*WORDS, "seed=0,1", "epochs=5000", "trainer.eval_every=50", *POOL]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    sweep = subprocess.Popen([sys.executable, "-m", "recrun", "-m", *words], env=environment, stderr=subprocess.DEVNULL)
    while len([*here.glob("outputs/multirun/*/[01]/metrics.jsonl")]) < 2:
        assert sweep.poll() is None
        time.sleep(0.02)
    sweep.kill()
    sweep.wait()
    until = time.monotonic() + 20
    while statuses(sweep_in("outputs")) != ["interrupted"] * 2:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_fail_fast_stops_at_the_first_failure(run, capsys):  # noqa: F811
    run.ends = {1: DataError("no such user")}
    assert cli.main(["-m", "--fail-fast", "seed=range(0,4)"]) == 1
    sweep = sweep_in("outputs")
    assert len(run.seen) == 2
    rows = json.loads((sweep / "results.json").read_text())["jobs"]
    assert [row["status"] for row in rows] == ["finished", "failed", "not run", "not run"]
    assert "not finished: jobs 2, 3" in capsys.readouterr().err
    assert cli.main(["resume", str(sweep), "--fail-fast"]) == 0
    assert len(run.seen) == 5


def test_a_dry_run_checks_lists_and_writes_nothing(run, capsys):  # noqa: F811
    assert cli.main(["-m", "--dry-run", "seed=0,1", "epochs=2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    assert lines[:2] == [
        ["0", "seed=0", "epochs=2", "outputs/multirun/<time>/0"],
        ["1", "seed=1", "epochs=2", "outputs/multirun/<time>/1"],
    ]
    assert cli.main(["-m", "--dry-run", "seed=0,1", "epochs=0"]) == 2
    assert not run.seen
    assert not Path("outputs").exists()


@pytest.mark.parametrize("words", [["--dry-run"], ["launcher=local"], ["launcher.workers=2"], ["search.trials=3"]])
def test_what_is_for_sweeps_is_refused_elsewhere(run, capsys, words):  # noqa: F811
    assert cli.main(words) == 2
    assert f"{words[0]} is for the jobs of a sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["launcher=local", "launcher.workers=0"], "launcher.workers=0: expected a whole number >= 1 or null"),
        (["launcher=local,serial"], "launcher=local,serial: all jobs of a sweep have the same launcher"),
        (["launcher=local", "launcher.worker=2"], "unknown key launcher.worker; did you mean 'workers'?"),
    ],
)
def test_a_launcher_that_cannot_work_is_refused_first(run, capsys, words, told):  # noqa: F811
    assert cli.main(["-m", "seed=0,1", *words]) == 2
    assert told in capsys.readouterr().err
    assert not run.seen


@pytest.mark.parametrize("name", ["subprocess.Popen", "recrun.experiments.launchers.Pool"])
def test_a_stored_launcher_is_data(run, capsys, name):  # noqa: F811
    assert cli.main(["-m", "seed=0,1"]) == 0
    plan = sweep_in("outputs") / "sweep.json"
    node = {"_target_": name, "args": ["touch", "x"]}
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "launcher": node}))
    capsys.readouterr()
    assert cli.main(["resume", str(plan.parent)]) == 2
    assert f"launcher._target_={name} is not allowed" in capsys.readouterr().err
    assert not Path("x").exists()


def test_how_a_process_ended():
    assert launchers.how(3) == "exit code 3"
    assert launchers.how(-signal.SIGTERM) == "killed by signal SIGTERM"


def test_the_interval_over_seeds_by_hand():
    """0.1, 0.2, 0.6: mean 0.3, sd sqrt((0.04 + 0.01 + 0.09) / 2); t of 2 degrees of freedom is 4.302653 at 97.5 %."""
    low, high = sweep_results.interval([0.1, 0.2, 0.6])
    half = 4.302653 * (0.07 / 3) ** 0.5
    assert (low, high) == (pytest.approx(0.3 - half, abs=1e-6), pytest.approx(0.3 + half, abs=1e-6))


def test_results_as_csv(run):  # noqa: F811
    run.ends = {2: DataError("no")}
    assert cli.main(["-m", "seed=0,1", "model=mult_vae,ract"]) == 1
    lines = [*csv.DictReader((sweep_in("outputs") / "results.csv").read_text().splitlines())]
    assert [(line["jobs"], line["status"], line["metric"], line["mean"]) for line in lines[:3]] == [
        ("0", "finished", "ndcg@100", "0.1"), ("1", "finished", "ndcg@100", "0.2"), ("2", "failed", "", "")
    ]  # fmt: skip
    last = lines[-1]
    assert (last["jobs"], last["changes"], last["seeds"], last["split"]) == ("1 3", "model=ract", "2", "test")
    assert float(last["mean"]) == pytest.approx(0.3)
    assert float(last["sd"]) == pytest.approx(0.02**0.5)
    assert float(last["high"]) == pytest.approx(0.3 + 12.706205 * 0.1)  # t of 1 degree of freedom; sd / sqrt(2) = 0.1
