"""Runs that machines let down at any file operation: gone on with, they end bit by bit as if nothing had been."""

import os
import shutil

import pytest
from worlds.torture import command, drawn, generator, in_process, only, operations, outcome, told_in_one_line

import recrun.experiments.load
import recrun.experiments.predict
import recrun.experiments.run
import recrun.experiments.sweep  # noqa: F401  # before forking, so that each process need not import torch

FAULTS = int(os.environ.get("RECRUN_TORTURE", 0))  # of all tests together; 0 = a few
EVENTS = [f"dataset.source.{size}" for size in ("n_users=40", "n_items=20", "n_interactions=400")]
SHORT = ["threads=1", "epochs=2", "device=cpu", "dataset.cache=null", "output_dir=runs", "trainer.save_seconds=0"]
SESSIONS = ["dataset=synthetic_sessions", "dataset.source.n_items=30", "dataset.source.n_events=600"]
TABLE = ["dataset=synthetic_table", "dataset.source.n_rows=300", "trainer.batch_size=64"]
TASKS = ["dataset=synthetic_tasks", "dataset.source.n_rows=300", "trainer.batch_size=64"]
NEWS = ["dataset=synthetic_news", "dataset.source.n_news=60", "dataset.source.n_users=20"]
NEWS += ["dataset.source.n_impressions=60", "dataset.source.n_eval_impressions=20"]
MODELS = {
    "mult_vae": ["model.mlp_hidden_size=[6]", "model.latent_dimension=3", *EVENTS],
    "ract": ["model.mlp_hidden_size=[6]", "model.latent_dimension=3", *EVENTS],
    "ease": EVENTS,
    "als": EVENTS,
    "bpr_mf": EVENTS,
    "light_gcn": EVENTS,
    "dssm": EVENTS,
    "sasrec": EVENTS,
    "bert4rec": EVENTS,
    "gru4rec": ["model.layers=[8]", "loader.num_negatives=8", *SESSIONS],
    "deepfm": TABLE,
    "din": TABLE,
    "mmoe": TASKS,
    "nrms": NEWS,
}
FEW = ("mult_vae", "deepfm")
SHARE = 14 + 6


def times(few):
    """Numbers of the faults of one test."""
    return range(max(1, FAULTS // SHARE) if FAULTS else few)


@pytest.fixture
def base(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path


def train(name):
    keys = [word for word in SHORT if "save_seconds" not in word] if name in ("ease", "als") else SHORT
    return [f"model={name}", *MODELS[name], *keys]


def anew(base):
    shutil.rmtree(base / "files")
    (base / "files").mkdir()


@pytest.mark.parametrize("name", MODELS if FAULTS else FEW)
def test_a_run_goes_on_to_the_same_bits(base, name):
    start = command(base, *train(name))
    count = operations(base, start)
    (whole,) = only(base / "files", "results.json")
    expected = outcome(whole)
    for number in times(2):
        rng = generator(name, number)
        anew(base)
        work = start
        for fault in (drawn(rng, count), *((drawn(rng, count),) if rng.random() < 0.3 else ()), None):
            code, said = in_process(base, work, fault)
            assert told_in_one_line(code, said), (fault, code, said)
            begun = only(base / "files", "run.json")
            work = command(base, "resume", begun[0]) if begun else start
            if not begun:  # killed before it began: what there is of it can be listed, and is in nobody's way
                assert in_process(base, command(base, "list", "runs", "."))[0] == 0
        if not begun:
            code, said = in_process(base, start)
            begun = only(base / "files", "run.json")
        elif fault is None and code != 0:
            code, said = in_process(base, work)
        assert code == 0, (number, said)
        assert outcome(begun[0]) == expected, number


def test_a_sweep_goes_on_to_the_same_bits(base):
    start = command(base, "-m", "seed=0,1", "launcher=serial", *train("mult_vae"))
    count = operations(base, start)
    (whole,) = only(base / "files", "sweep.json")
    expected = outcome(whole)
    for number in times(1):
        anew(base)
        fault = drawn(generator("sweep", number), count)
        code, said = in_process(base, start, fault)
        assert told_in_one_line(code, said), (fault, code, said)
        begun = only(base / "files", "sweep.json")
        work = command(base, "resume", begun[0]) if begun else start
        code, said = in_process(base, work)
        assert code == 0, (fault, said)
        assert outcome(only(base / "files", "sweep.json")[0]) == expected, fault


@pytest.mark.parametrize("verb", ["predict", "embed", "evaluate", "report"])
def test_what_uses_a_run_leaves_it_whole_and_writes_whole_files(base, verb):
    code, said = in_process(base, command(base, *train("mult_vae")))
    assert code == 0, said
    (run,) = only(base / "files", "results.json")
    words = {"predict": ["--output", "out.tsv"], "embed": ["--side", "user", "--output", "out.npz"]}.get(verb, [])
    output = run / "report.html" if verb == "report" else base / "files" / words[-1] if words else None
    work = command(base, verb, run, *words)
    count = operations(base, work)
    before, made = outcome(run), output and output.read_bytes()
    for number in times(1):
        fault = drawn(generator(verb, number), count)
        if output and number % 2:
            output.unlink()
        code, said = in_process(base, work, fault)
        assert told_in_one_line(code, said), (fault, code, said)
        assert outcome(run) == before, fault
        if output and output.exists() and verb != "report":
            assert output.read_bytes() == made, fault
        code, said = in_process(base, work)
        assert code == 0, (fault, said)
        assert outcome(run) == before, fault
        if output and verb != "report":
            assert output.read_bytes() == made, fault


CACHED = {
    "log.csv": ["model=popularity", "dataset=interactions", "dataset.path=log.csv"],
    "table.csv": ["model=deepfm", "dataset=table", "dataset.path=table.csv", "dataset.sparse=[user]"],
}


@pytest.mark.parametrize("name", CACHED)
def test_a_cache_that_was_being_built_changes_nothing(base, name):
    words = [*CACHED[name], "threads=1", "epochs=1", "dataset.cache=cache", "output_dir=runs"]
    words += ["dataset.tasks={item: {at_least: 6}}"] if name == "table.csv" else []
    rows = "user,item\n" + "".join(f"{n % 20},{n * 7 % 13}\n" for n in range(240))

    def fresh():
        anew(base)
        (base / "files" / name).write_text(rows)

    fresh()
    start = command(base, *words)
    count = operations(base, start)
    expected = outcome(only(base / "files", "results.json")[0])
    for number in times(1):
        fresh()
        fault = drawn(generator(name, number), count)
        code, said = in_process(base, start, fault)
        assert told_in_one_line(code, said), (fault, code, said)
        shutil.rmtree(base / "files" / "runs", ignore_errors=True)
        code, said = in_process(base, start)
        assert code == 0, (fault, said)
        assert outcome(only(base / "files", "results.json")[0]) == expected, fault
