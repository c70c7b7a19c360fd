"""Tables: what they have room for, and what their captions say."""

from recrun.console.report import results_table, room_for, what_decided

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


def stage(monitor, valid):
    """An entry of results.json."""
    speed = {"train_seconds": 1.0, "samples_per_second": 2.0}
    return {"monitor": monitor, "valid": valid, "test": {"auc": 0.75, "logloss": 0.5}, "best_epoch": 1, **speed}


def test_the_caption_names_what_decided():
    one, other = stage("auc", {"auc": 0.5}), stage("logloss", {"logloss": 0.25})
    assert what_decided({"a": one, "b": one}) == "; auc on valid decided"
    assert what_decided({"a": one, "b": other}) == "; on valid decided auc in a, logloss in b"
    assert what_decided({"a": stage("auc", {})}) == ""


def test_every_metric_that_decided_has_its_columns(tmp_path, capsys):
    stages = {"a": stage("auc", {"auc": 0.5}), "b": stage("logloss", {"logloss": 0.25})}
    results_table({"stages": stages, **stages["b"], "unit": "rows", "peak_memory_mb": 1.0}, tmp_path)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    a, b = (next(line for line in lines if line[:2] == [name, "1"]) for name in "ab")
    assert a[2:6] == ["0.5000", "-", "0.7500", "0.5000"]
    assert b[2:6] == ["-", "0.2500", "0.7500", "0.5000"]
