"""Runs on tables and on news, compared in metrics whose units are groups: what the evaluation writes, compare reads."""

import json

import numpy as np
import pytest
from scipy import stats
from worlds.small_run import copy_of

from recrun import cli
from recrun.config.compose import compose
from recrun.experiments import run
from recrun.experiments.directories import prepare
from recrun.experiments.reports.report import write_report

TABLE = ["dataset=synthetic_table", "dataset.source.n_rows=3000", "dataset.source.n_users=40"]
NEWS = [
    *("dataset.source.n_impressions=60", "dataset.source.n_eval_impressions=40", "dataset.source.n_news=100"),
    *("dataset.source.n_users=30", "step_limit=1"),
]


def trained(folder, *words):
    directory = prepare(compose([*words, "epochs=1", "threads=1", "device=cpu", f"output_dir={folder}"]))
    run.execute(directory)
    return directory


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return [trained(folder, f"model={model}", *TABLE) for model in ("lr", "fm")]


def compared(capsys, *words):
    assert cli.main(["compare", *map(str, words), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def stored(directory, split="test"):
    with np.load(directory / "units" / f"{split}.npz") as file:
        return dict(file)


def test_group_auc_of_tables_is_compared_over_weighted_groups(tables, capsys):
    one, other = map(stored, tables)
    assert one["group_auc:ids"].tolist() == other["group_auc:ids"].tolist()
    assert one["group_auc:weights"].sum() <= len(one["ids"])
    found = compared(capsys, *tables, "--metric", "group_auc")
    for directory, summary in zip(tables, found["summaries"], strict=True):
        results = json.loads((directory / "results.json").read_text())
        assert summary["mean"] == pytest.approx(results["test"]["group_auc"], rel=1e-12)
        assert (summary["unit"], summary["units"]) == ("groups", len(one["group_auc"]))
    (comparison,) = found["comparisons"]
    differences, weights = other["group_auc"] - one["group_auc"], one["group_auc:weights"]
    assert comparison["difference"] == pytest.approx(np.average(differences, weights=weights), rel=1e-9)
    assert comparison["p"]["t"] == pytest.approx(stats.ttest_1samp(differences * weights, 0).pvalue, rel=1e-9)
    low, high = comparison["interval"].values()
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, len(weights), (4000, len(weights)))  # whole groups, with their weights
    means = (differences * weights)[drawn].sum(1) / weights[drawn].sum(1)
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.5 * means.std())


def test_the_report_has_intervals_of_group_auc(tables, tmp_path):
    html = write_report(tables[0], tmp_path / "page.html").read_text()
    results = json.loads((tables[0] / "results.json").read_text())
    assert f"{results['test']['group_auc']:.4f} [" in html
    assert f"{len(stored(tables[0])['group_auc'])} groups of test" in html


def test_groups_that_count_differently_are_not_compared(tables, tmp_path, capsys):
    copy = copy_of(tables[1], tmp_path / "copy")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("group_weights: rows", "group_weights: equal"))
    assert cli.main(["compare", str(tables[0]), str(copy)]) == 2
    assert "evaluator.group_weights is rows and equal" in capsys.readouterr().err


def test_a_single_group_has_no_values_to_compare(tmp_path):
    alone = trained(tmp_path, "model=lr", *TABLE, "dataset.source.n_rows=300", "dataset.source.n_users=1")
    assert "group_auc" in json.loads((alone / "results.json").read_text())["test"]
    assert set(stored(alone)) == {"ids", "logloss"}


def test_news_is_compared_over_impressions(tmp_path, capsys):
    runs = [trained(tmp_path, "model=nrms", *NEWS, f"trainer.lr={lr}") for lr in (1e-4, 1e-2)]
    one, other = map(stored, runs)
    (comparison,) = compared(capsys, *runs, "--metric", "group_auc")["comparisons"]
    assert (comparison["unit"], comparison["units"]) == ("impressions", len(one["ids"]))
    assert comparison["p"]["t"] == pytest.approx(stats.ttest_rel(other["group_auc"], one["group_auc"]).pvalue, rel=1e-9)
