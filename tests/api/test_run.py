"""`recrun.run` and what it returns: the command's numbers, files and errors."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import load_file

import recrun
from recrun.cli import main

SMALL = {
    "model": "mult_vae",
    "model.mlp_hidden_size": [6],
    "model.latent_dimension": 3,
    "threads": 1,
    "epochs": 1,
    "device": "cpu",
    "dataset.cache": None,
}
WORDS = [
    *("model=mult_vae", "model.mlp_hidden_size=[6]", "model.latent_dimension=3", "threads=1", "epochs=1"),
    *("device=cpu", "dataset.cache=null"),
]
DEMO = ["dataset.source.n_users=40", "dataset.source.n_items=20", "dataset.source.n_interactions=400"]
RNG = np.random.default_rng(0)
EVENTS = pd.DataFrame(
    {
        "user_id": RNG.integers(0, 40, 600),
        "item_id": [f"i{item}" for item in RNG.integers(0, 30, 600)],
        "timestamp": 1_600_000_000 + np.arange(600),
    }
)


def record(run):
    return json.loads((run.directory / "run.json").read_text())


def weights(run):
    return load_file(run.directory / "train" / "best" / "model.safetensors")


def same_weights(one, other):
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def run(folder):
    """A run over a frame."""
    return recrun.run(SMALL, {"output_dir": folder}, data=EVENTS)


@pytest.fixture(scope="module")
def from_file(folder):
    """The same by the command, from the frame's CSV."""
    EVENTS.to_csv(folder / "events.csv", index=False)
    before = set(folder.glob("mult_vae/*/*"))
    words = [*WORDS, "dataset=interactions", f"dataset.path={folder / 'events.csv'}", f"output_dir={folder}"]
    assert main(words) == 0
    return recrun.load(next(iter(set(folder.glob("mult_vae/*/*")) - before)))


def test_importing_recrun_imports_nothing_big():
    code = (
        "import recrun, sys; dir(recrun); big = {'torch', 'numpy', 'pandas', 'scipy', 'hydra', 'omegaconf', 'rich'};"
        "sys.exit(', '.join(big & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    assert sorted(recrun.__all__) == recrun.__all__
    assert all(hasattr(recrun, name) for name in recrun.__all__)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        recrun.runn  # noqa: B018


def test_a_frame_gives_the_run_that_its_csv_gives_the_command(run, from_file):
    for name in ("dataset_fingerprint", "split_fingerprint"):
        assert record(run)[name] == record(from_file)[name]
    assert same_weights(run, from_file)
    pd.testing.assert_frame_equal(run.metrics, from_file.metrics)


def test_a_run_holds_what_its_files_hold(run):
    results = json.loads((run.directory / "results.json").read_text())
    assert run.status == "finished"
    assert run.config["model"]["latent_dimension"] == 3
    assert run.metrics.loc["test", "ndcg@100"] == results["test"]["ndcg@100"]
    assert run.stages.loc[("train", "valid")].to_dict() == results["stages"]["train"]["valid"]
    assert run.history["split"].tolist() == ["valid", "test"]
    assert {"loss/nll", "ndcg@100", "epoch", "step", "stage"} <= set(run.history)
    units = run.units("test")
    assert units["ndcg@100"].mean() == pytest.approx(results["test"]["ndcg@100"])
    assert units.index[0] == "0"
    assert "test ndcg@100" in repr(run)


def test_the_model_that_was_trained_is_at_hand(run):
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, weights(run)[name])
    assert run.dataset.sizes["n_items"] == 30


def test_evaluate_finds_the_run_s_own_metrics(run):
    pd.testing.assert_frame_equal(run.evaluate(), run.metrics)
    assert list(run.evaluate("evaluator.metrics=[recall]", {"evaluator": {"ks": [5]}})) == ["recall@5"]


def test_predict_is_what_the_command_writes(run, from_file, tmp_path, monkeypatch):
    assert main(["predict", str(from_file.directory), "--output", str(tmp_path / "top.tsv"), "--k", "4"]) == 0
    cells = [line.split("\t") for line in (tmp_path / "top.tsv").read_text().splitlines()]
    found = run.predict(k=4)
    assert found["unit"].tolist() == [row[0] for row in cells]
    assert found["item"].tolist() == [row[1] for row in cells]
    assert found["rank"].tolist() == [int(row[2]) for row in cells]
    assert run.predict()["rank"].max() > 4  # nothing of k=4 stays


def test_recommend_for_known_users_by_brute_force(run):
    """User 3 is shown all their events, whatever split; their items and those denied are left out."""
    mine = set(EVENTS.loc[EVENTS.user_id == 3, "item_id"])
    catalogue = run.dataset.vocabulary()["items"].tolist()
    index = {item: at for at, item in enumerate(catalogue)}
    history = sorted(index[item] for item in mine)
    batch = {
        "items": torch.tensor(history),
        "items_offsets": torch.tensor([0, len(history)]),
        "user": torch.tensor([3]),
    }
    with torch.no_grad():
        scores = run.model.eval()(batch)[0]
    denied = next(item for item in catalogue if item not in mine)
    left = [item for item in catalogue if item not in mine and item != denied]
    wanted = sorted(left, key=lambda item: -scores[index[item]].item())[:5]
    found = run.recommend([3], k=5, deny=[denied])
    assert found["item"].tolist() == wanted
    assert found["rank"].tolist() == list(range(1, len(wanted) + 1))
    assert found["score"].tolist() == pytest.approx([scores[index[item]].item() for item in wanted])
    few = run.recommend(["3"], k=5, allow=[*sorted(mine)[:1], *wanted[1:3]])
    assert few["item"].tolist() == wanted[1:3]
    assert len(run.recommend([3], k=30, leave_out_seen=False)) == 30


def test_recommend_for_new_users(run):
    """A history of a known user's items gives the known user's recommendations: this model has no user vectors."""
    mine = EVENTS[EVENTS.user_id == 3].drop_duplicates("item_id")["item_id"].tolist()
    known = run.recommend([3], k=3)
    for histories in (
        {"x": mine},
        {"x": np.array(mine)},
        [mine],
        pd.DataFrame({"user_id": "x", "item_id": mine, "timestamp": 10**9}),
    ):
        found = run.recommend(histories=histories, k=3)
        assert found["item"].tolist() == known["item"].tolist()
        assert found["score"].tolist() == pytest.approx(known["score"].tolist())
    assert run.recommend(histories={"x": mine}, k=1)["user"].tolist() == ["x"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"users": [3, 99]}, "users: the data have no 99"),
        ({"users": [3], "allow": ["x7"]}, "allow: the model knows none of the 1 items"),
        ({"users": [3], "histories": [["i1"]]}, "users or histories, not both"),
        ({"users": [3], "k": 0}, "k=0: expected a whole number, at least 1"),
        ({"histories": [[]]}, "there is no item"),
    ],
)
def test_what_cannot_be_recommended_is_refused(run, keys, message):
    with pytest.raises(recrun.ConfigError, match=message):
        run.recommend(**keys)


def test_embed(run):
    found = run.embed("item")
    assert found.index.tolist() == run.dataset.vocabulary()["items"].tolist()
    assert np.array_equal(found.to_numpy(), run.model.embed_items({"item": torch.arange(30)}).detach().numpy())


def test_resume_gives_more_epochs(folder):
    keys = {"output_dir": folder, "keep_state": "last"}
    longer = recrun.run(SMALL, {**keys, "epochs": 3}, data=EVENTS)
    shorter = recrun.run(SMALL, keys, data=EVENTS)
    assert shorter.resume(epochs=3) is shorter
    assert same_weights(longer, shorter)
    assert shorter.resume().status == "finished"


def test_a_run_over_a_table_asks_for_it_again(folder):
    """In another process, for here the table may still be held."""
    before = set(folder.glob("mult_vae/*/*"))
    directory = recrun.run(SMALL, {"output_dir": folder}, data=EVENTS.head(500)).directory
    assert directory not in before
    code = (
        f"import recrun; run = recrun.load({str(directory)!r})\n"
        "try: run.evaluate()\n"
        "except recrun.DataError as error: print(error)\n"
        "assert run.metrics.shape[0] == 2"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "give the same table again, in Python: recrun.load(RUN, data=table)" in done.stdout
    again = recrun.load(directory, data=EVENTS.head(500))
    pd.testing.assert_frame_equal(again.evaluate(), again.metrics)
    with pytest.raises(recrun.DataError, match="was not started with this table"):
        recrun.load(directory, data=EVENTS)


def test_other_data_that_takes_the_place_of_a_table(run):
    """Like `recrun evaluate RUN dataset.path=…`: the run's ids, and all events are evaluated as the split says."""
    found = run.evaluate({"dataset.path": EVENTS.tail(300)})
    assert found.loc["test"].notna().all()


def test_a_matrix_as_data(folder):
    counts = sp.csr_array((np.ones(600), (EVENTS.user_id, RNG.integers(0, 25, 600))))
    found = recrun.run({**SMALL, "dataset": counts, "output_dir": folder, "split": "random"})
    assert found.dataset.sizes["n_users"] == 40


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=ractt"], "unknown model 'ractt'; did you mean 'ract'?"),
        ([{"trainer": {"lr": "fast"}}], "trainer.lr=fast: expected"),
        ([{"trainer.lr": object()}], "a config holds texts, numbers, lists and mappings"),
        ([["model", "ease"]], "is no override"),
        (["model"], "'model' is no override"),
    ],
)
def test_errors_are_the_command_s(overrides, message):
    with pytest.raises(recrun.ConfigError) as error:
        recrun.run(*overrides)
    assert message in str(error.value)


def test_processes_have_no_table():
    with pytest.raises(recrun.ConfigError, match="give the data as a file"):
        recrun.run(SMALL, {"devices": 2}, data=EVENTS)


def test_what_is_no_run_is_refused(tmp_path, folder):
    with pytest.raises(recrun.ConfigError, match="is not a run directory"):
        recrun.load(tmp_path)
    with pytest.raises(recrun.ConfigError, match="is not the directory of a sweep"):
        recrun.Sweep(tmp_path)


def test_train_is_the_older_form(folder):
    found = recrun.train(*WORDS, f"output_dir={folder}", *DEMO)
    assert found["test"]
    assert recrun.load(found["directory"]).metrics.loc["test"].to_dict() == found["test"]
