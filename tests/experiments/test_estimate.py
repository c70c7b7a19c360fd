"""`recrun estimate`: arithmetic on a pretended clock, memory and disk beside a real run's, and nothing left behind."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from worlds.small_run import WORDS

from recrun import cli, train
from recrun.config.compose import compose
from recrun.evaluation.full_ranking import FullRanking
from recrun.experiments import estimate
from recrun.experiments.run_record import MetricsLog
from recrun.training.loop import TrainingLoop

SIZES = ("dataset.source.n_users=300", "dataset.source.n_items=120", "dataset.source.n_interactions=5000")
FEW = ("dataset.source.n_users=100",)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clock(monkeypatch):
    """Time stands still but for steps, of 1 s, and evaluations, of 0.25 s for each batch of at most 8 users."""
    now = [0.0]
    step, evaluate = TrainingLoop.step, FullRanking.__call__

    def stepped(self, batch):
        now[0] += 1
        return step(self, batch)

    def evaluated(self, model, dataset, split, device, limit=None):
        found = evaluate(self, model, dataset, split, device, limit)
        now[0] += 0.25 * -(-len(found.ids) // 8)
        return found

    monkeypatch.setattr(TrainingLoop, "step", stepped)
    monkeypatch.setattr(FullRanking, "__call__", evaluated)
    monkeypatch.setattr(FullRanking, "batch_size", lambda self, n_items: 8)
    fake = SimpleNamespace(**{**vars(time), "perf_counter": lambda: now[0]})
    monkeypatch.setattr("recrun.training.loop.time", fake)
    monkeypatch.setattr(estimate, "time", fake)
    return now


def words(*more):
    return [*WORDS, *SIZES, "trainer.batch_size=10", *more]


@pytest.mark.parametrize(("seconds", "timed"), [(2.0, 5), (12.0, 12), (1000.0, 30)])
def test_other_steps_epochs_and_batches_are_extrapolated(here, clock, monkeypatch, seconds, timed):
    """300 users, 10 a batch: 30 steps of a second; 38 batches of evaluation take 38 times 0.25 s."""
    monkeypatch.setattr(estimate, "SECONDS", seconds)
    found = estimate.estimate(compose(words("epochs=7", "trainer.eval_every=2")).config)
    stage = found.stages["train"]
    assert (stage.epochs, stage.steps, stage.timed, stage.evaluations) == (7, 30, timed, 4)
    assert (stage.step_seconds, stage.epoch_seconds) == (pytest.approx(1), pytest.approx(30))
    sizes = {split: cost.units for split, cost in found.evaluations.items()}
    whole = {split: 0.25 * -(-units // 8) for split, units in sizes.items()}
    for split, cost in found.evaluations.items():
        assert cost.seconds == pytest.approx(whole[split], abs=0.25)  # the last batch may be a short one
        assert cost.timed < cost.units or seconds > 2
    valid, test = (found.evaluations[split].seconds for split in ("valid", "test"))
    assert stage.seconds == pytest.approx(7 * 30 + 4 * valid + valid + test)
    assert found.seconds == pytest.approx(stage.seconds)


def test_step_limit_and_eval_limit_bound_what_is_counted(here, clock):
    found = estimate.estimate(compose(words("epochs=2", "step_limit=6", "eval_limit=3")).config)
    assert found.stages["train"].epoch_seconds == pytest.approx(6)
    assert found.evaluations["test"].units == 24
    assert found.evaluations["test"].seconds == pytest.approx(0.75)


@pytest.mark.parametrize(
    "model",
    [
        ["model=mult_vae", "model.mlp_hidden_size=[40]", "model.latent_dimension=10", "epochs=2"],
        ["model=ease"],
        ["model=sasrec", "dataset=synthetic_histories", "evaluator=next_item", "epochs=2"],
        ["model=ract", "epochs=1"],
    ],
    ids=lambda model: model[0],
)
def test_disk_and_memory_are_those_of_a_real_run(here, monkeypatch, model):
    monkeypatch.setattr(estimate, "SECONDS", 0.2)
    sizes = FEW if "dataset=synthetic_histories" in model else SIZES
    mine = [*model, *sizes, "threads=1", "device=cpu", "dataset.cache=null"]
    found = estimate.estimate(compose(mine).config)
    assert [*here.iterdir()] == []
    results = train(*mine)
    directory = Path(results["directory"])
    logs = ("recrun.log", "metrics.jsonl", "run.json", "results.json", "config.yaml", "report.html")
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in logs]
    size = sum(path.stat().st_size for path in files if ".hydra" not in path.parts)
    assert found.disk_bytes == pytest.approx(size, rel=0.02, abs=4000)
    assert [*found.stages] == [*results["stages"]]
    assert found.peak_mb == pytest.approx(results["peak_memory_mb"], rel=0.2)


@pytest.mark.skipif("RECRUN_TEST_ALL" not in os.environ, reason="times a run; make test-all does it")
def test_seconds_are_within_a_factor_of_two_of_a_real_run(here):
    mine = [*words("epochs=6"), "model.mlp_hidden_size=[600]", "dataset.source.n_users=3000"]
    found = estimate.estimate(compose(mine).config).stages["train"]
    rows = MetricsLog(Path(train(*mine)["directory"])).rows()
    epochs = sorted(row["train_seconds"] for row in rows if row["split"] == "valid")
    assert 0.5 < found.epoch_seconds / epochs[len(epochs) // 2] < 2


def test_the_command_says_what_was_timed_and_leaves_nothing(here, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "SECONDS", 0.1)
    assert cli.main(["estimate", *words("epochs=3")]) == 0
    told = capsys.readouterr().out
    assert "stage train" in told
    assert "3 epochs and 3 validations at most" in told
    assert "30 steps of" in told
    assert [*here.iterdir()] == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["epochs=0"], "epochs=0: expected a whole number >= 1"),
        (["--steps"], "estimate: unknown option --steps; it takes the key=value words of a run alone"),
        (["devices=2"], "devices=2: estimate times one process; leave devices out"),
    ],
)
def test_refused(here, capsys, given, message):
    assert cli.main(["estimate", *WORDS, *given]) == 2
    assert message in capsys.readouterr().err
