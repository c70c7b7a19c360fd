"""`recrun list runs` with options."""

import csv
import io

import pytest
from worlds.stored_runs import store_run

from recrun import cli


@pytest.fixture
def folder(tmp_path):
    """Three runs: two of one model, one that failed before it had results; and one that is damaged."""
    for name, model, seed, value in (("a", "ease", 0, 0.2), ("b", "ease", 1, 0.3), ("c", "bpr", 0, 0.1)):
        units = {"ndcg@10": [value] * 3, "logloss": [value] * 3}
        store_run(tmp_path / name, units, model=model, seed=seed, start=f"2030-01-0{seed + 1}T00:00:00+00:00")
    store_run(tmp_path / "d", {"ndcg@10": [0.5]}, model="sasrec", status="failed", start="2029-01-01T00:00:00")
    (tmp_path / "d" / "results.json").unlink()
    (store_run(tmp_path / "e", {"ndcg@10": [0.5]}) / "config.yaml").write_text("a: [")
    return tmp_path


def listed(folder, capsys, *words):
    assert cli.main(["list", "runs", str(folder), *words, "--format", "csv"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith(f"left out: {folder / 'e' / 'config.yaml'} is damaged: ")
    return [row["run"][-1] for row in csv.DictReader(io.StringIO(told.out))]


def test_sorted_best_first_and_those_without_the_metric_last(folder, capsys):
    assert listed(folder, capsys) == ["d", "a", "c", "b"]  # oldest first
    assert listed(folder, capsys, "--sort", "ndcg@10") == ["b", "a", "c", "d"]
    assert listed(folder, capsys, "--sort=logloss") == ["c", "a", "b", "d"]


def test_filtered_by_model_status_and_keys(folder, capsys):
    assert listed(folder, capsys, "--filter", "model=ease") == ["a", "b"]
    assert listed(folder, capsys, "--filter", "model=ease", "--filter", "seed=1") == ["b"]
    assert listed(folder, capsys, "--filter=status=failed") == ["d"]
    assert listed(folder, capsys, "--filter", "dataset.evaluator.ks=[10]", "--filter", "eval_limit=null")[1:] == [
        *"acb"
    ]
    assert listed(folder, capsys, "--filter", "dataset.no=1") == []


def test_as_a_table(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    assert cli.main(["list", "runs", str(folder), "--sort", "ndcg@10", "--filter", "model=ease"]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines() if "ease" in line]
    assert [row[-6:] for row in told] == [
        ["finished", "2030-01-02T00:00:00", "ease", "1", "0.3000", "0.3000"],
        ["finished", "2030-01-01T00:00:00", "ease", "0", "0.2000", "0.2000"],
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--srot", "x"], "list runs: unknown option --srot; did you mean '--sort'?"),
        (["--sort", "ndcg@1"], "list runs: no run has ndcg@1; did you mean 'ndcg@10'? (there are: ndcg@10, logloss)"),
        (["--filter", "model"], "list runs: --filter model: expected KEY=VALUE"),
        (["--format", "html"], "list runs: --format html: expected terminal or csv"),
        (["--sort"], "list runs: --sort needs a value"),
    ],
)
def test_wrong_usage(folder, capsys, words, message):
    assert cli.main(["list", "runs", str(folder), *words]) == 2
    assert message in capsys.readouterr().err
