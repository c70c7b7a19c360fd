"""Pruning: bounds equal optuna's decisions, and a search that stops trials is the same after a kill and in workers."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from worlds.small_run import WORDS, finished

from recrun import cli
from recrun.errors import Pruned
from recrun.experiments import pruning, run
from recrun.experiments.pruners import Halving, Hyperband, Median, Trajectory
from recrun.experiments.pruning import StagePlan, WatchedLog
from recrun.experiments.run_record import MetricsLog

EPOCHS = 10
SPACE = ["trainer.lr=tag(log,interval(1e-4,1e-1))", "model.dropout_prob=interval(0,0.5)"]
SMALL = [*WORDS[:3], "epochs=6", *WORDS[5:], "threads=1", *SPACE]


def curves(seed, n_trials):
    """Losses by evaluation that never rise, as those of the best weights."""
    rng = random.Random(seed)
    found = []
    for _ in range(n_trials):
        losses = [rng.random()]
        for _ in range(EPOCHS - 1):
            losses.append(min(losses[-1], losses[-1] * rng.uniform(0.5, 1.2)))
        found.append(losses)
    return found


def ended(pruner, given):
    """How many evaluations each trial has, one after another."""
    earlier = []
    for number, losses in enumerate(given):
        bounds = pruner.bounds(number, earlier)
        stops = [at for at, loss in enumerate(losses, 1) if at in bounds and loss > bounds[at]]
        last = stops[0] if stops else EPOCHS
        values = dict(enumerate(losses[:last], 1))
        earlier.append(Trajectory(number, EPOCHS, values, not stops))
    return [len(trial.losses) for trial in earlier]


def ended_in_optuna(pruner, given):
    """The same by optuna."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(pruner=pruner)
    found = []
    for losses in given:
        trial = study.ask()
        for at, loss in enumerate(losses, 1):
            trial.report(loss, at)
            if at < EPOCHS and trial.should_prune():  # one that is trained to its end is not stopped there
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, losses[-1])
        found.append(at)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_trials_end_where_optuna_ends_them(seed):
    import optuna

    given = curves(seed, 40)
    pairs = [
        (Median(), optuna.pruners.MedianPruner()),
        (Median(2, warmup=3), optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=4)),
        (Halving(), optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)),
        (Halving(2, 2), optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2)),
    ]
    for ours, theirs in pairs:
        found = ended(ours, given)
        assert found == ended_in_optuna(theirs, given)
        assert 2 <= found.count(EPOCHS) < 30


def test_brackets_have_the_shares_of_the_paper():
    """Li et al. 2018, table 1 (R = 81, 3): brackets of 81, 34, 15, 8 and 5 trials."""
    pruner = Hyperband()
    assert pruner.shares(81) == [81, 34, 15, 8, 5]
    numbers = [pruner.bracket(number, 81) for number in range(1430)]
    for bracket, share in enumerate(pruner.shares(81)):
        assert abs(numbers.count(bracket) - 10 * share) <= 2
    late = next(number for number in range(99) if pruner.bracket(number, 81) == 4)
    earlier = [Trajectory(number, 81, dict.fromkeys(range(1, 82), 0.0), True) for number in range(late)]
    assert pruner.bounds(late, earlier) == {}
    early = next(number for number in range(50, 99) if pruner.bracket(number, 81) == 0)
    earlier = [Trajectory(number, 81, dict.fromkeys(range(1, 82), number / 99), True) for number in range(early)]
    assert pruner.bounds(early, earlier) == dict.fromkeys((1, 3, 9, 27), ((early + 1) // 3 - 1) / 99)
    second = next(number for number in range(50, 99) if pruner.bracket(number, 81) == 1)
    assert [*pruner.bounds(second, earlier)] == [3, 9, 27]


def test_evaluations_count_through_the_stages(tmp_path):
    """A stage that patience ended early leaves a gap; each stage begins anew with what it would keep."""
    stages = {"first": StagePlan(4, keeps_best=True), "second": StagePlan(3, keeps_best=False)}
    log = WatchedLog(MetricsLog(tmp_path), {5: -0.45}, "ndcg@10", True, stages)
    rows = [("first", 0.2), ("first", 0.5), ("first", 0.3), ("second", 0.6), ("second", 0.4)]
    for stage, value in rows[:4]:
        log.append({"stage": stage, "split": "valid", "metrics": {"ndcg@10": value, "x": 9.0}})
        log.append({"stage": stage, "split": "test", "metrics": {"ndcg@10": 0.0}})
    assert log.values == {1: 0.2, 2: 0.5, 3: 0.5, 5: 0.6}
    assert not log.stops
    log.append({"stage": "second", "split": "valid", "metrics": {"ndcg@10": 0.4}})
    assert log.values[6] == 0.4
    assert not log.stops  # the bound of evaluation 5 was met there
    log.keep(6)
    assert log.values == {1: 0.2, 2: 0.5, 3: 0.5}
    log.append({"stage": "second", "split": "valid", "metrics": {"ndcg@10": math.nan}})
    assert log.reason == "pruned at evaluation 5 of 7: validation ndcg@10 is nan, and 0.45 was needed"
    log.keep(7)  # what is on the disk says the same
    assert log.stops


def test_the_last_evaluation_stops_no_one(tmp_path):
    log = WatchedLog(MetricsLog(tmp_path), {1: 0.5, 2: 0.5}, "rmse", False, {"train": StagePlan(2, True)})
    log.append({"stage": "train", "split": "valid", "metrics": {"rmse": 0.4}})
    log.append({"stage": "train", "split": "valid", "metrics": {"rmse": 0.9}})
    assert log.values == {1: 0.4, 2: 0.4}
    assert not log.stops


def test_a_pruned_run_says_so_keeps_its_metrics_and_is_done(tmp_path, capsys):
    directory = finished(tmp_path, "epochs=4")
    rows = MetricsLog(directory).rows()
    from recrun.config.compose import compose
    from recrun.experiments.directories import prepare

    stopped = prepare(compose([*WORDS, "epochs=4", f"output_dir={tmp_path / 'other'}"]))
    pruning.write_bounds({2: -2.0}, stopped)
    with pytest.raises(Pruned, match=r"pruned at evaluation 2 of 4: validation ndcg@100 is 0\.\d+, and 2 was needed"):
        run.execute(stopped)
    record = json.loads((stopped / "run.json").read_text())
    assert record["status"] == "pruned"
    assert [at for at, _ in record["evaluations"]["values"]] == [1, 2]
    found = MetricsLog(stopped).rows()
    assert [row["metrics"] for row in found] == [row["metrics"] for row in rows[:2]]
    assert not (stopped / "results.json").exists()
    before = (stopped / "run.json").read_bytes()
    assert cli.main(["resume", str(stopped)]) == 0
    assert "pruned at evaluation 2" in capsys.readouterr().err
    assert (stopped / "run.json").read_bytes() == before
    assert cli.main(["resume", str(stopped), "epochs=9"]) == 2
    assert "was stopped by its search" in capsys.readouterr().err


def test_bounds_are_data(tmp_path):
    for text in ('{"bounds": []}', '{"bounds": {"x": 1}}', '{"bounds": {"1": "2"}}', '{"bounds": {"1": true}}'):
        (tmp_path / pruning.NAME).write_text(text)
        with pytest.raises(Exception, match="is damaged: bounds are no numbers by evaluation"):
            pruning.read_bounds(tmp_path)
    for found in ([], {"values": [[1]], "planned": "x"}, {"values": [[1, "a"]], "planned": 3}):
        with pytest.raises(Exception, match="is damaged: its evaluations are no numbers"):
            pruning.trajectory(0, {"evaluations": found}, tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that stops trials, from begin to end."""
    folder = tmp_path_factory.mktemp("whole")
    assert cli.main(["-m", *SEARCH, f"output_dir={folder}"]) == 0
    (directory,) = (folder / "multirun").iterdir()
    return directory


SEARCH = ["search=tpe", "search.trials=8", "search.startup_trials=4", "pruner=halving", *SMALL]


def told(directory):
    """Of each trial its values, how it ended, what it had and what it had to reach."""
    plan = json.loads((directory / "sweep.json").read_text())
    found = []
    for job in plan["jobs"]:
        record = json.loads((directory / job["directory"] / "run.json").read_text())
        bounds = json.loads((directory / job["directory"] / "pruning.json").read_text())
        rows = [row["metrics"] for row in MetricsLog(directory / job["directory"]).rows()]
        found.append((job["values"], record["status"], record["evaluations"], bounds, rows))
    return found


def test_a_search_stops_trials_and_chooses_among_the_others(whole):
    statuses = [status for _, status, *_ in told(whole)]
    assert 2 < statuses.count("pruned") < 7
    results = json.loads((whole / "results.json").read_text())
    assert [row["status"] for row in results["jobs"]] == statuses
    (best,) = results["best"]["jobs"]
    assert statuses[best] == "finished"
    stopped = next(row for row in results["jobs"] if row["status"] == "pruned")
    assert [*stopped["valid"]] == ["ndcg@100"]
    assert stopped["test"] == {}
    trained = [len(evaluations["values"]) for _, _, evaluations, *_ in told(whole)]
    assert sum(trained) < 0.8 * 8 * 6


def test_kill_9_in_a_search_that_stops_trials(whole, tmp_path):
    words = ["-m", *SEARCH, f"output_dir={tmp_path}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-m", "recrun", *words], env=environment, stderr=subprocess.DEVNULL)
    first = next(number for number, (_, status, *_) in enumerate(told(whole)) if status == "pruned")
    while not (done := [*tmp_path.glob(f"multirun/*/{first}/metrics.jsonl")]):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    directory = done[0].parents[1]
    assert cli.main(["resume", str(directory)]) == 0
    assert told(directory) == told(whole)


def test_a_kill_between_the_decision_and_its_record_changes_nothing(whole, tmp_path, monkeypatch):
    """The checkpoint is written, run.json does not say yet that the trial was pruned."""
    with monkeypatch.context() as patch:
        patch.setattr(run, "Pruned", Killed)
        with pytest.raises(Killed):
            cli.main(["-m", *SEARCH, f"output_dir={tmp_path}"])
    (directory,) = (tmp_path / "multirun").iterdir()
    assert cli.main(["resume", str(directory)]) == 0
    assert told(directory) == told(whole)


class Killed(BaseException):
    """Stands for the end of the process."""


def test_two_workers_know_the_trials_that_ended_before(tmp_path):
    """Each trial had to reach what those before it had, but for the one that ran beside it."""
    words = ["search.trials=6", "launcher=local", "launcher.workers=2", f"output_dir={tmp_path}"]
    assert cli.main(["-m", *SEARCH, *words]) == 0
    (directory,) = (tmp_path / "multirun").iterdir()
    trials = told(directory)
    records = [{"status": status, "evaluations": found} for _, status, found, *_ in trials]
    known = [pruning.trajectory(number, record, directory) for number, record in enumerate(records)]
    for number, (_, _, _, bounds, _) in enumerate(trials):
        expected = Halving().bounds(number, known[: max(0, number - 1)])
        assert bounds == {"bounds": {str(evaluation): bound for evaluation, bound in expected.items()}}
    assert "pruned" in [status for _, status, *_ in trials]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pruner=median"], "pruner=median stops trials of a search: add search=…"),
        (["search=tpe", "search.pruner=median"], "; choose pruner=median"),
        (["search=tpe", "pruner=halving", "search.pruner.reduction_factor=1"], "expected a whole number >= 2"),
        (["search=tpe", "pruner=mean"], "unknown pruner 'mean'; did you mean 'median'?"),
    ],
)
def test_what_cannot_stop_trials_is_refused(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["-m", *words, *SMALL]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()
