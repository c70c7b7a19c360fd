"""Fingerprints of data, split and features: in run.json and every card, and a run that finds others is refused."""

import json

import pytest

from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import CheckpointError, Interrupted
from recrun.experiments import run
from recrun.experiments.build import build_dataset
from recrun.experiments.directories import prepare
from recrun.training.loop import TrainingLoop

SMALL = ["dataset=synthetic_histories", "dataset.source.n_users=50", "dataset.source.n_items=40", "threads=1"]
SMALL += ["dataset.source.n_events=900", "dataset.source.n_genres=8", "trainer.batch_size=16"]
DSSM = ["model=dssm", *SMALL, "model.embedding_dim=4", "model.mlp_hidden_size=[4]", "loader.his_size=5"]
VAE = ["model=mult_vae", *SMALL, "model.mlp_hidden_size=[8]", "model.latent_dimension=4"]
NAMES = ("dataset_fingerprint", "split_fingerprint", "features_fingerprint")


def fingerprints(*words):
    composed = compose(words)
    check(composed)
    return build_dataset(composed.config).fingerprints


@pytest.mark.parametrize(("words", "names"), [(DSSM, NAMES), (VAE, NAMES[:2])], ids=["dssm", "mult_vae"])
def test_run_json_and_every_card_have_those_of_the_data(words, names, tmp_path):
    directory = prepare(compose([*words, "epochs=1", "step_limit=2", f"output_dir={tmp_path}"]))
    run.execute(directory)
    here = fingerprints(*words)
    assert tuple(here) == names
    assert all(len(value) == 64 for value in here.values())
    for path in ("run.json", "train/best/model.json", "train/last/model.json"):
        found = json.loads((directory / path).read_text())
        assert {name: found[name] for name in NAMES if name in found} == here, path


@pytest.mark.parametrize(
    ("word", "differ"),
    [
        ("dataset.source.seed=1", NAMES),
        ("dataset.filters.min_item_count=20", NAMES),
        ("split=random", NAMES[1:]),
        ("split.test_input=train", NAMES[1:2]),
        ("dataset.user_fields=[id]", NAMES[2:]),
        ("dataset.item_lists=[]", NAMES[2:]),
        ("loader.his_size=3", ()),
        ("loader.num_negatives=2", ()),
        ("evaluator=next_item", ()),
        ("evaluator.mask_seen=false", ()),
        ("seed=7", ()),
    ],
)
def test_what_changes_which(word, differ):
    before, after = fingerprints(*DSSM), fingerprints(*DSSM, word)
    assert {name for name in NAMES if before[name] != after[name]} == set(differ)


def test_all_models_of_a_split_have_that_of_its_data_and_parts():
    assert fingerprints(*VAE) == {name: fingerprints(*DSSM)[name] for name in NAMES[:2]}


def stopped(tmp_path, monkeypatch, *words):
    """A run that was stopped after two steps."""
    directory = prepare(compose([*words, "epochs=2", f"output_dir={tmp_path}"]))

    def pause(loop):
        if loop.progress.steps == 2:
            loop.save("last")
            raise Interrupted("here")

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "pause", pause)
        with pytest.raises(Interrupted):
            run.execute(directory)
    return directory


@pytest.fixture
def files(tmp_path):
    """Train, valid and test events of ten users, and a table of the users."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = {name: ["user,item,time"] for name in ("train", "valid", "test")}
    for time in range(120):
        part = "train" if time < 80 else "valid" if time < 100 else "test"
        lines[part].append(f"u{time % 10},i{(7 * time + time // 10) % 13},{time}")
    lines["users"] = ["user,segment", *(f"u{user},{user % 3}" for user in range(10))]
    for name, rows in lines.items():
        write(folder / f"{name}.csv", rows)
    return folder


def write(path, rows):
    path.write_text("\n".join(rows) + "\n")


def longer(folder):
    write(folder / "train.csv", [*(folder / "train.csv").read_text().splitlines(), "u1,i2,79.5"])


def moved(folder):
    """The first test event is for validation: the same events, split otherwise."""
    valid, test = ((folder / f"{name}.csv").read_text().splitlines() for name in ("valid", "test"))
    write(folder / "valid.csv", [*valid, test[1]])
    write(folder / "test.csv", [test[0], *test[2:]])


def other_segments(folder):
    write(folder / "users.csv", ["user,segment", *(f"u{user},{user % 2}" for user in range(10))])


@pytest.mark.parametrize(
    ("change", "name", "differs"),
    [
        (longer, NAMES[0], "other data"),
        (moved, NAMES[1], "another split of these data"),
        (other_segments, NAMES[2], "other features of users or items"),
    ],
)
def test_a_run_is_not_resumed_on_others(change, name, differs, files, tmp_path, monkeypatch):
    words = ["model=dssm", "dataset=interactions", "split=provided", f"dataset.path={files}", "dataset.cache=null"]
    words += [f"dataset.user_table={files}/users.csv", "dataset.user_fields=[id,segment]", "loader.num_negatives=1"]
    words += ["dataset.filters.repeats=keep", "loader.avoid_positives=false", "trainer.batch_size=8", "threads=1"]
    directory = stopped(tmp_path, monkeypatch, *words)
    before = {path: path.read_text() for path in files.iterdir()}
    change(files)
    with pytest.raises(CheckpointError, match=rf"trained on {differs}.*\({name} ") as error:
        run.execute(directory)
    assert str(directory / "train" / "last") in str(error.value)
    for path, text in before.items():
        path.write_text(text)
    assert run.execute(directory)["test"]
