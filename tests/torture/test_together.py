"""Several processes at once: each has its own directory, or waits, or is told that another one is at work."""

import json

import pytest
from worlds.torture import command, in_process, only, outcome, together

import recrun.experiments.run
import recrun.experiments.sweep  # noqa: F401  # before forking, so that each process need not import torch

RUN = ["model=mult_vae", "model.mlp_hidden_size=[6]", "model.latent_dimension=3", "threads=1", "epochs=2", "device=cpu"]
RUN += ["dataset.source.n_users=40", "dataset.source.n_items=20", "dataset.source.n_interactions=400"]
RUN += ["dataset.cache=null", "output_dir=runs", "keep_state=last"]


@pytest.fixture
def base(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path


def test_eight_starts_in_one_second(base):
    ends = together(base, *[command(base, *RUN)] * 8)
    assert [code for code, _ in ends] == [0] * 8, ends
    runs = only(base / "files", "results.json")
    assert len(runs) == 8
    assert all(outcome(run) == outcome(runs[0]) for run in runs)


def interrupted(run):
    """Makes a finished run one that has its test to do."""
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    (run / "results.json").unlink()


def test_two_resumes_of_one_run(base):
    assert in_process(base, command(base, *RUN))[0] == 0
    (run,) = only(base / "files", "results.json")
    expected = outcome(run)
    interrupted(run)
    ends = together(base, *[command(base, "resume", run)] * 2)
    assert sorted(code for code, _ in ends)[0] == 0, ends
    for code, said in ends:
        assert code == 0 or "is being run by another process" in said
    assert outcome(run) == expected


def test_two_resumes_of_one_sweep(base):
    assert in_process(base, command(base, "-m", "seed=0,1", "launcher=serial", *RUN))[0] == 0
    (sweep,) = only(base / "files", "sweep.json")
    expected = outcome(sweep)
    interrupted(sweep / "1")
    ends = together(base, *[command(base, "resume", sweep)] * 2)
    assert 0 in [code for code, _ in ends], ends
    for code, said in ends:
        assert code == 0 or "another process" in said
    assert in_process(base, command(base, "resume", sweep))[0] == 0
    assert outcome(sweep) == expected


@pytest.mark.parametrize("name", ["log.csv", "table.csv"])
def test_two_builders_of_one_cache(base, name):
    rows = "user,item\n" + "".join(f"{n % 20},{n * 7 % 13}\n" for n in range(240))
    (base / "files" / name).write_text(rows)
    words = ["threads=1", "epochs=1", "dataset.cache=cache", "output_dir=runs", f"dataset.path={name}"]
    if name == "log.csv":
        words += ["model=popularity", "dataset=interactions"]
    else:
        words += ["model=deepfm", "dataset=table", "dataset.sparse=[user]", "dataset.tasks={item: {at_least: 6}}"]
    ends = together(base, *[command(base, *words)] * 3)
    assert [code for code, _ in ends] == [0] * 3, ends
    runs = only(base / "files", "results.json")
    assert all(outcome(run) == outcome(runs[0]) for run in runs)
    kept = [path for path in (base / "files" / "cache").iterdir() if not path.name.startswith((".", "CACHEDIR"))]
    assert len(kept) == 1
