"""A metric of one's own: a function, a line of YAML, and it decides what is kept."""

import json

import numpy as np
import pytest

from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError
from recrun.experiments import run
from recrun.experiments.directories import prepare

FUNCTIONS = """
def misses(ranking, k):
    return (~ranking.hits_BK[:, :k]).double().sum(1)

def items_shown(ranking, k):
    shown = ranking.top_BK[:, :k].unique()
    return int((shown >= 0).sum())
"""
METRIC = "{{_target_: recrun.evaluation.metrics.Metric, function: {{_target_: my_metrics.{0}, _partial_: true}}, {1}}}"
EVALUATOR = f"""
defaults: [full_ranking]
metrics: [hit, coverage]
ks: [5]
monitor: hit@5
own_metrics:
  misses: {METRIC.format("misses", "greater_is_better: false")}
  shown: {METRIC.format("items_shown", "over: catalogue")}
"""
WORDS = ["model=mult_vae", "evaluator=mine", "dataset.source.n_users=90", "dataset.source.n_items=50", "threads=1"]
WORDS += ["dataset.source.n_interactions=1500", "model.mlp_hidden_size=[12]", "model.latent_dimension=6"]
WORDS += ["trainer.lr=0.05", "trainer.batch_size=16"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with ./conf and a module of functions."""
    (tmp_path / "my_metrics.py").write_text(FUNCTIONS)
    (tmp_path / "conf" / "evaluator").mkdir(parents=True)
    (tmp_path / "conf" / "evaluator" / "mine.yaml").write_text(EVALUATOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(*words):
    """Directory and results of a run."""
    composed = compose([*WORDS, *words])
    check(composed)
    directory = prepare(composed)
    return directory, run.execute(directory)


def values_of(directory, name):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [row["metrics"][name] for row in rows if row["split"] == "valid"]


@pytest.mark.parametrize(
    ("monitor", "greater", "best_of"), [("misses@5", False, np.argmin), ("shown@5", True, np.argmax)]
)
def test_its_direction_decides_what_is_kept_and_when_to_stop(folder, monitor, greater, best_of):
    directory, results = finished(f"trainer.monitor={monitor}", "trainer.patience=2", "epochs=30")
    values = values_of(directory, monitor)
    best = int(best_of(values))
    assert len(set(values)) > 1, "otherwise no direction could be told"
    assert (results["monitor"], results["greater_is_better"]) == (monitor, greater)
    assert results["stages"]["train"]["best_epoch"] == best + 1
    assert len(values) == min(best + 1 + 2, 30)
    assert results["valid"][monitor] == values[best]


def test_what_the_metrics_of_a_run_are(folder):
    """The first five ranks hold a hit or miss each; what is shown is what coverage counts."""
    directory, results = finished("epochs=1", "step_limit=1")
    units = np.load(directory / "units" / "valid.npz")
    assert set(units["misses@5"]) <= {0, 1, 2, 3, 4, 5}
    assert ((units["misses@5"] < 5) == (units["hit@5"] > 0)).all()
    assert results["valid"]["misses@5"] == pytest.approx(units["misses@5"].mean())
    assert "shown@5" not in units
    n_items = json.loads((directory / "run.json").read_text())["dataset"]["n_items"]
    assert results["valid"]["shown@5"] == results["valid"]["coverage@5"] * n_items


def test_a_metric_that_is_none_is_refused(folder):
    for word, told in (
        ("evaluator.own_metrics.misses.greater_is_beter=true", "did you mean 'greater_is_better'?"),
        ("evaluator.own_metrics.misses.over=users", "expected one of units, catalogue"),
        ("evaluator.own_metrics.misses.function._target_=my_metrics.mises", "did you mean 'misses'?"),
    ):
        with pytest.raises(ConfigError) as error:
            check(compose([*WORDS, word]))
        assert told in str(error.value)
