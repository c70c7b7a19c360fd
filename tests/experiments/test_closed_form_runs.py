"""Runs of models that are solved at once: from the config to weights that serve units which training did not have."""

import json

import numpy as np
import pytest

from recrun.config.compose import compose, options, search_path
from recrun.config.validate import check
from recrun.experiments.directories import prepare
from recrun.experiments.load import evaluate
from recrun.experiments.predict import predict
from recrun.experiments.run import execute, load_config

SMALL = ["n_users=300", "n_items=100", "n_interactions=6000", "n_groups=5", "noise=0.05"]
MODELS = [
    name
    for name, path in options("model", search_path()).items()
    if "override /trainer: closed_form" in path.read_text() and name not in ("popularity", "random_scores")
]
WORDS = {
    "pure_svd": ["model.rank=8"],
    "als": ["model.embedding_dim=8", "model.regularization=0.1", "model.unobserved_weight=0.5"],
    "slim": ["model.l2=5", "model.l1=1"],
}


def run(name, folder, *words):
    words = [*words, *WORDS.get(name, []), f"output_dir={folder}", "threads=1", "device=cpu"]
    composed = compose([f"model={name}", *words])
    check(composed)
    directory = prepare(composed)
    return directory, execute(directory)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("split", ["random", "strong", "leave_last_out"])
def test_a_run_ranks_better_than_popularity_and_its_weights_are_written_once(name, split, tmp_path):
    words = [f"split={split}", *(f"dataset.source.{word}" for word in SMALL)]
    words += ["dataset.order=file"] if split == "leave_last_out" else []
    directory, results = run(name, tmp_path, *words)
    _, popular = run("popularity", tmp_path, *words)
    assert results["test"]["ndcg@100"] > popular["test"]["ndcg@100"]
    assert [path.name for path in (directory / "train").iterdir()] == ["last"]
    assert evaluate(directory)["test"] == pytest.approx(results["test"])


@pytest.mark.parametrize("name", MODELS)
def test_new_users_of_other_data_are_served(name, tmp_path):
    """Of even or of odd items; the new ones have taken three and are offered others of their colour."""
    rng = np.random.default_rng(0)
    lines = [f"{user},{item}" for user in range(60) for item in 2 * rng.permutation(8)[:5] + user % 2]
    (tmp_path / "old.csv").write_text("\n".join(["user,item", *lines]))
    (tmp_path / "new.csv").write_text("user,item\nann,0\nann,4\nann,10\nbob,1\nbob,5\nbob,11\n")
    words = [f"dataset.path={tmp_path}/old.csv", "dataset.cache=null", "evaluator.ks=[3]", "evaluator.monitor=ndcg@3"]
    directory, _ = run(name, tmp_path, "dataset=interactions", *words)
    config = load_config(directory)
    config["dataset"]["test_path"] = str(tmp_path / "new.csv")
    predict(directory, config, "test", tmp_path / "top.tsv")
    best = [line.split("\t") for line in (tmp_path / "top.tsv").read_text().splitlines()]
    assert {(user, int(item) % 2) for user, item, _, _ in best} == {("ann", 0), ("bob", 1)}


def test_a_finished_stage_is_not_solved_again(tmp_path, monkeypatch):
    from recrun.models.user_knn import UserKNN

    directory, results = run("user_knn", tmp_path, "keep_state=last", *(f"dataset.source.{word}" for word in SMALL))
    record = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    (directory / "results.json").unlink()
    monkeypatch.setattr(UserKNN, "solve", None)
    assert execute(directory)["test"] == results["test"]
