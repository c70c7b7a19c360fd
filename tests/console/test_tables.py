"""Tables: what they have room for, that no number is cut, and what their captions say."""

import pytest

from recrun.console.tables import caption, results_table, room_for, sweep_table

TASKS = ["click/auc", "click/logloss", "click/group_auc", "buy/auc", "buy/logloss", "dwell/rmse", "dwell/mae"]


def test_every_task_has_a_column_before_one_has_three():
    found = room_for(TASKS, ["click/auc"])
    assert found == ["click/auc", "buy/auc", "dwell/rmse", "click/logloss", "buy/logloss", "dwell/mae"]


def test_more_tasks_than_room_have_a_column_each():
    names = [f"t{at}/{name}" for at in range(9) for name in ("auc", "logloss")]
    assert {name.split("/")[0] for name in room_for(names, ["mean/auc"])} == {"mean", *(f"t{at}" for at in range(9))}


def test_one_task_keeps_the_order_of_the_file():
    names = ["ndcg@10", "recall@10", "ndcg@100", "a", "b", "c", "d"]
    assert room_for(names, ["ndcg@100"]) == ["ndcg@100", "ndcg@10", "recall@10", "a", "b", "c"]


def stage(monitor, valid, test=None):
    """An entry of results.json."""
    speed = {"train_seconds": 1.0, "samples_per_second": 2.0}
    return {
        "monitor": monitor,
        "valid": valid,
        "test": {"auc": 0.75, "logloss": 0.5} if test is None else test,
        "best_epoch": 1,
        **speed,
    }


def test_the_caption_names_the_split_and_what_selected_the_epoch():
    one, other = stage("auc", {"auc": 0.5}), stage("logloss", {"logloss": 0.25})
    assert caption({"a": one, "b": one}) == "Test metrics. Best epoch selected by validation auc."
    told = "Test metrics. Best epoch selected by validation auc in a, logloss in b."
    assert caption({"a": one, "b": other}) == told
    assert caption({"a": stage("auc", {})}) == "Test metrics."
    assert caption({"a": stage("auc", {"auc": 1}, {})}) == "Validation metrics. Best epoch selected by validation auc."
    assert caption({}) == ""


def lines_of(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_every_metric_that_decided_has_its_columns(tmp_path, capsys):
    stages = {"a": stage("auc", {"auc": 0.5}), "b": stage("logloss", {"logloss": 0.25})}
    results_table({"stages": stages, **stages["b"], "unit": "rows", "peak_memory_mb": 1.0}, tmp_path)
    lines = lines_of(capsys)
    assert ["best", "valid", "valid", "test", "test"] in lines
    assert ["stage", "epoch", "auc", "logloss", "auc", "logloss", "train", "s", "rows/s"] in lines
    a, b = (next(line for line in lines if line[:2] == [name, "1"]) for name in "ab")
    assert a[2:6] == ["0.5000", "-", "0.7500", "0.5000"]
    assert b[2:6] == ["-", "0.2500", "0.7500", "0.5000"]


def test_without_a_test_part_the_validation_metrics_are_shown(tmp_path, capsys):
    """As a leaderboard's data have it: what decided first, then the others."""
    stages = {"train": stage("ndcg@10", {"auc": 0.5, "ndcg@5": 0.25, "ndcg@10": 0.125}, {})}
    results_table({"stages": stages, **stages["train"], "unit": "rows", "peak_memory_mb": 1.0}, tmp_path)
    lines = lines_of(capsys)
    assert ["stage", "epoch", "ndcg@10", "auc", "ndcg@5", "train", "s", "rows/s"] in lines
    assert ["train", "1", "0.1250", "0.5000", "0.2500", "1.0", "2.0"] in lines


NAMES = [f"{name}@{k}" for name in ("ndcg", "recall") for k in (10, 100, 1000)]


def job(number):
    metrics = {name: number / 7 + at / 100 for at, name in enumerate(NAMES)}
    changes = (
        f"model=mult_vae trainer.lr=0.0{number} model.mlp_hidden_size=[600,200] a.very.long.key.of.one.word={number}"
    )
    return {
        "job": number,
        "changes": changes,
        "status": "finished",
        "monitor": "ndcg@100",
        "valid": metrics,
        "test": metrics,
    }


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_number_is_cut_and_what_differs_is_whole_at_any_width(tmp_path, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    sweep_table([job(1), job(2)], [])
    told = capsys.readouterr().out
    assert "…" not in told
    for number in (1, 2):
        for name in NAMES:
            assert f"{job(number)['test'][name]:.4f}" in told.split()
    folded = "".join(line[6:38].strip() for line in told.splitlines())
    assert "".join(job(2)["changes"].split()) in folded.replace(" ", "")
    if width > 60:
        assert max(map(len, told.splitlines())) <= width
    stages = {f"stage_of_a_long_name_{n}": stage("ndcg@100", job(n)["valid"], job(n)["test"]) for n in (1, 2)}
    results_table({"stages": stages, "unit": "users", "peak_memory_mb": 1.0}, tmp_path)
    told = capsys.readouterr().out
    assert "…" not in told
    assert all(f"{value:.4f}" in told.split() for value in job(1)["test"].values())


def test_means_over_seeds_have_their_interval(capsys):
    found = {"mean": {"ndcg@10": 0.25}, "sd": {"ndcg@10": 0.01}, "interval": {"ndcg@10": [0.2, 0.3]}}
    setting = {"changes": "model=ract", "jobs": [1, 2, 3], "monitor": "ndcg@10", "valid": found, "test": found}
    sweep_table([job(1), job(2)], [setting])
    told = capsys.readouterr().out
    assert "0.2500 ± 0.0100" in told
    assert told.count("0.2000 to 0.3000") == 2
    assert "95 % interval of the mean (Student's t)" in told


def test_what_validation_chooses_is_said(capsys):
    best = {"changes": "model=ract", "jobs": [1, 3], "monitor": "ndcg@10", "valid": 0.25, "test": 0.125}
    sweep_table([job(1), job(2)], [], best)
    told = capsys.readouterr().out
    assert "best by validation ndcg@10: model=ract (job 1, 3): valid 0.2500, test 0.1250" in told
