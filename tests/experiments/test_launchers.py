"""Worker processes: the same bits as one process, and what happens when one dies, fails or is interrupted."""

import csv
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from worlds.fake_run import run  # noqa: F401  # a fixture
from worlds.small_run import WORDS

from recrun import cli
from recrun.config.compose import compose
from recrun.console.sweep_progress import RunningJob, table
from recrun.errors import DataError
from recrun.experiments import launchers, sweep_results, sweep_run, worker_pool
from recrun.experiments.job_request import carry_out
from recrun.runtime import gpus

POOL = ["launcher=local", "launcher.workers=2"]
RAY = pytest.mark.skipif(
    "RECRUN_TEST_ALL" not in os.environ or importlib.util.find_spec("ray") is None,
    reason="starts a cluster of Ray: make test-all does it, where ray is installed",
)
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
SEES = """
import os
import time
from pathlib import Path
from recrun.models.popularity import Popularity

class Sees(Popularity):
    def solve(self, events):
        Path(f"gpu-{os.environ['CUDA_VISIBLE_DEVICES']}").touch()
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


ELSEWHERE = [
    POOL,
    ["launcher=submitit", "launcher.cluster=local", "launcher.workers=2"],
    pytest.param(["launcher=ray", "launcher.workers=2"], marks=RAY),
]


@pytest.mark.parametrize("launcher", ELSEWHERE, ids=lambda words: words[0].partition("=")[2])
def test_other_processes_give_the_bits_that_one_gives(here, launcher):
    words = ["-m", *WORDS, "seed=0,1", "trainer.lr=1e-3,1e-2"]
    assert cli.main([*words, "output_dir=one"]) == 0
    assert cli.main([*words, "output_dir=two", *launcher]) == 0
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


@pytest.mark.parametrize("launcher", ELSEWHERE[1:], ids=lambda words: words[0].partition("=")[2])
def test_resume_skips_continues_and_tries_again_with_every_launcher(here, capsys, launcher):
    """Of three jobs the first finishes, the second is out of time and the third has no weights to start from."""
    words = ["-m", *WORDS, "seed=0,1,2", "epochs=3", "trainer.batch_size=8", "keep_state=last"]
    assert cli.main([*words, "output_dir=whole"]) == 0
    assert cli.main([*words, "output_dir=cut", "time_limit=1h"]) == 0
    cut, whole = sweep_in("cut"), sweep_in("whole")
    plan = json.loads((cut / "sweep.json").read_text())
    plan["launcher"] = compose(launcher).config["launcher"]
    (cut / "sweep.json").write_text(json.dumps(plan))
    started = (cut / "0" / "run.json").read_bytes()
    undo(cut / "1", status="out of time")
    undo(cut / "2", status="failed")
    shutil.rmtree(cut / "2" / "train")
    assert cli.main(["resume", str(cut)]) == 0
    assert statuses(cut) == ["finished"] * 3
    assert (cut / "0" / "run.json").read_bytes() == started
    assert [found(cut, name) for name in "012"] == [found(whole, name) for name in "012"]


def undo(directory, status):
    """Makes a finished run one that ended before its results were written."""
    (directory / "results.json").unlink()
    record = json.loads((directory / "run.json").read_text())
    record["stages"]["train"].pop("rows", None)
    (directory / "run.json").write_text(json.dumps({**record, "status": status, "stages": {}}))
    if status == "failed":
        (directory / "metrics.jsonl").write_text("")


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


@pytest.mark.parametrize("name", ["subprocess.Popen", "recrun.experiments.worker_pool.Pool"])
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
    assert worker_pool.how(3) == "exit code 3"
    assert worker_pool.how(-signal.SIGTERM) == "killed by signal SIGTERM"


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


@pytest.mark.parametrize(
    ("given", "cores", "visible", "threads", "devices"),
    [
        ({}, 8, [], "2", [None] * 4),
        ({}, 8, ["0"], "2", [None] * 4),  # one GPU is for all
        ({}, 8, ["0", "1"], "4", ["0", "1"]),
        ({"workers": 4}, 8, ["5", "GPU-a"], "2", ["5", "GPU-a", "5", "GPU-a"]),
        ({"workers": 2, "gpu_per_worker": False}, 8, ["0", "1"], "4", [None, None]),
        ({"workers": 3}, 2, [], "1", [None] * 3),
    ],
)
def test_a_gpu_and_threads_for_each_worker(monkeypatch, given, cores, visible, threads, devices):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = launchers.Local(**given).environments(cores, visible)
    assert [environment["OMP_NUM_THREADS"] for environment in found] == [threads] * len(devices)
    assert [environment.get("CUDA_VISIBLE_DEVICES") for environment in found] == devices


def test_each_worker_sees_its_own_gpu(here, monkeypatch):
    """Two workers with a pretended GPU each, that write down what they see."""
    monkeypatch.setattr(gpus, "visible", lambda: ["3", "7"])
    (here / "sees.py").write_text(SEES)
    words = ["-m", "model=popularity", "model._target_=sees.Sees", "seed=range(0,4)", "launcher=local"]
    sources = [word for word in WORDS if word.startswith("dataset") or word in ("threads=1", "device=cpu")]
    assert cli.main([*words, *sources]) == 0
    assert {path.name for path in here.glob("gpu-*")} == {"gpu-3", "gpu-7"}


@pytest.mark.parametrize(
    ("named", "found"), [("0,2", ["0", "2"]), ("", []), ("-1", []), ("GPU-1", ["GPU-1"]), (None, ["0", "1"])]
)
def test_visible_gpus(tmp_path, monkeypatch, named, found):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus.visible() == found
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "none")
    assert gpus.visible() == []


def test_the_live_table_of_a_sweep(tmp_path):
    row = {"stage": "train", "epoch": 2, "step": 8, "split": "valid", "losses": {}, "metrics": {"ndcg@10": 0.25}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    last = sweep_run.last_row(tmp_path)
    assert last == "train epoch 2, step 8: valid ndcg@10 0.2500"
    assert sweep_run.last_row(tmp_path / "none") == ""
    console = Console(width=100, file=io.StringIO())
    console.print(table([RunningJob(3, "seed=3", last, time.monotonic() - 65)], ended=4, failed=1, count=9))
    text = console.file.getvalue()
    assert "4 of 9 jobs ended, 1 failed" in text
    assert text.splitlines()[-1].split("  ") != []
    assert ["3", "seed=3", *last.split(), "1:05"] == text.splitlines()[-1].split()


def test_a_job_is_carried_out_where_its_sweep_works(run, monkeypatch):  # noqa: F811
    assert cli.main(["-m", "seed=0,1"]) == 0
    directory = sweep_in("outputs") / "0"
    (directory / "run.json").unlink()
    request = {"directory": str(directory.absolute()), "working_directory": os.getcwd(), "path": ["/x"]}
    monkeypatch.chdir("/")
    assert carry_out({**request, "packages": [], "local": False, "checked": []})["code"] == 0
    assert Path.cwd() == directory.absolute().parents[3]
